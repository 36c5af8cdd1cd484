"""Requests as AWS describes them to IAM (action, resource, condition keys), judged by iam-simulate.

What the emulator cannot tell (test_rights.py, NOT_TOLD), and what CloudFormation asks for set-up, is allowed as the
table means it, and denied without its row, on other resources, and under other conditions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloudexec.infra.names import concrete
from cloudexec.infra.permissions.grants import GRANTS, Who
from cloudexec.infra.permissions.render import policy
from tests.emulators.deeds import DEEDS
from tests.emulators.servers import ROOT
from tests.emulators.test_rights import NOT_TOLD, without

ACCOUNT = "123456789012"
NAMES = concrete(account=ACCOUNT, region="eu-west-1", stack="cloudexec")
SIMULATOR = ROOT / ".venv" / "tool-iam-simulate"


def arn(service, rest, *, region="eu-west-1"):
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request. others: (resource, condition keys) with which it must be denied; None stands for the same."""

    who: Who
    action: str
    on: str
    context: dict[str, object] = field(default_factory=dict)
    others: tuple[tuple[str | None, dict[str, object] | None], ...] = ()


OURS = {"ecs:cluster": arn("ecs", "cluster/cloudexec")}
THEIRS = {"ecs:cluster": arn("ecs", "cluster/theirs")}
DEFINITION, TASK = arn("ecs", "task-definition/cloudexec-worker:3"), arn("ecs", "task/cloudexec/0123456789abcdef")
STREAM = arn("logs", "log-group:/cloudexec/cloudexec:log-stream:s")
THEIR_STREAM = arn("logs", "log-group:/theirs:log-stream:s")
FUNCTION, THEIR_FUNCTION = arn("lambda", "function:cloudexec-worker"), arn("lambda", "function:theirs")
TASK_ROLE = f"arn:aws:iam::{ACCOUNT}:role/cloudexec-TaskRole-1A2B"
FUNCTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/cloudexec-FunctionRole-1A2B"
ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"
TO_ECS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
TO_LAMBDA = {"iam:PassedToService": "lambda.amazonaws.com"}
BY_STACK = {"aws:CalledVia": ["cloudformation.amazonaws.com"]}
TAGGED = {"aws:ResourceTag/aws:cloudformation:stack-name": "cloudexec"}
TAGGED_BY_OTHERS = {"aws:ResourceTag/aws:cloudformation:stack-name": "theirs"}

CLIENT = (
    Asked(
        who=Who.CLIENT,
        action="ecs:RunTask",
        on=DEFINITION,
        context=OURS,
        others=((None, THEIRS), (None, {}), (arn("ecs", "task-definition/theirs:1"), OURS)),
    ),
    Asked(who=Who.CLIENT, action="ecs:DescribeTasks", on=TASK, context=OURS, others=((None, THEIRS),)),
    Asked(who=Who.CLIENT, action="ecs:StopTask", on=TASK, context=OURS, others=((None, THEIRS), (None, {}))),
    Asked(
        who=Who.CLIENT,
        action="ecs:ListTasks",
        on=arn("ecs", "container-instance/cloudexec/*"),
        context=OURS,
        others=((None, THEIRS),),
    ),
    Asked(
        who=Who.CLIENT,
        action="ecs:TagResource",
        on=TASK,
        context={"ecs:CreateAction": "RunTask"},
        others=((None, {}), (None, {"ecs:CreateAction": "CreateService"})),
    ),
    Asked(
        who=Who.CLIENT,
        action="iam:PassRole",
        on=TASK_ROLE,
        context=TO_ECS,
        others=((None, TO_LAMBDA), (None, {}), (ADMIN, TO_ECS), (FUNCTION_ROLE, TO_ECS)),
    ),
    Asked(who=Who.CLIENT, action="lambda:GetAccountSettings", on="*"),
    Asked(who=Who.CLIENT, action="lambda:GetFunctionConcurrency", on=FUNCTION, others=((THEIR_FUNCTION, None),)),
    Asked(who=Who.CLIENT, action="lambda:GetFunctionEventInvokeConfig", on=FUNCTION, others=((THEIR_FUNCTION, None),)),
    Asked(who=Who.CLIENT, action="lambda:InvokeFunction", on=FUNCTION, others=((THEIR_FUNCTION, None),)),
    Asked(who=Who.CLIENT, action="logs:GetLogEvents", on=STREAM, others=((THEIR_STREAM, None),)),
)
LOGS = tuple(
    Asked(who=who, action=action, on=STREAM, others=((THEIR_STREAM, None),))
    for who in (Who.FUNCTION, Who.EXECUTION, Who.BUILD)
    for action in ("logs:CreateLogStream", "logs:PutLogEvents")
)
IMAGES = tuple(
    Asked(
        who=who, action=action, on=arn("ecr", "repository/cloudexec"), others=((arn("ecr", "repository/theirs"), None),)
    )
    for who, actions in (
        (Who.EXECUTION, ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")),
        (Who.BUILD, ("ecr:PutImage", "ecr:UploadLayerPart", "ecr:InitiateLayerUpload", "ecr:CompleteLayerUpload")),
        (Who.SETUP, ("ecr:PutImage", "ecr:CreateRepository", "ecr:SetRepositoryPolicy", "ecr:DescribeImages")),
    )
    for action in actions
)
THE_BUCKET = "arn:aws:s3:::cloudexec-123456789012-eu-west-1"
# S3 asks for the right to list, and knows no prefix, before it says 404 instead of 403 of a key that is not there.
ABSENT_KEYS = tuple(
    Asked(
        who=who,
        action="s3:ListBucket",
        on=THE_BUCKET,
        others=((None, {"s3:prefix": "theirs/"}), ("arn:aws:s3:::theirs", None)),
    )
    for who in (Who.CLIENT, Who.TASK, Who.FUNCTION, Who.JOBS)
)
STACK = arn("cloudformation", "stack/cloudexec/0f1e")
SETUP = (
    *(
        Asked(
            who=Who.SETUP,
            action=f"cloudformation:{name}",
            on=STACK,
            others=((arn("cloudformation", "stack/theirs/0f1e"), None),),
        )
        for name in ("CreateChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "DeleteStack", "ContinueUpdateRollback")
    ),
    Asked(
        who=Who.SETUP,
        action="iam:PassRole",
        on=TASK_ROLE,
        context=TO_ECS,
        others=((None, TO_LAMBDA), (ADMIN, TO_ECS), (FUNCTION_ROLE, TO_ECS)),
    ),
    Asked(
        who=Who.SETUP,
        action="iam:CreatePolicy",
        on=f"arn:aws:iam::{ACCOUNT}:policy/cloudexec-ClientPolicy-1A2B",
        others=((f"arn:aws:iam::{ACCOUNT}:policy/admin", None),),
    ),
    Asked(
        who=Who.SETUP,
        action="iam:CreateServiceLinkedRole",
        on=f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
        context={"iam:AWSServiceName": "ecs.amazonaws.com"},
        others=((None, {"iam:AWSServiceName": "organizations.amazonaws.com"}),),
    ),
    Asked(
        who=Who.SETUP,
        action="ecs:CreateCluster",
        on=arn("ecs", "cluster/cloudexec"),
        others=((arn("ecs", "cluster/theirs"), None),),
    ),
    Asked(
        who=Who.SETUP,
        action="ecs:DeleteTaskDefinitions",
        on=arn("ecs", "task-definition/cloudexec-python-0123456789abcdef:1"),
        others=((arn("ecs", "task-definition/theirs:1"), None),),
    ),
    Asked(who=Who.SETUP, action="ecs:StopTask", on=TASK, context=OURS, others=((None, THEIRS),)),
    Asked(who=Who.SETUP, action="lambda:CreateFunction", on=FUNCTION, others=((THEIR_FUNCTION, None),)),
    Asked(who=Who.SETUP, action="lambda:AddPermission", on=FUNCTION, others=((THEIR_FUNCTION, None),)),
    Asked(
        who=Who.SETUP,
        action="s3:CreateBucket",
        on="arn:aws:s3:::cloudexec-123456789012-eu-west-1",
        others=(("arn:aws:s3:::theirs", None),),
    ),
    Asked(
        who=Who.SETUP,
        action="s3:PutBucketPolicy",
        on="arn:aws:s3:::cloudexec-123456789012-eu-west-1",
        others=(("arn:aws:s3:::theirs", None),),
    ),
    Asked(
        who=Who.SETUP,
        action="logs:CreateLogGroup",
        on=arn("logs", "log-group:/cloudexec/cloudexec"),
        others=((arn("logs", "log-group:/theirs"), None),),
    ),
    Asked(
        who=Who.SETUP,
        action="codebuild:StartBuild",
        on=arn("codebuild", "project/cloudexec"),
        others=((arn("codebuild", "project/theirs"), None),),
    ),
    *(
        Asked(who=Who.SETUP, action=f"ec2:{name}", on=arn("ec2", thing), context=BY_STACK, others=((None, {}),))
        for name, thing in (
            ("CreateSecurityGroup", "security-group/sg-1"),
            ("CreateSecurityGroup", "vpc/vpc-1"),
            ("CreateTags", "security-group/sg-1"),
            ("AuthorizeSecurityGroupEgress", "security-group/sg-1"),
            ("CreateVpc", "vpc/vpc-1"),
            ("CreateSubnet", "subnet/subnet-1"),
            ("CreateRoute", "route-table/rtb-1"),
            ("CreateVpcEndpoint", "vpc-endpoint/vpce-1"),
            ("AttachInternetGateway", "internet-gateway/igw-1"),
        )
    ),
    *(
        Asked(
            who=Who.SETUP,
            action=f"ec2:{name}",
            on=arn("ec2", thing),
            context={**TAGGED, **BY_STACK},
            others=((None, TAGGED_BY_OTHERS), (None, BY_STACK)),
        )
        for name, thing in (
            ("DeleteSecurityGroup", "security-group/sg-1"),
            ("DeleteVpc", "vpc/vpc-1"),
            ("DeleteSubnet", "subnet/subnet-1"),
            ("DetachInternetGateway", "internet-gateway/igw-1"),
        )
    ),
)
ASKED = (*CLIENT, *ABSENT_KEYS, *LOGS, *IMAGES, *SETUP)


def simulated(requests):
    """What IAM says to each: Allowed, ImplicitlyDenied, or an error."""
    node = shutil.which("node")
    if node is None or not (SIMULATOR / "node_modules").exists():
        reason = "iam-simulate is not installed: it needs Node.js; run scripts/emulators.sh"
        is_due = node is not None and os.environ.get("CI")  # a machine need not have Node.js
        pytest.fail(reason) if is_due else pytest.skip(reason)
    program = Path(__file__).with_name("rights_simulate.mjs")
    done = subprocess.run(
        [node, str(program)],
        input=json.dumps(requests),
        env={"PATH": os.environ["PATH"], "IAM_SIMULATE": str(SIMULATOR)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    return json.loads(done.stdout)


def request(asked, on=None, context=None, *, has_row=True):
    document = policy(asked.who, NAMES)
    return {
        "policy": document if has_row else without(document, asked.action),
        "action": asked.action,
        "resource": on or asked.on,
        "context": asked.context if context is None else context,
    }


def told(names_and_requests):
    """Requests with their answers, all asked at once: a process takes a second."""
    answers = simulated([request for _, request in names_and_requests])
    return {name: answer for (name, _), answer in zip(names_and_requests, answers, strict=True)}


def name_of(asked, rest=""):
    return f"{asked.who.value} {asked.action} on {asked.on} {rest}".strip()


def test_what_the_table_means_is_allowed():
    answers = told([(name_of(asked), request(asked)) for asked in ASKED])
    assert {name: answer for name, answer in answers.items() if answer != "Allowed"} == {}


def test_without_its_row_it_is_denied():
    answers = told([(name_of(asked), request(asked, has_row=False)) for asked in ASKED])
    assert {name: answer for name, answer in answers.items() if answer != "ImplicitlyDenied"} == {}


def test_on_other_resources_and_under_other_conditions_it_is_denied():
    others = [
        (name_of(asked, f"but {on or ''} {'' if context is None else context}"), request(asked, on, context))
        for asked in ASKED
        for on, context in asked.others
    ]
    assert {name: answer for name, answer in told(others).items() if answer != "ImplicitlyDenied"} == {}


def test_each_action_of_clients_tasks_and_functions_is_done_or_simulated():
    judged = {(one.who, one.action) for one in (*DEEDS, *ASKED)}
    for who in NOT_TOLD:
        assert {grant_action for grant in GRANTS if grant.who is who for grant_action in grant.actions} == {
            action for whose, action in judged if whose is who
        }
