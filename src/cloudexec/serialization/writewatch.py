"""Has a piece of memory been written to? The kernel can tell, in microseconds (Linux 6.7 and later).

Called by: blobs.py.   Calls: userfaultfd and the PAGEMAP_SCAN request, by ctypes.
How:       a watched range is write-protected; the first write to a page lifts the protection, by itself and unseen by
           the writer, and PAGEMAP_SCAN then lists the page. So the same 100 MB array in 200 submits is compared with
           nothing: asking costs 10 µs, where comparing costs 17 ms and hashing 52.
Only private anonymous memory is watched, and only while its owner lives: shared memory and files may be changed
behind our back, and freed memory may be given to somebody else. Everywhere else `arm` answers None.
Source:    Linux Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst; include/uapi/linux/userfaultfd.h, fs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import sys
import threading
from typing import Final, NamedTuple

_SYSCALLS: Final = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY: Final = 1  # no privilege needed
_API: Final = 0xAA
_WP_UNPOPULATED: Final = 1 << 13
_WP_ASYNC: Final = 1 << 15
_MODE_WP: Final = 2
_IO_API: Final = 0xC018AA3F
_IO_REGISTER: Final = 0xC020AA00
_IO_UNREGISTER: Final = 0x8010AA01
_IO_WRITEPROTECT: Final = 0xC018AA06
_IO_PAGEMAP_SCAN: Final = 0xC0606610
_SCAN_CHECK_WPASYNC: Final = 2  # refuse ranges that are not watched
_PAGE_IS_WRITTEN: Final = 2
_MOST_RANGES: Final = 256  # each may split two mappings, of which a process has 65,530


class Watched(NamedTuple):
    """A watched range: `first` to `last` are whole pages; what sticks out at both ends is kept as a copy."""

    address: int
    size: int
    first: int
    last: int
    edges: tuple[bytes, bytes]


class WriteWatch:
    """Watches ranges of this process's memory. Get it with `open_watch`. Thread-safe.

    Watching a range anew forgets what was written to it before; so it ends every older watch that overlaps.
    """

    def __init__(self, fault_fd: int, pages_fd: int) -> None:
        self._fault_fd = fault_fd
        self._pages_fd = pages_fd
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._live: dict[int, Watched] = {}  # by the identity of the answer to `arm`

    def arm(self, address: int, size: int) -> Watched | None:
        """Watch a range from now on; None where that cannot be done. Read the bytes only afterwards."""
        page = os.sysconf("SC_PAGESIZE")
        first, last = -(-address // page) * page, (address + size) // page * page
        if first >= last or os.getpid() != self._pid:
            return None
        with self._lock:
            self._live = {key: other for key, other in self._live.items() if other.last <= first or last <= other.first}
            if len(self._live) >= _MOST_RANGES or not self._protect(first, last):
                return None
            watched = Watched(address, size, first, last, _edges(address, size, first, last))
            self._live[id(watched)] = watched
            return watched

    def _protect(self, first: int, last: int) -> bool:
        try:
            if not _is_private(first, last):
                return False
            fcntl.ioctl(self._fault_fd, _IO_REGISTER, bytearray(struct.pack("<4Q", first, last - first, _MODE_WP, 0)))
            fcntl.ioctl(self._fault_fd, _IO_WRITEPROTECT, bytearray(struct.pack("<3Q", first, last - first, 1)))
        except OSError:
            return False
        return True

    def is_untouched(self, watched: Watched) -> bool:
        """Whether nothing was written to the range since `arm`. The memory must still be its owner's."""
        with self._lock:
            if self._live.get(id(watched)) is not watched or os.getpid() != self._pid or self._is_written(watched):
                return False
        return _edges(watched.address, watched.size, watched.first, watched.last) == watched.edges

    def _is_written(self, watched: Watched) -> bool:
        found = (ctypes.c_uint64 * 3)()
        request = struct.pack(
            "<12Q",
            96,
            _SCAN_CHECK_WPASYNC,
            watched.first,
            watched.last,
            0,
            ctypes.addressof(found),
            1,
            1,  # one page is enough to know
            0,
            _PAGE_IS_WRITTEN,
            0,
            _PAGE_IS_WRITTEN,
        )
        try:
            return bool(fcntl.ioctl(self._pages_fd, _IO_PAGEMAP_SCAN, bytearray(request)))
        except OSError:  # no longer watched: it was freed and mapped anew
            return True

    def disarm(self, watched: Watched) -> None:
        """Watch a range no more."""
        with self._lock:
            if self._live.pop(id(watched), None) is None or os.getpid() != self._pid:
                return
            span = bytearray(struct.pack("<2Q", watched.first, watched.last - watched.first))
            with contextlib.suppress(OSError):  # it was unmapped meanwhile
                fcntl.ioctl(self._fault_fd, _IO_UNREGISTER, span)


_watch: WriteWatch | None = None
_asked = False


def open_watch() -> WriteWatch | None:
    """The process's watch; None where the kernel cannot, or a sandbox forbids it. All users share one."""
    global _watch, _asked
    if not _asked:
        _asked = True
        _watch = _open()
    return _watch


def _open() -> WriteWatch | None:
    number = _SYSCALLS.get(os.uname().machine)
    if sys.platform != "linux" or number is None or struct.calcsize("P") != 8:
        return None
    fault_fd = ctypes.CDLL(None).syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if fault_fd < 0:
        return None
    try:
        wanted = _WP_ASYNC | _WP_UNPOPULATED
        fcntl.ioctl(fault_fd, _IO_API, bytearray(struct.pack("<3Q", _API, wanted, 0)))
        return WriteWatch(fault_fd, os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:  # an older kernel
        os.close(fault_fd)
        return None


def _edges(address: int, size: int, first: int, last: int) -> tuple[bytes, bytes]:
    """The bytes before the first and behind the last whole page."""
    return ctypes.string_at(address, first - address), ctypes.string_at(last, address + size - last)


def _is_private(first: int, last: int) -> bool:
    """Whether a range lies in private anonymous mappings only, which no other process can write."""
    at = first
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights, _offset, _device, inode = line.split(None, 5)[:5]
            start, end = (int(part, 16) for part in span.split("-"))
            if end <= at:
                continue
            if start > at or not rights.startswith("rw") or rights[3] != "p" or inode != "0":
                return False
            at = end
            if at >= last:
                return True
    return False
