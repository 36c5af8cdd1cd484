"""Who asks, and where: region, credentials, endpoints, the bucket's owner; addresses and signs requests.

Called by:  conversation.py for each request; executors and the worker, which make one and open a client on it.
Calls:      endpoints.py, credentials.py, sigv4.py.
Threads:    may share an account; what it learns (regions of buckets, the service's clock) helps all clients on it.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol, TypeVar
from zlib import crc32

from cloudexec.errors import SettingsError
from cloudexec.transport import endpoints
from cloudexec.transport.credentials import RenewedCredentials, find_credentials
from cloudexec.transport.encoding import encode_path
from cloudexec.transport.endpoints import Target
from cloudexec.transport.operation import Operation, Request, total_bytes
from cloudexec.transport.sigv4 import EMPTY_HASH, UNSIGNED, Credentials, Signer, hash_of

T = TypeVar("T")
HASHED_BYTES: Final = (
    64 << 10
)  # longer bodies that TLS protects are not hashed, which would cost more than to send them
SERVICES: Final = ("s3", "sqs", "lambda")
PULLING: Final = ("s3", "sqs")  # what most clients talk to
_NOT_SIGNED: Final = "x-amzn-trace-id"  # whoever passes the request on may change it


class Client(Protocol):
    """What carries operations out; threads may share it."""

    def call(self, operation: Operation[T]) -> T:
        """Carry out, with repeats where they do no harm. Errors: AwsError and its subclasses."""
        ...

    def close(self) -> None:
        """Close all connections; calls under way end with ConnectionLost."""
        ...


class AwaitedClient(Protocol):
    """The same on an event loop."""

    async def call(self, operation: Operation[T]) -> T:
        """Carry out, with repeats where they do no harm. Errors: AwsError and its subclasses."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class Account:
    """One identity in one region. `endpoints` (by service) replace AWS's own; `owner` must own the buckets used."""

    def __init__(
        self,
        region: str,
        credentials: RenewedCredentials | Callable[[], Credentials],
        *,
        endpoints: Mapping[str, str] | None = None,
        owner: str = "",
        ca_bundle: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(credentials, RenewedCredentials):
            credentials = RenewedCredentials(credentials)
        self.credentials: RenewedCredentials = credentials
        self.region = region
        self.endpoints = dict(endpoints or {})
        self.owner = owner
        self.ca_bundle = ca_bundle
        self._clock = clock
        self._skew_s = 0.0
        self._regions: dict[str, str] = {}  # of buckets that turned out to lie elsewhere
        self._targets: dict[tuple[str, str], Target] = {}
        self._signers: dict[tuple[str, str], Signer] = {}
        for service in SERVICES:
            self.target(service, "bucket" if service == "s3" else "")  # a bad region or endpoint fails here

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, *, owner: str = "") -> Account:
        """The account of a worker: everything from environment variables and the metadata services."""
        environ = os.environ if environ is None else environ
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
        if not region:
            raise SettingsError("no AWS region", remedy="set AWS_REGION, e.g. eu-west-1")
        return cls(
            region,
            lambda: find_credentials(environ),
            endpoints=endpoints.endpoints_in(environ),
            owner=owner,
            ca_bundle=environ.get("AWS_CA_BUNDLE", ""),
        )

    def target(self, service: str, bucket: str = "") -> Target:
        """Where requests of a service, about a bucket, go."""
        target = self._targets.get((service, bucket))
        if target is None:
            region = self._regions.get(bucket, self.region)
            target = endpoints.target_of(service, region, bucket, self.endpoints.get(service, ""))
            self._targets[service, bucket] = target
        return target

    def sign(self, request: Request, credentials: Credentials, target: Target | None = None) -> tuple[Target, bytes]:
        """Where the request goes, and its head, ready to be sent."""
        service, method, path, query, more, pieces, bucket = request
        target = target or self._targets.get((service, bucket)) or self.target(service, bucket)
        if target.base:
            path = target.base + path if path != "/" else target.base
        length = total_bytes(pieces) if pieces else 0
        headers, apart = [("host", target.authority)], ""
        for name, value in more:
            value = " ".join(value.split())  # as the signature has it; no line end can slip in
            if name == _NOT_SIGNED:
                apart = f"{name}: {value}\r\n"
            else:
                headers.append((name, value))
        if not length:
            body_hash = EMPTY_HASH
        elif service == "s3" and target.is_tls and length > HASHED_BYTES:
            body_hash = UNSIGNED
            if not query:  # S3 takes a part's checksum only if the whole upload was announced with checksums
                headers.append(("x-amz-checksum-crc32", _checksum(request)))
        else:
            body_hash = hash_of(pieces)
        signer = self._signers.get((service, target.region))
        if signer is None or signer.credentials is not credentials:
            signer = self._signers[service, target.region] = Signer(credentials, target.region, service)
        signed_path = path if service == "s3" else _encode_again(path)
        lines = signer.sign(method, signed_path, query, headers, body_hash, self._clock() + self._skew_s)
        where = f"{path}?{query}" if query else path
        tail = f"Content-Length: {length}\r\n" if length or method in ("PUT", "POST") else ""
        return target, f"{method} {where} HTTP/1.1\r\n{lines}{apart}User-Agent: cloudexec\r\n{tail}\r\n".encode("ascii")

    def learn_region(self, bucket: str, region: str) -> None:
        """S3 said where a bucket lies."""
        self._regions[bucket] = region
        self._targets.pop(("s3", bucket), None)

    def learn_clock(self, service_s: float) -> None:
        """A service said what time it is: signatures follow its clock from now on."""
        self._skew_s = service_s - self._clock()


@lru_cache(maxsize=1024)
def _encode_again(path: str) -> str:
    """Every service but S3 signs the path encoded twice."""
    return encode_path(path)


def _checksum(request: Request) -> str:
    total = 0
    for piece in request.pieces:
        total = crc32(piece, total)
    return b64encode(total.to_bytes(4, "big")).decode()


def choose_transport(
    account: Account,
    transport: str = "auto",
    environ: Mapping[str, str] | None = None,
    *,
    services: Sequence[str] = PULLING,
) -> str:
    """`lean` or `boto3`; `auto` takes boto3 where a proxy to one of the services, FIPS or dual-stack is asked for."""
    if transport in ("lean", "boto3"):
        return transport
    if transport != "auto":
        raise SettingsError(f"transport={transport!r}", remedy='give "auto", "lean" or "boto3"')
    environ = os.environ if environ is None else environ
    targets = [account.target(service, "bucket" if service == "s3" else "") for service in services]
    is_proxied = any(endpoints.proxy_for(target, environ) for target in targets)
    return "boto3" if is_proxied or endpoints.is_unusual(environ) else "lean"


def open_client(account: Account, transport: str = "auto") -> Client:
    """A client for threads: `SyncClient`, or `BotoClient` where that one knows more (see `choose_transport`)."""
    if choose_transport(account, transport) == "boto3":
        from cloudexec.transport.boto import BotoClient

        return BotoClient(account)
    from cloudexec.transport.sync import SyncClient

    return SyncClient(account)


def open_async_client(
    account: Account, transport: str = "auto", *, max_connections: int = 64, services: Sequence[str] = PULLING
) -> AwaitedClient:
    """The same for asyncio: `AsyncClient` or `AsyncBotoClient`. `services` are those that it will talk to."""
    if choose_transport(account, transport, services=services) == "boto3":
        from cloudexec.transport.boto import AsyncBotoClient

        return AsyncBotoClient(account, max_connections=max_connections)
    from cloudexec.transport.aio import AsyncClient

    return AsyncClient(account, max_connections=max_connections)
