"""Reports of workers become events; nothing here does I/O.

Called by: backend.py.   Calls: wire.mail for what a report is.
Reports come at least once and in any order. Outcomes count whenever they come; what a report says of slots and held
calls counts only if no later report of the same worker has been read.
"""

from __future__ import annotations

from typing import Final

from cloudexec.backends.causes import end_of
from cloudexec.backends.protocol import (
    Event,
    GivenBack,
    Heard,
    InitializerError,
    LaneDown,
    LaneUp,
    Outcomes,
    Requeued,
    Taken,
    WorkerDown,
)
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.wire.mail import LaneStop, Report
from cloudexec.wire.messages import Outcome

_MORE_MEMORY: Final = (
    "give containers more memory_mib or fewer slots, or name larger sizes in which such a call is tried again: "
    "oom_sizes="
)


class _Worker:
    """What has been heard of one worker."""

    __slots__ = ("asked", "facts", "held", "lanes", "last", "receipts", "seen")

    def __init__(self) -> None:
        self.last = 0  # number of its latest report
        self.seen: set[int] = set()
        self.lanes: set[str] = set()
        self.held: dict[str, list[int]] = {}
        self.receipts: dict[str, list[int]] = {}
        self.asked = False  # whether the ledger waits for a sign of life
        self.facts: dict[str, str] = {}


class News:
    """The workers of a run, as their reports tell."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._dead_lanes: set[str] = set()
        self._gone: set[str] = set()
        self._lane_worker: dict[str, str] = {}
        self.twins = 0

    @property
    def workers(self) -> list[str]:
        """Workers that have been heard of and are not gone."""
        return list(self._workers)

    def facts(self, worker: str) -> dict[str, str]:
        """What a worker has told of its machine."""
        known = self._workers.get(worker)
        return known.facts if known is not None else {}

    def n_unstarted(self, lane: str) -> int:
        """How many of a lane's last calls have not started, as far as is known."""
        worker = self._workers.get(self._lane_worker.get(lane, ""))
        held = worker.held.get(lane, ()) if worker is not None else ()
        return max(0, len(held) - 1)

    def ask(self, worker: str) -> None:
        """The ledger wants a sign of life: the next report that says what is held gives it."""
        known = self._workers.get(worker)
        if known is not None:
            known.asked = True

    def lacks_before(self, report: Report) -> bool:
        """Whether reports of the same worker that it wrote before this one have not been read."""
        worker = self._workers.get(report.worker)
        n_read = sum(number < report.number for number in worker.seen) if worker is not None else 0
        return report.worker not in self._gone and n_read < report.number - 1

    def read(self, report: Report) -> list[Event]:
        """What a report tells the ledger; nothing if it has been read before."""
        if report.worker in self._gone:
            return _outcomes(report)
        worker = self._workers.setdefault(report.worker, _Worker())
        if report.number in worker.seen:
            self.twins += 1
            return []
        worker.seen.add(report.number)
        is_latest = report.number > worker.last
        worker.last = max(worker.last, report.number)
        if report.facts:
            worker.facts = dict(report.facts)
        events: list[Event] = [
            self._lane_up(worker, report.worker, start.lane)
            for start in report.up
            if start.lane not in self._dead_lanes and start.lane not in worker.lanes
        ]
        events += self._outcomes(worker, report)
        if is_latest:
            events += self._held(worker, report)
        if report.requeued:
            events.append(Requeued(list(report.requeued)))
        if report.dropped:
            events.append(GivenBack(list(report.dropped)))
        for stop in report.down:
            events += self._lane_down(worker, report.worker, stop)
        if report.leaving:
            why = f"worker {report.worker} left: {report.leaving}"
            events += self.gone(report.worker, LaneEnd(Cause.LOST, why, retired=not report.broken))
        return events

    def gone(self, worker: str, end: LaneEnd) -> list[Event]:
        """A worker is no more: by its own word, or by its service's."""
        known = self._workers.pop(worker, None)
        self._gone.add(worker)
        if known is None:
            return []
        for lane in known.lanes:
            self._lane_worker.pop(lane, None)
        unstarted = {lane: max(0, len(held) - 1) for lane, held in known.held.items()}
        return [WorkerDown(worker, end, unstarted)]

    def receipts(self, worker: str) -> list[str]:
        """Receipts of messages that a worker has not deleted yet, as far as it has told."""
        known = self._workers.get(worker)
        return list(known.receipts) if known is not None else []

    # --- parts of a report ---

    def _lane_up(self, worker: _Worker, worker_id: str, lane: str) -> LaneUp:
        worker.lanes.add(lane)
        self._lane_worker[lane] = worker_id
        return LaneUp(lane, worker_id)

    def _outcomes(self, worker: _Worker, report: Report) -> list[Event]:
        for lane, outcome in report.outcomes:
            held = worker.held.get(lane)
            if held and outcome.number in held:
                held.remove(outcome.number)
        return _outcomes(report)

    def _held(self, worker: _Worker, report: Report) -> list[Event]:
        if report.held is None:
            return []
        worker.receipts = {receipt: list(numbers) for receipt, numbers in report.receipts.items()}
        before, worker.held = worker.held, {lane: list(numbers) for lane, numbers in report.held.items()}
        events: list[Event] = [
            Taken(lane, list(numbers))
            for lane, numbers in report.held.items()
            if numbers and lane in worker.lanes and list(numbers) != before.get(lane)
        ]
        if worker.asked:
            worker.asked = False
            holding = [number for numbers in report.held.values() for number in numbers]
            events.append(Heard(report.worker, frozenset(holding)))
        return events

    def _lane_down(self, worker: _Worker, worker_id: str, stop: LaneStop) -> list[Event]:
        """A slot's end. The call in which it ended may never have been told as held, so that is said first."""
        if stop.lane in self._dead_lanes:
            return []
        events: list[Event] = []
        if stop.lane not in worker.lanes:
            events.append(self._lane_up(worker, worker_id, stop.lane))
        if stop.unstarted:
            events.append(GivenBack(stop.unstarted))
        if victim := stop.killed_call or stop.running_call:
            events.append(Taken(stop.lane, [victim]))
        worker.lanes.discard(stop.lane)
        worker.held.pop(stop.lane, None)
        self._lane_worker.pop(stop.lane, None)
        self._dead_lanes.add(stop.lane)
        events.append(LaneDown(stop.lane, end_of(stop, _MORE_MEMORY), 0))
        return events


def _outcomes(report: Report) -> list[Event]:
    """Outcomes count whoever brings them, and however late."""
    if report.failed_start:
        return [InitializerError(outcome) for _, outcome in report.outcomes]
    by_lane: dict[str, list[Outcome]] = {}
    for lane, outcome in report.outcomes:
        by_lane.setdefault(lane, []).append(outcome)
    return [Outcomes(lane, outcomes) for lane, outcomes in by_lane.items()]
