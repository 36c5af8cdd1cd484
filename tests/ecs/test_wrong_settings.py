"""What is set wrongly is told soon, by an error that names the setting; nothing is left behind, and nothing hangs."""

from __future__ import annotations

import time

import pytest

from cloudexec import ECSExecutor, errors
from tests.ecs.scene import assert_nothing_left

SOON_S = 15.0


@pytest.mark.parametrize(
    ("changes", "told", "remedy"),
    [
        pytest.param({"cluster": "nope"}, "cluster='nope'", "correct cluster=", id="cluster"),
        pytest.param(
            {"task_definition": "nope"}, "task_definition='nope'", "correct task_definition=", id="definition"
        ),
        pytest.param({"container": "nope"}, "no container 'nope'; it has worker", "container=", id="container"),
        pytest.param({"bucket": "nope"}, "PutObject s3://nope/", "correct bucket=", id="bucket"),
        pytest.param({"endpoint_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9", "endpoint", id="endpoint"),
    ],
)
def test_a_setting_that_names_nothing(aws, new_executor, changes, told, remedy):
    begin_s = time.monotonic()
    with pytest.raises(errors.CloudexecError) as caught, new_executor(**changes) as executor:
        executor.submit(abs, -1).result()
    assert time.monotonic() - begin_s < SOON_S
    assert told in caught.value.what
    assert remedy in caught.value.remedy
    assert str(caught.value).count("Remedy:") == 1
    assert_nothing_left(aws, executor.run.id)


def test_a_container_that_ends_before_its_worker_reports_has_its_last_words_told(aws, new_executor):
    definition = aws.session().client("ecs").describe_task_definition(taskDefinition="cloudexec-worker")
    (worker,) = definition["taskDefinition"]["containerDefinitions"]
    said = "echo /usr/bin/python: No module named cloudexec; exit 3"
    aws.session().client("ecs").register_task_definition(
        family="without-cloudexec",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="1024",
        memory="2048",
        executionRoleArn=definition["taskDefinition"]["executionRoleArn"],
        containerDefinitions=[{**worker, "entryPoint": ["sh", "-c", said]}],
    )
    with new_executor(task_definition="without-cloudexec") as executor:
        error = executor.submit(abs, -1).exception()
    assert isinstance(error, errors.WorkerStartFailed)
    assert "exit code 3" in error.what
    assert "its last words:\n/usr/bin/python: No module named cloudexec" in error.what
    assert "pip install cloudexec" in error.remedy


@pytest.mark.parametrize(
    ("service", "operation", "times"),
    [
        pytest.param("sqs", "CreateQueue", 1, id="no right to make queues"),
        pytest.param("s3", "PutObject", None, id="no right to write, or another account's bucket"),
    ],
)
def test_what_is_not_allowed(aws, new_executor, service, operation, times):
    aws.faults.error("AccessDenied", "not authorized", status=403, service=service, operation=operation, times=times)
    with new_executor() as executor:
        error = executor.submit(abs, -1).exception()
    assert isinstance(error, errors.WorkerStartFailed)
    assert isinstance(error.__cause__, errors.AccessDenied)
    assert "policy" in error.remedy
    aws.faults.clear()
    assert_nothing_left(aws, executor.run.id)


def test_without_any_network_set_the_default_one_is_asked_for_and_taken(aws, settings, monkeypatch):
    for name in ("CLOUDEXEC_SUBNETS", "CLOUDEXEC_SECURITY_GROUPS", "CLOUDEXEC_ASSIGN_PUBLIC_IP"):
        monkeypatch.delenv(name, raising=False)
    left = {name: value for name, value in settings.items() if name not in ("subnets", "security_groups")}
    with ECSExecutor(**{**left, "max_workers": 1}) as executor:
        assert executor.submit(abs, -1).result(30) == 1
    assert ("ec2", "DescribeVpcs") in aws.requests()
