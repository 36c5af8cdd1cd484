"""The loop of a pulling worker: the only owner of its books.

    receiver --messages--> _received: check, split, put back what may have killed others
    slots ----facts------> Slots.take: outcomes, slots that begin and end
    watcher --control----> _controlled: stops, leave, the client's age
    clock ---------------> _turn:     place, receive, extend, report, delete; whether it is time to end

Called by: main.py.   Calls: books, reporter, control, leaving (what to do); slots, post, couriers (do it).
Requests:  one long poll while a slot is free; a report whenever there is news and the last one has been answered; one
           delete for up to ten messages; one extension for up to ten messages, at half
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

from cloudexec.errors import AwsError, CloudexecError, NoSuchKey, SignatureError, WireError, WorkerLost
from cloudexec.transport import s3, sqs
from cloudexec.transport.s3replies import S3Object
from cloudexec.wire.control import Setup
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import WorkerSettings, from_text
from cloudexec.wire.messages import decode_batch
from cloudexec.worker.agent.books import NEVER, Books, Held, Work
from cloudexec.worker.agent.control import Orders
from cloudexec.worker.agent.couriers import Client, Courier, Inbox, is_gone
from cloudexec.worker.agent.leaving import parcels
from cloudexec.worker.agent.place import Place, facts_of, say
from cloudexec.worker.agent.post import Post
from cloudexec.worker.agent.reporter import Reporter
from cloudexec.worker.agent.slots import Slots, refusal
from cloudexec.worker.host.facts import Fact
from cloudexec.worker.host.process import Launch
from cloudexec.worker.stores import open_store, s3_place

EXIT_OK: Final = 0
EXIT_NO_CONTACT: Final = 4  # the queues could not be reached for PATIENCE_S
EXIT_INITIALIZER: Final = 5  # the initializer raised
EXIT_BROKEN: Final = 6  # slots or their supervisor die again and again

PATIENCE_S: Final = 300.0
END_WITHIN_S: Final = 20.0
_STDOUT: Final = 1
_IN_ONE: Final = 10
_LOOK_S: Final = 60.0  # the loop turns at least so often, for clocks that were set and machines that slept
_KILL_AGAIN_S: Final = 0.5
_NEW_QUEUE_S: Final = 60.0  # a queue may seem not to exist at first
_FLEET_UNIT: Final = 50  # so many workers may look at the control object at the full rate


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
        blobs = settings.blob_prefix or settings.prefix
        self._store = s3_place(settings.bucket, settings.bucket_owner, blobs, settings.region)
        self._initializer = ""
        self._books = Books(settings.n_slots, settings.max_tasks_per_child)
        self._reporter = Reporter(place.worker, facts_of(place, process_age_s))
        self._orders = Orders(self._seal, place.worker, now_s)
        self._inbox = Inbox()
        self._receiver, self._watcher = (Courier(name, client, self._inbox) for name in ("receiver", "watcher"))
        self._post = Post(settings, self._seal, client, self._inbox, self._books, self._reporter)
        self._slots = Slots(
            self._books,
            self._reporter,
            self._setup_for,
            self._seal,
            place.worker,
            partial(Launch, log_fd=_STDOUT) if settings.log_output else Launch,
        )
        self._slots.host.watch(self._inbox.fd, self._on_inbox)
        self._started_s = self._busy_s = now_s
        self._receive_s = 0.0
        self._control_s = now_s
        self._kill_s = NEVER
        self._signal = ""
        self._draining = ""
        self._ending = ""
        self._said_goodbye = False
        self._end_s = NEVER
        self._code = EXIT_OK
        self._exit_code: int | None = None
        self._distrusted = ""

    def run(self) -> int:
        """Work until the end; the exit code. No slot is left then."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            self._receive(time.monotonic())  # messages may already be on their way while slots start
            self._start_slots()
            self._turn(time.monotonic())  # without slots nothing else would wake the loop before END_WITHIN_S
            while self._exit_code is None:
                wait_s = min(max(0.0, self._next_s() - time.monotonic()), _LOOK_S)
                for fact in self._slots.host.poll(wait_s):
                    self._slots.take(fact)
                self._turn(time.monotonic())
        finally:
            self._slots.close()
        return self._exit_code

    def _turn(self, now_s: float) -> None:
        """Whatever is due."""
        if not self._books.is_empty or self._post.is_dividing:
            self._busy_s = now_s
        if not self._ending:
            self._look_for_an_end(now_s)
        if self._ending:
            self._finish(now_s)
        else:
            if late := self._slots.take_late(now_s):
                say(f"{len(late)} calls wait behind a long one: back into the queue")
                self._post.put_back(parcels(self._seal, [], late))
            self._slots.feed(now_s)
            self._receive(now_s)
            self._look_at_control(now_s)
            if now_s >= self._kill_s:
                self._stop_calls(now_s)
        self._post.turn(now_s)

    def _next_s(self) -> float:
        """When `_turn` will have something to do, unless something happens before."""
        times = [self._end_s, self._post.next_s]
        if not self._ending:
            times += [self._kill_s, self._slots.next_s, self._contact_until_s()]
            if not self._watcher.n_open:
                times.append(self._control_s)
            if not self._draining:
                times.append(self._started_s + self._settings.lifetime_s)
                times.append(self._receive_s if self._may_receive else NEVER)
            if self._books.is_empty and not self._receiver.n_open:
                times.append(self._busy_s + self._settings.idle_s)
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

    @property
    def _may_receive(self) -> bool:
        return bool(self._books.room) and not self._receiver.n_open and not self._post.is_dividing

    def _receive(self, now_s: float) -> None:
        """Wait for as many messages as there are free slots."""
        if not self._may_receive or self._draining or now_s < self._receive_s:
            return
        room = min(_IN_ONE, self._books.room)
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
            self._post.release([message.receipt for message in answer])
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
            self._post.delete_soon([message.receipt])
            return 0
        try:
            body = from_text(self._seal, Kind.BATCH, message.body)
            batch = decode_batch(body)
        except WireError as error:
            self._distrust(message, error)
            return 0
        work = Work(message.id, message.receipt, batch, body, now_s + self._settings.visibility_s / 2)
        numbers = {call.number for call in batch.calls}
        if not numbers:
            self._post.delete_soon([message.receipt])
        elif message.receive_count > self._settings.most_receives:
            for held in books.take(work, without=numbers):
                self._give_up(held, message.receive_count)
        elif message.receive_count > 1 and len(numbers) > 1:
            # It may have killed whoever had it. By themselves, only the guilty call can do so again.
            say(f"message {message.id} comes for the {message.receive_count}. time: its {len(numbers)} calls go singly")
            self._post.put_back(parcels(self._seal, [], books.take(work, without=numbers), singly=True))
        else:
            for held in books.take(work, without=self._orders.stops):
                self._reporter.dropped(held)
        return len(numbers)

    def _distrust(self, message: sqs.Message, error: WireError) -> None:
        """Leave a message that is not from our client to others, but not for ever."""
        kind = "is not signed with the run's key" if isinstance(error, SignatureError) else "is damaged"
        say(f"message {message.id} {kind}, and not read: {error.what}")
        if message.receive_count >= self._settings.most_receives:
            self._post.delete_soon([message.receipt])

    def _give_up(self, held: Held, receive_count: int) -> None:
        what = f"call {held.number} was taken {receive_count - 1} times and never finished; its workers died"
        self._reporter.end(self._some_lane(), refusal(held.call, WorkerLost(what)), held.work)

    def _some_lane(self) -> str:
        return next(iter(self._books.lanes), f"{self._place.worker}.none")

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
        self._slots.start()

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
            log_as=(settings.calls_run or settings.run_id) if settings.log_output else "",
        )

    # --- the client's orders ---

    def _look_at_control(self, now_s: float) -> None:
        if now_s < self._control_s or self._watcher.n_open:
            return
        settings = self._settings
        self._slots.reap()
        self._control_s = now_s + settings.control_every_s * max(1.0, self._orders.n_workers / _FLEET_UNIT)
        key = f"{settings.prefix}/control"
        operation = s3.get_object(settings.bucket, key, owner=settings.bucket_owner, if_none_match=self._orders.etag)
        self._watcher.carry(operation, self._controlled)

    def _controlled(self, answer: S3Object | AwsError) -> None:
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
        """End the calls that the client does not want any more."""
        is_running = self._slots.stop_calls(self._orders.stops)
        self._kill_s = now_s + _KILL_AGAIN_S if is_running else NEVER  # it may have been about to begin

    # --- the end ---

    def _look_for_an_end(self, now_s: float) -> None:
        settings = self._settings
        silent_s = self._orders.silent_for_s(now_s)
        is_alone = silent_s > settings.stale_s
        if self._signal:
            self._end(f"it was told to by {self._signal}", EXIT_OK)
        elif self._orders.leave:
            self._end("its client told it to", EXIT_OK)
        elif self._slots.has_failed_start:
            self._end("the initializer raised an exception", EXIT_INITIALIZER)
        elif self._slots.broken:
            self._end(self._slots.broken, EXIT_BROKEN)
        elif self._post.client_gone:
            self._abandon(self._post.client_gone, EXIT_OK)
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
        """End now: what is not finished goes back into the queue."""
        say(f"leaving: {why}")
        self._ending, self._code = why, code
        self._end_s = time.monotonic() + END_WITHIN_S
        self._post.is_ending = True
        self._post.put_back(parcels(self._seal, *self._slots.kill(why)))

    def _finish(self, now_s: float) -> None:
        """Say goodbye when everything has been put back; go when that has been heard."""
        if self._post.has_put_back and not self._said_goodbye:
            self._said_goodbye = True
            self._reporter.leaving(self._ending, broken=self._code != EXIT_OK)
        if self._post.client_gone or (self._said_goodbye and self._post.is_done):
            self._exit_code = self._code
        elif now_s >= self._end_s:
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
        return (self._receiver, *self._post.couriers)
