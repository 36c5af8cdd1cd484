"""A call, its options and its retry budgets.

Called by: ledger.py; executors make calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.ledger.pace import Estimate


class Cause(Enum):
    """Why an attempt did not bring a result; each has a retry budget of its own."""

    ERROR = "error"  # the function raised
    CRASH = "crash"  # the function's process died in it
    TIMEOUT = "timeout"  # it ran longer than timeout_s
    OOM = "oom"  # the kernel killed it for memory
    LOST = "lost"  # its worker was lost, whatever the call did


def _is_at_least(least: float, value: float) -> bool:
    """Whether a setting is a number from `least` on; what is no number at all is not."""
    try:
        return bool(value >= least)
    except TypeError:
        return False


@dataclass(frozen=True)
class Retry:
    """How often a call is tried again, by cause.

    Only what is not the function's fault is tried again by default: an error, a crash, a timeout and a lack of
    memory are likely to come again, and trying again repeats the call's side effects.
    `backoff_s` is the pause before the first retry; it doubles each time. Errors: SettingsError.
    """

    error: int = 0
    crash: int = 0
    timeout: int = 0
    oom: int = 0
    lost: int = 3
    backoff_s: float = 0.0

    def __post_init__(self) -> None:
        for name in (cause.value for cause in Cause):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                what = f"Retry({name}={getattr(self, name)!r}) is not a number of retries"
                raise SettingsError(what, remedy="give 0 or a positive whole number")
        if not _is_at_least(0, self.backoff_s):
            raise SettingsError(f"Retry(backoff_s={self.backoff_s!r}) is not a number of seconds")

    @classmethod
    def of(cls, retries: int | Retry) -> Retry:
        """`retries` more attempts whatever the call itself did wrong; a Retry stays as it is. Errors: SettingsError."""
        if isinstance(retries, Retry):
            return retries
        if not isinstance(retries, int):
            raise SettingsError(
                f"retries={retries!r} is not a number of retries", remedy="give a whole number or a Retry"
            )
        return cls(error=retries, crash=retries, timeout=retries, oom=retries)

    def allows(self, cause: Cause, spent: int) -> bool:
        """Whether one more retry is left after `spent` for this cause."""
        return spent < int(getattr(self, cause.value))


@dataclass(frozen=True)
class CallOptions:
    """What holds for a call besides its function and arguments; many calls share one object.

    timeout_s: None for no limit. batch: calls that travel together, None to adapt.
    """

    timeout_s: float | None = None
    retry: Retry = Retry()
    env: dict[str, str] | None = None
    name: str | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.timeout_s is not None and (self.timeout_s == 0 or not _is_at_least(0, self.timeout_s)):
            raise SettingsError(f"timeout_s={self.timeout_s!r} is not a positive number of seconds")
        if self.batch is not None and self.batch < 1:
            raise SettingsError("chunksize must be >= 1.")


class State(IntEnum):
    """Where a call is in its life: pending -> placed -> done; back to pending, maybe paused, for another attempt."""

    PENDING = 0
    PLACED = 1
    DONE = 2
    PAUSED = 3


NO_CAUSES: Final[dict[Cause, int]] = {}


class Call:
    """One submitted call as the ledger knows it. Whoever submits it may derive a class that carries more."""

    __slots__ = (
        "alone",
        "attempts",
        "cost_s",
        "estimate",
        "lane",
        "number",
        "options",
        "placed_s",
        "size",
        "spent",
        "state",
    )

    def __init__(self, number: int, estimate: Estimate, options: CallOptions, size: int) -> None:
        self.number = number
        self.estimate = estimate
        self.options = options
        self.size = size  # bytes of its packed arguments
        self.state = State.PENDING
        self.attempts = 0
        self.lane: str | None = None
        self.cost_s = 0.0
        self.placed_s = 0.0
        self.spent = NO_CAUSES  # retries spent, by cause
        self.alone = False  # it may have killed those that travelled with it: no more company

    def spend(self, cause: Cause) -> bool:
        """Take one retry out of a cause's budget; False when it is used up."""
        spent = self.spent.get(cause, 0)
        if not self.options.retry.allows(cause, spent):
            return False
        self.spent = {**self.spent, cause: spent + 1}
        return True

    def __repr__(self) -> str:
        return f"<Call {self.number} {self.state.name.lower()}, attempts={self.attempts}>"
