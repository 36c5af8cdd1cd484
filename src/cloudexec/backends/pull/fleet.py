"""What a service does for a pulling backend: start workers, watch them, stop them.

Called by: backend.py, on the engine's thread; implemented by backends/ecs and others.
A fleet never blocks: requests to its service run on threads or tasks of its own, and `wake` ends the backend's wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from cloudexec.errors import CloudexecError
from cloudexec.ledger.actions import LaneEnd


class WorkerEnded(NamedTuple):
    """The service says that a worker is no more."""

    worker: str
    end: LaneEnd


class NotStarted(NamedTuple):
    """Workers could not be started, for this reason. worker: the one whose program ran, and may have said why."""

    end: LaneEnd
    worker: str = ""


class Unusable(NamedTuple):
    """No worker can ever be started: the error says why."""

    error: CloudexecError


FleetEvent = WorkerEnded | NotStarted | Unusable


class Fleet(Protocol):
    """The workers of one run."""

    @property
    def n_workers(self) -> int:
        """Workers that are up or on their way."""
        ...

    def open(self, environment: dict[str, str], wake: Callable[[], None]) -> None:
        """Workers get this environment. Nothing is started yet."""
        ...

    def want(self, n_workers: int, now_s: float) -> None:
        """Have this many workers in all."""
        ...

    def heard(self, worker: str, now_s: float) -> None:
        """A worker has reported."""
        ...

    def left(self, worker: str, now_s: float) -> None:
        """A worker has said that it leaves."""
        ...

    def suspect(self, worker: str, now_s: float) -> None:
        """A worker is silent: look at it soon."""
        ...

    def drop(self, worker: str, reason: str) -> None:
        """Stop a worker."""
        ...

    def turn(self, now_s: float) -> list[FleetEvent]:
        """What has happened; begins what is due. Called whenever the engine waits, and at `next_deadline`."""
        ...

    @property
    def next_deadline(self) -> float:
        """When `turn` has something to do, in monotonic seconds."""
        ...

    def adopt(self, now_s: float) -> None:
        """Find the workers that an earlier client of this run has started."""
        ...

    def close(self, *, stop_workers: bool, reason: str, within_s: float) -> None:
        """Stop all workers, or leave them to themselves; waits for that at most `within_s`."""
        ...
