"""Sign requests: AWS Signature Version 4, with the key of the day kept. Pure but for the clock it is given.

Called by:  account.py.
Verified:   byte for byte against botocore over random requests (tests/transport/test_sigv4.py).
Source:     IAM user guide, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from cloudexec.transport.operation import Buffer

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY_HASH: Final = sha256(b"").hexdigest()


class Credentials(NamedTuple):
    """Who we are; `expires_s` is seconds since 1970, None if they do not expire."""

    access_key: str
    secret_key: str
    token: str = ""
    expires_s: float | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key})"  # secrets stay out of logs and tracebacks


class _Day(NamedTuple):
    """What is the same for all requests of one second; the key, for those of one day."""

    second: int
    stamp: str
    date: str
    scope: str
    key: bytes


def hash_of(pieces: Iterable[Buffer]) -> str:
    """SHA-256 of a body, as the signature and its header want it."""
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class Signer:
    """Signs for one identity, region and service. Threads may share it: its state is replaced as one tuple."""

    def __init__(self, credentials: Credentials, region: str, service: str) -> None:
        self.credentials = credentials
        self._region = region
        self._service = service
        self._day = _Day(0, "", "", "", b"")

    def _turn(self, second: int) -> _Day:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        date, key = stamp[:8], self._day.key
        if date != self._day.date:
            key = ("AWS4" + self.credentials.secret_key).encode()
            for part in (date, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
        self._day = day = _Day(second, stamp, date, f"{date}/{self._region}/{self._service}/aws4_request", key)
        return day

    def sign(
        self, method: str, path: str, query: str, headers: list[tuple[str, str]], body_hash: str, now_s: float
    ) -> str:
        """Header lines of the request, each ended by CRLF: those given, the date, and who signs.

        `path` and `query` are canonical. `headers` have lower-case names, among them host; values may hold no line end.
        For S3, the body's hash is a header of its own.
        """
        second = int(now_s)
        day = self._day
        if day.second != second:
            day = self._turn(second)
        access_key, _, token, _ = self.credentials
        headers = [*headers, ("x-amz-date", day.stamp)]
        if self._service == "s3":
            headers.append(("x-amz-content-sha256", body_hash))
        if token:
            headers.append(("x-amz-security-token", token))
        headers.sort()
        names = ";".join([name for name, _ in headers])
        lines = "".join([f"{name}:{value}\n" for name, value in headers])
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{body_hash}"
        text = f"AWS4-HMAC-SHA256\n{day.stamp}\n{day.scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(day.key, text.encode(), "sha256").hex()
        return (
            f"{lines.replace(chr(10), chr(13) + chr(10))}Authorization: AWS4-HMAC-SHA256 "
            f"Credential={access_key}/{day.scope}, SignedHeaders={names}, Signature={signature}\r\n"
        )
