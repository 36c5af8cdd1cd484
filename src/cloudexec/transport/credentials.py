"""Find credentials without botocore: environment, container endpoint, instance metadata; renew them ahead of expiry.

Called by:  account.py (a worker's), boto.py (which wraps botocore's for the client); the worker (`container_metadata`).
Calls:      plain.py.
Source:     AWS SDKs and tools reference guide: container credential provider, IMDS credential provider.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from cloudexec.errors import CredentialsMissing
from cloudexec.transport import plain
from cloudexec.transport.encoding import read_iso_date
from cloudexec.transport.endpoints import read_url
from cloudexec.transport.http1 import BadAnswer
from cloudexec.transport.sigv4 import Credentials

AHEAD_S: Final = 300.0  # renewed so long before they expire
PATIENCE_S: Final = 15.0  # after a failed renewal, while the old ones still hold
TIMEOUT_S: Final = 2.0
ATTEMPTS: Final = 3
_CONTAINER_HOST: Final = "http://169.254.170.2"
_PLAIN_HOSTS: Final = frozenset({"localhost", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
_LOOPBACK: Final = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}").fullmatch  # 127.example.com is anybody's
_INSTANCE_HOST: Final = "http://169.254.169.254"
_ROLE_PATH: Final = "/latest/meta-data/iam/security-credentials/"


class RenewedCredentials:
    """Keeps what `fetch` returned until it nears its end; safe to use from several threads.

    `ask_every_s`: ask again so often even if nothing expires, for sources that renew by themselves.
    """

    def __init__(
        self,
        fetch: Callable[[], Credentials],
        *,
        ask_every_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._ask_every_s = ask_every_s
        self._clock = clock
        self._held: Credentials | None = None
        self._until_s = 0.0
        self._renewing = threading.Lock()

    def current(self) -> Credentials | None:
        """What is held, without asking anybody; None if it is time to `renew`."""
        return self._held if self._clock() < self._until_s else None

    def renew(self, refused: Credentials | None = None) -> Credentials:
        """Fetch new ones, unless another thread just has. `refused`: those that the service has not accepted.

        While the old ones still hold, one thread fetches and the others go on, and a failure is no error yet.
        """
        held = self._held
        can_wait = held is not None and held is not refused and not self._is_over(held)
        if not self._renewing.acquire(blocking=not can_wait):
            assert held is not None
            return held
        try:
            newest = self._held
            if newest is not None and newest is not refused and self._clock() < self._until_s:
                return newest
            return self._renew(held if can_wait else None)
        finally:
            self._renewing.release()

    def _renew(self, fallback: Credentials | None) -> Credentials:
        try:
            found = self._fetch()
        except CredentialsMissing:
            if fallback is None:
                raise
            self._until_s = self._clock() + PATIENCE_S
            return fallback
        now_s = self._clock()
        # Some sources hand out the old ones until the last minute: do not ask for each request then.
        until_s = max(found.expires_s - AHEAD_S, now_s + PATIENCE_S) if found.expires_s is not None else float("inf")
        if self._ask_every_s is not None:
            until_s = min(until_s, now_s + self._ask_every_s)
        self._held, self._until_s = found, until_s
        return found

    def _is_over(self, held: Credentials) -> bool:
        return held.expires_s is not None and self._clock() >= held.expires_s


def fixed(access_key: str, secret_key: str, token: str = "") -> RenewedCredentials:
    """Credentials that stay."""
    return RenewedCredentials(lambda: Credentials(access_key, secret_key, token))


def find_credentials(environ: Mapping[str, str] | None = None) -> Credentials:
    """The first that is there: environment, container endpoint, instance metadata.

    Errors: CredentialsMissing, with every place that was tried.
    """
    environ = os.environ if environ is None else environ
    tried: list[str] = []
    for source in (from_environment, from_container, from_instance):
        found = source(environ, tried)
        if found is not None:
            return found
    raise CredentialsMissing("no AWS credentials: " + "; ".join(tried))


def from_environment(environ: Mapping[str, str], tried: list[str]) -> Credentials | None:
    """AWS_ACCESS_KEY_ID and its companions."""
    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_SECRET_ACCESS_KEY", "")
    if access_key.strip() and secret_key.strip():
        return Credentials(access_key.strip(), secret_key.strip(), environ.get("AWS_SESSION_TOKEN", "").strip())
    tried.append("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set")
    return None


def from_container(environ: Mapping[str, str], tried: list[str]) -> Credentials | None:
    """The endpoint that ECS and EKS give a container whose task or pod has a role."""
    relative, full = (environ.get(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI", "") for kind in ("RELATIVE", "FULL"))
    if not relative and not full:
        tried.append("no container endpoint (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)")
        return None
    url = _CONTAINER_HOST + relative if relative else full
    target = read_url(url.partition("?")[0])
    if not target.is_tls and target.host not in _PLAIN_HOSTS and not _LOOPBACK(target.host):
        tried.append(f"the container endpoint {target.host} is neither https nor local, and was not asked")
        return None
    try:
        headers = _container_headers(environ)
    except (OSError, ValueError) as error:
        tried.append(f"the container's authorization token: {error}")
        return None
    said = _ask_for_json(url, headers, tried, f"container endpoint {target.host}")
    return None if said is None else _read(said, tried, "the container endpoint")


def _container_headers(environ: Mapping[str, str]) -> dict[str, str]:
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    path = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "")
    if path:
        with open(path) as file:  # EKS replaces the file; it is read each time
            token = file.read()
    if "\r" in token or "\n" in token:
        raise ValueError("it contains a line end")
    return {"Authorization": token} if token else {}


def from_instance(environ: Mapping[str, str], tried: list[str]) -> Credentials | None:
    """Instance metadata, version 2 only: version 1 answers whoever can make the instance send a request."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        tried.append("instance metadata is disabled (AWS_EC2_METADATA_DISABLED)")
        return None
    base = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or _INSTANCE_HOST
    timeout_s = float(environ.get("AWS_METADATA_SERVICE_TIMEOUT", "1"))
    try:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
        token = plain.request("PUT", f"{base}/latest/api/token", ttl, timeout_s)
        headers = {"X-aws-ec2-metadata-token": token.body.decode("utf-8", "replace")}
        role = plain.request("GET", base + _ROLE_PATH, headers, timeout_s)
    except (OSError, BadAnswer) as error:
        tried.append(f"no instance metadata at {base} ({error})")
        return None
    if token.status != 200 or role.status != 200:
        tried.append(f"instance metadata has no role (token {token.status}, role {role.status})")
        return None
    name = role.body.decode("utf-8", "replace").partition("\n")[0].strip()
    said = _ask_for_json(base + _ROLE_PATH + name, headers, tried, "instance metadata")
    return None if said is None else _read(said, tried, "instance metadata")


def _ask_for_json(url: str, headers: Mapping[str, str], tried: list[str], where: str) -> dict[str, Any] | None:
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.1 * 2**attempt)
        try:
            reply = plain.request("GET", url, headers, TIMEOUT_S)
            if reply.status == 200:
                said = json.loads(reply.body)
                return said if isinstance(said, dict) else {}
            reason = f"answered {reply.status} {reply.body[:200].decode('utf-8', 'replace')}".rstrip()
            if reply.status < 500 and reply.status != 429:
                break
        except (OSError, ValueError) as error:  # BadAnswer is a ValueError
            reason = f"{type(error).__name__}: {error}"
    tried.append(f"{where}: {reason}")
    return None


def _read(said: Mapping[str, Any], tried: list[str], where: str) -> Credentials | None:
    if not said.get("AccessKeyId") or not said.get("SecretAccessKey"):
        tried.append(f"{where} answered without keys ({said.get('Code', 'no code')} {said.get('Message', '')})")
        return None
    expires_s = read_iso_date(str(said.get("Expiration", "")))
    return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said.get("Token") or "", expires_s)


def container_metadata(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What ECS tells a container about its task: `TaskARN`, `Cluster`, `Family`, …; empty outside of ECS."""
    base = (os.environ if environ is None else environ).get("ECS_CONTAINER_METADATA_URI_V4", "")
    return {} if not base else _ask_for_json(base.rstrip("/") + "/task", {}, [], "task metadata") or {}
