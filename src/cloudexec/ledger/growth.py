"""How many slots are asked for, and when starting them is given up.

Called by: ledger.py.
Slots are asked for as calls need them, and never given back: an idle worker ends by itself. Starts that fail
together count once; then there is a pause, which doubles with each further failure in a row.
"""

from __future__ import annotations

from typing import Final

NEVER: Final = float("inf")


class Growth:
    """The number of lanes wanted; the deadline of their start."""

    def __init__(self, max_lanes: int, start_within_s: float, pause_s: float) -> None:
        self.wanted = 0
        self.failures = 0  # in a row
        self._max_lanes = max_lanes
        self._start_within_s = start_within_s
        self._pause_s = pause_s
        self._start_by = NEVER
        self._resume_at = NEVER  # end of the pause after a failure; NEVER: no pause

    def limit(self, max_lanes: int) -> None:
        """The most lanes that there may be, if that was not known at first."""
        self._max_lanes = max_lanes

    @property
    def next_deadline(self) -> float:
        """When something is due here."""
        return min(self._start_by, self._resume_at)

    def ask(self, n_open: int, n_lanes: int, now_s: float) -> int:
        """How many lanes to ask for now; 0: no need to ask."""
        useful = min(self._max_lanes, n_open)
        if useful <= n_lanes or useful <= self.wanted or self._resume_at != NEVER:
            return 0
        self.wanted = useful
        self._start_by = now_s + self._start_within_s
        return useful

    def came(self, n_lanes: int, now_s: float) -> None:
        """A lane is up; the next one has its own time."""
        self._start_by = NEVER if n_lanes >= self.wanted else now_s + self._start_within_s

    def went(self, n_lanes: int, n_gone: int | None = 1) -> None:
        """Lanes are gone; None: with a worker, and nobody knows how many of its lanes were still to come."""
        self.wanted = n_lanes if n_gone is None else max(n_lanes, self.wanted - n_gone)

    def failed(self, n_lanes: int, now_s: float) -> bool:
        """A start failed; False if it belongs to a failure that has been counted."""
        self.wanted = n_lanes
        self._start_by = NEVER
        if self._resume_at != NEVER:
            return False
        self.failures += 1
        self._resume_at = now_s + min(self._pause_s * 2.0 ** (self.failures - 1), self._start_within_s)
        return True

    def is_late(self, n_open: int, n_lanes: int, now_s: float) -> bool:
        """Whether no lane at all has come in time. When only some are late, they may be asked for again."""
        if self._resume_at <= now_s:
            self._resume_at = NEVER
        if self._start_by > now_s:
            return False
        self._start_by = NEVER
        self.wanted = n_lanes
        return n_open > 0 and not n_lanes
