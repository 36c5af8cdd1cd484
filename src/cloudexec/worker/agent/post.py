"""What the worker sends: reports, deletes, extensions, calls that go back into the queue.

Called by: agent.py.   Calls: couriers.py; books.py and reporter.py, which it shares with its neighbours.
A message is deleted after the report with the end of its last call has been accepted, or after its last call has been
put back. Nothing here waits: answers come through the inbox; but while `is_dividing`, the agent takes nothing new.
"""

from __future__ import annotations

import time
from functools import partial
from math import ceil
from typing import Final

from cloudexec.errors import AwsError
from cloudexec.transport import sqs
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import WorkerSettings, to_text
from cloudexec.worker.agent.books import NEVER, Books
from cloudexec.worker.agent.couriers import Client, Courier, Inbox, is_gone
from cloudexec.worker.agent.leaving import Parcel, requests
from cloudexec.worker.agent.place import say
from cloudexec.worker.agent.reporter import Letter, Reporter

DELETE_AFTER_S: Final = 0.5
AGAIN_AFTER_S: Final = 0.5  # what a queue did not take it is offered so much later
TELL_ANYWAY_S: Final = 5.0  # a slot's end waits no longer than this for calls that go back into the queue
_DELETE_TRIES: Final = 3  # of a divided message, before anything else is taken
_IN_ONE: Final = 10


class Post:
    """The way out. `client_gone`: why nobody will ever read a report again."""

    def __init__(
        self, settings: WorkerSettings, seal: Seal, client: Client, inbox: Inbox, books: Books, reporter: Reporter
    ) -> None:
        self._settings = settings
        self._seal = seal
        self._books = books
        self._reporter = reporter
        self._sender = Courier("sender", client, inbox)
        self._keeper = Courier("keeper", client, inbox)
        self._to_delete: list[str] = []
        self._delete_s = NEVER
        self._told_s = time.monotonic()
        self._n_putting_back = 0  # requests without an answer
        self._refused: list[Parcel] = []  # by the queue, for now
        self._again_s = NEVER  # when they are offered again
        self._tell_s = 0.0  # until then, a slot's end waits
        self._divided: dict[str, int] = {}  # receipts of messages whose calls are in the queue anew: tries left
        self.is_ending = False
        self.client_gone = ""

    @property
    def couriers(self) -> tuple[Courier, Courier]:
        """Who carries."""
        return self._sender, self._keeper

    @property
    def has_put_back(self) -> bool:
        """Whether all that was to go back into the queue is there."""
        return not (self._n_putting_back or self._refused)

    @property
    def is_dividing(self) -> bool:
        """Whether calls may be in the queue twice, alone and in their old message. Were the one that kills workers
        taken alone now, the old message would come again, and its other calls be given up with that one."""
        return not self.has_put_back or bool(self._divided)

    @property
    def is_done(self) -> bool:
        """Whether everything has been sent and answered."""
        return not (self._reporter.has_news or self._sender.n_open or self._to_delete or self._keeper.n_open)

    @property
    def next_s(self) -> float:
        """When `turn` will have something to do."""
        now_s = time.monotonic()
        times = [self._delete_s, self._again_s, self._books.next_due_s()]
        if self._waits_for_queue(now_s):
            times.append(self._tell_s)
        elif self._may_report:
            is_holding = bool(self._books.lanes) and not self._books.is_empty
            times.append(self._reporter.due_s(now_s, is_busy=is_holding))
            if is_holding:
                times.append(self._books.next_untold_s(self._settings.tell_after_s))
                times.append(self._told_s + self._settings.beat_every_s)
        return min(times)

    def turn(self, now_s: float) -> None:
        """Send what is due."""
        self._extend(now_s)
        self._offer_again(now_s)
        self._delete(now_s)
        self._report(now_s)

    # --- reports ---

    @property
    def _may_report(self) -> bool:
        """Whether the last report has been answered. A slot's end is told together with the slot that has its calls
        now: else the client would think that they ended with it."""
        return not self._sender.n_open and (self.is_ending or not self._books.is_homeless)

    def _waits_for_queue(self, now_s: float) -> bool:
        """Whether a slot's end is to be told while calls are on their way into the queue: perhaps some that were behind
        the one it ended with, which the client would give out once more."""
        return self._reporter.has_ended_slots and not self.has_put_back and now_s < self._tell_s

    def _report(self, now_s: float) -> None:
        reporter, books = self._reporter, self._books
        if not self._may_report or self._waits_for_queue(now_s):
            return
        is_holding = bool(books.lanes) and not books.is_empty
        is_untold = is_holding and now_s >= books.next_untold_s(self._settings.tell_after_s)
        is_time = is_holding and now_s >= self._told_s + self._settings.beat_every_s
        if reporter.due_s(now_s, is_busy=is_holding) > now_s and not (is_untold or is_time):
            return
        # What is held is told where somebody needs it: outcomes of short calls say enough.
        tells = is_untold or is_time or reporter.is_due
        letter = reporter.next(books.held() if tells else None, books.receipts() if tells else {})
        if letter.report.held is not None:
            self._told_s = now_s
            for held in books.all_held():
                held.told = True
        text = to_text(self._seal, Kind.REPORT, letter.body)
        self._sender.carry(sqs.send_messages(self._settings.out_queue, [text]), partial(self._reported, letter))

    def _reported(self, letter: Letter, answer: list[sqs.EntryFailure] | AwsError) -> None:
        if isinstance(answer, AwsError):
            if is_gone(answer):
                self.client_gone = f"the client is gone: {answer.what}"
            else:
                self._reporter.refused(letter)
        elif not answer:
            self.delete_soon([work.receipt for work in self._books.settle(letter.works)])
        elif answer[0].is_our_fault:
            self._reporter.refused(letter)
        else:
            self._reporter.again(letter)

    # --- deletes and visibility ---

    def delete_soon(self, receipts: list[str]) -> None:
        """Remove messages from the work queue, in company."""
        if receipts:
            self._to_delete += receipts
            self._delete_s = min(self._delete_s, time.monotonic() + DELETE_AFTER_S)

    def _delete(self, now_s: float) -> None:
        """Delete messages ten at a time; fewer when one has waited long enough."""
        is_time = now_s >= self._delete_s or self.is_ending
        while len(self._to_delete) >= _IN_ONE or (self._to_delete and is_time):
            receipts, self._to_delete = self._to_delete[:_IN_ONE], self._to_delete[_IN_ONE:]
            operation = sqs.delete_messages(self._settings.work_queue, receipts)
            self._keeper.carry(operation, partial(self._deleted, receipts))
        if not self._to_delete:
            self._delete_s = NEVER

    def _deleted(self, receipts: list[str], answer: list[sqs.EntryFailure] | AwsError) -> None:
        failed: list[str] = []
        if not isinstance(answer, AwsError):
            failed = [receipts[failure.index] for failure in answer if not failure.is_our_fault]
        for receipt in receipts:
            tries = self._divided.pop(receipt, 0) - 1
            if receipt in failed and tries > 0:
                self._divided[receipt] = tries
        self.delete_soon(failed)

    def _extend(self, now_s: float) -> None:
        """Keep the messages that we hold out of others' sight."""
        due = self._books.due(now_s, self._settings.visibility_s)
        self._change_visibility([work.receipt for work in due], ceil(self._settings.visibility_s))

    def release(self, receipts: list[str]) -> None:
        """Give messages back at once, as they came."""
        self._change_visibility(receipts, 0)

    def _change_visibility(self, receipts: list[str], seconds: int) -> None:
        for at in range(0, len(receipts), _IN_ONE):
            entries = [(receipt, seconds) for receipt in receipts[at : at + _IN_ONE]]
            self._keeper.carry(sqs.change_visibility(self._settings.work_queue, entries), _ignore)

    # --- calls that go back ---

    def put_back(self, items: list[Parcel]) -> None:
        """Put calls into the queue again; their old messages are deleted afterwards."""
        if self.has_put_back:
            self._tell_s = time.monotonic() + TELL_ANYWAY_S
        self._offer(items)

    def _offer(self, items: list[Parcel]) -> None:
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
                divided = [work.receipt for work in self._books.settle(item.works)]
                self._divided |= dict.fromkeys(divided, _DELETE_TRIES)
                self.delete_soon(divided)
        if self._divided:
            self._delete_s = time.monotonic()
        if refused := [group[index] for index, failure in failed.items() if not failure.is_our_fault]:
            self._refused += refused
            self._again_s = time.monotonic() + AGAIN_AFTER_S

    def _offer_again(self, now_s: float) -> None:
        if now_s >= self._again_s:
            items, self._refused, self._again_s = self._refused, [], NEVER
            self._offer(items)


def _ignore(_answer: object) -> None:
    """Nothing follows from the answer: a message whose visibility could not be extended comes again."""
