"""Event invocations: nobody waits for the answer, so the report is an object.

Called by: entry.py.   Calls: claims.py.
Objects:   events/NAME.begun, the claim: sealed JSON with owner, began_s, until_s (seconds since 1970), request_id.
           events/NAME.report, written once: the sealed report. An invocation that is refused as a whole has one, too:
           it names no call, and says why in `leaving`.
           events/NAME.tried: a claim of no event, by which a client finds out whether the function can write any.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from cloudexec.errors import AwsError, CloudexecError, ConnectionLost, Throttled, WireError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import Event
from cloudexec.wire.mail import Report, encode_report
from cloudexec.worker.agent.place import say
from cloudexec.worker.awslambda.claims import Claim
from cloudexec.worker.awslambda.environment import Environment
from cloudexec.worker.awslambda.request import Request

T = TypeVar("T")
_CLAIM_WITHIN_S: Final = 60.0  # an environment that waits is billed like one that works
_LAST_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 10.0


def run_event(said: Event, request: Request, environment: Environment, run: Callable[[], Report]) -> dict[str, Any]:
    """Claim it, run it, write its report; what to answer. Errors: CloudexecError if nobody can be told."""
    settings, name = said.settings, said.name
    claim = _claim_of(said, f"{name}.begun", request, environment)
    if not patiently(claim.take, min(time.monotonic() + _CLAIM_WITHIN_S, request.until_s - _LAST_S)):
        say(f"event {name} has been begun by somebody else, and is not run again")
        return {"event": name, "state": "duplicate"}
    with claim.kept_alive(settings.event_beat_s):
        sealed = Seal(said.key).close(Kind.REPORT, encode_report(_report_of(run, environment)))
        store = environment.store(settings)
        patiently(lambda: store.put_once(f"events/{name}.report", [sealed]), request.until_s - _LAST_S)
    return {"event": name, "state": "done"}


def try_claim(said: Event, request: Request, environment: Environment) -> None:
    """Write what an event writes first. Errors: CloudexecError, if that cannot be done."""
    _claim_of(said, f"{said.probe}.tried", request, environment).take()


def _claim_of(said: Event, name: str, request: Request, environment: Environment) -> Claim:
    settings = said.settings
    if not settings.bucket:
        raise WireError("an Event invocation needs a bucket for its report")
    body = Seal(said.key).close(Kind.CONTROL, claim_body(request, environment.worker))
    client = environment.client(settings.region, settings.owner)
    return Claim(client, settings.bucket, settings.owner, f"{settings.prefix}/events/{name}", body)


def patiently(write: Callable[[], T], until_s: float, pause_s: float = 1.0) -> T:
    """Write what must be written, though S3 may be away for longer than requests are repeated. Errors: AwsError."""
    while True:
        try:
            return write()
        except AwsError as error:
            may_pass = isinstance(error, (ConnectionLost, Throttled)) or (error.status or 0) >= 500
            if not may_pass or time.monotonic() + pause_s > until_s:
                raise
            say(f"tried again: {error}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def claim_body(request: Request, worker: str) -> bytes:
    """Who does it, and until when. A nonce makes each claim another one, also of the same worker and request."""
    now_s = time.time()
    said = {
        "owner": f"{worker}/{os.urandom(8).hex()}",
        "began_s": now_s,
        "until_s": now_s + max(0.0, request.until_s - time.monotonic()),
        "request_id": request.id,
    }
    return json.dumps(said).encode()


def _report_of(run: Callable[[], Report], environment: Environment) -> Report:
    try:
        return run()
    except CloudexecError as error:
        why = f"{type(error).__name__}: {error.args[0] if error.args else error}"
        say(f"refused: {why}")
        return Report(environment.worker, environment.n_invocations, leaving=why, broken=True)
