"""The loop that stands for the engine, in virtual time, and what must hold after every step.

Called by: __main__.py, tests, benchmarks.   Calls: the ledger, cloud.py, plan.py, books.py.

    heap of timers --> cloud --> tell --> inbox --turn--> ledger --> actions --> cloud
                                                            |
                                                  checks ---+--> ends of calls
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.ledger.actions import (
    Action,
    Break,
    DropWorker,
    Fail,
    KillCall,
    LaneEnd,
    Ping,
    Place,
    Recall,
    Resolve,
    WantLanes,
)
from cloudexec.ledger.calls import Call, Cause, State
from cloudexec.ledger.ledger import NEVER, Ledger
from cloudexec.testing.simulation.books import check_books
from cloudexec.testing.simulation.cloud import QUEUE, Cloud, SimOutcome, Told
from cloudexec.testing.simulation.plan import Plan, SimCall, draw_calls

_STUCK_AFTER_S: Final = 3600.0  # no call has ended for so long: the run hangs
_TURNS_AT_ONCE: Final = 10_000  # in one moment of virtual time: the loop spins
_FEW_CALLS: Final = 150  # the books of so few are checked after every step
_SUBMISSIONS: Final = 20
_TRACE_LINES: Final = 60


class SimulationFailure(AssertionError):
    """An invariant does not hold; the message tells which, what came before, and how to see it again."""


@dataclass
class Report:
    """How a simulation ended."""

    virtual_s: float = 0.0
    n_messages: int = 0
    n_turns: int = 0
    retries: int = 0
    late_outcomes: int = 0
    ends: Counter[str] = field(default_factory=Counter)


class Simulation:
    """One run of a plan; `run` once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(f"{plan.seed} weather")
        self.calls = draw_calls(plan, random.Random(f"{plan.seed} calls"))
        self.ledger = Ledger(plan.limits(), plan.pace)
        self.cloud = Cloud(plan, self.rng, self._after, self._hear)
        self.report = Report()
        self.ends: dict[int, str] = {}
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=_TRACE_LINES)
        self._now_s = 0.0
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._n_timers = 0
        self._inbox: list[Told] = []
        self._requests: list[Callable[[float], None]] = []
        self._turn_at = NEVER
        self._progress_s = 0.0
        self._terminated = False
        self._n_submitted = 0

    def run(self) -> Report:
        """Errors: SimulationFailure."""
        try:
            self._prepare()
            self._loop()
            self._check_end()
        except Exception as problem:
            raise SimulationFailure(self._story(problem)) from problem
        report, ledger = self.report, self.ledger
        report.virtual_s, report.n_messages = self._progress_s, ledger.placed_batches
        report.retries, report.late_outcomes = ledger.retries, ledger.late_outcomes
        return report

    # --- time ---

    def _after(self, delay_s: float, what: Callable[..., None], *args: Any) -> None:
        self._n_timers += 1
        heapq.heappush(self._timers, (self._now_s + delay_s, self._n_timers, what, args))

    def _hear(self, told: Told) -> None:
        self._inbox.append(told)
        self._wake()

    def _wake(self) -> None:
        if self._turn_at == NEVER:
            self._turn_at = self._now_s + (self.rng.uniform(0, self.plan.turn_s) if self.plan.turn_s else 0.0)

    def _prepare(self) -> None:
        plan = self.plan
        if plan.mode == "pull":
            self.ledger.queue_up(QUEUE, 0.0)
        parts = _SUBMISSIONS if plan.submit_for_s else 1
        size = -(-plan.n_calls // parts)
        for part in range(parts):
            calls = self.calls[part * size : (part + 1) * size]
            self._after(plan.submit_for_s * part / parts, self._submit, calls)
        for call in self.calls if plan.cancel or plan.stop else ():
            if self.rng.random() < plan.cancel:
                self._ask_later(self._cancel, call)
            if self.rng.random() < plan.stop:
                self._ask_later(self._stop, call)
        if self.rng.random() < plan.terminate:
            self._after(self.rng.uniform(0, plan.submit_for_s + 1), self._ask, self._terminate)

    def _ask_later(self, job: Callable[[SimCall, float], None], call: SimCall) -> None:
        delay_s = self.rng.expovariate(1.0) * max(0.01, self.plan.submit_for_s, self.plan.mean_s)
        self._after(delay_s, self._ask, lambda now_s: job(call, now_s))

    def _ask(self, job: Callable[[float], None]) -> None:
        self._requests.append(job)
        self._wake()

    def _submit(self, calls: list[SimCall]) -> None:
        self._ask(lambda now_s: self._hand_in(calls, now_s))

    def _hand_in(self, calls: list[SimCall], now_s: float) -> None:
        self.ledger.submitted(calls, now_s)
        self._n_submitted += len(calls)
        self._progress_s = now_s

    def _loop(self) -> None:
        timers, pop, cloud = self._timers, heapq.heappop, self.cloud
        turns_now = 0
        deadline_s = NEVER  # the ledger's; it changes in turns only
        n_calls = len(self.calls)
        while len(self.ends) < n_calls:
            due_s = self._turn_at if self._turn_at < deadline_s else deadline_s
            if timers and timers[0][0] <= due_s:
                now_s, _, what, args = pop(timers)
                if now_s > self._now_s:
                    self._now_s = cloud.now_s = now_s
                    turns_now = 0
                what(*args)
                continue
            assert due_s != NEVER, f"nothing is to come, and {self.ledger.n_open} calls are open"
            if due_s > self._now_s:
                self._now_s = cloud.now_s = due_s
                turns_now = 0
            turns_now += 1
            assert turns_now < _TURNS_AT_ONCE, "the loop spins"
            assert self._now_s - self._progress_s < _STUCK_AFTER_S, f"no call has ended for {_STUCK_AFTER_S:g} s"
            deadline_s = self._turn()

    # --- the engine ---

    def _turn(self) -> float:
        """Take in what happened, act; the ledger's next deadline."""
        now_s, ledger = self._now_s, self.ledger
        self._turn_at = NEVER
        inbox, self._inbox = self._inbox, []
        for told in inbox:
            self._take_in(told, now_s)
        requests, self._requests = self._requests, []
        for job in requests:
            job(now_s)
        if now_s >= ledger.next_deadline:
            ledger.tick(now_s)
        self._act(now_s)
        self.report.n_turns += 1
        if self.plan.checked:
            self._check_turn(now_s)
        return ledger.next_deadline

    def _act(self, now_s: float) -> None:
        while actions := self.ledger.take_actions():
            for action in actions:
                self._carry_out(action, now_s)

    def _take_in(self, told: Told, now_s: float) -> None:
        ledger, what = self.ledger, told.what
        if what == "outcomes":
            for outcome in told.detail:
                self._take_outcome(told.about, outcome, now_s)
            ledger.settle(now_s)
        elif what == "lane_up":
            ledger.lane_up(told.about, told.detail, now_s)
        elif what == "lane_down" and told.end is not None:
            ledger.lane_down(told.about, told.end, told.detail, now_s)
        elif what == "worker_down" and told.end is not None:
            ledger.worker_down(told.about, told.end, told.detail, now_s)
        elif what == "start_failed" and told.end is not None:
            ledger.start_failed(told.end, now_s)
        elif what == "heard":
            ledger.heard(told.about, now_s, told.detail)
        elif what == "taken":
            ledger.taken(told.about, told.detail, now_s)
        elif what == "requeued":
            ledger.requeued(told.about, told.detail, now_s)
        elif what == "given_back":
            ledger.given_back(told.detail, now_s)
        if self.plan.checked and what != "heard":  # in a run that hangs there would be nothing else to see
            self.trace.append((now_s, *told))

    def _take_outcome(self, lane: str, outcome: SimOutcome, now_s: float) -> None:
        end = outcome.end
        self.ledger.outcome(
            lane,
            outcome.number,
            ok=end == "ok",
            retry=end == "error",
            seconds=outcome.seconds,
            outcome=outcome,
            now_s=now_s,
            attempt=outcome.attempt,
        )

    def _carry_out(self, action: Action, now_s: float) -> None:
        cloud = self.cloud
        if self.plan.checked and not isinstance(action, (Place, Ping)):
            self.trace.append((now_s, type(action).__name__, *action))
        if isinstance(action, Resolve):
            self._resolved(action)
        elif isinstance(action, Place):
            if self.plan.checked:
                self._check_batch(action)
            cloud.place(action.lane, action.calls)
        elif isinstance(action, Fail):
            self._failed(action)
        elif isinstance(action, WantLanes):
            assert action.n_lanes <= self.plan.n_slots, f"{action.n_lanes} lanes wanted, {self.plan.n_slots} allowed"
            cloud.want_lanes(action.n_lanes)
        elif isinstance(action, Recall):
            self.ledger.returned(action.lane, cloud.recall(action.lane), now_s)
        elif isinstance(action, KillCall):
            cloud.kill_call(action.lane, action.number)
        elif isinstance(action, Ping):
            cloud.ping(action.worker)
        elif isinstance(action, DropWorker):
            cloud.drop_worker(action.worker)
        else:
            assert isinstance(action, Break), f"{action} is not known"

    # --- what users do ---

    def _cancel(self, call: SimCall, now_s: float) -> None:
        if call.number > self._n_submitted or call.state is State.DONE:
            return
        if call.state is State.PLACED and call.lane is not None and self.plan.reliable:
            self.ledger.returned(call.lane, self.cloud.recall(call.lane), now_s, place=False)
        elif call.lane == QUEUE and self.plan.recall:
            self._act(now_s)  # what the ledger has just given to the queue must have left first
            self.ledger.recalled(QUEUE, self.cloud.recall_queue())
        if self.ledger.cancel(call):
            self._end(call, "cancelled")
        self.ledger.settle(now_s)

    def _stop(self, call: SimCall, _now_s: float) -> None:
        if call.state is State.PLACED and call.lane is not None:
            self.cloud.kill_call(call.lane, call.number)

    def _terminate(self, now_s: float) -> None:
        self._terminated = True
        if self.plan.reliable:
            for lane in self.ledger.lane_counts():
                self.ledger.returned(lane, self.cloud.recall(lane), now_s, place=False)
        for call in self.ledger.pending_calls():
            assert self.ledger.cancel(call), f"{call} is pending and cannot be cancelled"
            self._end(call, "cancelled")
        self.ledger.break_down(LaneEnd(Cause.LOST, "terminated", stopped=True))

    # --- what must hold ---

    def _end(self, call: Call, how: str) -> None:
        assert call.number not in self.ends, f"{call} ended with {self.ends[call.number]}, and again with {how}"
        assert call.state is State.DONE, f"{call} ended with {how} and is not done"
        self.ends[call.number] = how
        self.report.ends[how] += 1
        self._progress_s = self._now_s
        if not self.plan.checked:
            return
        retry, n_spent = call.options.retry, sum(call.spent.values())
        over = [cause for cause, spent in call.spent.items() if spent > getattr(retry, cause.value)]
        assert not over, f"{call} spent {call.spent}, which is more than {retry}"
        # One attempt, and one for each retry, unless the last retry was not placed yet when the end came. An attempt
        # that was interrupted costs nothing, but counts.
        most = n_spent + 1 + self.cloud.interrupted[call.number]
        assert n_spent <= call.attempts <= most, f"{call} spent {call.spent}"

    def _resolved(self, action: Resolve) -> None:
        call, outcome = action.call, action.outcome
        assert outcome.number == call.number, f"{call} got the outcome of call {outcome.number}"
        assert outcome.end in call.ends, f"{call} got {outcome.end}, its runs end with {call.ends}"  # type: ignore[attr-defined]  # our calls are SimCalls
        self._end(call, outcome.end)
        if outcome.end == "error":
            left = call.options.retry.error - call.spent.get(Cause.ERROR, 0)
            assert not left, f"{call} failed with {left} retries left"

    def _failed(self, action: Fail) -> None:
        call, end = action.call, action.end
        self._end(call, "broken" if self.ledger.broken is end else "stopped" if end.stopped else end.cause.value)
        if self.ledger.broken is not end and not end.stopped:
            left = getattr(call.options.retry, end.cause.value) - call.spent.get(end.cause, 0)
            assert not left, f"{call} failed by {end.cause} with {left} retries left"

    def _check_batch(self, action: Place) -> None:
        calls, pace = action.calls, self.plan.pace
        self.trace.append((self._now_s, "Place", action.lane, [(call.number, call.attempts) for call in calls]))
        assert calls, "an empty batch"
        assert action.lane == QUEUE or action.lane in self.cloud.lanes, f"lane {action.lane} has ended"
        most = self.plan.batch or pace.most_calls
        assert len(calls) <= most, f"{len(calls)} calls in one batch, {most} allowed"
        assert len(calls) == 1 or sum(call.size for call in calls) <= pace.most_bytes, "too many bytes in one batch"
        for call in calls:
            overtaken = call.state is not State.PLACED and not self.plan.reliable  # by an outcome in this turn
            assert overtaken or call.state is State.PLACED, f"{call} is sent without being placed"
            here = call.lane == action.lane or action.lane == QUEUE  # an older message of it may have been taken
            assert overtaken or here, f"{call} is sent to {action.lane} and noted in {call.lane}"

    def _check_turn(self, now_s: float) -> None:
        ledger, cloud = self.ledger, self.cloud
        assert ledger.next_deadline > now_s, f"due at {ledger.next_deadline}, and it is {now_s}"
        assert ledger.n_open == self._n_submitted - len(self.ends), f"{ledger.n_open} calls are open"
        n_slots = cloud.n_starting + sum(slot.life > 0 and slot.worker.alive for slot in cloud.lanes.values())
        assert n_slots <= self.plan.n_slots, f"{n_slots} slots, {self.plan.n_slots} allowed"
        if len(self.calls) <= _FEW_CALLS or self.report.n_turns % (len(self.calls) // 10) == 0:
            check_books(ledger)

    def _check_end(self) -> None:
        ledger = self.ledger
        assert not ledger.n_open, f"{ledger.n_open} calls are open at the end"
        assert not ledger.n_placed, f"{ledger.n_placed} calls are placed at the end"
        assert len(self.ends) == self.plan.n_calls, f"{len(self.ends)} of {self.plan.n_calls} calls ended"
        check_books(ledger)

    def _story(self, problem: Exception) -> str:
        lines = [f"{now_s:12.6f}  {'  '.join(map(str, words))}" for now_s, *words in self.trace]
        return "\n".join(
            [
                f"{type(problem).__name__}: {problem}",
                f"at {self._now_s:.6f} s, {len(self.ends)} of {self.plan.n_calls} calls over; what came before:",
                *lines,
                f"to see it again: {self.plan.command()}",
                f"plan: {self.plan}",
            ]
        )
