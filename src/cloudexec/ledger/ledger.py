"""The ledger: all that is known of the calls of one run, and what should happen next.

Called by: engine, simulator.   Calls: placing, growth, lanes, calls.
Each method takes an event and the time (monotonic seconds); `take_actions` gives what is to be done about it.
Every open call is in exactly one place: pending, paused before a retry, or in one lane; and it ends in exactly
one Resolve or Fail. Costs a few microseconds a call, however many there are.

    submitted -> pending -> placed in a lane -> outcome  -> Resolve
                    ^            |                |
                    |            | returned       | budget left
                    +------------+--- paused <----+
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cloudexec.ledger.actions import Action, Break, DropWorker, Fail, KillCall, LaneEnd, Ping, Resolve, WantLanes
from cloudexec.ledger.calls import Call, Cause, State
from cloudexec.ledger.growth import NEVER, Growth
from cloudexec.ledger.lanes import Lane, Worker
from cloudexec.ledger.pace import Pace
from cloudexec.ledger.placing import Placing

__all__ = ["NEVER", "Ledger", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds that the ledger keeps."""

    max_lanes: int
    max_tasks_per_lane: int | None = None
    ping_every_s: float = 2.0
    silent_after_s: float = 8.0  # an unanswered ping means that the worker is lost
    start_within_s: float = 60.0  # no lane at all after this time is a failed start
    failed_starts: int = 3  # in a row, and no lane that works; then the executor is broken
    start_pause_s: float = 0.1  # after a failed start; doubles
    timeout_grace_s: float = 5.0  # a worker that has not enforced timeout_s by then is asked to
    oom_goes_on: bool = False  # a call that runs out of memory is not tried again here, but where there is more
    queue_patience_s: float = 30.0  # a call that slots have not found for so long, though idle, is lost


class Ledger:
    """Events in, actions out."""

    def __init__(self, limits: Limits, pace: Pace) -> None:
        self._limits = limits
        self._actions: list[Action] = []
        self._placing = Placing(pace, self._actions)
        self._growth = Growth(limits.max_lanes, limits.start_within_s, limits.start_pause_s)
        self._calls: dict[int, Call] = {}  # the open ones
        self._paused: list[tuple[float, int, Call]] = []  # heap by the time of the retry; some may be over
        self._n_paused = 0
        self._workers: dict[str, Worker] = {}
        self._lanes = self._placing.lanes
        self._queues = self._placing.queues
        self._next_ping = NEVER
        self._idle_since_s = NEVER  # when slots that have left since then began to find nothing in a shared queue
        self.broken: LaneEnd | None = None
        self.late_outcomes = 0
        self.retries_by: dict[Cause, int] = {}

    # --- what it knows ---

    @property
    def n_open(self) -> int:
        """Calls that are not over."""
        return len(self._calls)

    @property
    def n_placed(self) -> int:
        """Calls that are in a lane."""
        return len(self._calls) - self._placing.n_pending - self._n_paused

    @property
    def retries(self) -> int:
        """Attempts after a call's first."""
        return sum(self.retries_by.values())

    @property
    def n_lanes(self) -> int:
        """Slots that are up."""
        return len(self._lanes)

    @property
    def placed_batches(self) -> int:
        """Messages with calls that were sent."""
        return self._placing.n_batches

    @property
    def next_deadline(self) -> float:
        """When `tick` is due, in monotonic seconds; infinity when only events count."""
        pause = self._paused[0][0] if self._paused else NEVER
        return min(pause, self._growth.next_deadline, self._next_ping, self._placing.steal_at)

    def take_actions(self) -> list[Action]:
        """What is to be done, in this order; each action is given once."""
        if not self._actions:
            return []
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def pending_calls(self) -> list[Call]:
        """Calls that could be cancelled now."""
        return self._placing.pending() + [call for _, _, call in self._paused if call.state is State.PAUSED]

    def last_calls(self, lane_id: str, count: int) -> frozenset[int]:
        """Numbers of the last `count` calls of a lane."""
        lane = self._lanes.get(lane_id)
        return frozenset(call.number for call in lane.last(count)) if lane is not None else frozenset()

    def lane_counts(self) -> dict[str, int]:
        """How many calls each busy lane holds."""
        return {lane.id: len(lane.calls) for lane in self._lanes.values() if lane.calls}

    def adjust(self, most_lanes: int, pace: Pace) -> None:
        """Figures that were not known at first. Before the first call."""
        self._growth.limit(most_lanes)
        self._placing.adjust(pace)

    # --- calls ---

    def submitted(self, calls: Iterable[Call], now_s: float) -> None:
        """New calls; their numbers must be new."""
        calls = list(calls)
        if not self._calls:
            self._idle_since_s = NEVER
        self._calls.update([(call.number, call) for call in calls])
        self._placing.add(calls)
        if self.broken is not None:
            self._fail_all(self.broken)
            return
        self._next_ping = min(self._next_ping, now_s + self._limits.ping_every_s)
        self._grow(now_s)
        self._placing.fill(now_s)

    def cancel(self, call: Call) -> bool:
        """Forget a call that has not been placed, or has come back; False when it is in a lane or over.

        To cancel a placed call, have its lane recalled first.
        """
        if call.state is State.PLACED or call.state is State.DONE:
            return False
        self._close(call)
        return True

    def outcome(
        self,
        lane_id: str,
        number: int,
        *,
        ok: bool,
        retry: bool,
        seconds: float,
        outcome: Any,
        now_s: float,
        attempt: int = 0,
    ) -> None:
        """An attempt has ended. `retry`: it failed in a way for which the error budget holds.

        attempt: which one, if messages may come twice; 0: the one that the lane holds. A later one than is known here
        was begun by a worker that was interrupted, and has overtaken the word of that (`requeued`).
        The first outcome of a call counts; late twins are counted and dropped.
        """
        lane = self._lanes.get(lane_id)
        holder, call = lane, None
        self._idle_since_s = NEVER
        if lane is not None:
            lane.progress_s = now_s
            lane.done += 1
            lane.vain = 0
            if lane.stalled:
                self._placing.moved(lane)
            self._growth.failures = 0
            call = lane.calls.get(number)
        if call is None and self._queues:  # `taken` was lost, is slower than the outcome, or told of another attempt
            holder = self._holder(number) or lane
            call = holder.calls.get(number) if holder is not None else None
        if call is not None and holder is not None and (not attempt or attempt >= call.attempts):
            holder.remove(number)
            call.attempts = attempt or call.attempts
        else:
            call = None
        if call is None or call.state is not State.PLACED:
            self._late(lane_id, number, ok or not retry, outcome)
        else:
            call.estimate.learn(seconds)
            if ok or not retry or not call.spend(Cause.ERROR):
                self._close(call)
                self._actions.append(Resolve(call, outcome, lane_id))
            else:
                self._try_again(call, Cause.ERROR, now_s)
        if lane is not None:
            self._placing.look_at(lane)
        if holder is not None and holder is not lane and not holder.shared:
            self._placing.look_at(holder)

    def settle(self, now_s: float) -> None:
        """Call after a group of outcomes: gives free lanes new calls."""
        self._placing.fill(now_s)
        if self._placing.n_pending:
            self._grow(now_s)

    # --- lanes and workers ---

    def queue_up(self, lane_id: str, now_s: float) -> None:
        """A queue that slots take from by themselves; with it, calls are placed there and nowhere else."""
        self._queues[lane_id] = Lane(lane_id, "", now_s, self._limits.max_tasks_per_lane, shared=True)

    def lane_up(self, lane_id: str, worker_id: str, now_s: float) -> None:
        """A slot can take calls."""
        if lane_id in self._lanes:
            return
        lane = Lane(lane_id, worker_id, now_s, self._limits.max_tasks_per_lane)
        worker = self._workers.setdefault(worker_id, Worker(worker_id))
        lane.closed = worker.dropped_s is not None
        self._lanes[lane_id] = worker.lanes[lane_id] = lane
        self._growth.came(len(self._lanes), now_s)
        self._placing.look_at(lane)
        self._placing.fill(now_s)

    def taken(self, lane_id: str, numbers: Iterable[int], now_s: float) -> None:
        """A slot has taken calls out of a shared queue."""
        lane = self._lanes.get(lane_id)
        if lane is None:
            return  # its end was told before; the queue will hand them out again
        self._idle_since_s = NEVER
        for number in numbers:
            holder = self._holder(number)
            if holder is None or holder is lane:
                continue
            call = holder.calls[number]
            holder.remove(number)
            lane.add(call, call.cost_s)
            call.placed_s = now_s
            if not holder.shared:
                self._placing.look_at(holder)
        lane.progress_s = now_s
        self._placing.look_at(lane)
        self._placing.fill(now_s)

    def requeued(self, queue_id: str, attempts: Iterable[tuple[int, int]], now_s: float) -> None:
        """A worker that had to leave has put calls back into a shared queue, each (number, attempt).

        That costs no retry: a worker that says so was ended by its service, or by us.
        """
        queue = self._queues[queue_id]
        for number, attempt in attempts:
            call, holder = self._calls.get(number), self._holder(number)
            if call is None or holder is None or attempt < call.attempts:
                continue  # it is over, or has been placed anew
            holder.remove(number)
            queue.add(call, call.cost_s)
            call.attempts = attempt
            call.placed_s = now_s
            if holder is not queue:
                self._placing.look_at(holder)

    def given_back(self, numbers: Iterable[int], now_s: float) -> None:
        """Calls that slots would have taken by themselves were taken out of their reach; they never started."""
        for number in numbers:
            call, holder = self._calls.get(number), self._holder(number)
            if call is not None and holder is not None:
                self._take_back(holder, [call])
                if not holder.shared:
                    if holder.stalled:
                        self._placing.moved(holder)
                    self._placing.look_at(holder)
        self._placing.fill(now_s)

    def recalled(self, queue_id: str, attempts: Iterable[tuple[int, int]]) -> None:
        """Attempts, each (number, attempt), were taken out of a shared queue. The next event places them again."""
        queue = self._queues[queue_id]
        for number, attempt in attempts:
            call = queue.calls.get(number)
            if call is not None and attempt == call.attempts:  # else it is an old message of a call that is elsewhere
                self._take_back(queue, [call])

    def adopt(self, queue_id: str, calls: Iterable[Call], now_s: float) -> None:
        """Calls of an earlier client that lie in a shared queue, or are held by workers not heard of yet."""
        queue = self._queues[queue_id]
        for call in calls:
            self._calls[call.number] = call
            call.state = State.PLACED
            call.placed_s = now_s
            queue.add(call, 0.0)
        self._next_ping = min(self._next_ping, now_s + self._limits.ping_every_s)
        self._grow(now_s)

    def flush(self, now_s: float) -> None:
        """Put every call that is not placed into the shared queue."""
        for _, _, call in self._paused:
            if call.state is State.PAUSED:
                self._n_paused -= 1
                call.state = State.PENDING
                self._placing.add_first([call])
        self._paused.clear()
        self._placing.flush(now_s)

    def returned(self, lane_id: str, count: int, now_s: float, place: bool = True) -> None:
        """The last `count` calls of a lane were taken back; they never started. Answers a Recall, even with 0.

        `place`: give them to other lanes at once; if not, the next event does.
        """
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        unsent = self._placing.unsend(lane)
        self._take_back(lane, lane.last(count + len(unsent)))
        self._placing.answered(lane, count)
        self._placing.look_at(lane)
        if place:
            self._placing.fill(now_s)

    def lane_down(self, lane_id: str, end: LaneEnd, unstarted: int, now_s: float) -> None:
        """A slot has ended. The last `unstarted` of its calls were never started.

        Of the others, the first one was running: it pays for the end. The rest pay nothing.
        """
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        barren = self._lane_gone(lane, end, unstarted, now_s)
        self._growth.went(len(self._lanes))
        if barren and not any(other.done for other in self._lanes.values()):
            self._start_failed(end, now_s)
        self._grow(now_s)
        self._placing.fill(now_s)

    def call_down(self, lane_id: str, number: int, end: LaneEnd, now_s: float, *, alone: bool = False) -> None:
        """An attempt has ended without an outcome; its lane goes on.

        alone: it is not known which call of its batch is to blame, so none of them has company from now on.
        """
        lane = self._lanes.get(lane_id)
        call = lane.remove(number) if lane is not None else None
        if lane is None or call is None:
            return
        lane.progress_s = now_s
        if lane.stalled:
            self._placing.moved(lane)
        call.alone = call.alone or alone
        self._failed_attempt(call, end, now_s)
        self._placing.look_at(lane)

    def worker_down(self, worker_id: str, end: LaneEnd, unstarted: dict[str, int], now_s: float) -> None:
        """A worker has ended, and its lanes with it. `unstarted`: as for `lane_down`, by lane."""
        worker = self._workers.pop(worker_id, None)
        if worker is None and not end.retired:
            self.start_failed(end, now_s)
            return
        worker = worker or Worker(worker_id)
        lanes = list(worker.lanes.values())
        barren = [self._lane_gone(lane, end, unstarted.get(lane.id, 0), now_s, worker) for lane in lanes]
        self._growth.went(len(self._lanes), None)
        if barren and all(barren) and not worker.proven:
            self._start_failed(end, now_s, give_up=not self._lanes)
        self._grow(now_s)
        self._placing.fill(now_s)

    def heard(self, worker_id: str, now_s: float, holding: frozenset[int] | None = None) -> None:
        """A worker answered a ping. `holding`: the calls it has, if messages may get lost on the way.

        A call that was placed before the ping and that two answers in a row do not name was lost with its message;
        one answer may have crossed the call, or its outcome, on the way.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        asked_s, worker.pinged_s = worker.pinged_s, None
        if holding is None or asked_s is None:
            return
        before, worker.missing = worker.missing, set()
        end = LaneEnd(Cause.LOST, "a message to or from the worker was lost")
        for lane in list(worker.lanes.values()):
            absent = [call for call in lane.calls.values() if call.number not in holding and call.placed_s < asked_s]
            worker.missing.update(call.number for call in absent if call.number not in before)
            for call in absent:
                if call.number in before:
                    lane.remove(call.number)
                    if lane.quota is not None:
                        lane.quota += 1  # it may never have come; the worker knows, and counts
                    self._failed_attempt(call, end, now_s)
            self._placing.look_at(lane)
        self._placing.fill(now_s)

    def start_failed(self, end: LaneEnd, now_s: float) -> None:
        """A worker or slot could not be started."""
        self._start_failed(end, now_s, give_up=not self._lanes)
        self._grow(now_s)

    def break_down(self, end: LaneEnd) -> None:
        """Give up: every open call fails with `end`, and so will later ones."""
        if self.broken is None:
            self.broken = end
            self._fail_all(end)
            self._actions.append(Break(end))

    # --- time ---

    def tick(self, now_s: float) -> None:
        """Look at everything whose time has come."""
        while self._paused and self._paused[0][0] <= now_s:
            call = heapq.heappop(self._paused)[2]
            if call.state is State.PAUSED:
                self._n_paused -= 1
                call.state = State.PENDING
                self._placing.add_first([call])
        if self._growth.next_deadline <= now_s and self._growth.is_late(self.n_open, len(self._lanes), now_s):
            self._start_failed(LaneEnd(Cause.LOST, f"no worker within {self._limits.start_within_s:g} s"), now_s)
        if self._next_ping <= now_s:
            self._look_after_workers(now_s)
        if self._placing.steal_at <= now_s:
            self._placing.steal_at = NEVER
        self._grow(now_s)
        self._placing.fill(now_s)

    def _look_after_workers(self, now_s: float) -> None:
        self._next_ping = now_s + self._limits.ping_every_s if self.n_open else NEVER
        for worker in list(self._workers.values()):
            busy = any(lane.calls for lane in worker.lanes.values())
            if worker.dropped_s is not None:
                self._next_ping = now_s + self._limits.ping_every_s
            if busy and worker.dropped_s is None:
                self._look_after(worker, now_s)
            elif worker.dropped_s is not None and now_s - worker.dropped_s >= self._limits.silent_after_s:
                self.worker_down(
                    worker.id, LaneEnd(Cause.LOST, f"worker {worker.id} is gone without a word"), {}, now_s
                )
        self._forget_unread(now_s)

    def _look_after(self, worker: Worker, now_s: float) -> None:
        """See whether a worker with calls is alive, and keeps their time limits."""
        if worker.pinged_s is None:
            worker.pinged_s = now_s
            self._actions.append(Ping(worker.id))
        elif now_s - worker.pinged_s >= self._limits.silent_after_s:
            worker.dropped_s = now_s
            for lane in worker.lanes.values():
                lane.closed = True
                self._placing.look_at(lane)
            self._actions.append(DropWorker(worker.id))
            return
        for lane in worker.lanes.values():
            first = next(iter(lane.calls.values()), None)
            if first is None or first.options.timeout_s is None:
                continue
            if now_s > lane.progress_s + first.options.timeout_s + self._limits.timeout_grace_s:
                self._actions.append(KillCall(lane.id, first.number))

    def _forget_unread(self, now_s: float) -> None:
        """Calls in a shared queue that idle slots do not find are lost. Those slots may leave before that is sure;
        then others go on for them."""
        longest_idle = next(iter(self._placing.idle.values()), None)
        if longest_idle is None:
            if self._lanes:
                self._idle_since_s = NEVER  # all are busy, and will come to it
            return
        if now_s - min(longest_idle.progress_s, self._idle_since_s) <= self._limits.queue_patience_s:
            return
        end = LaneEnd(Cause.LOST, "its message was lost in the queue")
        for queue in self._queues.values():
            for call in list(queue.calls.values()):
                if now_s - call.placed_s > self._limits.queue_patience_s:
                    queue.remove(call.number)
                    self._failed_attempt(call, end, now_s)

    # --- ends ---

    def _late(self, lane_id: str, number: int, final: bool, outcome: Any) -> None:
        """An outcome from a lane that no longer holds its call. It still counts if it is the call's first.

        One that asks for a retry does not: the attempt has been paid for, and the next one is on its way.
        """
        call = self._calls.get(number)
        if call is None or not (final or not call.options.retry.error):
            self.late_outcomes += 1
            return
        self._close(call)
        self._actions.append(Resolve(call, outcome, lane_id))

    def _holder(self, number: int) -> Lane | None:
        """Where a call is that slots take by themselves."""
        for queue in self._queues.values():
            if number in queue.calls:
                return queue
        call = self._calls.get(number)
        if call is None or call.state is not State.PLACED or call.lane is None:
            return None
        return self._lanes.get(call.lane)  # handed out twice: it belongs to the last who took it

    def _lane_gone(self, lane: Lane, end: LaneEnd, unstarted: int, now_s: float, worker: Worker | None = None) -> bool:
        """Give every call of a lane its due; whether the lane has ended before it did anything."""
        unstarted += len(self._placing.unsend(lane))
        self._placing.remove(lane)
        if not lane.calls:
            self._idle_since_s = min(self._idle_since_s, lane.progress_s)
        worker = worker or self._workers[lane.worker]
        worker.lanes.pop(lane.id, None)
        worker.proven |= bool(lane.done)
        calls = list(lane.calls.values())
        started = calls[: max(0, len(calls) - unstarted)]
        payer = next((call for call in started if not end.killed_call or call.number == end.killed_call), None)
        self._take_back(lane, [call for call in calls if call is not payer])
        if payer is not None:
            lane.remove(payer.number)
            if end.retired:  # it was not the call that ended the lane; its outcome was lost
                end = end._replace(cause=Cause.LOST)
            self._failed_attempt(payer, end, now_s)
        return not lane.done and not started and not end.retired

    def _take_back(self, lane: Lane, calls: list[Call]) -> None:
        """Calls that never started go to the front of the pending queue, in their order."""
        back = [call for call in calls if call.state is State.PLACED]
        for call in calls:
            lane.remove(call.number)
        for call in back:
            call.state = State.PENDING
            call.attempts -= 1
        self._placing.add_first(back)
        if lane.quota is not None:
            lane.quota += len(calls)

    def _failed_attempt(self, call: Call, end: LaneEnd, now_s: float) -> None:
        if call.state is not State.PLACED:
            return  # a ghost: another attempt has brought the outcome
        goes_on = end.cause is Cause.OOM and self._limits.oom_goes_on
        if not end.stopped and not goes_on and call.spend(end.cause):
            self._try_again(call, end.cause, now_s)
        else:
            self._close(call)
            self._actions.append(Fail(call, end))

    def _try_again(self, call: Call, cause: Cause, now_s: float) -> None:
        self.retries_by[cause] = self.retries_by.get(cause, 0) + 1
        pause_s = call.options.retry.backoff_s
        if pause_s:
            when = now_s + pause_s * 2.0 ** (sum(call.spent.values()) - 1)
            call.state = State.PAUSED
            self._n_paused += 1
            heapq.heappush(self._paused, (when, call.number, call))
        else:
            call.state = State.PENDING
            self._placing.add_first([call])

    def _close(self, call: Call) -> None:
        state, call.state = call.state, State.DONE
        del self._calls[call.number]
        if state is State.PENDING:
            self._placing.forget()
        elif state is State.PAUSED:
            self._n_paused -= 1

    def _fail_all(self, end: LaneEnd) -> None:
        for call in list(self._calls.values()):
            self._close(call)
            self._actions.append(Fail(call, end))

    # --- starts ---

    def _start_failed(self, end: LaneEnd, now_s: float, give_up: bool = True) -> None:
        counted = self._growth.failed(len(self._lanes), now_s)
        if counted and give_up and self._growth.failures >= self._limits.failed_starts:
            self.break_down(end)

    def _grow(self, now_s: float) -> None:
        """Ask for as many lanes as there are open calls."""
        if self.broken is None and (wanted := self._growth.ask(len(self._calls), len(self._lanes), now_s)):
            self._actions.append(WantLanes(wanted))
        self._placing.n_expected = self._growth.wanted
