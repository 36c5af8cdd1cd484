"""The two queues of a run, seen from the client: sends in tens, waits for reports, deletes what was read.

Called by: backend.py, on whose loop everything here runs.   Calls: transport.sqs through an asyncio client.
Schedule:  RECEIVERS_IDLE long polls of 20 s are always open; an answer with many reports opens another, up to
           RECEIVERS_MOST, and one with few closes it again. Sends and deletes happen when there is something to send
           or delete, ten to a request, several requests at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cloudexec.backends.pull.loop import EngineLoop
from cloudexec.errors import AwsError, CloudexecError, ConnectionLost, Throttled
from cloudexec.transport import sqs
from cloudexec.transport.account import AwaitedClient

log = logging.getLogger(__name__)

RECEIVERS_IDLE: Final = 2
RECEIVERS_MOST: Final = 24
_SENDERS_MOST: Final = 24
_DELETERS_MOST: Final = 8
_IN_ONE: Final = 10
_MANY: Final = 5  # messages at once: more wait, for a queue often gives fewer than it has
_SEND_BYTES: Final = 1_000_000  # of one request; the service's limit is 1 MiB
_WAIT_S: Final = 20
_VISIBILITY_S: Final = 20  # of a report that was read and is not in the journal yet; a lost answer costs as much
_EMPTY_RECEIVES: Final = 2  # a short poll may miss a message
_SENDS_WITHIN_S: Final = 2.0
_PAUSE_S: Final = 0.2
_PAUSE_MOST_S: Final = 10.0


class Parcel(NamedTuple):
    """A message to send; `token` comes back when the queue has it."""

    text: str
    token: Any


class Mailroom:
    """Sends to the work queue, reads the out queue."""

    def __init__(
        self,
        loop: EngineLoop,
        client: AwaitedClient,
        work_queue: str,
        out_queue: str,
        *,
        on_report: Callable[[str, str], None],
        on_sent: Callable[[list[Any]], None],
        on_broken: Callable[[CloudexecError], None],
    ) -> None:
        self._loop = loop
        self._client = client
        self._work_queue = work_queue
        self._out_queue = out_queue
        self._on_report = on_report
        self._on_sent = on_sent
        self._on_broken = on_broken
        self._outbox: deque[Parcel] = deque()
        self._bin: deque[tuple[str, str]] = deque()  # (queue, receipt)
        self._receivers: set[asyncio.Task[None]] = set()
        self._n_receiving = 0
        self._n_sending = 0
        self._n_deleting = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything is sent and deleted."""
        return not (self._outbox or self._bin or self._n_sending or self._n_deleting)

    def open(self) -> None:
        """Begin to wait for reports."""
        while self._n_receiving < RECEIVERS_IDLE:
            self._add_receiver()

    def leave_to_others(self) -> None:
        """Take and send no more: what comes is somebody else's. Parked long polls are cut off, so that they swallow
        nothing."""
        self.take_unsent()
        for receiver in list(self._receivers):
            receiver.cancel()

    def send(self, text: str, token: Any) -> None:
        """Put a message into the work queue, soon."""
        self._outbox.append(Parcel(text, token))
        # While a request is under way, messages gather until they fill one, or it is answered.
        if not self._n_sending or (len(self._outbox) >= _IN_ONE and self._n_sending < _SENDERS_MOST):
            self._n_sending += 1
            self._loop.begin(self._send_all())

    def delete(self, receipts: list[str], *, work: bool = False) -> None:
        """Delete messages that were received, soon."""
        queue = self._work_queue if work else self._out_queue
        self._bin.extend((queue, receipt) for receipt in receipts)
        if receipts and self._n_deleting < _DELETERS_MOST:
            self._n_deleting += 1
            self._loop.begin(self._delete_all())

    def take_unsent(self) -> list[Any]:
        """Tokens of messages that were to be sent, and now will not be."""
        tokens = [parcel.token for parcel in self._outbox]
        self._outbox.clear()
        return tokens

    async def take_back(self) -> list[str]:
        """Messages of the work queue that nobody had received; they are gone from there for certain."""
        deadline = asyncio.get_running_loop().time() + _SENDS_WITHIN_S
        while self._n_sending and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        taken: list[str] = []
        n_empty = 0
        try:
            while n_empty < _EMPTY_RECEIVES:
                messages = await self._client.call(
                    sqs.receive_messages(self._work_queue, wait_s=0, visibility_s=_VISIBILITY_S)
                )
                n_empty = 0 if messages else n_empty + 1
                if messages:
                    receipts = [message.receipt for message in messages]
                    failures = await self._client.call(sqs.delete_messages(self._work_queue, receipts))
                    failed = {failure.index for failure in failures}  # these come back to the queue by themselves
                    taken += [message.body for index, message in enumerate(messages) if index not in failed]
        except CloudexecError as error:
            log.info("taking calls back was interrupted: %s", error)
        return taken

    async def flush(self, within_s: float) -> bool:
        """Wait until everything is sent and deleted; whether that was so in time."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not self.is_idle and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return self.is_idle

    # --- sending ---

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # what the engine places in one turn travels together
        pause_s = _PAUSE_S
        try:
            while self._outbox:
                parcels = self._next_parcels()
                unsent = await self._send(parcels)
                self._outbox.extendleft(reversed(unsent))
                if unsent:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MOST_S)
                else:
                    pause_s = _PAUSE_S
        finally:
            self._n_sending -= 1

    def _next_parcels(self) -> list[Parcel]:
        parcels: list[Parcel] = []
        size = 0
        while self._outbox and len(parcels) < _IN_ONE:
            size += len(self._outbox[0].text)
            if parcels and size > _SEND_BYTES:
                break
            parcels.append(self._outbox.popleft())
        return parcels

    async def _send(self, parcels: list[Parcel]) -> list[Parcel]:
        """Send some messages; those that must be sent again."""
        try:
            failures = await self._client.call(sqs.send_messages(self._work_queue, [parcel.text for parcel in parcels]))
        except (ConnectionLost, Throttled) as error:
            log.warning("sending %d batches failed, they are sent again: %s", len(parcels), error)
            return parcels
        except AwsError as error:
            return parcels if self._is_passing(error) else []
        failed = {failure.index for failure in failures}
        self._on_sent([parcel.token for index, parcel in enumerate(parcels) if index not in failed])
        return [parcels[index] for index in sorted(failed)]

    # --- receiving ---

    def _add_receiver(self) -> None:
        self._n_receiving += 1
        receiver = self._loop.begin(self._receive_all())
        self._receivers.add(receiver)
        receiver.add_done_callback(self._receivers.discard)

    async def _receive_all(self) -> None:
        pause_s = _PAUSE_S
        try:
            while True:
                try:
                    messages = await self._client.call(
                        sqs.receive_messages(self._out_queue, wait_s=_WAIT_S, visibility_s=_VISIBILITY_S)
                    )
                except (ConnectionLost, Throttled) as error:
                    log.info("waiting for reports was interrupted: %s", error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MOST_S)
                    continue
                except AwsError as error:
                    if not self._is_passing(error):
                        return
                    await asyncio.sleep(pause_s)
                    continue
                pause_s = _PAUSE_S
                many = len(messages) >= _MANY
                if many and self._n_receiving < RECEIVERS_MOST:
                    self._add_receiver()
                for message in messages:
                    self._on_report(message.body, message.receipt)
                if not many and self._n_receiving > RECEIVERS_IDLE:
                    return  # few are enough, and bring more with each request
        finally:
            self._n_receiving -= 1

    # --- deleting ---

    async def _delete_all(self) -> None:
        await asyncio.sleep(0)
        try:
            while self._bin:
                queue = self._bin[0][0]
                receipts: list[str] = []
                while self._bin and self._bin[0][0] == queue and len(receipts) < _IN_ONE:
                    receipts.append(self._bin.popleft()[1])
                try:
                    await self._client.call(sqs.delete_messages(queue, receipts))
                except CloudexecError as error:  # they come again, are known as twins, and deleted then
                    log.info("deleting %d messages failed: %s", len(receipts), error)
        finally:
            self._n_deleting -= 1

    def _is_passing(self, error: AwsError) -> bool:
        """Whether trying again may help; if not, the run is over."""
        if (error.status or 0) >= 500:
            return True
        self._on_broken(error)
        return False
