"""What lies below /_pocket/: faults, looking, resetting, and what a container learns of itself.

Called by:  front.py.   Calls: ecs.py, sqs.py, awslambda/, cloudformation/, faults.py, moto.py.

  v4/POCKET/TASK/CONTAINER[/task]   the ECS task metadata endpoint, version 4
  v4/POCKET/TASK/credentials        keys that last; `expire` ends those given out so far
  everything else                   the Python face: pocket.py, faults.py
"""

from __future__ import annotations

import re
import secrets
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from cloudexec.testing.pocket.server.ecs import Ecs
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Request, json_answer
from cloudexec.testing.pocket.server.sqs import Sqs
from cloudexec.testing.pocket.settings import ACCESS_KEYS

if TYPE_CHECKING:
    from cloudexec.testing.pocket.server.awslambda.plane import Lambdas
    from cloudexec.testing.pocket.server.cloudformation.plane import CloudFormation
    from cloudexec.testing.pocket.server.front import Journal

LAST_S: Final = 6 * 3600.0
KEY_TAG: Final = re.compile(r"\{[^}]*\}")


class Credentials:
    """The keys that tasks and environments were given, those whose time is over, and who signs with which key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[str, dict[str, str]] = {}  # by task
        self._expired: set[str] = set()
        self._owners = {key: principal for principal, key in ACCESS_KEYS.items()}

    def of(self, task_id: str, principal: str = "task") -> dict[str, str]:
        """A task's keys, or those of a function's environment; new ones when the last have expired."""
        with self._lock:
            if task_id not in self._given:
                until = datetime.fromtimestamp(time.time() + LAST_S, timezone.utc)
                self._given[task_id] = {
                    "AccessKeyId": f"ASIA{secrets.token_hex(8).upper()}",
                    "SecretAccessKey": secrets.token_hex(20),
                    "Token": secrets.token_hex(32),
                    "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "RoleArn": "arn:aws:iam::123456789012:role/cloudexec-task",
                }
                self._owners[self._given[task_id]["AccessKeyId"]] = principal
            return self._given[task_id]

    def of_function(self, environment_id: str) -> dict[str, str]:
        """The keys of one environment of a function."""
        return self.of(environment_id, "function")

    def principal_of(self, access_key: str) -> str:
        """Who signed: client, setup, doctor, tester, task or function; `other` for a key that nobody was given."""
        return self._owners.get(access_key, "other")

    def expire(self) -> int:
        """End all keys given out so far; who asks again gets new ones."""
        with self._lock:
            self._expired.update(given["AccessKeyId"] for given in self._given.values())
            self._given.clear()
            return len(self._expired)

    def is_expired(self, access_key: str) -> bool:
        """Whether a request with this key must be refused."""
        return access_key in self._expired


class Control:
    """Answers what is not AWS."""

    def __init__(
        self,
        *,
        pocket_id: str,
        moto: Moto,
        ecs: Ecs,
        sqs: Sqs,
        lambdas: Lambdas,
        stacks: CloudFormation,
        forget: tuple[Callable[[], None], ...],
        credentials: Credentials,
        faults: FaultBook,
        journal: Journal,
        make_ready: Callable[[], dict[str, Any]],
    ) -> None:
        self.credentials = credentials
        self._pocket_id, self._moto, self._ecs, self._sqs, self._lambdas = pocket_id, moto, ecs, sqs, lambdas
        self._faults, self._journal, self._make_ready = faults, journal, make_ready
        self._stacks, self._forget = stacks, forget
        self._setup: dict[str, Any] = {}
        self._operations: dict[str, Callable[[dict[str, Any]], Any]] = {
            "setup": lambda _: self._setup,
            "reset": lambda _: self.reset(),
            "tasks": lambda _: self._tasks(),
            "stacks": lambda _: self._stacks.stacks(),
            "queues": lambda asked: self._queues(str(asked.get("region") or moto.region)),
            "buckets": lambda _: self._buckets(),
            "objects": lambda asked: self._objects(str(asked["bucket"])),
            "requests": lambda _: journal.told(),
            "requests/clear": lambda _: journal.clear(),
            "requests/record": self._record,
            "faults/add": lambda asked: self._faults.add(asked),
            "faults/clear": lambda asked: self._faults.clear(asked.get("rule")),
            "faults/fired": lambda _: self._faults.fired(),
            "interrupt": lambda asked: self._ecs.interrupt(**asked),
            "kill": lambda asked: self._ecs.kill(str(asked["arn"])),
            "vanish": lambda asked: self._ecs.vanish(str(asked["arn"])),
            "expire": lambda _: self._expire(),
            "environments": lambda _: self._lambdas.environments(),
            "invocations": lambda _: self._lambdas.invocations(),
        }

    def answer(self, request: Request) -> Answer:
        """The answer to what came to /_pocket/."""
        name = request.path.removeprefix("/_pocket/")
        if name.startswith("v4/"):
            return self._about_a_task(*name.split("/")[1:])
        if name not in self._operations:
            return json_answer({"error": f"there is no {request.path}"}, status=404)
        try:
            return json_answer(self._operations[name](request.json()))
        except (KeyError, TypeError, ValueError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, status=400)

    def reset(self) -> dict[str, Any]:
        """Back to how it was at the start: no tasks, no messages, no faults; the ready-made resources anew."""
        self._faults.forget()
        self._stacks.end()
        self._ecs.end()
        self._lambdas.end()
        self._sqs.reset()
        for forget in self._forget:
            forget()
        self._moto.reset()
        self._setup = self._make_ready()
        self._journal.write()  # a server that is killed later has not taken all of it along
        self._journal.clear()
        return self._setup

    def prepare(self) -> dict[str, Any]:
        """Make the ready-made resources for the first time."""
        self._setup = self._make_ready()
        return self._setup

    # --- what a container learns of itself -------------------------------------------------------

    def _about_a_task(self, pocket_id: str, task_id: str, *rest: str) -> Answer:
        task = self._ecs.find(task_id) if pocket_id == self._pocket_id else None
        if task is None:
            return json_answer({"error": "no such task"}, status=404)
        if rest == ("credentials",):
            return json_answer(self.credentials.of(task_id))
        facts = task.facts
        containers = [_container_metadata(facts, shape) for shape in facts["containers"]]
        if rest[1:] == ("task",):
            return json_answer(_task_metadata(facts, containers))
        found = [shape for shape in containers if shape["Name"] == rest[0]] if len(rest) == 1 else []
        return json_answer(found[0]) if found else json_answer({"error": "no such path"}, status=404)

    # --- looking -------------------------------------------------------------------------------

    def _tasks(self) -> list[dict[str, Any]]:
        return [{**task.facts, "containers": _with_insides(task)} for task in self._ecs.tasks()]

    def _queues(self, region: str) -> list[dict[str, Any]]:
        urls = self._moto.call("sqs", "ListQueues", {"MaxResults": 1000}, region=region).get("QueueUrls") or []
        names = [str(url).rpartition("/")[2] for url in urls]
        return [self._queue(region, name) for name in names]

    def _queue(self, region: str, name: str) -> dict[str, Any]:
        mailbox = self._sqs.mailbox(region, name)
        visible, in_flight, delayed = mailbox.counts()
        bodies = [message.body for message in mailbox.messages()]
        return {"name": name, "visible": visible, "in_flight": in_flight, "delayed": delayed, "bodies": bodies}

    def _buckets(self) -> list[str]:
        return _texts(self._moto.send("s3", "GET", "/").body, "Name")

    def _objects(self, bucket: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            query = f"list-type=2&start-after={after}" if after else "list-type=2"
            answer = self._moto.send("s3", "GET", f"/{bucket}", query=query)
            if not answer.ok:
                raise KeyError(f"there is no bucket {bucket!r}")
            keys, sizes = _texts(answer.body, "Key"), _texts(answer.body, "Size")
            found += [{"key": key, "size": int(size)} for key, size in zip(keys, sizes, strict=True)]
            if _texts(answer.body, "IsTruncated") != ["true"]:
                return found
            after = keys[-1]

    # --- doing ---------------------------------------------------------------------------------

    def _record(self, asked: dict[str, Any]) -> None:
        self._journal.keep = bool(asked["on"])

    def _expire(self) -> int:
        self._faults.note("expire_credentials")
        n_expired = self.credentials.expire()
        self._lambdas.retire()  # a new environment gets new keys
        return n_expired


def _with_insides(task: Any) -> list[dict[str, Any]]:
    """A task's containers as DescribeTasks tells them, with what only the pocket knows."""
    by_name = {container.plan.name: container for container in task.containers}
    shapes = []
    for shape in task.facts["containers"]:
        container = by_name[shape["name"]]
        inside = {"pid": container.pid, "log": container.log, "environment": container.plan.environment}
        command = [*(container.plan.entry_point or ()), *container.plan.argv]
        shapes.append({**shape, **inside, "command": command})
    return shapes


def _texts(body: bytes, tag: str) -> list[str]:
    """The texts of all elements of this name, whatever their namespace."""
    elements = ElementTree.fromstring(body).iter()
    return [element.text or "" for element in elements if KEY_TAG.sub("", element.tag) == tag]


def _task_metadata(facts: dict[str, Any], containers: list[dict[str, Any]]) -> dict[str, Any]:
    family, _, revision = str(facts["taskDefinitionArn"]).rpartition("/")[2].partition(":")
    return {
        "Cluster": facts["clusterArn"],
        "TaskARN": facts["taskArn"],
        "Family": family,
        "Revision": revision,
        "DesiredStatus": facts["desiredStatus"],
        "KnownStatus": facts["lastStatus"],
        "Limits": {"CPU": int(facts["cpu"]) / 1024, "Memory": int(facts["memory"])},
        "PullStartedAt": _instant(facts.get("pullStartedAt")),
        "PullStoppedAt": _instant(facts.get("pullStoppedAt")),
        "AvailabilityZone": facts["availabilityZone"],
        "LaunchType": facts["launchType"],
        "Containers": containers,
    }


def _container_metadata(facts: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    return {
        "DockerId": shape.get("runtimeId", ""),
        "Name": shape["name"],
        "DockerName": shape["name"],
        "Image": shape["image"],
        "Labels": {
            "com.amazonaws.ecs.cluster": facts["clusterArn"],
            "com.amazonaws.ecs.container-name": shape["name"],
            "com.amazonaws.ecs.task-arn": facts["taskArn"],
        },
        "DesiredStatus": facts["desiredStatus"],
        "KnownStatus": shape["lastStatus"],
        "Limits": {"CPU": int(shape["cpu"])},
        "CreatedAt": _instant(facts["createdAt"]),
        "StartedAt": _instant(facts.get("startedAt")),
        "Type": "NORMAL",
        "ContainerARN": shape["containerArn"],
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["127.0.0.1"]}],
    }


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
