"""What is in a stack: resources, objects, images, what is alive, what runs have left behind.

Called by: remove.py.   Calls: place.py, holders.py; runs/signs.py, for which runs are alive.
Whose is it? A run belongs to the stack in whose bucket its objects or its summary lie, or in whose cluster its tasks
run; a queue to the stack of its run. Names alone tell nothing: two stacks of one account share `cloudexec-*`.
Requests: the bucket is listed once; summaries are read of those runs alone that have written something lately.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from cloudexec.backends.pull.control import is_dead_here
from cloudexec.backends.pull.home import RUN_TAG
from cloudexec.errors import AccessDenied, AwsError, RunMissing, WireError
from cloudexec.infra.place import Place
from cloudexec.infra.runs.home import RunsHome, time_of
from cloudexec.infra.runs.signs import SILENT_S, SUMMARY_SILENT_S, Signs, is_client_alive
from cloudexec.infra.stack.holders import in_the_way

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


@dataclass(slots=True, kw_only=True)
class Traces:
    """What lies in the bucket of one run. control_s, summary_s: the ages of these objects, None without them; prefix:
    below which its summary lies."""

    control_s: float | None = None
    summary_s: float | None = None
    prefix: str = ""

    @property
    def is_fresh(self) -> bool:
        """Whether it can be a living client's; what is older no one need read."""
        return (self.control_s is not None and self.control_s < SILENT_S) or (
            self.summary_s is not None and self.summary_s < SUMMARY_SILENT_S
        )


def look_inside(place: Place, stack_id: str) -> Inside:
    """Everything that `down` tells and does. Errors: AwsError and its kin."""
    found = Inside(resources=dict(_resources(place, stack_id)))
    cluster = found.physical("Cluster")
    objects, runs = _objects(place, found.physical("Bucket"))
    tasks, others, working = _tasks(place, cluster)
    alive = [*(f"run {run} has workers in cluster {cluster}" for run in sorted(working))]
    alive += _clients(place, found.physical("Bucket"), {run: runs[run] for run in runs.keys() - working})
    return replace(
        found,
        objects=objects,
        n_images=_n_images(place, found.physical("Repository")),
        alive=tuple(alive),
        strange=tuple(f"task {arn} in cluster {cluster} was not started by cloudexec" for arn in others),
        held=tuple(in_the_way(place, found.resources)),
        tasks=tasks,
        queues=tuple(_queues(place, runs.keys() | working)) if cluster else (),
        definitions=tuple(_definitions(place, found.roles)) if cluster else (),
    )


def _resources(place: Place, stack_id: str) -> Iterator[tuple[str, tuple[str, str]]]:
    listed = place.pages("cloudformation", "list_stack_resources", {"StackName": stack_id}, "StackResourceSummaries")
    for each in listed:
        if each.get("PhysicalResourceId") and each["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
            yield each["LogicalResourceId"], (each["ResourceType"], each["PhysicalResourceId"])


# --- the bucket ---


def _objects(place: Place, bucket: str) -> tuple[dict[str, Kind], dict[str, Traces]]:
    """Objects by kind, and the runs that have some."""
    kinds: dict[str, Kind] = {}
    runs: dict[str, Traces] = {}
    for page in _pages(place, bucket):
        now_s = time_of(page)
        for version in _of_page(page):
            key, size = version["Key"], int(version.get("Size") or 0)
            kind = kind_of(key)
            before = kinds.get(kind, Kind())
            kinds[kind] = Kind(n=before.n + 1, n_bytes=before.n_bytes + size)
            if found := _RUN_KEY(key):
                run = runs.setdefault(found["run"] or found["summary"], Traces())
                is_there = "Size" in version and version.get("IsLatest", True)  # a mark of a removed one has no size
                age_s = max(0.0, now_s - version["LastModified"].timestamp())
                if is_there and found["rest"] == "control":
                    run.control_s = age_s
                elif is_there and found["summary"]:
                    run.summary_s, run.prefix = age_s, key[: found.start()].strip("/")
    return dict(sorted(kinds.items())), runs


def _clients(place: Place, bucket: str, runs: Mapping[str, Traces]) -> Iterator[str]:
    """Sentences on the runs whose clients are at work."""
    for run, traces in sorted(runs.items()):
        if traces.is_fresh and (why := _life(RunsHome(place, bucket, traces.prefix), run, traces)):
            yield f"run {run} {why}"


def _life(home: RunsHome, run: str, traces: Traces) -> str:
    """By which sign a run is alive; empty if it is not. What cannot be read speaks for the run.

    A run on Lambda has no control object as long as it has no long calls: its summary is the only sign then.
    """
    has_beat = traces.control_s is not None and traces.control_s < SILENT_S
    sign = "its heartbeat is fresh" if has_beat else f"it wrote its summary {traces.summary_s or 0.0:.0f} s ago"
    if traces.summary_s is not None:
        try:
            summary = home.read(run)
        except RunMissing:  # removed meanwhile
            return f"has a client: {sign}" if has_beat else ""
        except (WireError, AccessDenied) as error:
            return f"may have a client: {sign}, and that cannot be read: {error.what}"
        signs = Signs(traces.control_s, traces.summary_s, None, is_dead_here(summary.client.process))
        if summary.is_over or not is_client_alive(summary, signs):
            return ""
    return f"has a client: {sign}"


def kind_of(key: str) -> str:
    """What an object is, for people: the word of its place."""
    for word in ("runs", "summaries", "jobs", "results"):
        if f"/{word}/" in f"/{key}":
            return word
    top = key.partition("/")[0]
    return top if top in ("code", "builds") and "/" in key else "other objects"


def versions(place: Place, bucket: str) -> Iterator[Mapping[str, Any]]:
    """All versions of all objects, and marks of removed ones, of a bucket of this account; none if it is not there."""
    return itertools.chain.from_iterable(map(_of_page, _pages(place, bucket)))


def _of_page(page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return itertools.chain(page.get("Versions") or (), page.get("DeleteMarkers") or ())


def _pages(place: Place, bucket: str) -> Iterator[Mapping[str, Any]]:
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
        yield page
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
