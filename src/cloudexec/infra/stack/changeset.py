"""Make a change set, read it, execute it, drop it.

Called by: deploy.py.   Calls: changes.py, events.py, follow.py, look.py, place.py; template.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AwsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.changes import Change, is_nothing, read_changes
from cloudexec.infra.stack.events import Event, early_failures, remedy_of
from cloudexec.infra.stack.follow import Ended, Tell, carry_out
from cloudexec.infra.stack.look import REVIEW, glance
from cloudexec.infra.template.build import CAPABILITIES, as_json
from cloudexec.infra.template.options import STACK_TAG

_FASTEST_S: Final = 0.3
_SLOWEST_S: Final = 2.0
_EARLY: Final = "EarlyValidation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """A change set that is ready. No changes: there is nothing to do, and it has been dropped."""

    id: str
    stack_id: str
    changes: tuple[Change, ...] = ()


def make_change_set(
    place: Place,
    template: Mapping[str, Any],
    parameters: Mapping[str, str | None],
    *,
    is_new: bool,
    tags: Mapping[str, str],
) -> ChangeSet:
    """A change set, ready to be shown. parameters: None keeps a value. Errors: AwsError and its kin.

    A new stack that fails is removed at once, so that nothing is left and the same name can be used again; a change
    that fails goes back to what was.
    """
    name = f"cloudexec-{secrets.token_hex(8)}"
    request: dict[str, Any] = {
        "StackName": place.stack,
        "ChangeSetName": name,
        "ChangeSetType": "CREATE" if is_new else "UPDATE",
        "ClientToken": name,  # a repeat after a broken connection makes no second one
        "TemplateBody": as_json(dict(template)),
        "Parameters": [_parameter(key, value) for key, value in parameters.items()],
        "Capabilities": list(CAPABILITIES),
        "Tags": [{"Key": key, "Value": value} for key, value in {**tags, STACK_TAG: place.stack}.items()],
        **({"OnStackFailure": "DELETE"} if is_new else {}),
    }
    reply = place.ask("cloudformation", "create_change_set", request)
    change_set_id, stack_id = str(reply["Id"]), str(reply["StackId"])
    said = _when_ready(place, change_set_id)
    if said["Status"] == "CREATE_COMPLETE":
        changes = read_changes(_all_changes(place, change_set_id, said))
        return ChangeSet(id=change_set_id, stack_id=stack_id, changes=tuple(changes))
    reason = str(said.get("StatusReason") or said["Status"])
    early = _found_early(place, change_set_id) if _EARLY in reason else []
    drop(place, change_set_id, is_new=is_new)
    if is_nothing(said["Status"], reason):
        return ChangeSet(id="", stack_id=stack_id)
    what = f"CloudFormation refuses the change of stack {place.stack!r}"
    if early:
        named = "; ".join(f"{one.logical_id} ({one.kind}): {one.reason.rstrip('.')}" for one in early)
        remedy = remedy_of(early[0].kind, early[0].reason, early[0].physical_id)
        raise AwsError(f"{what}: {named}", said["Status"], remedy=remedy)
    raise AwsError(f"{what}: {reason}", said["Status"], remedy=remedy_of("", reason))


def _found_early(place: Place, change_set_id: str) -> list[Event]:
    """Which resources cannot be made: the change set itself only says that there are some."""
    try:
        request = {"ChangeSetName": change_set_id}
        return early_failures(place.pages("cloudformation", "describe_events", request, "OperationEvents"))
    except (AwsError, AttributeError):  # no right to ask; or boto3 is older than November 2025
        return []


def _parameter(key: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"ParameterKey": key, "UsePreviousValue": True}
    return {"ParameterKey": key, "ParameterValue": value}


def _when_ready(place: Place, change_set_id: str) -> dict[str, Any]:
    pause_s = _FASTEST_S
    while True:
        said = place.ask("cloudformation", "describe_change_set", {"ChangeSetName": change_set_id})
        if said["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            return said
        time.sleep(pause_s)
        pause_s = min(_SLOWEST_S, pause_s * 1.5)


def _all_changes(place: Place, change_set_id: str, said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = list(said.get("Changes") or ())
    if token := said.get("NextToken"):
        request = {"ChangeSetName": change_set_id, "NextToken": token}
        found += place.pages("cloudformation", "describe_change_set", request, "Changes")
    return found


def execute(place: Place, change_set: ChangeSet, tell: Tell) -> Ended:
    """Carry it out; it goes on in AWS whatever becomes of us. Errors: AwsError and its kin."""
    request = {"ChangeSetName": change_set.id, "ClientRequestToken": f"cloudexec-{secrets.token_hex(8)}"}
    return carry_out(place, change_set.stack_id, "execute_change_set", request, tell)


def drop(place: Place, change_set_id: str, *, is_new: bool) -> None:
    """Take a change set back, and the empty stack that came with it. Errors: AwsError and its kin."""
    try:
        place.ask("cloudformation", "delete_change_set", {"ChangeSetName": change_set_id})
    except AwsError as error:
        if error.code != "ChangeSetNotFound":
            raise
    if is_new and glance(place).status == REVIEW:
        place.ask("cloudformation", "delete_stack", {"StackName": place.stack})
