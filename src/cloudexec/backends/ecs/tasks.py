"""What the fleet keeps of one task, and what it asks its backend to do.

Called by: fleet.py, stopping.py (write), backend.py (carries out).
"""

from __future__ import annotations

from typing import NamedTuple

from cloudexec.backends.ecs.replies import TaskState, worker_of
from cloudexec.backends.ecs.requests import Launch
from cloudexec.backends.ecs.stops import WorkerStop
from cloudexec.backends.ecs.target import Capacity


class RunTask(NamedTuple):
    """Start tasks; the answer goes to `Fleet.replied` or `Fleet.failed`."""

    launch: Launch


class Describe(NamedTuple):
    """Look at tasks; the answer goes to `Fleet.described` or `Fleet.describe_failed`."""

    arns: list[str]


class List(NamedTuple):
    """Ask for a page of the run's tasks, "" for the first; to `Fleet.listed` or `Fleet.list_failed`."""

    token: str


class StopTask(NamedTuple):
    """Stop a task; to `Fleet.stop_done` or `Fleet.stop_failed`."""

    arn: str
    reason: str


Action = RunTask | Describe | List | StopTask


class Task:
    """One task, as far as it matters here.

    counted: it fills a place of the fleet. heard: it has reported. left: it has said that it leaves. stop: the reason
    for which it is told to stop. end: the service says that it is over; the news waits for its last reports.
    """

    __slots__ = (
        "arn",
        "capacity",
        "counted",
        "end",
        "heard",
        "known",
        "left",
        "misses",
        "settled",
        "since_s",
        "stop",
        "stop_sent_s",
    )

    def __init__(self, arn: str, capacity: Capacity, now_s: float) -> None:
        self.arn = arn
        self.capacity = capacity
        self.since_s = now_s
        self.known: TaskState | None = None  # the last look
        self.misses = 0  # looks in a row that did not find it
        self.counted = True
        self.heard = False
        self.left = False
        self.stop = ""
        self.stop_sent_s: float | None = None  # the first time
        self.end: WorkerStop | None = None
        self.settled = False  # nothing more is to come of it

    @property
    def worker(self) -> str:
        """The worker's id."""
        return worker_of(self.arn)

    @property
    def is_live(self) -> bool:
        """Whether it is not known to be over."""
        return self.end is None and not self.settled
