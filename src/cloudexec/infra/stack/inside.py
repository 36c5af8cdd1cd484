"""What is in a stack: resources, objects, images, what is alive, what runs have left behind.

Called by: remove.py.   Calls: place.py, holders.py.
Whose is it? A run belongs to the stack in whose bucket its objects or its summary lie, or in whose cluster its tasks
run; a queue to the stack of its run. Names alone tell nothing: two stacks of one account share `cloudexec-*`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

from cloudexec.backends.pull.home import RUN_TAG
from cloudexec.errors import AccessDenied, AwsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.holders import in_the_way

_ALIVE_S: Final = 120.0  # a client writes its control object every 20 s
_RUN_KEY: Final = re.compile(r"(?:^|/)(?:runs/(?P<run>[^/]+)/(?P<rest>.+)|summaries/(?P<summary>[^/]+)\.json)$").search
_QUEUE: Final = re.compile(r"cloudexec-(?P<run>.+)-(?:work|out)$").search
# What `ECSExecutor(image=)` registers; see backends/ecs/requests.py.
_FAMILY: Final = re.compile(r"cloudexec-[a-z]+-[0-9a-f]{16}$").match
_TASKS_AT_ONCE: Final = 100
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Objects of one kind."""

    n: int = 0
    n_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What would go with the stack. alive, strange: sentences on runs at work, and on what others have in the way.

    held: sentences on why IAM would not let a policy or role go, each with the command that ends it.
    """

    resources: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # logical id -> type, physical id
    objects: Mapping[str, Kind] = field(default_factory=dict)
    n_images: int = 0
    alive: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    tasks: tuple[str, ...] = ()  # ARNs of ours that run
    queues: tuple[str, ...] = ()  # URLs of this stack's runs
    definitions: tuple[str, ...] = ()  # ARNs of task definitions with this stack's roles

    def physical(self, logical_id: str) -> str:
        """The id of a resource; empty if there is none."""
        return self.resources.get(logical_id, ("", ""))[1]

    @property
    def roles(self) -> set[str]:
        """The names of the stack's roles."""
        return {physical for kind, physical in self.resources.values() if kind == "AWS::IAM::Role"}


def look_inside(place: Place, stack_id: str, now: datetime | None = None) -> Inside:
    """Everything that `down` tells and does. Errors: AwsError and its kin."""
    found = Inside(resources=dict(_resources(place, stack_id)))
    cluster = found.physical("Cluster")
    objects, runs, beating = _objects(place, found.physical("Bucket"), now or datetime.now(timezone.utc))
    tasks, others, working = _tasks(place, cluster)
    alive = [*(f"run {run} has workers in cluster {cluster}" for run in sorted(working))]
    alive += [f"run {run} has a client: its heartbeat is fresh" for run in sorted(beating - working)]
    return replace(
        found,
        objects=objects,
        n_images=_n_images(place, found.physical("Repository")),
        alive=tuple(alive),
        strange=tuple(f"task {arn} in cluster {cluster} was not started by cloudexec" for arn in others),
        held=tuple(in_the_way(place, found.resources)),
        tasks=tasks,
        queues=tuple(_queues(place, runs | working)) if cluster else (),
        definitions=tuple(_definitions(place, found.roles)) if cluster else (),
    )


def _resources(place: Place, stack_id: str) -> Iterator[tuple[str, tuple[str, str]]]:
    listed = place.pages("cloudformation", "list_stack_resources", {"StackName": stack_id}, "StackResourceSummaries")
    for each in listed:
        if each.get("PhysicalResourceId") and each["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
            yield each["LogicalResourceId"], (each["ResourceType"], each["PhysicalResourceId"])


# --- the bucket ---


def _objects(place: Place, bucket: str, now: datetime) -> tuple[dict[str, Kind], set[str], set[str]]:
    """Objects by kind, the runs that have some, and the runs whose clients were at work a moment ago."""
    kinds: dict[str, Kind] = {}
    runs, beating = set(), set()
    for version in versions(place, bucket):
        key, size = version["Key"], int(version.get("Size") or 0)
        kind = kind_of(key)
        before = kinds.get(kind, Kind())
        kinds[kind] = Kind(n=before.n + 1, n_bytes=before.n_bytes + size)
        if found := _RUN_KEY(key):
            run = found["run"] or found["summary"]
            runs.add(run)
            age_s = (now - version["LastModified"]).total_seconds()
            if found["rest"] == "control" and version.get("IsLatest", True) and age_s < _ALIVE_S:
                beating.add(run)
    return dict(sorted(kinds.items())), runs, beating


def kind_of(key: str) -> str:
    """What an object is, for people: the word of its place."""
    for word in ("runs", "summaries", "jobs", "results"):
        if f"/{word}/" in f"/{key}":
            return word
    top = key.partition("/")[0]
    return top if top in ("code", "builds") and "/" in key else "other objects"


def versions(place: Place, bucket: str) -> Iterator[Mapping[str, Any]]:
    """All versions of all objects, and marks of removed ones, of a bucket of this account; none if it is not there."""
    if not bucket:
        return
    request: dict[str, Any] = {"Bucket": bucket, "ExpectedBucketOwner": place.account_id}
    while True:
        try:
            page = place.ask("s3", "list_object_versions", request)
        except AwsError as error:
            if error.code == "NoSuchBucket" or error.status == 404:
                return
            raise
        yield from page.get("Versions") or ()
        yield from page.get("DeleteMarkers") or ()
        if not page.get("IsTruncated"):
            return
        request |= {"KeyMarker": page["NextKeyMarker"]}
        if page.get("NextVersionIdMarker"):
            request |= {"VersionIdMarker": page["NextVersionIdMarker"]}


# --- ECS and SQS ---


def _tasks(place: Place, cluster: str) -> tuple[tuple[str, ...], list[str], set[str]]:
    """Tasks of ours in the cluster, of others, and the runs of ours."""
    ours, others, runs = [], [], set()
    for few in portions(tasks_in(place, cluster, "RUNNING"), _TASKS_AT_ONCE):
        said = place.ask("ecs", "describe_tasks", {"cluster": cluster, "tasks": few, "include": ["TAGS"]})
        for task in said.get("tasks") or ():
            run = {tag["key"]: tag.get("value", "") for tag in task.get("tags") or ()}.get(RUN_TAG)
            if run:
                ours.append(task["taskArn"])
                runs.add(run)
            else:
                others.append(task["taskArn"])
    return tuple(ours), others, runs


def tasks_in(place: Place, cluster: str, desired: str) -> list[str]:
    """ARNs of a cluster's tasks that are to be RUNNING or STOPPED; none if it is not there. Errors: AwsError."""
    if not cluster:
        return []
    try:
        return list(place.pages("ecs", "list_tasks", {"cluster": cluster, "desiredStatus": desired}, "taskArns"))
    except AwsError as error:
        if error.code == "ClusterNotFoundException":
            return []
        raise


def _queues(place: Place, runs: set[str]) -> Iterator[str]:
    """Queues of these runs, by name and by tag."""
    listed = place.pages("sqs", "list_queues", {"QueueNamePrefix": "cloudexec-", "MaxResults": 1000}, "QueueUrls")
    for url in listed:
        found = _QUEUE(str(url))
        if found and found["run"] in runs:
            try:
                tags = place.ask("sqs", "list_queue_tags", {"QueueUrl": url}).get("Tags") or {}
            except AwsError as error:
                if error.code == "QueueDoesNotExist":
                    continue
                raise
            if tags.get(RUN_TAG) == found["run"]:
                yield str(url)


def _definitions(place: Place, roles: set[str]) -> Iterator[str]:
    """Task definitions that `image=` has registered with roles of this stack."""
    request = {"familyPrefix": "cloudexec-", "status": "ACTIVE"}
    try:
        families = list(place.pages("ecs", "list_task_definition_families", request, "families"))
    except AccessDenied:
        return
    for family in filter(_FAMILY, families):
        yield from revisions(place, family, "ACTIVE", roles)


def revisions(place: Place, family: str, status: str, roles: set[str]) -> Iterator[str]:
    """Revisions of a task definition that have one of these roles. Errors: AwsError and its kin."""
    request = {"familyPrefix": family, "status": status}
    for arn in place.pages("ecs", "list_task_definitions", request, "taskDefinitionArns"):
        said = place.ask("ecs", "describe_task_definition", {"taskDefinition": arn})["taskDefinition"]
        named = {str(said.get(key) or "").rpartition("/")[2] for key in ("taskRoleArn", "executionRoleArn")}
        if named & roles:
            yield str(arn)


def _n_images(place: Place, repository: str) -> int:
    if not repository:
        return 0
    try:
        return sum(1 for _ in place.pages("ecr", "list_images", {"repositoryName": repository}, "imageIds"))
    except AwsError:  # it is told, and nothing depends on it
        return 0


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at once."""
    rest = iter(items)
    return iter(lambda: list(itertools.islice(rest, size)), [])
