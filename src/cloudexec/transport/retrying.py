"""Which failures are repeated, and after what pause. Pure.

Called by:  conversation.py, boto.py.
Rules:      - What AWS refused before it acted (throttles, an expired token, a wrong clock, another region) is repeated
              for every operation.
            - After a fault (5xx) or a lost answer AWS may have acted: only operations that say they are safe are
              repeated. s3.py, sqs.py and lambdas.py say which are, and why.
            - What is sent `once` is not repeated after a throttle, either: its caller decides when.
            - Pauses are random between nothing and a bound that doubles (full jitter): clients that failed together
              do not come back together.
            - A budget stops repeats when most requests fail: then they would only add load. Success costs nothing.
"""

from __future__ import annotations

import enum
import os
from typing import Final, NamedTuple

from cloudexec.transport.refusals import EXPIRED, SKEWED, THROTTLED, Refusal

_MOVED: Final = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "Redirect"})
_FAULTS: Final = frozenset({"InternalError", "InternalFailure", "RequestTimeout", "RequestTimeoutException"})
_CONFLICTS: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})


class Kind(enum.Enum):
    """What a failure asks for."""

    REFUSED = "no repeat would change it"
    THROTTLED = "later, whoever asks"
    FAULT = "later, if it is safe"
    CONFLICT = "soon: another writer was at it in the same moment"
    EXPIRED = "once, with new credentials"
    SKEWED = "once, with the service's clock"
    MOVED = "once, elsewhere"


def kind_of(refusal: Refusal, method: str) -> Kind:
    """What an answer that is no success asks for."""
    status, code = refusal.status, refusal.code
    if code in EXPIRED or (status == 400 and method == "HEAD"):  # HEAD has no body to say so
        return Kind.EXPIRED
    if code in SKEWED:
        return Kind.SKEWED
    if code in THROTTLED or status == 429:
        return Kind.THROTTLED
    if status in (301, 302, 307, 308) or code in _MOVED:
        return Kind.MOVED
    if code in _CONFLICTS:
        return Kind.REFUSED if method == "POST" else Kind.CONFLICT  # an upload in parts has to begin anew
    return Kind.FAULT if status >= 500 or code in _FAULTS else Kind.REFUSED


class RetryPolicy(NamedTuple):
    """How often and how patiently: eight attempts bridge about 16 s of throttling, or 6 s of refused connections."""

    attempts: int = 8
    throttle_base_s: float = 0.25
    fault_base_s: float = 0.1
    longest_pause_s: float = 20.0

    def pause_s(self, kind: Kind, tried: int, chance: float) -> float:
        """How long to wait after `tried` attempts; `chance` is between 0 and 1."""
        base_s = self.throttle_base_s if kind is Kind.THROTTLED else self.fault_base_s
        return chance * min(self.longest_pause_s, base_s * 2.0 ** (tried - 1))


class RetryBudget:
    """What one client may spend on repeats that are under way or came to nothing; a success gives back what it cost.

    Threads share it; a count that is off by a few is good enough.
    """

    def __init__(self, capacity: float = 5000.0, repeat_costs: float = 5.0, success_earns: float = 1.0) -> None:
        self._capacity = self._left = capacity
        self._repeat_costs = repeat_costs
        self._success_earns = success_earns

    def spend(self) -> bool:
        """Pay for a repeat; False if there is nothing left."""
        if self._left < self._repeat_costs:
            return False
        self._left -= self._repeat_costs
        return True

    def earn(self, repeats: int = 0) -> None:
        """A request succeeded, after so many repeats."""
        if self._left < self._capacity:
            earned = self._success_earns + repeats * self._repeat_costs
            self._left = min(self._capacity, self._left + earned)


def draw() -> float:
    """A random number between 0 and 1; `random` costs more to import than all draws of a worker's life."""
    return int.from_bytes(os.urandom(4), "big") / 2.0**32
