"""The stack: there, ours, whole, up to date, for this Python.

Called by: examine.py.   Calls: CloudFormation; template, for what it would be today.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cloudexec.errors import SettingsError
from cloudexec.infra.doctor.findings import Finding, detail, failed, ok, warning
from cloudexec.infra.doctor.scene import Scene
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import OPTIONS_KEY, STACK_TAG, StackOptions

SUBJECT: Final = "stack"
_ABSENT: Final = ("ValidationError",)
_EMPTY: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")
_WORKING: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")


@dataclass(frozen=True, kw_only=True)
class StackFacts:
    """A stack as CloudFormation tells it. options: what the template says that it was made from; None: it says nothing.

    is_current: whether this version of cloudexec would make the same template from them.
    """

    name: str
    status: str
    reason: str = ""
    is_ours: bool = True
    age_s: float = 0.0
    options: Mapping[str, Any] | None = None
    is_current: bool = True
    outputs: Mapping[str, str]


def check_stack(scene: Scene) -> list[Finding]:
    """What CloudFormation knows of it."""
    name = scene.stack
    said = scene.ask_or_none("cloudformation", "describe_stacks", {"StackName": name}, *_ABSENT)
    listed = (said or {}).get("Stacks") or []
    if not listed or listed[0]["StackStatus"] == "DELETE_COMPLETE":
        return judge_absence(name, is_named=bool(scene.ecs_settled.stack), is_needed=_is_needed(scene))
    document = _document(scene, name)
    options = (document.get("Metadata") or {}).get(OPTIONS_KEY)
    facts = StackFacts(
        name=name,
        status=listed[0]["StackStatus"],
        reason=str(listed[0].get("StackStatusReason") or ""),
        is_ours=any(tag["Key"] == STACK_TAG for tag in listed[0].get("Tags") or []),
        age_s=_age_s(listed[0].get("LastUpdatedTime") or listed[0].get("CreationTime")),
        options=options,
        is_current=is_current(document, options),
        outputs={each["OutputKey"]: each.get("OutputValue", "") for each in listed[0].get("Outputs") or []},
    )
    return judge_stack(facts, "{}.{}".format(*sys.version_info[:2]))


def _is_needed(scene: Scene) -> bool:
    """Whether something is not set that the stack would tell."""
    parts = scene.wanted.parts
    ecs, function = scene.ecs_settled, scene.function_settled
    missing = [name for name in ecs.missing if name != "subnets"]  # the default network has them
    return (
        bool("ecs" in parts and missing)
        or bool("lambda" in parts and not function.function)
        or (not parts and bool(missing) and not function.function)
    )


def _document(scene: Scene, name: str) -> Mapping[str, Any]:
    """The template as it was deployed; {} if it is not JSON: then we have not made it."""
    body = scene.ask("cloudformation", "get_template", {"StackName": name, "TemplateStage": "Original"})["TemplateBody"]
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return {}
    return body if isinstance(body, Mapping) else {}


def _age_s(at: object) -> float:
    return time.time() - at.timestamp() if isinstance(at, datetime) else 0.0


def is_current(document: Mapping[str, Any], options: Mapping[str, Any] | None) -> bool:
    """Whether today's cloudexec would make this template. Pure."""
    if options is None:
        return True
    try:
        today = template(StackOptions.from_metadata(options))
    except (SettingsError, KeyError):
        return True  # told on its own
    return bool(json.loads(json.dumps(document, default=str)) == json.loads(json.dumps(today)))


def judge_absence(name: str, *, is_named: bool, is_needed: bool) -> list[Finding]:
    """There is none. Pure."""
    if is_named or is_needed:
        why = "" if is_named else ", and the settings do not name everything"
        remedy = "cloudexec up" if not is_named else "correct stack=, or make it: cloudexec up"
        return [failed(SUBJECT, f"there is no stack {name}{why}", remedy)]
    return [ok(SUBJECT, f"there is no stack {name}; the settings name everything that is needed")]


def judge_stack(found: StackFacts, python: str) -> list[Finding]:
    """Whether runs can live in it. python: this client's. Pure."""
    named = f"stack {found.name}"
    facts = {"stack": found.name, "status": found.status, "outputs": dict(found.outputs)}
    because = f": {found.reason}" if found.reason else ""
    if found.status in _EMPTY:
        text = f"{named} is {found.status}: nothing in it works{because}"
        return [failed(SUBJECT, text, "cloudexec down, then cloudexec up", **facts)]
    if found.status.endswith("_IN_PROGRESS"):
        text = f"{named} is {found.status}: it is being changed now"
        return [warning(SUBJECT, text, "wait; `cloudexec up` follows it", **facts)]
    findings = []
    if found.status not in _WORKING:
        text = f"{named} is {found.status}: the last change failed{because}"
        findings.append(warning(SUBJECT, text, "cloudexec up tries it again, and tells why it fails", **facts))
    if not found.is_ours:
        text = f"{named} was not made by `cloudexec up`: it has no tag {STACK_TAG}"
        remedy = "nothing need be wrong; `cloudexec down` will not touch it"
        return [*findings, warning(SUBJECT, text, remedy, **facts)]
    findings += _judge_options(found, python)
    if not findings:
        findings.append(ok(SUBJECT, f"{named}, {found.status}, changed {_ago(found.age_s)}", **facts))
    return findings


def _judge_options(found: StackFacts, python: str) -> list[Finding]:
    if found.options is None:
        text = f"the template of stack {found.name} does not tell what it was made from"
        return [warning(SUBJECT, text, "cloudexec up makes it anew from today's template")]
    try:
        options = StackOptions.from_metadata(found.options)
    except SettingsError as error:
        return [failed(SUBJECT, error.what, error.remedy)]
    findings = []
    if options.python != python:
        text = f"stack {found.name} runs Python {options.python}, this client {python}: results cannot be unpickled"
        remedy = f"use Python {options.python} here, or run `cloudexec up` with this Python"
        findings.append(failed(SUBJECT, text, remedy, python=options.python))
    needed = {"Worker": options.ecs, "Function": options.function}
    if lacking := [name for name, is_meant in needed.items() if is_meant and not found.outputs.get(name)]:
        text = f"stack {found.name} is half made: it has no {' and no '.join(lacking).lower()} yet"
        findings.append(failed(SUBJECT, text, "cloudexec up goes on where it was interrupted"))
    if not found.is_current:
        text = f"stack {found.name} was made by another version of cloudexec, or was changed by hand"
        findings.append(warning(SUBJECT, text, "cloudexec up shows what would change, and asks before it does"))
    if not findings:
        parts = " and ".join(name for name, has in (("ECS", options.ecs), ("Lambda", options.function)) if has)
        findings = [detail(SUBJECT, f"it has {parts}, Python {options.python}, network: {options.network}")]
        findings.insert(0, ok(SUBJECT, f"stack {found.name}, {found.status}, changed {_ago(found.age_s)}"))
    return findings


def _ago(age_s: float) -> str:
    for unit, length_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if age_s >= length_s:
            n = int(age_s // length_s)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
