"""What stands in the way of `up` and `down`, from credentials to names: each ends in a sentence with a remedy."""

from __future__ import annotations

import pytest
import tomlkit

from tests.infra.stack.scene import BUCKET, OTHER_PYTHON, Said, Scene

SMALL = ("--only", "lambda", "--python", OTHER_PYTHON)
NOBODY = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}


def refused(said: Said, code: int, *words: str) -> None:
    """It ended with a sentence that holds these words and a remedy, and with nothing of Python's."""
    assert said.code == code, said.text
    assert said.out == ""
    for each in ("cloudexec:", "what to do:", *words):
        assert each in said.text
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["up", "down"])
def test_without_credentials(scene: Scene, command: str):
    refused(scene.run(command, "--yes", **NOBODY), 1, "credentials", "aws sso login")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param("ExpiredToken", ("expired", "aws sso login"), id="an expired token"),
        pytest.param("InvalidClientTokenId", ("aws sts get-caller-identity", "--region"), id="keys that nobody knows"),
        pytest.param("SignatureDoesNotMatch", ("aws sts get-caller-identity",), id="a wrong secret"),
        pytest.param("OptInRequired", ("is not enabled in this account",), id="a region that is not enabled"),
    ],
)
@pytest.mark.parametrize("command", ["up", "down"])
def test_with_credentials_that_will_not_do(scene: Scene, command: str, code: str, words: tuple[str, ...]):
    scene.aws.faults.error(code, f"The token is expired or wrong: {code}", status=403)
    refused(scene.run(command, "--yes"), 1, *words)


def test_a_profile_that_is_not_there(scene: Scene):
    refused(scene.run("up", "--yes", "--profile", "wrok"), 2, "wrok", "aws configure list-profiles")


def test_a_region_that_is_not_there(scene: Scene):
    """Of an endpoint without an emulator; a name that no resolver knows, whatever network there is."""
    said = scene.run("up", "--yes", "--region", "eu-wets-1", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    refused(said, 2, "region 'eu-wets-1' is unknown", "eu-west-1")


def test_no_region_at_all(scene: Scene):
    nothing = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None, "AWS_CONFIG_FILE": "/nowhere"}
    refused(scene.run("up", "--yes", **nothing), 2, "no AWS region is set", "AWS_REGION")


def test_a_stack_in_another_region_is_not_found_and_nothing_is_removed(scene: Scene):
    assert scene.run("up", "--yes", *SMALL).code == 0
    said = scene.run("down", "--yes", "--region", "eu-west-1")
    assert (said.code, "There is no stack 'cloudexec'" in said.text) == (0, True)
    assert "give --region" in said.text
    assert scene.status() == "UPDATE_COMPLETE"
    assert tomlkit.parse(scene.config.read_text())["region"] == "us-east-1"


# Each step of a first `up` of both backends: whoever lacks the right for it is told which.
STEPS = [
    ("cloudformation", "DescribeStacks"),
    ("cloudformation", "CreateChangeSet"),
    ("cloudformation", "DescribeChangeSet"),
    ("cloudformation", "DescribeStackEvents"),
    ("cloudformation", "ExecuteChangeSet"),
    ("ec2", "DescribeVpcs"),
    ("ec2", "DescribeSubnets"),
    ("s3", "PutObject"),
]


@pytest.mark.parametrize(("service", "operation"), STEPS, ids=[operation for _, operation in STEPS])
def test_denied_step_by_step(scene: Scene, service: str, operation: str):
    what = f"User: me is not authorized to perform: {service}:{operation}"
    rule = scene.aws.faults.error("AccessDenied", what, status=403, service=service, operation=operation)
    only = () if service == "ec2" else ("--only", "lambda")
    said = scene.run("up", "--yes", "--python", OTHER_PYTHON, *only)
    refused(said, 1, f"{service}:{operation}")
    scene.aws.faults.clear(rule)


def test_denied_by_what_cloudformation_does_in_ones_name(scene: Scene):
    before = scene.inventory()
    what = "User: arn:aws:iam::1:user/me is not authorized to perform: iam:CreateRole on resource: x"
    rule = scene.aws.faults.error("AccessDenied", what, status=403, service="iam", operation="CreateRole")
    said = scene.run("up", "--yes", *SMALL)
    refused(said, 1, "FunctionRole (AWS::IAM::Role)", "allow iam:CreateRole", "cloudexec policy setup")
    scene.aws.faults.clear(rule)
    assert scene.inventory() == before  # a new stack that fails leaves nothing
    assert scene.status() == ""


# --- names -----------------------------------------------------------------------------------


def test_the_buckets_name_is_another_accounts(scene: Scene):
    before = scene.inventory()
    rule = scene.aws.faults.foreign_bucket(BUCKET)
    said = scene.run("up", "--yes", *SMALL)
    refused(said, 1, "Bucket (AWS::S3::Bucket)", "another account", "--parameters BucketName=NAME")
    assert scene.inventory() == before
    assert scene.run("up", "--yes", *SMALL, "--parameters", "BucketName=another-name").code == 0
    scene.aws.faults.clear(rule)
    assert scene.resources()["Bucket"] == "another-name"


def test_the_buckets_name_is_used_in_this_account(scene: Scene):
    scene.client("s3").create_bucket(Bucket=BUCKET)
    said = scene.run("up", "--yes", *SMALL)
    refused(said, 2, f"has a bucket '{BUCKET}' already", "--parameters BucketName=NAME", f"aws s3 rb s3://{BUCKET}")
    assert scene.status() == ""


def test_a_bucket_that_has_become_another_accounts_gets_no_code(scene: Scene):
    """It was removed by hand, and somebody else was quick."""
    assert scene.run("up", "--yes", *SMALL).code == 0
    scene.aws.faults.foreign_bucket(BUCKET)
    scene.aws.forget_requests()
    said = scene.run("up", "--yes", "--parameters", "LogDays=3")
    refused(said, 1, f"bucket {BUCKET} does not take requests", "another account")
    assert scene.aws.requests()["s3", "PutObject"] == 0


def test_what_cloudformation_finds_before_it_begins_is_named(scene: Scene):
    taken = "Resource of type 'AWS::Logs::LogGroup' with identifier '/cloudexec/cloudexec' already exists."
    scene.aws.faults.fail_resource("Log", on="validate", reason=taken)
    said = scene.run("up", "--yes", *SMALL)
    refused(said, 1, "Log (AWS::Logs::LogGroup)", "aws logs delete-log-group --log-group-name /cloudexec/cloudexec")
    assert scene.status() == ""


def test_who_may_not_ask_hears_what_the_change_set_says(scene: Scene):
    scene.aws.faults.fail_resource("Log", on="validate", reason="taken")
    scene.aws.faults.error(
        "AccessDenied", "no", status=403, service="cloudformation", operation="DescribeEvents", times=1
    )
    refused(scene.run("up", "--yes", *SMALL), 1, "ResourceExistenceCheck", "use another name with --stack")


def test_a_log_group_is_left_from_an_earlier_life(scene: Scene):
    scene.client("logs").create_log_group(logGroupName="/cloudexec/cloudexec")
    said = scene.run("up", "--yes", *SMALL)
    refused(said, 1, "Log (AWS::Logs::LogGroup)", "aws logs delete-log-group --log-group-name /cloudexec/cloudexec")
    assert [each for each in scene.inventory() if each.startswith("log ")] == ["log /cloudexec/cloudexec"]


def test_a_repository_is_left_from_an_earlier_life(scene: Scene):
    scene.client("ecr").create_repository(repositoryName="cloudexec")
    refused(scene.run("up", "--yes", *SMALL), 1, "Repository (AWS::ECR::Repository)", "--repository-name cloudexec")


def test_an_account_that_has_never_used_ecs(scene: Scene):
    reason = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
    scene.aws.faults.fail_resource("Cluster", reason=reason)
    said = scene.run("up", "--yes", "--only", "ecs", "--python", OTHER_PYTHON)
    refused(said, 1, "Cluster (AWS::ECS::Cluster)", "aws iam create-service-linked-role")


def test_a_value_that_the_template_does_not_take(scene: Scene):
    said = scene.run("up", "--yes", *SMALL, "--parameters", "FunctionMemory=64")
    assert (said.code, "FunctionMemory" in said.text, "what to do" in said.text) == (2, True, True)
    assert scene.status() == ""
