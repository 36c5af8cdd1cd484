"""ECS: task definitions, and tasks that are simulated workers.

Called by: emulator.py.   Calls: fleet.py, which runs what is started here.
Every cluster exists. Launch limits are not enforced: the client is expected to keep them by itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from cloud.door import Answer
from cloud.fleet import Fleet, Worker

REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"
_JSON: Final = "Content-Type: application/x-amz-json-1.1\r\n"
_MOST_AT_ONCE: Final = 10
_KEPT: Final = ("startedBy", "group", "launchType", "platformVersion", "enableExecuteCommand")


class Task:
    """One task, as DescribeTasks tells it."""

    def __init__(self, asked: Mapping[str, Any], definition_arn: str, cluster: str) -> None:
        self.id = os.urandom(16).hex()
        self.cluster = cluster
        self.definition_arn = definition_arn
        self.asked = asked
        self.created_s = time.time()
        self.started_s = 0.0
        self.stopped_s = 0.0
        self.why = ""
        self.code = ""
        self.worker: Worker | None = None

    @property
    def arn(self) -> str:
        """Its name."""
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{self.cluster}/{self.id}"

    @property
    def status(self) -> str:
        """Where it stands."""
        return "STOPPED" if self.stopped_s else "RUNNING" if self.started_s else "PROVISIONING"

    def environment(self) -> dict[str, str]:
        """Of its first container, as far as RunTask has set it."""
        containers = self.asked.get("overrides", {}).get("containerOverrides") or [{}]
        return {item["name"]: item["value"] for item in containers[0].get("environment", [])}

    def told(self) -> dict[str, Any]:
        """For an answer."""
        names = [item.get("name", "worker") for item in self.asked.get("overrides", {}).get("containerOverrides", [])]
        container = {
            "containerArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container/{self.id}",
            "taskArn": self.arn,
            "name": (names or ["worker"])[0],
            "lastStatus": self.status if self.status != "PROVISIONING" else "PENDING",
        }
        said: dict[str, Any] = {
            "taskArn": self.arn,
            "clusterArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{self.cluster}",
            "taskDefinitionArn": self.definition_arn,
            "lastStatus": self.status,
            "desiredStatus": "STOPPED" if self.stopped_s else "RUNNING",
            "createdAt": self.created_s,
            "containers": [container],
            "version": 1 + bool(self.started_s) + bool(self.stopped_s),
            "tags": self.asked.get("tags", []),
            "attachments": [],
            **{name: self.asked[name] for name in _KEPT if name in self.asked},
        }
        if strategy := self.asked.get("capacityProviderStrategy"):
            said["capacityProviderName"] = strategy[0]["capacityProvider"]
        if self.started_s:
            said |= {"startedAt": self.started_s, "pullStartedAt": self.created_s, "pullStoppedAt": self.started_s}
        if self.stopped_s:
            said |= {"stoppedAt": self.stopped_s, "stoppedReason": self.why, "stopCode": self.code}
            container |= {"exitCode": 0}
        return said


class Ecs:
    """All tasks and task definitions."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tasks: dict[str, Task] = {}
        self._by_token: dict[str, list[Task]] = {}
        self._definitions: dict[str, list[dict[str, Any]]] = {}

    def act(self, operation: str, body: bytes) -> Answer:
        """Do what was asked."""
        do = _OPERATIONS.get(operation)
        if do is None:
            return _refusal("InvalidParameterException", f"{operation} is not there")
        return do(self, json.loads(body or b"{}"))

    def _run(self, asked: dict[str, Any]) -> Answer:
        if asked.get("count", 1) > _MOST_AT_ONCE:
            return _refusal("InvalidParameterException", "count > 10")
        token = asked.get("clientToken", "")
        tasks = self._by_token.get(token)
        if tasks is None:
            definition = self._definition(asked["taskDefinition"])
            cluster = _last(asked.get("cluster", "default"))
            tasks = [Task(asked, definition["taskDefinitionArn"], cluster) for _ in range(asked.get("count", 1))]
            for task in tasks:
                self._tasks[task.id] = task
                self._fleet.start(task)
        if token:
            self._by_token[token] = tasks
        return _answer({"tasks": [task.told() for task in tasks], "failures": []})

    def _describe(self, asked: dict[str, Any]) -> Answer:
        found = [self._tasks.get(_last(arn)) for arn in asked["tasks"]]
        missing = [arn for arn, task in zip(asked["tasks"], found, strict=True) if task is None]
        failures = [{"arn": arn, "reason": "MISSING"} for arn in missing]
        return _answer({"tasks": [task.told() for task in found if task], "failures": failures})

    def _list(self, asked: dict[str, Any]) -> Answer:
        wanted_stopped = asked.get("desiredStatus", "RUNNING") == "STOPPED"
        started_by = asked.get("startedBy")
        arns = [
            task.arn
            for task in self._tasks.values()
            if bool(task.stopped_s) == wanted_stopped and started_by in (None, task.asked.get("startedBy"))
        ]
        at, most = int(asked.get("nextToken", 0)), asked.get("maxResults", 100)
        more = {"nextToken": str(at + most)} if at + most < len(arns) else {}
        return _answer({"taskArns": arns[at : at + most], **more})

    def _stop(self, asked: dict[str, Any]) -> Answer:
        task = self._tasks.get(_last(asked["task"]))
        if task is None:
            return _refusal("InvalidParameterException", "The referenced task was not found.")
        self._fleet.stop(task, asked.get("reason", ""))
        return _answer({"task": task.told()})

    def _register(self, asked: dict[str, Any]) -> Answer:
        revisions = self._definitions.setdefault(asked["family"], [])
        return _answer({"taskDefinition": self._add_revision(asked["family"], asked, revisions)})

    def _describe_definition(self, asked: dict[str, Any]) -> Answer:
        return _answer({"taskDefinition": self._definition(asked["taskDefinition"]), "tags": []})

    def _clusters(self, asked: dict[str, Any]) -> Answer:
        told = [
            {
                "clusterArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{_last(name)}",
                "clusterName": _last(name),
                "status": "ACTIVE",
                "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
            }
            for name in asked.get("clusters", ["default"])
        ]
        return _answer({"clusters": told, "failures": []})

    def _definition(self, name: str) -> dict[str, Any]:
        """The definition of this name; one that nobody has registered is made up, as every cluster is."""
        family, _, revision = _last(name).partition(":")
        revisions = self._definitions.setdefault(family, [])
        if not revisions:
            container = {"name": "worker", "image": "worker", "essential": True}
            made_up = {"containerDefinitions": [container], "cpu": "1024", "memory": "2048"}
            self._add_revision(family, made_up, revisions)
        return revisions[int(revision) - 1 if revision else -1]

    def _add_revision(self, family: str, said: dict[str, Any], revisions: list[dict[str, Any]]) -> dict[str, Any]:
        number = len(revisions) + 1
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{number}"
        fixed = {"family": family, "revision": number, "taskDefinitionArn": arn, "status": "ACTIVE"}
        defaults = {"networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"]}
        revisions.append({**defaults, **{name: value for name, value in said.items() if name != "tags"}, **fixed})
        return revisions[-1]


_OPERATIONS: Final[dict[str, Callable[[Ecs, dict[str, Any]], Answer]]] = {
    "RunTask": Ecs._run,
    "DescribeTasks": Ecs._describe,
    "ListTasks": Ecs._list,
    "StopTask": Ecs._stop,
    "RegisterTaskDefinition": Ecs._register,
    "DescribeTaskDefinition": Ecs._describe_definition,
    "DescribeClusters": Ecs._clusters,
}


def _last(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _answer(content: dict[str, Any]) -> Answer:
    return Answer("200 OK", json.dumps(content).encode(), _JSON)


def _refusal(kind: str, text: str) -> Answer:
    return Answer("400 Bad Request", json.dumps({"__type": kind, "message": text}).encode(), _JSON)
