"""Remove the stack and everything in it: `cloudexec down`.

Called by: cli/down.py.   Calls: look.py, inside.py, follow.py, settle.py.

    look ─> what is in it, what is alive? ─> show, ask ─> workers stopped, strays removed, bucket emptied
         ─> stack deleted, followed ─> (something has written to the bucket meanwhile: emptied and deleted once more)

Only what the stack's own records name is touched, and what runs have made that lie in its bucket or cluster.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.events import Event, last_failures, plain_reason, remedy_of
from cloudexec.infra.stack.follow import Ended, carry_out, wait
from cloudexec.infra.stack.inside import Inside, look_inside, portions, revisions, tasks_in, versions
from cloudexec.infra.stack.look import StackState, look
from cloudexec.infra.stack.settle import failure

_KEYS_AT_ONCE: Final = 1000
_MOST_ROUNDS: Final = 3
_STOPS_WITHIN_S: Final = 180.0  # the longest StopTimeout, and the network
_BUCKET: Final = "Bucket"


class Teller(Protocol):
    """How `down` speaks with whoever runs it."""

    def say(self, line: str) -> None:
        """What goes on."""

    def show_inside(self, inside: Inside, *, keep_bucket: bool) -> None:
        """What is about to go."""

    def event(self, event: Event) -> None:
        """What has happened to a resource."""

    def agrees(self, question: str) -> bool:
        """Whether to go on."""

    def begins(self, state: StackState) -> None:
        """It is about to go: nobody should be led to it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """How it ended; neither done nor refused: there was none. kept: sentences on what is still there, and why."""

    is_done: bool = False
    is_refused: bool = False
    kept: tuple[str, ...] = ()


def down(place: Place, teller: Teller, *, force: bool = False, keep_bucket: bool = False) -> Removal:
    """Remove the stack. force: also while runs are alive. Errors: SettingsError, AwsError and its kin."""
    state = look(place)
    if not state.status:
        return Removal()
    _check_ours(place, state)
    if state.is_busy:
        if state.status == "DELETE_IN_PROGRESS":
            teller.begins(state)
        teller.say(f"Stack {state.name!r} is {state.status}: waiting for that to end; Ctrl-C changes nothing.")
        state, _ = wait(place, state.id, teller.event)
        if state.status in ("", "DELETE_COMPLETE"):
            return Removal(is_done=True)
    inside = look_inside(place, state.id)
    _check_at_rest(state, inside, force=force)
    teller.show_inside(inside, keep_bucket=keep_bucket)
    if not teller.agrees(f"Remove stack {state.name!r} from account {place.account_id}, {place.region}?"):
        return Removal(is_refused=True)
    teller.begins(state)
    _remove_strays(place, inside, teller)
    kept = _remove_stack(place, state, inside, teller, keep_bucket=keep_bucket)
    _remove_revisions(place, state, inside)
    return Removal(is_done=True, kept=kept)


def _check_ours(place: Place, state: StackState) -> None:
    """Errors: SettingsError."""
    if not state.is_ours:
        what = f"stack {state.name!r} in account {place.account_id}, {place.region}, was not made by `cloudexec up`"
        raise SettingsError(what, remedy="name another one with --stack; it is left as it is")


def _check_at_rest(state: StackState, inside: Inside, *, force: bool) -> None:
    """Errors: SettingsError while somebody is at work."""
    if inside.strange:
        what = f"stack {state.name!r} cannot be removed: {'; '.join(inside.strange[:3])}"
        raise SettingsError(what, remedy="stop it, e.g. with `aws ecs stop-task`, and repeat")
    if inside.held:
        what = f"stack {state.name!r} cannot be removed: {'; '.join(sentence for sentence, _ in inside.held)}"
        commands = "; ".join(dict.fromkeys(command for _, command in inside.held))
        raise SettingsError(what, remedy=f"nothing was touched; do this, and repeat `cloudexec down`: {commands}")
    if inside.alive and not force:
        what = f"{len(inside.alive)} runs are alive: {'; '.join(inside.alive[:5])}"
        raise StillAlive(what, remedy="wait for them, or end them with `cloudexec stop RUN`; --force ends them all")


class StillAlive(SettingsError):
    """Runs are at work in what is to be removed."""


# --- what CloudFormation does not know of ---


def _remove_strays(place: Place, inside: Inside, teller: Teller) -> None:
    """What runs have made: workers that still run, queues, task definitions."""
    cluster = inside.physical("Cluster")
    for arn in inside.tasks:
        place.ask("ecs", "stop_task", {"cluster": cluster, "task": arn, "reason": "cloudexec down"})
    _wait_for_tasks(place, cluster, inside.tasks, teller)
    for url in inside.queues:
        _unless_gone(place, "sqs", "delete_queue", {"QueueUrl": url}, "QueueDoesNotExist")
    for arn in inside.definitions:
        place.ask("ecs", "deregister_task_definition", {"taskDefinition": arn})
    _delete_definitions(place, inside.definitions)


def _delete_definitions(place: Place, arns: Iterable[str]) -> None:
    for few in portions(arns, 10):
        place.ask("ecs", "delete_task_definitions", {"taskDefinitions": few})


def _remove_revisions(place: Place, state: StackState, inside: Inside) -> None:
    """CloudFormation only deregisters the worker's definition: each revision would stay in the account for ever."""
    if inside.physical("Cluster"):
        _delete_definitions(place, revisions(place, f"{state.name}-worker", "INACTIVE", inside.roles))


def _wait_for_tasks(place: Place, cluster: str, stopped: Sequence[str], teller: Teller) -> None:
    """Also for those that were told to stop before: the cluster goes when all have ended, their network with them."""
    if stopped:
        teller.say(f"Stopping {len(stopped)} workers; they get up to two minutes.")
    # ECS lists those that end or have ended, and forgets them after an hour.
    left = [*stopped, *tasks_in(place, cluster, "STOPPED")]
    deadline_s = time.monotonic() + _STOPS_WITHIN_S
    while left and time.monotonic() < deadline_s:
        said = place.ask("ecs", "describe_tasks", {"cluster": cluster, "tasks": left[:100]})
        ended = {task["taskArn"] for task in said.get("tasks") or () if task["lastStatus"] == "STOPPED"}
        ended |= {lost["arn"] for lost in said.get("failures") or ()}
        left = [arn for arn in left if arn not in ended]
        if left and not ended:
            time.sleep(1.0)


def _empty(place: Place, bucket: str, teller: Teller) -> None:
    """Remove every version of every object of this account's bucket."""
    n_removed = 0
    for few in portions(versions(place, bucket), _KEYS_AT_ONCE):
        # Only Key and VersionId may be said.
        keys = [{name: each[name] for name in ("Key", "VersionId") if name in each} for each in few]
        request = {
            "Bucket": bucket,
            "ExpectedBucketOwner": place.account_id,
            "Delete": {"Objects": keys, "Quiet": True},
        }
        errors = place.ask("s3", "delete_objects", request).get("Errors") or ()
        for error in errors:
            what = f"s3://{bucket}/{error.get('Key')} cannot be removed: {error.get('Code')}: {error.get('Message')}"
            raise AwsError(what, str(error.get("Code")), remedy="allow s3:DeleteObject on it, or keep the bucket")
        n_removed += len(keys)
    if n_removed:
        teller.say(f"Removed {n_removed} objects from s3://{bucket}")


def _unless_gone(place: Place, service: str, operation: str, request: dict[str, Any], code: str) -> None:
    try:
        place.ask(service, operation, request)
    except AwsError as error:
        if error.code != code:
            raise


# --- the stack ---


def _remove_stack(
    place: Place, state: StackState, inside: Inside, teller: Teller, *, keep_bucket: bool
) -> tuple[str, ...]:
    """Delete it; what was kept. Errors: AwsError."""
    bucket = inside.physical(_BUCKET)
    kept: list[str] = []
    retained: list[str] = []
    for _ in range(_MOST_ROUNDS):
        if not keep_bucket and bucket:
            _empty(place, bucket, teller)
        now, events = _deleted(place, state, teller, retained)
        if now.status in ("", "DELETE_COMPLETE"):
            return tuple(kept)
        failures = last_failures(events)
        others = [event for event in failures if event.logical_id != _BUCKET]
        is_bucket = len(others) < len(failures)
        if others or not is_bucket:
            raise _failed(now, others, events)
        if keep_bucket:
            # CloudFormation keeps only what it has failed to remove: a bucket that is not empty.
            retained = [_BUCKET]
            kept = [f"bucket {bucket} with {_objects_in(inside)}: --keep-bucket; `aws s3 rb s3://{bucket} --force`"]
    raise _failed(now, failures, events)


def _objects_in(inside: Inside) -> str:
    n, n_bytes = (sum(getattr(kind, name) for kind in inside.objects.values()) for name in ("n", "n_bytes"))
    return f"{n} objects ({n_bytes / 1024**2:.1f} MB)"


def _deleted(place: Place, state: StackState, teller: Teller, retained: list[str]) -> Ended:
    more = {"RetainResources": retained} if retained else {}
    return carry_out(place, state.id, "delete_stack", {"StackName": state.id, **more}, teller.event)


def _failed(state: StackState, failures: Sequence[Event], events: Sequence[Event]) -> AwsError:
    if not failures:
        return failure(state, events, "could not be removed")
    first = failures[0]
    more = f"; and {', '.join(each.logical_id for each in failures[1:])}" if failures[1:] else ""
    what = f"{first.logical_id} ({first.kind}) {first.physical_id}: {plain_reason(first.reason)}{more}"
    remedy = remedy_of(first.kind, first.reason, first.physical_id)
    remedy = remedy if "repeat" in remedy else f"{remedy}; then repeat `cloudexec down`"
    return AwsError(f"stack {state.name!r} is not removed: {what}", first.status, remedy=remedy)
