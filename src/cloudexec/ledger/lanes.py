"""Where calls are: lanes of slots, queues that slots share, and the workers that lanes belong to.

Called by: ledger.py.
"""

from __future__ import annotations

from cloudexec.ledger.calls import Call


class Lane:
    """A slot's queue of placed calls, first in first out; `shared` marks a queue that many slots take from."""

    __slots__ = ("calls", "done", "id", "load_s", "progress_s", "quota", "shared", "stalled", "worker")

    def __init__(self, id: str, worker: str, now_s: float, quota: int | None, shared: bool = False) -> None:
        self.id = id
        self.worker = worker
        self.shared = shared
        self.calls: dict[int, Call] = {}
        self.load_s = 0.0  # estimated work of its calls
        self.quota = quota  # calls that it may still be given; None: no end
        self.done = 0
        self.progress_s = now_s
        self.stalled = False  # calls were taken back from it and it has shown nothing since

    def add(self, call: Call, cost_s: float) -> None:
        """Place a call here."""
        call.lane = self.id
        call.cost_s = cost_s
        self.calls[call.number] = call
        self.load_s += cost_s

    def remove(self, number: int) -> Call | None:
        """Take a call away; None if it is not here."""
        call = self.calls.pop(number, None)
        if call is not None:
            self.load_s = self.load_s - call.cost_s if self.calls else 0.0
            call.lane = None
        return call

    def last(self, count: int) -> list[Call]:
        """The last `count` calls, in their order."""
        return list(self.calls.values())[len(self.calls) - count :] if count else []


class Worker:
    """A process that holds lanes; they end with it."""

    __slots__ = ("id", "lanes", "pinged_s")

    def __init__(self, id: str) -> None:
        self.id = id
        self.lanes: dict[str, Lane] = {}
        self.pinged_s: float | None = None  # when the oldest unanswered ping was sent
