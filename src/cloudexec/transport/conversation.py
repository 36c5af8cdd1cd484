"""The whole story of one operation as a generator: what to do next, decided from what came of it. No I/O.

Called by:  sync.py and aio.py, which do what the steps say and send back what came of it.
Calls:      account.py to sign, refusals.py to read, retrying.py to decide.

            Renew -> credentials        Send -> Reply | Lost        Pause -> nothing
            ... until the generator returns the operation's result, or raises an AwsError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeVar

from cloudexec.errors import AwsError, ConnectionLost, NoSuchKey
from cloudexec.transport.account import Account
from cloudexec.transport.encoding import read_http_date
from cloudexec.transport.endpoints import Target, read_url, suffix_of
from cloudexec.transport.operation import Buffer, Operation, Reply
from cloudexec.transport.refusals import Refusal, error_of, hides_error, read_refusal, request_id_in
from cloudexec.transport.retrying import Kind, RetryBudget, RetryPolicy, draw, kind_of
from cloudexec.transport.s3xml import find_tag
from cloudexec.transport.sigv4 import Credentials

T = TypeVar("T")
LONGEST_ASKED_PAUSE_S: Final = 20.0
_S3_NAME: Final = re.compile(r"s3(-(?!website)[a-z0-9-]+)?").fullmatch
_OUR_SUCCESS: Final = frozenset({"PreconditionFailed", "NoSuchUpload"})  # what a repeat of it may be answered with


class Send(NamedTuple):
    """Send this, and read the answer. `is_new`: over a connection that nothing has been sent over. `once`: over one
    that is new or was used a moment ago, because nobody could tell whether a stale one has carried the request.
    """

    target: Target
    head: bytes
    pieces: tuple[Buffer, ...]
    method: str
    wait_s: float
    is_new: bool
    once: bool


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Renew(NamedTuple):
    """Get credentials; `refused` are those that the service does not accept any more."""

    refused: Credentials | None


class Lost(NamedTuple):
    """There is no answer. `ambiguous`: AWS may have acted. `was_idle`: the connection had been left idle, and not one
    byte came over it, so most likely it had been closed by then. `is_final`: a repeat would end the same way.
    """

    reason: str
    ambiguous: bool
    was_idle: bool = False
    is_final: bool = False


Step = Send | Pause | Renew
Answer = Reply | Lost | Credentials | None


def conversation(
    operation: Operation[T],
    account: Account,
    policy: RetryPolicy,
    budget: RetryBudget,
    chance: Callable[[], float] = draw,
) -> Generator[Step, Any, T]:
    """Carry `operation` out. What is sent back is of the type that the step asks for (an `Answer`)."""
    request = operation.request
    story: _Story | None = None  # nearly all operations succeed at once, and have none
    while True:
        credentials = account.credentials.current()
        if credentials is None:
            credentials = yield Renew(None)
        target, head = account.sign(request, credentials, story.target if story else None)
        is_new = story is not None and story.needs_new
        answer = yield Send(target, head, request.pieces, request.method, operation.wait_s, is_new, operation.once)
        if type(answer) is Reply and _is_success(operation, answer):
            budget.earn(story.repeats if story else 0)
            return _read(operation, answer)
        story = story or _Story(operation, account, policy, budget, chance)
        step: Step | None
        if type(answer) is Lost:
            step = story.lost(answer)
        else:
            refusal = read_refusal(request, answer)
            if story.may_be_ours(refusal):
                ours = yield from _confirm(operation, account, policy, budget, chance)
                if ours is not None:
                    return ours
            step = story.refused(refusal, answer, credentials)
        if step is not None:
            renewed = yield step
            if renewed is not None and renewed == credentials:
                raise error_of(operation.what, refusal)  # the source has nothing newer


def _is_success(operation: Operation[Any], reply: Reply) -> bool:
    return (200 <= reply.status < 300 or reply.status == 304) and not hides_error(operation.request, reply)


class _Story:
    """What has happened to one operation so far."""

    __slots__ = (
        "_account",
        "_budget",
        "_chance",
        "_is_ambiguous",
        "_once",
        "_operation",
        "_policy",
        "_tried",
        "needs_new",
        "repeats",
        "target",
    )

    def __init__(
        self,
        operation: Operation[Any],
        account: Account,
        policy: RetryPolicy,
        budget: RetryBudget,
        chance: Callable[[], float],
    ) -> None:
        self._operation = operation
        self._account = account
        self._policy = policy
        self._budget = budget
        self._chance = chance
        self._tried = 0
        self._is_ambiguous = False  # whether an attempt may have succeeded without our knowing
        self._once: set[Kind] = set()
        self.repeats = 0
        self.needs_new = False
        self.target: Target | None = None  # where S3 sent us, for this operation alone

    def lost(self, lost: Lost) -> Pause | None:
        """What to do without an answer; None is to repeat at once."""
        self._is_ambiguous = self._is_ambiguous or lost.ambiguous
        may_repeat = not lost.is_final and (self._operation.is_safe or not lost.ambiguous)
        if lost.was_idle and may_repeat and not self.needs_new:
            self.needs_new = True
            return None
        if may_repeat and (pause := self._pause(Kind.FAULT)) is not None:
            return pause
        tail = f" ({self._tried} attempts)" if self._tried > 1 else ""
        raise ConnectionLost(f"{self._operation.what}: {lost.reason}{tail}", self._is_ambiguous)

    def refused(self, refusal: Refusal, reply: Reply, credentials: Credentials) -> Step | None:
        """What to do about an answer that is no success; None is to repeat at once."""
        kind = kind_of(refusal, self._operation.request.method)
        if kind in (Kind.EXPIRED, Kind.SKEWED, Kind.MOVED) and kind not in self._once:
            self._once.add(kind)
            if kind is Kind.EXPIRED:
                return Renew(credentials)
            if self._learn_clock(reply) if kind is Kind.SKEWED else self._follow(reply):
                return None
        elif not self._operation.once and self._may_pass(kind):
            self._is_ambiguous = self._is_ambiguous or kind is Kind.FAULT
            if (pause := self._pause(kind, reply.headers.get("retry-after", ""))) is not None:
                return pause
        if kind is Kind.REFUSED or self._operation.once:
            self._budget.earn(self.repeats)  # an answer is an answer, whatever it says
        raise error_of(self._operation.what, refusal)

    def may_be_ours(self, refusal: Refusal) -> bool:
        """Whether the refusal may be the echo of an attempt that succeeded, its answer lost."""
        return self._is_ambiguous and self._operation.confirm is not None and refusal.code in _OUR_SUCCESS

    def _may_pass(self, kind: Kind) -> bool:
        return kind in (Kind.THROTTLED, Kind.CONFLICT) or (kind is Kind.FAULT and self._operation.is_safe)

    def _pause(self, kind: Kind, asked: str = "") -> Pause | None:
        self._tried += 1
        if self._tried >= self._policy.attempts or not self._budget.spend():
            return None
        self.repeats += 1
        asked_s = min(float(asked), LONGEST_ASKED_PAUSE_S) if asked.isdigit() else 0.0
        return Pause(max(asked_s, self._policy.pause_s(kind, self._tried, self._chance())))

    def _learn_clock(self, reply: Reply) -> bool:
        service_s = read_http_date(reply.headers.get("date", ""))
        if service_s is not None:
            self._account.learn_clock(service_s)
        return service_s is not None

    def _follow(self, reply: Reply) -> bool:
        """Whether S3 said where else to ask: the bucket's region, or another host of AWS while names spread."""
        request = self._operation.request
        if request.service != "s3":
            return False
        text = reply.body.decode("utf-8", "replace")
        region = reply.headers.get("x-amz-bucket-region") or find_tag("Region", text)
        before = self._account.target("s3", request.bucket)
        if region and region != before.region:
            self._account.learn_region(request.bucket, region)
            return True
        location = reply.headers.get("location", "").partition("?")[0]
        if reply.status not in (307, 308) or "://" not in location:
            return False
        there = read_url("/".join(location.split("/", 3)[:3]))
        if there.host != before.host and not _is_s3(there.host, suffix_of(before.region)):
            return False  # a signed request goes to S3, or to the endpoint that we were told, and nowhere else
        if before.is_tls and not there.is_tls:
            return False  # nor does it go there for all to read
        has_bucket = there.host.startswith(request.bucket + ".")
        base = "" if has_bucket else f"/{request.bucket}"
        self.target = there._replace(base=base, region=before.region)
        return True


def _is_s3(host: str, suffix: str) -> bool:
    """Whether it is S3's own: other hosts below this suffix, of machines and sites, are anybody's."""
    names = host.removesuffix("." + suffix).split(".")
    return host.endswith("." + suffix) and any(_S3_NAME(name) for name in names[-2:])


def _confirm(
    operation: Operation[T], account: Account, policy: RetryPolicy, budget: RetryBudget, chance: Callable[[], float]
) -> Generator[Step, Any, T | None]:
    assert operation.confirm is not None
    try:
        return (yield from conversation(operation.confirm(), account, policy, budget, chance))
    except NoSuchKey:
        return None


def _read(operation: Operation[T], reply: Reply) -> T:
    try:
        return operation.read(reply)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        beginning = bytes(reply.body[:100])
        what = f"{operation.what}: unreadable answer {beginning!r} ({type(error).__name__}: {error})"
        raise AwsError(what, "UnreadableAnswer", reply.status, request_id_in(reply.headers)) from error
