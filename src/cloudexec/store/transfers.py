"""Large strings in pieces: how they are cut, and how several move at once.

Called by: s3.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from cloudexec.store.protocol import Bytes

PART_BYTES: Final = 8 << 20
MOST_PARTS: Final = 10_000  # S3's limit
_THREADS: Final = 8  # one connection to S3 carries some 80 MB/s


def part_bytes_of(size: int) -> int:
    """How large parts are, so that a string of `size` bytes has no more of them than S3 takes."""
    return max(PART_BYTES, -(-size // MOST_PARTS))


def ranges(size: int, step: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """The stretches of `step` bytes, the last one shorter, from `start` to `size`."""
    for at in range(start, size, step):
        yield at, min(at + step, size)


def cut(pieces: Sequence[Bytes], step: int) -> Iterator[list[memoryview]]:
    """The bytes of all pieces, in lists of `step` bytes each, the last one shorter; nothing is copied."""
    part: list[memoryview] = []
    room = step
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while view:
            part.append(view[:room])
            view, room = view[room:], room - len(part[-1])
            if not room:
                yield part
                part, room = [], step
    if part:
        yield part


def together(jobs: Sequence[Callable[[], None]]) -> None:
    """Do all jobs, several at once. After the first failure no more begin; it is raised when those under way are over.

    So whoever cleans up afterwards meets no straggler.
    """
    work = _Work(jobs)
    n_others = min(_THREADS, len(jobs)) - 1
    threads = [threading.Thread(target=work.run, name="cloudexec-transfer", daemon=True) for _ in range(n_others)]
    try:
        for thread in threads:
            thread.start()
        work.run()
    finally:
        work.is_over = True  # an interrupt of the caller's thread ends the others, too
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if work.failure is not None:
        raise work.failure


class _Work:
    """Jobs that several threads take from."""

    def __init__(self, jobs: Iterable[Callable[[], None]]) -> None:
        self._jobs = iter(jobs)
        self._lock = threading.Lock()
        self.is_over = False
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Take and do jobs until there are none, or one has failed."""
        try:
            while (job := self._next()) is not None:
                job()
        except Exception as error:
            self.is_over = True
            self.failure = self.failure or error

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            return None if self.is_over else next(self._jobs, None)
