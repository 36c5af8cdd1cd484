"""The example stack for Lambda deploys, an executor and jobs run in it, and its policies allow what is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudexec import LambdaExecutor
from cloudexec.testing import PocketAWS
from cloudexec.testing.pocket.functions import zip_of
from tests.docs.pages import ROOT
from tests.examples.test_stack import actions_of, asked

STACK = "cloudexec-lambda"
# Allowed, and not seen in this story.
UNSEEN_BY_CLIENT = {"s3:AbortMultipartUpload"}
# The runtime itself writes the log; the others are explained in the stack.
UNSEEN_BY_FUNCTION = {"s3:AbortMultipartUpload", "s3:ListBucket", "logs:CreateLogStream", "logs:PutLogEvents"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PocketAWS]:
    """A pocket AWS with the stack, whose function has a module of its user's."""
    with PocketAWS() as aws, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        aws.activate()
        for name in [name for name in os.environ if name.startswith("CLOUDEXEC_")]:
            patch.delenv(name)  # they name the pocket's ready-made resources, and the stack's are to be found
        s3 = aws.session().client("s3")
        s3.create_bucket(Bucket="code")
        code = zip_of({"reports.py": "def words(text):\n    return len(text.split())\n"})
        s3.put_object(Bucket="code", Key="worker.zip", Body=code)
        given = {
            "CodeBucket": "code",
            "CodeKey": "worker.zip",
            "Jobs": "reports:*",
            "Runtime": "python{}.{}".format(*sys.version_info[:2]),
        }
        stacks = aws.session().client("cloudformation")
        stacks.create_stack(
            StackName=STACK,
            TemplateBody=(ROOT / "examples/lambda_stack.yaml").read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        stacks.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 0.1})
        yield aws


def resources(aws: PocketAWS) -> dict[str, str]:
    """Physical ids by logical ones."""
    found = aws.session().client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


@pytest.fixture(scope="module")
def told(aws: PocketAWS) -> PocketAWS:
    """The pocket, after a story in which about everything happens."""
    aws.record_requests()
    large = os.urandom(9 << 20)  # neither argument nor result fits into an invocation
    with LambdaExecutor(stack=STACK, max_workers=2, events_above_s=100, tuning={"control_after_s": 0.1}) as executor:
        assert executor.submit(bytes.upper, large).result() == large.upper()
        assert executor.submit(time.sleep, 0.5).result() is None
        assert executor.with_options(timeout_s=200).submit(pow, 2, 5).result() == 32  # by Event
    aws.record_requests(on=False)
    return aws


def test_function_and_bucket_are_found_in_the_stack(told: PocketAWS):
    found = resources(told)
    assert told.invocations()[found["Function"]].n_executed >= 3
    said = told.session().client("lambda").get_function_configuration(FunctionName=found["Function"])
    assert (said["MemorySize"], said["Timeout"], said["Handler"]) == (1769, 900, "cloudexec.worker.awslambda.handler")
    assert said["Environment"]["Variables"]["CLOUDEXEC_BUCKET"] == found["Bucket"]


def test_the_clients_policy_allows_what_the_client_asks_for_and_nothing_else(told: PocketAWS):
    allowed = policy(told, "ClientPolicy")
    seen = {action.replace("lambda:Invoke", "lambda:InvokeFunction", 1) for action in asked(told, by_client=True)}
    assert seen - allowed == set()
    assert allowed - seen - UNSEEN_BY_CLIENT == set()


def test_the_functions_role_allows_what_the_function_asks_for_and_nothing_else(told: PocketAWS):
    document = told.session().client("iam").get_role_policy(RoleName=resources(told)["Role"], PolicyName="worker")
    allowed = actions_of(document["PolicyDocument"])
    seen = asked(told, by_client=False)
    assert seen - allowed == set()
    assert allowed - seen - UNSEEN_BY_FUNCTION == set()


def test_jobs_that_are_put_into_the_stacks_bucket_run(aws: PocketAWS):
    found = resources(aws)
    aws.forget_requests()
    aws.record_requests()
    with LambdaExecutor.attach("group", bucket=found["Bucket"]) as jobs:
        assert jobs.submit("one", "reports:words", "to be or not").result(40) == 4
    aws.record_requests(on=False)
    assert asked(aws, by_client=True) - policy(aws, "JobsPolicy") == set()


def policy(aws: PocketAWS, name: str) -> set[str]:
    """What one of the stack's managed policies allows."""
    iam: Any = aws.session().client("iam")
    arn = resources(aws)[name]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return actions_of(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])


def test_the_template_passes_cfn_lint():
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(ROOT / "examples/lambda_stack.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "")
