"""A backend that pushes calls: a batch is an invocation, its answer brings the outcomes.

    engine's thread, which is also the loop's                              Lambda
    ----------------------------------------                              ------
    want_lanes ----> lanes.py: how many lanes there may be
    place ---------> sending.py: upload what is large --- Invoke --------> environment
      events <------ answers.py, replies.py <------------ answer <-------- report
    place (long) --> event_invokes.py ------------------- Invoke, Event -> 202; sweep.py waits for the report
    kill_call -----> control.py: the object that running environments look at

Called by: engine.   Calls: the files beside it, pull/loop.py.
Everything but `wake` runs on the engine's thread; the asyncio loop runs only inside `poll` and `stop`.
A lane is a number of ours: permission for one invocation at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from cloudexec.backends.awslambda.answers import Answers
from cloudexec.backends.awslambda.control import Control
from cloudexec.backends.awslambda.flights import Flight, Flights
from cloudexec.backends.awslambda.lanes import Lanes
from cloudexec.backends.awslambda.plan import LambdaPlan, OpenRun, without_bucket
from cloudexec.backends.awslambda.sending import Sending
from cloudexec.backends.protocol import Broken, CallDown, Event, Heard, OutboundCall
from cloudexec.backends.pull.loop import NEVER, EngineLoop
from cloudexec.errors import BlobMissing, CloudexecError, WorkerStartFailed
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.ledger.pace import Pace
from cloudexec.wire.invocation import EventHead

__all__ = ["LambdaBackend", "LambdaPlan", "without_bucket"]

_LAST_UPLOADS_S: Final = 30.0


class _Parts:
    """What does the work, once the run is open."""

    def __init__(self, run: OpenRun, flights: Flights) -> None:
        self.run = run
        self.lanes = Lanes(run, flights)
        self.control = Control(run, flights)
        self.answers = Answers(run, self.control)
        self.sending = Sending(run, flights, self.lanes, self.control, self.answers)

    def next_s(self, now_s: float) -> float:
        """When something is due."""
        return max(now_s, min(self.lanes.next_s(now_s), self.control.due_s))


class LambdaBackend:
    """See Backend. `make_plan` is called when the plan is first needed, `end` when nothing more is."""

    def __init__(self, run_id: str, pace: Pace, make_plan: Callable[[], LambdaPlan], end: Callable[[], None]) -> None:
        self._run_id = run_id
        self._pace = pace
        self._make_plan = make_plan
        self._end = end
        self._plan: LambdaPlan | None = None
        self._parts: _Parts | None = None
        self._loop: EngineLoop | None = None
        self._events: deque[Event] = deque()
        self._flights = Flights()
        self._woken = False
        self._is_broken = False

    @property
    def pace(self) -> Pace:
        """See Backend."""
        return self._pace

    @property
    def queue(self) -> str | None:
        """See Backend."""
        return None

    @property
    def n_refused(self) -> int:
        """Invocations that Lambda has refused (429) so far."""
        return self._parts.lanes.n_refused if self._parts is not None else 0

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend."""
        parts = self._open()
        if parts is not None:
            parts.lanes.want(count)
            self._events.extend(parts.lanes.raised(time.monotonic()))

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        parts = self._open()
        if parts is None or lane not in parts.lanes:
            return
        flight = Flight(lane, calls, _goes_as_event(parts.run.plan, calls))
        self._flights.add(flight)
        flight.task = parts.run.loop.begin(parts.sending.fly(flight))

    def recall(self, lane: str) -> int:
        """See Backend. What was sent is gone."""
        flight = self._flights.find(lane)
        if flight is None or flight.sent_s:
            return 0
        self._flights.drop(flight)
        return len(flight.calls)

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. There is none."""
        return []

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        flight = self._flights.find(lane)
        return len(flight.calls) if flight is not None and not flight.sent_s else 0

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend. Lambda ends no invocation; environments look at the control object, if there is one."""
        parts, flight = self._parts, self._flights.find(lane)
        if parts is None or flight is None or number not in {call.number for call in flight.calls}:
            return
        if parts.run.plan.home is not None and flight.sent_s:
            parts.control.begin().stop_call(number)
            return
        what = "it was not sent" if not flight.sent_s else "without a bucket nothing ends it in Lambda before its time"
        self._tell(CallDown(lane, number, LaneEnd(Cause.CRASH, what, stopped=True)))
        flight.calls = [call for call in flight.calls if call.number != number]
        if not flight.calls and not flight.sent_s:
            self._flights.drop(flight)

    def ping(self, worker: str) -> None:
        """See Backend. There is no worker that could fall silent: each invocation has a deadline of its own."""
        self._events.append(Heard(worker))

    def drop_worker(self, worker: str) -> None:
        """See Backend."""

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend."""
        if self._parts is None:
            raise BlobMissing(f"{ref.name} is named as a result, and there is no bucket")
        return self._parts.answers.result(ref)

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        loop, now_s = self._ensure_loop(), time.monotonic()
        self._turn(now_s)
        wait_s = NEVER if timeout_s is None else timeout_s
        loop.run_for(0.0 if self._events or self._woken else min(wait_s, self._next_s(now_s) - now_s))
        self._woken = False
        self._turn(time.monotonic())
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """See Backend."""
        self._woken = True
        if self._loop is not None:
            self._loop.wake()

    def stop(self, grace_s: float) -> None:
        """See Backend."""
        loop, self._loop = self._ensure_loop(), None
        try:
            if self._parts is not None:
                loop.complete(self._close(self._parts))
        finally:
            try:
                if self._plan is not None and self._plan.home is not None:
                    self._plan.home.tidy()
            finally:
                self._end()
                loop.close()

    def forget_in_child(self) -> None:
        """This process is a fork: what it has copies of belongs to the parent, and is left alone."""

    # --- the loop ---

    def _turn(self, now_s: float) -> None:
        """Whatever is due."""
        parts = self._parts
        if parts is None or self._is_broken:
            return
        self._events.extend(parts.lanes.raised(now_s))
        if parts.control.due_s <= now_s:
            parts.control.begin()

    def _next_s(self, now_s: float) -> float:
        """When `_turn` has something to do."""
        return NEVER if self._parts is None or self._is_broken else self._parts.next_s(now_s)

    def _tell(self, *events: Event) -> None:
        """To the engine, with its next look, which is now."""
        self._events.extend(events)
        if self._loop is not None:
            self._loop.stop()

    def _give_up(self, error: CloudexecError) -> None:
        if not self._is_broken:
            self._is_broken = True
            self._tell(Broken(error))

    # --- beginning and end ---

    def _ensure_loop(self) -> EngineLoop:
        if self._loop is None:
            self._loop = EngineLoop()
        return self._loop

    def _open(self) -> _Parts | None:
        """Make what the run needs, once; None if that failed."""
        if self._plan is None and not self._is_broken:
            loop = self._ensure_loop()
            try:
                self._plan = plan = self._make_plan()
            except CloudexecError as error:
                what = f"run {self._run_id} could not be set up: {error.what}"
                self._give_up(WorkerStartFailed(what, remedy=error.remedy))
                return None
            run = OpenRun(
                id=self._run_id,
                plan=plan,
                client=plan.open_client(),
                loop=loop,
                head=EventHead(plan.key, plan.settings),
                tell=self._tell,
                give_up=self._give_up,
            )
            self._parts = _Parts(run, self._flights)
            plan.on_open()
        return None if self._is_broken else self._parts

    async def _close(self, parts: _Parts) -> None:
        """Have what still runs end, then end what is kept up; close every connection."""
        await parts.control.end(self._flights.sent())
        await parts.run.loop.cancel_all()
        await parts.run.client.aclose()
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), _LAST_UPLOADS_S)


def _goes_as_event(plan: LambdaPlan, calls: Sequence[OutboundCall]) -> bool:
    """Whether no connection should be kept open for so long."""
    above_s = plan.events_above_s
    return plan.home is not None and any((call.options.timeout_s or call.estimate.mean_s) > above_s for call in calls)
