"""Timers by the ten thousand, and how long each service takes to answer.

Called by: everything here.   Calls: asyncio's loop, for one timer at a time.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

# Medians of what is published and was measured from inside a Region. Operations come before their service.
SECONDS: Final = {
    "s3": 0.020,
    "sqs": 0.015,
    "lambda": 0.020,
    "ecs": 0.020,
    "ecs.RunTask": 0.150,
    "ecs.RegisterTaskDefinition": 0.150,
    "sts": 0.020,
    "ec2": 0.050,
    "cloudformation": 0.050,
    "logs": 0.020,
}
SIGMA: Final = 0.35  # of the logarithm, with `spread`
_JITTER: Final = 0.05  # without


class Latency:
    """How long a request takes, from the first byte sent to the answer: half before it acts, half after.

    spread: log-normal with these medians, as real services are; else fixed, but for 5 %.
    """

    def __init__(self, *, spread: bool = False, scale: float = 1.0, seed: int = 7) -> None:
        self._spread = spread
        self._scale = scale
        self._random = random.Random(seed)

    def of(self, service: str, operation: str) -> float:
        """Seconds."""
        median_s = SECONDS.get(f"{service}.{operation}", SECONDS.get(service, 0.020)) * self._scale
        if self._spread:
            return median_s * math.exp(self._random.gauss(0.0, SIGMA))
        return median_s * (1.0 + _JITTER * (2.0 * self._random.random() - 1.0))


class Clock:
    """Calls back later. asyncio compares its own timers in Python; these are compared in C."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._order = count()
        self._armed: asyncio.TimerHandle | None = None
        self._armed_for = math.inf

    def after(self, seconds: float, act: Callable[..., Any], *args: Any) -> None:
        """`act(*args)`, not before `seconds` are over and less than two milliseconds later, if there is a CPU."""
        self.at(time.monotonic() + seconds, act, *args)

    def at(self, when: float, act: Callable[..., Any], *args: Any) -> None:
        """The same at a time of the monotonic clock."""
        heappush(self._heap, (when, next(self._order), act, args))
        if when < self._armed_for:
            self._arm(when)

    def _arm(self, when: float) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed_for = when
        self._armed = self._loop.call_at(when, self._fire)  # the loop's clock is the monotonic one

    def _fire(self) -> None:
        self._armed, self._armed_for = None, math.inf
        heap = self._heap
        now = time.monotonic()
        try:
            while heap and heap[0][0] <= now:
                _when, _order, act, args = heappop(heap)
                act(*args)
        finally:  # one that fails must not stop the others
            if heap and heap[0][0] < self._armed_for:
                self._arm(heap[0][0])
