"""Write the arguments of calls to ECS and CloudWatch Logs; no I/O happens here.

Called by: backend.py, which owns the clients.   Calls: target.py, for types.
Mirror:    replies.py reads what comes back.
Source:    API references of the services; a test compares every request with botocore's service model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.backends.ecs.replies import DefinitionFacts
from cloudexec.backends.ecs.sizes import CPU_UNITS_PER_VCPU
from cloudexec.backends.ecs.target import Capacity, EcsTarget
from cloudexec.backends.pull.home import RUN_TAG
from cloudexec.errors import SettingsError

Request = dict[str, Any]

TASKS_PER_RUN: Final = 10
TASKS_PER_DESCRIBE: Final = 100
MOST_OVERRIDES: Final = 8192  # characters, those of the JSON included
MOST_REASON: Final = 255
STOP_TIMEOUT_S: Final = 120  # Fargate's longest; a Spot warning lasts as long
OUR_STOP: Final = "cloudexec: "  # begins the reason of every stop of ours, so that we know it again
NAME_TAG: Final = "cloudexec:name"
PARENT_TAG: Final = "cloudexec:parent"  # the run whose calls are tried again in this one
CLIENT_TAG: Final = "cloudexec:client"  # HOST/PID/START of the process that began the run
WORKER_COMMAND: Final = ("python", "-m", "cloudexec.worker", "--pull")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One RunTask call: `count` tasks that are all alike. A repeat of it has the same token, and starts nothing new."""

    number: int
    token: str
    count: int
    capacity: Capacity

    def __post_init__(self) -> None:
        if not 1 <= self.count <= TASKS_PER_RUN:
            raise ValueError(f"count={self.count} is not in 1…{TASKS_PER_RUN}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """What a task is given to run: the same for all workers of a run.

    parent_id: the run whose calls are tried again in this one. command: None keeps the image's own. memory_mib: of the
    container, where its definition limits it more narrowly than the task.
    """

    run_id: str
    parent_id: str = ""
    memory_mib: int | None = None
    name: str = ""
    client: str = ""
    command: Sequence[str] | None = WORKER_COMMAND
    environment: Mapping[str, str] = field(default_factory=dict)


# --- tasks -----------------------------------------------------------------------------------


def run_task_request(target: EcsTarget, launch: Launch, outfit: Outfit, task_definition: str = "") -> Request:
    """Arguments for `run_task`. `task_definition`: the one registered for the target's image.

    Errors: SettingsError if what is to be overridden is longer than ECS takes.
    """
    request: Request = {
        "cluster": target.cluster,
        "taskDefinition": task_definition or target.task_definition,
        "count": launch.count,
        # After a broken connection the call is repeated; the token makes the repeat answer with the first tasks
        # instead of paying for more.
        "clientToken": launch.token,
        "startedBy": outfit.run_id,
        "tags": _as_list({**target.tags, RUN_TAG: outfit.run_id, **_own_tags(outfit)}),
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
        "overrides": task_overrides(target, outfit),
        **_capacity(target, launch.capacity),
    }
    if target.subnets:
        request["networkConfiguration"] = {"awsvpcConfiguration": _network(target)}
    return request


def task_overrides(target: EcsTarget, outfit: Outfit) -> Request:
    """What these tasks have otherwise than their definition. Errors: SettingsError if it is too long."""
    container: Request = {"name": target.container_name}
    if outfit.command is not None:
        container["command"] = list(outfit.command)
    if outfit.environment:
        container["environment"] = [{"name": name, "value": value} for name, value in outfit.environment.items()]
    if outfit.memory_mib is not None:
        container["memory"] = outfit.memory_mib
    overrides: Request = {"containerOverrides": [container]}
    # A definition that we register has the right size from the start.
    if target.task_definition and target.vcpu is not None:
        overrides["cpu"] = cpu_units(target.vcpu)
    if target.task_definition and target.memory_mib is not None:
        overrides["memory"] = str(target.memory_mib)
    if target.ephemeral_gib is not None:
        overrides["ephemeralStorage"] = {"sizeInGiB": target.ephemeral_gib}
    _check_overrides(overrides, outfit)
    return overrides


def container_memory_mib(target: EcsTarget, facts: DefinitionFacts) -> int | None:
    """What the container must be given so that it can use a task of another size; None keeps what its definition says.

    A container with a limit of its own would keep it in a larger task. Its neighbours keep what they have.
    """
    if not target.task_definition or target.memory_mib is None or facts.container_mib is None:
        return None
    others = max(0, (facts.memory_mib or facts.container_mib) - facts.container_mib)
    return max(1, target.memory_mib - others)


def _check_overrides(overrides: Request, outfit: Outfit) -> None:
    length = len(json.dumps(overrides))
    if length <= MOST_OVERRIDES:
        return
    sizes = {f"env {name}": len(json.dumps(value)) for name, value in outfit.environment.items()}
    sizes["the command"] = len(json.dumps(list(outfit.command or ())))
    longest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    raise SettingsError(
        f"command and environment take {length} characters, and ECS takes {MOST_OVERRIDES}; "
        f"the longest: {', '.join(f'{what} ({sizes[what]})' for what in longest)}",
        remedy="put what is long into S3 or Parameter Store and pass its name, or bake it into the image",
    )


def cpu_units(vcpu: float) -> str:
    """As ECS writes it: a decimal string of 1/1024 vCPU."""
    return str(round(vcpu * CPU_UNITS_PER_VCPU))


def _own_tags(outfit: Outfit) -> dict[str, str]:
    said = {NAME_TAG: outfit.name[:256], CLIENT_TAG: outfit.client[:256], PARENT_TAG: outfit.parent_id}
    return {key: value for key, value in said.items() if value}


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _capacity(target: EcsTarget, capacity: Capacity) -> Request:
    if capacity is Capacity.SPOT:
        return {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}
    if capacity is Capacity.ON_DEMAND:
        # Not the provider FARGATE: that one must have been associated with the cluster before.
        return {"launchType": "FARGATE"}
    if not target.capacity_provider_strategy:
        return {"launchType": target.launch_type}
    shares = target.capacity_provider_strategy
    strategy = [{"capacityProvider": one.provider, "weight": one.weight, "base": one.base} for one in shares]
    return {"capacityProviderStrategy": strategy}


def _network(target: EcsTarget) -> Request:
    network: Request = {"subnets": list(target.subnets)}
    if target.security_groups:
        network["securityGroups"] = list(target.security_groups)
    if target.is_fargate:  # tasks on machines of the user's own get no public address of theirs
        network["assignPublicIp"] = "ENABLED" if target.assign_public_ip else "DISABLED"
    return network


def describe_tasks_request(cluster: str, arns: Sequence[str]) -> Request:
    """Arguments for `describe_tasks`; at most 100 tasks."""
    if not 1 <= len(arns) <= TASKS_PER_DESCRIBE:
        raise ValueError(f"{len(arns)} tasks in one call; it takes 1…{TASKS_PER_DESCRIBE}")
    return {"cluster": cluster, "tasks": list(arns)}


def list_tasks_request(cluster: str, run_id: str, next_token: str = "") -> Request:
    """Arguments for `list_tasks`: those of a run that are to run. No other filter may stand beside `startedBy`."""
    page = {"nextToken": next_token} if next_token else {}
    return {"cluster": cluster, "startedBy": run_id, "maxResults": 100, **page}


def stop_task_request(cluster: str, arn: str, reason: str) -> Request:
    """Arguments for `stop_task`. The reason comes back as `stoppedReason`."""
    return {"cluster": cluster, "task": arn, "reason": (OUR_STOP + reason)[:MOST_REASON]}


# --- task definitions ------------------------------------------------------------------------


def register_task_definition_request(
    target: EcsTarget, command: Sequence[str] | None = WORKER_COMMAND, kind: str = "worker"
) -> Request:
    """Arguments for `register_task_definition`. Its family names its content: registered once, found again.

    command: None keeps the image's own.
    """
    definition = _definition(target, command)
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    # Permissions are given for `task-definition/cloudexec-*`. Tags are no part of the content.
    tags = {"tags": _as_list(target.tags)} if target.tags else {}
    return {"family": f"cloudexec-{kind}-{digest[:16]}", **definition, **tags}


def _definition(target: EcsTarget, command: Sequence[str] | None) -> Request:
    size = target.size
    definition: Request = {
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE" if target.is_fargate else target.launch_type or "EC2"],
        "cpu": cpu_units(size.vcpu),
        "memory": str(size.memory_mib),
        "containerDefinitions": [_container(target, command)],
    }
    if target.architecture:
        definition["runtimePlatform"] = {"cpuArchitecture": target.architecture, "operatingSystemFamily": "LINUX"}
    if target.task_role:
        definition["taskRoleArn"] = target.task_role
    if target.execution_role:
        definition["executionRoleArn"] = target.execution_role
    return definition


def _container(target: EcsTarget, command: Sequence[str] | None) -> Request:
    container: Request = {
        "name": target.container_name,
        "image": target.image,
        "essential": True,
        "memory": target.size.memory_mib,
        "stopTimeout": STOP_TIMEOUT_S,
        # A process that reaps what calls leave behind, and hands signals on.
        "linuxParameters": {"initProcessEnabled": True},
    }
    if command is not None:
        container["command"] = list(command)
    if target.log_group:
        options = {
            "awslogs-group": target.log_group,
            "awslogs-region": target.region,
            "awslogs-stream-prefix": target.log_prefix,
        }
        container["logConfiguration"] = {"logDriver": "awslogs", "options": options}
    return container


def describe_task_definition_request(task_definition: str) -> Request:
    """Arguments for `describe_task_definition`; a family alone means its newest active revision."""
    return {"taskDefinition": task_definition}


# --- logs -------------------------------------------------------------------------


def log_stream(target: EcsTarget, arn: str) -> str:
    """Where the awslogs driver writes what a task's container prints."""
    return f"{target.log_prefix}/{target.container_name}/{arn.rsplit('/', 1)[-1]}"


def get_log_events_request(target: EcsTarget, arn: str, lines: int = 20) -> Request:
    """Arguments for Logs `get_log_events`: the last lines of a task."""
    return {
        "logGroupName": target.log_group,
        "logStreamName": log_stream(target, arn),
        "limit": lines,
        "startFromHead": False,
    }
