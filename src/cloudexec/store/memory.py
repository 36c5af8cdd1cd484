"""Looking at memory: where a buffer lies, and whether it equals a file.

Called by: directory.py, executors (for the blob book).   Calls: ctypes, imported on first need (3 ms).
"""

from __future__ import annotations

import mmap
from functools import cache
from typing import Any, Final

_WINDOW_BYTES: Final = 16 << 20
_POPULATE: Final = getattr(mmap, "MAP_POPULATE", 0)


def equals_file(content: memoryview, fd: int) -> bool:
    """Whether a contiguous buffer holds the first `content.nbytes` bytes of a file.

    memcmp reads 40 GB/s where a hash manages 2; the window keeps the process small.
    """
    memcmp = _memcmp()
    start = address_of(content)
    for at in range(0, content.nbytes, _WINDOW_BYTES):
        size = min(_WINDOW_BYTES, content.nbytes - at)
        with mmap.mmap(fd, size, flags=mmap.MAP_SHARED | _POPULATE, prot=mmap.PROT_READ, offset=at) as window:
            same = not memcmp(start + at, address_of(memoryview(window)), size)
        if not same:
            return False
    return True


def address_of(content: memoryview) -> int:
    """Where a contiguous buffer lies, also if it is read-only."""
    get, release, kind = _buffer_calls()
    buffer = kind()
    get(content, buffer, 0)
    try:
        return int(buffer.buf or 0)
    finally:
        release(buffer)


@cache
def _ctypes() -> Any:
    import ctypes

    return ctypes


@cache
def _memcmp() -> Any:
    ctypes = _ctypes()
    memcmp = ctypes.CDLL(None).memcmp
    memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return memcmp


@cache
def _buffer_calls() -> tuple[Any, Any, Any]:
    """PyObject_GetBuffer, PyBuffer_Release, and a structure at least as large as Py_buffer."""
    ctypes = _ctypes()

    class PyBuffer(ctypes.Structure):  # type: ignore[name-defined,misc]  # ctypes is Any here, for the lazy import
        _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 256))

    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get.argtypes = [ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int]
    release.argtypes = [ctypes.POINTER(PyBuffer)]
    release.restype = None
    return get, release, PyBuffer
