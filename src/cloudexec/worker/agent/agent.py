"""The loop of a pulling worker: the only owner of its books.

    receiver --messages--> _received: check, split, put back what may have killed others
    slots ----facts------> _on_fact:  outcomes, slots that begin and end
    watcher --control----> _controlled: stops, leave, the client's age
    clock ---------------> _turn:     place, receive, extend, report, delete; whether it is time to end

Called by: main.py.   Calls: books, reporter, control, leaving (what to do); host, couriers (do it).
Requests:  one long poll while a slot is free; a report whenever there is news and the last one has been answered; one
           delete for up to ten messages, at most DELETE_AFTER_S late; one extension for up to ten messages, at half
           their visibility; one look at the control object every control_every_s, less often in large fleets.
Ends:      softly (idle, lifetime, dead client): takes no more, finishes what runs. At once (signal, order, broken
           machine): slots are killed, what is not finished goes back into the queue.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from math import ceil
from typing import Final

from cloudexec.errors import AwsError, CallCrashed, CloudexecError, NoSuchKey, SignatureError, WireError, WorkerLost
from cloudexec.transport import s3, sqs
from cloudexec.wire.control import DownCause, Setup
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import LaneStop, WorkerSettings, from_text, to_text
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, decode_batch, encode_batch
from cloudexec.worker.agent.books import NEVER, Books, Held, Work
from cloudexec.worker.agent.control import Orders
from cloudexec.worker.agent.couriers import Client, Courier, Inbox, is_gone
from cloudexec.worker.agent.leaving import Parcel, parcels, requests
from cloudexec.worker.agent.place import Place, facts_of
from cloudexec.worker.agent.reporter import Letter, Reporter
from cloudexec.worker.host.facts import (
    Ended,
    Fact,
    InitializerRaised,
    LaneBegan,
    LaneEnded,
    NoStart,
    WorkerEnded,
    described,
)
from cloudexec.worker.host.host import Host
from cloudexec.worker.stores import open_store, s3_place
from cloudexec.worker.system import reap_strangers

EXIT_OK: Final = 0
EXIT_NO_CONTACT: Final = 4  # the queues could not be reached for PATIENCE_S
EXIT_INITIALIZER: Final = 5  # the initializer raised
EXIT_BROKEN: Final = 6  # slots or their supervisor die again and again

PATIENCE_S: Final = 300.0
DELETE_AFTER_S: Final = 0.5
END_WITHIN_S: Final = 20.0
_IN_ONE: Final = 10
_LOOK_S: Final = 60.0  # the loop turns at least so often, for clocks that were set and machines that slept
_STUCK_S: Final = 0.05  # calls wait so long behind a running one before an idle slot may have them
_KILL_AGAIN_S: Final = 0.5
_NEW_QUEUE_S: Final = 60.0  # a queue may seem not to exist at first
_LEAVE_WITHIN_S: Final = 2.0  # what slots may take to leave when they have nothing to do
_MOST_RESTARTS: Final = 2  # of the supervisor
_MOST_BARREN: Final = 20  # slots that end without having run anything, one after another
_FLEET_UNIT: Final = 50  # so many workers may look at the control object at the full rate


def say(text: str) -> None:
    """One line for the container's log."""
    print(f"cloudexec worker: {text}", file=sys.stderr, flush=True)


class Agent:
    """One worker. `roots`: directories for the slots' cache; `patience_s`: how long it bears that nobody answers."""

    def __init__(
        self,
        settings: WorkerSettings,
        key: bytes,
        place: Place,
        client: Client,
        roots: list[str],
        *,
        process_age_s: float = 0.0,
        patience_s: float = PATIENCE_S,
    ) -> None:
        now_s = time.monotonic()
        self._settings = settings
        self._key = key
        self._seal = Seal(key)
        self._place = place
        self._roots = roots
        self._patience_s = patience_s
        self._store = s3_place(settings.bucket, settings.bucket_owner, settings.prefix, settings.region)
        self._initializer = ""
        self._books = Books(settings.n_slots, settings.max_tasks_per_child)
        self._reporter = Reporter(place.worker, facts_of(place, process_age_s))
        self._orders = Orders(self._seal, place.worker, now_s)
        self._inbox = Inbox()
        self._receiver, self._sender, self._keeper, self._watcher = (
            Courier(name, client, self._inbox) for name in ("receiver", "sender", "keeper", "watcher")
        )
        self._host = Host(self._setup_for, self._seal, f"{place.worker}.")
        self._host.watch(self._inbox.fd, self._on_inbox)
        self._to_delete: list[str] = []
        self._delete_s = NEVER
        self._started_s = self._busy_s = self._reported_s = now_s
        self._receive_s = 0.0
        self._control_s = now_s
        self._kill_s = NEVER
        self._slots_s = NEVER
        self._restarts = 0
        self._barren = 0
        self._signal = ""
        self._draining = ""
        self._ending = ""
        self._is_killed = False
        self._grace_s = _LEAVE_WITHIN_S
        self._exit_code: int | None = None
        self._code = EXIT_OK
        self._end_s = NEVER
        self._distrusted = ""
        self._interrupted: list[Held] = []
        self._n_putting_back = 0
        self._said_goodbye = False

    def run(self) -> int:
        """Work until the end; the exit code. No slot is left then."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._receive(time.monotonic())  # messages may already be on their way while slots start
            self._start_slots()
            while self._exit_code is None:
                for fact in self._host.poll(min(max(0.0, self._next_s() - time.monotonic()), _LOOK_S)):
                    self._on_fact(fact)
                self._turn(time.monotonic())
        finally:
            self._host.stop(self._grace_s)
        return self._exit_code

    def _turn(self, now_s: float) -> None:
        """Whatever is due."""
        if not self._books.is_empty:
            self._busy_s = now_s
        if not self._ending:
            self._look_for_an_end(now_s)
        if not self._ending:
            self._feed(now_s)
            self._receive(now_s)
            self._extend(now_s)
            self._look_at_control(now_s)
            if now_s >= self._kill_s:
                self._stop_calls(now_s)
            if now_s >= self._slots_s:
                self._slots_s = NEVER
                self._host.want_slots(self._settings.n_slots)
        if self._ending:
            if not self._is_killed:
                self._kill_slots()
            self._finish(now_s)
        self._delete(now_s)
        self._report(now_s)

    def _next_s(self) -> float:
        """When `_turn` will have something to do, unless something happens before."""
        sender_free = self._may_report
        times = [self._end_s, self._delete_s, now_if(sender_free and self._reporter.has_news)]
        if not self._ending:
            settings, books = self._settings, self._books
            times += [self._kill_s, self._slots_s, books.next_due_s(), self._contact_until_s()]
            times.append(books.next_stuck_s(_STUCK_S))
            if not self._watcher.n_open:
                times.append(self._control_s)
            if not self._draining:
                times.append(self._started_s + settings.lifetime_s)
                times.append(self._receive_s if books.room and not self._receiver.n_open else NEVER)
            if sender_free and books.lanes and not books.is_empty:
                times += [books.next_untold_s(settings.tell_after_s), self._reported_s + settings.beat_every_s]
            if books.is_empty and not self._receiver.n_open:
                times.append(self._busy_s + settings.idle_s)
        return min(times)

    def _on_inbox(self, _flags: int) -> list[Fact]:
        for handle in self._inbox.take():
            handle()
        return []

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._signal:
            os._exit(128 + number)  # somebody is in a hurry; messages come back by themselves
        self._signal = signal.Signals(number).name
        self._inbox.ring()

    # --- messages in ---

    def _receive(self, now_s: float) -> None:
        """Wait for as many messages as there are free slots."""
        room = min(_IN_ONE, self._books.room)
        if not room or self._receiver.n_open or self._draining or now_s < self._receive_s:
            return
        left_s = min(self._busy_s + self._settings.idle_s, self._started_s + self._settings.lifetime_s) - now_s
        wait_s = max(1, min(sqs.LONGEST_WAIT_S, ceil(left_s)))  # a poll that is cut off may swallow a message
        visibility_s = ceil(self._settings.visibility_s)
        self._receive_s = NEVER
        self._receiver.carry(
            sqs.receive_messages(self._settings.work_queue, most=room, wait_s=wait_s, visibility_s=visibility_s),
            self._received,
        )

    def _received(self, answer: list[sqs.Message] | AwsError) -> None:
        now_s = self._receive_s = time.monotonic()
        if isinstance(answer, AwsError):
            self._receive_s = now_s + 2.0
            if not is_gone(answer):
                say(f"cannot receive: {answer}")
            elif now_s - self._started_s > _NEW_QUEUE_S:
                self._drain("the client is gone: its queue was removed")
            return
        if self._ending or self._draining:
            self._change_visibility([message.receipt for message in answer], 0)
            return
        calls = sum(self._take(message, now_s) for message in answer)
        if calls:
            say(f"taken {calls} calls in {len(answer)} messages")

    def _take(self, message: sqs.Message, now_s: float) -> int:
        """Take a message in; how many calls it brings."""
        books = self._books
        if books.has(message.id):
            books.renew_receipt(message.id, message.receipt)
            return 0
        if books.is_over(message.id):
            self._delete_soon([message.receipt], now_s)
            return 0
        try:
            body = from_text(self._seal, Kind.BATCH, message.body)
            batch = decode_batch(body)
        except WireError as error:
            self._distrust(message, error, now_s)
            return 0
        work = Work(message.id, message.receipt, batch, body, now_s + self._settings.visibility_s / 2)
        numbers = {call.number for call in batch.calls}
        if not numbers:
            self._delete_soon([message.receipt], now_s)
        elif message.receive_count > self._settings.most_receives:
            for held in books.take(work, without=numbers):
                self._give_up(held, message.receive_count)
        elif message.receive_count > 1 and len(numbers) > 1:
            # It may have killed whoever had it. By themselves, only the guilty call can do so again.
            say(f"message {message.id} comes for the {message.receive_count}. time: its {len(numbers)} calls go singly")
            self._put_back(parcels(self._seal, [], books.take(work, without=numbers), singly=True))
        else:
            for held in books.take(work, without=self._orders.stops):
                self._reporter.dropped(held)
        return len(numbers)

    def _distrust(self, message: sqs.Message, error: WireError, now_s: float) -> None:
        """Leave a message that is not from our client to others, but not for ever."""
        kind = "is not signed with the run's key" if isinstance(error, SignatureError) else "is damaged"
        say(f"message {message.id} {kind}, and not read: {error.what}")
        if message.receive_count >= self._settings.most_receives:
            self._delete_soon([message.receipt], now_s)

    def _give_up(self, held: Held, receive_count: int) -> None:
        what = f"call {held.number} was taken {receive_count - 1} times and never finished; its workers died"
        self._reporter.end(self._some_lane(), _refusal(held.call, WorkerLost(what)), held.work)

    def _some_lane(self) -> str:
        return next(iter(self._books.lanes), f"{self._place.worker}.none")

    def _feed(self, now_s: float) -> None:
        """Give idle slots what waits; take from busy ones what waits behind a long call."""
        if (lane := self._books.stuck(now_s, _STUCK_S)) is not None:
            self._books.take_back(lane, self._host.recall(lane))
        for lane, work, calls in self._books.place(now_s):
            batch = work.batch
            is_whole = len(calls) == len(batch.calls)
            body = bytes(work.body) if is_whole else encode_batch(calls, batch.python, batch.pickler)
            self._host.place(lane, body, [call.number for call in calls], ())

    # --- what happens in slots ---

    def _on_fact(self, fact: Fact) -> None:
        now_s = time.monotonic()
        if isinstance(fact, Ended):
            for held, outcome in self._books.ended(fact.lane, fact.outcomes, now_s):
                self._reporter.end(fact.lane, outcome, held.work)
        elif isinstance(fact, LaneBegan):
            if not self._books.lanes:
                say(f"first slot is up after {now_s - self._started_s:.3f} s")
            self._books.begin_lane(fact.lane, fact.slot)
            self._reporter.lane_up(fact.lane, fact.slot)
        elif isinstance(fact, LaneEnded):
            self._lane_ended(fact, now_s)
        elif isinstance(fact, WorkerEnded):
            self._supervisor_ended(fact, now_s)
        elif isinstance(fact, InitializerRaised):
            if not self._ending:
                self._reporter.failed_start(fact.lane, fact.outcome)
                self._end("the initializer raised an exception", EXIT_INITIALIZER)
        elif isinstance(fact, NoStart):
            self._no_start(fact.detail, now_s)

    def _lane_ended(self, fact: LaneEnded, now_s: float) -> None:
        lane, victims = self._books.end_lane(fact.lane, fact.unstarted)
        if self._is_killed:
            self._interrupted += victims
            return
        down = fact.down
        is_barren = lane is not None and not lane.done and not victims and down.why != DownCause.RETIRED
        self._barren = self._barren + 1 if is_barren else 0
        if down.why != DownCause.RETIRED:
            say(described(fact))
        words = f"it {fact.condemned}\n{down.last_words}" if fact.condemned else down.last_words
        running = down.killed_call or down.running_call
        self._tell_down(LaneStop(fact.lane, down.exitcode, down.why, down.killed_call, running, words, []), victims)
        if self._barren > _MOST_BARREN:
            self._end(
                f"{self._barren} slots died before they ran anything; the last one: {described(fact)}", EXIT_BROKEN
            )
        pause_s = min(5.0, 0.05 * 2**self._barren) if self._barren > 2 * self._settings.n_slots else 0.0
        self._slots_s = min(self._slots_s, now_s + pause_s)

    def _tell_down(self, stop: LaneStop, victims: list[Held]) -> None:
        """Report a slot's end. One call ends with it; should others have started too, their outcomes were lost."""
        found = next((held for held in victims if held.number == stop.running_call), victims[0] if victims else None)
        number = found.number if found is not None else 0
        killed = stop.killed_call if stop.killed_call == number else 0
        stop = stop._replace(running_call=number, killed_call=killed)
        self._reporter.lane_down(stop, found.work if found is not None else None)
        for held in victims:
            if held is not found:
                error = CallCrashed(f"call {held.number}: its slot died, and its outcome was lost", stop.exitcode)
                self._reporter.end(stop.lane, _refusal(held.call, error), held.work)

    def _supervisor_ended(self, fact: WorkerEnded, now_s: float) -> None:
        exitcode = -signal.SIGKILL if fact.exitcode is None else fact.exitcode
        for lane in list(self._books.lanes):
            _, victims = self._books.end_lane(lane, fact.unstarted.get(lane, 0))
            if self._is_killed:
                self._interrupted += victims
            else:
                self._tell_down(LaneStop(lane, exitcode, DownCause.LOST, 0, 0, fact.detail, []), victims)
        if not self._ending:
            say(fact.detail)
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                self._end(f"its supervisor died {self._restarts} times; {fact.detail}", EXIT_BROKEN)
            self._slots_s = now_s

    def _no_start(self, detail: str, now_s: float) -> None:
        say(detail)
        self._barren += 1
        if self._barren > _MOST_BARREN and not self._ending:
            self._end(detail, EXIT_BROKEN)
        self._slots_s = now_s + min(5.0, 0.05 * 2**self._barren)

    def _start_slots(self) -> None:
        if self._settings.initializer:
            name = self._settings.initializer
            name = name if "/" in name else f"blobs/{name}"
            try:
                content = open_store(self._roots, self._store).get(name)  # compared with its name, which is its hash
            except CloudexecError as error:
                self._end(f"the initializer cannot be read: {error.what}", EXIT_INITIALIZER)
                return
            self._initializer = base64.b64encode(content).decode()
        self._host.want_slots(self._settings.n_slots)

    def _setup_for(self, worker_id: str) -> Setup:
        settings = self._settings
        return Setup(
            run_id=settings.run_id,
            worker_id=worker_id,
            key_hex=self._key.hex(),
            client_pid=os.getpid(),
            store_roots=self._roots,
            python_path=[path or os.getcwd() for path in sys.path],
            python_version=settings.python_version,
            max_tasks_per_child=settings.max_tasks_per_child,
            initializer=self._initializer,
            inline_bytes=settings.inline_bytes,
            store=self._store,
        )

    # --- reports and deletes out ---

    def _report(self, now_s: float) -> None:
        """Send what is to be told, if the last report has been answered."""
        reporter, books = self._reporter, self._books
        if not self._may_report:
            return
        if not reporter.has_news:
            untold = now_s >= books.next_untold_s(self._settings.tell_after_s)
            beat = not books.is_empty and now_s >= self._reported_s + self._settings.beat_every_s
            if not books.lanes or not (untold or beat):
                return
        letter = reporter.next(books.held(), books.receipts())
        if letter.report.held:
            for held in books.all_held():
                held.told = True
        self._reported_s = now_s
        text = to_text(self._seal, Kind.REPORT, letter.body)
        self._sender.carry(sqs.send_messages(self._settings.out_queue, [text]), partial(self._reported, letter))

    @property
    def _may_report(self) -> bool:
        """Whether the last report has been answered. A slot's end is told together with the slot that has its calls
        now: else the client would think that they ended with it."""
        return not self._sender.n_open and (bool(self._ending) or not self._books.is_homeless)

    def _reported(self, letter: Letter, answer: list[sqs.EntryFailure] | AwsError) -> None:
        if isinstance(answer, AwsError):
            if is_gone(answer):
                self._abandon(f"the client is gone: {answer.what}", EXIT_OK)
            else:
                self._reporter.refused(letter)
        elif not answer:
            self._delete_soon([work.receipt for work in self._books.settle(letter.works)], time.monotonic())
            if letter.report.leaving:
                self._delete_s = 0.0
        elif answer[0].is_our_fault:
            self._reporter.refused(letter)
        else:
            self._reporter.again(letter)

    def _delete_soon(self, receipts: list[str], now_s: float) -> None:
        if receipts:
            self._to_delete += receipts
            self._delete_s = min(self._delete_s, now_s + DELETE_AFTER_S)

    def _delete(self, now_s: float) -> None:
        """Delete messages ten at a time; fewer when one has waited long enough."""
        while len(self._to_delete) >= _IN_ONE or (self._to_delete and (now_s >= self._delete_s or self._ending)):
            receipts, self._to_delete = self._to_delete[:_IN_ONE], self._to_delete[_IN_ONE:]
            self._keeper.carry(
                sqs.delete_messages(self._settings.work_queue, receipts), partial(self._deleted, receipts)
            )
        if not self._to_delete:
            self._delete_s = NEVER

    def _deleted(self, receipts: list[str], answer: list[sqs.EntryFailure] | AwsError) -> None:
        if not isinstance(answer, AwsError):
            again = [receipts[failure.index] for failure in answer if not failure.is_our_fault]
            self._delete_soon(again, time.monotonic())

    def _extend(self, now_s: float) -> None:
        """Keep the messages that we hold out of others' sight."""
        due = self._books.due(now_s, self._settings.visibility_s)
        self._change_visibility([work.receipt for work in due], ceil(self._settings.visibility_s))

    def _change_visibility(self, receipts: list[str], seconds: int) -> None:
        for at in range(0, len(receipts), _IN_ONE):
            entries = [(receipt, seconds) for receipt in receipts[at : at + _IN_ONE]]
            self._keeper.carry(sqs.change_visibility(self._settings.work_queue, entries), _ignore)

    def _put_back(self, items: list[Parcel]) -> None:
        """Put calls into the queue again; their old messages are deleted afterwards."""
        for group in requests(items):
            self._n_putting_back += 1
            operation = sqs.send_messages(self._settings.work_queue, [item.text for item in group])
            self._keeper.carry(operation, partial(self._was_put_back, group))

    def _was_put_back(self, group: list[Parcel], answer: list[sqs.EntryFailure] | AwsError) -> None:
        self._n_putting_back -= 1
        if isinstance(answer, AwsError):
            say(f"cannot put calls back, their messages will come again: {answer}")
            self._books.forget(work for item in group for work in item.works)
            return
        failed = {failure.index: failure for failure in answer}
        for index, item in enumerate(group):
            if index not in failed:
                self._reporter.requeued(item.attempts)
                over = self._books.settle(item.works)
                self._delete_soon([work.receipt for work in over], time.monotonic())
        self._put_back([group[index] for index, failure in failed.items() if not failure.is_our_fault])

    # --- the client's orders ---

    def _look_at_control(self, now_s: float) -> None:
        if now_s < self._control_s or self._watcher.n_open:
            return
        settings = self._settings
        reap_strangers(self._host.pids.values())
        self._control_s = now_s + settings.control_every_s * max(1.0, self._orders.n_workers / _FLEET_UNIT)
        key = f"{settings.prefix}/control"
        operation = s3.get_object(settings.bucket, key, owner=settings.bucket_owner, if_none_match=self._orders.etag)
        self._watcher.carry(operation, self._controlled)

    def _controlled(self, answer: s3.S3Object | AwsError) -> None:
        now_s = time.monotonic()
        if isinstance(answer, AwsError):
            if not isinstance(answer, NoSuchKey):
                say(f"cannot read the control object: {answer}")
            return
        try:
            is_new = self._orders.read(answer, now_s)
        except WireError as error:
            if error.what != self._distrusted:
                say(f"the control object is not obeyed: {error.what}")
            self._distrusted = error.what
            return
        if is_new and not self._ending:
            self._stop_calls(now_s)

    def _stop_calls(self, now_s: float) -> None:
        """End the calls that the client does not want any more: kill those that run, strike off the others."""
        books, stops = self._books, self._orders.stops
        self._kill_s = NEVER
        for lane in list(books.lanes.values()) if stops else ():
            if any(held.number in stops for held in lane.held):
                books.take_back(lane.id, self._host.recall(lane.id))
                for held in lane.held:
                    if held.number in stops:
                        self._host.kill_call(lane.id, held.number)
                        self._kill_s = now_s + _KILL_AGAIN_S  # it may have been between claiming and running it
        for held in books.drop_waiting(stops) if stops else ():
            self._reporter.dropped(held)

    # --- the end ---

    def _look_for_an_end(self, now_s: float) -> None:
        settings = self._settings
        silent_s = self._orders.silent_for_s(now_s)
        is_alone = silent_s > settings.stale_s
        if self._signal:
            self._end(f"it was told to by {self._signal}", EXIT_OK)
        elif self._orders.leave:
            self._end("its client told it to", EXIT_OK)
        elif now_s >= self._contact_until_s():
            self._abandon(f"no answer for {self._patience_s:g} s: {self._trouble()}", EXIT_NO_CONTACT)
        elif now_s >= self._started_s + settings.lifetime_s:
            self._drain(f"its lifetime of {settings.lifetime_s:g} s is over")
        elif is_alone:
            self._drain(f"the client is gone: no sign of life for {silent_s:.0f} s")
        elif self._books.is_empty and not self._receiver.n_open and now_s >= self._busy_s + settings.idle_s:
            self._drain(f"it had no work for {settings.idle_s:g} s")
        is_waiting = self._receiver.n_open and not is_alone  # for messages that may be on their way to us
        if self._draining and not self._ending and self._books.is_empty and not is_waiting:
            self._end(self._draining, EXIT_OK)

    def _drain(self, why: str) -> None:
        """Take no more; finish what is there; then end."""
        if not self._draining:
            self._draining = why
            say(f"takes no more work: {why}")

    def _end(self, why: str, code: int) -> None:
        """End now; the rest is done by `_turn`."""
        if self._ending:
            return
        say(f"leaving: {why}")
        self._ending, self._code = why, code
        self._end_s = time.monotonic() + END_WITHIN_S

    def _kill_slots(self) -> None:
        """End whatever runs, and put it back into the queue with all that has not started. Idle slots are left to
        themselves until the end, so that what user code has registered for its exit can run."""
        self._is_killed = True
        if self._books.is_empty:
            return
        self._grace_s = 0.0
        self._host.drop_workers(self._ending)
        for fact in self._host.poll(0.0):
            self._on_fact(fact)
        _, waiting = self._books.take_all()
        self._put_back(parcels(self._seal, self._interrupted, waiting))

    def _finish(self, now_s: float) -> None:
        """Say goodbye when everything has been put back; go when that has been heard."""
        if not self._n_putting_back and not self._said_goodbye:
            self._said_goodbye = True
            self._reporter.leaving(self._ending)
        is_told = self._said_goodbye and not self._reporter.has_news and not self._sender.n_open
        is_deleted = not self._to_delete and not self._keeper.n_open
        if (is_told and is_deleted) or now_s >= self._end_s:
            if now_s >= self._end_s:
                say("leaving without having told everything: messages that are not deleted will come again")
            self._exit_code = self._code

    def _abandon(self, why: str, code: int) -> None:
        """Go without a word: nobody listens."""
        say(f"leaving: {why}")
        self._ending, self._exit_code = why, code

    def _contact_until_s(self) -> float:
        return min(courier.bad_since_s for courier in self._queue_couriers()) + self._patience_s

    def _trouble(self) -> str:
        return min(self._queue_couriers(), key=lambda courier: courier.bad_since_s).trouble

    def _queue_couriers(self) -> Iterable[Courier]:
        return (self._receiver, self._sender, self._keeper)


def now_if(condition: bool) -> float:
    """A time in the past if the condition holds, else one that never comes."""
    return 0.0 if condition else NEVER


def _refusal(call: PackedCall, error: CloudexecError) -> Outcome:
    """An attempt that ended without having run."""
    from cloudexec.serialization.failures import pack_failure

    now_s = time.time()
    return Outcome(call.number, call.attempt, Verdict.REFUSED, now_s, now_s, 0.0, 0, pack_failure(error))


def _ignore(_answer: object) -> None:
    """Nothing follows from the answer: a message whose visibility could not be extended comes again."""
