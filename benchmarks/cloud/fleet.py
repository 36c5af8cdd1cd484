"""Simulated workers: they take sealed batches from the work queue and send sealed reports, as worker/agent does.

Called by: ecs.py, when tasks are started and stopped.   Calls: cloudexec's wire, for every byte that is read or sent.
A call is not run: it takes as many seconds as its first argument says, and its result is the time of its end. That
argument is unpickled to be read, which is safe here: it comes from the benchmark itself, over loopback, sealed.
Left out:  what costs a real worker CPU (pickling, starting slots), crashes, `stops`, quotas of calls, initializers.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from cloud.backstage import Backstage
from cloud.queues import Message, Queue
from cloud.s3 import S3, Stored
from cloud.sqs import MOST_ENTRIES, Sqs
from cloudexec.errors import CloudexecError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import (
    KEY_VARIABLE,
    SETTINGS_VARIABLE,
    LaneStart,
    Report,
    WorkerSettings,
    decode_control,
    encode_report,
    from_text,
    to_text,
)
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, decode_batch
from cloudexec.wire.parts import pack_parts, sole_part

POLL_S: Final = 20.0
DELETE_WITHIN_S: Final = 1.0
REPORT_BYTES: Final = 700_000
_OUTCOME_BYTES: Final = 150  # of the results here; generous
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
            task.worker.leave("stopped")

    def ended(self, task: Started) -> None:
        """A worker has said its last word."""
        self.workers.pop(task.id, None)
        task.stopped_s = time.time()
        task.why = task.why or "Essential container in task exited"
        task.code = task.code or "EssentialContainerExited"

    def to_json(self) -> dict[str, int]:
        """What goes on."""
        slots = [slot for worker in self.workers.values() for slot in worker.slots]
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


class Taken:
    """A work message that is not deleted yet, and the numbers of its calls that are not told yet."""

    __slots__ = ("extended_s", "open", "receipt")

    def __init__(self, receipt: int, numbers: Iterable[int]) -> None:
        self.receipt = receipt
        self.open = set(numbers)
        self.extended_s = time.monotonic()


class Slot:
    """One slot. `calls[0]` runs, since `since_s` of the monotonic clock."""

    __slots__ = ("calls", "lane", "since_s")

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.calls: deque[tuple[PackedCall, Taken]] = deque()
        self.since_s = 0.0


class Worker:
    """One worker: receives, runs, reports, deletes."""

    def __init__(self, fleet: Fleet, task: Started, settings: WorkerSettings, seal: Seal) -> None:
        self._fleet = fleet
        self._task = task
        self._settings = settings
        self._seal = seal
        self._backstage = fleet.backstage
        self._clock = fleet.backstage.clock
        self._work: Queue = fleet.sqs.queue(settings.work_queue)
        self._out: Queue = fleet.sqs.queue(settings.out_queue)
        self.slots = [Slot(f"{task.id}.{number}") for number in range(settings.n_slots)]
        self._taken: dict[int, Taken] = {}
        self._outbox: list[tuple[str, Outcome, Taken]] = []
        self._news = True  # something besides outcomes is to be told
        self._n_reports = 0
        self._n_workers = 1
        self._is_sending = False
        self._is_receiving = False
        self._is_telling = False
        self._leaving = ""
        self._has_left = False
        self._deletable: list[int] = []
        self._busy_s = time.monotonic()  # when it last had work
        self._said_s = 0.0  # when it last told what it holds
        self._control_etag = ""
        self._send()
        self._ask()
        self._clock.after(settings.idle_s, self._look_idle)
        self._clock.after(settings.visibility_s / 4, self._extend)
        self._clock.after(settings.beat_every_s, self._beat)
        self._read_control()

    def leave(self, why: str) -> None:
        """Take no more, finish what runs, say so, end."""
        self._leaving = self._leaving or why
        self._news = True
        self._send()

    # --- work in ---

    def _ask(self) -> None:
        n_free = sum(1 for slot in self.slots if not slot.calls)
        if n_free and not self._is_receiving and not self._leaving:
            self._is_receiving = True
            most = min(MOST_ENTRIES, n_free)
            self._backstage.receive(self._work, most, POLL_S, self._settings.visibility_s, self._got)

    def _got(self, messages: Sequence[Message]) -> None:
        self._is_receiving = False
        if self._has_left:
            return
        n_left = len(messages)
        for message in messages:
            free = [slot for slot in self.slots if not slot.calls]
            self._spread(message, free[: max(1, len(free) // n_left)])
            n_left -= 1
        self._ask()

    def _spread(self, message: Message, free: list[Slot]) -> None:
        """The calls of a message over free slots; without any, behind the shortest queue."""
        try:
            calls = decode_batch(from_text(self._seal, Kind.BATCH, message.body)).calls
        except CloudexecError as error:
            print(f"a work message is damaged: {error}", flush=True)
            return
        taken = self._taken[message.receipt] = Taken(message.receipt, (call.number for call in calls))
        slots = free or [min(self.slots, key=lambda slot: len(slot.calls))]
        n_slots = min(len(slots), len(calls))
        for index, slot in enumerate(slots[:n_slots]):
            piece = calls[len(calls) * index // n_slots : len(calls) * (index + 1) // n_slots]
            is_idle = not slot.calls
            slot.calls.extend((call, taken) for call in piece)
            if is_idle:
                self._begin(slot, time.monotonic())

    # --- calls ---

    def _begin(self, slot: Slot, now_s: float) -> None:
        """The first call of a slot runs from `now_s` on, which may be a moment ago."""
        slot.since_s = now_s
        seconds = seconds_of(slot.calls[0][0])
        self._clock.at(now_s + seconds, self._end, slot, now_s + seconds)
        if seconds > self._settings.tell_after_s and not self._is_telling:
            self._is_telling = True
            self._clock.at(now_s + self._settings.tell_after_s, self._tell)

    def _end(self, slot: Slot, end_s: float) -> None:
        if self._has_left:
            return
        call, taken = slot.calls.popleft()
        offset_s = time.time() - time.monotonic()
        end = end_s + offset_s
        value = pack_parts((pickle.dumps(end, 5),))
        outcome = Outcome(
            call.number, call.attempt, Verdict.RETURNED, slot.since_s + offset_s, end, 0.0, _PEAK_RSS, value
        )
        self._outbox.append((slot.lane, outcome, taken))
        if slot.calls:
            self._begin(slot, end_s)
        self._send()
        self._ask()

    # --- reports out ---

    def _tell(self) -> None:
        """A call has run for `tell_after_s`: say what is held; the next call that does so is told anew."""
        self._is_telling = False
        now, due = time.monotonic(), self._settings.tell_after_s
        busy = [slot for slot in self.slots if slot.calls]
        if any(slot.since_s > self._said_s and now - slot.since_s >= due for slot in busy):
            self._news = True
            self._send()
        younger = [slot.since_s for slot in busy if now - slot.since_s < due]
        if younger:
            self._is_telling = True
            self._clock.at(min(younger) + due, self._tell)

    def _beat(self) -> None:
        """A busy worker gives a sign of life."""
        if self._has_left:
            return
        if any(slot.calls for slot in self.slots) and time.monotonic() - self._said_s >= self._settings.beat_every_s:
            self._news = True
            self._send()
        self._clock.after(self._settings.beat_every_s, self._beat)

    def _send(self) -> None:
        """One report at a time: what happens while it travels goes into the next."""
        if self._is_sending or self._has_left or not (self._outbox or self._news):
            return
        self._is_sending = True
        most = REPORT_BYTES // _OUTCOME_BYTES
        told, self._outbox = self._outbox[:most], self._outbox[most:]
        for _, outcome, taken in told:
            taken.open.discard(outcome.number)
        report = self._report([(lane, outcome) for lane, outcome, _ in told])
        text = to_text(self._seal, Kind.REPORT, encode_report(report))
        over = [taken for taken in {id(taken): taken for _, _, taken in told}.values() if not taken.open]
        accepted = partial(self._accepted, over, report.leaving)
        self._backstage.request("sqs", "SendMessage", lambda: self._out.send([text]), accepted, len(text))

    def _report(self, outcomes: list[tuple[str, Outcome]]) -> Report:
        now = time.monotonic()
        self._n_reports += 1
        self._news = False
        report = Report(self._task.id, self._n_reports, outcomes=outcomes)
        if self._n_reports == 1:
            up = [LaneStart(slot.lane, number) for number, slot in enumerate(self.slots)]
            report = report._replace(up=up, facts={"python": self._settings.python_version, "pid": str(os.getpid())})
        busy = [slot for slot in self.slots if slot.calls]
        if any(now - slot.since_s >= self._settings.tell_after_s * 0.99 for slot in busy):
            self._said_s = now
            held = {slot.lane: [call.number for call, _ in slot.calls] for slot in busy}
            receipts = {str(taken.receipt): sorted(taken.open) for taken in self._taken.values() if taken.open}
            report = report._replace(held=held, receipts=receipts)
        if self._leaving and not busy and not self._outbox:
            report = report._replace(leaving=self._leaving)
        return report

    def _accepted(self, over: list[Taken], leaving: str, _sent: Any) -> None:
        self._is_sending = False
        for taken in over:
            self._taken.pop(taken.receipt, None)
            self._deletable.append(taken.receipt)
        if leaving:
            self._has_left = True
            self._delete()
            self._fleet.ended(self._task)
            return
        if len(self._deletable) >= MOST_ENTRIES:
            self._delete()
        elif over and len(self._deletable) == len(over):
            self._clock.after(DELETE_WITHIN_S, self._delete)
        if self._leaving and not any(slot.calls for slot in self.slots):
            self._news = True
        self._send()

    def _delete(self) -> None:
        while self._deletable:
            receipts, self._deletable = self._deletable[:MOST_ENTRIES], self._deletable[MOST_ENTRIES:]
            self._backstage.request("sqs", "DeleteMessageBatch", partial(self._delete_all, receipts))

    def _delete_all(self, receipts: list[int]) -> None:
        for receipt in receipts:
            self._work.delete(receipt)

    # --- time passes ---

    def _extend(self) -> None:
        """What is held stays invisible."""
        if self._has_left:
            return
        now, visibility_s = time.monotonic(), self._settings.visibility_s
        old = [taken for taken in self._taken.values() if now - taken.extended_s >= visibility_s / 4]
        for start in range(0, len(old), MOST_ENTRIES):
            some = old[start : start + MOST_ENTRIES]
            self._backstage.request("sqs", "ChangeMessageVisibilityBatch", partial(self._extend_all, some))
        self._clock.after(visibility_s / 4, self._extend)

    def _extend_all(self, some: list[Taken]) -> None:
        for taken in some:
            taken.extended_s = time.monotonic()
            self._work.change_visibility(taken.receipt, self._settings.visibility_s)

    def _look_idle(self) -> None:
        if self._has_left:
            return
        now = time.monotonic()
        if any(slot.calls for slot in self.slots):
            self._busy_s = now
        self._busy_s = max(self._busy_s, *(slot.since_s for slot in self.slots))
        left_s = self._busy_s + self._settings.idle_s - now
        if left_s <= 0:
            self.leave("idle")
        else:
            self._clock.after(left_s, self._look_idle)

    def _read_control(self) -> None:
        if self._has_left:
            return
        bucket = self._fleet.s3.buckets[self._settings.bucket]
        key = f"{self._settings.prefix}/control"
        self._backstage.request("s3", "GetObject", lambda: bucket.objects.get(key), self._controlled)
        every_s = self._settings.control_every_s * max(1.0, self._n_workers / 50)
        self._clock.after(every_s, self._read_control)

    def _controlled(self, stored: Stored | None) -> None:
        if stored is None or self._has_left:
            return
        if stored.etag != self._control_etag:
            self._control_etag = stored.etag
            kind, body = self._seal.open(stored.body)
            assert kind is Kind.CONTROL
            control = decode_control(body)
            self._n_workers = control.n_workers
            if self._task.id in control.leave or "*" in control.leave:
                self.leave("told to leave")
        if time.time() - stored.modified_s > self._settings.stale_s:
            self.leave("the client is gone")


def seconds_of(call: PackedCall) -> float:
    """How long a call takes: its first argument."""
    pickled = sole_part(call.packed)
    if pickled is None:
        return 0.0
    args, _kwargs = pickle.loads(pickled)
    return float(args[0]) if args and isinstance(args[0], (int, float)) else 0.0
