"""What R and its children print: passed on to sys.stdout and sys.stderr as it comes; the end is kept for errors.

Called by: process.py.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections import deque
from typing import Final

_READ_BYTES: Final = 1 << 16
TAIL_CHARACTERS: Final = 4000


class Relay:
    """Of one call. stdout, stderr: descriptors to read from, which do not block."""

    def __init__(self, stdout: int, stderr: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = {
            stdout: ("stdout", decoder("backslashreplace")),
            stderr: ("stderr", decoder("backslashreplace")),
        }
        self._tail: deque[str] = deque()
        self._tail_characters = 0

    def discard(self) -> None:
        """Forget what a former call has left in the pipes."""
        for fd in self._streams:
            while _read(fd):
                pass

    def move(self, fd: int) -> bool:
        """Pass on what is there; whether there was anything."""
        data = _read(fd)
        if data:
            name, decoder = self._streams[fd]
            self._say(name, decoder.decode(data))
        return bool(data)

    def finish(self) -> None:
        """Pass on what is left in the pipes. Nobody may write any more."""
        for fd, (name, decoder) in self._streams.items():
            while self.move(fd):
                pass
            self._say(name, decoder.decode(b"", final=True))

    @property
    def tail(self) -> str:
        """The last that was printed, whole lines if possible."""
        text = "".join(self._tail)
        if len(text) <= TAIL_CHARACTERS:
            return text
        text = text[-TAIL_CHARACTERS:]
        return text.partition("\n")[2] or text

    def _say(self, name: str, text: str) -> None:
        if not text:
            return
        self._tail.append(text)
        self._tail_characters += len(text)
        while self._tail_characters - len(self._tail[0]) > TAIL_CHARACTERS:
            self._tail_characters -= len(self._tail.popleft())
        stream = getattr(sys, name, None)
        try:
            if stream is not None:
                stream.write(text)
                stream.flush()
        except (OSError, ValueError):  # it is closed: what R prints is no reason to lose what it returns
            pass


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return b""
