"""The policies suffice, and one action less does not; nor do they reach to other objects, queues, functions and stacks.

On ministack with AUTH=true, which checks signatures, actions, resources and S3's condition keys: root prepares, a user
with exactly the rendered policy acts. What ministack cannot tell is named below.
"""

from __future__ import annotations

import json

import pytest

from cloudexec.errors import AccessDenied
from cloudexec.infra.names import concrete
from cloudexec.infra.permissions.grants import GRANTS, Who
from cloudexec.infra.permissions.render import policy
from tests.emulators.deeds import ACCOUNT, DEEDS, REGION, Actor, World

NAMES = concrete(account=ACCOUNT, region=REGION, stack="cloudexec")

_NO_CLUSTER = "ministack has no ecs:cluster, and takes the cluster for the resource of RunTask"
_LOG_NAME = "ministack names a log group without the :* that AWS has at its end"
# Action -> why ministack cannot show what it is worth. test_rights_simulated.py asks another judge.
NOT_TOLD = {
    Who.CLIENT: {
        "ecs:RunTask": _NO_CLUSTER,
        "ecs:DescribeTasks": _NO_CLUSTER,
        "ecs:ListTasks": _NO_CLUSTER,
        "ecs:StopTask": _NO_CLUSTER,
        "ecs:TagResource": "ministack has no ecs:CreateAction",
        "iam:PassRole": "ministack does not ask for it",
        "lambda:GetAccountSettings": "ministack lets everybody",
        "lambda:GetFunctionConcurrency": "ministack asks for PutFunctionConcurrency",
        "lambda:GetFunctionEventInvokeConfig": "ministack asks for GetFunction",
    },
    Who.TASK: {},
    Who.FUNCTION: {"logs:CreateLogStream": _LOG_NAME, "logs:PutLogEvents": _LOG_NAME},
    Who.JOBS: {},
}


def actions_of(who):
    return {action for grant in GRANTS if grant.who is who for action in grant.actions}


@pytest.fixture(scope="module")
def root(guarded):
    root = Actor.of(guarded, guarded.endpoint.access_key, guarded.endpoint.secret_key)
    yield root
    root.close()


@pytest.fixture(scope="module")
def world(root):
    return World(root, NAMES)


class User:
    """Somebody whose one policy is exchanged."""

    def __init__(self, guarded, root, name):
        self.name, self._root = name, root
        root.ask("iam", "create_user", {"UserName": name})
        key = root.ask("iam", "create_access_key", {"UserName": name})["AccessKey"]
        self.actor = Actor.of(guarded, key["AccessKeyId"], key["SecretAccessKey"])

    def may(self, document):
        request = {"UserName": self.name, "PolicyName": "rights", "PolicyDocument": json.dumps(document)}
        self._root.ask("iam", "put_user_policy", request)


@pytest.fixture(scope="module")
def users(guarded, root):
    made = {who: User(guarded, root, who.value) for who in {deed.who for deed in DEEDS}}
    yield made
    for user in made.values():
        user.actor.close()


def without(document, action):
    """A policy with this action nowhere."""
    statements = []
    for each in document["Statement"]:
        listed = [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
        kept = [one for one in listed if one != action]
        if kept:
            statements.append({**each, "Action": kept})
    return {**document, "Statement": statements}


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: f"{deed.who.value} {deed.action}")
def test_an_action_is_allowed_here_and_denied_elsewhere_and_without_it(deed, users, world):
    user, full = users[deed.who], policy(deed.who, NAMES)
    user.may(full)
    for do in deed.here:
        do(user.actor, world)
    for number, do in enumerate(deed.elsewhere):
        with pytest.raises(AccessDenied):
            do(user.actor, world)
            pytest.fail(f"{deed.who.value} was not stopped at place {number} elsewhere")
    user.may(without(full, deed.action))
    for do in deed.here:
        with pytest.raises(AccessDenied):
            do(user.actor, world)


@pytest.mark.parametrize("who", NOT_TOLD)
def test_each_action_is_either_done_or_named_as_one_that_cannot_be_told(who):
    done = {deed.action for deed in DEEDS if deed.who is who}
    assert not done & NOT_TOLD[who].keys()
    assert done | NOT_TOLD[who].keys() == actions_of(who)


def test_who_has_no_policy_may_nothing(users, world):
    users[Who.TASK].may({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]})
    for deed in DEEDS:
        if deed.who is Who.TASK:
            with pytest.raises(AccessDenied):
                deed.here[0](users[Who.TASK].actor, world)
