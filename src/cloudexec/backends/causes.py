"""What the end of a slot means for the call that ran in it.

Called by: local/backend.py, pull/news.py, awslambda/replies.py.
"""

from __future__ import annotations

from typing import Final

from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.wire.control import DownCause
from cloudexec.wire.mail import LaneStop
from cloudexec.worker.host.facts import quoted, why_it_ended

CAUSES: Final = {
    DownCause.TIMEOUT: Cause.TIMEOUT,
    DownCause.DEADLINE: Cause.TIMEOUT,
    DownCause.OUT_OF_MEMORY: Cause.OOM,
    DownCause.FROZEN: Cause.LOST,
    DownCause.LOST: Cause.LOST,
    DownCause.CROWDED: Cause.LOST,
    DownCause.STOPPED: Cause.CRASH,
    DownCause.DIED: Cause.CRASH,
    DownCause.RETIRED: Cause.CRASH,
}


def end_of(stop: LaneStop, more_memory: str) -> LaneEnd:
    """A slot's end as a report tells it. more_memory: the remedy for a lack of memory."""
    return LaneEnd(
        CAUSES.get(stop.why, Cause.CRASH),
        f"slot {stop.lane} {why_it_ended(stop.why, stop.exitcode)}{quoted(stop.last_words)}",
        stop.exitcode,
        stop.killed_call,
        remedy=more_memory if stop.why == DownCause.OUT_OF_MEMORY else "",
        stopped=stop.why == DownCause.STOPPED,
        retired=stop.why == DownCause.RETIRED,
    )
