"""One ECS task: its states on a real clock, its containers, and how it looks from outside.

Called by:  ecs.py.   Calls: containers.py, logs.py.

  PROVISIONING -> PENDING -> ACTIVATING -> RUNNING -> STOPPING -> DEPROVISIONING -> STOPPED
        \\____________\\____________\\__________________________/^
         stopped, or failed to start: no container has run
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloudexec.testing.pocket.server.containers import Container, Plan
from cloudexec.testing.pocket.server.logs import LogShipper, Stream
from cloudexec.testing.pocket.server.requests import Refusal

PULL_ERROR: Final = "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref"
NEVER_S: Final = 1e9


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What a fault has in store for a task."""

    kind: str = ""  # "", empty_start, pull_error, never_start
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long the states last."""

    provisioning_s: float
    pulling_s: float
    deprovisioning_s: float


class Task:
    """A task from RunTask until its record vanishes."""

    def __init__(
        self,
        *,
        facts: dict[str, Any],
        containers: list[Container],
        streams: dict[str, tuple[Stream, bool]],
        argv_of: Callable[[Plan], list[str]],
        fate: Fate,
        pace: Pace,
        shipper: LogShipper,
        on_stopped: Callable[[Task], None],
    ) -> None:
        self.containers = containers
        self._streams, self._argv_of, self._fate, self._pace = streams, argv_of, fate, pace
        self._shipper, self._on_stopped = shipper, on_stopped
        self._changed = threading.Condition()
        self._stop_asked = False
        self._kill_after_s: float | None = None
        self._facts = {**facts, "version": 0, "lastStatus": "", "desiredStatus": "RUNNING", "createdAt": time.time()}
        self.arn = str(facts["taskArn"])
        self.id = self.arn.rpartition("/")[2]
        self.created_s = time.monotonic()
        self.stopped_s: float | None = None
        self._history: list[tuple[float, dict[str, Any]]] = []
        self._tell(lastStatus="PROVISIONING")

    def start(self) -> None:
        """Begin to live, in a thread of its own."""
        threading.Thread(target=self._live, name=f"task-{self.id[:8]}", daemon=True).start()

    # --- from outside --------------------------------------------------------------------------

    def wire(self, age_s: float = 0.0) -> dict[str, Any] | None:
        """The task as DescribeTasks shows it, or showed it so many seconds ago; None when it was not there yet."""
        with self._changed:
            past = time.monotonic() - age_s
            seen = [shape for at_s, shape in self._history if at_s <= past]
            return seen[-1] if seen else None

    @property
    def facts(self) -> dict[str, Any]:
        """The newest of `wire`."""
        with self._changed:
            return self._history[-1][1]

    def stop(self, code: str, reason: str, kill_after_s: float | None = None) -> None:
        """Ask the task to end; `kill_after_s` replaces the containers' stopTimeout. The first word counts."""
        with self._changed:
            if self._stop_asked or self.stopped_s is not None:
                return
            self._stop_asked = True
            self._kill_after_s = kill_after_s
            self._tell(desiredStatus="STOPPED", stopCode=code, stoppedReason=reason, stoppingAt=time.time())
            self._changed.notify_all()

    def tag(self, tags: dict[str, str], remove: tuple[str, ...] = ()) -> None:
        """Add and remove tags."""
        with self._changed:
            now = {tag["key"]: tag["value"] for tag in self._facts["tags"]} | tags
            kept = [{"key": key, "value": value} for key, value in now.items() if key not in remove]
            self._tell(tags=kept)

    def wait_stopped(self, timeout_s: float) -> bool:
        """Whether it is over within this time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopped_s is not None, timeout_s)

    # --- life ----------------------------------------------------------------------------------

    def _live(self) -> None:
        if self._begin():
            self._tell(lastStatus="RUNNING", startedAt=time.time())
            with self._changed:
                self._changed.wait_for(lambda: self._stop_asked or self._essential_ended())
            self.stop("EssentialContainerExited", "Essential container in task exited")
        self._end_containers()
        self._shipper.flush()
        self._tell(lastStatus="DEPROVISIONING", executionStoppedAt=time.time())
        time.sleep(self._pace.deprovisioning_s)
        self._tell(lastStatus="STOPPED", stoppedAt=time.time())
        with self._changed:
            self.stopped_s = time.monotonic()
            self._changed.notify_all()
        self._on_stopped(self)

    def _begin(self) -> bool:
        """Everything up to RUNNING; whether it got there."""
        if self._stopped_within(self._pace.provisioning_s):
            return False
        if self._fate.kind == "empty_start":
            self._tell(containers=[])
            self.stop("TaskFailedToStart", self._fate.reason)
            return False
        self._tell(lastStatus="PENDING", pullStartedAt=time.time(), connectivityAt=time.time())
        if self._stopped_within(NEVER_S if self._fate.kind == "never_start" else self._pace.pulling_s):
            return False
        if self._fate.kind == "pull_error":
            reason = self._fate.reason or f"{PULL_ERROR} {self.containers[0].plan.image}: not found"
            self.containers[0].reason = reason
            self.stop("TaskFailedToStart", reason)
            return False
        self._tell(lastStatus="ACTIVATING", pullStoppedAt=time.time())
        return all(self._start(container) for container in self.containers if not self._stop_asked)

    def _start(self, container: Container) -> bool:
        name = container.plan.name
        stream, create_group = self._streams.get(name, (None, False))
        try:
            if stream is not None:
                self._shipper.open(stream, create_group=create_group)
        except Refusal as refusal:
            what = f"failed to validate logger args: create stream has been retried 1 times: {refusal.code}"
            self.stop("TaskFailedToStart", f"ResourceInitializationError: {what}: {refusal.message}")
            return False
        try:
            argv = self._argv_of(container.plan)
            container.start(argv, self._container_ended, self._writer(stream))
        except OSError as error:
            container.reason = f"CannotStartContainerError: {error}"
            self.stop("TaskFailedToStart", container.reason)
            return False
        return True

    def _writer(self, stream: Stream | None) -> Callable[[str], None]:
        if stream is None:
            return lambda line: None
        return lambda line: self._shipper.write(stream, line)

    def _stopped_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._stop_asked, min(seconds, threading.TIMEOUT_MAX))

    def _container_ended(self) -> None:
        with self._changed:
            self._tell()
            self._changed.notify_all()

    def _essential_ended(self) -> bool:
        return any(c.plan.essential and c.pid is not None and not c.is_alive for c in self.containers)

    def _end_containers(self) -> None:
        """SIGTERM, the time that each container has, SIGKILL."""
        alive = [container for container in self.containers if container.is_alive]
        if not alive:
            return
        self._tell(lastStatus="STOPPING")
        began_s = time.monotonic()
        if self._kill_after_s != 0:
            for container in alive:
                container.terminate()
        limits = {c: c.plan.stop_timeout_s if self._kill_after_s is None else self._kill_after_s for c in alive}
        for container in sorted(alive, key=lambda c: limits[c]):
            with self._changed:
                left_s = began_s + limits[container] - time.monotonic()
                ended = self._changed.wait_for(lambda c=container: not c.is_alive, max(0.0, left_s))  # type: ignore[misc]  # mypy cannot type a default
            if not ended:
                container.kill()
        with self._changed:
            self._changed.wait_for(lambda: not any(container.is_alive for container in alive))

    def _tell(self, **news: Any) -> None:
        """Change what is known of the task; each change is one more version."""
        with self._changed:
            self._facts.update(news)
            self._facts["version"] += 1
            if news.get("containers") != []:
                self._tell_containers()
            shape = copy.deepcopy(self._facts)
            self._history.append((time.monotonic(), shape))
            del self._history[:-20]

    def _tell_containers(self) -> None:
        by_name = {container.plan.name: container for container in self.containers}
        for shape in self._facts["containers"]:
            container = by_name[shape["name"]]
            shape["lastStatus"] = "RUNNING" if container.is_alive else "PENDING"
            if container.exit_code is not None or self._facts["lastStatus"] == "STOPPED":
                shape["lastStatus"] = "STOPPED"
            if container.exit_code is not None:
                shape["exitCode"] = container.exit_code
            if container.reason is not None:
                shape["reason"] = container.reason
            if container.pid is not None:
                shape["runtimeId"] = f"{self.id}-{container.pid}"


def new_task_facts(
    *,
    cluster: dict[str, Any],
    definition: dict[str, Any],
    wanted: dict[str, Any],
    region: str,
    provider: str | None,
) -> dict[str, Any]:
    """What DescribeTasks tells of a task from its first moment on."""
    cluster_arn = str(cluster["clusterArn"])
    arn = f"{cluster_arn.replace(':cluster/', ':task/')}/{uuid.uuid4().hex}"
    overrides = wanted.get("overrides") or {}
    on_fargate = wanted.get("launchType") == "FARGATE" or provider in ("FARGATE", "FARGATE_SPOT")
    facts: dict[str, Any] = {
        "taskArn": arn,
        "clusterArn": cluster_arn,
        "taskDefinitionArn": definition["taskDefinitionArn"],
        "group": wanted.get("group") or f"family:{definition['family']}",
        "launchType": "FARGATE" if on_fargate else "EC2",
        "cpu": str(overrides.get("cpu") or definition.get("cpu") or _summed(definition, "cpu")),
        "memory": str(overrides.get("memory") or definition.get("memory") or _summed(definition, "memory")),
        "availabilityZone": f"{region}a",
        "connectivity": "CONNECTED",
        "enableExecuteCommand": bool(wanted.get("enableExecuteCommand")),
        "healthStatus": "UNKNOWN",
        "overrides": overrides,
        "tags": list(wanted.get("tags") or []),
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "attachments": _attachments(wanted),
        "containers": [_container(arn, container) for container in definition["containerDefinitions"]],
    }
    if wanted.get("propagateTags") == "TASK_DEFINITION":
        facts["tags"] = _merged(definition.get("tags") or [], facts["tags"])
    if on_fargate:
        facts.update(platformVersion="1.4.0", platformFamily="Linux")
        facts["ephemeralStorage"] = overrides.get("ephemeralStorage") or {"sizeInGiB": 20}
    if provider is not None:
        facts["capacityProviderName"] = provider
    if wanted.get("startedBy"):
        facts["startedBy"] = wanted["startedBy"]
    return facts


def _summed(definition: dict[str, Any], what: str) -> int:
    return sum(int(container.get(what) or 0) for container in definition["containerDefinitions"])


def _merged(first: list[dict[str, str]], second: list[dict[str, str]]) -> list[dict[str, str]]:
    merged = {tag["key"]: tag["value"] for tag in [*first, *second]}
    return [{"key": key, "value": value} for key, value in merged.items()]


def _attachments(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    network = (wanted.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    if not network.get("subnets"):
        return []
    details = [
        {"name": "subnetId", "value": network["subnets"][0]},
        {"name": "privateIPv4Address", "value": "127.0.0.1"},
    ]
    return [{"id": str(uuid.uuid4()), "type": "ElasticNetworkInterface", "status": "ATTACHED", "details": details}]


def _container(task_arn: str, definition: dict[str, Any]) -> dict[str, Any]:
    shape = {
        "containerArn": f"{task_arn.replace(':task/', ':container/')}/{uuid.uuid4()}",
        "taskArn": task_arn,
        "name": definition["name"],
        "image": definition["image"],
        "lastStatus": "PENDING",
        "networkInterfaces": [],
        "healthStatus": "UNKNOWN",
        "cpu": str(definition.get("cpu") or 0),
    }
    return shape | ({"memory": str(definition["memory"])} if definition.get("memory") else {})


def plan_containers(
    *,
    definition: dict[str, Any],
    facts: dict[str, Any],
    directory: Path,
    stop_scale: float,
    environment_of: Callable[[str, dict[str, str]], dict[str, str]],
) -> tuple[list[Container], dict[str, tuple[Stream, bool]]]:
    """The containers of a task, and where their lines go; `environment_of(name, given)` completes an environment."""
    overrides = {item["name"]: item for item in facts["overrides"].get("containerOverrides") or []}
    region = str(facts["taskArn"]).split(":")[3]
    task_id = str(facts["taskArn"]).rpartition("/")[2]
    containers, streams = [], {}
    for item in definition["containerDefinitions"]:
        override = overrides.get(item["name"], {})
        given = [*(item.get("environment") or []), *(override.get("environment") or [])]
        entry = item.get("entryPoint")
        memory = override.get("memory") or item.get("memory") or int(facts["memory"])
        plan = Plan(
            name=item["name"],
            image=item["image"],
            argv=tuple(override.get("command") or item.get("command") or ()),
            entry_point=None if not entry else tuple(entry),
            environment=environment_of(item["name"], {str(pair["name"]): str(pair["value"]) for pair in given}),
            directory=directory,
            memory_mib=int(memory) or None,
            essential=bool(item.get("essential", True)),
            stop_timeout_s=min(float(item.get("stopTimeout") or 30), 120.0) * stop_scale,
        )
        containers.append(Container(plan))
        logs = item.get("logConfiguration") or {}
        options = logs.get("options") or {}
        if logs.get("logDriver") == "awslogs":
            prefix = options.get("awslogs-stream-prefix", "ecs")
            where = (
                options.get("awslogs-region") or region,
                options["awslogs-group"],
                f"{prefix}/{item['name']}/{task_id}",
            )
            streams[item["name"]] = (where, options.get("awslogs-create-group") == "true")
    return containers, streams
