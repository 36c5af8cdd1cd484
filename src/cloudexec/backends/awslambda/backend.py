"""A backend that pushes calls: a batch is an invocation, its answer brings the outcomes.

    engine's thread, which is also the loop's                              Lambda
    ----------------------------------------                              ------
    want_lanes ----> admission: how many lanes there may be
    place ---------> _Flight: upload what is large --- Invoke ----------> environment
      events <------ replies <------------------------ answer <---------- report
    place (long) --> _Flight ------------------------- Invoke, Event ---> 202; sweep.py waits for the report
    kill_call -----> control object (pull/control.py), which running environments look at

Called by: engine.   Calls: the files beside it, pull/loop.py, pull/control.py.
Everything but `wake` runs on the engine's thread; the asyncio loop runs only inside `poll` and `stop`.
A lane is a number of ours: permission for one invocation at a time. One that Lambda refuses gives its calls back and is
gone; new ones come as admission allows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cloudexec.backends.awslambda.admission import Admission
from cloudexec.backends.awslambda.discovery import FunctionFacts
from cloudexec.backends.awslambda.probe import Probe
from cloudexec.backends.awslambda.replies import (
    Fate,
    Refused,
    all_down,
    as_broken,
    read_failure,
    read_refusal,
    read_report,
)
from cloudexec.backends.awslambda.sweep import Sweep
from cloudexec.backends.protocol import Broken, CallDown, Event, Heard, LaneDown, LaneUp, OutboundCall, Outcomes
from cloudexec.backends.pull.control import ControlWriter, beat_every_s
from cloudexec.backends.pull.home import Home
from cloudexec.backends.pull.inbox import results_outside
from cloudexec.backends.pull.loop import NEVER, EngineLoop
from cloudexec.errors import (
    AwsError,
    BlobMissing,
    CloudexecError,
    InvocationThrottled,
    PayloadTooLarge,
    RunTakenOver,
    SettingsError,
    WireError,
    WorkerStartFailed,
)
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.ledger.pace import Pace
from cloudexec.serialization.failures import pack_failure
from cloudexec.transport import lambdas, s3
from cloudexec.transport.account import AwaitedClient
from cloudexec.transport.lambdas import Invocation
from cloudexec.transport.operation import Operation
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import (
    MOST_EVENT,
    MOST_PAYLOAD,
    EventHead,
    InvocationSettings,
    decode_answer,
    open_report,
)
from cloudexec.wire.mail import Report, decode_report
from cloudexec.wire.messages import Outcome, Verdict, encode_batch

log = logging.getLogger(__name__)

WORKER: Final = "lambda"
_CONTROL_AFTER_S: Final = 1.0  # an invocation that is in flight so long is worth a heartbeat object
_SILENT_S: Final = 5.0  # so long nothing may be taken before somebody who watches is told, and again so often:
_TELL_EVERY_S: Final = 60.0
_SURELY_SENT_S: Final = 60.0  # that nobody can be reached is known sooner
_MOST_BROKEN: Final = 3
_FETCHES_AT_ONCE: Final = 64
_EARLY_MARGIN_S: Final = 0.3  # an early report is written a moment after it is due
_EVENT_AGAIN_S: Final = (0.1, 0.5, 2.0, 8.0)
_READ_MARGIN_S: Final = 30.0  # answers may take so much longer than the function's timeout
_LAST_UPLOADS_S: Final = 30.0
_THROTTLED: Final = LaneEnd(Cause.LOST, "Lambda had no room for it", retired=True)


class BlobStore(Protocol):
    """Where arguments were put and results come from."""

    def get(self, name: str) -> memoryview:
        """See store.protocol.Store."""
        ...

    def is_done(self, name: str) -> bool:
        """Whether nothing of a blob is on its way."""
        ...

    def wait(self, names: list[str]) -> None:
        """Until these blobs lie in the store. Errors: what their upload met."""
        ...


@dataclass(frozen=True, kw_only=True)
class LambdaPlan:
    """What a run is made of. home, store: None without a bucket."""

    functions: tuple[str, ...]
    qualifier: str
    facts: FunctionFacts
    most_lanes: int
    settings: InvocationSettings
    seal: Seal
    key: bytes = field(repr=False)
    home: Home | None
    store: BlobStore | None
    open_client: Callable[[], AwaitedClient]
    read_event_facts: Callable[[], FunctionFacts]
    throttle_timeout_s: float
    events_above_s: float
    on_open: Callable[[], None] = lambda: None
    on_invoked: Callable[[float], None] = lambda _seconds: None  # how long Lambda was at it, as far as we see


class _Flight:
    """One batch on its way. `sent_s`: when its invocation was begun; 0: not yet."""

    __slots__ = ("calls", "is_event", "lane", "name", "sent_s", "task")

    def __init__(self, lane: str, calls: list[OutboundCall], is_event: bool) -> None:
        self.lane = lane
        self.calls = calls
        self.name = f"{calls[0].number:08d}-{calls[0].attempts}"  # no other batch begins with the same attempt
        self.is_event = is_event
        self.sent_s = 0.0
        self.task: asyncio.Task[None] | None = None


class LambdaBackend:
    """See Backend. `make_plan` is called when the plan is first needed, `end` when nothing more is."""

    def __init__(self, run_id: str, pace: Pace, make_plan: Callable[[], LambdaPlan], end: Callable[[], None]) -> None:
        self._run_id = run_id
        self._pace = pace
        self._make_plan = make_plan
        self._end = end
        self._plan: LambdaPlan | None = None
        self._loop: EngineLoop | None = None
        self._client: AwaitedClient | None = None
        self._head: EventHead | None = None
        self._admission = Admission(1)
        self._control: ControlWriter | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._sweep: Sweep | None = None
        self._probe: Probe | None = None
        self._knows_events = False
        self._room = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._events: deque[Event] = deque()
        self._flights: dict[str, _Flight] = {}  # by lane, in the order in which they began
        self._lanes: dict[str, str] = {}  # with their functions
        self._n_named = 0
        self._n_broken = 0  # environments in a row that could not run calls
        self._wanted = 0
        self._told_s = -_TELL_EVERY_S
        self._fetched: dict[str, memoryview] = {}
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
        return self._admission.n_refused

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend."""
        if self._open() is not None:
            self._wanted = count
            self._raise_lanes(time.monotonic())

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        plan = self._open()
        if plan is None or lane not in self._lanes:
            return
        flight = _Flight(lane, calls, plan.home is not None and self._may_take_long(calls))
        self._flights[lane] = flight
        assert self._loop is not None
        flight.task = self._loop.begin(self._fly(plan, flight))

    def recall(self, lane: str) -> int:
        """See Backend. What was sent is gone."""
        flight = self._flights.get(lane)
        if flight is None or flight.sent_s:
            return 0
        self._drop_flight(flight)
        return len(flight.calls)

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. There is none."""
        return []

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        flight = self._flights.get(lane)
        return len(flight.calls) if flight is not None and not flight.sent_s else 0

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend. Lambda ends no invocation; environments look at the control object, if there is one."""
        plan, flight = self._plan, self._flights.get(lane)
        if plan is None or flight is None or number not in {call.number for call in flight.calls}:
            return
        if plan.home is not None and flight.sent_s:
            self._open_control(plan).stop_call(number)
            return
        what = "it was not sent" if not flight.sent_s else "without a bucket nothing ends it in Lambda before its time"
        self._happened(CallDown(lane, number, LaneEnd(Cause.CRASH, what, stopped=True)))
        flight.calls = [call for call in flight.calls if call.number != number]
        if not flight.calls and not flight.sent_s:
            self._drop_flight(flight)

    def ping(self, worker: str) -> None:
        """See Backend. There is no worker that could fall silent: each invocation has a deadline of its own."""
        self._events.append(Heard(worker))

    def drop_worker(self, worker: str) -> None:
        """See Backend."""

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend."""
        found = self._fetched.pop(ref.name, None)
        if found is None:
            if self._plan is None or self._plan.store is None:
                raise BlobMissing(f"{ref.name} is named as a result, and there is no bucket")
            found = self._plan.store.get(ref.name)
        if found.nbytes != ref.size:
            raise BlobMissing(f"{ref.name} has {found.nbytes:,} bytes in the store, and {ref.size:,} were sent")
        return found

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
            if self._client is not None:
                loop.complete(self._close(loop, self._client))
        finally:
            try:
                if self._plan is not None and self._plan.home is not None:
                    self._plan.home.tidy()
            finally:
                self._end()
                loop.close()

    def forget_in_child(self) -> None:
        """This process is a fork: what it has copies of belongs to the parent, and is left alone."""

    # --- lanes ---

    def _turn(self, now_s: float) -> None:
        """Whatever is due."""
        if self._plan is None or self._is_broken:
            return
        self._raise_lanes(now_s)
        if self._plan.home is not None and self._control is None and self._oldest_s() + _CONTROL_AFTER_S <= now_s:
            self._open_control(self._plan)

    def _next_s(self, now_s: float) -> float:
        """When `_turn` has something to do."""
        if self._plan is None or self._is_broken:
            return NEVER
        next_s = NEVER
        if len(self._lanes) < min(self._wanted, self._plan.most_lanes):
            next_s = self._admission.next_s(len(self._lanes), now_s)
        if self._plan.home is not None and self._control is None:
            next_s = min(next_s, self._oldest_s() + _CONTROL_AFTER_S)
        return max(now_s, next_s)

    def _oldest_s(self) -> float:
        """When the oldest batch that is on its way was sent."""
        return next((flight.sent_s for flight in self._flights.values() if flight.sent_s), NEVER)

    def _raise_lanes(self, now_s: float) -> None:
        plan = self._plan
        if plan is None or self._is_broken or len(self._lanes) >= self._wanted:
            return
        for _ in range(min(self._wanted, self._admission.allowed(now_s)) - len(self._lanes)):
            self._n_named += 1
            lane = f"i{self._n_named}"
            self._lanes[lane] = plan.functions[self._n_named % len(plan.functions)]
            self._events.append(LaneUp(lane, WORKER))

    def _may_take_long(self, calls: Sequence[OutboundCall]) -> bool:
        """Whether no connection should be kept open for so long."""
        assert self._plan is not None
        above_s = self._plan.events_above_s
        return any((call.options.timeout_s or call.estimate.mean_s) > above_s for call in calls)

    # --- one batch ---

    async def _fly(self, plan: LambdaPlan, flight: _Flight) -> None:
        """Send a batch, and take in what comes of it."""
        is_watched = plan.home is not None and len(flight.calls) > 1
        timer = asyncio.get_running_loop().call_later(self._early_s, self._watch, plan, flight) if is_watched else None
        events = await self._outcome_of(plan, flight)
        if timer is not None:
            timer.cancel()
            if self._sweep is not None:
                self._sweep.forget_early(flight.name)
        if self._flights.get(flight.lane) is flight:
            del self._flights[flight.lane]
        self._happened(*events)

    async def _outcome_of(self, plan: LambdaPlan, flight: _Flight) -> list[Event]:
        try:
            payload = await self._payload(plan, flight)
        except CloudexecError as error:
            return [Outcomes(flight.lane, [_refusal(call, error) for call in flight.calls])]
        if flight.is_event:
            return await self._fly_as_event(plan, flight, payload)
        function = self._lanes[flight.lane]
        invoke = lambdas.invoke(
            function,
            payload,
            qualifier=plan.qualifier,
            wait_s=plan.facts.timeout_s + _READ_MARGIN_S,
            trace=os.environ.get("_X_AMZN_TRACE_ID", ""),
        )
        self._note_sent(flight)
        assert self._client is not None
        try:
            invocation = await self._client.call(invoke)
        except AwsError as error:
            refused = read_refusal(error, function)
            if refused.fate is Fate.LOST:  # it may have run, and been paid for, until now
                plan.on_invoked(time.monotonic() - flight.sent_s)
            return self._refused(plan, flight, refused)
        now_s = time.monotonic()
        self._admission.accepted(now_s)
        plan.on_invoked(now_s - flight.sent_s)
        if invocation.function_error:
            end = read_failure(invocation, plan.facts.timeout_s)
            if isinstance(end, CloudexecError):
                self._break(end)
                return []
            return all_down(flight.lane, flight.calls, end)
        return await self._answered(plan, flight, invocation.payload)

    def _note_sent(self, flight: _Flight) -> None:
        """It is on its way. `poll` waits already, and did not know when the run's control object would be due."""
        flight.sent_s = time.monotonic()
        has_control = self._plan is not None and self._plan.home is not None
        if has_control and self._control is None and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(_CONTROL_AFTER_S, self._ring)

    def _ring(self) -> None:
        """Have `_turn` look at what is due."""
        self._alarm = None
        if self._loop is not None:
            self._loop.stop()

    @property
    def _early_s(self) -> float:
        """How long a batch of several calls may be away before it is looked for."""
        assert self._plan is not None
        after_s = self._plan.settings.early_after_s
        return after_s + min(_EARLY_MARGIN_S, after_s)

    def _watch(self, plan: LambdaPlan, flight: _Flight) -> None:
        """One of its calls may be long, and the others behind it short."""

        async def hear(report: Report) -> None:
            before = flight.calls
            told = {outcome.number for _, outcome in report.outcomes} | {number for number, _ in report.requeued}
            told |= {stop.killed_call or stop.running_call for stop in report.down}
            flight.calls = [call for call in before if call.number not in told]  # the last report tells them again
            self._happened(*await self._events_of(plan, flight.lane, before, report, is_last=False))

        self._sweep_of(plan).watch_early(flight.name, hear)

    async def _payload(self, plan: LambdaPlan, flight: _Flight) -> bytes:
        """What the invocation carries; what is too large for it lies in the bucket then. Errors: CloudexecError."""
        absent = [ref.name for call in flight.calls for ref in _blobs_of(call)]
        if absent and plan.store is not None:
            absent = [name for name in absent if not plan.store.is_done(name)]
            if absent:
                await asyncio.get_running_loop().run_in_executor(None, plan.store.wait, absent)
        assert self._head is not None
        sealed = plan.seal.close(Kind.BATCH, encode_batch([call.for_wire() for call in flight.calls]))
        name = flight.name if flight.is_event else ""
        early = flight.name if len(flight.calls) > 1 and plan.home is not None else ""
        most = MOST_EVENT if flight.is_event else MOST_PAYLOAD
        payload = self._head.with_batch(sealed, name, early)
        if len(payload) <= most:
            return payload
        if plan.home is None:
            raise PayloadTooLarge(f"{len(payload):,} bytes in one invocation, and Lambda takes {most:,}")
        stored = f"batches/{flight.name}"
        assert self._client is not None
        await self._client.call(s3.put_object(plan.home.bucket, plan.home.key(stored), [sealed], owner=plan.home.owner))
        return self._head.with_stored(stored, name, early)

    def _refused(self, plan: LambdaPlan, flight: _Flight, refused: Refused) -> list[Event]:
        """Lambda did not run it, or nobody knows."""
        now_s = time.monotonic()
        if refused.fate is Fate.NEVER:
            self._break(refused.error)
            return []
        if refused.fate is Fate.LOST:
            end = LaneEnd(Cause.LOST, f"its answer was lost: {refused.error.what}", error="EnvironmentLost")
            return [CallDown(flight.lane, call.number, end) for call in flight.calls]
        self._lanes.pop(flight.lane, None)
        self._admission.refused(len(self._lanes), refused.retry_after_s, now_s)
        since_s = self._admission.refused_since_s
        if since_s is not None and now_s - since_s > _SILENT_S and now_s > self._told_s + _TELL_EVERY_S:
            self._told_s = now_s
            log.warning(
                "run %s: no invocation was taken for %.0f s, it is tried again until throttle_timeout_s=%g is over: %s",
                self._run_id,
                now_s - since_s,
                plan.throttle_timeout_s,
                refused.error.what,
            )
        is_over = since_s is not None and now_s - since_s > plan.throttle_timeout_s
        if since_s is not None and is_over and not self._has_company(flight, refused, since_s, now_s):
            what = f"{refused.error.what}; so for {now_s - since_s:.0f} s, for every invocation"
            self._break(type(refused.error)(what, remedy=refused.error.remedy))
            return []
        return [LaneDown(flight.lane, _THROTTLED, len(flight.calls))]

    def _has_company(self, flight: _Flight, refused: Refused, since_s: float, now_s: float) -> bool:
        """Whether other invocations are under way, so that Lambda has room for us, if not for more.

        Where it could not be reached, others may still be about to find that out, one after another.
        """
        sent = [other.sent_s for other in self._flights.values() if other is not flight and other.sent_s]
        if isinstance(refused.error, InvocationThrottled):
            return bool(sent)
        return any(sent_s < since_s or now_s - sent_s > _SURELY_SENT_S for sent_s in sent)

    async def _answered(self, plan: LambdaPlan, flight: _Flight, payload: bytes | bytearray) -> list[Event]:
        """The worker's answer as events."""
        try:
            answer = decode_answer(payload)
            if answer.refused_error:
                self._break(as_broken(answer))
                return []
            sealed: Any = answer.report
            if answer.stored:
                sealed = await self._take_stored(plan, answer.stored)
            report = decode_report(open_report(plan.seal, sealed))
        except WireError as error:
            what = f"function {self._lanes.get(flight.lane, '')} is invoked, and {error.what}"
            from cloudexec.errors import HandlerNotFound

            self._break(HandlerNotFound(what))
            return []
        except CloudexecError as error:
            end = LaneEnd(Cause.LOST, f"its answer could not be read: {error.what}", error="EnvironmentLost")
            return [CallDown(flight.lane, call.number, end) for call in flight.calls]
        return await self._events_of(plan, flight.lane, flight.calls, report)

    async def _take_stored(self, plan: LambdaPlan, name: str) -> Any:
        assert plan.home is not None
        assert self._client is not None
        key = plan.home.key(name)
        found = await self._client.call(s3.get_object(plan.home.bucket, key, owner=plan.home.owner))
        return found.body

    async def _events_of(
        self, plan: LambdaPlan, lane: str, calls: Sequence[OutboundCall], report: Report, *, is_last: bool = True
    ) -> list[Event]:
        """What a report tells; the results that it names are fetched first, so that the engine need not wait."""
        if await self._is_taken_away(report):
            return []
        if plan.home is not None and (refs := results_outside(report)):
            await asyncio.gather(*[self._fetch(plan.home, ref) for ref in refs])
        if report.broken and not report.failed_start:
            self._count_broken(report.leaving)
        elif report.outcomes:
            self._n_broken = 0
        return read_report(lane, report, calls, plan.facts.timeout_s, is_last=is_last)

    async def _is_taken_away(self, report: Report) -> bool:
        """Whether calls were ended because somebody else has ended the run: nothing more may be begun then."""
        if self._control is None or not any(stop.why == DownCause.STOPPED for stop in report.down):
            return False
        try:
            await self._control.check()
        except RunTakenOver as error:
            self._break(error)
            return True
        except CloudexecError as error:  # the next heartbeat will tell
            log.info("run %s: it is not known whether it is still ours: %s", self._run_id, error)
        return False

    def _count_broken(self, why: str) -> None:
        """An environment cannot go on; where one after another cannot, no call will ever run."""
        self._n_broken += 1
        log.warning("run %s: an environment cannot go on: %s", self._run_id, why)
        if self._n_broken >= _MOST_BROKEN:
            self._break(WorkerStartFailed(f"{self._n_broken} environments in a row cannot go on; the last one: {why}"))

    async def _fetch(self, home: Home, ref: BlobRef) -> None:
        assert self._client is not None
        async with self._room:
            try:
                key = home.key(ref.name)
                get = s3.get_object(home.bucket, key, owner=home.owner, range=(0, ref.size + 1))
                self._fetched[ref.name] = (await self._client.call(get)).body
            except CloudexecError as error:  # tried once more when the call is delivered, and told then
                log.info("a result was not fetched ahead: %s", error)

    # --- batches that go as events ---

    async def _fly_as_event(self, plan: LambdaPlan, flight: _Flight, payload: bytes) -> list[Event]:
        sweep = self._sweep_of(plan)
        try:
            await sweep.check()
        except CloudexecError as error:
            return [Outcomes(flight.lane, [_refusal(call, error) for call in flight.calls])]
        function, name = self._lanes[flight.lane], flight.name
        if (ends := await self._ends_of_mute(plan, flight, function)) is not None:
            return ends
        await self._learn_of_events(plan, sweep)
        invoke = lambdas.invoke(
            function,
            payload,
            qualifier=plan.qualifier,
            event=True,
            wait_s=0.0,
            trace=os.environ.get("_X_AMZN_TRACE_ID", ""),
        )
        self._note_sent(flight)
        assert self._client is not None
        waiting = sweep.watch(name)
        refused = await self._send_event(invoke, function)
        if refused is None:
            self._admission.accepted(time.monotonic())
        elif refused.fate is not Fate.LOST:  # else it may be on its way: the sweep knows in the end
            sweep.forget(name)
            return self._refused(plan, flight, refused)
        end = await waiting
        if isinstance(end, LaneEnd):
            plan.on_invoked(time.monotonic() - flight.sent_s)
            return all_down(flight.lane, flight.calls, end)
        plan.on_invoked(_span_of(end))
        return await self._events_of(plan, flight.lane, flight.calls, end)

    async def _ends_of_mute(self, plan: LambdaPlan, flight: _Flight, function: str) -> list[Event] | None:
        """What becomes of calls whose function cannot write what becomes of its events; None if it can."""
        found = await self._probe_of(plan).find(function)
        if isinstance(found, Refused):
            return self._refused(plan, flight, found)
        if isinstance(found, LaneEnd):
            return all_down(flight.lane, flight.calls, found)
        if found is not None:
            return [Outcomes(flight.lane, [_refusal(call, found) for call in flight.calls])]
        return None

    def _probe_of(self, plan: LambdaPlan) -> Probe:
        """Asks functions whether they can; made with the first need."""
        if self._probe is None:
            home, head, client = plan.home, self._head, self._client
            assert home is not None
            assert head is not None
            assert client is not None

            async def invoke(function: str) -> Invocation:
                payload = head.with_probe(f"{plan.functions.index(function)}")
                wait_s = plan.facts.timeout_s + _READ_MARGIN_S
                trace = os.environ.get("_X_AMZN_TRACE_ID", "")
                done = await client.call(
                    lambdas.invoke(function, payload, qualifier=plan.qualifier, wait_s=wait_s, trace=trace)
                )
                self._admission.accepted(time.monotonic())
                return done

            role = plan.facts.role if len(plan.functions) == 1 else ""
            self._probe = Probe(invoke, home, plan.seal, role, plan.facts.timeout_s)
        return self._probe

    async def _send_event(self, invoke: Operation[Invocation], function: str) -> Refused | None:
        """None if Lambda has taken it. An answer that was lost does no harm: of two that bear one name only the one
        that claims it runs, so it is sent again."""
        assert self._client is not None
        unknown: Refused | None = None
        for pause_s in (*_EVENT_AGAIN_S, None):
            try:
                await self._client.call(invoke)
            except AwsError as error:
                refused = read_refusal(error, function)
                if refused.fate is not Fate.LOST:
                    return unknown or refused  # what was sent before may run
                unknown = refused
            else:
                return None
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        return unknown

    def _sweep_of(self, plan: LambdaPlan) -> Sweep:
        """Looks for what comes as objects; it begins with the first need."""
        if self._sweep is None:
            assert plan.home is not None
            assert self._client is not None
            assert self._loop is not None
            self._sweep = Sweep(self._client, plan.home, plan.seal, plan.settings.event_beat_s)
            self._loop.begin(self._sweep.keep())
        return self._sweep

    async def _learn_of_events(self, plan: LambdaPlan, sweep: Sweep) -> None:
        """Ask how Lambda handles the function's events, once. Errors: AwsError and its kin."""
        if self._knows_events:
            return
        self._knows_events = True
        try:
            facts = await asyncio.get_running_loop().run_in_executor(None, plan.read_event_facts)
        except CloudexecError as error:
            log.warning("how Lambda handles events of %s is not known: %s", plan.functions[0], error)
            return
        sweep.learn(facts)
        if facts.event_retries:
            log.warning(
                "function %s repeats failed events %d times (MaximumRetryAttempts); cloudexec retries by itself, "
                "and repeats run nothing. Set it to 0: aws lambda put-function-event-invoke-config "
                "--function-name %s --maximum-retry-attempts 0",
                plan.functions[0],
                facts.event_retries,
                plan.functions[0],
            )

    # --- beginning and end ---

    def _ensure_loop(self) -> EngineLoop:
        if self._loop is None:
            self._loop = EngineLoop()
        return self._loop

    def _open(self) -> LambdaPlan | None:
        """Make what the run needs, once; None if that failed."""
        if self._plan is None and not self._is_broken:
            self._ensure_loop()
            try:
                self._plan = plan = self._make_plan()
            except CloudexecError as error:
                self._break(
                    WorkerStartFailed(f"run {self._run_id} could not be set up: {error.what}", remedy=error.remedy)
                )
                return None
            self._client = plan.open_client()
            self._head = EventHead(plan.key, plan.settings)
            self._admission = Admission(plan.most_lanes, len(plan.functions))
            plan.on_open()
        return None if self._is_broken else self._plan

    def _open_control(self, plan: LambdaPlan) -> ControlWriter:
        """The object through which running environments hear of us."""
        if self._control is None:
            assert plan.home is not None
            assert self._client is not None
            assert self._loop is not None
            self._control = ControlWriter(
                self._client,
                plan.seal,
                plan.home.bucket,
                plan.home.key("control"),
                plan.home.owner,
                None,
                beat_s=beat_every_s(plan.settings.stale_s),
            )
            self._loop.begin(self._keep_control(self._control))
        return self._control

    async def _keep_control(self, control: ControlWriter) -> None:
        try:
            try:
                await control.write()
            except AwsError as error:
                log.warning("the run's control object could not be written, it is tried again: %s", error)
            await control.keep()
        except RunTakenOver as error:
            self._break(error)

    async def _close(self, loop: EngineLoop, client: AwaitedClient) -> None:
        """Have what still runs end, then end what is kept up; close every connection."""
        plan = self._plan
        running = [flight.task for flight in self._flights.values() if flight.sent_s and flight.task is not None]
        if running and plan is not None and plan.home is not None:
            control = self._control or ControlWriter(
                client, plan.seal, plan.home.bucket, plan.home.key("control"), plan.home.owner, None
            )
            control.leave("*")
            within_s = plan.settings.control_after_s + 2 * plan.settings.control_every_s + 2.0
            try:
                await control.write()
                await asyncio.wait(running, timeout=within_s)
            except (CloudexecError, RunTakenOver) as error:
                log.warning("run %s: environments could not be told to end: %s", self._run_id, error)
        await loop.cancel_all()
        await client.aclose()
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), _LAST_UPLOADS_S)

    def _drop_flight(self, flight: _Flight) -> None:
        """A batch that was not sent is taken back."""
        self._flights.pop(flight.lane, None)
        if flight.task is not None:
            flight.task.cancel()

    def _happened(self, *events: Event) -> None:
        self._events.extend(events)
        if self._loop is not None:
            self._loop.stop()

    def _break(self, error: CloudexecError) -> None:
        if not self._is_broken:
            self._is_broken = True
            self._happened(Broken(error))


def _blobs_of(call: OutboundCall) -> Sequence[BlobRef]:
    """What must be stored before the call is sent."""
    modules = call.function.modules
    return (*call.refs, *(module.bundle for module in modules)) if modules else call.refs


def _span_of(report: Report) -> float:
    """From the first begin of a call to the last end, in seconds."""
    outcomes = [outcome for _, outcome in report.outcomes]
    if not outcomes:
        return 0.0
    return max(0.0, max(one.finished_s for one in outcomes) - min(one.started_s for one in outcomes))


def _refusal(call: OutboundCall, error: CloudexecError) -> Outcome:
    now_s = time.time()
    return Outcome(call.number, call.attempts, Verdict.REFUSED, now_s, now_s, 0.0, 0, pack_failure(error))


def without_bucket(what: str, remedy: str = "") -> SettingsError:
    """What is said when something needs one."""
    give = "give bucket=, or the function an environment variable CLOUDEXEC_BUCKET"
    return SettingsError(f"{what}, and there is no bucket for it", remedy=f"{give}{remedy}")
