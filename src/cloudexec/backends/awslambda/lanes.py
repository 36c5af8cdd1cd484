"""Lanes: permissions for one invocation at a time, and what a refusal does to them. No I/O happens here.

Called by: backend.py, which raises them; sending.py and event_invokes.py, which hear what Lambda says.
Calls:     admission.py, for how many there may be.
A lane that Lambda refuses gives its calls back and is gone; new ones come as admission allows.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from cloudexec.backends.awslambda.admission import Admission
from cloudexec.backends.awslambda.flights import Flight, Flights
from cloudexec.backends.awslambda.plan import OpenRun
from cloudexec.backends.awslambda.replies import Fate, Refused
from cloudexec.backends.protocol import CallDown, Event, LaneDown, LaneUp
from cloudexec.backends.pull.loop import NEVER
from cloudexec.errors import InvocationThrottled
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause

log = logging.getLogger(__name__)

WORKER: Final = "lambda"
_SILENT_S: Final = 5.0  # so long nothing may be taken before somebody who watches is told, and again so often:
_TELL_EVERY_S: Final = 60.0
_SURELY_SENT_S: Final = 60.0  # that nobody can be reached is known sooner
_THROTTLED: Final = LaneEnd(Cause.LOST, "Lambda had no room for it", retired=True)


class Lanes:
    """Those that there are, each with its function."""

    def __init__(self, run: OpenRun, flights: Flights) -> None:
        self._run = run
        self._flights = flights
        self._admission = Admission(run.plan.most_lanes, len(run.plan.functions))
        self._functions: dict[str, str] = {}
        self._n_named = 0
        self._wanted = 0
        self._told_s = -_TELL_EVERY_S

    def __contains__(self, lane: str) -> bool:
        return lane in self._functions

    @property
    def n_refused(self) -> int:
        """Invocations that Lambda has refused (429) so far."""
        return self._admission.n_refused

    def function_of(self, lane: str) -> str:
        """Whom a lane invokes."""
        return self._functions[lane]

    def want(self, count: int) -> None:
        """The engine has calls for so many."""
        self._wanted = count

    def raised(self, now_s: float) -> list[Event]:
        """Those that are wanted, allowed, and not there yet: they are there from now on."""
        if len(self._functions) >= self._wanted:
            return []
        events: list[Event] = []
        for _ in range(min(self._wanted, self._admission.allowed(now_s)) - len(self._functions)):
            self._n_named += 1
            lane = f"i{self._n_named}"
            self._functions[lane] = self._run.plan.functions[self._n_named % len(self._run.plan.functions)]
            events.append(LaneUp(lane, WORKER))
        return events

    def next_s(self, now_s: float) -> float:
        """When one more may be raised."""
        if len(self._functions) < min(self._wanted, self._run.plan.most_lanes):
            return self._admission.next_s(len(self._functions), now_s)
        return NEVER

    def accepted(self, now_s: float) -> None:
        """Lambda has taken an invocation."""
        self._admission.accepted(now_s)

    def refused(self, flight: Flight, refused: Refused) -> list[Event]:
        """Lambda did not run it, or nobody knows."""
        now_s = time.monotonic()
        if refused.fate is Fate.NEVER:
            self._run.give_up(refused.error)
            return []
        if refused.fate is Fate.LOST:
            end = LaneEnd(Cause.LOST, f"its answer was lost: {refused.error.what}", error="EnvironmentLost")
            return [CallDown(flight.lane, call.number, end) for call in flight.calls]
        self._functions.pop(flight.lane, None)
        self._admission.refused(len(self._functions), refused.retry_after_s, now_s)
        since_s = self._admission.refused_since_s
        if since_s is not None:
            self._tell_of_silence(refused, since_s, now_s)
            is_over = now_s - since_s > self._run.plan.throttle_timeout_s
            if is_over and not self._has_company(flight, refused, since_s, now_s):
                what = f"{refused.error.what}; so for {now_s - since_s:.0f} s, for every invocation"
                self._run.give_up(type(refused.error)(what, remedy=refused.error.remedy))
                return []
        return [LaneDown(flight.lane, _THROTTLED, len(flight.calls))]

    def _tell_of_silence(self, refused: Refused, since_s: float, now_s: float) -> None:
        if now_s - since_s <= _SILENT_S or now_s <= self._told_s + _TELL_EVERY_S:
            return
        self._told_s = now_s
        log.warning(
            "run %s: no invocation was taken for %.0f s, it is tried again until throttle_timeout_s=%g is over: %s",
            self._run.id,
            now_s - since_s,
            self._run.plan.throttle_timeout_s,
            refused.error.what,
        )

    def _has_company(self, flight: Flight, refused: Refused, since_s: float, now_s: float) -> bool:
        """Whether other invocations are under way, so that Lambda has room for us, if not for more.

        Where it could not be reached, others may still be about to find that out, one after another.
        """
        sent = [other.sent_s for other in self._flights.sent() if other is not flight]
        if isinstance(refused.error, InvocationThrottled):
            return bool(sent)
        return any(sent_s < since_s or now_s - sent_s > _SURELY_SENT_S for sent_s in sent)
