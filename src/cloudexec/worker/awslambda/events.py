"""Event invocations: nobody waits for the answer, so the report is an object.

Called by: entry.py.   Calls: claims.py.
Objects:   events/NAME.begun, the claim: sealed JSON with owner, began_s, until_s (seconds since 1970), request_id.
           events/NAME.report, written once: the sealed report. An invocation that is refused as a whole has one, too:
           it names no call, and says why in `leaving`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from cloudexec.errors import CloudexecError, WireError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import Event
from cloudexec.wire.mail import Report, encode_report
from cloudexec.worker.agent.place import say
from cloudexec.worker.awslambda.claims import Claim
from cloudexec.worker.awslambda.environment import Environment
from cloudexec.worker.awslambda.request import Request


def run_event(said: Event, request: Request, environment: Environment, run: Callable[[], Report]) -> dict[str, Any]:
    """Claim it, run it, write its report; what to answer. Errors: CloudexecError if nobody can be told."""
    settings, name = said.settings, said.name
    if not settings.bucket:
        raise WireError("an Event invocation needs a bucket for its report")
    seal = Seal(said.key)
    store = environment.store(settings)
    body = seal.close(Kind.CONTROL, claim_body(request, environment.worker))
    claim = Claim(
        environment.client(settings.region, settings.owner),
        settings.bucket,
        settings.owner,
        f"{settings.prefix}/events/{name}.begun",
        body,
    )
    if not claim.take():
        say(f"event {name} has been begun by somebody else, and is not run again")
        return {"event": name, "state": "duplicate"}
    with claim.kept_alive(settings.event_beat_s):
        report = _report_of(run, environment)
        store.put_once(f"events/{name}.report", [seal.close(Kind.REPORT, encode_report(report))])
    return {"event": name, "state": "done"}


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
