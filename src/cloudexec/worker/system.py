"""What Linux offers beyond POSIX, with substitutes elsewhere.

Called by: supervisor.py, slot.py, capture.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from typing import Final

_LINUX: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1
OOM_VARIABLE: Final = "CLOUDEXEC_MEMORY_EVENTS"  # names the file that counts, where somebody plays the kernel
_LIBC: Final = ctypes.CDLL(None)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux)."""
    if _LINUX:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before we asked
            os._exit(1)


def watch_process(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; -1 where there is none."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            return os.pidfd_open(pid)
    return -1


def flush_c_streams() -> None:
    """Have the C library write out what native code printed."""
    _LIBC.fflush(None)


def nameless_file() -> int:
    """A descriptor of a new empty file that goes when it is closed."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.memfd_create("cloudexec-output")
    import tempfile

    fd, path = tempfile.mkstemp(prefix="cloudexec-output-")
    os.unlink(path)
    return fd


def high_descriptor(fd: int) -> int:
    """The same file under a descriptor that code which closes 0 to 9 does not meet."""
    import fcntl

    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(fd)
    return high


def wipe_from_environment(name: str) -> None:
    """Remove a variable, and overwrite the text with which the process was started: /proc/PID/environ shows it."""
    if _LINUX:
        find = _LIBC.getenv
        find.restype = ctypes.c_void_p
        if address := find(name.encode()):
            ctypes.memset(address, 0, len(os.environb.get(name.encode(), b"")))
    os.environ.pop(name, None)


def kill_group(pid: int) -> None:
    """Kill the leader of a process group and all that still belong to the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def reap_strangers(ours: Collection[int]) -> None:
    """Bury children that are not `ours`: in a container we may be process 1, which inherits all orphans."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid not in ours:
            os.waitpid(found.si_pid, os.WNOHANG)


def reset_peak_memory() -> None:
    """Let the peak of this process's memory start again from what it uses now (Linux)."""
    if _LINUX:
        with contextlib.suppress(OSError):
            fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
            try:
                os.write(fd, b"5")
            finally:
                os.close(fd)


class OomCounter:
    """How many processes the kernel has killed for memory, in our control group if it counts them.

    path: a file with a line `oom_kill N`.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path or _oom_source()
        self._last = self._read()

    def has_risen(self) -> bool:
        """Whether somebody was killed since the last time we looked."""
        before, self._last = self._last, self._read()
        return self._last > before

    def _read(self) -> int:
        with contextlib.suppress(OSError, ValueError, IndexError), open(self._path) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0


def _oom_source() -> str:
    if told := os.environ.get(OOM_VARIABLE):
        return told
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                path = f"/sys/fs/cgroup{line[3:].strip()}/memory.events"
                if os.path.exists(path):
                    return path
    return "/proc/vmstat"
