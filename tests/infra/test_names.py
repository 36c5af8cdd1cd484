"""What is made has one name, whether CloudFormation fills it in or we do."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from cloudexec.infra.names import as_deployed, concrete, in_template

ACCOUNT, REGION, STACK = "123456789012", "cn-north-1", "mine"
FILLED_IN = {
    "${AWS::Partition}": "aws-cn",
    "${AWS::Region}": REGION,
    "${AWS::AccountId}": ACCOUNT,
    "${AWS::StackName}": STACK,
    "${BucketName}": "a-bucket",
}
ROLES = {"task_role": "TaskRole", "execution_role": "ExecutionRole", "function_role": "FunctionRole"}
ROLES |= {"build_role": "BuildRole"}
MINE = concrete(account=ACCOUNT, region=REGION, stack=STACK, partition="aws-cn", bucket="a-bucket")


def filled_in(text: str) -> str:
    for word, value in FILLED_IN.items():
        text = text.replace(word, value)
    return text


def test_cloudformation_makes_the_names_that_we_foretell():
    made = {name: filled_in(text) for name, text in asdict(in_template()).items()}
    foretold = asdict(MINE)
    for name, logical_id in {**ROLES, "cluster": "Cluster"}.items():
        assert made.pop(name) == f"${{{logical_id}.Arn}}"  # CloudFormation knows it better: it ends roles' names itself
        del foretold[name]
    assert made == foretold


@pytest.mark.parametrize(("name", "logical_id"), list(ROLES.items()))
def test_a_role_begins_as_foretold_whatever_cloudformation_appends(name: str, logical_id: str):
    physical = f"{STACK}-{logical_id}-1A2B3C"
    deployed = getattr(as_deployed(MINE, {logical_id: physical}), name)
    assert deployed.endswith(f":role/{physical}")
    assert deployed.startswith(getattr(MINE, name).removesuffix("*"))
