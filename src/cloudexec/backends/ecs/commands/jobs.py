"""What is kept of one attempt at a command, and what is asked and told about it.

Called by: containers.py (writes), backend.py (carries out), verdicts.py (judges).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from cloudexec.backends.ecs.commands.orders import Order
from cloudexec.backends.ecs.replies import TaskState
from cloudexec.backends.ecs.requests import Launch
from cloudexec.backends.ecs.stops import StopKind, WorkerStop
from cloudexec.backends.ecs.target import Capacity
from cloudexec.backends.ecs.tasks import Describe, List, StopTask, Task
from cloudexec.errors import CloudexecError


class Phase(Enum):
    """waiting -> asked -> there -> over; from asked and there back to waiting, if it did not come to run."""

    WAITING = "for its turn, or for capacity"
    ASKED = "RunTask was sent"
    THERE = "its task is known"
    OVER = "its end has been told"


class Why(Enum):
    """Why we stop a task; the text is the reason that ECS shows."""

    STOPPED = "the call was stopped"
    TIMEOUT = "the call ran longer than its timeout_s"
    LATE = "it did not start in time"
    CLOSED = "the executor has ended"


class Job:
    """One attempt at a command.

    first_try_s: when a task was first asked for. last_stop: why it did not come to run, the last time. runs: it has
    been seen running. why: it is to stop, or has been told to.
    """

    __slots__ = (
        "attempt",
        "capacity",
        "first_try_s",
        "lane",
        "last_stop",
        "number",
        "order",
        "phase",
        "runs",
        "task",
        "timeout_s",
        "why",
    )

    def __init__(self, lane: str, number: int, attempt: int, order: Order, timeout_s: float | None) -> None:
        self.lane = lane
        self.number = number
        self.attempt = attempt
        self.order = order
        self.timeout_s = timeout_s
        self.capacity: Capacity = order.target.capacity
        self.phase = Phase.WAITING
        self.first_try_s: float | None = None
        self.last_stop: WorkerStop | None = None
        self.task: Task | None = None
        self.runs = False
        self.why: Why | None = None

    def __repr__(self) -> str:
        return f"<Job {self.lane}: call {self.number}, {self.phase.name.lower()}>"


class Start(NamedTuple):
    """Start a job's task; the answer goes to `Containers.replied` or `Containers.failed`."""

    job: Job
    launch: Launch


Action = Start | Describe | List | StopTask


class Ended(NamedTuple):
    """A job is over. stop: what that means. state: the last look at its task. error: what refused it."""

    job: Job
    stop: WorkerStop
    state: TaskState | None = None
    error: CloudexecError | None = None


def late_stop(job: Job, within_s: float) -> WorkerStop:
    """What is to be said of a job that has not started in time."""
    task, last = job.task, job.last_stop
    if task is not None:
        said = "nothing is known of it"
        if task.known is not None:
            said = "; ".join(task.known.reasons) or f"it is {task.known.last_status}"
        text = f"task {task.arn} has not started within {within_s:g} s: {said}"
        remedy = "look at the task in the console: capacity, network interfaces, the size of the image"
        return WorkerStop(kind=StopKind.UNKNOWN, text=text, remedy=remedy)
    if last is None:
        remedy = "look for the reason in the service's events; start_timeout_s= allows more time"
        return WorkerStop(kind=StopKind.UNKNOWN, text=f"no task was there within {within_s:g} s", remedy=remedy)
    text = f"no task has started within {within_s:g} s; the last try: {last.text}"
    return WorkerStop(kind=last.kind, text=text, remedy=last.remedy, exit_code=last.exit_code)
