"""Simulated workers: they take sealed batches from the work queue and send sealed reports, as worker/agent does.

Called by: ecs.py, when tasks are started and stopped; environments.py, for how long a call takes.
Calls:     the agent's own books and reporter, which decide what is placed, told and deleted; cloudexec's wire, for
           every byte that is read or sent. `Worker` follows agent.py line by line, without threads and processes.
A call is not run: it takes as many seconds as its first argument says, and its result is the time of its end. That
argument is unpickled to be read, which is safe here: it comes from the benchmark itself, over loopback, sealed.
Left out:  what costs a real worker CPU (pickling, starting slots), crashes, `stops`, and initializers.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any, Final, Protocol

from cloud.backstage import Backstage
from cloud.queues import Message, Queue
from cloud.s3 import S3, Stored
from cloud.sqs import MOST_ENTRIES, Sqs
from cloudexec.errors import WireError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import (
    KEY_VARIABLE,
    SETTINGS_VARIABLE,
    WorkerSettings,
    decode_control,
    from_text,
    to_text,
)
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, decode_batch
from cloudexec.wire.parts import pack_parts, sole_part
from cloudexec.worker.agent.books import NEVER, Books, Held, Work
from cloudexec.worker.agent.leaving import parcels, requests
from cloudexec.worker.agent.reporter import Letter, Reporter

POLL_S: Final = 20
DELETE_AFTER_S: Final = 0.5
STUCK_S: Final = 0.05
FLEET_UNIT: Final = 50
_PEAK_RSS: Final = 30 << 20


class Started(Protocol):
    """A task that has been started; see ecs.Task."""

    id: str
    started_s: float
    stopped_s: float
    why: str
    code: str
    worker: Worker | None

    def environment(self) -> dict[str, str]:
        """What its container gets."""
        ...


class Fleet:
    """All simulated workers of the account."""

    def __init__(self, backstage: Backstage, sqs: Sqs, s3: S3, start_delay_s: float) -> None:
        self.backstage = backstage
        self.sqs = sqs
        self.s3 = s3
        self._start_delay_s = start_delay_s
        self.workers: dict[str, Worker] = {}

    def start(self, task: Started) -> None:
        """A worker, after as long as a container takes to start."""
        self.backstage.clock.after(self._start_delay_s, self._up, task)

    def stop(self, task: Started, reason: str) -> None:
        """StopTask."""
        if task.stopped_s:
            return
        task.why, task.code = reason, "UserInitiated"
        if task.worker is None:
            task.stopped_s = time.time()
        else:
            task.worker.end(f"it was told to: {reason}")

    def ended(self, task: Started) -> None:
        """A worker has said its last word."""
        self.workers.pop(task.id, None)
        task.stopped_s = time.time()
        task.why = task.why or "Essential container in task exited"
        task.code = task.code or "EssentialContainerExited"

    def to_json(self) -> dict[str, int]:
        """What goes on."""
        slots = [slot for worker in self.workers.values() for slot in worker.slots.values()]
        return {
            "workers": len(self.workers),
            "slots": len(slots),
            "busy": sum(1 for slot in slots if slot.calls),
            "calls": sum(len(slot.calls) for slot in slots),
        }

    def _up(self, task: Started) -> None:
        if task.stopped_s:
            return
        environment = task.environment()
        settings = WorkerSettings.from_json(environment[SETTINGS_VARIABLE])
        task.started_s = time.time()
        task.worker = self.workers[task.id] = Worker(
            self, task, settings, Seal(bytes.fromhex(environment[KEY_VARIABLE]))
        )


class Slot:
    """One slot's process: its calls, the first of which runs since `since_s` of the monotonic clock."""

    __slots__ = ("calls", "since_s")

    def __init__(self) -> None:
        self.calls: deque[PackedCall] = deque()
        self.since_s = 0.0


class Worker:
    """One worker; see worker/agent/agent.py, whose names its methods have."""

    def __init__(self, fleet: Fleet, task: Started, settings: WorkerSettings, seal: Seal) -> None:
        now_s = time.monotonic()
        self._fleet = fleet
        self._task = task
        self._settings = settings
        self._seal = seal
        self._backstage = fleet.backstage
        self._clock = fleet.backstage.clock
        self._work: Queue = fleet.sqs.queue(settings.work_queue)
        self._out: Queue = fleet.sqs.queue(settings.out_queue)
        self._bucket = fleet.s3.buckets[settings.bucket]
        self._books = Books(settings.n_slots, settings.max_tasks_per_child)
        self._reporter = Reporter(task.id, {"python": settings.python_version, "task_arn": task.id})
        self.slots = {f"{task.id}.{number}": Slot() for number in range(settings.n_slots)}
        self._to_delete: list[str] = []
        self._delete_s = NEVER
        self._started_s = self._busy_s = self._told_s = now_s
        self._control_s = now_s
        self._control_etag = ""
        self._n_workers = 1
        self._is_receiving = False
        self._is_sending = False
        self._is_looking = False
        self._n_keeping = 0
        self._draining = ""
        self._ending = ""
        self._has_gone = False
        self._armed_s = NEVER
        for number, lane in enumerate(self.slots):
            self._books.begin_lane(lane, number)
            self._reporter.lane_up(lane, number)
        self._turn()

    def end(self, why: str) -> None:
        """Leave at once: what is not finished goes back into the queue."""
        if self._ending or self._has_gone:
            return
        self._ending = why
        for slot in self.slots.values():
            slot.calls.clear()
        started, waiting = self._books.take_all()
        for group in requests(parcels(self._seal, started, waiting)):
            texts = [item.text for item in group]
            self._keep("SendMessageBatch", partial(self._work.send, texts), sum(map(len, texts)))
            for item in group:
                self._reporter.requeued(item.attempts)
                self._delete_soon(self._books.settle(item.works))
        self._reporter.leaving(why)
        self._turn()

    def _turn(self) -> None:
        """Whatever is due."""
        if self._has_gone:
            return
        now_s = time.monotonic()
        if not self._books.is_empty:
            self._busy_s = now_s
        if not self._ending:
            self._look_for_an_end(now_s)
        if not self._ending:
            self._feed(now_s)
            self._receive(now_s)
            self._extend(now_s)
            self._look_at_control(now_s)
        self._delete(now_s)
        self._report(now_s)
        self._leave_when_told()
        next_s = self._next_s()
        if next_s < self._armed_s:
            self._armed_s = next_s
            self._clock.at(next_s, self._ring, next_s)

    def _ring(self, when_s: float) -> None:
        if when_s == self._armed_s:
            self._armed_s = NEVER
            self._turn()

    def _next_s(self) -> float:
        """When `_turn` will have something to do, unless something happens before."""
        books, settings = self._books, self._settings
        times = [self._delete_s]
        if not self._ending:
            times += [books.next_due_s(), books.next_stuck_s(STUCK_S)]
            if not self._is_sending:
                times.append(self._reporter.due_s(time.monotonic(), is_busy=not books.is_empty))
            if not self._is_looking:
                times.append(self._control_s)
            if not self._is_sending and not books.is_empty:
                times += [books.next_untold_s(settings.tell_after_s), self._told_s + settings.beat_every_s]
            if books.is_empty and not self._is_receiving:
                times.append(self._busy_s + settings.idle_s)
        return min(times)

    # --- messages in ---

    def _receive(self, now_s: float) -> None:
        most = min(MOST_ENTRIES, self._books.room)
        if most and not self._is_receiving and not self._draining:
            self._is_receiving = True
            wait_s = max(1, min(POLL_S, ceil(self._busy_s + self._settings.idle_s - now_s)))
            self._backstage.receive(self._work, most, wait_s, ceil(self._settings.visibility_s), self._received)

    def _received(self, messages: Sequence[Message]) -> None:
        self._is_receiving = False
        if self._ending or self._draining or self._has_gone:
            for message in messages:
                self._keep("ChangeMessageVisibilityBatch", partial(self._work.change_visibility, message.receipt, 0))
        else:
            now_s = time.monotonic()
            for message in messages:
                self._take(message, now_s)
        self._turn()

    def _take(self, message: Message, now_s: float) -> None:
        books, receipt = self._books, str(message.receipt)
        if books.has(message.id):
            books.renew_receipt(message.id, receipt)
            return
        if books.is_over(message.id):
            self._delete_soon([], receipt)
            return
        try:
            body = from_text(self._seal, Kind.BATCH, message.body)
            batch = decode_batch(body)
        except WireError as error:
            print(f"a work message is not read: {error}", flush=True)
            return
        books.take(Work(message.id, receipt, batch, body, now_s + self._settings.visibility_s / 2))

    def _feed(self, now_s: float) -> None:
        """Give idle slots what waits; take from busy ones what waits behind a long call."""
        lane = self._books.stuck(now_s, STUCK_S)
        if lane is not None:
            calls = self.slots[lane].calls
            self._books.take_back(lane, len(calls) - 1)
            while len(calls) > 1:
                calls.pop()
        for placement in self._books.place(now_s):
            slot = self.slots[placement.lane]
            slot.calls.extend(placement.calls)
            self._begin(placement.lane, slot, now_s)

    # --- what happens in slots ---

    def _begin(self, lane: str, slot: Slot, now_s: float) -> None:
        """The first call of a slot runs from `now_s` on, which may be a moment ago."""
        slot.since_s = now_s
        end_s = now_s + seconds_of(slot.calls[0])
        self._clock.at(end_s, self._ended, lane, slot, slot.calls[0], end_s)

    def _ended(self, lane: str, slot: Slot, call: PackedCall, end_s: float) -> None:
        if not slot.calls or slot.calls[0] is not call:
            return  # it was interrupted
        slot.calls.popleft()
        offset_s = time.time() - time.monotonic()
        start, end = slot.since_s + offset_s, end_s + offset_s
        value = pack_parts((pickle.dumps(end, 5),))
        outcome = Outcome(call.number, call.attempt, Verdict.RETURNED, start, end, 0.0, _PEAK_RSS, value)
        if slot.calls:
            self._begin(lane, slot, end_s)
        held: Held
        for held, known in self._books.ended(lane, [outcome], time.monotonic()):
            self._reporter.end(lane, known, held.work, is_last=self._books.is_idle(lane))
        self._turn()

    # --- reports and deletes out ---

    def _report(self, now_s: float) -> None:
        """Send what is to be told, if the last report has been answered."""
        reporter, books, settings = self._reporter, self._books, self._settings
        if self._is_sending:
            return
        is_untold = not books.is_empty and now_s >= books.next_untold_s(settings.tell_after_s)
        is_time = not books.is_empty and now_s >= self._told_s + settings.beat_every_s
        if reporter.due_s(now_s, is_busy=not books.is_empty) > now_s and not (is_untold or is_time):
            return
        tells = is_untold or is_time or reporter.is_due
        letter = reporter.next(books.held() if tells else None, books.receipts() if tells else {})
        if letter.report.held is not None:
            self._told_s = now_s
            for held in books.all_held():
                held.told = True
        self._is_sending = True
        text = to_text(self._seal, Kind.REPORT, letter.body)
        reported = partial(self._reported, letter)
        self._backstage.request("sqs", "SendMessageBatch", lambda: self._out.send([text]), reported, len(text))

    def _reported(self, letter: Letter, _sent: Any) -> None:
        self._is_sending = False
        self._delete_soon(self._books.settle(letter.works))
        self._turn()

    def _leave_when_told(self) -> None:
        is_told = not self._reporter.has_news and not self._is_sending
        if self._ending and is_told and not self._to_delete and not self._n_keeping:
            self._has_gone = True
            self._fleet.ended(self._task)

    def _delete_soon(self, over: Sequence[Work], *receipts: str) -> None:
        if over or receipts:
            self._to_delete += [work.receipt for work in over]
            self._to_delete += receipts
            self._delete_s = min(self._delete_s, time.monotonic() + DELETE_AFTER_S)

    def _delete(self, now_s: float) -> None:
        """Delete messages ten at a time; fewer when one has waited long enough."""
        is_late = now_s >= self._delete_s or bool(self._ending)
        while len(self._to_delete) >= MOST_ENTRIES or (self._to_delete and is_late):
            receipts, self._to_delete = self._to_delete[:MOST_ENTRIES], self._to_delete[MOST_ENTRIES:]
            self._keep("DeleteMessageBatch", partial(self._delete_all, receipts))
        if not self._to_delete:
            self._delete_s = NEVER

    def _delete_all(self, receipts: list[str]) -> None:
        for receipt in receipts:
            self._work.delete(int(receipt))

    def _extend(self, now_s: float) -> None:
        """Keep the messages that we hold out of others' sight."""
        due = self._books.due(now_s, self._settings.visibility_s)
        for start in range(0, len(due), MOST_ENTRIES):
            self._keep("ChangeMessageVisibilityBatch", partial(self._extend_all, due[start : start + MOST_ENTRIES]))

    def _extend_all(self, works: list[Work]) -> None:
        for work in works:
            self._work.change_visibility(int(work.receipt), ceil(self._settings.visibility_s))

    def _keep(self, operation: str, act: Any, n_bytes: int = 0) -> None:
        """A request whose answer matters only in that the worker does not go before."""
        self._n_keeping += 1
        self._backstage.request("sqs", operation, act, self._kept, n_bytes)

    def _kept(self, _answer: Any) -> None:
        self._n_keeping -= 1
        if self._ending:
            self._turn()

    # --- the client's orders, and the end ---

    def _look_at_control(self, now_s: float) -> None:
        if now_s < self._control_s or self._is_looking:
            return
        self._is_looking = True
        self._control_s = now_s + self._settings.control_every_s * max(1.0, self._n_workers / FLEET_UNIT)
        key = f"{self._settings.prefix}/control"
        self._backstage.request("s3", "GetObject", lambda: self._bucket.objects.get(key), self._controlled)

    def _controlled(self, stored: Stored | None) -> None:
        self._is_looking = False
        if stored is not None and stored.etag != self._control_etag and not self._has_gone:
            self._control_etag = stored.etag
            kind, body = self._seal.open(stored.body)
            assert kind is Kind.CONTROL
            control = decode_control(body)
            self._n_workers = max(1, control.n_workers)
            if self._task.id in control.leave or "*" in control.leave:
                self.end("its client told it to")
        if stored is not None and time.time() - stored.modified_s > self._settings.stale_s:
            self._draining = "the client is gone"
        self._turn()

    def _look_for_an_end(self, now_s: float) -> None:
        is_idle = self._books.is_empty and not self._is_receiving
        if is_idle and now_s >= self._busy_s + self._settings.idle_s:
            self._draining = self._draining or "it had no work"
        if self._draining and is_idle:
            self._ending = self._draining
            self._reporter.leaving(self._ending)


def seconds_of(call: PackedCall) -> float:
    """How long a call takes: its first argument."""
    pickled = sole_part(call.packed)
    if pickled is None:
        return 0.0
    args, _kwargs = pickle.loads(pickled)
    return float(args[0]) if args and isinstance(args[0], (int, float)) else 0.0
