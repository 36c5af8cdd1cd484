"""Rights in the words of others: an IAM policy, a policy inside a template, Terraform.

Called by: template, boundary.py, doctor, cli/policy.py, scripts/permissions.py, tests.
Calls:     grants.py, names.py; pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cloudexec.infra.names import Names
from cloudexec.infra.permissions.grants import GRANTS, Grant, Part, Who

VERSION: Final = "2012-10-17"
# What IAM takes, in characters without white space: a managed policy; all inline policies of a user, of a role.
MANAGED_CHARACTERS: Final = 6144
USER_CHARACTERS: Final = 2048
ROLE_CHARACTERS: Final = 10_240
Document = dict[str, Any]


def grants_of(who: Who, parts: Iterable[Part] = tuple(Part)) -> tuple[Grant, ...]:
    """The rows for somebody, in their order."""
    wanted = set(parts) | {Part.COMMON}
    return tuple(grant for grant in GRANTS if grant.who is who and grant.part in wanted)


def policy(who: Who, names: Names, parts: Iterable[Part] = tuple(Part)) -> Document:
    """An IAM policy. Statements are in the table's order; a list of one is written as a text."""
    return {"Version": VERSION, "Statement": [statement(grant, names) for grant in grants_of(who, parts)]}


def cut(document: Document) -> list[Document]:
    """The same as policies that IAM takes as managed ones: several, if one would be too long; statements stay whole."""
    found: list[Document] = []
    for each in document["Statement"]:
        longer = {"Version": VERSION, "Statement": [*(found[-1]["Statement"] if found else []), each]}
        if found and characters(longer) <= MANAGED_CHARACTERS:
            found[-1] = longer
        else:
            found.append({"Version": VERSION, "Statement": [each]})
    return found


def characters(document: Document) -> int:
    """A policy's length as IAM counts it."""
    return len(json.dumps(document, separators=(",", ":")))


def in_cloudformation(document: Document) -> Document:
    """The same, with each text that CloudFormation must fill in as `Fn::Sub`."""

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return {"Fn::Sub": value} if "${" in value else value
        if isinstance(value, Mapping):
            return {name: filled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return value

    return {"Version": document["Version"], "Statement": [filled(each) for each in document["Statement"]]}


def statement(grant: Grant, names: Names) -> dict[str, Any]:
    """A row as a statement of a policy."""
    made: dict[str, Any] = {
        "Effect": "Allow",
        "Action": _one_or_many(grant.actions),
        "Resource": _one_or_many([names.put_into(each) for each in grant.on]),
    }
    if grant.when:
        made["Condition"] = {
            operator: {key: _filled(value, names) for key, value in keys.items()}
            for operator, keys in grant.when.items()
        }
    return made


def _filled(value: str | tuple[str, ...], names: Names) -> str | list[str]:
    return names.put_into(value) if isinstance(value, str) else _one_or_many([names.put_into(each) for each in value])


def _one_or_many(values: Iterable[str]) -> str | list[str]:
    listed = list(values)
    return listed[0] if len(listed) == 1 else listed


def as_json(document: Document) -> str:
    """As IAM's console takes it."""
    return json.dumps(document, indent=2)


def as_terraform(document: Document, name: str) -> str:
    """A resource `aws_iam_policy` of the AWS provider."""
    body = json.dumps(document, indent=2).replace("${", "$${").replace("%{", "%%{")  # HCL would fill them in
    indented = "\n".join(f"  {line}" if line else line for line in body.splitlines()).lstrip()
    label = name.replace("-", "_")
    return f'resource "aws_iam_policy" "{label}" {{\n  name   = "{name}"\n  policy = jsonencode({indented})\n}}\n'
