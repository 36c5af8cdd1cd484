"""The operation Invoke: what is checked before, and how outcomes and refusals look on the wire.

Called by:  plane.py; events.py, to run an event.   Calls: pool.py, environment.py, events.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from cloudexec.testing.pocket.server.awslambda import words
from cloudexec.testing.pocket.server.awslambda.environment import Job, Outcome
from cloudexec.testing.pocket.server.awslambda.functions import Function, Functions, parse_reference
from cloudexec.testing.pocket.server.awslambda.launching import CannotExecute
from cloudexec.testing.pocket.server.awslambda.pool import Pool, Throttled
from cloudexec.testing.pocket.server.awslambda.records import Tally
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, error_answer
from cloudexec.testing.pocket.settings import PocketSettings

PYTHON_RUNTIME: Final = "python3."
SYNC, EVENT, DRY_RUN = "RequestResponse", "Event", "DryRun"


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What somebody wants to have run."""

    function: Function
    job: Job


class Events(Protocol):
    """Where Event invocations wait."""

    def accept(self, invocation: Invocation) -> None:
        """Take one; it runs soon."""


class Invoking:
    """Runs invocations."""

    def __init__(
        self, *, functions: Functions, pool: Pool, tally: Tally, faults: FaultBook, settings: PocketSettings
    ) -> None:
        self._functions, self._pool, self._tally = functions, pool, tally
        self._faults, self._settings = faults, settings
        self.events: Events | None = None
        self.loops_allowed: set[str] = set()  # ARNs whose recursion nobody stops

    # --- the request ---------------------------------------------------------------------------

    def answer(self, request: Request, name: str) -> Answer:
        """The answer to an Invoke."""
        qualifier = parse_qs(request.query).get("Qualifier", [""])[0]
        kind = request.headers.get("x-amz-invocation-type") or SYNC
        invocation = self._checked(request, name, qualifier, kind)
        if kind == DRY_RUN:
            return Answer(status=204, headers=_headers(invocation))
        try:
            self._throttle_on_demand(invocation.function)
            if kind == EVENT:
                assert self.events is not None
                self.events.accept(invocation)
                return Answer(status=202, headers=_headers(invocation))
            outcome = self.run(invocation)
        except Throttled as throttled:
            self._tally.count(invocation.function.name, "throttles")
            return throttle_answer(throttled)
        return self._told(invocation, outcome, tail=request.headers.get("x-amz-log-type") == "Tail")

    def _checked(self, request: Request, name: str, qualifier: str, kind: str) -> Invocation:
        if kind not in (SYNC, EVENT, DRY_RUN):
            what = (
                f"Value '{kind}' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set"
            )
            raise Refusal("ValidationException", what)
        name, qualifier = parse_reference(name, qualifier)
        payload = request.body or b"{}"
        check_payload(payload, MOST[kind])
        function = self._functions.find(name, qualifier, request.region)
        if not function.image and not function.runtime.startswith(PYTHON_RUNTIME):
            what = f"The pocket AWS has no runtime {function.runtime!r}; zips run on python3.x alone."
            raise Refusal("InvalidRuntimeException", what, 502, Type="User")
        trace, function_hash = request.headers.get("x-amzn-trace-id", ""), _hash(function)
        if words.hops(trace, function_hash) >= words.MOST_HOPS and function.arn not in self.loops_allowed:
            what = (
                "Lambda has detected your function being invoked in a recursive loop with other AWS resources "
                "and stopped your function's invocation."
            )
            raise Refusal("RecursiveInvocationException", what, Type="User")
        job = Job(
            request_id=str(uuid.uuid4()),
            arn=f"{function.arn}:{qualifier}" if qualifier else function.arn,
            payload=payload,
            trace=words.next_trace(trace, function_hash, f"1-{int(time.time()):08x}-{secrets.token_hex(12)}"),
            client_context=_client_context(request.headers.get("x-amz-client-context", "")),
        )
        return Invocation(function=function, job=job)

    def of_event(self, arn: str, payload: bytes, region: str) -> Invocation:
        """An invocation that a service asks for; a Refusal if the function is not there."""
        name, qualifier = parse_reference(arn, "")
        function = self._functions.find(name, qualifier, region)
        trace = words.next_trace("", _hash(function), f"1-{int(time.time()):08x}-{secrets.token_hex(12)}")
        return Invocation(
            function=function, job=Job(request_id=str(uuid.uuid4()), arn=arn, payload=payload, trace=trace)
        )

    def _throttle_on_demand(self, function: Function) -> None:
        for rule in self._faults.strike(("invoke_throttle",), service="lambda", operation="Invoke", of=function.name):
            raise Throttled(str(rule.details["reason"]), rule.details.get("retry_after_s"))

    # --- running -------------------------------------------------------------------------------

    def run(self, invocation: Invocation) -> Outcome:
        """Run it now; Throttled if it may not."""
        function, job = invocation.function, self._doomed(invocation)
        outcome = None
        while outcome is None:  # None: the environment had ended while it was idle
            try:
                environment = self._pool.take(function)
            except CannotExecute as error:
                payload = words.error_payload("Runtime.InvalidEntrypoint", str(error), job.request_id)
                return Outcome(payload=payload, error="Unhandled", trouble="Runtime.InvalidEntrypoint")
            try:
                outcome = environment.run(
                    job,
                    init_limit_s=self._settings.lambda_init_s,
                    executed=lambda: self._tally.executed(function.name, job.request_id),
                )
            finally:
                self._pool.give_back(environment)
        if outcome.error:
            self._tally.count(function.name, "errors")
        return outcome

    def _doomed(self, invocation: Invocation) -> Job:
        """The job, with what a fault does to its environment."""
        job, name = invocation.job, invocation.function.name
        for rule in self._faults.strike(
            ("kill_environment",), service="lambda", operation="Invoke", of=name, request_id=job.request_id
        ):
            return replace(job, kill=str(rule.details["when"]), kill_after_s=float(rule.details.get("delay_s") or 0.0))
        return job

    def _told(self, invocation: Invocation, outcome: Outcome, *, tail: bool) -> Answer:
        headers = [*_headers(invocation), ("Content-Type", "application/json")]
        if outcome.error:
            headers.append(("X-Amz-Function-Error", outcome.error))
        if tail:
            headers.append(("X-Amz-Log-Result", base64.b64encode(outcome.log_tail).decode()))
        return Answer(status=200, headers=tuple(headers), body=outcome.payload)


MOST: Final = {SYNC: words.MOST_SYNC_BYTES, DRY_RUN: words.MOST_SYNC_BYTES, EVENT: words.MOST_EVENT_BYTES}


def check_payload(payload: bytes, most_bytes: int) -> None:
    """Refuse what is too big or no JSON."""
    if len(payload) > most_bytes:
        what = f"Request must be smaller than {most_bytes} bytes for the InvokeFunction operation"
        raise Refusal("RequestTooLargeException", what, 413, Type="User")
    try:
        json.loads(payload)
    except ValueError as error:
        what = f"Could not parse request body into json: {error}"
        raise Refusal("InvalidRequestContentException", what, Type="User") from None


def throttle_answer(throttled: Throttled) -> Answer:
    """429, with the reason and when it may help to ask again."""
    members: dict[str, Any] = {"Reason": throttled.reason, "Type": "User"}
    headers: tuple[tuple[str, str], ...] = ()
    if throttled.retry_after_s is not None:
        members["retryAfterSeconds"] = f"{throttled.retry_after_s:g}"
        headers = (("Retry-After", f"{throttled.retry_after_s:g}"),)
    answer = error_answer("lambda", "TooManyRequestsException", "Rate Exceeded.", 429, **members)
    return replace(answer, headers=(*answer.headers, *headers))


def _headers(invocation: Invocation) -> tuple[tuple[str, str], ...]:
    return (
        ("x-amzn-RequestId", invocation.job.request_id),
        ("X-Amz-Executed-Version", invocation.function.version),
        ("X-Amzn-Trace-Id", invocation.job.trace),
    )


def _hash(function: Function) -> str:
    return hashlib.sha256(function.arn.encode()).hexdigest()[:8]


def _client_context(header: str) -> str:
    if not header:
        return ""
    try:
        return base64.b64decode(header, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        what = "Client context must be a valid Base64-encoded JSON object."
        raise Refusal("InvalidRequestContentException", what, Type="User") from None
