"""The stack: there, ours, whole, up to date, for this Python.

Called by: examine.py.   Calls: infra/stack/look.py; template, for what it would be today.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final

from cloudexec.infra.doctor.findings import Finding, detail, failed, ok, warning
from cloudexec.infra.doctor.scene import Scene
from cloudexec.infra.stack.look import StackState, glance, read_options
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import STACK_TAG, StackOptions

SUBJECT: Final = "stack"
_WORKING: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")


def check_stack(scene: Scene) -> list[Finding]:
    """What CloudFormation knows of it."""
    state = glance(scene.place, scene.stack)
    if state.is_absent:
        return judge_absence(scene.stack, is_named=bool(scene.ecs_settled.stack), is_needed=_is_needed(scene))
    is_current = True
    if state.is_ours:
        document = _document(scene, state.id)
        state = replace(state, options=read_options(document))
        is_current = state.options is None or is_same(document, state.options)
    python = "{}.{}".format(*sys.version_info[:2])
    return judge_stack(state, state.age_s(datetime.now(timezone.utc)), python, is_current=is_current)


def _is_needed(scene: Scene) -> bool:
    """Whether something is not set that the stack would tell."""
    parts = scene.wanted.parts
    lacks_ecs = any(name != "subnets" for name in scene.ecs_settled.missing)  # the default network has subnets
    lacks_function = not scene.function_settled.function
    if not parts:
        return lacks_ecs and lacks_function
    return ("ecs" in parts and lacks_ecs) or ("lambda" in parts and lacks_function)


def _document(scene: Scene, stack_id: str) -> Any:
    """The template as it was deployed."""
    said = scene.ask("cloudformation", "get_template", {"StackName": stack_id, "TemplateStage": "Original"})
    return said.get("TemplateBody")


def is_same(document: Any, options: StackOptions) -> bool:
    """Whether today's cloudexec would make this template. What is not JSON was deployed by hand. Pure."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return True
    return bool(json.loads(json.dumps(document, default=str)) == json.loads(json.dumps(template(options))))


def judge_absence(name: str, *, is_named: bool, is_needed: bool) -> list[Finding]:
    """There is none. Pure."""
    if is_named or is_needed:
        why = "" if is_named else ", and the settings do not name everything"
        remedy = "cloudexec up" if not is_named else "correct stack=, or make it: cloudexec up"
        return [failed(SUBJECT, f"there is no stack {name}{why}", remedy)]
    return [ok(SUBJECT, f"there is no stack {name}; the settings name everything that is needed")]


def judge_stack(found: StackState, age_s: float, python: str, *, is_current: bool) -> list[Finding]:
    """Whether runs can live in it. python: this client's. is_current: today's cloudexec would make the same. Pure."""
    named = f"stack {found.name}"
    facts = {"stack": found.name, "status": found.status, "outputs": dict(found.outputs)}
    because = f": {found.reason}" if found.reason else ""
    if found.is_broken:
        text = f"{named} is {found.status}: nothing in it works{because}"
        return [failed(SUBJECT, text, "cloudexec down, then cloudexec up", **facts)]
    if found.is_busy:
        text = f"{named} is {found.status}: it is being changed now"
        return [warning(SUBJECT, text, "wait until that is done", **facts)]
    findings = []
    if found.status not in _WORKING:
        text = f"{named} is {found.status}: the last change failed{because}"
        findings.append(warning(SUBJECT, text, "cloudexec up tries it again, and tells why it fails", **facts))
    if not found.is_ours:
        text = f"{named} was not made by `cloudexec up`: it has no tag {STACK_TAG}={found.name}"
        remedy = "nothing need be wrong; `cloudexec down` will not touch it"
        return [*findings, warning(SUBJECT, text, remedy, **facts)]
    if found.options is None:
        text = f"the template of {named} does not tell what it was made from"
        return [*findings, warning(SUBJECT, text, "cloudexec up makes it anew from today's template", **facts)]
    findings += _judge_options(found, found.options, python, is_current=is_current)
    if not findings:
        options = found.options
        parts = " and ".join(name for name, has in (("ECS", options.ecs), ("Lambda", options.function)) if has)
        findings.append(ok(SUBJECT, f"{named}, {found.status}, changed {_ago(age_s)}", **facts))
        findings.append(detail(SUBJECT, f"it has {parts}, Python {options.python}, network: {options.network}"))
    return findings


def _judge_options(found: StackState, options: StackOptions, python: str, *, is_current: bool) -> list[Finding]:
    findings = []
    if options.python != python:
        text = f"stack {found.name} runs Python {options.python}, this client {python}: results cannot be unpickled"
        remedy = f"use Python {options.python} here, or run `cloudexec up --python {python}`"
        findings.append(failed(SUBJECT, text, remedy, python=options.python))
    needed = {"Worker": options.ecs, "Function": options.function}
    if lacking := [name for name, is_meant in needed.items() if is_meant and not found.outputs.get(name)]:
        text = f"stack {found.name} is half made: it has no {' and no '.join(lacking).lower()} yet"
        findings.append(failed(SUBJECT, text, "cloudexec up goes on where it was interrupted"))
    if not is_current:
        text = f"stack {found.name} was made by another version of cloudexec, or was changed by hand"
        findings.append(warning(SUBJECT, text, "cloudexec up shows what would change, and asks before it does"))
    return findings


def _ago(age_s: float) -> str:
    for unit, length_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if age_s >= length_s:
            n = int(age_s // length_s)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
