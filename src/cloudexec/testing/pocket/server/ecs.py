"""Tasks that really run: RunTask, StopTask, DescribeTasks, ListTasks, tags. Clusters and definitions are moto's.

Called by:  front.py; control.py, for faults at somebody's word and for looking.
Calls:      checks.py, tasks.py, memory.py; moto.py for clusters and task definitions.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cloudexec.testing.pocket.server import checks, memory
from cloudexec.testing.pocket.server.checks import client_error, invalid
from cloudexec.testing.pocket.server.containers import (
    EVENTS_SUFFIX,
    EVENTS_VARIABLE,
    MARK,
    Container,
    Plan,
    kill_marked,
    local_argv,
    make_python_links,
    podman_argv,
    process_environment,
)
from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.logs import LogShipper
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, json_answer
from cloudexec.testing.pocket.server.tasks import Fate, Pace, Task, new_task_facts, plan_containers
from cloudexec.testing.pocket.settings import PocketSettings

NO_CAPACITY: Final = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
EMPTY_START: Final = "Task failed to start"
SPOT_REASON: Final = "Your Spot Task was interrupted."
MOST_DESCRIBED: Final = 100
SERVICE_OPERATIONS: Final = ("StartTask", "ExecuteCommand", "UpdateTaskProtection")


class Ecs:
    """Answers what concerns tasks."""

    def __init__(self, moto: Moto, faults: FaultBook, settings: PocketSettings, pocket_id: str, port: int) -> None:
        self._moto, self._faults, self._settings = moto, faults, settings
        self._pocket_id, self._port = pocket_id, port
        self.root = Path(tempfile.mkdtemp(prefix="pocket-"))
        self._links = self.root / "bin"
        make_python_links(self._links)
        self._shipper = LogShipper(moto)
        self._lock = threading.RLock()
        self._tasks: dict[str, Task] = {}  # by id
        self._tokens: dict[tuple[str, str], tuple[str, list[str], list[dict[str, Any]]]] = {}
        self._no_more = threading.Event()
        self._operations: dict[str, Callable[[Request, dict[str, Any]], dict[str, Any]]] = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "DescribeTasks": self._describe_tasks,
            "ListTasks": self._list_tasks,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
            "RegisterTaskDefinition": self._register,
            "DescribeClusters": self._describe_clusters,
            "DeleteCluster": self._delete_cluster,
        }
        if settings.memory_limits and settings.containers == "process":
            watcher = threading.Thread(target=memory.watch, args=(self.containers, self._no_more), daemon=True)
            watcher.start()

    def handles(self, request: Request) -> bool:
        """Whether this request is ours; else it is moto's."""
        if request.service != "ecs":
            return False
        if request.operation in SERVICE_OPERATIONS:
            raise Refusal("UnsupportedFeatureException", f"The pocket AWS has no {request.operation}.")
        if request.operation in ("TagResource", "UntagResource", "ListTagsForResource"):
            return ":task/" in str(request.json().get("resourceArn"))
        return request.operation in self._operations

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        return json_answer(self._operations[request.operation](request, request.json()), service="ecs")

    # --- operations ----------------------------------------------------------------------------

    def _run_task(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(request, wanted)
        definition = self._definition(request, wanted)
        count = checks.check_run(wanted, definition, cluster)
        self._check_network(request, wanted)
        token = wanted.get("clientToken")
        key, print_ = (str(cluster["clusterArn"]), str(token)), json.dumps(wanted, sort_keys=True)
        with self._lock:
            if token and key in self._tokens:
                return self._repeated(key, print_)
            tasks, failures = self._launch(request, wanted, definition, cluster, count)
            if token:
                self._tokens[key] = (print_, [task.id for task in tasks], failures)
        return {"tasks": [task.facts for task in tasks], "failures": failures}

    def _repeated(self, key: tuple[str, str], print_: str) -> dict[str, Any]:
        known, ids, failures = self._tokens[key]
        tasks = [self._tasks[task_id] for task_id in ids if task_id in self._tasks]
        if known != print_:
            what = "The request's clientToken was used before with other parameters."
            raise Refusal("ConflictException", what, resourceIds=[task.arn for task in tasks])
        return {"tasks": [task.facts for task in tasks], "failures": failures}

    def _launch(
        self,
        request: Request,
        wanted: dict[str, Any],
        definition: dict[str, Any],
        cluster: dict[str, Any],
        count: int,
    ) -> tuple[list[Task], list[dict[str, Any]]]:
        strategy = wanted.get("capacityProviderStrategy") or []
        if not strategy and not wanted.get("launchType"):
            strategy = cluster.get("defaultCapacityProviderStrategy") or []
        if not strategy and wanted.get("launchType") != "FARGATE":
            raise invalid("No Container Instances were found in your cluster.")
        providers: list[str | None] = [*checks.spread(count, strategy)] if strategy else [None] * count
        tasks, failures = [], []
        for provider in providers:
            facts = new_task_facts(
                cluster=cluster, definition=definition, wanted=wanted, region=request.region, provider=provider
            )
            rule = self._faults.launch(provider, facts["taskArn"])
            if rule is not None and rule.kind == "run_task_failures":
                failures.append(failure(str(rule.details.get("reason") or NO_CAPACITY), str(cluster["clusterArn"])))
                continue
            fate = Fate() if rule is None else Fate(kind=rule.kind, reason=str(rule.details.get("reason") or ""))
            tasks.append(self._create(facts, definition, fate))
        return tasks, failures

    def _create(self, facts: dict[str, Any], definition: dict[str, Any], fate: Fate) -> Task:
        task_id = str(facts["taskArn"]).rpartition("/")[2]
        directory = self.root / task_id
        directory.mkdir()
        role = facts["overrides"].get("taskRoleArn") or definition.get("taskRoleArn")
        basis = self._basis(str(facts["taskArn"]).split(":")[3], task_id, directory, bool(role))
        containers, streams = plan_containers(
            definition=definition,
            facts=facts,
            directory=directory,
            stop_scale=self._settings.stop_scale,
            environment_of=lambda name, given: {
                **basis,
                **self._memory_events(directory, name),
                **given,
                MARK: f"{self.metadata_base}{task_id}/{name}",
            },
        )
        settings = self._settings
        pace = Pace(
            provisioning_s=settings.provisioning_s,
            pulling_s=settings.pulling_s,
            deprovisioning_s=settings.deprovisioning_s,
        )
        if fate.kind == "empty_start" and not fate.reason:
            fate = Fate(kind=fate.kind, reason=EMPTY_START)
        task = Task(
            facts=facts,
            containers=containers,
            streams=streams,
            argv_of=self._argv,
            fate=fate,
            pace=pace,
            shipper=self._shipper,
            on_stopped=lambda task: shutil.rmtree(directory, ignore_errors=True),
        )
        self._tasks[task_id] = task
        task.start()
        return task

    def _memory_events(self, directory: Path, name: str) -> dict[str, str]:
        """Where a container reads how often memory has killed one of its processes; podman has the kernel's count."""
        path = str(directory / f"{name}{EVENTS_SUFFIX}")
        return {EVENTS_VARIABLE: path} if self._settings.containers == "process" else {}

    def _basis(self, region: str, task_id: str, directory: Path, has_role: bool) -> dict[str, str]:
        """What every container of a task finds in its environment."""
        basis = {} if self._settings.containers == "podman" else process_environment(directory, self._links)
        basis.update(
            AWS_REGION=region,
            AWS_DEFAULT_REGION=region,
            AWS_EXECUTION_ENV="AWS_ECS_FARGATE",
            AWS_EC2_METADATA_DISABLED="true",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{self._port}",
        )
        if has_role:
            basis["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{self.metadata_base}{task_id}/credentials"
        return basis

    @property
    def metadata_base(self) -> str:
        """Below it each container has its metadata; it marks everything that this pocket started."""
        return f"http://127.0.0.1:{self._port}/_pocket/v4/{self._pocket_id}/"

    def _argv(self, plan: Plan) -> list[str]:
        if self._settings.containers == "podman":
            return podman_argv(plan, self._pocket_id)
        return local_argv(plan, {image: list(words) for image, words in self._settings.images.items()})

    def _stop_task(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        self._cluster(request, wanted)
        task = self.find(str(wanted.get("task", "")))
        if task is None:
            raise invalid("The referenced task was not found.")
        task.stop("UserInitiated", wanted.get("reason") or "Task stopped by user")
        return {"task": task.facts}

    def _describe_tasks(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(request, wanted)
        names = wanted.get("tasks") or []
        if not names:
            raise invalid("Tasks cannot be empty.")
        if len(names) > MOST_DESCRIBED:
            raise invalid(f"Tasks cannot have more than {MOST_DESCRIBED} elements.")
        shapes, failures = [], []
        age_s = self._faults.staleness_s()
        for name in names:
            shape = self._seen(str(name), str(cluster["clusterArn"]), age_s)
            if shape is None:
                arn = (
                    name
                    if name.startswith("arn:")
                    else f"{cluster['clusterArn']}/{name}".replace(":cluster/", ":task/")
                )
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                tags = {"tags": shape["tags"]} if "TAGS" in (wanted.get("include") or []) else {"tags": []}
                shapes.append({**shape, **tags})
        return {"tasks": shapes, "failures": failures}

    def _seen(self, name: str, cluster_arn: str, age_s: float) -> dict[str, Any] | None:
        task = self.find(name)
        if task is None or task.facts["clusterArn"] != cluster_arn:
            return None
        if time.monotonic() - task.created_s < self._settings.missing_for_s:
            return None
        return task.wire(age_s)

    def _list_tasks(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(request, wanted)
        others = [name for name in ("family", "containerInstance", "serviceName", "launchType") if wanted.get(name)]
        if wanted.get("startedBy") and others:
            raise invalid(f"cannot specify startedBy together with {others[0]}")
        most = wanted.get("maxResults") or 100
        if not 1 <= most <= 100:
            raise invalid("maxResults must be between 1 and 100.")
        found = [task.arn for task in self.tasks() if self._is_listed(task, str(cluster["clusterArn"]), wanted)]
        first = _page_start(wanted.get("nextToken"))
        page: dict[str, Any] = {"taskArns": found[first : first + most]}
        if first + most < len(found):
            page["nextToken"] = f"page-{first + most}"
        return page

    def _is_listed(self, task: Task, cluster_arn: str, wanted: dict[str, Any]) -> bool:
        facts = task.facts
        family = str(facts["taskDefinitionArn"]).rpartition("/")[2].partition(":")[0]
        return (
            facts["clusterArn"] == cluster_arn
            and facts["desiredStatus"] == (wanted.get("desiredStatus") or "RUNNING")
            and wanted.get("startedBy") in (None, facts.get("startedBy"))
            and wanted.get("family") in (None, family)
            and wanted.get("launchType") in (None, facts["launchType"])
            and not wanted.get("serviceName")
            and not wanted.get("containerInstance")
            and time.monotonic() - task.created_s >= self._settings.missing_for_s
        )

    def _tag(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        self._tagged(wanted).tag({tag["key"]: tag.get("value", "") for tag in wanted.get("tags") or []})
        return {}

    def _untag(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        self._tagged(wanted).tag({}, tuple(wanted.get("tagKeys") or ()))
        return {}

    def _list_tags(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        return {"tags": self._tagged(wanted).facts["tags"]}

    def _tagged(self, wanted: dict[str, Any]) -> Task:
        task = self.find(str(wanted.get("resourceArn")))
        if task is None:
            raise invalid("The specified task was not found. Specify a valid task ARN and try again.")
        return task

    def _register(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        checks.check_definition(wanted)
        return self._moto.call("ecs", "RegisterTaskDefinition", wanted, region=request.region)

    def _describe_clusters(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        reply = self._moto.call("ecs", "DescribeClusters", wanted, region=request.region)
        for cluster in reply["clusters"]:
            states = [
                task.facts["lastStatus"] for task in self.tasks() if task.facts["clusterArn"] == cluster["clusterArn"]
            ]
            cluster["runningTasksCount"] = states.count("RUNNING")
            cluster["pendingTasksCount"] = sum(states.count(s) for s in ("PROVISIONING", "PENDING", "ACTIVATING"))
        return reply

    def _delete_cluster(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        arn = self._cluster(request, wanted)["clusterArn"]
        if any(task.facts["clusterArn"] == arn and task.stopped_s is None for task in self.tasks()):
            raise Refusal("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        return self._moto.call("ecs", "DeleteCluster", wanted, region=request.region)

    # --- what moto knows -----------------------------------------------------------------------

    def _cluster(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        asked = {"clusters": [wanted.get("cluster") or "default"]}
        found = self._moto.kept("ecs", "DescribeClusters", asked, region=request.region)["clusters"]
        if not found:
            raise Refusal("ClusterNotFoundException", "Cluster not found.")
        return dict(found[0])

    def _definition(self, request: Request, wanted: dict[str, Any]) -> dict[str, Any]:
        if not wanted.get("taskDefinition"):
            raise client_error("TaskDefinition can not be blank.")
        asked = {"taskDefinition": wanted["taskDefinition"], "include": ["TAGS"]}
        try:
            reply = self._moto.kept("ecs", "DescribeTaskDefinition", asked, region=request.region)
        except Refusal as refusal:
            raise client_error("TaskDefinition not found.") from refusal
        return {**reply["taskDefinition"], "tags": reply.get("tags") or []}

    def _check_network(self, request: Request, wanted: dict[str, Any]) -> None:
        network = (wanted.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
        for kind, names in (("Subnet", network.get("subnets")), ("SecurityGroup", network.get("securityGroups"))):
            if names and not self._moto.has(kind, list(names), region=request.region):
                word = "subnet" if kind == "Subnet" else "security group"
                raise invalid(f"Error retrieving {word} information for {names}: The {word} ID does not exist")

    # --- from outside --------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """All tasks that are still on record, oldest first."""
        with self._lock:
            self._tasks = {task_id: task for task_id, task in self._tasks.items() if not self._is_over(task)}
            return list(self._tasks.values())

    def find(self, name: str) -> Task | None:
        """A task by its id or ARN."""
        task = self._tasks.get(name.rpartition("/")[2])
        return None if task is None or self._is_over(task) else task

    def _is_over(self, task: Task) -> bool:
        return task.stopped_s is not None and time.monotonic() - task.stopped_s > self._settings.keep_stopped_s

    def containers(self) -> list[Container]:
        """Every container that is alive."""
        with self._lock:
            tasks = list(self._tasks.values())
        return [container for task in tasks for container in task.containers if container.is_alive]

    def interrupt(
        self, *, arn: str | None, count: int, warning_s: float | None, provider: str | None, seed: int
    ) -> list[str]:
        """Reclaim spot capacity: one task, or so many at random; the ARNs of those that were hit."""
        if arn is not None:
            task = self.find(arn)
            chosen = [task] if task else []
        else:
            running = [t for t in self.tasks() if t.facts["lastStatus"] == "RUNNING" and not t.facts.get("stopCode")]
            able = [t for t in running if provider in (None, t.facts.get("capacityProviderName"))]
            chosen = random.Random(seed).sample(able, min(count, len(able)))
        for task in chosen:
            task.stop("SpotInterruption", SPOT_REASON, warning_s)
            self._faults.note("interrupt", task=task.arn)
        return [task.arn for task in chosen]

    def kill(self, arn: str) -> bool:
        """SIGKILL to a task's main processes, as if the kernel had done it."""
        task = self.find(arn)
        if task is None or not any(container.is_alive for container in task.containers):
            return False
        for container in task.containers:
            container.kill()
        self._faults.note("kill", task=task.arn)
        return True

    def vanish(self, arn: str) -> bool:
        """End a task and its record: ECS answers MISSING."""
        task = self.find(arn)
        if task is None:
            return False
        task.stop("UserInitiated", "vanished", 0)
        with self._lock:
            self._tasks.pop(task.id, None)
        self._faults.note("vanish", task=task.arn)
        return True

    def end(self) -> None:
        """Kill everything and forget it."""
        with self._lock:
            tasks = list(self._tasks.values())
            self._tasks.clear()
            self._tokens.clear()
        for task in tasks:
            task.stop("UserInitiated", "the pocket AWS ends", 0)
        for task in tasks:
            task.wait_stopped(5.0)
        kill_marked(self.metadata_base)

    def close(self) -> None:
        """The server ends."""
        self._no_more.set()
        self.end()
        shutil.rmtree(self.root, ignore_errors=True)


def failure(reason: str, cluster_arn: str) -> dict[str, Any]:
    """One entry of RunTask's `failures`; a shortage on an instance names it, one of Fargate names nothing."""
    if reason.startswith("RESOURCE"):
        arn = cluster_arn.replace(":cluster/", ":container-instance/")
        return {"arn": f"{arn}/{os.urandom(16).hex()}", "reason": reason}
    return {"reason": reason}


def _page_start(token: object) -> int:
    if token is None:
        return 0
    try:
        return int(str(token).removeprefix("page-"))
    except ValueError:
        raise invalid("Invalid token.") from None
