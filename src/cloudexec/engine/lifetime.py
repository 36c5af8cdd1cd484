"""Interpreter exit and forks: what happens to engines that are alive then.

Called by: engine.py registers itself.
At exit, open calls are finished first, as the standard library does; after an uncaught Ctrl-C they are killed.
A Ctrl-C that strikes while Python begins to end makes it skip what waits there, so there is a second net.
In a forked child the parent's pipes are closed, so that the child cannot keep the parent's workers alive.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from typing import Final, Protocol

_AGAIN_S: Final = 1.0


class Lived(Protocol):
    """What this module needs of an engine."""

    def leave(self, *, kill: bool) -> None:
        """Shut down and wait."""
        ...

    def forget_in_child(self) -> None:
        """Close every descriptor; this process is a fork."""
        ...


class End:
    """Comes once, and is waited for by threads that Ctrl-C may interrupt at any point.

    A `threading.Event` is left locked, for ever, when that happens just after its lock was taken. Here nobody who
    waits holds anything that `come` needs; and a lock that was left taken costs others who wait a second.
    """

    def __init__(self) -> None:
        self._is_here = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def come(self) -> None:
        """Now."""
        self._is_here = True
        self._lock.release()

    def wait(self) -> None:
        """Until it has come."""
        while not self._is_here:
            if self._lock.acquire(timeout=_AGAIN_S):
                self._lock.release()


_alive: weakref.WeakSet[Lived] = weakref.WeakSet()
_registered = False


def register(engine: Lived) -> None:
    """Look after an engine until it is gone."""
    global _registered
    _alive.add(engine)
    if not _registered:
        _registered = True
        # What concurrent.futures uses itself: runs before the interpreter waits for threads, while new threads
        # and results are still possible. The public `atexit` comes too late for that.
        threading._register_atexit(_at_exit)  # type: ignore[attr-defined]  # private, in every Python since 3.9
        atexit.register(_at_last)
        os.register_at_fork(after_in_child=_after_fork)


def unregister(engine: Lived) -> None:
    """The engine has ended by itself."""
    _alive.discard(engine)


def _at_exit() -> None:
    interrupted = issubclass(getattr(sys, "last_type", None) or Exception, KeyboardInterrupt)
    interrupt: KeyboardInterrupt | None = None
    for engine in list(_alive):
        try:
            engine.leave(kill=interrupted or interrupt is not None)
        except KeyboardInterrupt as error:  # the user does not want to wait; whoever is still open is killed
            interrupt = error
            engine.leave(kill=True)
    if interrupt is not None:
        raise interrupt


def _at_last() -> None:
    """Nobody is alive here unless `_at_exit` was skipped. The engines' threads still run."""
    for engine in list(_alive):
        engine.leave(kill=True)


def _after_fork() -> None:
    for engine in list(_alive):
        engine.forget_in_child()
    _alive.clear()
