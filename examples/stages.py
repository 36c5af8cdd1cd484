"""Where the demonstration runs, and what can be told from behind the stage: tasks, environments, requests, prices, leftovers.

Called by: crossval.py.
Calls:     cloudexec; on "ecs" and "lambda" the pocket AWS, whose tasks and environments are real processes of this machine.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from cloudexec import ECSExecutor, LambdaExecutor, LocalExecutor
from cloudexec.observe.prices import US_EAST_1 as PRICES

X86 = "x86_64"
VCPU_S, GIB_S = PRICES.fargate_vcpu_h[X86] / 3600, PRICES.fargate_gb_h[X86] / 3600
LEAST_S = 60.0  # that a Fargate task is billed for
SQS_UNIT = 65_536  # bytes of a message that count as a request
LISTED = f"(AWS list prices, {PRICES.region}, {PRICES.listed}"
BILLED = re.compile(r"Billed Duration: (\d+) ms\s+Memory Size: (\d+) MB")


class Stage(ExitStack):
    """LocalExecutor: nothing happens outside of this machine, so there is little to tell."""

    kind: type[Any] = LocalExecutor
    more: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self) -> None:
        super().__init__()
        self.n_workers = LocalExecutor().max_workers  # CPUs that this process may use; nothing is started

    @property
    def name(self) -> str:
        """The executor's class: all that differs from stage to stage."""
        return self.kind.__name__

    def executor(self, initializer: Callable[[], None]) -> Any:
        """What `line` says: a worker for each CPU."""
        return self.kind(max_workers=self.n_workers, **self.more, initializer=initializer)

    def line(self, initializer: Callable[[], None]) -> str:
        """The one line of the user's program that is another one on each stage."""
        given = {"max_workers": self.n_workers, **self.more}
        said = [*[f"{name}={value!r}" for name, value in given.items()], f"initializer={initializer.__name__}"]
        return f"with {self.name}({', '.join(said)}) as executor:"

    def tell_where(self) -> None:
        """What stands behind the executor."""

    def tell_workers(self) -> None:
        """Who has worked so far."""

    def show_loss(self, executor: Any, work: Any, calls: list[Any], expected: list[float]) -> bool:
        """Take a worker away in the middle of some calls; whether their results are right all the same."""
        return True

    def tell_end(self) -> bool:
        """What it took, after the executor's end; whether nothing is left behind."""
        return True


class PocketStage(Stage):
    """In the pocket AWS. Its names and keys are in this process's environment, where executors find them."""

    things = ""  # that stand for the cloud's

    def __enter__(self) -> PocketStage:
        """Start the pocket AWS; it ends with the block."""
        from cloudexec.testing import PocketAWS

        super().__enter__()
        began = time.perf_counter()
        self.aws = self.enter_context(PocketAWS(stop_scale=0.1))
        self.enter_context(self.aws.activated())
        self.aws.record_requests()
        self.start_s = time.perf_counter() - began
        return self

    def tell_where(self) -> None:
        """See Stage."""
        tell("cloud", f"a pocket AWS at {self.aws.endpoint_url}, up in {self.start_s:.1f} s: real HTTP,")
        tell("", f"real processes as {self.things}; no account, no bill")

    def tell_requests(self, *services: str) -> None:
        """What was asked of each service, and what that would cost."""
        asked = self.aws.recorded_requests()
        for service in services:
            made = Counter(request["operation"] for request in asked if request["service"] == service)
            price = sum(price_of(request) for request in asked if request["service"] == service)
            cost = f"${price:.5f}" if price else "free"
            tell(service.upper(), f"{made.total():>4} requests, {cost:<8}  {most_common(made)}")

    def tell_left(self, nothing: str) -> bool:
        """Whether nothing is left behind."""
        left = self.aws.leftovers()
        tell("left", "; ".join(left) or f"nothing: {nothing}")
        return not left


class EcsStage(PocketStage):
    """ECSExecutor: containers on Spot; they are asked for at once, not with the first call."""

    kind = ECSExecutor
    more = {"spot": True, "warm": True}  # noqa: RUF012 - nobody writes to it
    things = "ECS tasks"

    def tell_workers(self) -> None:
        """See Stage."""
        for task in self.aws.tasks():
            tell("task", f"{short(task.arn)} {task.state}, pid {task.pid}: {' '.join(task.command)}")

    def show_loss(self, executor: Any, work: Any, calls: list[Any], expected: list[float]) -> bool:
        """See Stage. Spot capacity is reclaimed, with a warning."""
        futures = [executor.submit(work, *call) for call in calls]
        futures[0].result()
        while not (taken := self.aws.faults.interrupt(warning_s=5)):
            time.sleep(0.01)  # nothing runs at this very moment
        scores = [future.result() for future in futures]
        n_started = len(self.aws.tasks()) - self.n_workers
        say(f"\n  {len(calls)} calls more, and in the middle of them Spot takes a container away:\n")
        tell("task", f"{short(taken[0])} got SIGTERM, gave back what it had not finished, and ended")
        tell("instead", f"{count(n_started, 'task')} started; {begun_anew(futures)}")
        return tell_again(scores, expected)

    def tell_end(self) -> bool:
        """See Stage."""
        deadline = time.monotonic() + 15
        while not all(task.state == "STOPPED" for task in self.aws.tasks()) and time.monotonic() < deadline:
            time.sleep(0.02)  # the executor has told them to; ECS takes a moment to see it
        self.tell_requests("s3", "sqs", "ecs")
        seconds = sum(max(LEAST_S, billed_s(task.facts)) for task in self.aws.tasks())
        price = seconds * (VCPU_S + 2 * GIB_S)
        tell("Fargate", f"{seconds:.0f} s of 1 vCPU and 2 GiB would cost ${price:.4f} on demand, less on Spot")
        tell("", f"{LISTED}; {LEAST_S:.0f} s a task at least)")
        return self.tell_left("no task, no queue, no object")


class LambdaStage(PocketStage):
    """LambdaExecutor: environments of a function that is there already; it found the function's name as it does ECS's."""

    kind = LambdaExecutor
    things = "Lambda's environments"

    def tell_workers(self) -> None:
        """See Stage."""
        for one in self.aws.environments():
            tell("env", f"{one.id[:8]} {one.state}, pid {one.pid}: {count(one.n_invocations, 'invocation')} so far")

    def show_loss(self, executor: Any, work: Any, calls: list[Any], expected: list[float]) -> bool:
        """See Stage. An environment is killed with everything in it, 20 ms after it was given calls."""
        before = {one.id: one for one in self.aws.environments()}
        self.aws.faults.kill_environment(when="mid-call", delay_s=0.02, times=1)
        futures = [executor.submit(work, *call) for call in calls]
        scores = [future.result() for future in futures]
        now = {one.id for one in self.aws.environments()}
        say(f"\n  {len(calls)} calls more, and in the middle of them an environment is killed:\n")
        for one in [one for one in before.values() if one.id not in now]:
            tell("env", f"{one.id[:8]} got SIGKILL, pid {one.pid} and what it had started; no answer came")
        tell("instead", f"{count(len(now - before.keys()), 'environment')} started; {begun_anew(futures)}")
        return tell_again(scores, expected)

    def tell_end(self) -> bool:
        """See Stage."""
        self.tell_requests("s3", "lambda")
        made = self.aws.invocations()[self.aws.setup["function"]]
        said = f"{count(made.cold_starts, 'cold start')}, {count(made.errors, 'failure')}"
        tell("account", f"{count(made.n_executed, 'invocation')} reached the function: {said}")
        seconds, gib_s = self.billed()
        price = gib_s * PRICES.lambda_gb_s[X86] + made.n_executed * PRICES.lambda_request
        tell("Lambda", f"{seconds:.1f} s billed by the function's log, {gib_s:.1f} GB-s; all would cost ${price:.5f}")
        tell("", f"{LISTED})")
        return self.tell_left("no object; idle environments are frozen, and cost nothing")

    def billed(self) -> tuple[float, float]:
        """Seconds, and GB-seconds, as the REPORT lines of all invocations say."""
        logs = self.aws.session().client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{self.aws.setup['function']}"
        )
        lines = [event["message"] for page in pages for event in page["events"]]
        told = [(int(ms) / 1000, int(mb) / 1024) for line in lines for ms, mb in BILLED.findall(line)]
        return sum(seconds for seconds, _ in told), sum(seconds * gib for seconds, gib in told)


STAGES: dict[str, type[Stage]] = {"local": Stage, "ecs": EcsStage, "lambda": LambdaStage}


def price_of(request: dict[str, Any]) -> float:
    """Dollars for one request, as recorded."""
    service, operation = request["service"], request["operation"]
    if service == "sqs":
        return PRICES.sqs_request * max(1, -(-int(request["headers"].get("content-length") or 0) // SQS_UNIT))
    if service == "s3" and not operation.startswith("Delete"):
        return PRICES.s3_read if operation.startswith(("Get", "Head")) else PRICES.s3_write
    if (service, operation) == ("lambda", "Invoke"):
        return PRICES.lambda_request
    return 0.0


def billed_s(facts: dict[str, Any]) -> float:
    """From the beginning of the image's pull to the end."""
    return float(facts.get("stoppedAt", time.time()) - facts["pullStartedAt"])


def most_common(made: Counter[str]) -> str:
    """`12 PutObject, 3 GetObject, …`."""
    said = ", ".join(f"{number} {operation}" for operation, number in made.most_common(2))
    return said + (", …" if len(made) > 2 else "")


def short(arn: str) -> str:
    """The beginning of a task's id."""
    return arn.rpartition("/")[2][:8]


def begun_anew(futures: list[Any]) -> str:
    """How many calls had to be tried again."""
    return f"{count(sum(future.attempts > 1 for future in futures), 'call')} began anew elsewhere"


def tell_again(scores: list[float], expected: list[float]) -> bool:
    """Whether scores are right after a loss."""
    same = scores == expected
    tell("scores", f"{'identical' if same else 'NOT IDENTICAL'} again, all {len(scores)} of them\n")
    return same


def count(number: int, thing: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def tell(what: str, text: str) -> None:
    """One fact."""
    say(f"  {what:<9} {text}")


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)
