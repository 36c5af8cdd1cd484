"""How many invocations may be in flight: additive increase, decrease to what Lambda has just taken. Pure.

Called by: lanes.py.
Lambda gives a function 1,000 environments at once and 100 more a second (facts: concurrency scaling rate), up to what
the account has left. A refusal (429) tells that the limit of this moment is what is in flight without it. From there we
feel our way up again: at Lambda's own rate while that goes well, slower after each refusal.
"""

from __future__ import annotations

from typing import Final

NEVER: Final = float("inf")
RAMP_PER_S: Final = 100.0  # new environments a second that Lambda gives to one function
_SLOWEST_PER_S: Final = 1.0
_FASTER: Final = 1.5
_PAUSE_S: Final = 0.1  # after a refusal that does not say how long to wait
_LONGEST_PAUSE_S: Final = 5.0


class Admission:
    """The limit. `most`: never more than so many; n_functions: they have a ramp each."""

    def __init__(self, most: int, n_functions: int = 1) -> None:
        self._most = most
        self._fastest = RAMP_PER_S * max(1, n_functions)
        self._limit = float(most)
        self._rate = self._fastest
        self._pause_s = _PAUSE_S
        self._resume_s = 0.0  # until then nothing more is tried
        self._grown_s = 0.0
        self._since_s: float | None = None  # nothing has been taken since then
        self.n_refused = 0

    @property
    def refused_since_s(self) -> float | None:
        """Since when every invocation has been refused; None if the last word was a success."""
        return self._since_s

    def refused(self, n_lanes: int, retry_after_s: float | None, now_s: float) -> None:
        """An invocation was refused; `n_lanes` are left without it."""
        self.n_refused += 1
        if self._since_s is None:
            self._since_s = now_s
        if now_s >= self._resume_s:  # not one more of a volley that was sent together
            self._rate = max(_SLOWEST_PER_S, self._rate / 2)
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        pause_s = max(self._pause_s if not n_lanes else _PAUSE_S, retry_after_s or 0.0)
        self._resume_s = max(self._resume_s, now_s + pause_s)
        self._limit = max(1.0, float(n_lanes))
        self._grown_s = self._resume_s

    def accepted(self, now_s: float) -> None:
        """An invocation was taken, and has been answered."""
        self._since_s = None
        self._pause_s = _PAUSE_S

    def allowed(self, now_s: float) -> int:
        """How many may be in flight now."""
        if self._limit < self._most and now_s > self._grown_s:
            elapsed_s = now_s - self._grown_s
            self._limit = min(float(self._most), self._limit + elapsed_s * self._rate)
            self._rate = min(self._fastest, self._rate * _FASTER**elapsed_s)
            self._grown_s = now_s
        return 0 if now_s < self._resume_s else int(self._limit)

    def next_s(self, n_lanes: int, now_s: float) -> float:
        """When there may be one more than `n_lanes`."""
        if n_lanes >= self._most:
            return NEVER
        missing = max(0.0, n_lanes + 1 - self._limit)
        return max(self._resume_s, max(now_s, self._grown_s) + missing / self._rate if missing else now_s)
