"""Rows become policies: names are put in, statements stay whole, and IAM's limits are kept."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SettingsError
from cloudexec.infra.names import as_deployed, concrete, in_template
from cloudexec.infra.permissions import render
from cloudexec.infra.permissions.grants import GRANTS, Part, Who

LONGEST = concrete(account="123456789012", region="ap-southeast-2", stack="s" * 40, partition="aws-us-gov")
NAMES = concrete(account="123456789012", region="eu-west-1", stack="cloudexec")
stacks = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,60}", fullmatch=True)


@given(stack=stacks, who=st.sampled_from(Who), parts=st.sets(st.sampled_from(Part)))
def test_policies_are_whole_and_each_fits_into_a_managed_one(stack, who, parts):
    names = concrete(account="123456789012", region="ap-southeast-2", stack=stack)
    several = render.cut(render.policy(who, names, parts))
    together = [statement for each in several for statement in each["Statement"]]
    assert together == render.policy(who, names, parts)["Statement"]
    assert all(render.characters(each) <= render.MANAGED_CHARACTERS for each in several)
    assert not re.search(r"\{\w+\}", json.dumps(together))  # no name was left out


def test_what_roles_carry_inside_them_fits_and_clients_need_one_policy_alone():
    for who in (Who.TASK, Who.FUNCTION, Who.EXECUTION, Who.BUILD):
        assert render.characters(render.policy(who, LONGEST)) <= render.ROLE_CHARACTERS
    for who in (Who.CLIENT, Who.TASK, Who.FUNCTION, Who.EXECUTION, Who.JOBS, Who.BUILD):
        assert len(render.cut(render.policy(who, LONGEST))) == 1
    assert len(render.cut(render.policy(Who.SETUP, LONGEST))) <= 3
    for who in (Who.JOBS, Who.TASK, Who.FUNCTION):
        assert render.characters(render.policy(who, NAMES)) <= render.USER_CHARACTERS


def test_each_row_says_why_and_names_each_action_once():
    for grant in GRANTS:
        assert grant.why
        assert len(set(grant.actions)) == len(grant.actions), grant
        assert all(re.fullmatch(r"[a-z0-9-]+:[A-Z]\w+", action) for action in grant.actions), grant
        assert not any(action.endswith("*") for action in grant.actions)
        assert "arn:aws:" not in "".join(grant.on)  # China and the US government have partitions of their own


def test_a_template_asks_cloudformation_for_what_it_does_not_know():
    made = render.in_cloudformation(render.policy(Who.CLIENT, in_template()))
    texts = json.dumps(made)
    assert '{"Fn::Sub": "arn:${AWS::Partition}:s3:::${BucketName}/cloudexec/runs/*"}' in texts
    assert "s3:GetObject" in made["Statement"][0]["Action"]


def test_a_deployed_stack_gives_its_roles_and_its_bucket():
    found = as_deployed(NAMES, {"TaskRole": "cloudexec-TaskRole-1A2B", "Bucket": "mine"})
    assert found.task_role == "arn:aws:iam::123456789012:role/cloudexec-TaskRole-1A2B"
    assert found.bucket == "mine"
    assert found.function_role == NAMES.function_role == "arn:aws:iam::123456789012:role/cloudexec-FunctionRole-*"


def test_terraform_does_not_fill_in_what_iam_does():
    document = {"Version": "2012-10-17", "Statement": [{"Resource": "arn:aws:s3:::b/${aws:username}/%{x}"}]}
    written = render.as_terraform(document, "cloudexec-client")
    assert "$${aws:username}/%%{x}" in written
    assert written.startswith('resource "aws_iam_policy" "cloudexec_client" {\n  name   = "cloudexec-client"\n')


@pytest.mark.parametrize("account", ["", "12345", "12345678901x", "１２３４５６７８９０１２"])
def test_an_account_has_twelve_digits(account):
    with pytest.raises(SettingsError, match="not an AWS account id"):
        concrete(account=account, region="eu-west-1", stack="cloudexec")
