"""What CloudFormation, S3 and IAM tell: the stack, the bucket, rights and roles."""

import json
from datetime import datetime

import pytest

from cloudexec.errors import AccessDenied, AwsError, SettingsError
from cloudexec.infra.doctor.bucket import (
    BucketCare,
    BucketFacts,
    expiring,
    judge_care,
    judge_no_bucket,
    judge_refusal,
    judge_use,
)
from cloudexec.infra.doctor.findings import Level
from cloudexec.infra.doctor.rights import (
    Verdict,
    combined,
    context_of,
    judge_probes,
    judge_rights,
    probes,
    resources_of,
    role_of_session,
    verdict_of,
)
from cloudexec.infra.doctor.roles import FUNCTIONS, TASKS, RoleFacts, judge_no_role, judge_role, summed_up
from cloudexec.infra.doctor.stack import is_same, judge_absence, judge_stack
from cloudexec.infra.names import concrete
from cloudexec.infra.permissions.render import grants_of
from cloudexec.infra.permissions.rows import Who
from cloudexec.infra.stack.look import StackState
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import STACK_TAG, StackOptions

OK, WARNING, FAILED, UNKNOWN = Level.OK, Level.WARNING, Level.FAILED, Level.UNKNOWN
ACCOUNT = "123456789012"
DENIED = AccessDenied("s3 x: AccessDenied (403)", "AccessDenied", 403)


def levels(findings):
    return [finding.level for finding in findings if not finding.is_detail]


# --- the stack ------------------------------------------------------------------------------------------

WHOLE = StackState(
    name="cloudexec",
    id="arn",
    status="UPDATE_COMPLETE",
    tags={STACK_TAG: "cloudexec"},
    outputs={"Worker": "w", "Function": "f"},
    options=StackOptions(),
)


def changed(**changes):
    return StackState(**{name: getattr(WHOLE, name) for name in StackState.__slots__} | changes)


@pytest.mark.parametrize(
    ("state", "found", "words"),
    [
        pytest.param(WHOLE, [OK], "UPDATE_COMPLETE, changed 2 days ago", id="all is well"),
        pytest.param(changed(status="ROLLBACK_COMPLETE"), [FAILED], "nothing in it works", id="never came to be"),
        pytest.param(changed(status="DELETE_FAILED", reason="in use"), [FAILED], "in use", id="half removed"),
        pytest.param(changed(status="UPDATE_IN_PROGRESS"), [WARNING], "being changed", id="at work"),
        pytest.param(changed(status="UPDATE_ROLLBACK_COMPLETE"), [WARNING], "last change failed", id="went back"),
        pytest.param(changed(tags={}), [WARNING], "no tag", id="somebody else's"),
        pytest.param(changed(options=None), [WARNING], "does not tell", id="a template of somebody else"),
        pytest.param(changed(options=StackOptions(python="3.10")), [FAILED], "Python 3.10", id="another Python"),
        pytest.param(changed(outputs={"Worker": "w"}), [FAILED], "no function", id="interrupted in the middle"),
        pytest.param(
            changed(outputs={"Worker": "w"}, options=StackOptions(function=False)), [OK], "", id="ECS alone is whole"
        ),
    ],
)
def test_the_stack(state, found, words):
    findings = judge_stack(state, 2.5 * 86_400, "3.13", is_current=True)
    assert levels(findings) == found
    assert words in findings[0].text


def test_a_stack_of_another_version_is_told():
    (finding,) = judge_stack(WHOLE, 0.0, "3.13", is_current=False)
    assert (finding.level, finding.remedy.partition(" shows")[0]) == (WARNING, "cloudexec up")


@pytest.mark.parametrize(
    ("is_named", "is_needed", "level"),
    [
        pytest.param(False, False, OK, id="settings name everything"),
        pytest.param(False, True, FAILED, id="something is not set"),
        pytest.param(True, False, FAILED, id="it was named"),
    ],
)
def test_no_stack(is_named, is_needed, level):
    assert levels(judge_absence("mine", is_named=is_named, is_needed=is_needed)) == [level]


def test_a_template_is_compared_with_todays():
    today = template(StackOptions())
    assert is_same(json.dumps(today), StackOptions())
    assert is_same(today, StackOptions())
    assert not is_same(today | {"Description": "mine"}, StackOptions())
    assert is_same("AWSTemplateFormatVersion: 2010-09-09", StackOptions())  # YAML: nobody can tell


# --- the bucket -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "own", "level", "words"),
    [
        pytest.param(AwsError("x", "404", 404), None, FAILED, "there is no bucket b", id="not there"),
        pytest.param(DENIED, frozenset({"c"}), FAILED, "another account", id="another account's, for sure"),
        pytest.param(DENIED, frozenset({"b"}), FAILED, "S3 says 'denied'", id="ours, and the right is missing"),
        pytest.param(DENIED, None, FAILED, "or s3:ListBucket is missing", id="one of both"),
        pytest.param(AwsError("s3: slow", "InternalError", 500), None, FAILED, "slow", id="anything else"),
    ],
)
def test_a_bucket_that_refuses(error, own, level, words):
    finding = judge_refusal("b", ACCOUNT, error, own)
    assert finding.level is level
    assert words in finding.text


@pytest.mark.parametrize(
    ("changes", "found", "words"),
    [
        pytest.param({}, [OK], "written below cloudexec/runs/", id="used"),
        pytest.param({"errors": {"write": DENIED}}, [FAILED], "s3:PutObject is missing", id="may not write"),
        pytest.param({"errors": {"list": DENIED}}, [FAILED], "s3:ListBucket is missing", id="may not list"),
        pytest.param({"errors": {"delete": DENIED}}, [FAILED], "s3:DeleteObject is missing", id="may not delete"),
        pytest.param({"errors": {"read": AwsError("torn", "x", 500)}}, [FAILED], "torn", id="cannot read"),
        pytest.param({"region": "us-east-1"}, [WARNING], "lies in us-east-1", id="in another region"),
    ],
)
def test_using_the_bucket(changes, found, words):
    findings = judge_use(
        BucketFacts(**{"name": "b", "region": "eu-west-1", "ours": "eu-west-1", **changes}), "cloudexec"
    )
    assert levels(findings) == found
    assert words in findings[0].text


WELL_KEPT = {"is_encrypted": True, "is_private": True, "is_versioned": False, "rules": ("cloudexec/runs/",)}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, [], id="well kept"),
        pytest.param({"is_encrypted": False}, [WARNING], id="no encryption"),
        pytest.param({"is_private": False}, [WARNING], id="may be public"),
        pytest.param({"is_versioned": True}, [WARNING], id="keeps old versions"),
        pytest.param({"rules": ()}, [WARNING], id="nothing expires"),
        pytest.param({"rules": ("logs/",)}, [WARNING], id="something else expires"),
        pytest.param({"rules": ("",)}, [], id="everything expires"),
        pytest.param({"is_private": None, "rules": None}, [UNKNOWN], id="nobody may look"),
    ],
)
def test_keeping_the_bucket(changes, found):
    assert levels(judge_care("b", "cloudexec", BucketCare(**WELL_KEPT | changes))) == found


def test_rules_that_do_not_expire_anything_do_not_count():
    rules = [
        {"Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Prefix": "b/", "Expiration": {"Days": 1}},
        {"Status": "Disabled", "Prefix": "c/", "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Prefix": "d/", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
        {"Status": "Enabled", "Filter": {}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        {"Status": "Enabled", "Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Filter": {"ObjectSizeGreaterThan": 1}, "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Filter": {"And": {"Prefix": "e/", "ObjectSizeLessThan": 9}}, "Expiration": {"Days": 1}},
        {"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Date": datetime(2027, 1, 1)}},
    ]
    assert expiring(rules) == ("a/", "b/", "")


def test_ecs_needs_a_bucket_and_lambda_can_do_without():
    assert levels(judge_no_bucket(has_ecs=True)) == [FAILED]
    assert levels(judge_no_bucket(has_ecs=False)) == [WARNING]


# --- rights ---------------------------------------------------------------------------------------------

NAMES = concrete(account=ACCOUNT, region="eu-west-1", stack="mine", bucket="b")


def verdict(action="s3:GetObject", is_allowed=False, **more):
    return Verdict(**{"action": action, "on": "it", "why": "results", "is_allowed": is_allowed, **more})


@pytest.mark.parametrize(
    ("verdicts", "found", "words"),
    [
        pytest.param([verdict(is_allowed=True)], [OK], "all 1 actions", id="all are there"),
        pytest.param([verdict()], [FAILED], "s3:GetObject is missing on it; it is for: results", id="one is missing"),
        pytest.param([verdict(optional=True)], [WARNING], "is missing", id="one that is good to have"),
        pytest.param([verdict(is_explicit=True)], [FAILED], "is denied by a policy", id="one is denied by name"),
    ],
)
def test_rights(verdicts, found, words):
    findings = judge_rights(verdicts)
    assert levels(findings) == found
    assert words in findings[0].text


@pytest.mark.parametrize(
    ("action", "allowed", "is_allowed"),
    [
        pytest.param("logs:GetLogEvents", [False, True], True, id="on the kind of resource that it applies to"),
        pytest.param("logs:GetLogEvents", [False, False], False, id="on none"),
        pytest.param("iam:PassRole", [True, False], False, id="a role that may not be passed stops everything"),
        pytest.param("iam:PassRole", [True, True], True, id="both roles"),
    ],
)
def test_an_action_on_several_resources(action, allowed, is_allowed):
    verdicts = [verdict(action, each, on=f"{number}") for number, each in enumerate(allowed)]
    (one,) = combined(verdicts)
    assert one.is_allowed is is_allowed
    if not is_allowed:
        assert not allowed[int(one.on)]


def test_the_simulator_is_asked_about_single_things():
    for grant in grants_of(Who.CLIENT):
        for resource in resources_of(grant, NAMES):
            assert resource == "*" or ("*" not in resource and "{" not in resource), grant.why
        for entry in context_of(grant, NAMES):
            assert "*" not in entry["ContextKeyValues"][0], grant.why


def test_runs_are_asked_about_with_their_cluster():
    (grant,) = [grant for grant in grants_of(Who.CLIENT) if "ecs:RunTask" in grant.actions]
    assert resources_of(grant, NAMES, "arn:of:the:definition") == ["arn:of:the:definition"]
    (entry,) = context_of(grant, NAMES)
    assert entry["ContextKeyName"] == "ecs:cluster"
    assert entry["ContextKeyValues"] == [f"arn:aws:ecs:eu-west-1:{ACCOUNT}:cluster/mine"]


@pytest.mark.parametrize(
    ("decision", "is_allowed", "is_explicit"),
    [("allowed", True, False), ("implicitDeny", False, False), ("explicitDeny", False, True)],
)
def test_the_simulators_words(decision, is_allowed, is_explicit):
    grant = grants_of(Who.CLIENT)[0]
    one = verdict_of({"EvalActionName": "s3:GetObject", "EvalDecision": decision}, "it", grant)
    assert (one.is_allowed, one.is_explicit) == (is_allowed, is_explicit)


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        pytest.param(f"arn:aws:sts::{ACCOUNT}:assumed-role/Me/session", "Me", id="a session"),
        pytest.param(f"arn:aws:iam::{ACCOUNT}:user/team/me", "", id="a user"),
        pytest.param(f"arn:aws:sts::{ACCOUNT}:federated-user/me", "", id="a federated user"),
    ],
)
def test_the_role_of_a_session(arn, role):
    assert role_of_session(arn) == role


def test_without_the_simulator_only_what_was_tried_is_told():
    tried = [verdict("ecs:ListTasks", True), verdict("ecs:StopTask", False)]
    missing, rest = judge_probes(tried, DENIED)
    assert (missing.level, missing.facts["action"]) == (FAILED, "ecs:StopTask")
    assert rest.level is UNKNOWN
    assert "iam:SimulatePrincipalPolicy is not allowed" in rest.text
    assert "ecs:ListTasks" in rest.text
    assert "did not answer" in judge_probes([], AwsError("x", "y", 500))[0].text


def test_nothing_is_tried_that_changes_anything():
    assert probes("") == []
    for one in probes("mine"):
        assert one.operation.startswith(("get_", "list_", "describe_")) or "0" * 32 in one.request.values()


def test_what_was_tried_is_told_with_what_it_was_tried_on():
    on = {one.action: one.on for one in probes("mine")}
    assert on.pop("sqs:GetQueueUrl") == "cloudexec-doctor-work"
    assert set(on.values()) == {"mine"}


# --- roles ----------------------------------------------------------------------------------------------


def trust(service=TASKS, **condition):
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {"Statement": [statement | ({"Condition": condition} if condition else {})]}


@pytest.mark.parametrize(
    ("document", "level", "words"),
    [
        pytest.param(trust(), OK, "is there", id="for any account"),
        pytest.param(trust([TASKS, FUNCTIONS]), OK, "is there", id="for two services"),
        pytest.param(trust(StringEquals={"aws:SourceAccount": ACCOUNT}), OK, "is there", id="for ours"),
        pytest.param(trust(StringEquals={"aws:SourceAccount": "1"}), FAILED, "account 1", id="for another account"),
        pytest.param(trust(FUNCTIONS), FAILED, f"does not trust {TASKS}", id="for another service"),
        pytest.param({"Statement": {"Effect": "Deny", "Principal": "*"}}, FAILED, "does not trust", id="for nobody"),
        pytest.param(None, FAILED, "is not there", id="removed"),
    ],
)
def test_a_role(document, level, words):
    role = RoleFacts(
        arn=f"arn:aws:iam::{ACCOUNT}:role/path/mine", purpose="task role", service=TASKS, document=document
    )
    (finding,) = judge_role(role, ACCOUNT)
    assert finding.level is level
    assert words in finding.text
    assert "task role mine" in finding.text


@pytest.mark.parametrize(
    ("purpose", "is_fargate", "found"),
    [
        pytest.param("task role", False, [FAILED], id="workers need rights everywhere"),
        pytest.param("execution role", True, [FAILED], id="Fargate needs one"),
        pytest.param("execution role", False, [], id="instances have their own"),
    ],
)
def test_a_role_that_is_not_named(purpose, is_fargate, found):
    assert levels(judge_no_role(purpose, is_fargate=is_fargate)) == found


def test_roles_that_are_well_are_one_line():
    role = RoleFacts(arn="a/mine", purpose="task role", service=TASKS, document=trust())
    well = judge_role(role, ACCOUNT)
    assert levels(summed_up(well * 2)) == [OK]
    assert levels(summed_up([])) == []


def test_a_stack_of_a_newer_format_is_an_error_with_a_remedy():
    with pytest.raises(SettingsError, match="another version"):
        StackOptions.from_metadata({"Format": 99})
