"""What RunTask and RegisterTaskDefinition refuse, in the words of ECS as far as they are known. Pure.

Called by:  ecs.py.   Calls: requests.py, for Refusal.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from cloudexec.testing.pocket.server.requests import Refusal

MOST_TASKS: Final = 10
OVERRIDES_CHARACTERS: Final = 8192
MOST_TAGS: Final = 50
STARTED_BY: Final = re.compile(r"[A-Za-z0-9_/-]{1,128}")
CLIENT_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,64}")
FARGATE: Final = ("FARGATE", "FARGATE_SPOT")
# CPU units -> MiB
FARGATE_SIZES: Final[dict[int, tuple[int, ...]]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
    8192: tuple(range(16384, 61440 + 1, 4096)),
    16384: tuple(range(32768, 122880 + 1, 8192)),
    32768: (61440, 122880, 249856),
}


def invalid(message: str) -> Refusal:
    """A parameter that ECS does not take."""
    return Refusal("InvalidParameterException", message)


def client_error(message: str) -> Refusal:
    """A request that cannot be carried out as it stands."""
    return Refusal("ClientException", message)


def check_fargate_size(cpu: object, memory: object) -> None:
    """Refuse a pair that Fargate does not have."""
    try:
        fits = int(str(memory)) in FARGATE_SIZES.get(int(str(cpu)), ())
    except ValueError:
        fits = False
    if not fits:
        what = f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory."
        raise client_error(f"{what} See the Amazon ECS documentation for the valid values.")


def check_definition(wanted: dict[str, Any]) -> None:
    """Refuse a task definition that could not be registered."""
    containers = wanted.get("containerDefinitions") or []
    if not containers:
        raise client_error("Container list cannot be empty.")
    if len(containers) > 10:
        raise client_error("Task definition has more than 10 containers.")
    names = [container.get("name") for container in containers]
    if len(set(names)) < len(names):
        raise client_error("Container names must be unique.")
    for container in containers:
        if not container.get("image"):
            raise client_error("Container.image should not be null or empty.")
    if not any(container.get("essential", True) for container in containers):
        raise client_error("At least one container in the task definition must be essential.")
    if "FARGATE" in (wanted.get("requiresCompatibilities") or []):
        _check_fargate_definition(wanted, containers)
    elif not wanted.get("memory"):
        for container in containers:
            if not container.get("memory") and not container.get("memoryReservation"):
                name = container.get("name")
                what = "At least one of 'memory' or 'memoryReservation' must be specified"
                raise client_error(f"Invalid setting for container '{name}'. {what} within the container definition.")


def _check_fargate_definition(wanted: dict[str, Any], containers: list[dict[str, Any]]) -> None:
    if wanted.get("networkMode") != "awsvpc":
        mode = wanted.get("networkMode")
        raise client_error(f"When networkMode={mode}, FARGATE compatibility requires awsvpc.")
    check_fargate_size(wanted.get("cpu"), wanted.get("memory"))
    for container in containers:
        logs = container.get("logConfiguration") or {}
        if logs.get("logDriver") != "awslogs":
            continue
        options = logs.get("options") or {}
        if not options.get("awslogs-stream-prefix"):
            raise client_error("Log driver awslogs requires options: awslogs-stream-prefix")
        if not wanted.get("executionRoleArn"):
            what = "Fargate requires task definition to have execution role ARN to support log driver awslogs."
            raise client_error(what)


def check_run(wanted: dict[str, Any], definition: dict[str, Any], cluster: dict[str, Any]) -> int:
    """Refuse a RunTask request that ECS refuses; how many tasks it wants."""
    count = wanted.get("count", 1)
    count = 1 if count is None else count
    if not isinstance(count, int) or not 1 <= count <= MOST_TASKS:
        raise invalid(f"Count must be between 1 and {MOST_TASKS}.")
    _check_names(wanted)
    _check_overrides(wanted.get("overrides") or {}, definition)
    _check_capacity(wanted, definition, cluster)
    if definition.get("networkMode") == "awsvpc":
        network = (wanted.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        if not network.get("subnets"):
            what = "Network Configuration must be provided when networkMode 'awsvpc' is specified."
            raise invalid(what)
    if definition.get("status", "ACTIVE") != "ACTIVE":
        raise client_error("TaskDefinition is inactive")
    return count


def _check_names(wanted: dict[str, Any]) -> None:
    started_by = wanted.get("startedBy")
    if started_by and not STARTED_BY.fullmatch(started_by):
        raise invalid("startedBy must have at most 128 letters, numbers, hyphens, slashes and underscores.")
    token = wanted.get("clientToken")
    if token and not CLIENT_TOKEN.fullmatch(token):
        raise invalid("clientToken must have at most 64 characters between 33 and 126 of ASCII.")
    tags = wanted.get("tags") or []
    if len(tags) > MOST_TAGS:
        raise invalid(f"Too many tags: at most {MOST_TAGS}.")
    for tag in tags:
        if not 1 <= len(tag.get("key", "")) <= 128 or len(tag.get("value", "")) > 256:
            raise invalid("A tag has a key of 1 to 128 and a value of up to 256 characters.")


def _check_overrides(overrides: dict[str, Any], definition: dict[str, Any]) -> None:
    if len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False)) > OVERRIDES_CHARACTERS:
        raise invalid(f"Container Overrides length must be at most {OVERRIDES_CHARACTERS}")
    names = {container["name"] for container in definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides") or []:
        if override.get("name") not in names:
            what = f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            raise invalid(what)


def _check_capacity(wanted: dict[str, Any], definition: dict[str, Any], cluster: dict[str, Any]) -> None:
    strategy = wanted.get("capacityProviderStrategy") or []
    if strategy and wanted.get("launchType"):
        raise invalid("Specifying both a launch type and capacity provider strategy is not supported.")
    if len(strategy) > 20:
        raise invalid("A capacity provider strategy has at most 20 entries.")
    for entry in strategy:
        if entry["capacityProvider"] not in (cluster.get("capacityProviders") or []):
            what = f"The specified capacity provider '{entry['capacityProvider']}' was not found."
            raise invalid(what)
    if sum(1 for entry in strategy if entry.get("base")) > 1:
        raise invalid("Only one capacity provider in a strategy can have a base defined.")
    if strategy and not any(entry.get("weight") or entry.get("base") for entry in strategy):
        raise invalid("At least one capacity provider of the strategy must have a weight greater than zero.")
    on_fargate = wanted.get("launchType") == "FARGATE" or any(e["capacityProvider"] in FARGATE for e in strategy)
    if not on_fargate:
        return
    if "FARGATE" not in (definition.get("compatibilities") or []):
        raise invalid("Task definition does not support launch_type FARGATE.")
    overrides = wanted.get("overrides") or {}
    if overrides.get("cpu") or overrides.get("memory"):
        cpu, memory = overrides.get("cpu") or definition.get("cpu"), overrides.get("memory") or definition.get("memory")
        check_fargate_size(cpu, memory)


def spread(count: int, strategy: list[dict[str, Any]]) -> list[str]:
    """The capacity provider of each of `count` tasks: the base first, then by weight."""
    based = next((entry for entry in strategy if entry.get("base")), None)
    placed = [based["capacityProvider"]] * min(count, int(based["base"])) if based else []
    weights = {entry["capacityProvider"]: int(entry.get("weight") or 0) for entry in strategy}
    given = dict.fromkeys(weights, 0)
    while len(placed) < count:
        weighted = [name for name, weight in weights.items() if weight]
        if not weighted:  # the base is full, and nothing else has weight
            break
        chosen = min(weighted, key=lambda name: (given[name] + 1) / weights[name])
        given[chosen] += 1
        placed.append(chosen)
    return placed
