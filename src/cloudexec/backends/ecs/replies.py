"""Read what ECS answers; no I/O happens here, and nothing of an answer is taken for granted.

Called by: backend.py, fleet.py.   Mirror: requests.py writes the questions.
Note:      a 200 may hold failures, fewer tasks than were asked for, and tasks without containers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

_OUT_OF_MEMORY: Final = "outofmemory"
_TIMES: Final = (
    "createdAt",
    "pullStartedAt",
    "pullStoppedAt",
    "startedAt",
    "stoppingAt",
    "executionStoppedAt",
    "stoppedAt",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container of a task."""

    name: str
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """One task as ECS describes it. `times_s`: seconds since the epoch, by the service's names, as far as it is."""

    arn: str
    last_status: str = ""
    desired_status: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    containers: tuple[ContainerState, ...] = ()
    provider: str = ""
    zone: str = ""
    started_by: str = ""
    task_definition: str = ""
    times_s: Mapping[str, float]

    @property
    def worker(self) -> str:
        """The worker's id: that of its task."""
        return worker_of(self.arn)

    @property
    def is_stopped(self) -> bool:
        """Whether it is over."""
        return self.last_status == "STOPPED"

    @property
    def started_s(self) -> float | None:
        """When its containers ran; None if they never did."""
        return self.times_s.get("startedAt")

    @property
    def exit_code(self) -> int | None:
        """That of the container that ended badly, else of any that has ended; None if none has."""
        codes = [container.exit_code for container in self.containers if container.exit_code is not None]
        return next((code for code in codes if code), codes[0] if codes else None)

    @property
    def oom(self) -> bool:
        """Whether a container was killed for memory."""
        return any(container.reason.casefold().startswith(_OUT_OF_MEMORY) for container in self.containers)

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that is said about its end; the containers first, because they know more."""
        said = [container.reason for container in self.containers] + [self.stopped_reason]
        return tuple(filter(None, said))

    @property
    def start_up_s(self) -> dict[str, float]:
        """How long each step of the start took, as far as it has come."""
        steps = {
            "placing": ("createdAt", "pullStartedAt"),
            "pulling": ("pullStartedAt", "pullStoppedAt"),
            "starting": ("pullStoppedAt", "startedAt"),
            "total": ("createdAt", "startedAt"),
        }
        times = self.times_s
        return {
            step: times[end] - times[begin] for step, (begin, end) in steps.items() if begin in times and end in times
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An entry of `failures`."""

    reason: str
    arn: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReply:
    """The tasks that RunTask started; `n_missing` were asked for and not started, for `failures`' reasons."""

    tasks: tuple[TaskState, ...]
    failures: tuple[Failure, ...]
    n_missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeReply:
    """What DescribeTasks knows; `missing` were asked for and are not known, now or any more."""

    tasks: tuple[TaskState, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionFacts:
    """What a task definition says about the containers that it makes. container_mib: the container's own limit."""

    arn: str
    container: str
    is_active: bool
    vcpu: float | None = None
    memory_mib: int | None = None
    container_mib: int | None = None
    arch: str = ""
    network_mode: str = ""
    log_group: str = ""
    log_prefix: str = ""


def worker_of(arn: str) -> str:
    """The id of the worker that a task is: the last part of the task's name."""
    return arn.rsplit("/", 1)[-1]


def read_run_task(reply: Mapping[str, Any], count: int) -> RunReply:
    """What became of the tasks that were asked for. One failure may stand for several tasks, and several for one."""
    tasks = tuple(map(read_task, reply.get("tasks") or ()))
    failures = tuple(map(_failure, reply.get("failures") or ()))
    n_missing = max(0, count - len(tasks))
    if n_missing and not failures:
        failures = (Failure(reason="", detail=f"{len(tasks)} of {count} tasks were started"),)
    return RunReply(tasks=tasks, failures=failures, n_missing=n_missing)


def read_describe(reply: Mapping[str, Any], asked: Sequence[str]) -> DescribeReply:
    """What is known of those that were asked for; what is neither a task nor a failure counts as missing."""
    tasks = tuple(map(read_task, reply.get("tasks") or ()))
    known = {task.arn for task in tasks}
    return DescribeReply(tasks=tasks, missing=tuple(arn for arn in asked if arn not in known))


def read_list(reply: Mapping[str, Any]) -> tuple[list[str], str]:
    """Names of tasks, and the token of the next page, "" for none."""
    return list(reply.get("taskArns") or ()), reply.get("nextToken") or ""


def read_conflict(reply: Mapping[str, Any]) -> RunReply:
    """A ConflictException: the token was used before, with other arguments, for the tasks that it names."""
    arns = reply.get("resourceIds") or ()
    tasks = tuple(TaskState(arn=arn, times_s={}) for arn in arns)
    return RunReply(tasks=tasks, failures=(), n_missing=0)


def read_task(task: Mapping[str, Any]) -> TaskState:
    """One task; what is absent becomes empty."""
    times_s = {name: _seconds(task[name]) for name in _TIMES if task.get(name)}
    return TaskState(
        arn=task["taskArn"],
        last_status=task.get("lastStatus") or "",
        desired_status=task.get("desiredStatus") or "",
        stop_code=task.get("stopCode") or "",
        stopped_reason=task.get("stoppedReason") or "",
        containers=tuple(map(_container, task.get("containers") or ())),
        provider=task.get("capacityProviderName") or task.get("launchType") or "",
        zone=task.get("availabilityZone") or "",
        started_by=task.get("startedBy") or "",
        task_definition=task.get("taskDefinitionArn") or "",
        times_s=times_s,
    )


def _container(container: Mapping[str, Any]) -> ContainerState:
    return ContainerState(
        name=container.get("name") or "", exit_code=container.get("exitCode"), reason=container.get("reason") or ""
    )


def _failure(failure: Mapping[str, Any]) -> Failure:
    return Failure(reason=failure.get("reason") or "", arn=failure.get("arn") or "", detail=failure.get("detail") or "")


def _seconds(when: Any) -> float:
    return when.timestamp() if isinstance(when, datetime) else float(when)


def read_task_definition(reply: Mapping[str, Any], container: str = "") -> DefinitionFacts:
    """A task definition, seen from one container: the named one, else "worker", else the first essential one.

    Errors: LookupError if there is no such container.
    """
    definition = reply["taskDefinition"]
    one = _choose(definition.get("containerDefinitions") or (), container)
    logs = one.get("logConfiguration") or {}
    options = logs.get("options") or {} if logs.get("logDriver") == "awslogs" else {}
    cpu, memory = definition.get("cpu"), definition.get("memory")
    return DefinitionFacts(
        arn=definition["taskDefinitionArn"],
        container=one["name"],
        is_active=definition.get("status", "ACTIVE") == "ACTIVE",
        vcpu=int(cpu) / 1024 if cpu else None,
        memory_mib=int(memory) if memory else None,
        container_mib=int(one["memory"]) if one.get("memory") else None,
        arch=(definition.get("runtimePlatform") or {}).get("cpuArchitecture") or "",
        network_mode=definition.get("networkMode") or "",
        log_group=options.get("awslogs-group") or "",
        log_prefix=options.get("awslogs-stream-prefix") or "",
    )


def _choose(containers: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    names = [container["name"] for container in containers]
    if name and name not in names:
        raise LookupError(f"the task definition has no container {name!r}; it has {', '.join(names) or 'none'}")
    wanted = name or "worker"
    by_name = [container for container in containers if container["name"] == wanted]
    essential = [container for container in containers if container.get("essential", True)]
    return (by_name or essential or list(containers))[0]
