"""Answers of ECS are read for what they say; what is absent is absent, and a 200 may be a failure."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.ecs.replies import (
    Failure,
    read_conflict,
    read_describe,
    read_list,
    read_run_task,
    read_task,
    read_task_definition,
)

ARN = "arn:aws:ecs:eu-west-1:123456789012:task/c/"


def a_task(name="1", **more):
    return {"taskArn": ARN + name, **more}


@pytest.mark.parametrize(
    ("reply", "n_tasks", "n_missing", "reasons"),
    [
        pytest.param({"tasks": [a_task("1"), a_task("2"), a_task("3")]}, 3, 0, [], id="all started"),
        pytest.param(
            {"tasks": [a_task("1")], "failures": [{"reason": "RESOURCE:MEMORY"}] * 2}, 1, 2, ["RESOURCE:MEMORY"] * 2,
            id="a 200 with failures",
        ),
        pytest.param(
            {"tasks": [], "failures": [{"arn": "i-1", "reason": "RESOURCE:CPU"}] * 7}, 0, 3, ["RESOURCE:CPU"] * 7,
            id="a failure for each machine, not for each task",
        ),
        pytest.param(
            {"tasks": [a_task("1")], "failures": [{"reason": "AGENT"}]}, 1, 2, ["AGENT"], id="one failure for several"
        ),
        pytest.param({"tasks": [a_task("1")]}, 1, 2, [""], id="fewer than asked for, without a word"),
        pytest.param({}, 0, 3, [""], id="nothing at all"),
        pytest.param({"tasks": None, "failures": None}, 0, 3, [""], id="nulls"),
    ],
)  # fmt: skip
def test_run_task_is_compared_with_what_was_asked_for(reply, n_tasks, n_missing, reasons):
    read = read_run_task(reply, 3)
    assert (len(read.tasks), read.n_missing) == (n_tasks, n_missing)
    assert [failure.reason for failure in read.failures] == reasons


def test_a_failure_keeps_its_details():
    (failure,) = read_run_task({"failures": [{"arn": "i-1", "reason": "AGENT", "detail": "away"}]}, 1).failures
    assert failure == Failure(reason="AGENT", arn="i-1", detail="away")


def test_who_is_neither_described_nor_a_failure_is_missing():
    reply = {"tasks": [a_task("1")], "failures": [{"arn": ARN + "2", "reason": "MISSING"}]}
    read = read_describe(reply, [ARN + "1", ARN + "2", ARN + "3"])
    assert [task.worker for task in read.tasks] == ["1"]
    assert read.missing == (ARN + "2", ARN + "3")


def test_a_conflict_names_the_tasks_of_the_first_call():
    read = read_conflict({"Error": {"Code": "ConflictException"}, "resourceIds": [ARN + "1", ARN + "2"]})
    assert [task.worker for task in read.tasks] == ["1", "2"]
    assert read.n_missing == 0


@pytest.mark.parametrize(
    ("reply", "page"),
    [
        pytest.param({"taskArns": ["a", "b"], "nextToken": "t"}, (["a", "b"], "t"), id="more to come"),
        pytest.param({"taskArns": []}, ([], ""), id="none"),
    ],
)
def test_a_list_comes_in_pages(reply, page):
    assert read_list(reply) == page


def test_a_stopped_task_in_full():
    def at(seconds):
        return datetime.fromtimestamp(1000 + seconds, timezone.utc)

    task = read_task(
        a_task(
            lastStatus="STOPPED",
            desiredStatus="STOPPED",
            stopCode="EssentialContainerExited",
            stoppedReason="Essential container in task exited",
            capacityProviderName="FARGATE_SPOT",
            launchType="FARGATE",
            availabilityZone="eu-west-1b",
            startedBy="r1",
            createdAt=at(0),
            pullStartedAt=at(10.25),
            pullStoppedAt=at(19.5),
            startedAt=at(20.5),
            stoppedAt=at(60),
            containers=[
                {"name": "sidecar", "exitCode": 0},
                {"name": "worker", "exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage"},
            ],
        )
    )
    assert (task.is_stopped, task.exit_code, task.oom, task.provider) == (True, 137, True, "FARGATE_SPOT")
    assert task.reasons == (
        "OutOfMemoryError: Container killed due to memory usage",
        "Essential container in task exited",
    )
    assert task.start_up_s == {"placing": 10.25, "pulling": 9.25, "starting": 1.0, "total": 20.5}
    assert task.started_s == 1020.5


@pytest.mark.parametrize(
    ("containers", "exit_code"),
    [
        pytest.param([], None, id="no containers, as when none was placed"),
        pytest.param([{"name": "worker"}], None, id="still running"),
        pytest.param([{"exitCode": 0}], 0, id="ended well"),
        pytest.param([{"exitCode": 0}, {"exitCode": 3}], 3, id="the bad one counts"),
        pytest.param([{"exitCode": 1}, {"exitCode": 3}], 1, id="the first bad one counts"),
    ],
)
def test_exit_codes(containers, exit_code):
    task = read_task(a_task(containers=containers))
    assert task.exit_code == exit_code
    assert not task.oom


def test_a_task_that_has_just_been_asked_for_says_little():
    task = read_task(a_task(lastStatus="PROVISIONING", createdAt=1000.0))
    assert (task.start_up_s, task.started_s, task.exit_code, task.reasons) == ({}, None, None, ())


scalars = st.none() | st.text(max_size=5)
containers = st.fixed_dictionaries(
    {}, optional={"name": scalars, "exitCode": st.none() | st.integers(0, 255), "reason": scalars}
)
tasks = st.fixed_dictionaries(
    {"taskArn": st.sampled_from([ARN + str(n) for n in range(9)])},
    optional={
        "lastStatus": scalars,
        "stopCode": scalars,
        "stoppedReason": scalars,
        "containers": st.none() | st.lists(containers, max_size=2),
        "createdAt": st.none() | st.floats(0, 1e9),
        "startedAt": st.none() | st.datetimes(datetime(2026, 1, 1)),
    },
)


@given(some=st.lists(tasks, max_size=12), count=st.integers(1, 10))
def test_no_answer_is_too_thin_to_be_read(some, count):
    read = read_run_task({"tasks": some}, count)
    assert len(read.tasks) == len(some)
    assert read.n_missing == max(0, count - len(some))
    assert bool(read.failures) == bool(read.n_missing)


DEFINITION = {
    "taskDefinitionArn": "arn:td:3",
    "cpu": "512",
    "memory": "1024",
    "networkMode": "awsvpc",
    "runtimePlatform": {"cpuArchitecture": "ARM64"},
    "containerDefinitions": [
        {"name": "proxy", "essential": False},
        {
            "name": "model",
            "memory": 768,
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": "/g", "awslogs-stream-prefix": "p"},
            },
        },
    ],
}


def test_a_task_definition_tells_size_container_and_log():
    facts = read_task_definition({"taskDefinition": DEFINITION})
    assert (facts.container, facts.vcpu, facts.memory_mib, facts.arch) == ("model", 0.5, 1024, "ARM64")
    assert facts.container_mib == 768
    assert (facts.log_group, facts.log_prefix, facts.is_active) == ("/g", "p", True)


@pytest.mark.parametrize(
    ("names", "asked", "chosen"),
    [
        pytest.param(["a", "worker"], "", "worker", id="the worker by its name"),
        pytest.param(["a", "b"], "b", "b", id="as asked"),
        pytest.param(["a", "b"], "", "a", id="the first one"),
    ],
)
def test_the_container_that_is_meant(names, asked, chosen):
    definition = {"taskDefinitionArn": "td", "containerDefinitions": [{"name": name} for name in names]}
    assert read_task_definition({"taskDefinition": definition}, asked).container == chosen


def test_a_container_that_is_not_there_is_named():
    with pytest.raises(LookupError, match="no container 'x'; it has proxy, model"):
        read_task_definition({"taskDefinition": DEFINITION}, "x")
