"""Rights in the words of others: an IAM policy, a policy inside a template, Terraform.

Called by: template, cli/policy.py, tests.   Calls: grants.py, names.py; pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cloudexec.infra.names import Names
from cloudexec.infra.permissions.grants import GRANTS, Grant, Part, Who

VERSION: Final = "2012-10-17"
Document = dict[str, Any]


def grants_of(who: Who, parts: Iterable[Part] = tuple(Part)) -> tuple[Grant, ...]:
    """The rows for somebody, in their order."""
    wanted = set(parts) | {Part.COMMON}
    return tuple(grant for grant in GRANTS if grant.who is who and grant.part in wanted)


def policy(who: Who, names: Names, parts: Iterable[Part] = tuple(Part)) -> Document:
    """An IAM policy. Statements are in the table's order; a list of one is written as a text."""
    return {"Version": VERSION, "Statement": [_statement(grant, names) for grant in grants_of(who, parts)]}


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


def _statement(grant: Grant, names: Names) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Action": _one_or_many(grant.actions),
        "Resource": _one_or_many([names.put_into(each) for each in grant.on]),
    }
    if grant.when:
        statement["Condition"] = {
            operator: {key: _filled(value, names) for key, value in keys.items()}
            for operator, keys in grant.when.items()
        }
    return statement


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
