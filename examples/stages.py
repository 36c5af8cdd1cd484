"""Where the demonstration runs, and what can be told from behind the stage: processes, requests, prices, leftovers.

Called by: crossval.py.   Calls: cloudexec; except on "local" the pocket AWS, whose tasks and environments are real
processes of this machine.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar, Final

from cloudexec import ECSExecutor, LambdaExecutor, LocalExecutor
from cloudexec.observe.prices import US_EAST_1 as PRICES

LEAST_S: Final = 60.0  # that a Fargate task is billed for
ARCH: Final = "x86_64"
BILLED: Final = re.compile(r"REPORT RequestId: .*Billed Duration: (\d+) ms\tMemory Size: (\d+) MB")
LISTED: Final = "(AWS list prices, us-east-1, September 2026"


class Stage(ExitStack):
    """LocalExecutor: nothing happens outside of this machine, so there is little to tell."""

    kind: ClassVar[Callable[..., Any]] = LocalExecutor
    arguments: ClassVar[dict[str, Any]] = {}  # what is given to it besides the number of workers

    def __init__(self) -> None:
        super().__init__()
        self.n_workers = LocalExecutor().max_workers  # CPUs that this process may use; nothing is started

    @property
    def name(self) -> str:
        """The executor's class."""
        return self.kind.__name__

    def executor(self, initializer: Callable[[], None]) -> Any:
        """What `line` says."""
        return self.kind(max_workers=self.n_workers, **self.arguments, initializer=initializer)

    def line(self, initializer: Callable[[], None]) -> str:
        """The one line of a program that is different for each executor."""
        given = {"max_workers": self.n_workers, **self.arguments}
        said = [*(f"{name}={value!r}" for name, value in given.items()), f"initializer={initializer.__name__}"]
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
    """What runs in the pocket AWS, which ends with the block. Executors find it in the environment."""

    processes = ""

    def __enter__(self) -> PocketStage:
        """Start the pocket AWS."""
        from cloudexec.testing import PocketAWS

        super().__enter__()
        began = time.perf_counter()
        self.aws = self.enter_context(PocketAWS(stop_scale=0.1)).activate()
        self.start_s = time.perf_counter() - began
        self.aws.record_requests()
        return self

    def tell_where(self) -> None:
        """See Stage."""
        tell("cloud", f"a pocket AWS at {self.aws.endpoint_url}, up in {self.start_s:.1f} s: real HTTP,")
        tell("", f"real processes as {self.processes}; no account, no bill")

    def leftovers(self) -> list[str]:
        """What is left in the account, besides the summaries that `cloudexec show` reads."""
        return [left for left in self.aws.leftovers() if "/summaries/" not in left]

    def tell_requests(self, *services: str) -> None:
        """How many requests were made, and what they cost."""
        asked = self.aws.recorded_requests()
        for service in services:
            made = Counter(request["operation"] for request in asked if request["service"] == service)
            price = sum(price_of(request) for request in asked if request["service"] == service)
            cost = f"${price:.6f}" if price else "free"
            label = "Lambda" if service == "lambda" else service.upper()
            tell(label, f"{made.total():>4} requests, {cost:<9}  {most_common(made)}")


class EcsStage(PocketStage):
    """ECSExecutor: a container for each CPU, on Spot; they are asked for at once, not with the first call."""

    kind = ECSExecutor
    arguments: ClassVar[dict[str, Any]] = {"spot": True, "warm": True}
    processes = "ECS tasks"

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
        again = sum(future.attempts > 1 for future in futures)
        n_started = len(self.aws.tasks()) - self.n_workers
        say(f"\n  {len(calls)} calls more, and in the middle of them Spot takes a container away:\n")
        tell("task", f"{short(taken[0])} got SIGTERM, gave back what it had not finished, and ended")
        tell("instead", f"{count(n_started, 'task')} started; {count(again, 'call')} began anew elsewhere")
        tell("scores", f"{'identical' if scores == expected else 'NOT IDENTICAL'} again, all {len(scores)} of them\n")
        return scores == expected

    def tell_end(self) -> bool:
        """See Stage."""
        deadline = time.monotonic() + 15
        while not all(task.state == "STOPPED" for task in self.aws.tasks()) and time.monotonic() < deadline:
            time.sleep(0.02)  # the executor has told them to; ECS takes a moment to see it
        self.tell_requests("s3", "sqs", "ecs")
        seconds = sum(max(LEAST_S, billed_s(task.facts)) for task in self.aws.tasks())
        price = seconds / 3600 * (PRICES.fargate_vcpu_h[ARCH] + 2 * PRICES.fargate_gb_h[ARCH])
        tell("Fargate", f"{seconds:.0f} s of 1 vCPU and 2 GiB would cost ${price:.4f} on demand, less on Spot")
        tell("", f"{LISTED}; {LEAST_S:.0f} s a task at least)")
        left = self.leftovers()
        tell("left", "; ".join(left) or "nothing: no task, no queue, no object but the run's summary")
        return not left


class LambdaStage(PocketStage):
    """LambdaExecutor: an environment for each CPU."""

    kind = LambdaExecutor
    processes = "environments of a Lambda function"

    def tell_workers(self) -> None:
        """See Stage."""
        for each in self.aws.environments():
            tell("environ.", f"{each.id[:8]} {each.state}, pid {each.pid}: {count(each.n_invocations, 'invocation')}")

    def show_loss(self, executor: Any, work: Any, calls: list[Any], expected: list[float]) -> bool:
        """See Stage. An environment is killed, without a warning."""
        before = {each.id: each.pid for each in self.aws.environments()}
        self.aws.faults.kill_environment(when="mid-call", delay_s=0.01, times=1)
        futures = [executor.submit(work, *call) for call in calls]
        scores = [future.result() for future in futures]
        after = {each.id for each in self.aws.environments()}
        killed = [f"{id[:8]}, pid {pid}," for id, pid in before.items() if id not in after]
        again = sum(future.attempts > 1 for future in futures)
        n_started = len(after - before.keys())
        say(f"\n  {len(calls)} calls more, and in the middle of them an environment is killed:\n")
        tell("environ.", f"{' '.join(killed)} got SIGKILL, and its calls were lost with it")
        tell("instead", f"{count(n_started, 'environment')} started; {count(again, 'call')} began anew")
        tell("scores", f"{'identical' if scores == expected else 'NOT IDENTICAL'} again, all {len(scores)} of them\n")
        return scores == expected and again > 0

    def tell_end(self) -> bool:
        """See Stage."""
        self.tell_requests("s3", "lambda")
        told = [match.groups() for match in map(BILLED.match, self._log()) if match]
        gb_s = sum(int(ms) / 1000 * int(memory) / 1024 for ms, memory in told)
        price = gb_s * PRICES.lambda_gb_s[ARCH]
        tell("compute", f"{gb_s:.1f} GB-s in {count(len(told), 'invocation')} would cost ${price:.6f}, by its log")
        tell("", f"{LISTED}; this machine's milliseconds)")
        left = self.leftovers()
        left += [f"{each.id} is {each.state}" for each in self.aws.environments() if each.state in ("cold", "busy")]
        nothing = "nothing: no object but the run's summary, no invocation; idle environments cost nothing"
        tell("left", "; ".join(left) or nothing)
        return not left and len(told) > 0

    def _log(self) -> list[str]:
        """What Lambda has written to CloudWatch Logs of the function."""
        pages = self.aws.session().client("logs").get_paginator("filter_log_events")
        group = f"/aws/lambda/{self.aws.setup['function']}"
        asked = pages.paginate(logGroupName=group, filterPattern="REPORT")
        return [event["message"] for page in asked for event in page["events"]]


STAGES = {"local": Stage, "ecs": EcsStage, "lambda": LambdaStage}


def price_of(request: dict[str, Any]) -> float:
    """Dollars for one request, as recorded; what runs in it not counted."""
    service, operation = request["service"], request["operation"]
    if service == "sqs":
        return PRICES.sqs_request * max(1, -(-int(request["headers"].get("content-length") or 0) // 65_536))
    if service == "s3" and not operation.startswith("Delete"):
        return PRICES.s3_read if operation.startswith(("Get", "Head")) else PRICES.s3_write
    return PRICES.lambda_request if operation == "Invoke" else 0.0


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


def count(number: int, thing: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def tell(what: str, text: str) -> None:
    """One fact."""
    say(f"  {what:<9} {text}")


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)
