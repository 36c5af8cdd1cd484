"""A random cloud: workers and slots that may die, hang and retire; messages that may get lost or come twice.

Called by: simulation.py, in whose virtual time it lives.   Calls: plan.py, ledger for its types.
It is both the service and its backend: it carries out the ledger's actions, and tells what happened.

    place -> (latency, loss, twins) -> backlog of a slot -> runs -> outcomes -> (latency, loss, twins) -> tell
    place -> the queue -> a free slot takes -> told as `taken`
               ^  |                                    |
               |  +-> taken back by the client         +-> dropped, and told as `given_back`
               +---- put back by a worker that leaves, and told as `requeued`
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Call, Cause
from cloudexec.testing.simulation.plan import Plan, SimCall

QUEUE: Final = "queue"
_MAY_COME_TWICE: Final = frozenset({"outcomes", "taken", "heard", "requeued", "given_back"})
_BELL_S: Final = 0.001  # outcomes wait so long for company
_VISIBILITY_S: Final = 5.0  # a message whose slot has died comes back to the queue

Work = tuple[SimCall, int]  # a call and its attempt


class SimOutcome(NamedTuple):
    """What a slot says of a call; `number` stands for its value too."""

    number: int
    attempt: int
    end: str
    seconds: float


class Told(NamedTuple):
    """A word from the cloud to the client: the name of an event of the ledger, and what belongs to it."""

    what: str
    about: str
    detail: Any = None
    end: LaneEnd | None = None


class Slot:
    """A slot, with its backend's view of it."""

    __slots__ = (
        "attempt",
        "backlog",
        "barren",
        "in_flight",
        "lane",
        "left",
        "life",
        "message",
        "n_placed",
        "n_started",
        "running",
        "rung_s",
        "told_s",
        "unsent",
        "worker",
    )

    def __init__(self, lane: str, worker: SimWorker, left: int | None, barren: bool) -> None:
        self.lane = lane
        self.worker = worker
        self.left = left
        self.barren = barren
        self.backlog: deque[Work] = deque()
        self.in_flight: deque[list[Work]] = deque()  # sent by pipe, not read yet
        self.message: list[Work] = []  # taken from the queue
        self.running: SimCall | None = None
        self.attempt = 0  # the running one
        self.life = 1  # changes with each call, so that a timer of an earlier one does nothing; 0: dead
        self.unsent: list[SimOutcome] = []
        self.rung_s = 0.0
        self.n_placed = 0
        self.n_started = 0
        self.told_s = 0.0

    @property
    def unstarted(self) -> int:
        """Calls sent through the pipe and never started."""
        return self.n_placed - self.n_started


class SimWorker:
    """A worker."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.slots: list[Slot] = []
        self.alive = True
        self.silent = False
        self.held: list[tuple[str, Told]] | None = None  # what it says while it cannot be heard


class Cloud:
    """Carries out what the ledger wants. `after(delay, what, *args)` is the clock; `tell` reaches the client."""

    def __init__(
        self, plan: Plan, rng: random.Random, after: Callable[..., None], tell: Callable[[Told], None]
    ) -> None:
        self.plan = plan
        self.now_s = 0.0
        self.lanes: dict[str, Slot] = {}  # as far as the client has been told
        self.workers: dict[str, SimWorker] = {}
        self.n_starting = 0
        self.interrupted: Counter[int] = Counter()  # attempts that ended because their worker left, by call
        self._rng = rng
        self._after = after
        self._tell = tell
        self._started = 0
        self._queue: deque[list[Work]] = deque()
        self._free: deque[Slot] = deque()  # slots that wait at the queue
        weather = plan.weather
        self._risky = bool(weather.slot_death or weather.worker_death or weather.silence or weather.leaving)

    # --- what the ledger asks ---

    def want_lanes(self, count: int) -> None:
        """See backends.protocol."""
        missing = count - len(self.lanes) - self.n_starting
        weather = self.plan.weather
        while missing > 0:
            n_slots = min(missing, self.plan.slots_per_worker)
            missing -= n_slots
            self.n_starting += n_slots
            delay_s = self._rng.expovariate(1 / weather.start_s) if weather.start_s else 0.0
            if self._happens(weather.throttled):
                delay_s *= 50
            self._after(min(delay_s, 300.0), self._worker_starts, n_slots)

    def place(self, lane: str, calls: list[Call]) -> None:
        """See backends.protocol."""
        work: list[Work] = [(call, call.attempts) for call in calls]  # type: ignore[misc]  # our calls are SimCalls
        if lane == QUEUE:
            self._send(self._enqueue, work)
            return
        slot = self.lanes[lane]
        slot.n_placed += len(work)
        if self.plan.reliable:
            slot.in_flight.append(work)
            self._after(self._latency(), self._read_pipe, slot)
        else:
            self._send(self._deliver, work, slot)

    def recall(self, lane: str) -> int:
        """See backends.protocol."""
        slot = self.lanes.get(lane)
        if slot is None or not self.plan.reliable:
            return 0
        count = slot.unstarted
        slot.backlog.clear()
        slot.in_flight.clear()
        slot.n_placed -= count
        return count

    def recall_queue(self) -> list[tuple[int, int]]:
        """See backends.protocol."""
        found = [(call.number, attempt) for work in self._queue for call, attempt in work]
        self._queue.clear()
        return found

    def kill_call(self, lane: str, number: int) -> None:
        """See backends.protocol."""
        slot = self.lanes.get(lane)
        if slot is not None and self.plan.recall and slot.life and slot.worker.alive and not slot.worker.silent:
            rest = [work for work in slot.backlog if work[0].number != number]
            if len(rest) < len(slot.backlog):
                slot.backlog = deque(rest)
                self._say(slot, Told("given_back", QUEUE, [number]))
        if slot is not None and slot.life and slot.running is not None and slot.running.number == number:
            self._dies(slot, LaneEnd(Cause.CRASH, "stopped", killed_call=number, stopped=True))

    def ping(self, worker_id: str) -> None:
        """See backends.protocol."""
        worker = self.workers.get(worker_id)
        if worker is not None:
            self._send(self._answer, worker)

    def drop_worker(self, worker_id: str) -> None:
        """See backends.protocol."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.alive:
            self._worker_dies(worker, "silent, and killed")

    # --- messages ---

    def _latency(self) -> float:
        weather = self.plan.weather
        steady_s = weather.latency_s * (1 - weather.jitter)
        random_s = weather.latency_s * weather.jitter
        return steady_s + (self._rng.expovariate(1 / random_s) if random_s else 0.0)

    def _happens(self, chance: float) -> bool:
        return bool(chance) and self._rng.random() < chance

    def _send(self, deliver: Callable[..., None], *what: Any) -> None:
        """A message to the cloud."""
        if not self._happens(self.plan.weather.loss):
            self._after(self._latency(), deliver, *what)
            if self._happens(self.plan.weather.twins):
                self._after(self._latency() * 3, deliver, *what)

    def _say(self, slot: Slot, told: Told) -> None:
        """A word of a slot to the client; in order if messages are reliable."""
        slot.told_s = max(slot.told_s, self.now_s + self._latency())
        self._word(slot.worker, told, slot.told_s - self.now_s if self.plan.reliable else self._latency())

    def _word(self, worker: SimWorker, told: Told, delay_s: float) -> None:
        if worker.held is not None:
            worker.held.append((worker.id, told))
        elif told.what in ("lane_down", "worker_down") or not self._happens(self.plan.weather.loss):
            self._after(delay_s, self._arrives, told)
            if told.what in _MAY_COME_TWICE and self._happens(self.plan.weather.twins):
                self._after(delay_s * 3, self._arrives, told)

    def _arrives(self, told: Told) -> None:
        if told.what == "lane_down":
            slot = self.lanes.pop(told.about, None)
            if slot is None:
                return  # its worker's end has been told
            if self.plan.reliable:
                told = told._replace(detail=slot.unstarted)
        elif told.what == "worker_down":
            lanes = [slot for slot in self.workers.pop(told.about).slots if self.lanes.pop(slot.lane, None)]
            told = told._replace(detail={s.lane: s.unstarted if self.plan.reliable else 0 for s in lanes})
        self._tell(told)

    def _answer(self, worker: SimWorker) -> None:
        if worker.alive and not worker.silent:
            holding = None
            if not self.plan.reliable:
                holding = frozenset(n for slot in worker.slots if slot.life for n in _held_by(slot))
            self._word(worker, Told("heard", worker.id, holding), self._latency())

    # --- starts and ends ---

    def _worker_starts(self, n_slots: int) -> None:
        self.n_starting -= n_slots
        if self._happens(self.plan.weather.start_failure):
            self._tell(Told("start_failed", "", end=LaneEnd(Cause.LOST, "no capacity")))
            return
        self._started += 1
        worker = SimWorker(f"w{self._started}")
        self.workers[worker.id] = worker
        for number in range(n_slots):
            slot = Slot(f"{worker.id}.{number}", worker, self.plan.max_tasks, self._happens(self.plan.weather.barren))
            worker.slots.append(slot)
            self.lanes[slot.lane] = slot
            self._tell(Told("lane_up", slot.lane, worker.id))
            if slot.barren:
                self._after(0.05, self._dies, slot, LaneEnd(Cause.CRASH, "died at its start", exitcode=1))
            elif self.plan.mode == "pull":
                self._goes_on(slot)

    def _dies(self, slot: Slot, end: LaneEnd, life: int = 0) -> None:
        """A slot ends; `life`: only if it is still at the same call."""
        if not slot.life or not slot.worker.alive or slot.worker.silent or (life and life != slot.life):
            return
        unstarted = len(slot.backlog) if end.retired else 0
        slot.life = 0
        if end.retired or self.plan.reliable:  # what was written to a pipe outlives the writer
            self._flush(slot)
        else:
            self._leave_message(slot)
        self._say(slot, Told("lane_down", slot.lane, unstarted, end))

    def _worker_dies(self, worker: SimWorker, why: str) -> None:
        worker.alive = False
        for slot in worker.slots:
            if self.plan.reliable:
                self._flush(slot)
            if slot.life:
                self._leave_message(slot)
        told = Told("worker_down", worker.id, None, LaneEnd(Cause.LOST, why))
        if worker.silent or worker.held is not None:
            self._arrives(told)  # we killed it
        else:
            latest_s = max((slot.told_s for slot in worker.slots), default=self.now_s)
            self._after(max(latest_s - self.now_s, 0.0) + self._latency(), self._arrives, told)

    def _leaves(self, worker: SimWorker) -> None:
        """It was told to end: what it has not finished goes back into the queue, and it says so."""
        if not worker.alive or worker.silent:
            return
        worker.alive = False
        back: list[Work] = []
        for slot in worker.slots:
            if slot.life:
                self._flush(slot)
                if slot.running is not None:
                    self.interrupted[slot.running.number] += 1
                    back.append((slot.running, slot.attempt + 1))
                back += slot.backlog
                slot.message = []
        if back:
            self._enqueue(back)  # there before the message that brought them is deleted
            self._word(worker, Told("requeued", QUEUE, [(c.number, attempt) for c, attempt in back]), self._latency())
        told = Told("worker_down", worker.id, None, LaneEnd(Cause.LOST, "left", retired=True))
        self._after(self._latency() * 2, self._arrives, told)

    def _falls_silent(self, worker: SimWorker) -> None:
        if self._happens(self.plan.weather.revival):
            worker.held = []
            self._after(self._rng.uniform(1, 60), self._is_heard_again, worker)
        else:
            worker.silent = True
        for slot in worker.slots:
            if worker.silent and slot.message:
                self._leave_message(slot)

    def _is_heard_again(self, worker: SimWorker) -> None:
        words, worker.held = worker.held or [], None
        for _, told in words:
            self._after(self._latency(), self._arrives, told)

    # --- the queue ---

    def _enqueue(self, work: list[Work]) -> None:
        self._queue.append(work)
        while self._queue and self._free:
            slot = self._free.popleft()
            if slot.life and slot.worker.alive and not slot.worker.silent:
                self._takes(slot)

    def _takes(self, slot: Slot) -> None:
        slot.message = work = self._queue.popleft()
        slot.backlog.extend(work)
        self._say(slot, Told("taken", slot.lane, [call.number for call, _ in work]))
        if self._happens(self.plan.weather.redelivery):
            self._after(self._rng.uniform(0, 10), self._enqueue, work)
        self._goes_on(slot)

    def _leave_message(self, slot: Slot) -> None:
        """What a dead slot had taken comes back to the queue."""
        if slot.message:
            self._after(_VISIBILITY_S, self._enqueue, slot.message)
            slot.message = []

    # --- running calls ---

    def _read_pipe(self, slot: Slot) -> None:
        if slot.in_flight:  # else its calls were taken back
            self._deliver(slot.in_flight.popleft(), slot)

    def _deliver(self, work: list[Work], slot: Slot) -> None:
        if slot.life and slot.worker.alive and not slot.worker.silent:
            slot.backlog.extend(work)
            if slot.running is None and not slot.barren:
                self._goes_on(slot)

    def _goes_on(self, slot: Slot) -> None:
        """Start the next call, if there is one."""
        slot.running = None
        if not slot.worker.alive or slot.worker.silent:
            return
        if not slot.backlog:
            if slot.unsent:
                self._flush(slot)
            slot.message = []
            if self.plan.mode == "pull":
                self._takes(slot) if self._queue else self._free.append(slot)
            return
        call, attempt = slot.backlog.popleft()
        slot.running, slot.attempt = call, attempt
        slot.n_started += 1
        slot.life += 1
        if self._risky and self._strikes(slot):
            return
        end, limit_s = call.next_end(), call.options.timeout_s
        if limit_s is not None and (end == "endless" or call.seconds > limit_s):
            lane_end = LaneEnd(Cause.TIMEOUT, "timeout", killed_call=call.number)
            self._after(limit_s, self._dies, slot, lane_end, slot.life)
        else:
            self._after(call.seconds, self._finishes, slot, slot.life, attempt, end)

    def _strikes(self, slot: Slot) -> bool:
        """Something may happen to the slot or its worker in this call; whether it has happened already."""
        weather, worker = self.plan.weather, slot.worker
        if self._happens(weather.slot_death):
            self._after(self._rng.random() * 0.01, self._dies, slot, LaneEnd(Cause.CRASH, "killed"), slot.life)
        if self._happens(weather.worker_death):
            self._worker_dies(worker, "died")
        elif self._happens(weather.silence):
            self._falls_silent(worker)
        elif self._happens(weather.leaving):
            self._after(self._rng.random() * 0.01, self._leaves, worker)
        return not worker.alive or worker.silent

    def _finishes(self, slot: Slot, life: int, attempt: int, end: str) -> None:
        call = slot.running
        if slot.life != life or call is None or not slot.worker.alive or slot.worker.silent:
            return
        if end in ("crash", "oom"):
            self._dies(slot, LaneEnd(Cause(end), end))
            return
        if not slot.unsent:
            slot.rung_s = self.now_s
        slot.unsent.append(SimOutcome(call.number, attempt, end, call.seconds))
        if self.now_s - slot.rung_s >= _BELL_S:
            self._flush(slot)
        if slot.left is not None:
            slot.left -= 1
            if not slot.left:
                slot.running = None
                self._dies(slot, LaneEnd(Cause.CRASH, "retired", retired=True))
                return
        self._goes_on(slot)

    def _flush(self, slot: Slot) -> None:
        if slot.unsent:
            outcomes, slot.unsent = slot.unsent, []
            self._say(slot, Told("outcomes", slot.lane, outcomes))


def _held_by(slot: Slot) -> list[int]:
    running = [slot.running.number] if slot.running is not None else []
    return [call.number for call, _ in slot.backlog] + [o.number for o in slot.unsent] + running
