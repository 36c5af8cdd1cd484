"""How many calls travel together: few while nothing is known, more as measured times shrink.

Called by: ledger.py.
A message costs a lane some tenths of a millisecond (a pipe) to some tens (a queue). Batches are made so long that
this hardly counts (`target_s`), and no longer; near the end a lane gets no more than its fair share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloudexec.ledger.calls import Call

_WEIGHT: Final = 0.1  # of a new measurement, once there are ten


class Estimate:
    """How long the calls of one function take, in seconds; learns from each outcome."""

    __slots__ = ("count", "mean_s")

    def __init__(self) -> None:
        self.count = 0
        self.mean_s = 0.0

    def learn(self, seconds: float) -> None:
        """Take one measured call into account."""
        if seconds < 0:
            seconds = 0.0  # somebody has set the worker's clock back
        self.count += 1
        weight = _WEIGHT if self.count > 10 else 1 / self.count
        self.mean_s += (seconds - self.mean_s) * weight


@dataclass(frozen=True)
class Pace:
    """A backend's figures for forming batches."""

    target_s: float = 0.05  # work that a lane should hold
    overhead_s: float = 15e-6  # of each call, besides the time that its function takes
    byte_s: float = 2e-9  # of each byte of its arguments
    lane_bytes: int = 1 << 20  # arguments that a lane should hold; a pipe takes no more at once
    most_calls: int = 1024  # in one message
    most_bytes: int = 1 << 18
    shares: float = 1.0  # a batch is at most this part of a lane's fair share; 0.1 if calls cannot be taken back
    message_s: float = 0.0  # what a message costs a lane: a batch of the whole fair share may take as long as that
    ahead_s: float = 0.3  # work for each slot that a shared queue holds in advance
    ahead_one_s: float = 2.0  # calls up to this length: one for each slot, at least
    together: int = 1  # calls that a lane runs at once: it is given so many, if there are
    most_at_once: int = 0  # calls that may run at once in all lanes; 0: as many as lanes run
    pipelined: bool = True  # a lane takes the next batch while it has one
    growth: int = 4  # a batch is at most so many times the number of measurements
    can_recall: bool = True  # queued calls can be taken back from a lane
    recall_above_s: float = 0.002  # queued work worth taking back at once
    stalled_after_s: float = 0.01  # a lane that shows nothing for so long is worth looking at

    def cost_s(self, call: Call) -> float:
        """How long a lane will be busy with a call."""
        return call.estimate.mean_s + self.overhead_s + call.size * self.byte_s

    def most_in_batch(self, estimate: Estimate, n_pending: int, n_lanes: int) -> int:
        """The largest batch for a lane now; 0 means: give it a call only if it is idle."""
        if not estimate.count:
            return self.together if self.together > 1 else 0
        fair = -(-n_pending // max(1, int(n_lanes / self.shares)))
        if self.message_s:
            worth_a_message = int(self.message_s / (estimate.mean_s + self.overhead_s))
            fair = max(fair, min(worth_a_message, -(-n_pending // n_lanes)))
        return max(self.together, min(self.most_calls, self.growth * estimate.count, fair))

    def ahead_work_s(self, cost_s: float) -> float:
        """How much work a shared queue holds in advance for each slot, when the next call costs `cost_s`."""
        return max(self.ahead_s, cost_s) if cost_s <= self.ahead_one_s else self.ahead_s
