"""`cloudexec policy`: what is printed, for whom, and what is asked of AWS for it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from cloudexec.cli.main import run
from tests.specs.executors import pocket

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
ACCOUNT = ["--account", "123456789012", "--region", "eu-west-1"]


@pytest.fixture
def cloudexec(monkeypatch, capsys):
    """Run the program's words as somebody without credentials, or with an environment: exit code, stdout, stderr."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "CLOUDEXEC_"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDEXEC_CONFIG"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def go(*words, env=None):
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        return run(words), *capsys.readouterr()

    return go


def documents(text):
    """All JSON documents, one after the other."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


def actions(document):
    listed = [each["Action"] for each in document["Statement"]]
    return {action for each in listed for action in ([each] if isinstance(each, str) else each)}


def test_nobody_gets_a_policy_without_a_request_and_hears_that_it_has_patterns(cloudexec):
    code, out, err = cloudexec("policy", "client", *ACCOUNT)
    (document,) = documents(out)
    assert code == 0
    assert "arn:aws:iam::123456789012:role/cloudexec-TaskRole-*" in out
    assert "arn:aws:s3:::cloudexec-123456789012-eu-west-1/cloudexec/runs/*" in out
    assert {"ecs:RunTask", "lambda:InvokeFunction", "s3:GetObject"} <= actions(document)
    assert "Nothing was asked of AWS" in err


def test_a_policy_for_one_backend_with_other_names(cloudexec):
    names = ["--stack", "team", "--bucket", "ours", "--prefix", "x"]
    (document,) = documents(cloudexec("policy", "client", *ACCOUNT, "--only", "lambda", *names)[1])
    assert "arn:aws:s3:::ours/x/runs/*" in json.dumps(document)
    assert "function:team-worker" in json.dumps(document)
    assert not any(action.startswith("ecs:") for action in actions(document))


def test_what_is_too_long_is_printed_as_several_or_one_by_one(cloudexec):
    _, out, err = cloudexec("policy", "setup", *ACCOUNT)
    several = documents(out)
    assert f"{len(several)} policies" in err
    assert len(several) > 1
    singly = [documents(cloudexec("policy", "setup", *ACCOUNT, "--document", str(n))[1]) for n in (1, 2)]
    assert singly == [[several[0]], [several[1]]]
    code, _, err = cloudexec("policy", "setup", *ACCOUNT, "--document", "9")
    assert (code, "there is no document 9" in err) == (2, True)


def test_set_up_can_be_kept_from_making_roles_without_a_boundary(cloudexec):
    limit = "arn:aws:iam::123456789012:policy/limit-of-roles"
    made = documents(cloudexec("policy", "setup", *ACCOUNT, "--boundary", limit)[1])
    tied = [each for one in made for each in one["Statement"] if "iam:CreateRole" in each["Action"]]
    assert [each["Condition"] for each in tied] == [{"StringEquals": {"iam:PermissionsBoundary": limit}}]
    code, _, err = cloudexec("policy", "client", *ACCOUNT, "--boundary", limit)
    assert (code, "--boundary is for the policy of setup" in err) == (2, True)


def test_in_china_arns_are_those_of_china(cloudexec):
    out = cloudexec("policy", "task", "--account", "123456789012", "--region", "cn-north-1")[1]
    assert "arn:aws-cn:s3:::cloudexec-123456789012-cn-north-1/" in out
    assert "arn:aws:" not in out


def test_reasons_are_printed_for_people(cloudexec):
    out = cloudexec("policy", "task", *ACCOUNT, "--explain")[1]
    assert "to take calls\n  may  sqs:ReceiveMessage\n       sqs:DeleteMessage\n" in out
    assert "  if   s3:prefix StringLikeIfExists cloudexec/runs/*\n" in out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        pytest.param(["client", "--account", "12", "--region", "eu-west-1"], "'12' is not an AWS account id", id="id"),
        pytest.param(["task", *ACCOUNT, "--only", "lambda"], "task needs no rights for lambda", id="nothing to do"),
        pytest.param(["client", "--account", "123456789012"], "no AWS region is set", id="no region"),
        pytest.param(
            ["client", "--region", "eu-west-1", "--endpoint-url", "http://127.0.0.1:9"], "credentials", id="nobody"
        ),
    ],
)
def test_what_cannot_be_told_says_why_and_what_to_do(cloudexec, words, what):
    code, out, err = cloudexec("policy", *words)
    assert code in (1, 2)
    assert (out, what in err, "what to do:" in err) == ("", True, True), err


@pytest.fixture
def aws():
    """The pocket AWS that other tests use, too."""
    return pocket()


@pytest.fixture
def stack(aws):
    """The name of a stack with one role."""
    trust = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]}}
    template = json.dumps({"Resources": {"TaskRole": {"Type": "AWS::IAM::Role", "Properties": role}}})
    client = aws.session().client("cloudformation")
    client.create_stack(StackName="has-a-role", TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    client.get_waiter("stack_create_complete").wait(StackName="has-a-role", WaiterConfig={"Delay": 0.1})
    yield "has-a-role"
    client.delete_stack(StackName="has-a-role")
    client.get_waiter("stack_delete_complete").wait(StackName="has-a-role", WaiterConfig={"Delay": 0.1})
    client.close()


def test_a_stack_tells_the_names_of_its_roles_and_one_that_is_not_there_is_told(aws, stack, cloudexec):
    env = {name: value for name, value in aws.env_of("client").items() if name.startswith("AWS_")}
    code, out, err = cloudexec("policy", "client", "--stack", stack, env=env)
    assert (code, err) == (0, "")
    assert re.search(r'role/has-a-role-TaskRole-\w{6,}"', out)

    code, out, err = cloudexec("policy", "client", "--stack", "nowhere", env=env)
    assert (code, "No stack 'nowhere' can be seen" in err) == (0, True)
    assert "role/nowhere-TaskRole-*" in out


def test_the_commands_of_the_page_do_what_it_says(cloudexec):
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("cloudexec policy")]
    assert len(lines) == 4
    for line in lines:
        words = line.partition("#")[0].partition(">")[0].split()[1:]
        assert cloudexec(*words)[0] == 0, line
