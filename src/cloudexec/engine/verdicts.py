"""From what the ledger says to exceptions that a person can act on.

Called by: engine.py.   Calls: errors.
"""

from __future__ import annotations

import sys
from typing import Final

from cloudexec import errors
from cloudexec.errors import CallCrashed, CallStopped, CallTimeout, CloudexecError, OutOfMemory
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Call, Cause

_KINDS: Final = {Cause.CRASH: CallCrashed, Cause.OOM: OutOfMemory}


def failure_of(call: Call, end: LaneEnd, label: str) -> CloudexecError:
    """The exception of a call that ended without an outcome. `label` names the call."""
    tries = f" (attempt {call.attempts})" if call.attempts > 1 else ""
    if end.stopped:
        return CallStopped(f"{label}{tries} was stopped while it ran; {end.detail}")
    if end.cause is Cause.TIMEOUT and end.error:
        return _named(end, "CallTimeout", f"{label}{tries} {end.detail}")
    if end.cause is Cause.TIMEOUT:
        limit_s = call.options.timeout_s
        return CallTimeout(f"{label}{tries} ran longer than timeout_s={limit_s:g}; {end.detail}", limit_s)
    if end.cause in _KINDS:
        remedy = end.remedy or None
        return _KINDS[end.cause](f"{label}{tries} ended its process: {end.detail}", end.exitcode, remedy=remedy)
    return _named(end, "WorkerLost", f"{label}{tries} lost its worker: {end.detail}")


def breakdown_of(end: LaneEnd) -> CloudexecError:
    """The exception of every call when no worker can be started."""
    return _named(end, "WorkerStartFailed", f"no worker could be started: {end.detail}")


def _named(end: LaneEnd, usual: str, what: str) -> CloudexecError:
    """An error of the class that the backend names, if it is one of the usual class."""
    kind: type[CloudexecError] = getattr(errors, usual)
    named = getattr(errors, end.error, None) if end.error else None
    if isinstance(named, type) and issubclass(named, kind):
        kind = named
    return kind(what, remedy=end.remedy or None)


def annotate(error: BaseException, note: str) -> None:
    """Tell which call it was, where Python (3.11) can show it."""
    if sys.version_info >= (3, 11):
        try:
            error.add_note(note)
        except BaseException:  # its class may refuse
            pass
