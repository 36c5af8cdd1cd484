"""What a call left changed in its process is put back, so that the next one starts as the first did.

Called by: running.py.
Put back:  working directory, environment, sys.path, signal handlers, the alarm timer, recursion limit.
Not:       loaded modules and what is in them, random states, threads, locale, umask. Use
           max_tasks_per_child=1 where that matters.
Comparing costs 2 µs a call.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

# The bare functions: signal's own wrap each answer in an enum, which takes ten times as long.
getsignal: Callable[[int], Any] = importlib.import_module("_signal").getsignal
setitimer: Callable[[int, float], Any] = importlib.import_module("_signal").setitimer

_SIGNALS: Final = tuple(set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP})


class Hygiene:
    """Remembers how things are now."""

    def __init__(self) -> None:
        self._directory = _directory()
        self._directory_fd = os.open(".", os.O_RDONLY | os.O_CLOEXEC) if self._directory else -1
        self._environ = os.environ
        self._environment = dict(_content(self._environ))
        self._path = sys.path
        self._path_content = list(sys.path)
        self._handlers = _handlers()
        self._recursion_limit = sys.getrecursionlimit()

    def restore(self) -> None:
        """Put back what has changed."""
        setitimer(signal.ITIMER_REAL, 0)  # before the handlers: a signal that nobody handles kills
        if _directory() != self._directory and self._directory_fd >= 0:
            os.fchdir(self._directory_fd)
        if os.environ is not self._environ:
            os.environ = self._environ  # noqa: B003 - this undoes such an assignment
        if _content(self._environ) != self._environment:
            self._restore_environment()
        if sys.path is not self._path or self._path != self._path_content:
            sys.path = self._path
            sys.path[:] = self._path_content
        if _handlers() != self._handlers:
            self._restore_handlers()
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)

    def keep_path(self) -> None:
        """How sys.path is now is how it shall be."""
        self._path_content = list(self._path)

    def _restore_environment(self) -> None:
        os.environb.clear()
        os.environb.update(self._environment)

    def _restore_handlers(self) -> None:
        for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):  # whoever set one had to set a handler
            setitimer(timer, 0)
        for number, handler in zip(_SIGNALS, self._handlers, strict=False):
            with contextlib.suppress(OSError, TypeError, ValueError):  # one that was not set from Python
                signal.signal(number, handler)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _content(environ: os._Environ[str]) -> dict[bytes, bytes]:
    # The encoded mapping inside os.environ: comparing the public view would decode each value.
    data: dict[bytes, bytes] = environ._data  # type: ignore[attr-defined]  # private, same on 3.10-3.14
    return data


def _handlers() -> list[Any]:
    return list(map(getsignal, _SIGNALS))
