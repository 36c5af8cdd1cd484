"""A process and all that came from it.

Called by: process.py, launching.py.
On Linux R is the one to whom orphans of its family return (launching.py asks for that), so a walk down from R
finds what a call has left behind, too. Elsewhere only those are found whose parents still live.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Final, NamedTuple

_LINUX: Final = sys.platform.startswith("linux")
_ROUNDS: Final = 200  # one that forks faster than we kill shall not keep us for ever
_ROUND_S: Final = 0.002
_EXIT_CODE_FIELD: Final = 49  # of /proc/PID/stat, counted from the state


class Family(NamedTuple):
    """Descendants of a process: those that run, and those that are dead and were not buried."""

    living: list[int]
    dead: list[int]


def family(pid: int) -> Family:
    """All descendants."""
    living: list[int] = []
    dead: list[int] = []
    children = _children if _has_lists() else _listed_children()
    waiting = children(pid)
    while waiting:
        each = waiting.pop()
        if has_ended(each):
            dead.append(each)
        else:
            living.append(each)
            waiting += children(each)
    return Family(living, dead)


def is_alone(child: int, parent: int) -> bool:
    """Whether a process that is about to end has no children, and its parent no other; False where it is not known.

    In this order: what the child has had when it ended is its parent's.
    """
    return _has_lists() and not _children(child) and set(_children(parent)) <= {child}


def kill_family(pid: int, *, itself: bool) -> int:
    """Kill all descendants, and the process too if asked; how many dead ones wait for their parent."""
    for _ in range(_ROUNDS):
        found = family(pid)
        if itself:  # after the walk: its orphans would go elsewhere
            kill(pid)
        for each in found.living:
            kill(each)
        if not found.living:
            return len(found.dead)
        time.sleep(_ROUND_S)
    return len(found.dead)


def kill(pid: int) -> None:
    """SIGKILL, if there is somebody to kill."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be buried."""
    if _LINUX:
        fields = _stat(pid)
        return not fields or fields[0] in ("Z", "X")
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not done.stdout.strip() or done.stdout.strip().startswith("Z")


def how_it_ended(pid: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of one that waits to be buried by somebody else; (None, None) where nobody can tell."""
    fields = _stat(pid) if _LINUX else []
    if len(fields) <= _EXIT_CODE_FIELD or fields[0] != "Z":
        return None, None
    status = int(fields[_EXIT_CODE_FIELD])
    return (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)


def watched(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; -1 where there is none."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


def _stat(pid: int) -> list[str]:
    """The fields after the program's name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return []


def _has_lists() -> bool:
    return _LINUX and os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:  # it has gone meanwhile
        pass
    return found


class _listed_children:  # it stands where the function stands
    """The same from a list of all processes, for systems that keep no list for each."""

    def __init__(self) -> None:
        self._by_parent: dict[int, list[int]] = {}
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            pid, parent = map(int, line.split())
            self._by_parent.setdefault(parent, []).append(pid)

    def __call__(self, pid: int) -> list[int]:
        return list(self._by_parent.get(pid, ()))
