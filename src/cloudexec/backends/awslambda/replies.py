"""What an invocation's answer, or Lambda's refusal, means to the ledger. Pure.

Called by: sending.py, answers.py, event_invokes.py, probe.py; lanes.py for what a refusal is.
Three things may have happened: the worker has answered (a report); its environment ended before it could (the answer
has a FunctionError); or Lambda did not run it at all (an AwsError).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from cloudexec import errors
from cloudexec.backends.causes import end_of
from cloudexec.backends.protocol import CallDown, Event, GivenBack, InitializerError, OutboundCall, Outcomes
from cloudexec.errors import AccessDenied, AwsError, CloudexecError, ConnectionLost, Throttled
from cloudexec.errors.broken import FunctionFailed
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.transport.lambdas import Invocation
from cloudexec.wire.control import DownCause
from cloudexec.wire.invocation import Answer
from cloudexec.wire.mail import LaneStop, Report

MORE_MEMORY: Final = "give the function more memory (MemorySize), or run such calls on ECSExecutor"
_ALONE: Final = "give the executor a bucket=; or Retry(lost=1): such calls are tried again alone"
_REPORT_LINE: Final = re.compile(r"Memory Size: (\d+) MB\s+Max Memory Used: (\d+) MB")
# Lambda did not run it, and may later.
_LATER: Final = frozenset(
    {
        "EC2ThrottledException",
        "ENILimitReachedException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "SubnetIPAddressLimitReachedException",
    }
)
# Lambda will never run it: the class of the error, by the beginning of the code.
_NEVER: Final = {
    "ResourceNotFound": "FunctionMissing",
    "KMS": "FunctionKeyDenied",
    "RecursiveInvocation": "RecursionStopped",
    "InvalidRuntime": "WrongArchitecture",
    "InvalidZipFile": "FunctionImportFailed",
}
# An environment that cannot run the worker: the class, by Lambda's errorType.
_UNFIT: Final = {
    "Runtime.ImportModuleError": "FunctionImportFailed",
    "Runtime.UserCodeSyntaxError": "FunctionImportFailed",
    "Runtime.HandlerNotFound": "HandlerNotFound",
    "Runtime.MalformedHandlerName": "HandlerNotFound",
    "Runtime.InvalidEntrypoint": "WrongArchitecture",
    "Extension.Crash": "FunctionFailed",
}


class Fate(Enum):
    """What follows from a refusal."""

    LATER = "the calls were not run; try again when there is room"
    LOST = "the calls may have been run"
    NEVER = "no call can be run"


class Refused(NamedTuple):
    """`error` is what to say if it is the last word."""

    fate: Fate
    error: CloudexecError
    retry_after_s: float | None = None


def read_refusal(error: AwsError, function: str) -> Refused:
    """What a failed request means."""
    if isinstance(error, Throttled):
        reason = getattr(error, "reason", "") or error.code
        what = f"Lambda refuses to invoke {function}: {reason}; {error.what}"
        return Refused(Fate.LATER, errors.InvocationThrottled(what), getattr(error, "retry_after_s", None))
    if isinstance(error, ConnectionLost):
        fate = Fate.LOST if error.ambiguous else Fate.LATER
        return Refused(fate, errors.WorkerStartFailed(f"Lambda cannot be reached: {error.what}", remedy=error.remedy))
    if error.code in _LATER:
        return Refused(Fate.LATER, errors.InvocationThrottled(f"{function} is not ready: {error.what}"))
    if isinstance(error, AccessDenied):
        return Refused(Fate.NEVER, errors.FunctionDenied(error.what))
    name = next((kind for code, kind in _NEVER.items() if error.code.startswith(code)), "")
    if name:
        return Refused(Fate.NEVER, getattr(errors, name)(error.what))
    fate = Fate.LOST if (error.status or 0) >= 500 else Fate.NEVER
    return Refused(fate, errors.WorkerStartFailed(error.what, remedy=error.remedy))


# --- an environment that ended ---------------------------------------------------------------


def read_failure(invocation: Invocation, timeout_s: float) -> LaneEnd | CloudexecError:
    """Why an invocation ended without an answer of the worker's: its calls' end, or why no call can ever be run."""
    kind, message, trace = _told(invocation.payload)
    told = f"{kind}: {message}" if kind else message
    log = _quoted(invocation.log_tail)
    if kind in _UNFIT:
        name, remedy = _UNFIT[kind], None
        if "exec format error" in message.lower():
            name = "WrongArchitecture"
        elif re.search(r"cpython-3\d+|cp3\d+", message):
            remedy = "the zip or image has packages for another Python: build it for the function's runtime"
        unfit: type[CloudexecError] = getattr(errors, name)
        return unfit(f"{told}{log}", remedy=remedy)
    if kind == "Function.ResponseSizeTooLarge":
        return LaneEnd(Cause.CRASH, f"its results did not fit into an answer: {message}")
    if kind in ("Sandbox.Timedout", "Sandbox.TimedOut") or "Task timed out" in message:
        what = f"outlasted the function's timeout of {timeout_s:g} s, and its worker with it: {message}{log}"
        return LaneEnd(Cause.TIMEOUT, what, error="FunctionTimeout")
    if kind == "Runtime.OutOfMemory" or ("signal: killed" in message and _is_full(invocation.log_tail)):
        return LaneEnd(Cause.OOM, f"its environment ran out of memory: {message}{log}", -9, remedy=MORE_MEMORY)
    if kind.startswith(("Runtime.", "Sandbox.")) or not kind:
        return LaneEnd(Cause.LOST, f"its environment ended: {told}{log}", error="EnvironmentLost")
    return FunctionFailed(f"the function's handler raised {told}{_lines(trace)}{log}")


def _told(payload: bytes | bytearray) -> tuple[str, str, Sequence[str]]:
    """Lambda's error object: type, message, trace."""
    try:
        said = json.loads(payload)
        return str(said.get("errorType", "")), str(said.get("errorMessage", "")), list(said.get("stackTrace") or ())
    except (ValueError, AttributeError, TypeError):
        return "", bytes(payload[:500]).decode("utf-8", "replace"), ()


def _is_full(log_tail: str) -> bool:
    found = _REPORT_LINE.findall(log_tail)
    return bool(found) and int(found[-1][1]) >= int(found[-1][0])


def _lines(trace: Sequence[str]) -> str:
    return "\n" + "".join(trace).rstrip() if trace else ""


def _quoted(log_tail: str) -> str:
    return f"; the end of its log:\n{log_tail.rstrip()}\n" if log_tail.strip() else ""


# --- a worker's answer -----------------------------------------------------------------------


def as_broken(answer: Answer) -> CloudexecError:
    """Why a worker ran nothing, as the error of every call."""
    if answer.refused_error == "VersionMismatch":
        return errors.VersionMismatch(answer.refused_what)
    return errors.WorkerStartFailed(f"the function refuses the call: {answer.refused_error}: {answer.refused_what}")


def read_report(
    lane: str, report: Report, calls: Iterable[OutboundCall], timeout_s: float, *, is_last: bool = True
) -> list[Event]:
    """Events for the ledger. When the report `is_last`, every call of the batch is in one of them."""
    if report.failed_start:
        return [InitializerError(outcome) for _, outcome in report.outcomes]
    open_calls = {call.number for call in calls}
    outcomes = [outcome for _, outcome in report.outcomes if outcome.number in open_calls]
    open_calls.difference_update(outcome.number for outcome in outcomes)
    events: list[Event] = [Outcomes(lane, outcomes)] if outcomes else []
    n_lost = sum(
        stop.why == DownCause.LOST for stop in report.down
    )  # together, with their supervisor: nobody knows by whose doing
    for stop in report.down:
        number = stop.killed_call or stop.running_call
        if number in open_calls:
            open_calls.discard(number)
            alone = stop.why == DownCause.CROWDED or (n_lost > 1 and stop.why == DownCause.LOST)
            events.append(CallDown(lane, number, _slot_end(stop, timeout_s), alone))
    back = [number for number, _ in report.requeued if number in open_calls]
    open_calls.difference_update(back)
    if back:
        events.append(GivenBack(back))
    if not is_last:
        return events
    silent = LaneEnd(Cause.LOST, "the worker's answer does not tell of it", error="EnvironmentLost")
    events += [CallDown(lane, number, silent) for number in sorted(open_calls)]
    return events


def _slot_end(stop: LaneStop, timeout_s: float) -> LaneEnd:
    end = end_of(stop, MORE_MEMORY)
    if stop.why == DownCause.CROWDED:
        what = f"it has run, and its result did not fit into the answer: {stop.last_words}"
        return end._replace(detail=what, error="EnvironmentLost", remedy=_ALONE)
    if stop.why != DownCause.DEADLINE:
        return end
    what = f"ran until the function's timeout of {timeout_s:g} s was near; {end.detail}"
    return end._replace(detail=what, error="FunctionTimeout")


def all_down(lane: str, calls: Sequence[OutboundCall], end: LaneEnd) -> list[Event]:
    """The whole batch has ended without an answer. Who of several is to blame is not known."""
    alone = len(calls) > 1
    return [CallDown(lane, call.number, _for_many(end) if alone else end, alone) for call in calls]


def _for_many(end: LaneEnd) -> LaneEnd:
    """For calls that may be innocent: it costs them an attempt of those for lost workers."""
    return end._replace(cause=Cause.LOST, error="EnvironmentLost")
