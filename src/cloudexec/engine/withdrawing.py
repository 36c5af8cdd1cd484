"""Calls that are not wanted any more: cancelled before they start, or stopped while they run.

Called by: engine.py, on its thread and under its lock.   Calls: ledger, backend, annex.
A call that nobody has placed is forgotten at once. One that was placed is taken back first: out of its slot's lane,
which tells for certain whether it has started, or out of the queue that slots share, which tells that nobody had it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cloudexec.backends.protocol import Backend, OutboundCall
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause, State
from cloudexec.ledger.ledger import NEVER, Ledger

if TYPE_CHECKING:
    from cloudexec.engine.annex import Annex

_STOP_AGAIN_S: Final = 0.05
_SETTLE_S: Final = 0.05


class Owner(Protocol):
    """What is needed of the engine."""

    def act(self, now_s: float) -> None:
        """Carry out what the ledger wants."""
        ...

    def is_open(self, call: OutboundCall) -> bool:
        """Whether a call is still the engine's."""
        ...

    def note_cancelled(self, call: OutboundCall) -> None:
        """A call will never run."""
        ...


class Withdrawing:
    """Takes calls back, and goes on trying to stop those that run."""

    def __init__(self, owner: Owner, ledger: Ledger, backend: Backend, annex: Annex | None) -> None:
        self._owner = owner
        self._ledger = ledger
        self._backend = backend
        self._annex = annex
        self._queue = backend.queue
        self._withdrawn: list[OutboundCall] = []  # whose sinks are to be told
        self._stopping: list[OutboundCall] = []
        self._stop_again_at = NEVER
        self._settle_at = NEVER
        self._taken: set[int] = set()  # calls of a shared queue that slots must have, though nobody has told yet

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self._stop_again_at, self._settle_at)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._stop_again_at:
            self._stop(self._stopping, now_s)
        if now_s >= self._settle_at:
            self._settle_at = NEVER
            self._ledger.settle(now_s)

    def take_withdrawn(self) -> list[OutboundCall]:
        """Calls that are withdrawn, each given once: their sinks are to be told."""
        withdrawn, self._withdrawn = self._withdrawn, []
        return withdrawn

    def is_taken(self, number: int) -> bool:
        """Whether a call of a shared queue was looked for there, and a slot had it."""
        return number in self._taken

    def is_stopping(self, call: OutboundCall) -> bool:
        """Whether a call is to be stopped."""
        return call in self._stopping

    def over(self, number: int) -> None:
        """A call is over, or elsewhere."""
        self._taken.discard(number)

    # --- what is asked for ---

    def cancel_pending(self, call: OutboundCall) -> bool:
        """Forget a call that nobody has placed."""
        if not self._owner.is_open(call) or not self._ledger.cancel(call):
            return False
        self._owner.note_cancelled(call)
        return True

    def cancel(self, call: OutboundCall, now_s: float) -> bool:
        """Forget a call unless it has started."""
        if call.lane is not None:
            self._recall(call.lane, now_s)
        cancelled = self.cancel_pending(call)
        if call.lane == self._queue and call.state is State.PLACED:
            self._taken.add(call.number)  # it is not in the queue any more, so that a slot has it
        self._settle_later(now_s)
        return cancelled

    def drop(self, calls: list[OutboundCall], now_s: float, *, tell: bool) -> None:
        """Forget calls unless they have started; their sinks are told only if `tell`."""
        if self._annex is not None:
            self._annex.drop(call.number for call in calls)
            calls = [call for call in calls if not self._annex.has(call.number)]
        for lane in {call.lane for call in calls if call.lane is not None}:
            self._recall(lane, now_s)
        for call in calls:
            if self.cancel_pending(call) and tell:
                self._withdrawn.append(call)
        self._settle_later(now_s)

    def stop(self, call: OutboundCall, now_s: float) -> None:
        """Kill a call that runs, or cancel it, and go on until it is over."""
        self._stop([*self._stopping, call], now_s)

    def cancel_all(self, now_s: float, *, kill: bool) -> None:
        """Forget what has not started; `kill`: everything."""
        for lane in self._ledger.lane_counts():
            self._recall(lane, now_s)
        if self._queue is not None and not kill:
            self._recall(self._queue, now_s)
        for call in self._ledger.pending_calls():
            assert isinstance(call, OutboundCall)
            if self.cancel_pending(call):
                self._withdrawn.append(call)
        if self._annex is not None:
            self._annex.cancel_all(kill=kill)
        if kill:
            self._ledger.break_down(LaneEnd(Cause.LOST, "the workers were terminated", stopped=True))

    # --- how ---

    def _stop(self, calls: list[OutboundCall], now_s: float) -> None:
        """A worker kills only what it sees running, and a call that a slot has claimed begins a moment later."""
        for call in calls:
            if self._annex is not None and self._annex.has(call.number):  # lent meanwhile
                self._annex.stop(call.number)
        self._stopping = [call for call in calls if call.state is not State.DONE and not self._is_lent(call)]
        self._stop_again_at = now_s + _STOP_AGAIN_S if self._stopping else NEVER
        for call in self._stopping:
            if call.lane is not None:
                self._backend.kill_call(call.lane, call.number)
            elif self.cancel_pending(call):  # it has come back from a lane meanwhile
                self._withdrawn.append(call)

    def _is_lent(self, call: OutboundCall) -> bool:
        return self._annex is not None and self._annex.has(call.number)

    def _settle_later(self, now_s: float) -> None:
        """Free slots get new calls: those of a queue a little later, for who cancels one call may cancel more."""
        if self._queue is None:
            self._ledger.settle(now_s)
        else:
            self._settle_at = now_s + _SETTLE_S

    def _recall(self, lane: str, now_s: float) -> None:
        """Take back what a lane has not started; what the ledger has just given it must have left first."""
        self._owner.act(now_s)
        if lane == self._queue:
            self._ledger.recalled(lane, self._backend.recall_queue())
        else:
            self._ledger.returned(lane, self._backend.recall(lane), now_s, place=False)
