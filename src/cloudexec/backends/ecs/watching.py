"""Whom to look at, and when: at most two reads of ECS a second, whatever the fleet's size; no clock, no I/O.

Called by: fleet.py.
Schedule:  DescribeTasks looks at up to 100 tasks, at most once a second: every second while something starts, stops
           or is silent, otherwise so that every task is looked at each 10 s (`round_s`). Above 1,000 workers a round
           takes as many seconds as there are hundreds of them: 100 s for 10,000. What workers say themselves is
           always quicker. ListTasks comes between, at most once a second. No tasks, no reads.
"""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import Final

from cloudexec.backends.ecs.launching import NEVER, Pause
from cloudexec.backends.ecs.requests import TASKS_PER_DESCRIBE

READ_EVERY_S: Final = 0.5
LOOK_EVERY_S: Final = 1.0
ROUND_S: Final = 10.0
_KEPT_FOR_CALM: Final = 20  # places of a look that urgent tasks leave to the others


class Watch:
    """The order in which tasks are looked at. Dictionaries hold when each was looked at, the longest ago first."""

    def __init__(self, random: Random, round_s: float = ROUND_S) -> None:
        self._round_s = round_s
        self._urgent: dict[str, float] = {}
        self._calm: dict[str, float] = {}
        self._list_at_s = NEVER
        self._list_token = ""
        self._looking = False
        self._listing = False
        self._last_look_s = -NEVER
        self._last_list_s = -NEVER
        self._pause = Pause(random, longest_s=30.0)

    def soon(self, arn: str, now_s: float) -> None:
        """Look at it each second: it starts, stops, or is silent."""
        since_s = self._calm.pop(arn, now_s)
        self._urgent.setdefault(arn, since_s)

    def calmly(self, arn: str, now_s: float) -> None:
        """Look at it now and then."""
        self._urgent.pop(arn, None)
        self._calm.setdefault(arn, now_s)

    def forget(self, arn: str) -> None:
        """It is over."""
        self._urgent.pop(arn, None)
        self._calm.pop(arn, None)

    def list_from(self, at_s: float, token: str = "") -> None:
        """Ask which tasks the run has, from this time on."""
        self._list_at_s = min(self._list_at_s, at_s)
        self._list_token = token

    # --- reading ---

    @property
    def is_listing(self) -> bool:
        """Whether a list is due or on its way."""
        return self._listing or self._list_at_s != NEVER

    @property
    def next_at_s(self) -> float:
        """When one of `look` and `page` has something to ask."""
        return min(self._look_at_s, self._next_list_s)

    def look(self, now_s: float) -> list[str]:
        """Tasks to describe now; the answer goes to `looked` or `failed`."""
        if now_s < self._look_at_s:
            return []
        arns = self._next_tasks(now_s)
        self._looking = True
        self._last_look_s = now_s
        return arns

    def page(self, now_s: float) -> str | None:
        """The token of the page to ask for now, "" for the first; the answer goes to `listed` or `failed`."""
        if now_s < self._next_list_s:
            return None
        self._listing = True
        self._last_list_s = now_s
        self._list_at_s = NEVER
        return self._list_token

    def looked(self) -> None:
        """An answer to `look` has come."""
        self._looking = False
        self._pause.worked()

    def listed(self, next_token: str, now_s: float) -> None:
        """An answer to `page` has come."""
        self._listing = False
        self._pause.worked()
        if next_token:
            self.list_from(now_s, next_token)

    def look_failed(self, now_s: float) -> None:
        """No answer: the tasks come again in their turn, after a pause."""
        self._looking = False
        self._pause.failed(now_s)

    def list_failed(self, now_s: float) -> None:
        """No answer: the list begins anew, after a pause."""
        self._listing = False
        self._pause.failed(now_s)
        self.list_from(now_s)

    @property
    def _look_at_s(self) -> float:
        if self._looking:
            return NEVER
        urgent_s = next(iter(self._urgent.values()), NEVER) + LOOK_EVERY_S
        calm_s = next(iter(self._calm.values()), NEVER) + self._round_s
        first_s = min(urgent_s, calm_s)
        free_s = max(self._last_look_s + LOOK_EVERY_S, self._last_list_s + READ_EVERY_S, self._pause.until_s)
        return max(first_s, free_s)

    @property
    def _next_list_s(self) -> float:
        if self._listing or self._list_at_s == NEVER:
            return NEVER
        free_s = max(self._last_list_s + LOOK_EVERY_S, self._last_look_s + READ_EVERY_S, self._pause.until_s)
        return max(self._list_at_s, free_s)

    def _next_tasks(self, now_s: float) -> list[str]:
        kept = min(len(self._calm), _KEPT_FOR_CALM)
        urgent = list(islice(self._urgent, TASKS_PER_DESCRIBE - kept))
        calm = list(islice(self._calm, TASKS_PER_DESCRIBE - len(urgent)))
        for tasks, arns in ((self._urgent, urgent), (self._calm, calm)):
            for arn in arns:  # to the end of the queue
                del tasks[arn]
                tasks[arn] = now_s
        return urgent + calm
