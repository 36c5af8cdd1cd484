"""Jobs that lie in a bucket: JSON in, JSON out, for clients in any language that can write to S3.

Called by: entry.py, with the Records of a bucket notification.   Calls: claims.py; jobcall.py runs in the slot.

    PREFIX/jobs/GROUP/NAME.json       {"call": "module:function", "args": [...], "kwargs": {...}, "timeout_s": 60};
                                      only "call" must be there
    PREFIX/results/GROUP/NAME.begun   the claim: of several deliveries of one notification, one runs the job
    PREFIX/results/GROUP/NAME.json    {"job", "state": "done" | "failed", "value", "error": {"type", "message",
                                      "traceback"}, "stdout", "stderr", "started_s", "finished_s", "request_id"}

The notification must be filtered by the prefix PREFIX/jobs/ and the suffix .json: results lie beside, and one that
started the function would do so for ever. Keys that are not of this form are left alone here all the same.
Allowed are callables that match a pattern in the function's variable CLOUDEXEC_JOBS (`reports:*,etl.daily:run`).
Nothing in a job is unpickled; the callable runs in a slot, so what it does to its process does not hurt the worker.
A job whose environment died is run by nobody again: Lambda's own retry finds the claim, sees that its owner is silent,
and writes a result that says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from io import BytesIO
from math import inf
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from cloudexec.errors import CloudexecError, NoSuchKey, PreconditionFailed
from cloudexec.transport import s3
from cloudexec.transport.account import Client
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import Event, InvocationSettings
from cloudexec.wire.mail import Report
from cloudexec.wire.messages import FunctionTraits, Outcome, PackedCall, PackedFunction, Verdict, encode_batch
from cloudexec.wire.parts import pack_parts, unpack_parts
from cloudexec.worker.agent.place import say
from cloudexec.worker.awslambda.claims import Claim
from cloudexec.worker.awslambda.environment import Environment
from cloudexec.worker.awslambda.events import claim_body
from cloudexec.worker.awslambda.jobcall import run_named
from cloudexec.worker.awslambda.request import Request
from cloudexec.worker.host.facts import why_it_ended

Run = Callable[[Event], Report]
JOBS_RUN: Final = "jobs"
ALLOWED_VARIABLE: Final = "CLOUDEXEC_JOBS"
BEAT_S: Final = 10.0
SILENT_S: Final = 35.0  # Lambda's first retry comes a minute after the failure
_KEY: Final = re.compile(r"(?P<prefix>(?:.*/)?)jobs/(?P<group>[^/]+)/(?P<name>[^/]+)\.json", re.DOTALL)
_CALLABLE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_FIELDS: Final = frozenset({"call", "args", "kwargs", "timeout_s"})
_NUMBER: Final = 1
_PROTOCOL: Final = 5
_MOST_OUTPUT: Final = 1 << 20  # of stdout and of stderr, their ends
_NAMES: Final = {
    DownCause.TIMEOUT: "CallTimeout",
    DownCause.DEADLINE: "FunctionTimeout",
    DownCause.OUT_OF_MEMORY: "OutOfMemory",
    DownCause.STOPPED: "CallStopped",
    DownCause.LOST: "WorkerLost",
    DownCause.FROZEN: "WorkerLost",
}


class Job(NamedTuple):
    """What an object asks for. timeout_s 0: none but the function's own."""

    call: str
    args: list[Any]
    kwargs: dict[str, Any]
    timeout_s: float


class Place(NamedTuple):
    """Where a job lies. owner: the account that the bucket must belong to."""

    region: str
    bucket: str
    owner: str
    key: str
    claim: str
    result: str


class _Refusal(Exception):
    """Why a job is not run: type and message for its result."""


def is_notification(event: object) -> bool:
    """Whether an event comes from a bucket."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    return isinstance(records, list) and all(isinstance(one, Mapping) and "s3" in one for one in records)


def run_jobs(
    event: Mapping[str, Any], request: Request, environment: Environment, run: Run, silent_s: float = SILENT_S
) -> dict[str, Any]:
    """Run the jobs that a notification names, one after another; what to answer. `silent_s`: somebody who has a job
    and does not renew his claim for so long is dead. Errors: AwsError when a job could
    not be claimed or its result not be written: Lambda tries again then."""
    states = {}
    for record in event["Records"]:
        place = find_place(record, _account_of(request))
        if place is None:
            say("a notification about an object that is no job is left alone")
        else:
            states[place.key] = _run_job(place, request, environment, run, silent_s)
    return {"jobs": states}


def _account_of(request: Request) -> str:
    """The function's own account, which must own the bucket: a name that was given up may be somebody else's now."""
    parts = request.arn.split(":")
    return parts[4] if len(parts) > 4 and parts[4].isdigit() else ""


def find_place(record: Mapping[str, Any], owner: str) -> Place | None:
    """Where the job of a record lies; None if the object is none. Keys in notifications are encoded as in forms."""
    try:
        key = unquote_plus(str(record["s3"]["object"]["key"]))
        bucket, region = str(record["s3"]["bucket"]["name"]), str(record["awsRegion"])
    except (KeyError, TypeError):
        return None
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    stem = f"{found['prefix']}results/{found['group']}/{found['name']}"
    return Place(region, bucket, owner, key, f"{stem}.begun", f"{stem}.json")


def read_job(text: bytes | memoryview, allowed: str | None) -> Job:
    """The job in an object; `allowed`: patterns, see above. Errors: _Refusal."""
    try:
        said = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise _Refusal("WireError", f"the job is not JSON: {error}") from None
    if not isinstance(said, dict) or not isinstance(said.get("call"), str):
        raise _Refusal("WireError", 'a job is an object with "call": "module:function"')
    if unknown := sorted(said.keys() - _FIELDS):
        raise _Refusal("WireError", f"the job has fields that nobody knows: {', '.join(unknown)}")
    job = Job(said["call"], said.get("args", []), said.get("kwargs", {}), said.get("timeout_s", 0))
    if not isinstance(job.args, list) or not isinstance(job.kwargs, dict):
        raise _Refusal("WireError", 'in a job "args" is an array and "kwargs" an object')
    if type(job.timeout_s) not in (int, float) or not 0 <= job.timeout_s < inf:
        raise _Refusal("WireError", 'in a job "timeout_s" is a number of seconds')
    _check_allowed(job.call, allowed)
    return job


def _check_allowed(name: str, allowed: str | None) -> None:
    if not _CALLABLE.fullmatch(name):
        raise _Refusal("WireError", f'"call" is {name!r}, and must be like "module:function"')
    patterns = [pattern.strip() for pattern in (allowed or "").split(",") if pattern.strip()]
    if any(fnmatchcase(name, pattern) for pattern in patterns):
        return
    has = f"which has {allowed!r}" if patterns else "which is not set"
    raise _Refusal(
        "SettingsError",
        f"refused: {name} is not allowed by the function's variable {ALLOWED_VARIABLE}, {has}; "
        f"its owner can add a pattern, e.g. {ALLOWED_VARIABLE}={name}",
    )


def _run_job(place: Place, request: Request, environment: Environment, run: Run, silent_s: float) -> str:
    """Its state: done, failed; or duplicate, if somebody else has it."""
    client = environment.client(place.region, place.owner)
    claim = Claim(client, place.bucket, place.owner, place.claim, claim_body(request, environment.worker))
    if not claim.take():
        return _look_after(claim, place, client, request, silent_s)
    started_s = time.time()
    with claim.kept_alive(BEAT_S):
        result = _result_of(place, client, request, environment, run)
        _write(place, client, {**_blank(place, request, started_s), **result, "finished_s": time.time()})
    say(f"job {place.key}: {result['state']}")
    return str(result["state"])


def _look_after(claim: Claim, place: Place, client: Client, request: Request, silent_s: float) -> str:
    """Somebody has the job, or had it: if he is dead, nobody else would ever say so."""
    if claim.is_silent_for(silent_s) and not _is_there(place, client):
        what = f"the environment that ran the job has died: it was silent for {silent_s:g} s. Nobody has run it again"
        _write(place, client, {**_blank(place, request, None), **_failure("EnvironmentLost", what)})
        return "failed"
    say(f"job {place.key} is somebody else's, and is not run again")
    return "duplicate"


def _is_there(place: Place, client: Client) -> bool:
    try:
        client.call(s3.head_object(place.bucket, place.result, owner=place.owner))
    except NoSuchKey:
        return False
    return True


def _write(place: Place, client: Client, result: Mapping[str, Any]) -> None:
    """Once: a result that is there already stays."""
    body = json.dumps(result).encode()
    with contextlib.suppress(PreconditionFailed):
        client.call(
            s3.put_object(
                place.bucket,
                place.result,
                [body],
                owner=place.owner,
                if_none_match=True,
                content_type="application/json",
            )
        )


def _result_of(place: Place, client: Client, request: Request, environment: Environment, run: Run) -> dict[str, Any]:
    """What the job's result says besides its times."""
    try:
        text = client.call(s3.get_object(place.bucket, place.key, owner=place.owner)).body
        job = read_job(text, os.environ.get(ALLOWED_VARIABLE))
        event = _event_of(job, place, environment)
        report = run(event)
    except _Refusal as refusal:
        return _failure(*refusal.args)
    except CloudexecError as error:
        return _failure(type(error).__name__, str(error.args[0] if error.args else error))
    return read_report(report)


def _event_of(job: Job, place: Place, environment: Environment) -> Event:
    """The job as the only call of a batch, in the environment's own run: its key is made here and never leaves."""
    version = "{}.{}".format(*sys.version_info[:2])
    settings = InvocationSettings(JOBS_RUN, place.region, 1, version, log_output=False)  # a job's result has it
    function = pickle.dumps(run_named, _PROTOCOL)
    arguments = pickle.dumps(((job.call, job.args, job.kwargs), {}), _PROTOCOL)
    packed = PackedFunction(hashlib.sha256(function).digest(), FunctionTraits(stateless=True), pack_parts((function,)))
    call = PackedCall(_NUMBER, 1, packed, pack_parts((arguments,)), float(job.timeout_s))
    sealed = Seal(environment.own_key).close(Kind.BATCH, encode_batch([call]))
    return Event(key=environment.own_key, settings=settings, batch=sealed)


def read_report(report: Report) -> dict[str, Any]:
    """What a result says, from the report of the only call."""
    for _, outcome in report.outcomes:
        stdout, stderr = _output(outcome)
        said = {"stdout": stdout, "stderr": stderr, "started_s": outcome.started_s}
        if outcome.verdict is not Verdict.RETURNED:
            return {**_failure("WorkerLost", "the worker could not run the job; see the function's log"), **said}
        return {**json.loads(_plain(outcome.value)), **said}
    for stop in report.down:
        name = _NAMES.get(stop.why, "CallCrashed")
        return {**_failure(name, f"its process {why_it_ended(stop.why, stop.exitcode)}"), "stderr": stop.last_words}
    what = report.leaving or "the function's own time was over before it could begin"
    return _failure("WorkerLost", what)


def _output(outcome: Outcome) -> tuple[str, str]:
    if not outcome.out:
        return "", ""
    texts = [bytes(part)[-_MOST_OUTPUT:] for part in unpack_parts(outcome.out)[:2] if isinstance(part, memoryview)]
    stdout, stderr = (text.decode("utf-8", "replace") for text in texts)
    return stdout, stderr


class _Plain(pickle.Unpickler):
    """Reads text, and nothing that could run code: a job's process is not trusted with this one."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a job's result is text, not a {module}.{name}")


def _plain(packed: bytes | memoryview) -> str:
    (part,) = unpack_parts(packed)
    assert isinstance(part, memoryview)
    return str(_Plain(BytesIO(part)).load())


def _failure(name: str, message: str) -> dict[str, Any]:
    return {"state": "failed", "error": {"type": name, "message": message, "traceback": ""}}


def _blank(place: Place, request: Request, started_s: float | None) -> dict[str, Any]:
    return {
        "job": place.key,
        "state": "failed",
        "value": None,
        "error": None,
        "stdout": "",
        "stderr": "",
        "started_s": started_s,
        "finished_s": None,
        "request_id": request.id,
    }
