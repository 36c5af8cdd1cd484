"""Set-up whose roles must carry a permissions boundary: whoever may make any role may do everything.

Called by: cli/policy.py, tests.   Calls: render.py, for its shapes; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cloudexec.errors import SettingsError
from cloudexec.infra.permissions.render import Document

# What IAM can tie to the boundary that a role has, or is about to have.
_TIED: Final = ("iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy")
_TAKES_IT_OFF: Final = "iam:DeleteRolePermissionsBoundary"


def bounded(document: Document, boundary: str) -> Document:
    """The policy for roles with this boundary (an ARN) alone, which nobody takes off. Errors: SettingsError."""
    if not boundary.startswith("arn:") or ":policy/" not in boundary:
        what = f"{boundary!r} is not the ARN of a policy"
        raise SettingsError(what, remedy="give --boundary arn:aws:iam::ACCOUNT:policy/NAME")
    statements = [part for each in document["Statement"] for part in _parts(each, boundary)]
    return {"Version": document["Version"], "Statement": statements}


def _parts(statement: Mapping[str, Any], boundary: str) -> list[dict[str, Any]]:
    """The statement in two: what can be tied to the boundary, and what cannot."""
    actions = [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])
    tied = [action for action in actions if action in _TIED]
    others = [action for action in actions if action not in (*_TIED, _TAKES_IT_OFF)]
    if not tied:
        return [dict(statement)]
    condition = {"StringEquals": {"iam:PermissionsBoundary": boundary}}
    return [
        {**statement, "Action": tied, "Condition": condition},
        *([{**statement, "Action": others}] if others else []),
    ]
