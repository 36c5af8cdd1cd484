"""Batches on their way. Bookkeeping only.

Called by: backend.py, which begins and recalls them; sending.py and what it hands them to.   Calls: nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from cloudexec.backends.protocol import Event, OutboundCall, Outcomes
from cloudexec.backends.pull.loop import NEVER
from cloudexec.errors import CloudexecError
from cloudexec.ids import BlobRef
from cloudexec.serialization.failures import pack_failure
from cloudexec.wire.messages import Outcome, Verdict


class Flight:
    """One batch on its way. `sent_s`: when its invocation was begun; 0: not yet."""

    __slots__ = ("calls", "is_event", "lane", "name", "sent_s", "task")

    def __init__(self, lane: str, calls: list[OutboundCall], is_event: bool) -> None:
        self.lane = lane
        self.calls = calls
        self.name = f"{calls[0].number:08d}-{calls[0].attempts}"  # no other batch begins with the same attempt
        self.is_event = is_event
        self.sent_s = 0.0
        self.task: asyncio.Task[None] | None = None

    def blobs(self) -> Iterator[BlobRef]:
        """What must be stored before it is sent."""
        for call in self.calls:
            yield from call.refs
            for module in call.function.modules:
                yield module.bundle

    def refusals(self, error: CloudexecError) -> list[Event]:
        """Every call of it meets this error, here."""
        return [Outcomes(self.lane, [_refusal(call, error) for call in self.calls])]


class Flights:
    """All that are on their way: one in a lane, in the order in which they began."""

    def __init__(self) -> None:
        self._by_lane: dict[str, Flight] = {}

    def add(self, flight: Flight) -> None:
        """It begins."""
        self._by_lane[flight.lane] = flight

    def find(self, lane: str) -> Flight | None:
        """The one in this lane."""
        return self._by_lane.get(lane)

    def end(self, flight: Flight) -> None:
        """It is over."""
        if self._by_lane.get(flight.lane) is flight:
            del self._by_lane[flight.lane]

    def drop(self, flight: Flight) -> None:
        """A batch that was not sent is taken back."""
        self._by_lane.pop(flight.lane, None)
        if flight.task is not None:
            flight.task.cancel()

    def sent(self) -> Sequence[Flight]:
        """Those whose invocation was begun."""
        return [flight for flight in self._by_lane.values() if flight.sent_s]

    @property
    def oldest_s(self) -> float:
        """When the oldest batch that is on its way was sent."""
        return next((flight.sent_s for flight in self._by_lane.values() if flight.sent_s), NEVER)


def _refusal(call: OutboundCall, error: CloudexecError) -> Outcome:
    now_s = time.time()
    return Outcome(call.number, call.attempts, Verdict.REFUSED, now_s, now_s, 0.0, 0, pack_failure(error))
