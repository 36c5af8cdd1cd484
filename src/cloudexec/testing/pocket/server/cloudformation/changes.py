"""What an update would do to a stack: the `Changes` of a change set. Pure.

Called by:  operations.py, changesets.py.   Calls: model.py.

A reference to what is still to be made has no value yet. As in AWS's change sets, a placeholder stands for it, and
what depends on it is said to change, dynamically.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.intrinsics import references
from cloudexec.testing.pocket.server.cloudformation.model import Model
from cloudexec.testing.pocket.server.cloudformation.resources.kind import Kind, differing
from cloudexec.testing.pocket.server.cloudformation.stacks import Record

LATER: Final = "{{changeSet:KNOWN_AFTER_APPLY}}"
NO_CHANGES: Final = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
NO_UPDATES: Final = "No updates are to be performed."


def changes_of(model: Model, records: Mapping[str, Record], kinds: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """`Changes` of DescribeChangeSet: first what is added or modified, in the order of the work, then what goes."""
    there = {name: record for name, record in records.items() if record.is_there}
    known = dict(there)  # what keeps its physical id
    found = []
    for name in (name for level in model.levels for name in level):
        if name not in there:
            found.append(_change("Add", name, model.resources[name].type))
            continue
        details = _details(model, there[name], known, kinds[there[name].type])
        if not details:
            continue
        replacement = _replacement(details)
        if replacement != "False":
            del known[name]
        change = _change("Modify", name, there[name].type, there[name].physical_id)
        scope = sorted({detail["Target"]["Attribute"] for detail in details})
        found.append({**change, "Replacement": replacement, "Scope": scope, "Details": details})
    for name, record in there.items():
        if name not in model.resources:
            found.append(_change("Remove", name, record.type, record.physical_id))
    return [{"Type": "Resource", "ResourceChange": change} for change in found]


def _change(action: str, name: str, kind: str, physical_id: str = "") -> dict[str, Any]:
    change: dict[str, Any] = {"Action": action, "LogicalResourceId": name, "ResourceType": kind}
    if physical_id:
        change["PhysicalResourceId"] = physical_id
    return {**change, "Scope": [], "Details": []}


def outputs_now(model: Model, records: Mapping[str, Record]) -> list[dict[str, str]]:
    """The outputs as far as they can be known."""
    return model.outputs(*_lookups({name: record for name, record in records.items() if record.is_there}))


def _lookups(known: Mapping[str, Record]) -> tuple[Any, Any]:
    def reference(name: str) -> str:
        return known[name].physical_id if name in known else LATER

    def attribute(name: str, attribute: str) -> Any:
        return known[name].attributes.get(attribute, LATER) if name in known else LATER

    return reference, attribute


def _details(model: Model, record: Record, known: Mapping[str, Record], kind: Kind) -> list[dict[str, Any]]:
    name = record.logical_id
    declared = model.resources[name]
    wanted = model.properties(name, *_lookups(known), has_tags=kind.has_tags)  # as far as they can be known
    found = []
    for each in sorted(differing(wanted, record.properties)):
        place = {"Attribute": "Tags"} if each == "Tags" else {"Attribute": "Properties", "Name": each}
        target = {**place, "RequiresRecreation": "Always" if each in kind.replaced_by else "Never"}
        found.append(_detail(target, wanted.get(each), declared.properties.get(each), model))
    for attribute, is_same in (
        ("DeletionPolicy", declared.deletion_policy == record.deletion_policy),
        ("UpdateReplacePolicy", declared.update_replace_policy == record.update_replace_policy),
        ("Metadata", declared.metadata == record.metadata),
    ):
        if not is_same:
            found.append(_detail({"Attribute": attribute, "RequiresRecreation": "Never"}, None, None, model))
    return found


def _detail(target: dict[str, str], wanted: Any, written: Any, model: Model) -> dict[str, Any]:
    named = sorted({name for name, _ in references(written)})
    is_later = LATER in json.dumps(wanted)
    parameters = [name for name in named if name in model.texts]
    detail: dict[str, Any] = {
        "Target": target,
        "Evaluation": "Dynamic" if is_later else "Static",
        "ChangeSource": "DirectModification",
    }
    resources = [name for name in named if name in model.resources]
    if is_later and resources:
        return {**detail, "ChangeSource": "ResourceReference", "CausingEntity": resources[0]}
    if parameters:
        return {**detail, "ChangeSource": "ParameterReference", "CausingEntity": parameters[0]}
    return detail


def _replacement(details: list[dict[str, Any]]) -> str:
    recreating = [detail for detail in details if detail["Target"]["RequiresRecreation"] == "Always"]
    if any(detail["Evaluation"] == "Static" for detail in recreating):
        return "True"
    return "Conditional" if recreating else "False"


def is_nothing(
    model: Model,
    changes: list[dict[str, Any]],
    records: Mapping[str, Record],
    before: Model,
    outputs: list[dict[str, str]],
) -> bool:
    """Whether an update has nothing to do."""
    return not changes and dict(model.tags) == dict(before.tags) and outputs_now(model, records) == outputs
