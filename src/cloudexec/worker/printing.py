"""What calls print, as lines of the worker's own log: `RUN/17 out| text`, `RUN/17 err| text`.

Called by: running.py, at the end of a call that printed something; supervisor.py, when a slot has died in a call.
Whole:     each line has its call's id in front, whatever the call prints; a write holds whole lines and at most
           PIPE_BUF bytes, so that the lines of slots never mix. A longer line goes on in the next one.
Bound:     MOST_BYTES of a call; the middle of more is left out, and that is said. Of a line that was overwritten with
           carriage returns (a progress bar) the last state counts.
A slot writes its lines itself: should the log be slow, its own call waits, and no other.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Final

MOST_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = min(select.PIPE_BUF, 4096)


class OutputLog:
    """The log of one worker. run_id: of the run that the calls belong to."""

    def __init__(self, fd: int, run_id: str) -> None:
        self._fd = fd
        self._run_id = run_id

    def tell(self, number: int, stdout: bytes, stderr: bytes) -> None:
        """Write what a call has printed. A log that cannot be written to is nobody's failure."""
        call = f"{self._run_id}/{number}"
        half = MOST_BYTES // 2
        lines = [
            *lines_of(call, "out", stdout, MOST_BYTES - min(len(stderr), half)),
            *lines_of(call, "err", stderr, MOST_BYTES - min(len(stdout), half)),
        ]
        try:
            for chunk in gathered(lines):
                os.write(self._fd, chunk)
        except OSError:
            pass


def lines_of(call: str, stream: str, text: bytes, most_bytes: int = MOST_BYTES) -> Iterator[bytes]:
    """The lines of a stream as the log has them, newlines included."""
    head = f"{call} {stream}| ".encode()
    width = _WRITE_BYTES - len(head) - 1
    for line in _bounded(text, most_bytes):
        shown = line.rstrip(b"\r").rpartition(b"\r")[2]
        while len(shown) > width:
            cut = _cut(shown, width)
            yield b"".join((head, shown[:cut], b"\n"))
            shown = shown[cut:]
        yield b"".join((head, shown, b"\n"))


def gathered(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines, as many at a time as one write may hold."""
    chunk = b""
    for line in lines:
        if chunk and len(chunk) + len(line) > _WRITE_BYTES:
            yield chunk
            chunk = b""
        chunk += line
    if chunk:
        yield chunk


def _bounded(text: bytes, most_bytes: int) -> list[bytes]:
    """The lines, without the middle if they are too much."""
    if not text:
        return []
    if len(text) <= most_bytes:
        return text.removesuffix(b"\n").split(b"\n")
    half = most_bytes // 2
    first, last = text[:half], text[len(text) - half :]
    note = f"... {len(text) - 2 * half:,} bytes left out ...".encode()
    return [*first.removesuffix(b"\n").split(b"\n"), note, *last.removesuffix(b"\n").split(b"\n")]


def _cut(line: bytes, width: int) -> int:
    """Where to cut a line, not in the middle of a character of UTF-8."""
    at = width
    while at > width - 4 and line[at] & 0xC0 == 0x80:
        at -= 1
    return at
