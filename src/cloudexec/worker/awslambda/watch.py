"""The client's orders, looked at while calls run long.

Called by: crew.py.   Calls: worker.agent's orders and couriers.
A look costs a request, so short calls get none. An object whose client has not renewed it for `stale_s`, by the
service's clock, means that nobody waits for the calls any more. The invocation itself is a sign of life, too; and only
what a look has shown during it counts: since the one before, any time may have passed. That there is no object yet
means nothing for a while: clients write it when an invocation has lasted a second. Then it means that the client died
before it could; or, if it was there, that the run is over and its objects were removed before we looked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from cloudexec.errors import AwsError, NoSuchKey, WireError
from cloudexec.transport import s3
from cloudexec.transport.s3replies import S3Object
from cloudexec.wire.envelope import Seal
from cloudexec.wire.invocation import InvocationSettings
from cloudexec.worker.agent.books import NEVER
from cloudexec.worker.agent.control import Orders
from cloudexec.worker.agent.couriers import Courier, Inbox
from cloudexec.worker.agent.place import say
from cloudexec.worker.host.facts import Fact

_WRITTEN_WITHIN: Final = 5  # times the first look: 10 s, and a client writes the object after one


class Watch:
    """One run's control object. `courier_for` gives whoever carries the requests; asked when one is needed."""

    def __init__(
        self, settings: InvocationSettings, seal: Seal, worker: str, inbox: Inbox, courier_for: Callable[[], Courier]
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._courier_for = courier_for
        self._look_s = self._began_s = NEVER
        self._round = 0  # answers to an earlier invocation's looks are not for this one
        self._is_out = False
        self.orders = Orders(seal, worker, time.monotonic())
        self.has_news = False
        self.why_to_end = ""

    @property
    def fd(self) -> int:
        """Readable when an answer has come."""
        return self._inbox.fd

    @property
    def next_s(self) -> float:
        """When `turn` will have something to do."""
        return NEVER if self._is_out or self.why_to_end else self._look_s

    def begin(self, now_s: float) -> None:
        """An invocation begins."""
        self._round += 1
        self._began_s = now_s
        self._look_s = now_s + self._settings.control_after_s
        self._is_out = self.has_news = False
        self.why_to_end = ""

    def turn(self, now_s: float) -> None:
        """Look, if it is time."""
        if now_s < self.next_s:
            return
        settings = self._settings
        operation = s3.get_object(
            settings.bucket, f"{settings.prefix}/control", owner=settings.owner, if_none_match=self.orders.etag
        )
        self._is_out = True
        self._courier_for().carry(operation, partial(self._answered, self._round))

    def hear(self) -> list[Fact]:
        """Take in what has come."""
        for handle in self._inbox.take():
            handle()
        return []

    def _answered(self, round: int, answer: S3Object | AwsError) -> None:
        now_s = time.monotonic()
        if round != self._round:
            return
        self._is_out = False
        self._look_s = now_s + self._settings.control_every_s
        if isinstance(answer, AwsError):
            if isinstance(answer, NoSuchKey):
                self._find_none(now_s)
            else:
                say(f"cannot read the control object: {answer}")
            return
        try:
            self.orders.read(answer, now_s)
        except WireError as error:
            say(f"the control object is not obeyed: {error.what}")
            return
        self.has_news = bool(self.orders.stops)
        silent_s = min(self.orders.silent_for_s(now_s), now_s - self._began_s)
        if self.orders.leave:
            self.why_to_end = "the client told its workers to leave"
        elif silent_s > self._settings.stale_s:
            self.why_to_end = f"the client is gone: no sign of life for {silent_s:.0f} s"

    def _find_none(self, now_s: float) -> None:
        silent_s = now_s - self._began_s
        if self.orders.etag is not None:
            self.why_to_end = "the run is over: its control object was removed"
        elif silent_s > self._settings.stale_s + _WRITTEN_WITHIN * self._settings.control_after_s:
            self.why_to_end = f"the client is gone: it wrote no control object within {silent_s:.0f} s"
