"""One foreach: its tasks as calls of an executor, and what has become of them.

Called by: server.py.   Calls: executors, cloudexec.r, outcomes.py.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

from cloudexec.adapters.foreach.outcomes import Outcome, outcome_of
from cloudexec.errors import CloudexecError
from cloudexec.executors.base import CloudExecutor, Submits
from cloudexec.r.robject import RObject
from cloudexec.r.snippet import R

_REPLY_BYTES: Final = 32 << 20  # R takes outcomes in pieces of about this size
_REPLY_OUTCOMES: Final = 1000


class Loop:
    """Tasks that share an expression, an environment and packages.

    common: RDS of what they share; one object for all of them, so that it is uploaded once.
    options: see settings.loop_options. wake: called, from any thread, when a task has ended.
    """

    def __init__(
        self,
        executor: CloudExecutor,
        common: bytes,
        packages: tuple[str, ...],
        options: dict[str, Any],
        wake: Callable[[], None],
    ) -> None:
        with_options = {name: value for name, value in options.items() if name != "seed" and value is not None}
        self._view: Submits = executor.with_options(**with_options) if with_options else executor
        self._snippet = snippet(packages)
        self._common = RObject(data=common)
        seed = options.get("seed")
        # Without a seed streams are as good, only nobody can ask for the same ones again.
        self._streams: Iterator[Any] = iter(R.streams(secrets.randbits(31) if seed is None else seed))
        self._wake = wake
        self._open: dict[int, Future[Any]] = {}
        self._ended: deque[tuple[int, Future[Any]]] = deque()

    def submit(self, number: int, args: bytes) -> None:
        """Submit the next task; an executor that is broken is the task's own failure."""
        try:
            future: Future[Any] = self._view.submit(
                self._snippet, self._common, RObject(data=args), next(self._streams)
            )
        except (CloudexecError, BrokenExecutor) as error:
            future = Future()
            future.set_exception(error)
        self._open[number] = future
        future.add_done_callback(partial(self._note, number))

    def ended(self) -> list[Outcome]:
        """What has ended since the last time, or a part of it."""
        outcomes: list[Outcome] = []
        n_bytes = 0
        while self._ended and n_bytes < _REPLY_BYTES and len(outcomes) < _REPLY_OUTCOMES:
            number, future = self._ended.popleft()
            del self._open[number]
            outcomes.append(outcome_of(number, future))
            n_bytes += len(outcomes[-1].value)
        return outcomes

    def is_over(self) -> bool:
        """Whether there is no task of which R has not heard the end."""
        return not self._open

    def drop(self) -> None:
        """Stop what is left; nobody will ask for it."""
        for future in self._open.values():
            stop = getattr(future, "stop", None)
            if stop is not None:
                stop()

    def _note(self, number: int, future: Future[Any]) -> None:
        self._ended.append((number, future))
        self._wake()


@cache
def snippet(packages: tuple[str, ...]) -> R:
    """The R code of a task, with these packages attached."""
    code = files("cloudexec.adapters.foreach").joinpath("task.R").read_text(encoding="utf-8")
    return R(code, packages=packages, returns="plain")
