"""What the ledger is told of a command's end; no I/O happens here.

Called by: backend.py.   Calls: jobs.py, command.py.

    its own exit     -> an outcome: CommandResult, or CommandFailed, which is an error of the call's own
    memory           -> the lane's end, out of memory      somebody stopped it -> TaskStopped, which is not tried again
    we stopped it    -> the lane's end, as we were asked   it never ran        -> the named error
    Spot, host, gone -> the lane's end, lost: the ledger tries again
"""

from __future__ import annotations

import pickle
from typing import Final

from cloudexec import errors
from cloudexec.backends.ecs.commands.jobs import Ended, Why
from cloudexec.backends.ecs.stops import StopKind
from cloudexec.backends.protocol import LaneDown, Outcomes
from cloudexec.command import TAIL_LINES, CommandResult, last_lines
from cloudexec.errors import CloudexecError, CommandFailed, TaskStopped
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.wire.messages import Outcome, Verdict
from cloudexec.wire.parts import pack_parts

_LOST: Final = frozenset({StopKind.SPOT, StopKind.HOST, StopKind.VANISHED})
_MEMORY: Final = "give the command more memory: Command(..., vcpu=, memory_mib=)"
_EXITS: Final = {
    126: "the program is in the image, but it cannot be executed there",
    127: "there is no such program in the image",
    137: f"it was killed, most often for memory: {_MEMORY[5:]}",
}


def event_of(ended: Ended, log: str) -> Outcomes | LaneDown:
    """The event that ends a job's attempt. `log`: all that is kept of what it wrote."""
    job, stop = ended.job, ended.stop
    if stop.kind is StopKind.EXITED:
        return _exit(ended, log)
    if job.why in (Why.STOPPED, Why.CLOSED):
        return LaneDown(job.lane, LaneEnd(Cause.CRASH, _words(ended, log), killed_call=job.number, stopped=True), 0)
    if job.why is Why.TIMEOUT:
        return LaneDown(job.lane, LaneEnd(Cause.TIMEOUT, _words(ended, log), killed_call=job.number), 0)
    if stop.kind is StopKind.OOM:
        return LaneDown(job.lane, LaneEnd(Cause.OOM, _words(ended, log), stop.exit_code, remedy=_MEMORY), 0)
    if stop.kind in _LOST or (job.runs and stop.kind is not StopKind.STOPPED_BY_SOMEBODY):
        end = LaneEnd(Cause.LOST, _words(ended, log), stop.exit_code, error="TaskStopped", remedy=stop.remedy)
        return LaneDown(job.lane, end, 0)
    return _refused(ended, _error_of(ended, log))


def _exit(ended: Ended, log: str) -> Outcomes:
    """It ended by itself, or another container of its task did."""
    result = _result(ended, log)
    if result is None:
        what = f"the task ended before its container {ended.job.order.target.container!r} did: {_words(ended, log)}"
        return _refused(ended, TaskStopped(what, remedy="look at the other containers of the task definition"))
    try:
        value = ended.job.order.command.checked(result, _EXITS.get(result.exit_code))
    except CommandFailed as error:
        return _outcome(ended, Verdict.RAISED, _failure(ended, error), result.started_s, result.stopped_s)
    return _outcome(ended, Verdict.RETURNED, _packed(value), result.started_s, result.stopped_s)


def _result(ended: Ended, log: str) -> CommandResult | None:
    """None if the command's own container has no exit code."""
    job, state = ended.job, ended.state
    assert state is not None  # an exit code has been seen
    wanted = job.order.target.container
    codes = [each.exit_code for each in state.containers if each.name == wanted or not wanted]
    if not codes or codes[0] is None:
        return None
    times_s = state.times_s
    stopped_s = times_s.get("executionStoppedAt") or times_s.get("stoppedAt") or times_s.get("stoppingAt") or 0.0
    started_s = times_s.get("startedAt") or stopped_s
    return CommandResult(
        exit_code=codes[0],
        stop_code=state.stop_code,
        stopped_reason=state.stopped_reason,
        created_s=times_s.get("createdAt") or started_s,
        started_s=started_s,
        stopped_s=stopped_s,
        log=log,
        task_arn=state.arn,
        provider=state.provider,
        attempt=job.attempt,
    )


def _error_of(ended: Ended, log: str) -> CloudexecError:
    """What is raised for a command that cannot run, or that somebody has stopped."""
    stop = ended.stop
    if ended.error is not None:
        return ended.error
    if stop.kind is StopKind.STOPPED_BY_SOMEBODY:
        return TaskStopped(_words(ended, log), remedy=stop.remedy)
    kind: type[CloudexecError] = getattr(errors, stop.error)
    return kind(f"{ended.job.order.command.text} could not be started: {stop.text}", remedy=stop.remedy)


def _words(ended: Ended, log: str) -> str:
    """What the service says, and the last lines of the log."""
    tail = last_lines(log, TAIL_LINES).rstrip("\n")
    return f"{ended.stop.text}; its last lines:\n{tail}\n" if tail else ended.stop.text


def _refused(ended: Ended, error: CloudexecError) -> Outcomes:
    return _outcome(ended, Verdict.REFUSED, _failure(ended, error), 0.0, 0.0)


def _failure(ended: Ended, error: CloudexecError) -> bytes:
    """Where a call's exception has the worker's traceback, that of a command says where it happened."""
    where = f"task {ended.state.arn}" if ended.state is not None else "no task"
    return _packed((error, f"{type(error).__name__}, {where}\n"))


def _packed(value: object) -> bytes:
    return pack_parts((pickle.dumps(value, pickle.HIGHEST_PROTOCOL),))


def _outcome(ended: Ended, verdict: Verdict, value: bytes, started_s: float, finished_s: float) -> Outcomes:
    job = ended.job
    return Outcomes(job.lane, [Outcome(job.number, job.attempt, verdict, started_s, finished_s, 0.0, 0, value)])
