"""The same operations through boto3: for proxies and unusual endpoints, and as the oracle in tests.

Called by:  account.py opens it; executors, for `account_of`.   Calls: refusals.py, retrying.py.
Imports:    botocore is imported where it is used: a worker with the lean transport never pays for it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cloudexec.errors import AwsError, ConnectionLost, CredentialsMissing, NoSuchKey, SettingsError
from cloudexec.transport.account import SERVICES, Account
from cloudexec.transport.credentials import RenewedCredentials
from cloudexec.transport.endpoints import suffix_of
from cloudexec.transport.lambdas import TRACE_ARGUMENT
from cloudexec.transport.operation import Operation, Request
from cloudexec.transport.refusals import Refusal, error_of, name_bare, seconds_in
from cloudexec.transport.retrying import Kind, RetryPolicy, draw, kind_of
from cloudexec.transport.sigv4 import Credentials

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
ASK_EVERY_S: Final = 30.0  # botocore renews by itself, and answers from memory until then
_METHODS: Final = {
    "PutObject": "put_object",
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "ListObjectsV2": "list_objects_v2",
    "DeleteObject": "delete_object",
    "DeleteObjects": "delete_objects",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "AbortMultipartUpload": "abort_multipart_upload",
    "SendMessageBatch": "send_message_batch",
    "ReceiveMessage": "receive_message",
    "DeleteMessageBatch": "delete_message_batch",
    "ChangeMessageVisibilityBatch": "change_message_visibility_batch",
    "GetQueueAttributes": "get_queue_attributes",
    "PurgeQueue": "purge_queue",
    "Invoke": "invoke",
}
_BODIES: Final = {"PutObject": "Body", "UploadPart": "Body", "Invoke": "Payload"}
_HANDSHAKE: Final = re.compile("certificate|hostname|handshake|doesn't match", re.IGNORECASE).search
_WAITS_S: Final = (20.0, 60.0, 300.0, 900.0)  # SQS holds an answer back for 20 s at most, a function for 900 s


class BotoClient:
    """Carries operations out through botocore's clients, with the same results and errors as `SyncClient`."""

    def __init__(
        self,
        account: Account,
        *,
        policy: RetryPolicy | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        max_connections: int = 64,
    ) -> None:
        self.account = account
        self._policy = policy or RetryPolicy()
        self._settings = {
            "connect_timeout": connect_timeout_s,
            "max_pool_connections": max_connections,
            "tcp_keepalive": True,
        }
        self._read_timeout_s = read_timeout_s
        self._clients: dict[tuple[str, float, bool], Any] = {}
        self._making = threading.Lock()
        self._closing = threading.Event()

    def call(self, operation: Operation[T]) -> T:
        """See Client.call."""
        tried = 0
        while not self._closing.is_set():
            tried += 1
            try:
                reply, refusal = self._ask(operation)
            except ConnectionLost as lost:
                # botocore repeats nothing that is sent once, not even what it could not send.
                if lost.ambiguous or not operation.once or tried >= self._policy.attempts:
                    raise
                self._closing.wait(self._policy.pause_s(Kind.FAULT, tried, draw()))
                continue
            if refusal is None:
                return operation.read_boto(reply)
            if refusal.code == "PreconditionFailed" and operation.confirm and _was_repeated(reply):
                ours = self._confirm(operation.confirm)
                if ours is not None:
                    return ours
            # The standard mode of botocore knows throttles and faults, but not this one.
            is_conflict = kind_of(refusal, operation.request.method) is Kind.CONFLICT and not operation.once
            if not is_conflict or tried >= self._policy.attempts:
                raise error_of(operation.what, refusal)
            self._closing.wait(self._policy.pause_s(Kind.CONFLICT, tried, draw()))
        raise ConnectionLost(f"{operation.what}: the client was closed", False)

    def close(self) -> None:
        """See Client.close."""
        self._closing.set()
        for client in list(self._clients.values()):
            client.close()

    def __enter__(self) -> BotoClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, operation: Operation[Any]) -> tuple[Mapping[str, Any], Refusal | None]:
        """The answer, and what it is if it is no success. Errors: ConnectionLost."""
        from botocore.exceptions import BotoCoreError, ClientError

        arguments = dict(operation.arguments)
        if operation.name in _BODIES:
            arguments[_BODIES[operation.name]] = b"".join(operation.request.pieces)
        client = self._client(operation)
        try:
            reply = getattr(client, _METHODS[operation.name])(**arguments)
            if "Payload" in reply:
                return _with_payload(operation.what, reply), None
            return (self._with_body(reply, client, arguments) if "Body" in reply else reply), None
        except ClientError as error:
            refusal = _refusal(error.response, operation.request)
            return error.response, None if refusal.status == 304 else refusal
        except BotoCoreError as error:
            raise _translated(operation.what, error) from error

    def _with_body(self, reply: Mapping[str, Any], client: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a GetObject with its body read; botocore itself does not repeat one that breaks off."""
        from botocore.exceptions import BotoCoreError

        tried = 1
        while True:
            try:
                return {**reply, "Body": _read(reply["Body"])}
            except BotoCoreError:
                if tried >= self._policy.attempts:
                    raise
            self._closing.wait(self._policy.pause_s(Kind.FAULT, tried, draw()))
            tried += 1
            reply = client.get_object(**arguments)

    def _confirm(self, confirm: Callable[[], Operation[T | None]]) -> T | None:
        try:
            return self.call(confirm())
        except NoSuchKey:
            return None

    def _client(self, operation: Operation[Any]) -> Any:
        """botocore's client for an operation: time limits and repeats are a client's, not a request's."""
        service, once = operation.request.service, operation.once
        wait_s = next((step_s for step_s in _WAITS_S if operation.wait_s <= step_s), operation.wait_s)
        client = self._clients.get((service, wait_s, once))
        if client is None:
            with self._making:
                if (service, wait_s, once) not in self._clients:
                    self._clients[service, wait_s, once] = self._make(service, wait_s, once)
                client = self._clients[service, wait_s, once]
        return client

    def _make(self, service: str, wait_s: float, once: bool) -> Any:
        import botocore.session
        from botocore.config import Config
        from botocore.handlers import add_expect_header

        session = botocore.session.Session()
        session.register_component("data_loader", _loader())
        session._credentials = _BotocoreView(self.account)
        endpoint = self.account.endpoints.get(service)
        more: dict[str, Any] = {
            "parameter_validation": True,
            "read_timeout": self._read_timeout_s + wait_s,
            "retries": {"mode": "standard", "total_max_attempts": 1 if once else self._policy.attempts},
        }
        if service == "s3":
            more |= {
                "signature_version": "s3v4",
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "s3": {"addressing_style": "path" if endpoint else "auto"},
            }
        client = session.create_client(
            service,
            region_name=self.account.region,
            endpoint_url=endpoint,
            verify=self.account.ca_bundle or None,
            config=Config(**self._settings, **more),
        )
        # It would cost each put a second round trip: our bodies are bytes, and nothing is lost by sending them at once.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        client.meta.events.register("provide-client-params.lambda.Invoke", _take_trace)
        client.meta.events.register_first("before-call.lambda.Invoke", _put_trace)
        return client


def _with_payload(what: str, reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to an Invoke, read. botocore takes a head that breaks off for one that ends there."""
    if not {"content-length", "transfer-encoding"} & set(reply["ResponseMetadata"]["HTTPHeaders"]):
        reply["Payload"].close()
        raise ConnectionLost(f"{what}: the connection was closed in mid-answer", True)
    return {**reply, "Payload": _read(reply["Payload"])}


def _read(stream: Any) -> BytesIO:
    """All of an answer's stream; one that breaks off would keep its socket until the garbage is collected."""
    with closing(stream):
        return BytesIO(stream.read())


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Reads the descriptions of services, once for all clients: Lambda's has a megabyte."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _take_trace(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """boto3 knows no argument for the trace: keep it beside the arguments until there is a request."""
    context[TRACE_ARGUMENT] = params.get(TRACE_ARGUMENT, "")
    return {name: value for name, value in params.items() if name != TRACE_ARGUMENT}


def _put_trace(params: dict[str, Any], context: Mapping[str, Any], **_: Any) -> None:
    if context.get(TRACE_ARGUMENT):
        params["headers"]["X-Amzn-Trace-Id"] = context[TRACE_ARGUMENT]


class _BotocoreView:
    """The account's credentials, as botocore reads them."""

    method = "cloudexec"
    account_id = None

    def __init__(self, account: Account) -> None:
        self._account = account

    def get_frozen_credentials(self) -> Any:
        from botocore.credentials import ReadOnlyCredentials

        found = self._account.credentials.current() or self._account.credentials.renew()
        return ReadOnlyCredentials(found.access_key, found.secret_key, found.token or None)

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        return lambda: getattr(self, name, None)


class AsyncBotoClient:
    """`BotoClient` for asyncio: each call in a thread, at most `max_connections` at once."""

    def __init__(self, account: Account, *, max_connections: int = 64, policy: RetryPolicy | None = None) -> None:
        self.account = account
        self._client = BotoClient(account, max_connections=max_connections, policy=policy)
        self._threads = ThreadPoolExecutor(max_connections, thread_name_prefix="cloudexec-boto")

    async def call(self, operation: Operation[T]) -> T:
        """See AsyncClient.call. A cancelled call goes on in its thread; its result is dropped."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._client.call, operation)

    async def aclose(self) -> None:
        """Take no more calls; those under way end by themselves."""
        self._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> AsyncBotoClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


def account_of(
    session: Any, *, region: str | None = None, endpoints: Mapping[str, str] | None = None, owner: str = ""
) -> Account:
    """The account of a boto3 or botocore session: its credentials, its region, the endpoints that it would use."""
    core = getattr(session, "_session", session)  # a boto3 session wraps one of botocore
    region = region or core.get_config_variable("region")
    if not region:
        raise SettingsError("no AWS region", remedy="set AWS_REGION or region=, e.g. eu-west-1")
    known = dict(endpoints or {})
    found = {
        service: url for service in SERVICES if service not in known and (url := _configured(core, service, region))
    }
    return Account(
        region,
        credentials_of(core),
        endpoints=found | known,
        owner=owner,
        ca_bundle=core.get_config_variable("ca_bundle") or "",
    )


def credentials_of(core: Any) -> RenewedCredentials:
    """A source that asks a botocore session, which knows profiles, SSO and roles, and renews by itself."""

    def fetch() -> Credentials:
        found = core.get_credentials()
        if found is None:
            raise CredentialsMissing("no AWS credentials: botocore found none in environment, profiles and metadata")
        frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    return RenewedCredentials(fetch, ask_every_s=ASK_EVERY_S)


def _configured(core: Any, service: str, region: str) -> str:
    """The endpoint that environment or configuration file set for a service; empty if it is AWS's own."""
    client = core.create_client(service, region_name=region)
    try:
        url: str = client.meta.endpoint_url
    finally:
        client.close()
    hosts = (f"{service}.{region}.{suffix_of(region)}", f"{service}.{suffix_of(region)}")
    return "" if url in [f"https://{host}" for host in hosts] else url


def _was_repeated(reply: Mapping[str, Any]) -> bool:
    return bool(reply.get("ResponseMetadata", {}).get("RetryAttempts", 0))


def _refusal(response: Mapping[str, Any], request: Request) -> Refusal:
    about, said = response.get("ResponseMetadata", {}), response.get("Error", {})
    status = about.get("HTTPStatusCode", 0)
    code = said.get("Code", "")
    if not code or code == str(status):
        code = name_bare(request, status)
    message = "" if request.method == "HEAD" else said.get("Message", "")
    retry_after = about.get("HTTPHeaders", {}).get("retry-after") or response.get("retryAfterSeconds")
    reason = str(response.get("Reason") or "")
    return Refusal(status, code, message, about.get("RequestId", ""), reason, seconds_in(retry_after))


def _translated(what: str, error: Exception) -> AwsError:
    """An error of botocore that has no answer behind it: nothing was sent, or nothing came back."""
    from botocore import exceptions

    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return CredentialsMissing(f"{what}: {error}")
    if isinstance(error, exceptions.SSLError):  # without trust nothing was sent; but TLS may fail in mid-answer, too
        return ConnectionLost(f"{what}: {error}", not _HANDSHAKE(str(error)))
    if isinstance(error, exceptions.ConnectionError):  # no address, no connection: nothing was sent
        return ConnectionLost(f"{what}: {error}", False)
    if isinstance(error, (exceptions.HTTPClientError, exceptions.IncompleteReadError)):
        return ConnectionLost(f"{what}: {error}", True)
    return AwsError(f"{what}: {error}", type(error).__name__)
