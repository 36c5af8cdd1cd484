"""Room for copies of many middle-sized buffers.

Called by: packer.py.
Each submit copies its arguments' buffers. On fresh pages of 4 KiB that costs a page fault for each, which is three
quarters of the time; a slab asks for huge pages and hands out slices. It is freed with the last of its slices.
"""

from __future__ import annotations

import mmap
import threading
from typing import Final

_SLAB_BYTES: Final = 8 << 20
_ALIGNED: Final = 64


class Slabs:
    """Copies buffers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = memoryview(b"")

    def copy(self, content: memoryview) -> memoryview:
        """The same bytes, in memory that nobody else writes."""
        size = content.nbytes
        if size > _SLAB_BYTES // 2:
            return memoryview(bytes(content))
        with self._lock:
            if size > len(self._room):
                self._room = _new_slab()
            copy, self._room = self._room[:size], self._room[-(-size // _ALIGNED) * _ALIGNED :]
        copy[:] = content.cast("B")
        return copy


def _new_slab() -> memoryview:
    slab = mmap.mmap(-1, _SLAB_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        slab.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(slab)
