"""The facts of a run: its id and how many calls are where.

Called by: executors.
"""

from __future__ import annotations

from typing import NamedTuple


class RunFacts(NamedTuple):
    """One moment of a run. Every submitted call is counted once: pending, running, done, failed or cancelled.

    batches: messages in which calls went to workers so far. slots: those that are up, of all workers.
    """

    id: str
    pending: int
    running: int
    done: int
    failed: int
    cancelled: int
    batches: int = 0
    slots: int = 0

    @property
    def total(self) -> int:
        """Calls submitted so far."""
        return self.pending + self.running + self.done + self.failed + self.cancelled

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in zip(self._fields[1:6], self[1:6], strict=True) if count)
        waiting = "; no worker is up" if self.pending and not self.slots else ""
        return f"<run {self.id}: {counts or 'no calls yet'}{waiting}>"
