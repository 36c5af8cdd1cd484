"""Read the result object of a job: its value, or what is to be raised. Pure; JSON alone, nothing is unpickled.

Called by: jobs.py.
Format:    docs/decisions/0007; worker/awslambda/jobs.py writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cloudexec import errors
from cloudexec.errors import CloudexecError, RemoteError, RemoteTraceback, WireError

_SHOWN: Final = 100  # characters of a damaged result


class JobResult(NamedTuple):
    """What a result says besides value and error. Times are seconds since the epoch, by the function's clock; None
    where the job did not get so far."""

    stdout: str
    stderr: str
    started_s: float | None
    finished_s: float | None
    request_id: str


def read_result(text: bytes, where: str) -> tuple[Any, BaseException | None, JobResult | None]:
    """The value, or the exception to raise instead; and the rest. What is damaged is an exception, too."""
    try:
        said = json.loads(text)
        state = said["state"]
        if state not in ("done", "failed"):
            raise ValueError(f"state {state!r}")
        rest = JobResult(
            stdout=str(said.get("stdout") or ""),
            stderr=str(said.get("stderr") or ""),
            started_s=_time(said.get("started_s")),
            finished_s=_time(said.get("finished_s")),
            request_id=str(said.get("request_id") or ""),
        )
        return (said["value"], None, rest) if state == "done" else (None, _failure(said["error"]), rest)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        shown = text[:_SHOWN].decode("utf-8", "replace")
        what = f"the result at {where} is damaged, or no result of a job: {shown!r} ({type(error).__name__}: {error})"
        return None, WireError(what, remedy="see who else writes below results/; put the job again"), None


def _time(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # a TypeError is what the caller expects


def _failure(said: Mapping[str, Any]) -> BaseException:
    """The exception that a result describes. What the worker itself says of a job has the name of one of our errors;
    the job's own exceptions are described, because no class of theirs is loaded here."""
    name, message, traceback = str(said["type"]), str(said["message"]), str(said.get("traceback") or "")
    ours = getattr(errors, name, None) if name in errors.__all__ else None
    error: CloudexecError
    if ours is not None and ours is not RemoteError:
        error = ours(message)
    else:
        remedy = "a job's exception is described, not raised as its own class; its traceback is the cause"
        error = RemoteError(f"{name}: {message}", name, message, remedy=remedy)
    if traceback:
        error.__cause__ = RemoteTraceback(traceback)
    return error
