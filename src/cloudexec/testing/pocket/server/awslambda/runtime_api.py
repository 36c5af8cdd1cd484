"""HTTP between the platform and a runtime: requests read from a socket's bytes, answers in one piece. No threads.

Called by:  environment.py.   Calls: nothing.
Reason:     an environment is driven by the thread of its invocation, so that an answer passes through no other thread;
            http.server wants a thread for each connection.
Source:     AWS Lambda runtime API, version 2018-06-01.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass, field
from http.client import responses
from typing import Final

BASE: Final = "/2018-06-01/runtime/"
RECEIVE_BYTES: Final = 1 << 18
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Said:
    """One request of the runtime; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection:
    """A runtime's connection: its bytes so far, and what they amount to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self) -> bool:
        """Take what has arrived; False when the runtime has closed its end."""
        while True:
            try:
                data = self.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._buffer += data

    def take(self) -> Said | None:
        """The next request that is complete."""
        if self._head is None and not self._read_head():
            return None
        assert self._head is not None
        method, path, headers = self._head
        body = self._read_body(headers)
        if body is None:
            return None
        self._head = None
        return Said(method=method, path=path, headers=headers, body=body)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._head = (method, path, headers)
        if headers.get("expect", "").lower() == "100-continue":
            self._send(CONTINUE, 5.0)
        return True

    def _read_body(self, headers: dict[str, str]) -> bytes | None:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            found = read_chunks(self._buffer)
            if found is None:
                return None
            body, used = found
        else:
            used = int(headers.get("content-length") or 0)
            if len(self._buffer) < used:
                return None
            body = bytes(self._buffer[:used])
        del self._buffer[:used]
        return body

    def answer(self, status: int, body: bytes, headers: dict[str, str], timeout_s: float) -> bool:
        """Send an answer; False when the runtime is gone or does not read."""
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **headers}.items()]
        return self._send("\r\n".join([*lines, "", ""]).encode("latin-1") + body, timeout_s)

    def _send(self, data: bytes, timeout_s: float) -> bool:
        left, deadline_s = memoryview(data), time.monotonic() + timeout_s
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                if not self._wait_writable(deadline_s - time.monotonic()):
                    return False
            except OSError:
                return False
        return True

    def _wait_writable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLOUT)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))


def read_chunks(buffer: bytearray) -> tuple[bytes, int] | None:
    """The body in a chunked encoding and how many bytes it took; None while it is not complete."""
    at = 0
    parts: list[bytes] = []
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(buffer[at:end]).split(b";")[0], 16)
        at = end + 2
        if size == 0:
            return _after_trailers(buffer, at, parts)
        if len(buffer) < at + size + 2:
            return None
        parts.append(bytes(buffer[at : at + size]))
        at += size + 2


def _after_trailers(buffer: bytearray, at: int, parts: list[bytes]) -> tuple[bytes, int] | None:
    """After the last chunk come trailers, which nobody reads, and an empty line."""
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        if end == at:
            return b"".join(parts), end + 2
        at = end + 2
