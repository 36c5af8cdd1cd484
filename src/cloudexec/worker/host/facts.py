"""What a host reports of supervisors and slots: facts, without a judgement of what follows from them.

Called by: host.py, which makes them; backends/local and worker/agent, which read them.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Final, NamedTuple

from cloudexec.wire.control import DownCause, SlotDown
from cloudexec.wire.messages import Outcome


class LaneBegan(NamedTuple):
    """A slot can take calls."""

    lane: str
    worker: str
    slot: int


class LaneEnded(NamedTuple):
    """A slot has ended; the last `unstarted` of its calls were never started. `condemned`: why we killed it, if we
    did because of what it sent."""

    lane: str
    slot: str
    down: SlotDown
    condemned: str
    unstarted: int


class WorkerEnded(NamedTuple):
    """A supervisor is dead, and its slots with it; `unstarted` by lane."""

    worker: str
    detail: str
    exitcode: int | None
    unstarted: dict[str, int]


class NoStart(NamedTuple):
    """A supervisor or a slot could not be started."""

    detail: str


class Ended(NamedTuple):
    """Attempts that ended in a lane, in the order in which they ended."""

    lane: str
    outcomes: list[Outcome]


class InitializerRaised(NamedTuple):
    """The initializer raised in a slot; the outcome holds its exception."""

    lane: str
    outcome: Outcome


class Answered(NamedTuple):
    """A supervisor has answered a ping."""

    worker: str


Fact = LaneBegan | LaneEnded | WorkerEnded | NoStart | Ended | InitializerRaised | Answered

_WHY: Final = {
    DownCause.TIMEOUT: "was killed because the call's timeout_s was over",
    DownCause.DEADLINE: "was killed because the function's own timeout was near",
    DownCause.STOPPED: "was killed because the call was stopped",
    DownCause.FROZEN: "was suspended (SIGSTOP) and therefore killed",
    DownCause.LOST: "ended with its supervisor",
    DownCause.CROWDED: "has run the call, whose result did not fit into the answer",
    DownCause.OUT_OF_MEMORY: "was killed by the kernel because memory ran out",
}


def described(fact: LaneEnded) -> str:
    """A slot's end in words."""
    down = fact.down
    why = fact.condemned or why_it_ended(down.why, down.exitcode)
    return f"slot {fact.slot} (pid {down.pid}) {why}{quoted(down.last_words)}"


def why_it_ended(why: str, exitcode: int | None) -> str:
    """What ended a slot, as the end of a sentence; `why` is one of the words in DownCause."""
    return _WHY.get(why, f"died with {how_it_ended(exitcode)}")


def how_it_ended(exitcode: int | None) -> str:
    """An exit status in words; negative is a signal."""
    if exitcode is None:
        return "no exit code"
    if exitcode < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def quoted(words: str) -> str:
    """Last words at the end of a sentence; nothing if there are none."""
    return f"; its last words:\n{words}\n" if words else ""
