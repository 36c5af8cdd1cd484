"""What the ledger asks its engine to do.

Called by: ledger.py (writes), engine and simulator (carry out).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cloudexec.ledger.calls import Call, Cause


class LaneEnd(NamedTuple):
    """How a lane, or the worker that it belongs to, ended.

    cause: what it means for the call that ran. exitcode: of the process, minus the signal. killed_call: the call
    that it was killed for, 0 if none. stopped: because the user asked. retired: it had done its share of calls,
    or left in good order; that is no failed start.
    error, remedy: the name of the error class that says it best and what to try, where a backend knows more than
    `cause` does; plain text, because the journal keeps it.
    """

    cause: Cause
    detail: str
    exitcode: int | None = None
    killed_call: int = 0
    stopped: bool = False
    retired: bool = False
    error: str = ""
    remedy: str = ""


class Place(NamedTuple):
    """Send these calls to a lane, as one batch."""

    lane: str
    calls: list[Call]


class Recall(NamedTuple):
    """Take back what the lane has not started, and say so with `Ledger.returned`."""

    lane: str


class KillCall(NamedTuple):
    """Kill the lane's process if it is still running this call."""

    lane: str
    number: int


class WantLanes(NamedTuple):
    """Have this many lanes in all; lanes that end are not replaced unless this is asked again."""

    n_lanes: int


class Ping(NamedTuple):
    """Ask a worker for a sign of life; it comes back as `Ledger.heard`."""

    worker: str


class DropWorker(NamedTuple):
    """A worker is silent: kill it if it can be killed, and forget it."""

    worker: str


class Resolve(NamedTuple):
    """A call is over, with the outcome that the worker sent through `lane`."""

    call: Call
    outcome: Any
    lane: str


class Fail(NamedTuple):
    """A call is over without an outcome."""

    call: Call
    end: LaneEnd


class Break(NamedTuple):
    """The executor is of no more use; the calls of its `Fail`s stand before this action."""

    end: LaneEnd


Action = Place | Recall | KillCall | WantLanes | Ping | DropWorker | Resolve | Fail | Break
