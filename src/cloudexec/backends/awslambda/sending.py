"""One batch, from its payload to the events that it becomes.

Called by: backend.py, which begins it on the loop.
Calls:     transport.lambdas; answers.py and replies.py for what comes back, lanes.py for refusals, event_invokes.py for
           batches that take long and for early reports; transport.s3 for what is too large for an invocation.
An Invoke is sent once: a batch whose answer is lost may have run.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from cloudexec.backends.awslambda.answers import Answers
from cloudexec.backends.awslambda.control import Control
from cloudexec.backends.awslambda.event_invokes import EventInvokes
from cloudexec.backends.awslambda.flights import Flight, Flights
from cloudexec.backends.awslambda.lanes import Lanes
from cloudexec.backends.awslambda.plan import READ_MARGIN_S, OpenRun
from cloudexec.backends.awslambda.replies import Fate, all_down, read_failure, read_refusal
from cloudexec.backends.protocol import Event
from cloudexec.errors import AwsError, CloudexecError, PayloadTooLarge
from cloudexec.transport import s3
from cloudexec.wire.envelope import Kind
from cloudexec.wire.invocation import MOST_EVENT, MOST_PAYLOAD
from cloudexec.wire.mail import Report
from cloudexec.wire.messages import encode_batch

_EARLY_MARGIN_S: Final = 0.3  # an early report is written a moment after it is due


class Sending:
    """Carries batches through."""

    def __init__(self, run: OpenRun, flights: Flights, lanes: Lanes, control: Control, answers: Answers) -> None:
        self._run = run
        self._flights = flights
        self._lanes = lanes
        self._control = control
        self._answers = answers
        self._event_invokes = EventInvokes(run, lanes, answers, control)

    async def fly(self, flight: Flight) -> None:
        """Send a batch, and take in what comes of it."""
        is_watched = self._run.plan.home is not None and len(flight.calls) > 1
        timer = asyncio.get_running_loop().call_later(self._early_s, self._watch, flight) if is_watched else None
        events = await self._outcome_of(flight)
        if timer is not None:
            timer.cancel()
            self._event_invokes.forget_early(flight.name)
        self._flights.end(flight)
        self._run.tell(*events)

    async def _outcome_of(self, flight: Flight) -> list[Event]:
        try:
            payload = await self._payload(flight)
        except CloudexecError as error:
            return flight.refusals(error)
        if flight.is_event:
            return await self._event_invokes.outcome_of(flight, payload)
        plan, function = self._run.plan, self._lanes.function_of(flight.lane)
        invoke = self._run.invoke(function, payload, wait_s=plan.facts.timeout_s + READ_MARGIN_S)
        flight.sent_s = time.monotonic()
        self._control.note_sent()
        try:
            invocation = await self._run.client.call(invoke)
        except AwsError as error:
            refused = read_refusal(error, function)
            if refused.fate is Fate.LOST:  # it may have run, and been paid for, until now
                plan.on_invoked(time.monotonic() - flight.sent_s)
            return self._lanes.refused(flight, refused)
        now_s = time.monotonic()
        self._lanes.accepted(now_s)
        plan.on_invoked(now_s - flight.sent_s)
        if invocation.function_error:
            end = read_failure(invocation, plan.facts.timeout_s)
            if isinstance(end, CloudexecError):
                self._run.give_up(end)
                return []
            return all_down(flight.lane, flight.calls, end)
        return await self._answers.read(flight, function, invocation.payload)

    async def _payload(self, flight: Flight) -> bytes:
        """What the invocation carries; what is too large for it lies in the bucket then. Errors: CloudexecError."""
        plan, head = self._run.plan, self._run.head
        await self._wait_for_blobs(flight)
        sealed = plan.seal.close(Kind.BATCH, encode_batch([call.for_wire() for call in flight.calls]))
        name = flight.name if flight.is_event else ""
        early = flight.name if len(flight.calls) > 1 and plan.home is not None else ""
        most = MOST_EVENT if flight.is_event else MOST_PAYLOAD
        payload = head.with_batch(sealed, name, early)
        if len(payload) <= most:
            return payload
        if plan.home is None:
            raise PayloadTooLarge(f"{len(payload):,} bytes in one invocation, and Lambda takes {most:,}")
        stored = f"batches/{flight.name}"
        put = s3.put_object(plan.home.bucket, plan.home.key(stored), [sealed], owner=plan.home.owner)
        await self._run.client.call(put)
        return head.with_stored(stored, name, early)

    async def _wait_for_blobs(self, flight: Flight) -> None:
        """Until all that the calls name lies in the bucket."""
        store = self._run.plan.store
        if store is None:
            return
        absent = [ref.name for ref in flight.blobs() if not store.is_done(ref.name)]
        if absent:
            await asyncio.get_running_loop().run_in_executor(None, store.wait, absent)

    @property
    def _early_s(self) -> float:
        """How long a batch of several calls may be away before it is looked for."""
        after_s = self._run.plan.settings.early_after_s
        return after_s + min(_EARLY_MARGIN_S, after_s)

    def _watch(self, flight: Flight) -> None:
        """One of its calls may be long, and the others behind it short."""

        async def hear(report: Report) -> None:
            before = flight.calls
            told = {outcome.number for _, outcome in report.outcomes} | {number for number, _ in report.requeued}
            told |= {stop.killed_call or stop.running_call for stop in report.down}
            flight.calls = [call for call in before if call.number not in told]  # the last report tells them again
            self._run.tell(*await self._answers.events_of(flight.lane, before, report, is_last=False))

        self._event_invokes.watch_early(flight.name, hear)
