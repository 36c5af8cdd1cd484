"""From an event to an answer.

Called by: __init__.py, for awslambdaric.   Calls: environment.py, crew.py; events.py, jobs.py, where they are needed.
What is wrong with an invocation as a whole is answered as `refused`, in words; nothing was run then. Nobody reads what
an Event invocation answers: what it cannot tell in its report, it raises, for the function's log, metrics, and
on-failure destination. The event holds the run's key: it is never printed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from cloudexec.errors import AwsError, CloudexecError, SettingsError, SignatureError, VersionMismatch, WireError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import MOST_SEALED, Answer, Event, decode_event, encode_answer, is_ours
from cloudexec.wire.mail import Report, encode_report
from cloudexec.wire.messages import Batch, decode_batch
from cloudexec.worker.agent.place import say, say_for
from cloudexec.worker.awslambda.environment import ENVIRONMENT, Environment
from cloudexec.worker.awslambda.request import Request, read_context
from cloudexec.worker.awslambda.tally import fit


def handle(event: Mapping[str, Any], context: Any, environment: Environment = ENVIRONMENT) -> dict[str, Any]:
    """See handler."""
    request = read_context(context)
    environment.begin(request)
    say_for("")
    if not is_ours(event):
        return _foreign(event, request, environment)
    try:
        said = decode_event(event)
        say_for(said.settings.run_id)
        if not said.name:
            report = _try_claim(said, request, environment) if said.probe else run(said, request, environment)
            return encode_answer(_answer(said, report, request, environment))
    except CloudexecError as error:
        return _refused(error)
    from cloudexec.worker.awslambda.events import run_event

    return run_event(said, request, environment, lambda: run(said, request, environment))


def _try_claim(said: Event, request: Request, environment: Environment) -> Report:
    """An empty report, if events could write theirs. Errors: CloudexecError."""
    from cloudexec.worker.awslambda.events import try_claim

    _check_version(said.settings.python_version)
    try_claim(said, request, environment)
    return Report(environment.worker, environment.n_invocations)


def _foreign(event: Mapping[str, Any], request: Request, environment: Environment) -> dict[str, Any]:
    """An event that no executor has sent. Errors: AwsError, for Lambda to try a job again."""
    from cloudexec.worker.awslambda.jobs import is_notification, run_jobs

    if is_notification(event):
        return run_jobs(event, request, environment, lambda said: run(said, request, environment))
    return _refused(WireError("the event is neither a cloudexec invocation nor a bucket notification"))


def run(said: Event, request: Request, environment: Environment) -> Report:
    """Run an event's batch. Errors: CloudexecError, when nothing was run."""
    settings = said.settings
    _check_version(settings.python_version)
    batch, body = _batch_of(said, environment)
    try:
        crew = environment.crew_for(said.key, settings)
    except OSError as error:
        raise SettingsError(f"the worker cannot write to its temporary directory: {error}") from error
    try:
        end_s = request.end_s(settings.margin_s)
        early = environment.early_for(said)
        tally = crew.run(batch, body, end_s=end_s, until_s=request.until_s, trace=request.trace, early=early)
        report = tally.report(
            environment.worker, environment.n_invocations, environment.facts(request, settings.run_id)
        )
    except BaseException:
        environment.dismiss()
        raise
    if report.broken:
        say(f"cannot go on: {report.leaving}")
        environment.dismiss()
    return report


def _check_version(theirs: str) -> None:
    ours = "{}.{}".format(*sys.version_info[:2])
    if theirs != ours:
        raise VersionMismatch(f"the client has Python {theirs}, this Lambda function Python {ours}")


def _batch_of(said: Event, environment: Environment) -> tuple[Batch, memoryview]:
    """The batch and its encoded form. Errors: WireError, SignatureError, and those of the store."""
    if said.stored:
        _check_bucket(said)
        sealed = environment.store(said.settings).get(said.stored)
    else:
        sealed = memoryview(said.batch)
    kind, body = Seal(said.key).open(sealed)
    if kind is not Kind.BATCH:
        raise SignatureError(f"expected a BATCH message, got {kind.name}")
    return decode_batch(body), body


def _check_bucket(said: Event) -> None:
    if not said.settings.bucket:
        raise WireError("the invocation names a stored batch, but no bucket")


def _answer(said: Event, report: Report, request: Request, environment: Environment) -> Answer:
    """The report, in the answer if it fits."""
    seal = Seal(said.key)
    sealed = seal.close(Kind.REPORT, encode_report(report))
    if len(sealed) <= MOST_SEALED:
        return Answer(report=sealed)
    why = ""
    if said.settings.bucket:
        name = f"answers/{request.id}"
        try:
            environment.store(said.settings).put(name, [sealed])
            return Answer(stored=name)
        except AwsError as error:
            say(f"cannot store the answer: {error}")
            why = error.what
    return Answer(report=fit(seal, report, MOST_SEALED, why))


def _refused(error: CloudexecError) -> dict[str, Any]:
    what = str(error.args[0]) if error.args else str(error)
    say(f"refused: {type(error).__name__}: {what}")
    return encode_answer(Answer(refused_error=type(error).__name__, refused_what=what))
