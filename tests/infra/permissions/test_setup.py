"""Whoever makes the stack may do with each of its resources what CloudFormation does, and nothing that it does not."""

from __future__ import annotations

import pytest

from cloudexec.infra.permissions.grants import Part, Who
from cloudexec.infra.permissions.render import grants_of
from cloudexec.infra.permissions.setup import SETUP
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import StackOptions
from tests.infra.permissions.handlers import HANDLERS

OPTIONS = [
    pytest.param(StackOptions(), [Part.ECS, Part.LAMBDA, Part.IMAGES], id="the usual stack"),
    pytest.param(StackOptions(ecs=False), [Part.LAMBDA, Part.IMAGES], id="Lambda alone"),
    pytest.param(StackOptions(function=False), [Part.ECS, Part.IMAGES], id="ECS alone"),
    pytest.param(StackOptions(network="new", builds=True), list(Part), id="all of it"),
]


def actions_in(grants):
    return {action for grant in grants for action in grant.actions}


@pytest.mark.parametrize(("options", "parts"), OPTIONS)
def test_each_resource_of_a_template_can_be_created_read_updated_and_deleted(options, parts):
    may = actions_in(grants_of(Who.SETUP, parts))
    kinds = {resource["Type"] for resource in template(options)["Resources"].values()}
    lacking = {kind: HANDLERS[kind] - may for kind in kinds}
    # Functions of images are pulled from the repository, whose rights every stack's set-up has.
    assert {kind: actions for kind, actions in lacking.items() if actions} == {}


def test_nothing_is_granted_for_resources_that_no_template_has():
    (whole,) = [each.values[0] for each in OPTIONS if each.id == "all of it"]
    kinds = {resource["Type"] for resource in template(whole)["Resources"].values()}
    handled = {action for grant in SETUP for action, why in grant.indirect.items() if why.startswith("CloudFormation")}
    # `doctor` asks the last one.
    assert handled - {action for kind in kinds for action in HANDLERS[kind]} == {"lambda:GetFunctionConcurrency"}
    assert kinds == HANDLERS.keys()


def test_what_can_be_named_is_restricted_by_name_and_what_cannot_is_by_a_condition():
    """Whoever may write any role's policy, or any function's code, may do everything."""
    dangerous = (
        "iam:",
        "lambda:Update",
        "lambda:Create",
        "s3:Put",
        "s3:Delete",
        "ec2:Create",
        "ec2:Delete",
        "ec2:Auth",
    )
    for grant in SETUP:
        if any(action.startswith(dangerous) for action in grant.actions) and not grant.optional:
            assert "*" not in grant.on, grant
    for grant in SETUP:
        changes = [one for one in grant.actions if one.startswith("ec2:") and not one.startswith("ec2:Describe")]
        assert not changes or grant.when, grant


def test_roles_are_handed_to_the_one_service_that_takes_them():
    passed = {
        (role, grant.when["StringEquals"]["iam:PassedToService"])
        for grant in SETUP
        for role in grant.on
        if "iam:PassRole" in grant.actions
    }
    assert passed == {
        ("{task_role}", "ecs-tasks.amazonaws.com"),
        ("{execution_role}", "ecs-tasks.amazonaws.com"),
        ("{function_role}", "lambda.amazonaws.com"),
        ("{build_role}", "codebuild.amazonaws.com"),
    }
