"""The ledger: all that is known of the calls of one run, and what should happen next.

Called by: engine, simulator.   Calls: pace, lanes, calls.
Each method takes an event and the time (monotonic seconds); `take_actions` gives what is to be done about it.
Every call is in exactly one place: the pending queue, the pause before a retry, or one lane; and it ends in exactly
one Resolve or Fail. Costs a few microseconds a call, however many there are.

    submitted -> pending -> placed in a lane -> outcome  -> Resolve
                    ^            |                |
                    |            | returned       | budget left
                    +------------+----------------+
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
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
from cloudexec.ledger.lanes import Lane, Worker
from cloudexec.ledger.pace import Pace

NEVER: Final = float("inf")


@dataclass(frozen=True)
class Limits:
    """Bounds that the ledger keeps."""

    max_lanes: int
    max_tasks_per_lane: int | None = None
    ping_every_s: float = 2.0
    silent_after_s: float = 8.0  # an unanswered ping means that the worker is lost
    start_within_s: float = 60.0  # no lane at all after this time is a failed start
    failed_starts: int = 3  # in a row; then the executor is broken
    timeout_grace_s: float = 5.0  # a worker that has not enforced timeout_s by then is asked to
    queue_patience_s: float = 30.0  # a shared queue that nobody takes from for so long has lost the call


class Ledger:
    """Events in, actions out."""

    def __init__(self, limits: Limits, pace: Pace) -> None:
        self._limits = limits
        self._pace = pace
        self._pending: deque[Call] = deque()
        self._n_pending = 0  # without those that are done already and still lie in the queue
        self._paused: list[tuple[float, int, Call]] = []  # heap by the time of the retry
        self._tried: dict[int, Call] = {}  # open calls that were placed before: a late outcome may still come
        self._lanes: dict[str, Lane] = {}
        self._queues: dict[str, Lane] = {}
        self._workers: dict[str, Worker] = {}
        self._idle: dict[str, Lane] = {}
        self._hungry: dict[str, Lane] = {}
        self._actions: list[Action] = []
        self._open = 0
        self._wanted = 0
        self._start_by = NEVER
        self._failed_starts = 0
        self._next_ping = NEVER
        self._steal_at = NEVER
        self.broken: LaneEnd | None = None
        self.late_outcomes = 0
        self.retries = 0
        self.placed_batches = 0

    # --- what it knows ---

    @property
    def n_open(self) -> int:
        """Calls that are not over."""
        return self._open

    @property
    def n_placed(self) -> int:
        """Calls that are in a lane."""
        return self._open - self._n_pending - len(self._paused)

    @property
    def n_lanes(self) -> int:
        """Slots that are up."""
        return len(self._lanes)

    @property
    def next_deadline(self) -> float:
        """When `tick` is due, in monotonic seconds; infinity when only events count."""
        pause = self._paused[0][0] if self._paused else NEVER
        return min(pause, self._start_by, self._next_ping, self._steal_at)

    def take_actions(self) -> list[Action]:
        """What is to be done, in this order; each action is given once."""
        actions, self._actions = self._actions, []
        return actions

    # --- calls ---

    def submitted(self, calls: Iterable[Call], now_s: float) -> None:
        """New calls; their numbers must be new."""
        before = len(self._pending)
        self._pending.extend(calls)
        added = len(self._pending) - before
        self._open += added
        self._n_pending += added
        if self.broken is not None:
            self._fail_all(self.broken)
            return
        self._fill(now_s)
        self._grow(now_s)

    def cancel(self, call: Call) -> bool:
        """Forget a call that has not been placed, or has come back; False when it is in a lane or over.

        To cancel a placed call, have its lane recalled first.
        """
        if call.state is not State.PENDING:
            return False
        self._close(call, was_pending=True)
        return True

    def pending_calls(self) -> list[Call]:
        """Calls that could be cancelled now."""
        waiting = [call for _, _, call in self._paused]
        return [call for call in (*self._pending, *waiting) if call.state is State.PENDING]

    def placed_calls(self) -> list[Call]:
        """Calls that are in lanes."""
        lanes = (*self._lanes.values(), *self._queues.values())
        return [call for lane in lanes for call in lane.calls.values()]

    def last_calls(self, lane_id: str, count: int) -> frozenset[int]:
        """Numbers of the last `count` calls of a lane."""
        lane = self._lanes.get(lane_id)
        return frozenset(call.number for call in lane.last(count)) if lane is not None else frozenset()

    def lane_counts(self) -> dict[str, int]:
        """How many calls each busy lane holds."""
        return {lane.id: len(lane.calls) for lane in self._lanes.values() if lane.calls}

    def outcome(
        self, lane_id: str, number: int, *, ok: bool, retry: bool, seconds: float, outcome: Any, now_s: float
    ) -> None:
        """An attempt has ended. `retry`: it failed in a way for which the error budget holds.

        The first outcome of a call counts; late twins are counted and dropped.
        """
        lane = self._lanes.get(lane_id)
        call = lane.remove(number) if lane is not None else None
        if lane is not None:
            lane.progress_s = now_s
            lane.done += 1
            lane.stalled = False
            self._failed_starts = 0
        if call is None:
            call = self._late(number)
            if call is None:
                self._look_at(lane)
                return
        call.estimate.learn(seconds)
        if ok or not retry or not call.spend(Cause.ERROR):
            self._close(call)
            self._actions.append(Resolve(call, outcome, lane_id))
        elif call.state is State.PLACED:
            self._try_again(call, now_s)
        self._look_at(lane)

    def settle(self, now_s: float) -> None:
        """Call after a group of outcomes: gives free lanes new calls."""
        self._fill(now_s)
        if self._n_pending:
            self._grow(now_s)

    # --- lanes and workers ---

    def queue_up(self, lane_id: str, now_s: float) -> None:
        """A queue that slots take from by themselves; with it, calls are placed there and nowhere else."""
        self._queues[lane_id] = Lane(lane_id, "", now_s, None, shared=True)

    def lane_up(self, lane_id: str, worker_id: str, now_s: float) -> None:
        """A slot can take calls."""
        lane = Lane(lane_id, worker_id, now_s, self._limits.max_tasks_per_lane)
        self._lanes[lane_id] = lane
        self._workers.setdefault(worker_id, Worker(worker_id)).lanes[lane_id] = lane
        self._start_by = NEVER
        self._look_at(lane)
        self._fill(now_s)

    def taken(self, lane_id: str, numbers: Iterable[int], now_s: float) -> None:
        """A slot has taken calls out of a shared queue."""
        lane = self._lanes.get(lane_id)
        if lane is None:
            return  # its end was told before; the queue will hand them out again
        for number in numbers:
            for queue in self._queues.values():
                call = queue.remove(number)
                if call is not None:
                    lane.add(call, call.cost_s)
        lane.progress_s = now_s
        self._look_at(lane)
        self._fill(now_s)

    def returned(self, lane_id: str, count: int, now_s: float, place: bool = True) -> None:
        """The last `count` calls of a lane were taken back; they never started.

        `place`: give them to other lanes at once; if not, the next event does.
        """
        lane = self._lanes.get(lane_id)
        if lane is None:
            return
        back = lane.last(count)
        self._take_back(lane, back)
        lane.stalled = bool(lane.calls)
        self._look_at(lane)
        if place:
            self._fill(now_s)

    def lane_down(self, lane_id: str, end: LaneEnd, unstarted: int, now_s: float) -> None:
        """A slot has ended. The last `unstarted` of its calls were never started.

        Of the others, the first one was running: it pays for the end. The rest pay nothing.
        """
        lane = self._lanes.pop(lane_id, None)
        if lane is None:
            return
        self._wanted = max(0, self._wanted - 1)
        self._idle.pop(lane_id, None)
        self._hungry.pop(lane_id, None)
        self._workers[lane.worker].lanes.pop(lane_id, None)
        if not lane.done and not end.retired and len(lane.calls) == unstarted:
            self._start_failed(end)
        running = list(lane.calls.values())[: len(lane.calls) - unstarted]
        bystander = bool(end.killed_call) and bool(running) and running[0].number != end.killed_call
        self._take_back(lane, [call for call in lane.calls.values() if bystander or call not in running[:1]])
        for call in list(lane.calls.values()):
            lane.remove(call.number)
            self._failed_attempt(call, end, now_s)
        self._fill(now_s)
        self._grow(now_s)

    def worker_down(self, worker_id: str, end: LaneEnd, unstarted: dict[str, int], now_s: float) -> None:
        """A worker has ended, and its lanes with it. `unstarted`: as for `lane_down`, by lane."""
        worker = self._workers.pop(worker_id, None)
        if worker is None or not worker.lanes:
            self.start_failed(end, now_s)
            return
        self._workers[worker_id] = worker
        for lane_id in list(worker.lanes):
            self.lane_down(lane_id, end, unstarted.get(lane_id, 0), now_s)
        self._workers.pop(worker_id, None)

    def heard(self, worker_id: str, now_s: float, holding: frozenset[int] | None = None) -> None:
        """A worker answered a ping. `holding`: the calls it has, if messages may get lost on the way.

        A call that was placed before the ping and is not held has been lost with its message.
        """
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        asked_s, worker.pinged_s = worker.pinged_s, None
        if holding is None or asked_s is None:
            return
        end = LaneEnd(Cause.LOST, "a message to or from the worker was lost")
        for lane in list(worker.lanes.values()):
            for call in list(lane.calls.values()):
                if call.number in holding or call.placed_s >= asked_s:
                    continue
                lane.remove(call.number)
                self._failed_attempt(call, end, now_s)
            self._look_at(lane)
        self._fill(now_s)

    def start_failed(self, end: LaneEnd, now_s: float) -> None:
        """A worker or slot could not be started."""
        self._start_failed(end)
        self._wanted = len(self._lanes)
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
            if call.state is State.PENDING:
                self._pending.appendleft(call)
                self._n_pending += 1
        if self._start_by <= now_s:
            self._start_by = NEVER
            self.start_failed(LaneEnd(Cause.LOST, f"no worker within {self._limits.start_within_s:g} s"), now_s)
        if self._next_ping <= now_s:
            self._look_after_workers(now_s)
        self._fill(now_s)
        if self._steal_at <= now_s:
            self._steal_at = NEVER  # nobody is idle now, or nobody has anything to take

    def _look_after_workers(self, now_s: float) -> None:
        for worker in list(self._workers.values()):
            if worker.pinged_s is not None and now_s - worker.pinged_s >= self._limits.silent_after_s:
                worker.pinged_s = NEVER  # once is enough; its end comes back as `worker_down`
                self._actions.append(DropWorker(worker.id))
            elif any(lane.calls for lane in worker.lanes.values()):
                if worker.pinged_s is None:
                    worker.pinged_s = now_s
                    self._actions.append(Ping(worker.id))
                self._enforce_timeouts(worker, now_s)
        self._forget_unread(now_s)
        self._next_ping = now_s + self._limits.ping_every_s if self.n_placed else NEVER

    def _enforce_timeouts(self, worker: Worker, now_s: float) -> None:
        for lane in worker.lanes.values():
            first = next(iter(lane.calls.values()), None)
            if first is None or first.options.timeout_s is None:
                continue
            if now_s > lane.progress_s + first.options.timeout_s + self._limits.timeout_grace_s:
                self._actions.append(KillCall(lane.id, first.number))

    def _forget_unread(self, now_s: float) -> None:
        """Calls in a shared queue that idle slots do not find are lost."""
        if not self._idle:
            return
        end = LaneEnd(Cause.LOST, "its message was lost in the queue")
        for queue in self._queues.values():
            if queue.calls and now_s - queue.progress_s > self._limits.queue_patience_s:
                for call in list(queue.calls.values()):
                    queue.remove(call.number)
                    self._failed_attempt(call, end, now_s)

    # --- placing ---

    def _look_at(self, lane: Lane | None) -> None:
        """Note whether a lane is idle, or could take more."""
        if lane is None or lane.id not in self._lanes:
            return
        usable = lane.quota != 0 and not lane.stalled
        if usable and not lane.calls:
            self._idle[lane.id] = lane
        else:
            self._idle.pop(lane.id, None)
        if usable and lane.load_s <= self._pace.target_s / 2:
            self._hungry[lane.id] = lane
        else:
            self._hungry.pop(lane.id, None)

    def _fill(self, now_s: float) -> None:
        """Give pending calls to lanes that can take them; idle lanes first."""
        if self._queues:
            self._fill_queues(now_s)
        else:
            while self._idle and (call := self._next_pending()):
                self._place(self._idle[next(iter(self._idle))], call, now_s)
            while self._hungry and (call := self._next_pending()) and call.estimate.count:
                self._place(self._hungry[next(iter(self._hungry))], call, now_s)
            if self._idle and self._pace.can_recall and len(self._idle) < len(self._lanes):
                self._steal(now_s)

    def _fill_queues(self, now_s: float) -> None:
        n_slots = max(len(self._lanes), self._wanted, 1)
        for queue in self._queues.values():
            while (call := self._next_pending()) and (
                len(queue.calls) < n_slots or queue.load_s < n_slots * self._pace.target_s
            ):
                self._place(queue, call, now_s)

    def _next_pending(self) -> Call | None:
        """The first pending call, without taking it; drops what was cancelled."""
        pending = self._pending
        while pending:
            if pending[0].state is State.PENDING:
                return pending[0]
            pending.popleft()
        return None

    def _place(self, lane: Lane, first: Call, now_s: float) -> None:
        batch = self._form_batch(lane, first)
        if not lane.calls:
            lane.progress_s = now_s
        for call in batch:
            call.state = State.PLACED
            call.attempts += 1
            call.placed_s = now_s
            lane.add(call, call.estimate.mean_s + self._pace.overhead_s)
        if lane.quota is not None:
            lane.quota -= len(batch)
        self._n_pending -= len(batch)
        self.placed_batches += 1
        self._actions.append(Place(lane.id, batch))
        self._look_at(lane)
        self._next_ping = min(self._next_ping, now_s + self._limits.ping_every_s)

    def _form_batch(self, lane: Lane, first: Call) -> list[Call]:
        """Take calls from the pending queue for one message."""
        most = first.options.batch or self._pace.most_in_batch(
            first.estimate, self._n_pending, max(len(self._lanes), self._wanted if lane.shared else 1)
        )
        room_s = NEVER if first.options.batch else self._pace.target_s - (0.0 if lane.shared else lane.load_s)
        if lane.quota is not None:
            most = min(most, lane.quota)
        batch: list[Call] = []
        size, work_s, pending = 0, 0.0, self._pending
        while pending and (not batch or len(batch) < most):
            call = pending[0]
            if call.state is not State.PENDING:
                pending.popleft()
                continue
            size += call.size
            work_s += call.estimate.mean_s + self._pace.overhead_s
            if batch and (size > self._pace.most_bytes or work_s > room_s or not call.estimate.count):
                break
            batch.append(pending.popleft())
        return batch

    def _steal(self, now_s: float) -> None:
        """Take queued calls back from the busiest lane for an idle one."""
        if self._steal_at != NEVER and now_s < self._steal_at:
            return
        self._steal_at = NEVER
        victim = max(
            (lane for lane in self._lanes.values() if len(lane.calls) > 1 and not lane.stalled),
            key=lambda lane: lane.load_s,
            default=None,
        )
        if victim is None:
            return
        due = victim.progress_s + self._pace.stalled_after_s
        if victim.load_s >= self._pace.recall_above_s or due <= now_s:
            self._actions.append(Recall(victim.id))
            self._steal_at = max(now_s, due) + self._pace.stalled_after_s
        else:
            self._steal_at = due

    # --- ends ---

    def _late(self, number: int) -> Call | None:
        """The open call of an outcome that comes from a lane which no longer holds it."""
        call = self._tried.get(number)
        if call is None or call.state is State.DONE:
            self.late_outcomes += 1
            return None
        if call.state is State.PLACED and call.lane is not None:
            lane = self._lanes.get(call.lane) or self._queues[call.lane]
            lane.remove(number)
            self._look_at(lane)
        return call

    def _take_back(self, lane: Lane, calls: list[Call]) -> None:
        """Calls that never started go to the front of the pending queue, in their order."""
        for call in calls:
            lane.remove(call.number)
            call.state = State.PENDING
            call.attempts -= 1
        self._pending.extendleft(reversed(calls))
        self._n_pending += len(calls)
        if lane.quota is not None:
            lane.quota += len(calls)

    def _failed_attempt(self, call: Call, end: LaneEnd, now_s: float) -> None:
        if not end.stopped and call.spend(end.cause):
            self._try_again(call, now_s)
        else:
            self._close(call)
            self._actions.append(Fail(call, end))

    def _try_again(self, call: Call, now_s: float) -> None:
        self.retries += 1
        self._tried[call.number] = call
        call.state = State.PENDING
        pause_s = call.options.retry.backoff_s
        if pause_s:
            when = now_s + pause_s * 2 ** (sum(call.spent.values()) - 1)
            heapq.heappush(self._paused, (when, call.number, call))
        else:
            self._pending.appendleft(call)
            self._n_pending += 1

    def _close(self, call: Call, was_pending: bool = False) -> None:
        if call.state is State.PENDING and not self._unpause(call):
            self._n_pending -= 1
        call.state = State.DONE
        self._tried.pop(call.number, None)
        self._open -= 1

    def _unpause(self, call: Call) -> bool:
        """Take a call out of the pause before its retry; False if it is not there."""
        kept = [entry for entry in self._paused if entry[2] is not call]
        if len(kept) == len(self._paused):
            return False
        self._paused = kept
        heapq.heapify(self._paused)
        return True

    def _fail_all(self, end: LaneEnd) -> None:
        for call in [*self.pending_calls(), *self.placed_calls()]:
            lane = self._lanes.get(call.lane or "") or self._queues.get(call.lane or "")
            if lane is not None:
                lane.remove(call.number)
            self._close(call)
            self._actions.append(Fail(call, end))
        self._pending.clear()

    def _start_failed(self, end: LaneEnd) -> None:
        self._failed_starts += 1
        if self._failed_starts >= self._limits.failed_starts:
            self.break_down(end)

    def _grow(self, now_s: float) -> None:
        """Ask for as many lanes as there are open calls."""
        if self.broken is not None:
            return
        useful = min(self._limits.max_lanes, self._open)
        if useful > len(self._lanes):
            if useful > self._wanted:
                self._wanted = useful
                self._actions.append(WantLanes(useful))
            if not self._lanes and self._start_by == NEVER:
                self._start_by = now_s + self._limits.start_within_s
