"""The facts of a run: its id and how many calls are where.

Called by: executors.
"""

from __future__ import annotations

from typing import NamedTuple


class RunFacts(NamedTuple):
    """One moment of a run. Every submitted call is counted once: pending, running, done, failed or cancelled."""

    id: str
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int

    @property
    def total(self) -> int:
        """Calls submitted so far."""
        return sum(self[1:])

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in zip(self._fields[1:], self[1:], strict=False) if count)
        return f"<run {self.id}: {counts or 'no calls yet'}>"
