"""`cloudexec up` in front of a CloudFormation on loopback that really makes things: every state it may find.

Most stacks here are of Lambda alone, for another Python: they take a fifth of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tomlkit

from tests.infra.stack.scene import ACCOUNT, BUCKET, OTHER_PYTHON, SMALL, Scene, up

UNTIL_CLEARED_S = 120.0  # of a rule that holds requests up: longer than anything that is to happen meanwhile


def record(scene: Scene) -> dict[str, object]:
    body = scene.client("s3").get_object(Bucket=BUCKET, Key="code/bundle.json")["Body"]
    return dict(json.loads(body.read()))


# --- the first time, and again ---------------------------------------------------------------


def test_it_shows_what_it_would_make_and_asks(scene: Scene):
    before = scene.inventory()
    said = scene.run("up", "--network", "new", "--python", OTHER_PYTHON)
    assert said.code == 3
    for words in (
        "Add Bucket AWS::S3::Bucket",
        "Add S3Endpoint AWS::EC2::VPCEndpoint",
        "when its code has been uploaded: Add Worker AWS::ECS::TaskDefinition",
        "It costs nothing while nothing runs",
        f"Make stack 'cloudexec' in account {ACCOUNT}, us-east-1? Repeat with --yes to do it.",
        "Nothing was changed.",
    ):
        assert words in said.text

    said = scene.run("up", "--dry-run", *SMALL)
    assert (said.code, "Nothing was changed: --dry-run" in said.text) == (0, True)
    assert scene.inventory() == before
    assert scene.status() == ""


def test_it_makes_the_stack_says_so_and_has_nothing_to_do_the_second_time(scene: Scene):
    said = scene.run("up", "--yes", "--json", "--only", "both", "--python", OTHER_PYTHON)
    assert said.code == 0, said.err
    told = json.loads(said.out)  # what it tells on the way is on stderr
    assert (told["status"], told["changed"], told["settings"]["bucket"]) == ("UPDATE_COMPLETE", True, BUCKET)
    assert " made Bucket cloudexec-" in said.text
    assert "Wrote region, bucket, cluster" in said.text
    tags = scene.client("cloudformation").describe_stacks(StackName="cloudexec")["Stacks"][0]["Tags"]
    assert tags == [{"Key": "cloudexec:stack", "Value": "cloudexec"}]
    written = tomlkit.parse(scene.config.read_text()).unwrap()
    assert written == told["settings"]
    assert written["task_definition"] == "cloudexec-worker"
    assert len(written["subnets"]) > 1

    scene.aws.forget_requests()
    began_s = time.monotonic()
    again = scene.run("up", "--yes")
    assert (again.code, "Stack 'cloudexec' is as it should be." in again.text) == (0, True)
    assert "Wrote" not in again.text
    asked = scene.aws.requests()
    assert asked["s3", "PutObject"] == asked["cloudformation", "ExecuteChangeSet"] == 0
    assert asked.total() < 20
    assert time.monotonic() - began_s < 20.0


def test_what_it_was_made_with_stays(scene: Scene):
    up(scene, *SMALL, "--parameters", "LogDays=3", "--builds")
    up(scene, "--parameters", "RunDays=2")
    stack = scene.client("cloudformation").describe_stacks(StackName="cloudexec")["Stacks"][0]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (values["LogDays"], values["RunDays"]) == ("3", "2")
    assert {"BuildProject", "Function"} <= set(scene.resources())
    assert "Cluster" not in scene.resources()
    assert record(scene)["python"] == OTHER_PYTHON


def test_who_runs_another_python_than_the_stack_is_told(scene: Scene):
    up(scene, *SMALL)
    assert f"The stack is for Python {OTHER_PYTHON}" in scene.run("up", "--yes").text


def test_parameters_may_stand_in_a_file(scene: Scene, tmp_path: Path):
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"ParameterKey": "FunctionMemory", "ParameterValue": "3008"}]))
    up(scene, *SMALL, "--parameters", str(file))
    said = scene.client("lambda").get_function_configuration(FunctionName="cloudexec-worker")
    assert said["MemorySize"] == 3008


def test_what_goes_is_told_loudly(scene: Scene):
    up(scene, "--python", OTHER_PYTHON)
    said = scene.run("up", "--only", "ecs")
    assert said.code == 3
    assert "ATTENTION: Function cloudexec-worker is removed" in said.text
    assert "of its resources will be REMOVED or REPLACED" in said.text
    up(scene, "--only", "ecs")
    assert "function" not in tomlkit.parse(scene.config.read_text())
    assert "Function" not in scene.resources()


def test_print_needs_no_credentials_and_asks_nobody(scene: Scene):
    scene.aws.forget_requests()
    keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    said = scene.run("up", "--print", "--only", "ecs", "--parameters", "LogDays=3", **keys)
    assert said.code == 0
    assert "AWS::ECS::Cluster" in said.out
    assert "AWS::Lambda::Function\n" not in said.out
    printed = scene.run("up", "--print", "--format", "json", "--arch", "arm64", **keys)
    assert json.loads(printed.out)["Parameters"]["Architecture"]["Default"] == "arm64"
    assert scene.aws.requests().total() == 0


def test_what_print_gave_can_be_deployed_by_somebody_else_and_completed(scene: Scene):
    text = scene.run("up", "--print", *SMALL).out
    client = scene.client("cloudformation")
    client.create_stack(
        StackName="cloudexec",
        TemplateBody=text,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "BucketName", "ParameterValue": "given-by-hand"}],
        Tags=[{"Key": "cloudexec:stack", "Value": "cloudexec"}],
    )
    client.get_waiter("stack_create_complete").wait(StackName="cloudexec", WaiterConfig={"Delay": 0.1})
    up(scene)
    assert scene.resources()["Function"] == "cloudexec-worker"
    assert tomlkit.parse(scene.config.read_text())["bucket"] == "given-by-hand"


# --- networks --------------------------------------------------------------------------------


def test_without_a_default_vpc_it_says_what_else_there_is(scene: Scene):
    ec2 = scene.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]]
    said = scene.run("up", "--network", f"{vpc}:subnet-99")
    assert (said.code, f"subnet-99 is not in {vpc}" in said.text) == (2, True)
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    assert "--network new makes a small network" in scene.run("up", "--yes").text
    ec2.delete_vpc(VpcId=vpc)
    said = scene.run("up", "--yes")
    assert said.code == 2
    assert "has no default VPC in us-east-1" in said.text
    assert "--network new" in said.text
    up(scene, "--only", "ecs", "--network", "new", "--python", OTHER_PYTHON)
    written = tomlkit.parse(scene.config.read_text())
    assert (len(written["subnets"]), written["assign_public_ip"]) == (2, True)


# --- broken off, in the way, in use ----------------------------------------------------------


def until(scene: Scene, status: str) -> None:
    deadline_s = time.monotonic() + 30
    while scene.status() != status:
        assert time.monotonic() < deadline_s, scene.status()
        time.sleep(0.02)


def killed(scene: Scene, while_: str) -> None:
    """An `up` whose process dies while the stack is in this state."""
    process = scene.start("up", "--yes", *SMALL)
    try:
        until(scene, while_)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def press_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Again, if need be: Python misses one that comes just before a wait. What the process says until its end."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=15)[0]
    raise AssertionError("it does not end")


def test_an_up_that_was_killed_goes_on_in_aws_and_can_be_repeated(scene: Scene):
    rule = scene.aws.faults.latency("iam", UNTIL_CLEARED_S, operation="CreateRole")
    killed(scene, "CREATE_IN_PROGRESS")
    again = scene.start("up", "--yes", *SMALL, PYTHONUNBUFFERED="1")
    assert again.stdout is not None
    said = ""
    while "is CREATE_IN_PROGRESS: waiting for it" not in " ".join(said.split()):
        more = again.stdout.read(1)
        assert more, said
        said += more
    scene.aws.faults.clear(rule)
    rest, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said + rest
    assert {"Function", "Bucket"} <= set(scene.resources())


def test_an_up_that_was_killed_can_be_undone(scene: Scene):
    before = scene.inventory()
    rule = scene.aws.faults.latency("iam", UNTIL_CLEARED_S, operation="CreateRole")
    killed(scene, "CREATE_IN_PROGRESS")
    scene.aws.faults.clear(rule)
    said = scene.run("down", "--yes")
    assert said.code == 0, said.err
    assert scene.inventory() == before


def test_an_up_that_was_killed_before_its_second_step_only_makes_that(scene: Scene):
    rule = scene.aws.faults.latency("s3", UNTIL_CLEARED_S, operation="PutObject")
    killed(scene, "CREATE_COMPLETE")
    scene.aws.faults.clear(rule)
    assert "Function" not in scene.resources()
    said = scene.run("up", "--yes", *SMALL)
    assert (said.code, "Add Function" in said.text, "Add Bucket " in said.text) == (0, True, False)


def test_ctrl_c_says_what_goes_on_and_what_to_do(scene: Scene):
    rule = scene.aws.faults.latency("iam", UNTIL_CLEARED_S, operation="CreateRole")
    process = scene.start("up", "--yes", *SMALL)
    until(scene, "CREATE_IN_PROGRESS")
    said = press_ctrl_c(process)
    scene.aws.faults.clear(rule)
    assert process.returncode == 130
    assert "Repeat `cloudexec up`, or undo it with `cloudexec down`" in " ".join(said.split())


def test_ctrl_c_at_the_question_is_a_no(scene: Scene):
    person, terminal = pty.openpty()
    process = scene.start("up", *SMALL, stdin=terminal)
    try:
        assert process.stdout is not None
        said = ""
        while "[y/N]" not in said:
            said += process.stdout.read(1)
        assert scene.status() == "REVIEW_IN_PROGRESS"
        press_ctrl_c(process)
    finally:
        process.kill()
        os.close(person)
        os.close(terminal)
    assert process.returncode == 130
    assert scene.status() == ""


def test_who_is_overtaken_by_another_up_is_told_to_repeat(scene: Scene):
    up(scene, *SMALL)
    person, terminal = pty.openpty()
    process = scene.start("up", "--only", "lambda", "--parameters", "FunctionMemory=512", stdin=terminal)
    try:
        assert process.stdout is not None
        said = ""
        while "[y/N]" not in said:
            said += process.stdout.read(1)
        up(scene, "--only", "lambda", "--parameters", "FunctionTimeout=60")
        os.write(person, b"y\n")
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        os.close(person)
        os.close(terminal)
    assert process.returncode == 1, said
    assert "somebody else has changed stack 'cloudexec' meanwhile" in " ".join(said.split())
    assert "repeat `cloudexec up`" in " ".join(said.split())


def test_a_stack_that_somebody_else_made_is_left_alone(scene: Scene):
    client = scene.client("cloudformation")
    body = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "theirs"}}}})
    client.create_stack(StackName="cloudexec", TemplateBody=body)
    client.get_waiter("stack_create_complete").wait(StackName="cloudexec", WaiterConfig={"Delay": 0.1})
    before = scene.inventory()
    for command in ("up", "down"):
        said = scene.run(command, "--yes")
        assert said.code == 2
        assert "was not made by `cloudexec up`" in said.text
        assert "--stack" in said.text
    assert scene.inventory() == before


def test_a_stack_that_waits_for_a_review_is_used(scene: Scene):
    text = scene.run("up", "--print", "--format", "json", *SMALL).out
    scene.client("cloudformation").create_change_set(
        StackName="cloudexec",
        ChangeSetName="begun",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(json.loads(text)),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "BucketName", "ParameterValue": "x" * 10}],
    )
    until(scene, "REVIEW_IN_PROGRESS")
    up(scene, *SMALL)
    assert scene.resources()["Bucket"] == BUCKET


def test_what_waits_for_a_review_has_parameters_that_nobody_has_agreed_to(scene: Scene):
    """They go with it: an `up` that was killed before CloudFormation began must not stand in the way of the next."""
    subnet = scene.client("ec2").describe_subnets()["Subnets"][0]
    given = {"BucketName": "x" * 10, "VpcId": subnet["VpcId"], "Subnets": subnet["SubnetId"]}
    scene.client("cloudformation").create_change_set(
        StackName="cloudexec",
        ChangeSetName="begun",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(json.loads(scene.run("up", "--print", "--format", "json", "--only", "ecs").out)),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
    )
    until(scene, "REVIEW_IN_PROGRESS")
    said = scene.run("up", "--dry-run", "--only", "ecs", "--python", OTHER_PYTHON)
    assert (said.code, "Add Cluster" in said.text) == (0, True), said.text


def test_ctrl_c_while_the_role_of_ecs_is_made_leaves_no_stack(scene: Scene):
    rule = scene.aws.faults.latency("iam", UNTIL_CLEARED_S, operation="CreateServiceLinkedRole")
    process = scene.start("up", "--yes", "--only", "ecs", "--python", OTHER_PYTHON)
    until(scene, "REVIEW_IN_PROGRESS")
    assert process.stdout is not None
    said = ""
    while "It costs nothing" not in said:
        said += process.stdout.read(1)
    time.sleep(0.3)
    press_ctrl_c(process)
    scene.aws.faults.clear(rule)
    assert (process.returncode, scene.status()) == (130, "")


def test_a_stack_that_was_rolled_back_is_removed_and_made_anew(scene: Scene):
    text = scene.run("up", "--print", "--format", "json", *SMALL).out
    scene.aws.faults.fail_resource("FunctionRole")
    scene.client("cloudformation").create_stack(
        StackName="cloudexec",
        TemplateBody=text if len(text) < 51_200 else json.dumps(json.loads(text)),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "BucketName", "ParameterValue": BUCKET}],
        Tags=[{"Key": "cloudexec:stack", "Value": "cloudexec"}],
    )
    until(scene, "ROLLBACK_COMPLETE")
    asked = scene.run("up", *SMALL)
    assert (asked.code, "can only be removed and made anew" in asked.text) == (3, True)
    assert scene.status() == "ROLLBACK_COMPLETE"
    up(scene, *SMALL)
    assert scene.status() == "UPDATE_COMPLETE"


def test_a_roll_back_that_failed_is_tried_again(scene: Scene):
    up(scene, *SMALL)
    scene.aws.faults.fail_resource("Function", on="update", times=2)  # the change, and the way back
    said = scene.run("up", "--yes", "--parameters", "FunctionMemory=2048")
    assert said.code == 1
    assert "Function (AWS::Lambda::Function): Internal failure" in said.text
    assert scene.status() == "UPDATE_ROLLBACK_FAILED"
    up(scene, "--parameters", "FunctionMemory=2048")
    assert scene.client("lambda").get_function_configuration(FunctionName="cloudexec-worker")["MemorySize"] == 2048


def test_a_change_that_fails_is_taken_back(scene: Scene):
    up(scene, *SMALL)
    scene.aws.faults.fail_resource("Log", on="update", reason="Rate exceeded")
    said = scene.run("up", "--yes", "--parameters", "LogDays=3")
    assert said.code == 1
    assert "could not be changed: Log (AWS::Logs::LogGroup): Rate exceeded" in said.text
    assert "repeat in a minute" in said.text
    assert scene.status() == "UPDATE_ROLLBACK_COMPLETE"
    up(scene, "--parameters", "LogDays=3")


def test_two_users_of_one_account_have_a_stack_each(scene: Scene):
    up(scene, *SMALL)
    said = scene.run("up", "--yes", "--stack", "alice", *SMALL)
    assert said.code == 0, said.err
    assert "CLOUDEXEC_PROFILE=alice" in said.text
    written = tomlkit.parse(scene.config.read_text()).unwrap()
    assert (written["function"], written["alice"]["function"]) == ("cloudexec-worker", "alice-worker")
    assert written["alice"]["bucket"] == BUCKET.replace("cloudexec", "alice", 1)

    before = scene.inventory()
    said = scene.run("down", "--yes", CLOUDEXEC_PROFILE="alice")
    assert said.code == 0, said.err
    gone = before - scene.inventory()
    assert gone
    assert all("alice" in each for each in gone), gone
    assert "alice" not in tomlkit.parse(scene.config.read_text())


def test_without_a_file_the_settings_are_printed(scene: Scene):
    said = scene.run("up", "--yes", *SMALL, CLOUDEXEC_CONFIG="/dev/null")
    assert said.code == 0
    assert "Nothing is written to a configuration file: CLOUDEXEC_CONFIG=/dev/null" in said.text
    assert f'bucket = "{BUCKET}"' in said.text
    assert not scene.config.exists()
    assert "--no-config" in scene.run("up", "--yes", "--no-config").text


def test_a_file_that_is_only_named_is_made(scene: Scene, tmp_path: Path):
    path = tmp_path / "new" / "own.toml"
    said = scene.run("up", "--yes", "--stack", "alice", *SMALL, CLOUDEXEC_CONFIG=str(path), CLOUDEXEC_PROFILE="alice")
    assert said.code == 0, said.err
    assert tomlkit.parse(path.read_text())["alice"]["function"] == "alice-worker"


@pytest.mark.parametrize("words", [("--parameters", "LogDays"), ("--network", "there"), ("--stack", "Alice")])
def test_what_is_no_option_is_told_before_anybody_is_asked(scene: Scene, words: tuple[str, str]):
    scene.aws.forget_requests()
    said = scene.run("up", "--yes", *words)
    assert said.code == 2
    assert "what to do" in said.text
    assert scene.aws.requests().total() == 0
