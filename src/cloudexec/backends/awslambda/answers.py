"""What workers answer becomes events: an answer is opened, a report read, what lies in the bucket fetched.

Called by: sending.py and event_invokes.py, on the loop; backend.py takes results that were fetched ahead.
Calls:     replies.py, for what a report means; control.py, when calls were ended that we did not end; transport.s3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from cloudexec.backends.awslambda.control import Control
from cloudexec.backends.awslambda.flights import Flight
from cloudexec.backends.awslambda.plan import OpenRun
from cloudexec.backends.awslambda.replies import as_broken, read_report
from cloudexec.backends.protocol import CallDown, Event, OutboundCall
from cloudexec.backends.pull.home import Home
from cloudexec.backends.pull.inbox import results_outside
from cloudexec.errors import BlobMissing, CloudexecError, HandlerNotFound, WireError, WorkerStartFailed
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.transport import s3
from cloudexec.wire.control import DownCause
from cloudexec.wire.invocation import decode_answer, open_report
from cloudexec.wire.mail import Report, decode_report

log = logging.getLogger(__name__)

_MOST_BROKEN: Final = 3
_FETCHES_AT_ONCE: Final = 64


class Answers:
    """Reads them, and counts environments that could not run calls."""

    def __init__(self, run: OpenRun, control: Control) -> None:
        self._run = run
        self._control = control
        self._room = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._fetched: dict[str, memoryview] = {}
        self._n_broken = 0  # environments in a row that could not run calls

    async def read(self, flight: Flight, function: str, payload: bytes | bytearray) -> list[Event]:
        """The answer of the function to a batch."""
        try:
            answer = decode_answer(payload)
            if answer.refused_error:
                self._run.give_up(as_broken(answer))
                return []
            sealed: Any = answer.report
            if answer.stored:
                sealed = await self._take_stored(answer.stored)
            report = decode_report(open_report(self._run.plan.seal, sealed))
        except WireError as error:
            self._run.give_up(HandlerNotFound(f"function {function} is invoked, and {error.what}"))
            return []
        except CloudexecError as error:
            end = LaneEnd(Cause.LOST, f"its answer could not be read: {error.what}", error="EnvironmentLost")
            return [CallDown(flight.lane, call.number, end) for call in flight.calls]
        return await self.events_of(flight.lane, flight.calls, report)

    async def events_of(
        self, lane: str, calls: Sequence[OutboundCall], report: Report, *, is_last: bool = True
    ) -> list[Event]:
        """What a report tells; the results that it names are fetched first, so that the engine need not wait."""
        plan = self._run.plan
        # Who ends calls besides us is whoever has ended the run: nothing more may be begun then.
        if any(stop.why == DownCause.STOPPED for stop in report.down) and await self._control.is_lost():
            return []
        if plan.home is not None and (refs := results_outside(report)):
            home = plan.home
            await asyncio.gather(*[self._fetch_ahead(home, ref) for ref in refs])
        if report.broken and not report.failed_start:
            self._count_broken(report.leaving)
        elif report.outcomes:
            self._n_broken = 0
        return read_report(lane, report, calls, plan.facts.timeout_s, is_last=is_last)

    def result(self, ref: BlobRef) -> memoryview:
        """A result that a report named. Errors: BlobMissing; what the store meets."""
        found = self._fetched.pop(ref.name, None)
        if found is None:
            store = self._run.plan.store
            if store is None:
                raise BlobMissing(f"{ref.name} is named as a result, and there is no bucket")
            found = store.get(ref.name)
        if found.nbytes != ref.size:
            raise BlobMissing(f"{ref.name} has {found.nbytes:,} bytes in the store, and {ref.size:,} were sent")
        return found

    def _count_broken(self, why: str) -> None:
        """An environment cannot go on; where one after another cannot, no call will ever run."""
        self._n_broken += 1
        log.warning("run %s: an environment cannot go on: %s", self._run.id, why)
        if self._n_broken >= _MOST_BROKEN:
            what = f"{self._n_broken} environments in a row cannot go on; the last one: {why}"
            self._run.give_up(WorkerStartFailed(what))

    async def _take_stored(self, name: str) -> Any:
        """An answer that was too large for one."""
        home = self._run.plan.home
        assert home is not None
        found = await self._run.client.call(s3.get_object(home.bucket, home.key(name), owner=home.owner))
        return found.body

    async def _fetch_ahead(self, home: Home, ref: BlobRef) -> None:
        async with self._room:
            try:
                key = home.key(ref.name)
                get = s3.get_object(home.bucket, key, owner=home.owner, range=(0, ref.size + 1))
                self._fetched[ref.name] = (await self._run.client.call(get)).body
            except CloudexecError as error:  # tried once more when the call is delivered, and told then
                log.info("a result was not fetched ahead: %s", error)
