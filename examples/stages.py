"""Where the demonstration runs, and what can be told from behind the stage: tasks, requests, prices, leftovers.

Called by: crossval.py.   Calls: cloudexec; on "ecs" the pocket AWS, whose tasks are real processes of this machine.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

from cloudexec import ECSExecutor, LocalExecutor

# AWS list prices, us-east-1, September 2026, in dollars.
SQS_REQUEST = 0.40e-6  # each 64 KiB of a message count as one
S3_WRITE = 5.00e-6  # PUT, LIST
S3_READ = 0.40e-6
VCPU_S, GIB_S = 0.04048 / 3600, 0.004445 / 3600  # Fargate, Linux on x86
LEAST_S = 60.0  # that a Fargate task is billed for


class Stage(ExitStack):
    """LocalExecutor: nothing happens outside of this machine, so there is little to tell."""

    name = "LocalExecutor"

    def executor(self, **settings: Any) -> Any:
        """A worker for each CPU."""
        return LocalExecutor(**settings)

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


class EcsStage(Stage):
    """ECSExecutor in the pocket AWS."""

    name = "ECSExecutor"

    def __enter__(self) -> EcsStage:
        """Start the pocket AWS; it ends with the block."""
        from cloudexec.testing import PocketAWS

        super().__enter__()
        began = time.perf_counter()
        self.aws = self.enter_context(PocketAWS(stop_scale=0.1))
        self.start_s = time.perf_counter() - began
        return self

    def executor(self, **settings: Any) -> Any:
        """A container for each CPU, on Spot; they are asked for at once, not with the first call."""
        self.aws.record_requests()
        self.n_workers = LocalExecutor().max_workers  # CPUs that this process may use; nothing is started
        where = {**self.aws.ecs_setup(), "session": self.aws.session()}
        return ECSExecutor(**where, max_workers=self.n_workers, spot=True, warm=True, **settings)

    def tell_where(self) -> None:
        """See Stage."""
        tell("cloud", f"a pocket AWS at {self.aws.endpoint_url}, up in {self.start_s:.1f} s: real HTTP,")
        tell("", "real processes as ECS tasks; no account, no bill")

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
        asked = self.aws.recorded_requests()
        for service in ("s3", "sqs", "ecs"):
            made = Counter(request["operation"] for request in asked if request["service"] == service)
            price = sum(price_of(request) for request in asked if request["service"] == service)
            cost = f"${price:.5f}" if price else "free"
            tell(service.upper(), f"{made.total():>4} requests, {cost:<8}  {most_common(made)}")
        seconds = sum(max(LEAST_S, billed_s(task.facts)) for task in self.aws.tasks())
        price = seconds * (VCPU_S + 2 * GIB_S)
        tell("Fargate", f"{seconds:.0f} s of 1 vCPU and 2 GiB would cost ${price:.4f} on demand, less on Spot")
        tell("", "(AWS list prices, us-east-1, September 2026; 60 s a task at least)")
        left = self.aws.leftovers()
        tell("left", "; ".join(left) or "nothing: no task, no queue, no object")
        return not left


STAGES = {"ecs": EcsStage, "local": Stage}


def price_of(request: dict[str, Any]) -> float:
    """Dollars for one request, as recorded."""
    service, operation = request["service"], request["operation"]
    if service == "sqs":
        return SQS_REQUEST * max(1, -(-int(request["headers"].get("content-length") or 0) // 65_536))
    if service == "s3" and not operation.startswith("Delete"):
        return S3_READ if operation.startswith(("Get", "Head")) else S3_WRITE
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


def count(number: int, thing: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def tell(what: str, text: str) -> None:
    """One fact."""
    say(f"  {what:<9} {text}")


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)
