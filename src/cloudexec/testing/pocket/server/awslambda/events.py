"""The queue of Event invocations: accepted at once, run soon, tried again, given up.

Called by:  invoke.py, for Event invocations; plane.py, for bucket notifications.   Calls: invoke.py.

  accept -> due -> a thread of its own runs it -> done
             ^                |  throttled: 1 s, 2 s, 4 s, … up to 5 min later, as often as its age allows
             |________________|  failed: 1 min, then 2 min later, MaximumRetryAttempts times
                              |  given up: on to the on-failure destination   (all times × lambda_retry_scale)
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final

from cloudexec.testing.pocket.server.awslambda.environment import Outcome
from cloudexec.testing.pocket.server.awslambda.functions import Function
from cloudexec.testing.pocket.server.awslambda.invoke import Invocation, Invoking
from cloudexec.testing.pocket.server.awslambda.pool import Throttled
from cloudexec.testing.pocket.server.awslambda.records import Tally
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.server.sqs import Sqs

log = logging.getLogger(__name__)
DEFAULT_RETRIES: Final = 2
DEFAULT_AGE_S: Final = 6 * 3600.0
RETRY_DELAYS_S: Final = (60.0, 120.0)
THROTTLE_DELAY_S: Final = 1.0
MOST_THROTTLE_DELAY_S: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event on its way."""

    invocation: Invocation
    accepted_s: float
    n_attempts: int = 0  # that ran
    n_throttles: int = 0  # in a row


class EventQueue:
    """All events that wait."""

    def __init__(
        self,
        *,
        moto: Moto,
        sqs: Sqs,
        invoking: Invoking,
        faults: FaultBook,
        tally: Tally,
        config_of: Callable[[Function, str], dict[str, Any]],
        scale: float,
    ) -> None:
        self._moto, self._sqs, self._invoking, self._faults = moto, sqs, invoking, faults
        self._tally, self._config_of, self._scale = tally, config_of, scale
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Event]] = []  # a heap, by when they are due
        self._order = itertools.count()
        self._n_running = 0
        self._life = 0  # what was begun before `forget` comes back to nothing
        self._is_over = False
        threading.Thread(target=self._dispatch, name="events", daemon=True).start()

    def __len__(self) -> int:
        """How many wait or run."""
        with self._changed:
            return len(self._waiting) + self._n_running

    def accept(self, invocation: Invocation) -> None:
        """Take an event; a fault may drop or duplicate it."""
        function = invocation.function.name
        self._tally.count(function, "events")
        for _ in range(self._copies(function)):
            self._push(Event(invocation=invocation, accepted_s=time.monotonic()), 0.0, self._life)

    def _copies(self, function: str) -> int:
        for rule in self._faults.strike(
            ("drop_events", "duplicate_events"), service="lambda", operation="Invoke", of=function
        ):
            return 0 if rule.kind == "drop_events" else 2
        return 1

    def notify(self, arn: str, payload: dict[str, Any], region: str) -> None:
        """A bucket tells of an object; a function that is not there hears nothing, as on AWS."""
        try:
            self.accept(self._invoking.of_event(arn, json.dumps(payload).encode(), region))
        except Refusal as refusal:
            log.debug("a notification for %s went nowhere: %s", arn, refusal.message)

    def forget(self) -> None:
        """Nothing waits any more."""
        with self._changed:
            self._waiting.clear()
            self._life += 1

    def close(self) -> None:
        """The server ends."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # --- the loop ------------------------------------------------------------------------------

    def _push(self, event: Event, delay_s: float, life: int) -> None:
        with self._changed:
            if life == self._life:
                heapq.heappush(self._waiting, (time.monotonic() + delay_s, next(self._order), event))
                self._changed.notify_all()

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    pause_s = self._waiting[0][0] - time.monotonic() if self._waiting else None
                    self._changed.wait(pause_s)
                    if self._is_over:
                        return
                event = heapq.heappop(self._waiting)[2]
                self._n_running += 1
                life = self._life
            threading.Thread(target=self._run, args=(event, life), name="event", daemon=True).start()

    def _run(self, event: Event, life: int) -> None:
        try:
            self._try(event, life)
        except Refusal as refusal:
            log.debug("an event of %s cannot run: %s", event.invocation.function.name, refusal.message)
        finally:
            with self._changed:
                self._n_running -= 1

    def _try(self, event: Event, life: int) -> None:
        config = self._config_of(event.invocation.function, event.invocation.job.arn)
        age_s = time.monotonic() - event.accepted_s
        most_age_s = float(config.get("MaximumEventAgeInSeconds", DEFAULT_AGE_S)) * self._scale
        try:
            outcome = self._invoking.run(event.invocation)
        except Throttled:
            self._tally.count(event.invocation.function.name, "throttles")
            delay_s = self._scale * min(MOST_THROTTLE_DELAY_S, THROTTLE_DELAY_S * 2.0**event.n_throttles)
            if age_s + delay_s > most_age_s:
                self._give_up(event, config, "EventAgeExceeded", None)
            else:
                self._push(replace(event, n_throttles=event.n_throttles + 1), delay_s, life)
            return
        event = replace(event, n_attempts=event.n_attempts + 1, n_throttles=0)
        if not outcome.error:
            self._send(event, config, "OnSuccess", "Success", outcome)
            return
        if event.n_attempts > int(config.get("MaximumRetryAttempts", DEFAULT_RETRIES)):
            self._give_up(event, config, "RetriesExhausted", outcome)
            return
        delay_s = self._scale * RETRY_DELAYS_S[min(event.n_attempts, len(RETRY_DELAYS_S)) - 1]
        if age_s + delay_s > most_age_s:
            self._give_up(event, config, "EventAgeExceeded", outcome)
        else:
            self._push(event, delay_s, life)

    def _give_up(self, event: Event, config: dict[str, Any], why: str, outcome: Outcome | None) -> None:
        self._tally.count(event.invocation.function.name, "dropped_events")
        self._send(event, config, "OnFailure", why, outcome)

    # --- destinations --------------------------------------------------------------------------

    def _send(self, event: Event, config: dict[str, Any], kind: str, why: str, outcome: Outcome | None) -> None:
        arn = str(((config.get("DestinationConfig") or {}).get(kind) or {}).get("Destination") or "")
        if not arn:
            return
        record = json.dumps(record_of(event, why, outcome))
        region, resource = arn.split(":")[3], arn.split(":", 5)[5]
        try:
            if ":sqs:" in arn:
                self._sqs.post(region, resource, record)
            elif ":s3:" in arn and kind == "OnFailure":
                request_id = event.invocation.job.request_id
                key = f"aws/lambda/async/{event.invocation.function.name}/{request_id}"
                self._moto.send("s3", "PUT", f"/{resource}/{key}", record.encode(), "application/json")
        except Refusal as refusal:
            log.debug("destination %s: %s", arn, refusal.message)


def record_of(event: Event, why: str, outcome: Outcome | None) -> dict[str, Any]:
    """What a destination is told of an event."""
    job, function = event.invocation.job, event.invocation.function
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": job.request_id,
            "functionArn": f"{function.arn}:{function.version}",
            "condition": why,
            "approximateInvokeCount": event.n_attempts,
        },
        "requestPayload": json.loads(job.payload),
    }
    if outcome is not None:
        context = {"statusCode": 200, "executedVersion": function.version}
        record["responseContext"] = {**context, "functionError": outcome.error} if outcome.error else context
        record["responsePayload"] = json.loads(outcome.payload or b"null")
    return record
