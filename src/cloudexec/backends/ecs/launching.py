"""How fast tasks may be started, and under which names; no clock and no I/O: time and chance come in as arguments.

Called by: fleet.py.
Limits:    RunTask takes 20 calls a second; Fargate starts 100 tasks at once, then 20 a second, On-Demand and Spot each
           (aws: "Fargate throttling quotas"). A throttle halves the rate, each answer adds to it again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from cloudexec.backends.ecs.requests import TASKS_PER_RUN, Launch
from cloudexec.backends.ecs.target import Capacity

NEVER: Final = float("inf")
_LONGEST_TOKEN: Final = 64
_LEAST_SPEED: Final = 1 / 64
_FASTER: Final = 0.05
_NO_CAPACITY_PAUSE_S: Final = 2.0
_ROUNDING: Final = 1e-6  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchLimits:
    """What the account may do; the defaults are those of a large region. All of it can be raised by AWS."""

    calls_burst: int = 20
    calls_per_s: float = 20.0
    tasks_burst: int = 100
    tasks_per_s: float = 20.0
    in_flight: int = 10


class Bucket:
    """Tokens that refill with time: `burst` at once, then `per_s`."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._level = burst
        self._at_s = -NEVER
        self.speed = 1.0  # share of `per_s` that is used

    def spend(self, count: float, now_s: float) -> None:
        """Take tokens; the caller has asked `ready_at`."""
        self._refill(now_s)
        self._level -= count

    def ready_at(self, count: float, now_s: float) -> float:
        """When that many will be there."""
        self._refill(now_s)
        lacking = count - self._level
        return now_s if lacking <= _ROUNDING else now_s + lacking / (self._per_s * self.speed)

    def drain(self, now_s: float) -> None:
        """Somebody says that it is empty."""
        self._refill(now_s)
        self._level = min(self._level, 0.0)

    def _refill(self, now_s: float) -> None:
        if now_s > self._at_s:
            grown = self._level + (now_s - self._at_s) * self._per_s * self.speed
            self._level = min(self._burst, grown)
            self._at_s = now_s


class Pause:
    """A wait that doubles with each failure in a row, with jitter, so that many clients do not come back together."""

    def __init__(self, random: Random, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self._random = random
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0
        self.until_s = -NEVER

    def failed(self, now_s: float) -> None:
        """One more failure. Failures of requests that were sent together count once."""
        if now_s < self.until_s:
            return
        longest_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self.until_s = now_s + longest_s * self._random.uniform(0.5, 1.0)

    def worked(self) -> None:
        """A success ends the row; a pause that has begun is kept."""
        self._failures = 0


class Launcher:
    """Gives out launches as fast as is allowed. `client` tells this client of the run from others."""

    def __init__(self, run_id: str, client: str, random: Random, limits: LaunchLimits | None = None) -> None:
        self.limits = limits or LaunchLimits()
        self._run_id = run_id
        self._client = client
        self._calls = Bucket(self.limits.calls_burst, self.limits.calls_per_s)
        self._tasks = {each: Bucket(self.limits.tasks_burst, self.limits.tasks_per_s) for each in Capacity}
        self._service = Pause(random)
        self._capacity = {each: Pause(random, _NO_CAPACITY_PAUSE_S) for each in Capacity}
        self._unanswered: deque[Launch] = deque()
        self._number = 0

    @property
    def n_unanswered(self) -> int:
        """Tasks that may have been started, in calls whose answers were lost."""
        return sum(launch.count for launch in self._unanswered)

    def next(self, capacity: Capacity, n_wanted: int, now_s: float) -> Launch | None:
        """A launch of up to `n_wanted` tasks; None if it is too early, see `ready_at`."""
        if self.ready_at(capacity, n_wanted, now_s) > now_s:
            return None
        count = min(n_wanted, self._most)
        self._spend(capacity, count, now_s)
        self._number += 1
        return Launch(number=self._number, token=self._token(self._number), count=count, capacity=capacity)

    def repeat(self, now_s: float) -> Launch | None:
        """An unanswered launch, once more and under its old token: what it started is not started again."""
        if self.repeat_at(now_s) > now_s:
            return None
        launch = self._unanswered.popleft()
        self._spend(launch.capacity, launch.count, now_s)  # nobody knows whether the first one has cost anything
        return launch

    def ready_at(self, capacity: Capacity, n_wanted: int, now_s: float) -> float:
        """When `next` has something to give."""
        count = min(n_wanted, self._most)
        return max(self._capacity[capacity].until_s, self._allowed_at(capacity, count, now_s))

    def repeat_at(self, now_s: float) -> float:
        """When `repeat` has something to give; NEVER if nothing is unanswered."""
        if not self._unanswered:
            return NEVER
        launch = self._unanswered[0]
        return self._allowed_at(launch.capacity, launch.count, now_s)

    def _allowed_at(self, capacity: Capacity, count: int, now_s: float) -> float:
        tasks = self._tasks[capacity].ready_at(count, now_s)
        return max(self._service.until_s, self._calls.ready_at(1, now_s), tasks)

    def _spend(self, capacity: Capacity, count: int, now_s: float) -> None:
        self._calls.spend(1, now_s)
        self._tasks[capacity].spend(count, now_s)

    # --- what became of a launch ---

    def answered(self, launch: Launch) -> None:
        """The service has answered, whatever it said."""
        self._service.worked()
        for bucket in (self._calls, self._tasks[launch.capacity]):
            bucket.speed = min(1.0, bucket.speed + _FASTER)

    def throttled(self, launch: Launch, now_s: float) -> None:
        """It was too fast; nothing was started."""
        if now_s >= self._service.until_s:  # calls that were sent together count once
            for bucket in (self._calls, self._tasks[launch.capacity]):
                bucket.speed = max(_LEAST_SPEED, bucket.speed / 2)
                bucket.drain(now_s)
        self._service.failed(now_s)

    def unanswered(self, launch: Launch, now_s: float) -> None:
        """The answer was lost: it may have started its tasks. It will be given out again by `repeat`."""
        self._unanswered.append(launch)
        self._service.failed(now_s)

    def forget_unanswered(self) -> list[Launch]:
        """Give up repeating them; the caller looks for the tasks that there are."""
        forgotten = list(self._unanswered)
        self._unanswered.clear()
        return forgotten

    def started(self, capacity: Capacity) -> None:
        """There is room for tasks of this kind."""
        self._capacity[capacity].worked()

    def no_capacity(self, capacity: Capacity, now_s: float) -> None:
        """There is no room for tasks of this kind now."""
        self._capacity[capacity].failed(now_s)

    @property
    def _most(self) -> int:
        return max(1, min(TASKS_PER_RUN, self.limits.tasks_burst))

    def _token(self, number: int) -> str:
        """Stable for a launch, and unlike that of any other launch of any client of any run."""
        name = f"{self._run_id}.{self._client}.{number}"
        return name if len(name) <= _LONGEST_TOKEN else hashlib.sha256(name.encode()).hexdigest()
