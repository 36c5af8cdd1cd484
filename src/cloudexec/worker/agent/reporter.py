"""What the worker has to tell, cut into reports that fit into a message. Pure.

Called by: agent.py, slots.py, post.py.
Outcomes gather while a report is on its way; the next report takes them all, up to MOST_BYTES. What was told is
settled with the books when the queue has accepted the report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from cloudexec.errors import RemoteError
from cloudexec.wire.mail import LaneStart, LaneStop, Report, encode_report
from cloudexec.wire.messages import Outcome, Verdict, encode_outcome
from cloudexec.worker.agent.books import NEVER, Held, Work

MOST_BYTES: Final = 700_000  # base64 adds a third; a message may have 1 MiB
GATHER_S: Final = 0.003
LINGER_S: Final = 0.1
_OUTCOME_EXTRA: Final = 64  # a generous guess at what an outcome adds besides its value and output


class End(NamedTuple):
    """An outcome that is to be told, and the message that brought its call."""

    lane: str
    outcome: Outcome
    work: Work | None


class Letter(NamedTuple):
    """One report, ready to be sealed; `ends` are its outcomes, `settles` names a work for each other end in it."""

    report: Report
    ends: list[End]
    settles: list[Work]

    @property
    def body(self) -> bytes:
        """What a REPORT message holds."""
        return encode_report(self.report)

    @property
    def works(self) -> list[Work]:
        """One entry for each call whose end this tells."""
        return [end.work for end in self.ends if end.work is not None] + self.settles


class Reporter:
    """Gathers what is to be told."""

    def __init__(self, worker: str, facts: Mapping[str, str]) -> None:
        self._worker = worker
        self._facts = facts
        self._number = 0
        self._ends: deque[End] = deque()
        self._again: deque[Letter] = deque()
        self._settles: list[Work] = []
        self._up: list[LaneStart] = []
        self._down: list[LaneStop] = []
        self._requeued: list[tuple[int, int]] = []
        self._dropped: list[int] = []
        self._leaving = ""
        self._broken = False
        self._since_s: float | None = None  # when the first outcome was seen that waits for company
        self._is_urgent = False
        self.most_bytes = MOST_BYTES
        self.is_due = False

    @property
    def has_news(self) -> bool:
        """Whether something should be told at once."""
        return self.is_due or bool(self._ends or self._again)

    @property
    def has_ended_slots(self) -> bool:
        """Whether the end of a slot is to be told."""
        return bool(self._down)

    def due_s(self, now_s: float, *, is_busy: bool) -> float:
        """When there is something to send.

        Slots of a busy worker often end together: outcomes wait for each other for a moment, and longer in the midst
        of a batch, which costs less than a report each.
        """
        if not self.has_news:
            return NEVER
        if self.is_due or self._again or not is_busy:
            return now_s
        if self._since_s is None:
            self._since_s = now_s
        return self._since_s + (GATHER_S if self._is_urgent else LINGER_S)

    def lane_up(self, lane: str, slot: int) -> None:
        """A slot has come up."""
        self._up.append(LaneStart(lane, slot))
        self.is_due = True

    def lane_down(self, stop: LaneStop, victim: Work | None) -> None:
        """A slot has ended, and with it a call of the message `victim`."""
        self._down.append(stop)
        if victim is not None:
            self._settles.append(victim)
        self.is_due = True

    def end(self, lane: str, outcome: Outcome, work: Work | None, *, is_last: bool = True) -> None:
        """An attempt is over; `is_last`: its slot has no other call, so that somebody may be waiting for this one."""
        self._ends.append(End(lane, outcome, work))
        self._is_urgent |= is_last

    def dropped(self, held: Held) -> None:
        """A call was struck off before it started."""
        self._dropped.append(held.number)
        self._settles.append(held.work)
        self.is_due = True

    def requeued(self, calls: list[tuple[int, int]]) -> None:
        """Calls, each (number, attempt), were put back into the queue."""
        self._requeued.extend(calls)
        self.is_due = True

    def failed_start(self, lane: str, outcome: Outcome) -> None:
        """The initializer has raised: a report by itself, since no other outcome may stand in it."""
        report = Report(self._worker, 0, facts=self._facts, failed_start=True)
        self._again.append(self._relabelled(report, [End(lane, outcome, None)], []))

    def leaving(self, why: str, *, broken: bool = False) -> None:
        """The next report is the last. `broken`: the worker cannot work."""
        self._leaving, self._broken = why, broken
        self.is_due = True

    def next(self, held: dict[str, list[int]] | None, receipts: dict[str, list[int]]) -> Letter:
        """The next report to send; `held` None says nothing of what is held.

        What is not an outcome waits for the last outcomes, so that no later report is needed to understand it; only
        slots that came up stand in the first.
        """
        self._since_s, self._is_urgent = None, False
        if self._again:
            return self._again.popleft()
        ends = self._next_ends()
        up, self._up = self._up, []
        report = Report(self._worker, self._count(), up=up, outcomes=[(end.lane, end.outcome) for end in ends])
        if self._number == 1:
            report = report._replace(facts=self._facts)
        if self._ends:
            return Letter(report, ends, [])
        report = report._replace(
            down=self._down,
            held=held,
            receipts=receipts,
            requeued=self._requeued,
            dropped=self._dropped,
            leaving=self._leaving,
            broken=self._broken,
        )
        settles, self._settles = self._settles, []
        self._down, self._requeued, self._dropped = [], [], []
        self.is_due = False
        return Letter(report, ends, settles)

    def again(self, letter: Letter) -> None:
        """The queue did not take a report: it is the next one once more."""
        self._again.appendleft(letter)

    def refused(self, letter: Letter) -> None:
        """The queue finds a report too large: send it in halves; an outcome that is too large alone is replaced."""
        self.most_bytes = max(1024, min(self.most_bytes, len(letter.body)) // 2)
        head, ends = letter.report, letter.ends
        if len(ends) <= 1:
            ends = [_replaced(end) for end in ends]
            self._again.append(self._relabelled(head, ends, letter.settles))
            return
        half = len(ends) // 2
        first = Report(self._worker, 0, up=head.up, facts=head.facts)
        self._again.append(self._relabelled(first, ends[:half], []))
        self._again.append(self._relabelled(head._replace(up=[], facts={}), ends[half:], letter.settles))

    def _relabelled(self, report: Report, ends: list[End], settles: list[Work]) -> Letter:
        outcomes = [(end.lane, end.outcome) for end in ends]
        return Letter(report._replace(number=self._count(), outcomes=outcomes), ends, settles)

    def _next_ends(self) -> list[End]:
        ends: list[End] = []
        size = 0
        while self._ends:
            end = self._ends[0]
            size += len(end.outcome.value) + len(end.outcome.out) + _OUTCOME_EXTRA
            if ends and size > self.most_bytes:
                break
            ends.append(self._ends.popleft())
        return [_replaced(ends[0])] if len(ends) == 1 and size > self.most_bytes else ends

    def _count(self) -> int:
        self._number += 1
        return self._number


def _replaced(end: End) -> End:
    """In the place of an outcome that no message can carry: one that says so."""
    from cloudexec.serialization.failures import pack_failure

    outcome = end.outcome
    size = len(encode_outcome(outcome))
    kind = "result" if outcome.verdict is Verdict.RETURNED else "exception"
    error = RemoteError(
        f"the call's {kind} and output take {size:,} bytes of a message, more than a queue carries", kind, ""
    )
    failure = pack_failure(error)
    return end._replace(outcome=outcome._replace(verdict=Verdict.REFUSED, value=failure, out=b""))
