"""HTTP/1.1 as far as AWS's clients use it: keep-alive, bodies of a known length, one request at a time.

Called by: emulator.py.   Calls: asyncio's transports.
It is made to cost little, because it shares the machine with the client that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple

Body = bytes | bytearray | memoryview


class Request(NamedTuple):
    """One request; names of headers are in lower case, `path` and `query` as they came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What goes back. `headers` are ready lines, each with its end. `length`: for HEAD, of the body it has not."""

    status: str
    body: Body = b""
    headers: str = ""
    length: int | None = None


class Exchange:
    """One request that waits for its answer. `is_open` tells whether anybody is still there to read it."""

    __slots__ = ("_door", "request", "when_gone")

    def __init__(self, door: Door, request: Request) -> None:
        self._door = door
        self.request = request
        self.when_gone: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the client is still connected, as far as the kernel has told."""
        return self._door.is_open

    def write(self, answer: Answer) -> None:
        """Send the answer, now."""
        self._door.write(answer)


class Door(asyncio.Protocol):
    """One connection."""

    def __init__(self, enter: Callable[[Exchange], None]) -> None:
        self._enter = enter
        self._buffer = bytearray()
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport
        self._continued = False
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.is_open = True

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol. A parked request learns at once that nobody waits for it."""
        self.is_open = False
        if self._exchange is not None and self._exchange.when_gone is not None:
            self._exchange.when_gone()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        if self._exchange is None:
            self._read()

    def write(self, answer: Answer) -> None:
        """The answer to the request under way; then the next one, if it is there already."""
        self._exchange = None
        if not self.is_open:
            return
        length = len(answer.body) if answer.length is None else answer.length
        head = f"HTTP/1.1 {answer.status}\r\n{_common()}{answer.headers}Content-Length: {length}\r\n\r\n".encode()
        self._transport.write(head + answer.body)
        if self._buffer:
            self._read()

    def _read(self) -> None:
        """Take one whole request from the buffer, if it has one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = str(self._buffer[:end], "latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        at, stop = end + 4, end + 4 + int(headers.get("content-length", 0))
        if "transfer-encoding" in headers:
            self._transport.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        if len(self._buffer) < stop:
            if "expect" in headers and not self._continued:
                self._continued = True
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._continued = False
        body = bytes(memoryview(self._buffer)[at:stop])
        del self._buffer[:stop]
        method, target, _ = first.split(" ", 2)
        path, _, query = target.partition("?")
        self._exchange = Exchange(self, Request(method, path, query, headers, body))
        self._enter(self._exchange)


_common_for = (0, "")


def _common() -> str:
    """Headers that every answer has; written once a second."""
    global _common_for
    now = int(time.time())
    if _common_for[0] != now:
        identity = f"x-amzn-RequestId: bed-{now}\r\nx-amz-request-id: bed-{now}\r\n"
        _common_for = (now, f"Date: {formatdate(now, usegmt=True)}\r\n{identity}")
    return _common_for[1]
