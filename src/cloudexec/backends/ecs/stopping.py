"""Tells tasks to stop: as fast as is allowed, again if they do not; no clock, no I/O.

Called by: fleet.py.
Limits:    RunTask and StopTask share a bucket of 100 calls at once, then 40 a second; each gets half of the latter.
"""

from __future__ import annotations

import heapq
from typing import Final

from cloudexec.backends.ecs.launching import NEVER, Bucket
from cloudexec.backends.ecs.tasks import StopTask, Task

AGAIN_S: Final = 30.0
WITHIN_S: Final = 300.0  # longer than the longest stop timeout, twice
_BURST: Final = 20
_PER_S: Final = 20.0


class Stopper:
    """Tasks that are to stop, in the order in which they are told."""

    def __init__(self) -> None:
        self._bucket = Bucket(_BURST, _PER_S)
        self._waiting: dict[str, Task] = {}
        self._n_asked = 0
        self._again: list[tuple[float, str, Task]] = []

    @property
    def is_idle(self) -> bool:
        """Whether everybody has been told, and has been heard to have been."""
        return not (self._waiting or self._n_asked)

    def add(self, task: Task) -> None:
        """This one is to stop."""
        self._waiting[task.arn] = task

    def next_at(self, now_s: float) -> float:
        """When `take` has something to give."""
        ready_s = self._bucket.ready_at(1, now_s) if self._waiting else NEVER
        return min(ready_s, self._again[0][0] if self._again else NEVER)

    def take(self, now_s: float) -> list[StopTask]:
        """Whom to tell now."""
        while self._again and self._again[0][0] <= now_s:
            task = heapq.heappop(self._again)[2]
            if task.is_live:
                self.add(task)
        told = []
        while self._waiting and self._bucket.ready_at(1, now_s) <= now_s:
            task = self._waiting.pop(next(iter(self._waiting)))
            if task.is_live:
                self._bucket.spend(1, now_s)
                told.append(self._tell(task, now_s))
        return told

    def _tell(self, task: Task, now_s: float) -> StopTask:
        if task.stop_sent_s is None:
            task.stop_sent_s = now_s
        heapq.heappush(self._again, (now_s + AGAIN_S, task.arn, task))
        self._n_asked += 1
        return StopTask(task.arn, task.stop)

    def answered(self) -> None:
        """StopTask was answered."""
        self._n_asked -= 1

    def unanswered(self, task: Task | None, now_s: float) -> None:
        """StopTask was throttled or lost; it does no harm twice."""
        self._n_asked -= 1
        self._bucket.drain(now_s)
        if task is not None and task.is_live:
            self.add(task)
