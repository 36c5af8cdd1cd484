"""What a command asks of ECS: where its task starts, with which overrides; no I/O happens here.

Called by: executors.commands (checks, before any request), backend.py.   Calls: requests.py, target.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from cloudexec.backends.ecs.requests import (
    Launch,
    Outfit,
    Request,
    register_task_definition_request,
    run_task_request,
    task_overrides,
)
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.command import Command

CONTAINER: Final = "command"  # in the definitions that we register


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command, ready to be asked for. Before its definition is known, the target's container may be empty."""

    command: Command
    target: EcsTarget
    outfit: Outfit


def started_by(run_id: str) -> str:
    """The mark of a run's commands. Not the workers' one: the fleet takes for a worker whatever carries that."""
    return f"{run_id}/commands"


def base_of(target: EcsTarget) -> EcsTarget:
    """What commands take over from an executor's own settings."""
    return replace(
        target,
        task_definition="",
        image="",
        container="",
        vcpu=None,
        memory_mib=None,
        slots=None,
        oom_sizes=(),
        ephemeral_gib=None,
    )


def order_of(command: Command, base: EcsTarget, outfit: Outfit, env: Mapping[str, str] | None, name: str) -> Order:
    """A command on an executor's `base`, see `base_of`. `env`, `name`: options of the call; the command's own env wins.

    Errors: SettingsError if what it asks for cannot be, or is longer than ECS takes.
    """
    order = Order(
        command=command,
        target=_target_of(command, base),
        outfit=replace(
            outfit,
            name=name or outfit.name,
            command=command.args or None,
            environment={**(env or {}), **command.env},
        ),
    )
    task_overrides(order.target, order.outfit)
    return order


def _target_of(command: Command, base: EcsTarget) -> EcsTarget:
    """Network, capacity and tags are the executor's; what runs is the command's."""
    own = replace(
        base,
        task_definition=command.task_definition,
        image=command.image,
        container=command.container,
        vcpu=command.vcpu,
        memory_mib=command.memory_mib,
        task_role=base.task_role if command.image else "",
        execution_role=base.execution_role if command.image else "",
    )
    if not command.image:
        return own
    # Without an execution role a task may not write to a log, and ECS refuses the definition.
    log_group = base.log_group if base.execution_role or not base.is_fargate else ""
    return replace(own, container=command.container or CONTAINER, log_group=log_group)


def definition_request(target: EcsTarget) -> Request:
    """Arguments for `register_task_definition`, for a command's image; the image's own command stays."""
    return register_task_definition_request(target, command=None, kind="command")


def start_request(order: Order, launch: Launch, task_definition: str) -> Request:
    """Arguments for `run_task`. Errors: SettingsError."""
    request = run_task_request(order.target, launch, order.outfit, task_definition)
    return {**request, "startedBy": started_by(order.outfit.run_id)}
