"""What a run has cost, estimated from what its summary says and list prices; each item says what was assumed. Pure, but
for `known_tasks`.

Called by: cli/runs.py, cli/runviews.py.   Calls: observe.prices, observe.estimates; ECS for `known_tasks`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cloudexec.backends.ecs.replies import TaskState, read_describe
from cloudexec.backends.ecs.requests import TASKS_PER_DESCRIBE
from cloudexec.backends.pull.control import BEAT_S
from cloudexec.errors import AwsError
from cloudexec.infra.runs.home import RunsHome
from cloudexec.infra.runs.listing import RunView
from cloudexec.infra.runs.signs import is_left
from cloudexec.observe.estimates import FargateShape, LambdaShape
from cloudexec.observe.prices import US_EAST_1, Prices
from cloudexec.observe.summary import RunSummary, Worker

_LOOK_S: Final = 5.0  # a worker's look at it
_LINES_BYTES: Final = 1500  # of a worker's own lines, from its start to its end
_CALL_LINE_BYTES: Final = 90  # and for each message that it takes
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CostItem:
    """One line of the bill. quantity: in `unit`s."""

    what: str
    quantity: float
    unit: str
    usd: float
    assumed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """The bill. region: where the run was; prices are those of `listed_for`, of `listed`."""

    run_id: str
    items: tuple[CostItem, ...]
    notes: tuple[str, ...]
    region: str
    listed_for: str
    listed: str

    @property
    def usd(self) -> float:
        """All together."""
        return sum(item.usd for item in self.items)


def cost_of_view(view: RunView, tasks: Mapping[str, TaskState] | None = None) -> RunCost:
    """An estimate; of a run that goes on until now, of one that nobody works for any more until its last word."""
    assert view.summary is not None
    if not is_left(view.state, view.signs):
        return cost_of(view.summary, tasks)
    until_s = view.summary.updated_s
    found = cost_of(view.summary, tasks, now_s=until_s)
    at = datetime.fromtimestamp(until_s).astimezone().isoformat(" ", "seconds")
    note = (
        f"counted until the last word of its client, {at}: when its workers ended, nobody has seen. They may have gone "
        "on for as long as client_timeout_s, those of a detached run for longer"
    )
    return replace(found, notes=(note, *found.notes))


def cost_of(
    summary: RunSummary,
    tasks: Mapping[str, TaskState] | None = None,
    *,
    now_s: float | None = None,
    prices: Prices = US_EAST_1,
) -> RunCost:
    """An estimate; of a run that goes on, until now. tasks: those that ECS still knows, by their workers' ids."""
    now_s = time.time() if now_s is None else now_s
    until_s = summary.ended_s if summary.ended_s is not None else max(now_s, summary.begun_s)
    if summary.backend == "lambda":
        items = _lambda_items(summary, until_s, prices)
    else:
        items = _ecs_items(replace(summary, workers=_refined(summary.workers, tasks or {})), until_s, prices)
    notes = ["not counted: data transfer, storage after the run, what calls themselves ask of AWS, discounts, taxes"]
    if summary.where.region != prices.region:
        where = summary.where.region or "an unknown region"
        notes.insert(
            0, f"the run was in {where}, the prices are those of {prices.region}; others differ by up to a half"
        )
    if summary.where.logs_output:
        notes.append(f"what calls print is not known here: {prices.logs_gb:.2f} $ a GB in CloudWatch Logs")
    if summary.larger_runs:
        notes.append("larger workers for calls that ran out of memory are in it; their queues are not")
    return RunCost(
        run_id=summary.run_id,
        items=tuple(item for item in items if item.quantity),
        notes=tuple(notes),
        region=summary.where.region,
        listed_for=prices.region,
        listed=prices.listed,
    )


def known_tasks(home: RunsHome, summary: RunSummary) -> dict[str, TaskState]:
    """What ECS still knows of the run's tasks (an hour after their end, nothing). Errors: none that matter."""
    found: dict[str, TaskState] = {}
    ids = [worker.id for worker in summary.workers]
    if summary.backend != "ecs" or not summary.where.cluster:
        return found
    for at in range(0, len(ids), TASKS_PER_DESCRIBE):
        some = ids[at : at + TASKS_PER_DESCRIBE]
        try:
            reply = home.place.ask("ecs", "describe_tasks", {"cluster": summary.where.cluster, "tasks": some})
        except AwsError:  # the summary's own times do
            return found
        found.update((task.worker, task) for task in read_describe(reply, []).tasks)
    return found


def _refined(workers: Sequence[Worker], tasks: Mapping[str, TaskState]) -> tuple[Worker, ...]:
    """With ECS's own times, which are those of the bill."""
    refined = []
    for worker in workers:
        times_s = tasks[worker.id].times_s if worker.id in tasks else {}
        started_s = times_s.get("pullStartedAt") or times_s.get("createdAt") or worker.started_s
        refined.append(replace(worker, started_s=started_s, stopped_s=times_s.get("stoppedAt") or worker.stopped_s))
    return tuple(refined)


# --- ECS -------------------------------------------------------------------------------------


def _ecs_items(summary: RunSummary, until_s: float, prices: Prices) -> list[CostItem]:
    where = summary.where
    more = summary.n_workers / len(summary.workers) if summary.workers else 1.0  # a summary names so many at most
    worker_s = sum(_worker_s(one, until_s) for one in summary.workers) * more
    n_calls = summary.counts.done + summary.counts.failed + sum(summary.counts.retries.values())
    items = [_tasks(kind, summary, until_s, more, prices) for kind in ("on-demand", "spot", "own")]
    if where.public_ip:
        usd = worker_s / 3600 * prices.public_ipv4_h
        items.append(CostItem(what="public IPv4 addresses", quantity=worker_s / 3600, unit="hours", usd=usd))
    items += _requests(summary, until_s - summary.begun_s, worker_s, n_calls, prices)
    if where.log_group:
        size = summary.n_workers * _LINES_BYTES + n_calls * _CALL_LINE_BYTES
        items.append(_logs(size, "workers' own lines", prices))
    return items


def _tasks(kind: str, summary: RunSummary, until_s: float, more: float, prices: Prices) -> CostItem:
    """The tasks of one kind of capacity. more: so many tasks there were for each one that is named."""
    workers = [one for one in summary.workers if one.capacity == kind]
    hours = [_worker_s(one, until_s) / 3600 * more for one in workers]
    if kind == "own":
        assumed = "machines of your own: they have a bill of their own"
        return CostItem(what="own capacity", quantity=sum(hours), unit="task hours", usd=0.0, assumed=assumed)
    arch = summary.where.arch if summary.where.arch in prices.fargate_vcpu_h else "x86_64"
    is_spot = kind == "spot"
    usd = sum(
        h * prices.task_h(one.vcpu, one.memory_mib, arch, spot=is_spot) for h, one in zip(hours, workers, strict=True)
    )
    assumed = "from the pull of the image to the end, a minute at least"
    if is_spot:
        assumed += f"; Spot {prices.spot_discount:.0%} below the list price"
    return CostItem(what=f"Fargate, {kind}", quantity=sum(hours), unit="task hours", usd=usd, assumed=assumed)


def _requests(summary: RunSummary, run_s: float, worker_s: float, n_calls: int, prices: Prices) -> list[CostItem]:
    """To queues and bucket."""
    shape = FargateShape()
    n_sqs = n_calls * shape.sqs_per_call + summary.sums.run_s / shape.beat_s + (run_s + worker_s) / BEAT_S
    n_writes, n_reads = min(run_s, n_calls) + run_s / BEAT_S + run_s / 30, worker_s / _LOOK_S
    return [
        CostItem(
            what="SQS requests",
            quantity=n_sqs,
            unit="requests",
            usd=n_sqs * prices.sqs_request,
            assumed=f"{shape.sqs_per_call:g} a call of a second, long polls of {BEAT_S:g} s",
        ),
        CostItem(
            what="S3 requests",
            quantity=n_writes + n_reads,
            unit="requests",
            usd=n_writes * prices.s3_write + n_reads * prices.s3_read,
            assumed="one journal entry a second at most, heartbeats, workers' looks at them; no large arguments",
        ),
    ]


def _worker_s(worker: Worker, until_s: float) -> float:
    """What is billed of a task."""
    if worker.started_s is None:
        return 0.0
    return max(FargateShape().least_s, (worker.stopped_s or until_s) - worker.started_s)


# --- Lambda ----------------------------------------------------------------------------------


def _lambda_items(summary: RunSummary, until_s: float, prices: Prices) -> list[CostItem]:
    where, used = summary.where, summary.invocations
    arch = where.arch if where.arch in prices.lambda_gb_s else "x86_64"
    gb_s = used.billed_s * where.memory_mib / 1024
    n_beats = (until_s - summary.begun_s) / BEAT_S
    return [
        CostItem(
            what="Lambda compute",
            quantity=gb_s,
            unit="GB-s",
            usd=gb_s * prices.lambda_gb_s[arch],
            assumed="from invocation to answer as the client saw it: a few ms too long each, the start of a new "
            "environment included",
        ),
        CostItem(
            what="Lambda requests",
            quantity=used.n,
            unit="requests",
            usd=used.n * prices.lambda_request,
            assumed="refused invocations cost nothing",
        ),
        CostItem(
            what="S3 requests",
            quantity=n_beats,
            unit="requests",
            usd=n_beats * prices.s3_write,
            assumed="heartbeats and summaries; no large arguments or results",
        ),
        _logs(used.n * LambdaShape().log_bytes, "Lambda's own lines", prices),
    ]


def _logs(size: float, whose: str, prices: Prices) -> CostItem:
    gb = size / _GIB
    return CostItem(what="CloudWatch Logs", quantity=gb, unit="GB", usd=gb * prices.logs_gb, assumed=whose)
