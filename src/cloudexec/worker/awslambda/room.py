"""How many calls may be given to slots, so that what they return fits into one answer. Pure.

Called by: tally.py, which tells of ends; crew.py, where a run has no bucket to store an answer in.
Nobody knows how large a result will be before it is there. The largest one of this batch and of the one before is what
the next is expected to be; so long as nothing is known, each slot is given one call.
"""

from __future__ import annotations

from typing import Final

from cloudexec.wire.messages import Outcome

OUTCOME_BYTES: Final = 512  # what an outcome takes besides its value and output, and more


class Room:
    """Of `most_bytes`, for batches that `n_slots` run together."""

    def __init__(self, most_bytes: int, n_slots: int) -> None:
        self._most = most_bytes
        self._unknown = most_bytes // n_slots
        self._before = self._largest = self._taken = 0

    def begin(self) -> None:
        """A new batch."""
        self._before = self._largest or self._before
        self._largest = self._taken = 0

    def take(self, outcome: Outcome) -> None:
        """A call has ended."""
        size = len(outcome.value) + len(outcome.out) + OUTCOME_BYTES
        self._largest = max(self._largest, size)
        self._taken += size

    def n_more(self, n_given: int) -> int:
        """How many calls more may be given, when slots have `n_given`; below 0 if they have too many.

        There is always room for one: what does not even fit alone must be told so.
        """
        if not n_given and not self._taken:
            return max(1, self._for_expected(self._most))
        return self._for_expected(self._most - self._taken) - n_given

    def _for_expected(self, left: int) -> int:
        return left // (max(self._before, self._largest) or self._unknown)
