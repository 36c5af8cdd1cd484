"""Where calls are: lanes of slots, queues that slots share, and the workers that lanes belong to.

Called by: ledger.py, placing.py.
"""

from __future__ import annotations

from cloudexec.ledger.calls import Call


class Lane:
    """A slot's queue of placed calls, first in first out; `shared` marks a queue that many slots take from.

    A call that is over because of another attempt's outcome stays in its lane, as a ghost, until the lane is rid
    of it: the slot is busy with it, and what a backend says about the last calls of a lane counts it.
    """

    __slots__ = (
        "calls",
        "closed",
        "done",
        "id",
        "load_s",
        "n_bytes",
        "progress_s",
        "quota",
        "shared",
        "stalled",
        "vain",
        "width",
        "worker",
    )

    def __init__(self, id: str, worker: str, now_s: float, quota: int | None, shared: bool = False) -> None:
        self.id = id
        self.worker = worker
        self.shared = shared
        self.calls: dict[int, Call] = {}
        self.load_s = 0.0  # estimated work of its calls
        self.n_bytes = 0  # of their arguments
        self.quota = quota  # calls that it may still be given; None: no end
        self.done = 0
        self.progress_s = now_s  # its last sign of life that concerns calls
        self.stalled = False  # asked for its calls, and it has shown nothing since
        self.vain = 0  # times in a row that all its calls were taken back, because it had started none
        self.width = 0  # calls that it runs at once, if that is more than one
        self.closed = False  # its worker is given up: no more calls

    def add(self, call: Call, cost_s: float) -> None:
        """Place a call here."""
        call.lane = self.id
        call.cost_s = cost_s
        self.calls[call.number] = call
        self.load_s += cost_s
        self.n_bytes += call.size

    def remove(self, number: int) -> Call | None:
        """Take a call away; None if it is not here."""
        call = self.calls.pop(number, None)
        if call is not None:
            self.load_s = self.load_s - call.cost_s if self.calls else 0.0
            self.n_bytes -= call.size
            call.lane = None
        return call

    def last(self, count: int) -> list[Call]:
        """The last `count` calls, in their order."""
        return list(self.calls.values())[max(0, len(self.calls) - count) :] if count > 0 else []


class Worker:
    """A process that holds lanes; they end with it."""

    __slots__ = ("dropped_s", "id", "lanes", "missing", "pinged_s", "proven")

    def __init__(self, id: str) -> None:
        self.id = id
        self.lanes: dict[str, Lane] = {}
        self.proven = False  # a lane of it that has ended had done something
        self.pinged_s: float | None = None  # when the oldest unanswered ping was sent
        self.dropped_s: float | None = None  # when it was given up; its end is still to be reported
        self.missing: set[int] = set()  # calls that it should hold and, by its last answer, did not
