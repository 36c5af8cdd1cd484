"""The places of a fleet: which are filled, which are about to be, and on what capacity the next ones should run.

Called by: fleet.py.
"""

from __future__ import annotations

from cloudexec.backends.ecs.requests import Launch
from cloudexec.backends.ecs.target import Capacity, EcsTarget
from cloudexec.backends.ecs.tasks import Task


class Places:
    """How many tasks there are of each capacity. On Spot, `on_demand_base` and what is owed run on demand."""

    def __init__(self, target: EcsTarget) -> None:
        self._target = target
        self._filled = dict.fromkeys(Capacity, 0)
        self._coming = dict.fromkeys(Capacity, 0)  # asked for, not answered yet
        self._owed = 0  # places for which there was no Spot capacity
        self.n_up = 0  # workers that have reported

    @property
    def n_filled(self) -> int:
        """Places that have a task, or are to have one that was asked for."""
        return sum(self._filled.values()) + sum(self._coming.values())

    @property
    def is_waiting(self) -> bool:
        """Whether tasks were asked for and there is no answer yet."""
        return any(self._coming.values())

    def next(self, n_free: int) -> list[tuple[Capacity, int]]:
        """Where the next tasks should run, and how many."""
        n_on_demand = 0
        if self._target.capacity is Capacity.SPOT:
            n_there = self._filled[Capacity.ON_DEMAND] + self._coming[Capacity.ON_DEMAND]
            n_on_demand = max(0, min(n_free, self._target.on_demand_base + self._owed - n_there))
        places = [(Capacity.ON_DEMAND, n_on_demand), (self._target.capacity, n_free - n_on_demand)]
        return [(capacity, n_tasks) for capacity, n_tasks in places if n_tasks > 0]

    def asked(self, launch: Launch) -> None:
        """A launch is on its way."""
        self._coming[launch.capacity] += launch.count

    def answered(self, launch: Launch) -> None:
        """It is not any more, whatever became of it."""
        self._coming[launch.capacity] -= launch.count

    def fill(self, task: Task) -> None:
        """A task is there."""
        self._filled[task.capacity] += 1

    def up(self, task: Task) -> None:
        """It has reported."""
        self.n_up += task.counted

    def empty(self, task: Task) -> None:
        """It does not fill a place any more."""
        task.counted = False
        self.n_up -= task.heard
        self._filled[task.capacity] -= 1
        if task.capacity is Capacity.ON_DEMAND and self._owed:
            self._owed -= 1  # the next one tries Spot again

    def owe(self, n_tasks: int) -> None:
        """So many found no Spot capacity, and are to run on demand."""
        self._owed += n_tasks
