"""Where calls go on that ran out of memory: another engine, whose workers are larger.

    engine                                   annex                        engine of larger workers
    ------                                   -----                        ------------------------
    Fail(call, out of memory) -- lend -----> Loan, the sink of a twin --> submit(twin)
    delivers what came back <-- take_back -- deque, then `wake` <-------- how the twin ended
    cancel, stop, running ----------------------------------------------> of the twin

Called by: engine.py, which holds one.   Calls: the other engine, which is made for the first call that is lent.
A call that is lent stays open in its own engine, with its blobs: that engine alone counts it and tells its sink, and
does not end before it is over. The other engine may have an annex in turn. Locks are taken from the smaller engine to
the larger, never back: a larger one only leaves a note and wakes the smaller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudexec.backends.protocol import OutboundCall
from cloudexec.errors import OutOfMemory

if TYPE_CHECKING:
    from cloudexec.engine.engine import Engine


class CameBack(NamedTuple):
    """How a call ended that was lent. See Sink; `is_withdrawn`: it was cancelled."""

    call: OutboundCall
    value: Any = None
    error: BaseException | None = None
    story: tuple[Any, ...] | None = None
    is_withdrawn: bool = False


class Annex:
    """One engine's way to a larger one. `tried`: the sizes in which a call has failed that fails in the last one."""

    def __init__(self, make_engine: Callable[[], Engine], tried: str = "") -> None:
        self._make_engine = make_engine
        self._tried = tried
        self._engine: Engine | None = None
        self._lent: dict[
            int, OutboundCall
        ] = {}  # twins by number; changed on the smaller engine's thread, and by cancel
        self._returned: deque[CameBack] = deque()

    # --- the smaller engine's thread ---

    def lend(self, call: OutboundCall, wake: Callable[[], None]) -> None:
        """Run a call again over there. `wake` tells that something has come back."""
        if self._engine is None:
            self._engine = self._make_engine()
        twin = OutboundCall(
            call.number,
            call.estimate,
            call.options,
            call.function,
            call.packed,
            call.refs,
            call.pickler,
            None,
            call.attachments,
        )
        twin.attempts = call.attempts
        twin.sink = Loan(call, self._returned, wake)
        self._lent[call.number] = twin
        call.sink.follow(twin)
        self._engine.submit([twin])

    @property
    def has_returned(self) -> bool:
        """Whether `take_back` has something to give."""
        return bool(self._returned)

    def take_back(self) -> list[CameBack]:
        """Calls that are over, each once; not those that `cancel` has forgotten."""
        ends = []
        while self._returned:
            end = self._returned.popleft()
            if self._lent.pop(end.call.number, None) is not None:
                ends.append(end._replace(error=self._explained(end.error)))
        return ends

    def drop(self, numbers: Iterable[int]) -> None:
        """Cancel those of these calls that have not started over there; they come back as withdrawn."""
        if self._engine is not None:
            self._engine.drop([self._lent[number] for number in numbers if number in self._lent], tell=True)

    def cancel_all(self, *, kill: bool) -> None:
        """See Engine.cancel_all."""
        if self._engine is not None:
            self._engine.cancel_all(kill=kill)

    def close(self) -> None:
        """End the other engine, and wait for that. Nobody is interested any more in what it still runs."""
        if self._engine is not None:
            self._engine.close(cancel=True, kill=True)
            self._engine.join()

    # --- any thread ---

    @property
    def n_lent(self) -> int:
        """Calls that are over there."""
        return len(self._lent)

    def has(self, number: int) -> bool:
        """Whether a call is over there."""
        return number in self._lent

    def cancel(self, number: int) -> bool:
        """See Engine.cancel. A call that is cancelled is forgotten."""
        twin = self._lent.get(number)
        if twin is None or self._engine is None or not self._engine.cancel(twin):
            return False
        return self._lent.pop(number, None) is not None

    def stop(self, number: int) -> None:
        """See Engine.stop."""
        twin = self._lent.get(number)
        if twin is not None and self._engine is not None:
            self._engine.stop(twin)

    def has_started(self, number: int) -> bool:
        """See Engine.has_started."""
        twin = self._lent.get(number)
        return twin is not None and self._engine is not None and self._engine.has_started(twin)

    def n_running(self) -> int:
        """See Engine.n_running."""
        return self._engine.n_running() if self._engine is not None else 0

    def _explained(self, error: BaseException | None) -> BaseException | None:
        if not self._tried or not isinstance(error, OutOfMemory):
            return error
        explained = OutOfMemory(
            f"{error.what.rstrip()}; it was tried with {self._tried}", error.exitcode, remedy=error.remedy
        )
        explained.__cause__ = error.__cause__
        return explained


class Loan:
    """The sink of a twin: leaves a note for the engine that the call belongs to. See Sink."""

    def __init__(self, call: OutboundCall, returned: deque[CameBack], wake: Callable[[], None]) -> None:
        self._call = call
        self._returned = returned
        self._wake = wake

    def deliver(
        self, call: OutboundCall, value: Any, error: BaseException | None, story: tuple[Any, ...] | None
    ) -> None:
        """See Sink."""
        self._come_back(call, CameBack(self._call, value, error, story))

    def withdraw(self, call: OutboundCall) -> None:
        """See Sink."""
        self._come_back(call, CameBack(self._call, is_withdrawn=True))

    def follow(self, call: OutboundCall) -> None:
        """See Sink. It goes on in a still larger one."""
        self._call.sink.follow(call)

    def _come_back(self, twin: OutboundCall, end: CameBack) -> None:
        self._call.attempts = twin.attempts
        self._returned.append(end)
        self._wake()
