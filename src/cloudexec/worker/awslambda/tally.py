"""What became of each call of a batch, gathered while it runs; the report of it. Pure.

Called by: worker.agent.slots, which tells; crew.py, which asks.   Calls: wire.mail for what a report is.
Every call of the batch stands in exactly one of the report's outcomes, down, requeued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from cloudexec.errors import PayloadTooLarge
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import LaneStop, Report, encode_report
from cloudexec.wire.messages import Batch, Outcome, Verdict
from cloudexec.worker.agent.books import Held, Work
from cloudexec.worker.awslambda.room import Room

_NOTHING: Final = Batch([], (0, 0), "")
_STORABLE: Final = "see that the function's role may put objects below the run's prefix, and that S3 can be reached"


class Tally:
    """One batch at a time; see worker.agent.slots.Told. `room`: is told what ends."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room
        self.begin(_NOTHING)

    def begin(self, batch: Batch) -> None:
        """A new batch; what an earlier one left is forgotten."""
        self._attempts = {call.number: call.attempt for call in batch.calls}
        self._outcomes: dict[int, tuple[str, Outcome]] = {}
        self._down: dict[int, LaneStop] = {}
        self._given_back: set[int] = set()
        self._told: set[int] = set()
        self._failed: tuple[str, Outcome] | None = None
        self._stopped: frozenset[int] = frozenset()
        self._ending = ""
        self._why = ""
        self.leaving = ""
        if self._room is not None:
            self._room.begin()

    # --- what slots tell ---

    def lane_up(self, lane: str, slot: int) -> None:
        """Lanes of an environment are its own business."""

    def lane_down(self, stop: LaneStop, victim: Work | None) -> None:
        """A slot has ended; it counts if a call of the batch ended with it."""
        number = stop.running_call
        if not self._is_open(number):
            return
        if self._why and stop.why == DownCause.STOPPED and number not in self._stopped:
            words = f"{self._why}\n{stop.last_words}" if stop.last_words else self._why
            stop = stop._replace(why=self._ending, last_words=words)
        self._down[number] = stop

    def end(self, lane: str, outcome: Outcome, work: Work | None, *, is_last: bool = True) -> None:
        """An attempt is over."""
        if self._is_open(outcome.number):
            self._outcomes[outcome.number] = lane, outcome
            if self._room is not None:
                self._room.take(outcome)

    def dropped(self, held: Held) -> None:
        """A call was struck off before it started: it is given back."""

    def failed_start(self, lane: str, outcome: Outcome) -> None:
        """The initializer has raised."""
        self._failed = lane, outcome

    # --- what the crew says ---

    def given_back(self, held: Iterable[Held]) -> None:
        """These calls have not begun, and will not begin here."""
        self._given_back.update(one.number for one in held)

    def stops(self, numbers: frozenset[int]) -> None:
        """The client wants these calls to end."""
        self._stopped = numbers

    def ends_all(self, cause: str, why: str) -> None:
        """What is killed from now on is killed for this reason; `cause` is one of DownCause."""
        self._ending, self._why = cause, why

    def killed(self, lane: str, held: Held) -> None:
        """A call was running when all slots were killed; `lane` is a name that no other lane has."""
        why = self._ending or DownCause.LOST
        words = self._why or self.leaving
        self.lane_down(LaneStop(lane, -9, why, held.number if self._ending else 0, held.number, words, []), None)

    @property
    def has_ends(self) -> bool:
        """Whether any call of the batch has ended."""
        return bool(self._outcomes or self._down)

    # --- the report ---

    def report(self, worker: str, number: int, facts: Mapping[str, str]) -> Report:
        """What became of the batch. Calls that have no end are given back.

        An initializer that raised is told when no call has ended: no other outcome may stand beside it. Otherwise it
        will raise again, for those that are given back.
        """
        ended = self._outcomes.keys() | self._down.keys()
        given_back = [(number, attempt) for number, attempt in self._attempts.items() if number not in ended]
        report = Report(
            worker,
            number,
            down=list(self._down.values()),
            outcomes=list(self._outcomes.values()),
            requeued=given_back,
            facts=facts,
        )
        if self._failed is None:
            return report._replace(leaving=self.leaving, broken=bool(self.leaving))
        if self._outcomes:
            return report
        why = "the initializer raised an exception"
        return report._replace(outcomes=[self._failed], failed_start=True, leaving=why, broken=True)

    def early_report(self, worker: str) -> Report | None:
        """What has ended or was given back since the last time; None if nothing."""
        outcomes = [entry for number, entry in self._outcomes.items() if number not in self._told]
        down = [stop for number, stop in self._down.items() if number not in self._told]
        back = sorted(self._given_back - self._told)
        self._told |= self._outcomes.keys() | self._down.keys() | self._given_back
        if not (outcomes or down or back):
            return None
        requeued = [(number, self._attempts[number]) for number in back]
        return Report(worker, 1, outcomes=outcomes, down=down, requeued=requeued)

    def _is_open(self, number: int) -> bool:
        """Whether a call's end counts: what was given back is somebody else's."""
        over = (self._outcomes, self._down, self._given_back)
        return number in self._attempts and not any(number in some for some in over)


def fit(seal: Seal, report: Report, most_bytes: int, why: str = "") -> bytes:
    """The sealed report in `most_bytes`. `why`: it could not be stored, if there is a place for that.

    An outcome that would not fit alone is replaced by what says so. What only does not fit beside the others is told as
    lost, the largest first: alone, it will fit.
    """
    sealed = _sealed(seal, report)
    if len(sealed) <= most_bytes:
        return sealed
    outcomes, down = list(report.outcomes), list(report.down)
    for index, (lane, outcome) in enumerate(outcomes):
        alone = report._replace(outcomes=[(lane, outcome)], down=[], requeued=[])
        if _size(outcome) > most_bytes // 2 and len(_sealed(seal, alone)) > most_bytes:
            outcomes[index] = lane, _refused(outcome, why)
    largest_first = sorted(outcomes, key=lambda entry: -_size(entry[1]))
    for entry in largest_first:
        sealed = _sealed(seal, report._replace(outcomes=outcomes, down=down))
        if len(sealed) <= most_bytes:
            break
        outcomes.remove(entry)
        down.append(_crowded(*entry, why))
    return _sealed(seal, report._replace(outcomes=outcomes, down=down))


def _sealed(seal: Seal, report: Report) -> bytes:
    return seal.close(Kind.REPORT, encode_report(report))


def _size(outcome: Outcome) -> int:
    return len(outcome.value) + len(outcome.out)


def _crowded(lane: str, outcome: Outcome, why: str) -> LaneStop:
    words = f"{_size(outcome):,} bytes, beside the results of other calls{_because(why)}"
    return LaneStop(lane, 0, DownCause.CROWDED, 0, outcome.number, words, [])


def _refused(outcome: Outcome, why: str) -> Outcome:
    from cloudexec.serialization.failures import pack_failure

    kind = "result" if outcome.verdict is Verdict.RETURNED else "exception"
    what = f"the call's {kind} and output take {_size(outcome):,} bytes, more than an invocation's answer carries"
    error = PayloadTooLarge(f"{what}{_because(why)}", remedy=_STORABLE if why else None)
    return outcome._replace(verdict=Verdict.REFUSED, value=pack_failure(error), out=b"")


def _because(why: str) -> str:
    return f"; the answer could not be stored in the bucket: {why}" if why else ""
