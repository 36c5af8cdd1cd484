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
from math import inf
from typing import Any, Final, TypeVar

from cloudexec.backends.protocol import OutboundCall
from cloudexec.errors import CloudexecError
from cloudexec.future import SIGNALS_WITHIN_S
from cloudexec.serialization import warned

T = TypeVar("T")

_PACK_AT_ONCE: Final = 256  # of inputs that come without running code of the user's
_PURE: Final = (list, tuple, range, dict, set, frozenset, str, bytes, repeat)


class Harvest:
    """Ends of calls, by call number, and one consumer who wants them in order."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[Any, BaseException | None, bytes]] = {}  # the bytes: what the call printed
        self._wanted = -1
        self._arrived = threading.Event()

    def deliver(
        self, call: OutboundCall, value: Any, error: BaseException | None, story: tuple[Any, ...] | None
    ) -> None:
        """See engine.delivery.Sink."""
        self._ends[call.number] = (value, error, b"" if story is None else story[5])
        if self._wanted == call.number:
            self._arrived.set()

    def withdraw(self, call: OutboundCall) -> None:
        """See engine.delivery.Sink."""
        from concurrent.futures import CancelledError

        self.deliver(call, None, CancelledError(), None)

    def follow(self, call: OutboundCall) -> None:
        """See engine.delivery.Sink. Its number stays the same, and nothing else is kept of it."""

    def take(self, number: int, deadline_s: float | None) -> Any:
        """The value of a call, which is forgotten here. Errors: the call's own; TimeoutError."""
        end = self._ends.pop(number, None) or self._wait_for(number, deadline_s)
        value, error, printed = end
        if error is None:
            if printed:
                warned.issue(printed, stacklevel=4)
            return value
        try:
            raise error
        finally:
            del end, error  # a traceback that leads back to itself keeps everything alive

    def _wait_for(self, number: int, deadline_s: float | None) -> tuple[Any, BaseException | None, bytes]:
        self._wanted = number
        while True:
            self._arrived.clear()  # each time: what set it may have been late, and meant an earlier one
            if number in self._ends:
                break
            left_s = inf if deadline_s is None else deadline_s - time.monotonic()
            if left_s <= 0:
                raise _timeout_error()
            self._arrived.wait(min(left_s, SIGNALS_WITHIN_S))
        self._wanted = -1
        return self._ends.pop(number)


class Mapping:
    """One `map`: makes calls from the inputs, keeps at most a window of them open, yields results in order."""

    def __init__(
        self,
        make_calls: Callable[[list[tuple[Any, ...]], Harvest], list[OutboundCall | CloudexecError]],
        submit: Callable[[list[OutboundCall]], None],
        drop: Callable[[list[OutboundCall]], None],
        release: Callable[[], None],
        inputs: Iterator[tuple[Any, ...]],
        pure: bool,
        window: int | None,
        deadline_s: float | None,
    ) -> None:
        self._make_calls = make_calls
        self._submit = submit
        self._drop = drop
        self._release = release  # what all calls share
        self._inputs = inputs
        self._window = window
        self._deadline_s = deadline_s
        self._harvest = Harvest()
        self._open: deque[OutboundCall | CloudexecError] = deque()
        # A generator may change what it has yielded, or wait for the call to start: each input is sent at once.
        self._step = _PACK_AT_ONCE if pure else 1
        try:
            self._advance(window)
        except BaseException:
            self._drop_open()
            raise

    def _advance(self, most: int | None) -> None:
        """Submit up to `most` more calls; all if None."""
        while most is None or most > 0:
            n_now = self._step if most is None else min(most, self._step)
            arguments = list(islice(self._inputs, n_now))
            if not arguments:
                return
            calls = self._make_calls(arguments, self._harvest)
            self._submit([call for call in calls if isinstance(call, OutboundCall)])
            self._open.extend(calls)
            if most is not None:
                most -= len(arguments)

    def results(self) -> Iterator[Any]:
        """Results in order; closing the iterator cancels what is open."""
        results = self._results()
        next(results)  # a generator that has not started would not notice that it is closed
        return results

    def _results(self) -> Iterator[Any]:
        try:
            yield
            while self._open:
                if self._window is not None:
                    self._advance(1)  # before the oldest is yielded, so that the window stays full meanwhile
                yield self._take(self._open.popleft())
        finally:
            self._drop_open()

    def _take(self, entry: OutboundCall | CloudexecError) -> Any:
        if isinstance(entry, CloudexecError):
            raise entry
        return self._harvest.take(entry.number, self._deadline_s)

    def _drop_open(self) -> None:
        self._drop([call for call in self._open if isinstance(call, OutboundCall)])
        self._open.clear()
        self._release()


def zipped(iterables: tuple[Iterable[Any], ...]) -> tuple[Iterator[tuple[Any, ...]], bool]:
    """Argument tuples, up to the shortest input; and whether getting them runs no code of the user's."""
    return zip(*iterables, strict=False), all(type(iterable) in _PURE for iterable in iterables)


def _timeout_error() -> BaseException:
    from concurrent.futures import TimeoutError  # not the built-in one before Python 3.11

    return TimeoutError()
