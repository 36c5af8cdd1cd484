"""What an engine is asked and answers, and the engines of this process.

Called by: snippet.py.   Calls: rscript, rpy2 (the engines), on first use.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from cloudexec.errors import SettingsError

IDLE_S: Final = 60.0  # after it an engine that is one too many ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of R code. code: R source, or with kind "call" a function's name. name: the source's, for tracebacks.

    returns: "auto", "object", "plain" or "none". seed: seven integers of `.Random.seed`. outputs: globs of files.
    """

    code: str
    name: str = "<R>"
    kind: str = "snippet"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    returns: str = "auto"
    seed: tuple[int, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RWarned:
    """A warning: R's words, and the call that it blames (or empty)."""

    message: str
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of it. used_rng: random numbers were drawn without a seed."""

    value: Any = None
    warnings: tuple[RWarned, ...] = ()
    used_rng: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)


class Engine(Protocol):
    """An R that runs one request at a time, and can be used again whatever came of the last."""

    def run(self, request: Request) -> Reply:
        """Run it. Errors: RError and its kin, RConversionError, RMissing."""

    def close(self) -> None:
        """End it and everything that it started."""

    def forget(self) -> None:
        """We are a fork of the process whose engine it is: let go of it, and leave it alone."""


class Key(NamedTuple):
    """What makes engines interchangeable. program: which R, by its path."""

    engine: str
    isolation: str
    packages: tuple[str, ...]
    program: str


class _Idle(NamedTuple):
    since_s: float
    key: Key
    engine: Engine


class Pool:
    """Engines of this process that wait for their next call. Each thread that calls has one to itself.

    make: starts an engine. most_idle: how many may wait for longer than idle_s.
    """

    def __init__(self, make: Callable[[Key], Engine], *, most_idle: int | None = None, idle_s: float = IDLE_S) -> None:
        self._make = make
        self._most_idle = 2 * (os.cpu_count() or 1) if most_idle is None else most_idle
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []  # the longest idle first
        self._busy: list[Engine] = []
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def run(self, key: Key, request: Request) -> Reply:
        """Run a request on an engine that waits, or on a new one. Errors: those of Engine.run."""
        engine = self._take(key)
        try:
            return engine.run(request)
        finally:
            self._put_back(key, engine)

    def close(self) -> None:
        """End all engines. Those that calls of other threads use end, too, and these calls with them."""
        with self._lock:
            engines = [idle.engine for idle in self._idle] + self._busy
            self._idle, self._busy, self._is_closed = [], [], True
            self._cancel_timer()
        for engine in engines:
            engine.close()

    def forget(self) -> None:
        """After a fork: the engines are our parent's, and whoever held the lock is not here."""
        engines = [idle.engine for idle in self._idle] + self._busy
        self._lock = threading.Lock()
        self._idle, self._busy, self._timer = [], [], None
        for engine in engines:
            engine.forget()

    def __len__(self) -> int:
        """How many engines wait."""
        return len(self._idle)

    def _take(self, key: Key) -> Engine:
        with self._lock:
            for position in range(len(self._idle) - 1, -1, -1):  # the warmest first
                if self._idle[position].key == key:
                    engine = self._idle.pop(position).engine
                    break
            else:
                engine = self._make(key)
            self._busy.append(engine)
            return engine

    def _put_back(self, key: Key, engine: Engine) -> None:
        with self._lock:
            if engine not in self._busy:  # the pool was closed, or we are in a fork
                return
            self._busy.remove(engine)
            self._idle.append(_Idle(time.monotonic(), key, engine))
            if len(self._idle) > self._most_idle and self._timer is None:
                self._set_timer()

    def _retire(self) -> None:
        """End those that are too many and have waited long enough."""
        with self._lock:
            self._timer = None
            too_many = max(0, len(self._idle) - self._most_idle)
            until_s = time.monotonic() - self._idle_s
            old = [idle for idle in self._idle[:too_many] if idle.since_s <= until_s]
            self._idle = self._idle[len(old) :]
            if too_many > len(old):
                self._set_timer()
        for idle in old:
            idle.engine.close()

    def _set_timer(self) -> None:
        """A thread: only where so many calls ran at once that there are threads already (or many sets of packages)."""
        due_s = self._idle[0].since_s + self._idle_s - time.monotonic()
        self._timer = threading.Timer(max(0.01, due_s), self._retire)
        self._timer.daemon = True
        self._timer.start()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def run(request: Request, *, engine: str = "rscript", isolation: str = "fork") -> Reply:
    """Run a request on an engine of this process; engines are kept for the next ones.

    engine: "rscript" or "rpy2". isolation: "fork", "process" or "session". Errors: those of Engine.run.
    """
    if engine not in ("rscript", "rpy2") or isolation not in ("fork", "process", "session"):
        raise SettingsError(f"there is no engine={engine!r} with isolation={isolation!r}")
    key = Key(engine, isolation, tuple(sorted(set(request.packages), key=request.packages.index)), _program())
    return _pool().run(key, request)


def close() -> None:
    """End all engines of this process; the next call starts new ones."""
    global _the_pool
    pool, _the_pool = _the_pool, None
    if pool is not None:
        pool.close()


_the_pool: Pool | None = None
_first = threading.Lock()


def _pool() -> Pool:
    global _the_pool
    with _first:
        if _the_pool is None:
            from cloudexec.r.rscript.places import sweep

            sweep()
            _the_pool = Pool(_start)
        return _the_pool


def _start(key: Key) -> Engine:
    if key.engine == "rpy2":
        from cloudexec.r.rpy2.engine import Rpy2Engine

        made: Engine = Rpy2Engine(isolation=key.isolation, packages=key.packages, rscript=key.program)
        return made
    from cloudexec.r.rscript.engine import RscriptEngine

    return RscriptEngine(isolation=key.isolation, packages=key.packages, rscript=key.program)


def _program() -> str:
    """Which R, as far as it can be chosen."""
    from cloudexec.r.rscript.finding import rscript

    return rscript()


def _forget() -> None:
    global _the_pool, _first
    pool, _the_pool, _first = _the_pool, None, threading.Lock()
    if pool is not None:
        pool.forget()


os.register_at_fork(after_in_child=_forget)
atexit.register(close)
