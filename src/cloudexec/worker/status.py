"""A few bytes of memory that a slot and its supervisor share: which call runs, and until when it may.

Called by: slot.py (writes calls), supervisor.py (reads them, writes `armed`).
Why:       the supervisor must know at any moment which call it would kill, and a message a call would cost
           more than a short call itself. Eight aligned bytes are written in one piece on every CPU we run on.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

_NUMBER: Final = struct.Struct("<Q")
_TIME: Final = struct.Struct("<d")
_AT_DEADLINE: Final = 8
_AT_ARMED: Final = 16
_AT_RETIRED: Final = 24
NEVER: Final = float("inf")


class Status:
    """The block of one slot; made before the fork, so that both have it. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._block = mmap.mmap(-1, mmap.PAGESIZE)
        self.armed = NEVER
        self.retire(NEVER)
        self.clear()

    def begin(self, number: int, deadline: float) -> None:
        """A call starts."""
        if deadline != NEVER:  # else what stands there is NEVER already
            _TIME.pack_into(self._block, _AT_DEADLINE, deadline)
        _NUMBER.pack_into(self._block, 0, number)

    def end(self, deadline: float) -> None:
        """The call is over."""
        _NUMBER.pack_into(self._block, 0, 0)
        if deadline != NEVER:
            _TIME.pack_into(self._block, _AT_DEADLINE, NEVER)

    def clear(self) -> None:
        """No call runs."""
        self.end(0.0)

    def retire(self, leave_by: float) -> None:
        """The slot has done its share of calls, and will have left by then."""
        _TIME.pack_into(self._block, _AT_RETIRED, leave_by)

    @property
    def leave_by(self) -> float:
        """When a slot that has retired must have left; NEVER before that. Its exit code alone could be the doing
        of user code."""
        return float(_TIME.unpack_from(self._block, _AT_RETIRED)[0])

    @property
    def number(self) -> int:
        """The running call's number, 0 when there is none."""
        return int(_NUMBER.unpack_from(self._block, 0)[0])

    @property
    def deadline(self) -> float:
        """When the running call's time is over; NEVER when it has no limit."""
        return float(_TIME.unpack_from(self._block, _AT_DEADLINE)[0])

    @property
    def armed(self) -> float:
        """When the supervisor will look at the deadlines anyway: a slot need not tell it of later ones."""
        return float(_TIME.unpack_from(self._block, _AT_ARMED)[0])

    @armed.setter
    def armed(self, when: float) -> None:
        _TIME.pack_into(self._block, _AT_ARMED, when)
