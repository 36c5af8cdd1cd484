"""`map`: results in order, inputs as lazily as asked, open calls cancelled when the iterator is closed.

Called by: base.py.   Calls: the engine, through `Submitter`.
A call of `map` has no future: its result goes to a `Harvest`, which costs a tenth of one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any, Final, TypeVar

from cloudexec.backends.protocol import OutboundCall

T = TypeVar("T")

_PACK_AT_ONCE: Final = 256
_PURE: Final = (list, tuple, range, dict, set, frozenset, str, bytes, repeat)


class Harvest:
    """Ends of calls, by call number, and one consumer who wants them in order."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[Any, BaseException | None]] = {}
        self._wanted = -1
        self._arrived = threading.Event()

    def deliver(
        self, call: OutboundCall, value: Any, error: BaseException | None, story: tuple[Any, ...] | None
    ) -> None:
        """See engine.Sink."""
        self._ends[call.number] = (value, error)
        if self._wanted == call.number:
            self._arrived.set()

    def withdraw(self, call: OutboundCall) -> None:
        """See engine.Sink."""
        from concurrent.futures import CancelledError

        self.deliver(call, None, CancelledError(), None)

    def take(self, number: int, deadline_s: float | None) -> Any:
        """The value of a call, which is forgotten here. Errors: the call's own; TimeoutError."""
        end = self._ends.pop(number, None) or self._wait_for(number, deadline_s)
        value, error = end
        if error is None:
            return value
        try:
            raise error
        finally:
            del end, error  # a traceback that leads back to itself keeps everything alive

    def _wait_for(self, number: int, deadline_s: float | None) -> tuple[Any, BaseException | None]:
        self._arrived.clear()
        self._wanted = number
        while number not in self._ends:
            wait_s = None if deadline_s is None else deadline_s - time.monotonic()
            if wait_s is not None and wait_s <= 0:
                raise _timeout_error()
            self._arrived.wait(wait_s)
        self._wanted = -1
        return self._ends.pop(number)


class Mapping:
    """One `map`: makes calls from the inputs, keeps at most a window of them open, yields results in order."""

    def __init__(
        self,
        make_calls: Callable[[list[tuple[Any, ...]], Harvest], list[OutboundCall]],
        submit: Callable[[list[OutboundCall]], None],
        cancel: Callable[[OutboundCall], bool],
        inputs: Iterator[tuple[Any, ...]],
        window: int | None,
        deadline_s: float | None,
    ) -> None:
        self._make_calls = make_calls
        self._submit = submit
        self._cancel = cancel
        self._inputs = inputs
        self._window = window
        self._deadline_s = deadline_s
        self._harvest = Harvest()
        self._open: deque[OutboundCall] = deque()
        self._advance(window)

    def _advance(self, most: int | None) -> None:
        """Submit up to `most` more calls; all if None."""
        while most is None or most > 0:
            n_now = _PACK_AT_ONCE if most is None else min(most, _PACK_AT_ONCE)
            arguments = list(islice(self._inputs, n_now))
            if not arguments:
                return
            calls = self._make_calls(arguments, self._harvest)
            self._submit(calls)
            self._open.extend(calls)
            if most is not None:
                most -= len(arguments)

    def results(self) -> Iterator[Any]:
        """Results in order; closing the iterator cancels what is open."""
        try:
            while self._open:
                if self._window is not None:
                    self._advance(1)  # before the oldest is yielded, so that the window stays full meanwhile
                yield self._harvest.take(self._open.popleft().number, self._deadline_s)
        finally:
            for call in self._open:
                self._cancel(call)
            self._open.clear()


def zipped(iterables: tuple[Iterable[Any], ...]) -> tuple[Iterator[tuple[Any, ...]], bool]:
    """Argument tuples, up to the shortest input; and whether getting them runs no code of the user's."""
    return zip(*iterables, strict=False), all(type(iterable) in _PURE for iterable in iterables)


def _timeout_error() -> BaseException:
    from concurrent.futures import TimeoutError  # not the built-in one before Python 3.11

    return TimeoutError()
