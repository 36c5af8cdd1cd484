"""Read HTTP/1.1 answers from bytes; no I/O happens here.

Called by:  sync.py, aio.py and plain.py, which own the sockets.
Shape:      feed the reader what has arrived until it says that the answer is complete. A large body is offered as
            `room()`, so that the socket fills it without a copy.
Source:     RFC 9112. Strict where leniency is a hazard: a head that two readers could read differently is refused.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from cloudexec.transport.operation import Reply

MOST_HEAD_BYTES: Final = 64 << 10
MOST_LINE_BYTES: Final = 4 << 10
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_MOST_NAMES: Final = 500
_names: Final[dict[str, str]] = {}  # header names that were found valid, in lower case: a service has a few dozen
_DIGITS: Final = re.compile(r"[0-9]{1,18}").fullmatch
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL).fullmatch


class BadAnswer(ValueError):
    """What arrived is no HTTP/1.1 answer, or ended too early; the connection is of no more use."""


class _State(enum.Enum):
    HEAD = 0
    FIXED = 1  # so many bytes follow
    CHUNKS = 2
    UNTIL_END = 3  # the body ends with the connection
    DONE = 4


class AnswerReader:
    """Reads one answer to a request of `method`."""

    __slots__ = ("_big", "_body", "_buffer", "_filled", "_headers", "_length", "_method", "_state", "_status", "stays")

    def __init__(self, method: str) -> None:
        self._method = method
        self._state = _State.HEAD
        self._buffer: bytes | bytearray = b""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""
        self._big: memoryview | None = None
        self._filled = 0
        self._length = 0
        self.stays = True  # whether the connection may carry another request

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the answer has arrived."""
        return self._state is not _State.HEAD or bool(self._buffer) or self._status != 0

    def reply(self) -> Reply:
        """The complete answer."""
        return Reply(self._status, self._headers, self._body)

    def feed(self, data: bytes) -> bool:
        """Take what has arrived; True when the answer is complete."""
        while self._state is _State.HEAD:
            if self._buffer:
                data = bytes(self._buffer) + data
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MOST_HEAD_BYTES:
                if len(data) > MOST_HEAD_BYTES:
                    raise BadAnswer(f"a head of more than {MOST_HEAD_BYTES} bytes")
                self._buffer = data
                return False
            self._buffer = b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        return self._take(data)

    def room(self) -> memoryview | None:
        """Where the rest of a large body belongs; None if `feed` takes what arrives."""
        return None if self._big is None else self._big[self._filled :]

    def filled(self, count: int) -> bool:
        """So many bytes have been written to `room()`; True when the answer is complete."""
        self._filled += count
        if self._filled == self._length:
            self._big = None
            self._state = _State.DONE
        return self._state is _State.DONE

    def end(self) -> bool:
        """The other side has closed; True if that completes the answer."""
        self.stays = False
        if self._state is _State.UNTIL_END:
            self._body = bytes(self._buffer)
            self._state = _State.DONE
        return self._state is _State.DONE

    def _read_head(self, head: bytes) -> None:
        text = head.decode("latin-1")
        status_line, *lines = text.split("\r\n")
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise BadAnswer("a head with a line end or NUL inside of a line")
        found = _STATUS_LINE.fullmatch(status_line)
        if found is None:
            raise BadAnswer(f"not an HTTP/1.1 status line: {status_line[:80]!r}")
        self._status = status = int(found[2])
        if status < 200 and status != 101:
            return  # 100 Continue and the like announce the real head
        self._headers = headers = _read_headers(lines)
        connection = headers.get("connection", "").lower()
        self.stays = "close" not in connection and (found[1] == "1" or "keep-alive" in connection)
        self._choose_body(headers)

    def _choose_body(self, headers: dict[str, str]) -> None:
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if self._method == "HEAD" or self._status in (204, 304):
            self._state = _State.DONE
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise BadAnswer(f"transfer encoding {encoding!r}, content length {length!r}")
            self._state, self._body, self._buffer = _State.CHUNKS, bytearray(), bytearray()
        elif length is None:
            self._state, self._buffer, self.stays = _State.UNTIL_END, bytearray(), False
        elif _DIGITS(length):
            self._state, self._length = _State.FIXED, int(length)
        else:
            raise BadAnswer(f"content length {length[:80]!r}")

    def _take(self, data: bytes) -> bool:
        if self._state is _State.FIXED:
            return self._take_fixed(data)
        if self._state is _State.CHUNKS:
            self._buffer += data
            return self._take_chunks()
        if self._state is _State.UNTIL_END:
            self._buffer += data
            return False
        if data:
            self.stays = False  # bytes that nobody asked for
        return True

    def _take_fixed(self, data: bytes) -> bool:
        missing = self._length - self._filled
        if self._big is None and self._filled == 0 and len(data) >= missing:
            self._state, self._body = _State.DONE, data[:missing]  # the usual case: all in one piece
            return self._take(data[missing:])
        if self._big is None:
            self._body = bytearray(self._length)
            self._big = memoryview(self._body)
        part = data[:missing]
        self._big[self._filled : self._filled + len(part)] = part
        if self.filled(len(part)):
            return self._take(data[missing:])
        return False

    def _take_chunks(self) -> bool:
        """`_length` counts what the current chunk still lacks, with its CRLF; `_filled` is 1 behind the last one."""
        buffer = self._buffer
        assert isinstance(buffer, bytearray)
        assert isinstance(self._body, bytearray)
        while True:
            if self._length:
                body_bytes = max(0, min(self._length - 2, len(buffer)))
                self._body += buffer[:body_bytes]
                del buffer[:body_bytes]
                self._length -= body_bytes
                if self._length > 2 or len(buffer) < 2:
                    return False
                if buffer[:2] != b"\r\n":
                    raise BadAnswer("a chunk is longer than it says")
                del buffer[:2]
                self._length = 0
            end = buffer.find(b"\r\n")
            if end < 0 or end > MOST_LINE_BYTES:
                if len(buffer) > MOST_LINE_BYTES:
                    raise BadAnswer("a chunk's head without an end")
                return False
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self._filled:  # trailers, up to an empty line
                if not line:
                    self._state = _State.DONE
                    return self._take(bytes(buffer))
                continue
            self._begin_chunk(line)

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK(line)
        if found is None:
            raise BadAnswer(f"not a chunk's head: {line[:80]!r}")
        length = int(found[1], 16)
        self._length = length + 2 if length else 0
        self._filled = 0 if length else 1


def _read_headers(lines: list[str]) -> dict[str, str]:
    """Names in lower case; values of a repeated name joined by commas, as RFC 9110 has it."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        known = _names.get(name)
        if known is None or not colon:
            known = _learn_name(name, line, bool(colon))
        value = value.strip(" \t")
        if known not in headers:
            headers[known] = value
        elif known not in ("content-length", "transfer-encoding"):
            headers[known] += ", " + value
        elif headers[known] != value or known == "transfer-encoding":
            raise BadAnswer(f"{known} twice")
    return headers


def _learn_name(name: str, line: str, has_colon: bool) -> str:
    if not has_colon or not _NAME(name):
        raise BadAnswer(f"not a header line: {line[:80]!r}")
    if len(_names) < _MOST_NAMES:
        _names[name] = name.lower()
    return name.lower()
