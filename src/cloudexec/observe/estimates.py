"""What N calls of d seconds cost, and how long they take: on Lambda, and on pooled Fargate tasks. Pure arithmetic.

Called by: scripts/tables.py, for docs/lambda.md; users who compare.   Calls: prices.py.
Model:     places (environments, tasks) come as fast as AWS starts them, and each runs one round of calls after another;
           calls are of one length. What is assumed rather than listed stands with its reason in `LambdaShape` and
           `FargateShape`. It is an estimate: no throttles, no retries, no quota below the width that is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.observe.prices import ARCHITECTURES, US_EAST_1, Prices

LAMBDA_MOST_S: Final = 900.0
EVENTS_ABOVE_S: Final = 300.0
_EPSILON: Final = 1e-9  # rounds that end exactly at a moment have ended at it
_GIB: Final = 1 << 30


def _check_arch(arch: str) -> None:
    if arch not in ARCHITECTURES:
        raise SettingsError(f"arch={arch!r} is unknown", remedy=f"give one of {', '.join(ARCHITECTURES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Calls that are all alike; each keeps one vCPU busy for `call_s`."""

    n_calls: int
    call_s: float

    def __post_init__(self) -> None:
        if self.n_calls < 1 or not self.call_s > 0:
            what = f"{self.n_calls} calls of {self.call_s} s are no work"
            raise SettingsError(what, remedy="give n_calls >= 1 and call_s > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """How fast AWS starts places: `burst` at once, then `per_s` more each second."""

    burst: int
    per_s: int

    def waves(self, n_places: int) -> list[tuple[float, int]]:
        """When places start, and how many: (seconds, places)."""
        waves = [(0.0, min(self.burst, n_places))]
        missing, second = n_places - waves[0][1], 1
        while missing > 0:
            waves.append((float(second), min(self.per_s, missing)))
            missing, second = missing - self.per_s, second + 1
        return waves


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaShape:
    """A function, and what is assumed about it.

    concurrency: environments at once; 800 is four fifths of an account's default quota, as LambdaExecutor takes them.
    cold_s, init_s: from the first Invoke of an environment to its first call, and how much of that is billed.
    invoke_s: an Invoke's way there and back, in which an environment stands idle unbilled.
    batch_s: shorter calls share an invocation of about this length, as the executor's pace does it.
    beat_s: calls above five minutes write an object so often. log_bytes: Lambda's own lines for each invocation.
    """

    memory_mib: int = 1769  # one vCPU
    arch: str = "x86_64"
    slots: int = 1
    concurrency: int = 800
    ramp: Ramp = Ramp(burst=1000, per_s=100)  # AWS: 1,000 environments each 10 s, for each function
    cold_s: float = 1.0
    init_s: float = 0.5
    invoke_s: float = 0.02
    batch_s: float = 0.5
    beat_s: float = 15.0
    margin_s: float = 1.0
    log_bytes: int = 400

    def __post_init__(self) -> None:
        _check_arch(self.arch)
        if not 128 <= self.memory_mib <= 10_240:
            raise SettingsError(f"memory_mib={self.memory_mib}: functions have 128 to 10240")
        if self.slots < 1 or self.concurrency < 1:
            raise SettingsError(f"slots={self.slots}, concurrency={self.concurrency}: both are at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FargateShape:
    """A pool of tasks, and what is assumed about it.

    max_tasks: at most so many. fill_s: fewer, if there is not so much work for each slot, because a task is billed for
    `least_s` at least. start_s: from RunTask to the first call; all of it is taken as billed, although billing begins
    with the pull of the image, some seconds in. sqs_per_call: measured by benchmarks/ecs.py with calls of 1 s.
    """

    vcpu: float = 1.0
    memory_mib: int = 2048
    arch: str = "x86_64"
    slots: int = 1
    max_tasks: int = 800
    spot: bool = False
    ramp: Ramp = Ramp(burst=100, per_s=20)  # AWS: launches of On-Demand tasks; Spot's are counted apart
    start_s: float = 30.0
    least_s: float = 60.0
    fill_s: float = 60.0
    sqs_per_call: float = 1.32
    beat_s: float = 15.0  # a call that runs longer is reported, and its message extended, so often

    def __post_init__(self) -> None:
        _check_arch(self.arch)
        if self.slots < 1 or self.max_tasks < 1:
            raise SettingsError(f"slots={self.slots}, max_tasks={self.max_tasks}: both are at least 1")

    def n_tasks(self, work: Work) -> int:
        """How many tasks the pool has for this work."""
        filled = work.n_calls * min(1.0, work.call_s / self.fill_s) / self.slots
        return max(1, min(self.max_tasks, math.ceil(filled - _EPSILON)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long until the last result, and the bill. n_places: environments or tasks. Dollars."""

    makespan_s: float
    n_places: int
    n_requests: float  # invocations, or requests to queues
    compute_usd: float
    requests_usd: float
    logs_usd: float = 0.0

    @property
    def usd(self) -> float:
        """All together."""
        return self.compute_usd + self.requests_usd + self.logs_usd


def on_lambda(work: Work, shape: LambdaShape = LambdaShape(), prices: Prices = US_EAST_1) -> Estimate:
    """The work in a Lambda function. Errors: SettingsError if a call would outlast every function."""
    if work.call_s > LAMBDA_MOST_S - shape.margin_s:
        what = f"a call of {work.call_s:g} s does not fit: functions end after {LAMBDA_MOST_S:g} s"
        raise SettingsError(what, remedy="make the calls smaller, or use ECS")
    a_batch = calls_a_batch(work, shape)
    n_invocations = math.ceil(work.n_calls / a_batch)
    invocation_s = math.ceil(a_batch / shape.slots) * work.call_s
    n_places = min(shape.concurrency, n_invocations)
    waves = shape.ramp.waves(n_places)
    makespan_s, used = _run(waves, shape.cold_s, invocation_s + shape.invoke_s, n_invocations)
    gb = shape.memory_mib / 1024
    billed_s = used * shape.init_s + n_invocations * _whole_ms(invocation_s)
    requests_usd = n_invocations * prices.lambda_request
    if work.call_s > EVENTS_ABOVE_S:  # by Event: claim, heartbeats, report are objects
        requests_usd += n_invocations * ((2 + work.call_s / shape.beat_s) * prices.s3_write + prices.s3_read)
    return Estimate(
        makespan_s=makespan_s,
        n_places=used,
        n_requests=n_invocations,
        compute_usd=billed_s * gb * prices.lambda_gb_s[shape.arch],
        requests_usd=requests_usd,
        logs_usd=n_invocations * shape.log_bytes / _GIB * prices.logs_gb,
    )


def calls_a_batch(work: Work, shape: LambdaShape) -> int:
    """How many calls share an invocation: at least one a slot, more of short ones, never so many that places idle."""
    short = math.floor(shape.batch_s * shape.slots / work.call_s + _EPSILON)
    fair = math.ceil(work.n_calls / shape.concurrency)
    return max(1, min(work.n_calls, max(shape.slots, min(short, fair))))


def on_fargate(work: Work, shape: FargateShape = FargateShape(), prices: Prices = US_EAST_1) -> Estimate:
    """The work in pooled tasks, which end when the last call has ended."""
    n_tasks = shape.n_tasks(work)
    waves = shape.ramp.waves(n_tasks)
    n_rounds = math.ceil(work.n_calls / shape.slots)
    makespan_s, used = _run(waves, shape.start_s, work.call_s, n_rounds)
    billed_s = sum(n * max(shape.least_s, makespan_s - began_s) for began_s, n in shape.ramp.waves(used))
    hourly = prices.task_h(shape.vcpu, shape.memory_mib, shape.arch, spot=shape.spot)
    n_requests = work.n_calls * (shape.sqs_per_call + work.call_s / shape.beat_s)
    return Estimate(
        makespan_s=makespan_s,
        n_places=used,
        n_requests=n_requests,
        compute_usd=billed_s / 3600 * hourly,
        requests_usd=n_requests * prices.sqs_request,
    )


def _run(waves: list[tuple[float, int]], start_s: float, round_s: float, n_rounds: int) -> tuple[float, int]:
    """When the last of `n_rounds` has ended, and how many places had begun to start before.

    Places take `start_s` until their first round, and begin the next one when one has ended.
    """

    def ended(at_s: float) -> int:
        return sum(n * _rounds(at_s - began_s - start_s, round_s) for began_s, n in waves)

    low, high = 0.0, start_s + round_s * n_rounds
    while high - low > 1e-6 * max(1.0, low):
        middle = (low + high) / 2
        low, high = (low, middle) if ended(middle) >= n_rounds else (middle, high)
    return high, sum(n for began_s, n in waves if began_s < high - start_s)


def _rounds(left_s: float, round_s: float) -> int:
    return math.floor(left_s / round_s + _EPSILON) if left_s > 0 else 0


def _whole_ms(seconds: float) -> float:
    return math.ceil(seconds * 1000 - 1e-6) / 1000
