"""What `cloudexec up` has made is enough to run in, and its policies allow what is asked for there and nothing else.

Executors are created without arguments: they find their way by the file that `up` has written. Workers have no image;
they start from the bundle. The pocket AWS grants everything to everybody, so what was asked is compared with what the
deployed policies say.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudexec import Command, ECSExecutor, LambdaExecutor
from cloudexec.infra.permissions.actions import FREE, action_of
from cloudexec.infra.permissions.grants import GRANTS, Who
from cloudexec.testing import PocketAWS
from tests.infra.bundle.wheelhouse import make_wheel
from tests.infra.stack.scene import Scene
from tests.infra.stack.whereabouts import where

QUICK = {"control_every_s": 0.2, "tell_after_s": 0.05, "beat_every_s": 1.0, "visibility_s": 4.0}
# Allowed, and not a part of these stories: `runs`, `logs` and `clean` ask for them, and who has less than a
# configuration file to go by.
OF_OTHERS = {
    "cloudformation:DescribeStackResources",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecs:DescribeTasks",  # of runs that last longer
    "logs:FilterLogEvents",
    "logs:GetLogEvents",  # of workers that died
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "sqs:ListQueueTags",
    "sqs:ListQueues",
}


Story = list[dict[str, Any]]  # requests


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An account with a stack that has both backends, and a package of the user's for jobs."""
    wheels = tmp_path_factory.mktemp("wheels")
    make_wheel(wheels, "reports", "1.0", {"reports.py": "def words(text):\n    return len(text.split())\n"})
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    with PocketAWS(ready_made=False, stop_scale=0.1, stack_resource_s=0.0) as aws:
        scene = Scene(aws, tmp_path_factory.mktemp("home"), {})
        said = scene.run("up", "--yes", "--packages", "reports", "--parameters", "Jobs=reports:*", **index)
        assert said.code == 0, said.err
        yield scene
        for client in scene.clients.values():
            client.close()


def allowed(scene: Scene, logical_id: str) -> set[str]:
    """The actions of a deployed policy, or of a role's only policy."""
    iam, physical = scene.client("iam"), scene.resources()[logical_id]
    document: Any
    if physical.startswith("arn:"):
        version = iam.get_policy(PolicyArn=physical)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=physical, VersionId=version)["PolicyVersion"]["Document"]
    else:
        (name,) = iam.list_role_policies(RoleName=physical)["PolicyNames"]
        document = iam.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"]
    document = ast.literal_eval(document) if isinstance(document, str) else document
    said = [statement["Action"] for statement in document["Statement"]]
    return {action for one in said for action in ([one] if isinstance(one, str) else one)}


def asked(records: Story, principal: str) -> set[str]:
    """The actions that somebody asked for."""
    found = {action_of(f"{each['service']}:{each['operation']}") for each in records if each["principal"] == principal}
    return found - FREE


def indirect(who: Who) -> set[str]:
    """Rights that no request names."""
    return {action for grant in GRANTS if grant.who is who for action in grant.indirect}


@contextmanager
def recorded(scene: Scene) -> Iterator[Story]:
    """Every request of a block that a client runs; the list is filled at its end."""
    told: Story = []
    scene.aws.forget_requests()
    scene.aws.record_requests()
    with scene.as_shell("client"):
        yield told
    scene.aws.record_requests(on=False)
    told += scene.aws.recorded_requests()


def test_what_the_function_is_told_is_what_up_was_told(scene: Scene):
    said = scene.client("lambda").get_function_configuration(FunctionName="cloudexec-worker")
    assert (said["MemorySize"], said["Timeout"], said["Handler"]) == (1769, 900, "cloudexec.worker.awslambda.handler")
    assert said["Environment"]["Variables"]["CLOUDEXEC_JOBS"] == "reports:*"


@pytest.fixture(scope="module")
def on_ecs(scene: Scene) -> Story:
    """A day on ECS in which about everything happens."""
    with recorded(scene) as told:
        with ECSExecutor(max_workers=1, tuning=QUICK) as executor:
            places = executor.submit(where)
            large = os.urandom(17 << 20)  # in both directions in parts
            assert executor.submit(bytes.upper, large).result() == large.upper()
            assert executor.submit(Command(["echo", "hello"])).result().log == "hello\n"
            assert all("/tmp/cloudexec-" in path for path in places.result())  # where the entry point has unpacked it
        with ECSExecutor(image="worker:1", vcpu=0.5, memory_mib=1024, max_workers=1, tuning=QUICK) as first:
            slow = first.submit(time.sleep, 3)  # longer than half of visibility_s, so its message is extended
            assert first.submit(pow, 3, 2).result() == 9
            run_id = first.detach()
            assert slow.done()
        with ECSExecutor.attach(run_id) as second:
            assert [future.result() for future in second.futures] == [None, 9]
    return told


@pytest.fixture(scope="module")
def on_lambda(scene: Scene) -> Story:
    """The same on Lambda."""
    with recorded(scene) as told:
        quick = {"control_after_s": 0.1}
        with LambdaExecutor(max_workers=2, events_above_s=100, tuning=quick) as functions:
            large = os.urandom(9 << 20)  # neither argument nor result fits into an invocation
            assert functions.submit(bytes.upper, large).result() == large.upper()
            assert functions.submit(time.sleep, 0.5).result() is None
            assert functions.with_options(timeout_s=200).submit(pow, 2, 5).result() == 32  # by Event
    return told


def test_workers_are_started_by_the_entry_point_from_the_bundle(scene: Scene, on_ecs: Story):
    tasks = scene.aws.tasks()
    definition = scene.client("ecs").describe_task_definition(taskDefinition="cloudexec-worker")["taskDefinition"]
    (container,) = definition["containerDefinitions"]
    assert container["entryPoint"][:2] == ["python", "-c"]
    assert "Fetch the bundle from S3" in container["entryPoint"][2]
    assert "image" not in tasks[0].facts or container["image"].startswith("public.ecr.aws/docker/library/python:3.")
    fetched = [each for each in on_ecs if each["principal"] == "task" and each["path"].endswith(".zip")]
    assert fetched
    assert {each["headers"]["x-amz-expected-bucket-owner"] for each in fetched} == {"123456789012"}


def check_rights(scene: Scene, story: Story, who: Who, logical_id: str, of_others: Collection[str] = ()) -> None:
    """All that was asked is allowed, and all that is allowed was asked, or stands in the table as indirect."""
    wanted, granted = asked(story, who.value), allowed(scene, logical_id)
    assert wanted
    assert wanted - granted == set()
    assert granted - wanted - indirect(who) <= set(of_others)


def test_the_task_role_allows_what_workers_ask_for_and_nothing_else(scene: Scene, on_ecs: Story):
    check_rights(scene, on_ecs, Who.TASK, "TaskRole")


def test_the_functions_role_allows_what_the_function_asks_for_and_nothing_else(scene: Scene, on_lambda: Story):
    check_rights(scene, on_lambda, Who.FUNCTION, "FunctionRole")


def test_the_clients_policy_allows_what_the_client_asks_for_and_nothing_else(
    scene: Scene, on_ecs: Story, on_lambda: Story
):
    check_rights(scene, on_ecs + on_lambda, Who.CLIENT, "ClientPolicy", OF_OTHERS)


def test_jobs_that_are_put_into_the_stacks_bucket_run(scene: Scene):
    bucket = scene.resources()["Bucket"]
    with recorded(scene) as told, LambdaExecutor.attach("group", bucket=bucket) as jobs:
        assert jobs.submit("one", "reports:words", "to be or not").result(40) == 4
    assert asked(told, "client") - allowed(scene, "JobsPolicy") == set()


def test_afterwards_everything_goes_and_nothing_is_in_the_way(scene: Scene, on_ecs: Story):
    said = scene.run("down", "--yes")
    assert said.code == 0, said.err
    assert "1 task definitions of image=" in said.text
    left = {each.partition(" ")[0] for each in scene.inventory()}
    assert left <= {"group", "vpc", "subnet"}  # the default network
    assert not Path(scene.config).exists()
