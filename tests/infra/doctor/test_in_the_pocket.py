"""The doctor against an account on loopback in which one thing at a time is broken: each ends with a remedy.

The account stays as it is; what is broken is a setting, a fault, or put right again at the test's end.
"""

import io
import json
import os
import sys
import time
import zipfile

import boto3
import pytest

from cloudexec.backends.clients import Clients
from cloudexec.infra.doctor.examine import CHECKS, Check, examine
from cloudexec.infra.doctor.findings import Level, ok
from cloudexec.infra.doctor.scene import Scene, Wanted
from cloudexec.infra.place import Place
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import STACK_TAG, StackOptions
from tests.specs.executors import pocket

PYTHON = "{}.{}".format(*sys.version_info[:2])
NOBODY = {"CLOUDEXEC_CONFIG": os.devnull}


@pytest.fixture(scope="module")
def aws():
    found = pocket()
    found.faults.clear()
    yield found
    found.faults.clear()


@pytest.fixture(scope="module")
def session(aws):
    return aws.session()


@pytest.fixture(scope="module")
def doctors_session(aws):
    """One for all tests, because each reads the descriptions of services anew. Requests count as a doctor's."""
    return aws.session("doctor")


@pytest.fixture
def service(session):
    """Makes clients of boto3 that are closed again."""
    made = []

    def make(name):
        made.append(session.client(name))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def faults(aws):
    yield aws.faults
    aws.faults.clear()


@pytest.fixture
def examined(aws, doctors_session):
    """What the doctor finds; settings are those of what is ready, unless the test says otherwise."""

    def run(
        *,
        parts=(),
        max_workers=None,
        region="",
        given=None,
        place_session=None,
        limit_s=20.0,
        checks=CHECKS,
        **settings,
    ):
        known = {
            name.removeprefix("CLOUDEXEC_").lower(): text for name, text in aws.env.items() if "CLOUDEXEC_" in name
        }
        known = {**known, "endpoint_url": aws.endpoint_url, **settings}
        environ = {f"CLOUDEXEC_{name.upper()}": text for name, text in known.items() if text} | NOBODY
        wanted = Wanted(given=given or {}, environ=environ, parts=frozenset(parts), max_workers=max_workers)
        clients = Clients(session=place_session or doctors_session, region=region, endpoint_url=aws.endpoint_url)
        try:
            return list(examine(Place(clients, wanted.given.get("stack", "")), wanted, limit_s, checks))
        finally:
            clients.close()

    return run


def said(findings, level, subject=""):
    """The texts of one level."""
    return [one.text for one in findings if one.level is level and subject in ("", one.subject)]


def failed(findings, subject=""):
    return said(findings, Level.FAILED, subject)


# --- all is well ----------------------------------------------------------------------------------------


def test_what_is_ready_made_is_well_and_looked_at_quickly(aws, examined):
    before = aws.objects()
    began_s = time.monotonic()
    findings = examined()
    lasted_s = time.monotonic() - began_s
    assert failed(findings) == []
    subjects = list(dict.fromkeys(one.subject for one in findings))
    assert subjects == [
        "python", "settings", "credentials", "clock", "region", "stack", "bucket", "ecs", "image", "subnets", "lambda",
        "roles", "rights", "width",
    ]  # fmt: skip
    assert aws.objects() == before  # the probe is gone
    assert lasted_s < 15  # 1 s on a machine that has nothing else to do


def test_requests_to_the_bucket_name_its_owner_and_the_same_thing_is_asked_once(aws, examined):
    aws.forget_requests()
    aws.record_requests()
    examined()
    records = aws.recorded_requests()
    aws.record_requests(False)
    owners = {one["headers"].get("x-amz-expected-bucket-owner") for one in records if one["service"] == "s3"}
    assert owners == {"123456789012"}
    counts = aws.requests()
    assert counts["ecs", "DescribeTaskDefinition"] == 1
    assert counts["lambda", "GetFunctionConfiguration"] == 1
    assert counts["sts", "GetCallerIdentity"] == 1


@pytest.mark.parametrize("part", ["ecs", "lambda"])
def test_one_backend_alone(examined, part):
    findings = examined(parts=[part])
    assert failed(findings) == []
    other = {"ecs": "lambda", "lambda": "ecs"}[part]
    assert [one.text for one in findings if one.subject == other] == [
        f"{'Lambda' if other == 'lambda' else 'ECS'} is not set up here, so it was not looked at"
    ]


# --- settings that name what is not there ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "subject", "words"),
    [
        pytest.param({"bucket": "nobodys-bucket"}, "bucket", "there is no bucket", id="bucket gone"),
        pytest.param({"function": "nobodys"}, "lambda", "there is no Lambda function", id="function deleted"),
        pytest.param({"cluster": "nobodys"}, "ecs", "there is no cluster", id="cluster gone"),
        pytest.param({"task_definition": "nobodys"}, "ecs", "task definition nobodys", id="task definition gone"),
        pytest.param({"subnets": "subnet-0"}, "ecs", "subnet-0", id="subnet gone"),
        pytest.param({"container": "nobodys"}, "ecs", "has no container nobodys", id="no such container"),
        pytest.param({"arch": "arm64"}, "ecs", "is for X86_64", id="another processor"),
        pytest.param({"assign_public_ip": "no"}, "subnets", "no public address", id="no public address"),
        pytest.param({"vcpu": "-1"}, "settings", "vcpu=-1.0", id="a setting that is wrong in itself"),
        pytest.param({"given": {"stack": "nobodys"}}, "stack", "there is no stack nobodys", id="stack gone"),
        pytest.param({"region": "eu-west-1"}, "lambda", "there is no Lambda function", id="wrong region"),
    ],
)
def test_what_is_not_there_is_named(examined, settings, subject, words):
    texts = failed(examined(**settings), subject)
    assert texts
    assert any(words in text for text in texts)


def test_nothing_at_all(examined):
    names = ("cluster", "task_definition", "bucket", "function", "subnets", "security_groups")
    findings = examined(**dict.fromkeys(names, ""))
    assert [one.subject for one in findings if one.level is Level.FAILED] == ["stack", "ecs", "lambda"]
    assert {one.remedy for one in findings if one.level is Level.FAILED} == {"cloudexec up"}


def test_a_switched_off_function_is_told(aws, examined, service):
    client = service("lambda")
    client.put_function_concurrency(FunctionName=aws.setup["function"], ReservedConcurrentExecutions=0)
    try:
        (text,) = failed(examined(parts=["lambda"]), "lambda")
    finally:
        client.delete_function_concurrency(FunctionName=aws.setup["function"])
    assert "switched off" in text


def test_a_subnet_without_a_route(examined, service):
    ec2 = service("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    lonely = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    try:
        texts = failed(examined(subnets=lonely), "subnets")
    finally:
        ec2.delete_subnet(SubnetId=lonely)
        ec2.delete_vpc(VpcId=vpc)
    assert any("no route leads out" in text for text in texts)
    assert any("is not of the subnets' VPC" in text for text in texts)  # the security group


@pytest.fixture
def stack(aws, service):
    """Makes a stack of this template, and removes it."""
    client = service("cloudformation")
    names = []

    def settled(name):
        for _ in range(500):
            (state,) = [one for one in aws.stacks() if one.name == name][-1:]
            if not state.status.endswith("_IN_PROGRESS"):
                return state.status
            time.sleep(0.02)
        raise TimeoutError(f"stack {name} is {state.status}")

    def make(name, document):
        names.append(name)
        client.create_stack(
            StackName=name,
            TemplateBody=json.dumps(document),
            Parameters=[{"ParameterKey": "BucketName", "ParameterValue": f"{name}-123456789012"}],
            Capabilities=["CAPABILITY_IAM"],
            Tags=[{"Key": STACK_TAG, "Value": name}],
            OnFailure="ROLLBACK",
        )
        return settled(name)

    yield make
    for name in names:
        client.delete_stack(StackName=name)
        settled(name)


def test_a_stack_as_up_leaves_it_when_it_is_interrupted(aws, examined, stack):
    assert stack("half", template(StackOptions(ecs=False, python=PYTHON))) == "CREATE_COMPLETE"
    aws.forget_requests()
    findings = examined(given={"stack": "half"}, parts=["lambda"])
    assert said(findings, Level.FAILED, "stack") == ["stack half is half made: it has no function yet"]
    assert said(findings, Level.WARNING, "stack") == []  # its template is today's
    assert aws.requests()["cloudformation", "GetTemplate"] == 1


def test_a_stack_of_other_hands_and_another_python(examined, stack):
    document = template(StackOptions(ecs=False, python="3.9")) | {"Description": "changed by hand"}
    assert stack("other", document) == "CREATE_COMPLETE"
    findings = examined(given={"stack": "other"}, parts=["lambda"])
    assert any("runs Python 3.9" in text for text in said(findings, Level.FAILED, "stack"))
    assert any("was changed by hand" in text for text in said(findings, Level.WARNING, "stack"))


def test_a_stack_that_never_came_to_be(examined, stack, faults):
    faults.fail_resource("FunctionRole", reason="no roles today")
    assert stack("never", template(StackOptions(ecs=False, python=PYTHON))) == "ROLLBACK_COMPLETE"
    (finding,) = [one for one in examined(given={"stack": "never"}, parts=["lambda"]) if one.subject == "stack"]
    assert finding.level is Level.FAILED
    assert finding.remedy == "cloudexec down, then cloudexec up"


# --- what AWS refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        pytest.param("ExpiredToken", "expired", "log in again", id="expired keys"),
        pytest.param("InvalidClientTokenId", "does not know these keys", "AWS_SESSION_TOKEN", id="unknown keys"),
        pytest.param("SignatureDoesNotMatch", "signature", "secret key", id="wrong secret"),
    ],
)
def test_bad_credentials_end_the_examination_with_a_remedy(aws, examined, faults, code, words, remedy):
    faults.error(code, "it is expired or unknown", status=403, service="sts")
    aws.forget_requests()
    findings = examined()
    assert [one.subject for one in findings][-2:] == ["clock", "aws"]
    (finding,) = [one for one in findings if one.level is Level.FAILED]
    assert words in finding.text
    assert remedy in finding.remedy
    assert {service for service, _ in aws.requests()} == {"sts"}


def test_without_credentials_only_this_machine_is_examined(examined, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    findings = examined(place_session=boto3.Session(region_name="us-east-1"))
    assert [one.subject for one in findings if one.level is not Level.OK] == ["credentials", "aws"]
    assert "aws sso login" in findings[-2].remedy


@pytest.mark.parametrize(
    ("seconds", "level"),
    [pytest.param(120, Level.WARNING, id="two minutes"), pytest.param(-900, Level.FAILED, id="a quarter of an hour")],
)
def test_a_clock_that_is_off(examined, faults, seconds, level):
    faults.clock(seconds, service="sts")
    (finding,) = [one for one in examined(parts=["lambda"]) if one.subject == "clock"]
    assert finding.level is level
    assert "behind" if seconds > 0 else "ahead" in finding.text


@pytest.mark.parametrize(
    ("service", "operation", "level", "words"),
    [
        pytest.param("s3", "PutObject", Level.FAILED, "s3:PutObject is missing", id="writing to the bucket"),
        pytest.param("lambda", "Invoke", Level.FAILED, "lambda:InvokeFunction is missing", id="invoking"),
        pytest.param("ecs", "RunTask", Level.FAILED, "ecs:RunTask is missing", id="starting workers"),
        pytest.param("logs", "GetLogEvents", Level.WARNING, "logs:GetLogEvents is missing", id="reading logs"),
        pytest.param("iam", "GetRole", Level.UNKNOWN, "could not look at task role", id="looking at roles"),
        pytest.param("servicequotas", "GetServiceQuota", Level.UNKNOWN, "could not look at quota", id="at quotas"),
        pytest.param("ec2", "DescribeRouteTables", Level.UNKNOWN, "ec2:DescribeRouteTables", id="at routes"),
        pytest.param("cloudformation", "DescribeStacks", Level.UNKNOWN, "could not look at stack", id="at the stack"),
        pytest.param("logs", "DescribeLogGroups", Level.UNKNOWN, "log group", id="at log groups"),
        pytest.param("s3", "GetPublicAccessBlock", Level.UNKNOWN, "public access block", id="at the bucket's care"),
    ],
)
def test_a_right_that_is_missing_is_told_and_hides_nothing(examined, faults, service, operation, level, words):
    faults.error("AccessDenied", "not authorized to perform it", status=403, service=service, operation=operation)
    findings = examined()
    assert any(words in text for text in said(findings, level))
    assert {"bucket", "ecs", "lambda", "roles", "rights", "width"} <= {one.subject for one in findings}
    if level is not Level.FAILED:
        assert failed(findings) == []


def test_without_the_simulator_harmless_requests_are_tried(examined, faults):
    faults.error("AccessDenied", "no", status=403, service="iam", operation="SimulatePrincipalPolicy")
    findings = examined()
    (text,) = said(findings, Level.UNKNOWN, "rights")
    assert "these are there: sqs:GetQueueUrl, ecs:ListTasks, ecs:DescribeTasks, ecs:StopTask" in text
    faults.error("AccessDenied", "no", status=403, service="ecs", operation="StopTask")
    (text,) = failed(examined(), "rights")
    assert text.startswith("ecs:StopTask is missing")


def test_another_accounts_bucket_is_told_as_such(aws, examined, faults):
    faults.foreign_bucket(aws.setup["bucket"])
    (text,) = failed(examined(), "bucket")
    assert "S3 says 'denied'" in text or "belongs to another account" in text


def test_a_check_that_gets_no_answer_is_told_after_its_time_and_hides_nothing(examined, faults):
    faults.latency("iam", 2.5)
    findings = examined(limit_s=1.5)
    assert failed(findings, "roles") == ["no answer within 1.5 s"]
    assert {"bucket", "ecs", "lambda", "width"} <= {one.subject for one in findings}


def test_a_mistake_in_a_check_hides_nothing(examined):
    def broken(scene: Scene):
        return [ok("x", f"{1 // 0}")]

    checks = (Check(subject="x", ask=broken), *CHECKS[1:2])
    findings = examined(checks=checks)
    assert failed(findings) == ["this check itself failed: ZeroDivisionError: integer division or modulo by zero"]
    assert findings[-1].subject == "stack"


# --- quotas -----------------------------------------------------------------------------------------------


def test_a_run_is_as_wide_as_what_is_reserved_for_all_its_functions(aws, examined, service):
    client, first = service("lambda"), aws.setup["function"]
    told = client.get_function_configuration(FunctionName=first)
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("nothing.py", "")
    like = {name: told[name] for name in ("Runtime", "Role", "Handler")}
    client.create_function(FunctionName="shard", Code={"ZipFile": code.getvalue()}, **like)
    try:
        for name in (first, "shard"):
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=5)
        findings = examined(parts=["lambda"], shards="shard")
        narrow = examined(parts=["lambda"], shards="shard", max_workers=50)
    finally:
        client.delete_function_concurrency(FunctionName=first)
        client.delete_function(FunctionName="shard")
    (width,) = [one for one in findings if one.subject == "width"]
    assert (width.level, width.facts["environments"]) == (Level.OK, 10)
    (width,) = [one for one in narrow if one.subject == "width"]
    assert (width.level, width.facts["fit"]) == (Level.WARNING, 10)


def test_a_quota_that_is_too_small_is_raised_by_the_command_that_is_told(examined, service):
    (finding,) = [
        one for one in examined(parts=["ecs"], max_workers=100) if one.subject == "width" and not one.is_detail
    ]
    assert (finding.level, finding.facts["fit"]) == (Level.WARNING, 64)
    words = finding.remedy.split()
    told = dict(zip(words[3::2], words[4::2], strict=True))
    assert told["--region"] == "us-east-1"
    service("service-quotas").request_service_quota_increase(
        ServiceCode=told["--service-code"],
        QuotaCode=told["--quota-code"],
        DesiredValue=float(told["--desired-value"]),
    )
    findings = examined(parts=["ecs"], max_workers=100)
    assert [one.level for one in findings if one.subject == "width"] == [Level.OK]
