"""Batches that go as events, and all that comes back as objects.

Called by: sending.py, on the loop.
Calls:     probe.py (can the function report?), sweep.py (has it?), lanes.py (refusals), answers.py (reports).
Nobody answers an Event invocation: what became of it lies in the bucket. So none is sent before the client has found
that it may list reports, and the function that it may write them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cloudexec.backends.awslambda.answers import Answers
from cloudexec.backends.awslambda.control import Control
from cloudexec.backends.awslambda.flights import Flight
from cloudexec.backends.awslambda.lanes import Lanes
from cloudexec.backends.awslambda.plan import READ_MARGIN_S, OpenRun
from cloudexec.backends.awslambda.probe import Probe
from cloudexec.backends.awslambda.replies import Fate, Refused, all_down, read_refusal
from cloudexec.backends.awslambda.sweep import Sweep
from cloudexec.backends.protocol import Event
from cloudexec.errors import AwsError, CloudexecError
from cloudexec.ledger.actions import LaneEnd
from cloudexec.transport.lambdas import Invocation
from cloudexec.transport.operation import Operation
from cloudexec.wire.mail import Report

log = logging.getLogger(__name__)

_EVENT_AGAIN_S: Final = (0.1, 0.5, 2.0, 8.0)


class EventInvokes:
    """Sends them, and waits for their reports; looks for early reports of other batches, too."""

    def __init__(self, run: OpenRun, lanes: Lanes, answers: Answers, control: Control) -> None:
        self._run = run
        self._lanes = lanes
        self._answers = answers
        self._control = control
        self._made_sweep: Sweep | None = None
        self._made_probe: Probe | None = None
        self._knows_events = False

    async def outcome_of(self, flight: Flight, payload: bytes) -> list[Event]:
        """Send a batch, and wait for what becomes of it."""
        sweep = self._sweep()
        try:
            await sweep.check()
        except CloudexecError as error:
            return flight.refusals(error)
        function = self._lanes.function_of(flight.lane)
        if (ends := await self._ends_of_mute(flight, function)) is not None:
            return ends
        await self._learn_of_events(sweep)
        invoke = self._run.invoke(function, payload, event=True, wait_s=0.0)
        flight.sent_s = time.monotonic()
        self._control.note_sent()
        waiting = sweep.watch(flight.name)
        refused = await self._send(invoke, function)
        if refused is None:
            self._lanes.accepted(time.monotonic())
        elif refused.fate is not Fate.LOST:  # else it may be on its way: the sweep knows in the end
            sweep.forget(flight.name)
            return self._lanes.refused(flight, refused)
        end = await waiting
        if isinstance(end, LaneEnd):
            self._run.plan.on_invoked(time.monotonic() - flight.sent_s)
            return all_down(flight.lane, flight.calls, end)
        self._run.plan.on_invoked(_span_of(end))
        return await self._answers.events_of(flight.lane, flight.calls, end)

    def watch_early(self, name: str, hear: Callable[[Report], Awaitable[None]]) -> None:
        """Look for what a batch that was not sent as an event tells before its end."""
        self._sweep().watch_early(name, hear)

    def forget_early(self, name: str) -> None:
        """Its end has come."""
        if self._made_sweep is not None:
            self._made_sweep.forget_early(name)

    async def _ends_of_mute(self, flight: Flight, function: str) -> list[Event] | None:
        """What becomes of calls whose function cannot write what becomes of its events; None if it can."""
        found = await self._probe().find(function)
        if isinstance(found, Refused):
            return self._lanes.refused(flight, found)
        if isinstance(found, LaneEnd):
            return all_down(flight.lane, flight.calls, found)
        if found is not None:
            return flight.refusals(found)
        return None

    def _probe(self) -> Probe:
        """Asks functions whether they can; made with the first need."""
        if self._made_probe is None:
            plan = self._run.plan
            assert plan.home is not None
            role = plan.facts.role if len(plan.functions) == 1 else ""
            self._made_probe = Probe(self._invoke_probe, plan.home, plan.seal, role, plan.facts.timeout_s)
        return self._made_probe

    async def _invoke_probe(self, function: str) -> Invocation:
        plan = self._run.plan
        payload = self._run.head.with_probe(f"{plan.functions.index(function)}")
        invoke = self._run.invoke(function, payload, wait_s=plan.facts.timeout_s + READ_MARGIN_S)
        done = await self._run.client.call(invoke)
        self._lanes.accepted(time.monotonic())
        return done

    async def _send(self, invoke: Operation[Invocation], function: str) -> Refused | None:
        """None if Lambda has taken it. An answer that was lost does no harm: of two that bear one name only the one
        that claims it runs, so it is sent again."""
        unknown: Refused | None = None
        for pause_s in (*_EVENT_AGAIN_S, None):
            try:
                await self._run.client.call(invoke)
            except AwsError as error:
                refused = read_refusal(error, function)
                if refused.fate is not Fate.LOST:
                    return unknown or refused  # what was sent before may run
                unknown = refused
            else:
                return None
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        return unknown

    def _sweep(self) -> Sweep:
        """Looks for what comes as objects; it begins with the first need."""
        if self._made_sweep is None:
            plan = self._run.plan
            assert plan.home is not None
            self._made_sweep = Sweep(self._run.client, plan.home, plan.seal, plan.settings.event_beat_s)
            self._run.loop.begin(self._made_sweep.keep())
        return self._made_sweep

    async def _learn_of_events(self, sweep: Sweep) -> None:
        """Ask how Lambda handles the function's events, once. Errors: AwsError and its kin."""
        if self._knows_events:
            return
        self._knows_events = True
        plan = self._run.plan
        try:
            facts = await asyncio.get_running_loop().run_in_executor(None, plan.read_event_facts)
        except CloudexecError as error:
            log.warning("how Lambda handles events of %s is not known: %s", plan.functions[0], error)
            return
        sweep.learn(facts)
        if facts.event_retries:
            log.warning(
                "function %s repeats failed events %d times (MaximumRetryAttempts); cloudexec retries by itself, "
                "and repeats run nothing. Set it to 0: aws lambda put-function-event-invoke-config "
                "--function-name %s --maximum-retry-attempts 0",
                plan.functions[0],
                facts.event_retries,
                plan.functions[0],
            )


def _span_of(report: Report) -> float:
    """From the first begin of a call to the last end, in seconds."""
    outcomes = [outcome for _, outcome in report.outcomes]
    if not outcomes:
        return 0.0
    return max(0.0, max(one.finished_s for one in outcomes) - min(one.started_s for one in outcomes))
