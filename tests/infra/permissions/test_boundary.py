"""Set-up with a permissions boundary: no role without it, and it stays on."""

from __future__ import annotations

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.names import concrete
from cloudexec.infra.permissions import render
from cloudexec.infra.permissions.boundary import bounded
from cloudexec.infra.permissions.grants import Who
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import StackOptions

NAMES = concrete(account="123456789012", region="eu-west-1", stack="cloudexec")
LIMIT = "arn:aws:iam::123456789012:policy/limit-of-roles"
FULL = render.policy(Who.SETUP, NAMES)


def pairs(document):
    """Each action on each resource, and its conditions."""
    return {
        (action, str(statement["Resource"])): statement.get("Condition", {})
        for statement in document["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }


def test_roles_are_made_and_changed_with_the_boundary_alone():
    tied = {"StringEquals": {"iam:PermissionsBoundary": LIMIT}}
    before, after = pairs(FULL), pairs(bounded(FULL, LIMIT))
    changed = {action for (action, on) in before if after.get((action, on)) != before[action, on]}
    assert changed == {
        "iam:CreateRole",
        "iam:DeleteRolePermissionsBoundary",
        "iam:DeleteRolePolicy",
        "iam:PutRolePermissionsBoundary",
        "iam:PutRolePolicy",
    }
    assert {action for (action, _), condition in after.items() if condition == tied} == changed - {
        "iam:DeleteRolePermissionsBoundary"
    }
    assert before.keys() - after.keys() == {
        (action, on) for action, on in before if action == "iam:DeleteRolePermissionsBoundary"
    }


def test_it_still_fits():
    assert all(render.characters(each) <= render.MANAGED_CHARACTERS for each in render.cut(bounded(FULL, LIMIT)))


@pytest.mark.parametrize("boundary", ["limit", "arn:aws:iam::123456789012:role/limit", ""])
def test_a_boundary_is_a_policys_arn(boundary):
    with pytest.raises(SettingsError, match="not the ARN of a policy"):
        bounded(FULL, boundary)


def test_each_role_of_the_template_gets_the_boundary_if_there_is_one():
    resources = template(StackOptions(builds=True))["Resources"].values()
    roles = [each["Properties"] for each in resources if each["Type"] == "AWS::IAM::Role"]
    wanted = {"Fn::If": ["HasRoleBoundary", {"Ref": "RoleBoundary"}, {"Ref": "AWS::NoValue"}]}
    assert [role["PermissionsBoundary"] for role in roles] == [wanted] * 4
