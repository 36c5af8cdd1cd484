"""Whether a function can write what becomes of its events: it is asked before the first one, once for each function.

Called by: event_invokes.py, on the loop.   Calls: replies.py.
Nobody answers an Event invocation, and one that cannot write its claim can tell nobody: its client would wait until
Lambda has given the event up, for hours. So a synchronous invocation without calls has it try first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cloudexec import errors
from cloudexec.backends.awslambda.replies import Fate, Refused, as_broken, read_failure, read_refusal
from cloudexec.backends.pull.home import Home
from cloudexec.errors import AccessDenied, AwsError, CloudexecError, HandlerNotFound, WireError
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause
from cloudexec.transport.lambdas import Invocation
from cloudexec.wire.envelope import Seal
from cloudexec.wire.invocation import decode_answer, open_report

Finding = Refused | LaneEnd | CloudexecError | None  # LaneEnd: it may be otherwise next time; None: it can write
_FOR_GOOD: Final = ("AccessDenied", "CredentialsMissing", "CredentialsExpired")
_PASSING: Final = ("AwsError", "ConnectionLost", "Throttled")


class Probe:
    """Asks each function until it has been able to. `invoke`: the function with a payload that asks it to try."""

    def __init__(
        self, invoke: Callable[[str], Awaitable[Invocation]], home: Home, seal: Seal, role: str, timeout_s: float
    ) -> None:
        self._invoke = invoke
        self._home = home
        self._seal = seal
        self._role = role
        self._timeout_s = timeout_s
        self._turns: dict[str, asyncio.Lock] = {}
        self._found: dict[str, tuple[float, Finding]] = {}  # when, and what, by function

    async def find(self, function: str) -> Finding:
        """What stands in the way of the function's events. Who waits while another asks gets the same finding."""
        began_s = time.monotonic()
        async with self._turns.setdefault(function, asyncio.Lock()):
            found_s, found = self._found.get(function, (0.0, None))
            if function in self._found and (found is None or found_s >= began_s):
                return found
            found = await self._ask(function)
            self._found[function] = time.monotonic(), found
            return found

    async def _ask(self, function: str) -> Finding:
        try:
            invocation = await self._invoke(function)
        except AwsError as error:
            refused = read_refusal(error, function)  # no call was sent: whatever happened, none is lost
            return refused._replace(fate=Fate.LATER) if refused.fate is Fate.LOST else refused
        return read_finding(invocation, function, self._home, self._seal, self._role, self._timeout_s)


def read_finding(invocation: Invocation, function: str, home: Home, seal: Seal, role: str, timeout_s: float) -> Finding:
    """What the answer says. Pure."""
    asked = f"function {function} was asked to write into s3://{home.bucket}/{home.prefix}/events/"
    if invocation.function_error:
        end = read_failure(invocation, timeout_s)
        if isinstance(end, CloudexecError):
            return Refused(Fate.NEVER, end)
        return LaneEnd(Cause.LOST, f"{asked}: {end.detail}", error="EnvironmentLost", remedy=end.remedy)
    try:
        answer = decode_answer(invocation.payload)
        if not answer.refused_error:
            open_report(seal, answer.report)
            return None
    except WireError as error:
        return Refused(Fate.NEVER, HandlerNotFound(f"function {function} is invoked, and {error.what}"))
    except CloudexecError as error:
        return LaneEnd(Cause.LOST, f"{asked}, and its answer could not be read: {error.what}", error="EnvironmentLost")
    what = f"{asked}, where events report, and cannot: {answer.refused_what}"
    if answer.refused_error in _FOR_GOOD:
        kind: type[AwsError] = getattr(errors, answer.refused_error)
        return kind(what, remedy=_remedy(home, role) if kind is AccessDenied else None)
    if answer.refused_error in _PASSING:
        return LaneEnd(Cause.LOST, what, error="EnvironmentLost", remedy="see that the function can reach the bucket")
    return Refused(Fate.NEVER, as_broken(answer))


def _remedy(home: Home, role: str) -> str:
    runs = home.prefix.rpartition("/")[0]
    whose = f"role {role}" if role else "role"
    return f"allow s3:PutObject on arn:aws:s3:::{home.bucket}/{runs}/* to the function's {whose}"
