"""What a call prints: everything that goes to descriptors 1 and 2, by Python, C code or child processes.

Called by: running.py.   Calls: system.
Descriptors 1 and 2 are files without a name. Whoever inherits them shares their position, so the position tells
whether anything was printed. It starts at an odd place in the file, so it also tells whether the
descriptor is still ours. A call that prints nothing costs two seeks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, TextIO

from cloudexec.worker.system import flush_c_streams, high_descriptor, nameless_file

_START: Final = (0, 7919, 7927)  # by descriptor; different, so that one put in the place of the other is noticed
_WORDS_BYTES: Final = 4000
_MOST_BYTES: Final = 64 << 20  # of one stream of one call; the middle of more is left out


class Capture:
    """Holds descriptors 0 to 2 of this process from now on.

    stderr: the file for descriptor 2, -1 for a new one; whoever shares it can read a dead process's `last_words`.
    """

    def __init__(self, stderr: int = -1) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(self._null, 0)
        self._files: list[int] = []
        self._use(nameless_file(), nameless_file() if stderr < 0 else stderr)
        self._streams: tuple[TextIO, TextIO] = (_text_stream(1), _text_stream(2))
        self._install_streams()

    def renew(self) -> None:
        """Use new files: somebody may go on writing to the old ones."""
        for fd in self._files:
            os.close(fd)
        self._use(nameless_file(), nameless_file())

    def _use(self, out: int, err: int) -> None:
        self._files = [high_descriptor(out), high_descriptor(err)]
        for number, fd in enumerate(self._files, start=1):
            os.lseek(fd, _START[number], os.SEEK_SET)
            os.dup2(fd, number)

    def take(self) -> tuple[bytes, bytes]:
        """(stdout, stderr) since the last time; mends descriptors and streams that the call has closed."""
        out, err = self._streams
        try:
            replaced = sys.stdout is not out or sys.stderr is not err
        except AttributeError:  # deleted
            replaced = True
        if replaced:
            self._restore_streams()
        try:
            out.flush()
            err.flush()
        except (OSError, ValueError):  # a descriptor or a stream was closed
            self._mend_streams()
        flush_c_streams()
        return self._take(1), self._take(2)

    def repair_input(self) -> None:
        """Point descriptor 0 at nothing again, whatever the call has done to it."""
        os.dup2(self._null, 0)
        if getattr(sys, "stdin", None) is not sys.__stdin__ or sys.__stdin__ is None or sys.__stdin__.closed:
            self._install_streams()

    def _install_streams(self) -> None:
        sys.stdout, sys.stderr = self._streams
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc,assignment]  # typed Final
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115 - typed Final; never closed

    def _restore_streams(self) -> None:
        """The call has put other objects in the place of sys.stdout or sys.stderr."""
        for name in ("stdout", "stderr"):
            with contextlib.suppress(BaseException):  # it may be anything
                getattr(sys, name).flush()
        sys.stdout, sys.stderr = self._streams

    def _mend_streams(self) -> None:
        for number, fd in enumerate(self._files, start=1):
            os.dup2(fd, number)
        for stream in self._streams:
            with contextlib.suppress(ValueError):
                stream.flush()
        self._streams = (_text_stream(1), _text_stream(2))
        self.repair_input()
        self._install_streams()

    def _take(self, number: int) -> bytes:
        try:
            position = os.lseek(number, 0, os.SEEK_CUR)
        except OSError:  # closed, or something that has no position
            position = -1
        return b"" if position == _START[number] else self._collect(number, position)

    def _collect(self, number: int, position: int) -> bytes:
        fd = self._files[number - 1]
        end = os.lseek(fd, 0, os.SEEK_CUR)
        if position != end:
            os.dup2(fd, number)
        start = _START[number]
        text = _read(fd, start, end - start)
        os.ftruncate(fd, 0)
        os.lseek(fd, start, os.SEEK_SET)
        return text


def _read(fd: int, start: int, size: int) -> bytes:
    if size <= 0:  # somebody moved the position back
        return b""
    if size <= _MOST_BYTES:
        return os.pread(fd, size, start)
    half = _MOST_BYTES // 2
    note = f"\n... {size - _MOST_BYTES:,} bytes left out ...\n".encode()
    return os.pread(fd, half, start) + note + os.pread(fd, half, start + size - half)


def last_words(stderr: int) -> str:
    """The end of what a process that is dead now wrote to its `stderr` file in its last call."""
    size = os.lseek(stderr, 0, os.SEEK_CUR) - _START[2]
    text = _read(stderr, max(_START[2], _START[2] + size - _WORDS_BYTES), min(size, _WORDS_BYTES))
    return text.decode(errors="backslashreplace").strip()


def _text_stream(fd: int) -> TextIO:
    # stderr is written line by line, as everywhere: what a process says before it crashes is not lost.
    return open(fd, "w", buffering=1 if fd == 2 else -1, encoding="utf-8", errors="backslashreplace", closefd=False)
