"""What ECS refuses, and with which error: the mistakes that must not first be met on a real account."""

import pytest
from botocore.exceptions import ClientError

from cloudexec.testing.pocket.server.checks import FARGATE_SIZES, spread
from tests.pocket.driving import FARGATE, code_of, message_of


def strategy(*names, weight=1, base=0):
    return {"capacityProviderStrategy": [{"capacityProvider": name, "weight": weight, "base": base} for name in names]}


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        pytest.param({"cluster": "nowhere"}, "ClusterNotFoundException", "Cluster", id="unknown cluster"),
        pytest.param({"taskDefinition": "none"}, "ClientException", "TaskDefinition", id="unknown task definition"),
        pytest.param({"taskDefinition": "cloudexec-worker:9"}, "ClientException", "Task", id="unknown revision"),
        pytest.param({"count": 11}, "InvalidParameterException", "10", id="more than ten at once"),
        pytest.param({"startedBy": "x" * 129}, "InvalidParameterException", "startedBy", id="startedBy too long"),
        pytest.param({"startedBy": "a b"}, "InvalidParameterException", "startedBy", id="startedBy with a space"),
        pytest.param({"clientToken": "x" * 65}, "InvalidParameterException", "clientToken", id="token too long"),
        pytest.param(
            {"tags": [{"key": str(n), "value": ""} for n in range(51)]},
            "InvalidParameterException",
            "tags",
            id="51 tags",
        ),
        pytest.param({"networkConfiguration": None}, "InvalidParameterException", "Network", id="awsvpc, no subnets"),
        pytest.param(
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-0"]}}},
            "InvalidParameterException",
            "subnet-0",
            id="unknown subnet",
        ),
        pytest.param(
            {"overrides": {"containerOverrides": [{"name": "sidecar", "command": ["x"]}]}},
            "InvalidParameterException",
            "sidecar",
            id="override of a container that is not there",
        ),
        pytest.param(
            {"overrides": {"containerOverrides": [{"name": "worker", "command": ["x" * 8192]}]}},
            "InvalidParameterException",
            "8192",
            id="overrides too long",
        ),
        pytest.param(
            {"overrides": {"cpu": "256", "memory": "8192"}}, "ClientException", "Fargate", id="a size nobody sells"
        ),
        pytest.param(
            {**FARGATE, **strategy("FARGATE")}, "InvalidParameterException", "both", id="launch type and strategy"
        ),
        pytest.param(
            {"launchType": None, **strategy("MINE")}, "InvalidParameterException", "MINE", id="unknown provider"
        ),
        pytest.param(
            {"launchType": None, **strategy("FARGATE", weight=0)},
            "InvalidParameterException",
            "weight",
            id="weights that are all zero, the API's default",
        ),
        pytest.param({"launchType": "EC2"}, "InvalidParameterException", "Instances", id="EC2 without instances"),
    ],
)
def test_run_task_refuses(drive, changes, code, word):
    wanted = {**drive.request(["true"]), **changes}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    with pytest.raises(ClientError) as error:
        drive.ecs.run_task(**wanted)
    assert code_of(error) == code
    assert word in message_of(error)
    assert drive.aws.tasks() == []


@pytest.mark.parametrize(
    ("containers", "changes", "word"),
    [
        pytest.param([{"name": "a"}], {"cpu": "256", "memory": "4096"}, "Fargate", id="a size nobody sells"),
        pytest.param([{"name": "a"}], {"networkMode": "bridge"}, "awsvpc", id="Fargate without awsvpc"),
        pytest.param([{"name": "a"}, {"name": "a"}], {}, "unique", id="two containers of one name"),
        pytest.param([{"name": "a", "essential": False}], {}, "essential", id="nothing essential"),
        pytest.param(
            [{"name": "a", "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}}}],
            {"executionRoleArn": "arn:aws:iam::123456789012:role/x"},
            "stream-prefix",
            id="awslogs without a prefix",
        ),
        pytest.param(
            [
                {
                    "name": "a",
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {"awslogs-group": "g", "awslogs-stream-prefix": "p"},
                    },
                }
            ],
            {},
            "execution role",
            id="awslogs without an execution role",
        ),
    ],
)
def test_register_task_definition_refuses(drive, containers, changes, word):
    with pytest.raises(ClientError) as error:
        drive.register(*containers, **changes)
    assert code_of(error) == "ClientException"
    assert word in message_of(error)


def test_stop_task_of_an_unknown_task_is_an_error_and_not_silence(drive):
    with pytest.raises(ClientError) as error:
        drive.stop("0" * 32)
    assert code_of(error) == "InvalidParameterException"
    assert "not found" in message_of(error)


def test_describe_tasks_names_the_unknown_among_the_known(drive):
    arn = drive.run("sleep", "60")
    missing = f"{arn[:-32]}{'0' * 32}"
    reply = drive.ecs.describe_tasks(cluster="cloudexec", tasks=[arn, missing])
    assert [task["taskArn"] for task in reply["tasks"]] == [arn]
    assert reply["failures"] == [{"arn": missing, "reason": "MISSING"}]


@pytest.mark.parametrize("count", [0, 101])
def test_describe_tasks_takes_one_to_a_hundred(drive, count):
    with pytest.raises(ClientError) as error:
        drive.ecs.describe_tasks(cluster="cloudexec", tasks=[f"{n:032x}" for n in range(count)])
    assert code_of(error) == "InvalidParameterException"


def test_a_cluster_with_tasks_cannot_be_deleted(drive):
    arn = drive.run("sleep", "60")
    with pytest.raises(ClientError) as error:
        drive.ecs.delete_cluster(cluster="cloudexec")
    assert code_of(error) == "ClusterContainsTasksException"
    drive.stop(arn)
    drive.until(arn, "STOPPED")
    drive.ecs.delete_cluster(cluster="cloudexec")


def test_the_sizes_of_fargate_are_those_of_its_table():
    assert FARGATE_SIZES[256] == (512, 1024, 2048)
    assert FARGATE_SIZES[1024] == tuple(1024 * gib for gib in range(2, 9))
    assert FARGATE_SIZES[8192] == tuple(1024 * gib for gib in range(16, 61, 4))


@pytest.mark.parametrize(
    ("count", "entries", "placed"),
    [
        pytest.param(3, [("A", 1, 0)], "AAA", id="one provider"),
        pytest.param(4, [("A", 1, 0), ("B", 1, 0)], "ABAB", id="equal weights"),
        pytest.param(5, [("A", 0, 2), ("B", 1, 0)], "AABBB", id="the base first, without weight nothing more"),
        pytest.param(8, [("A", 1, 0), ("B", 3, 0)], "BBABBBAB", id="one to three"),
        pytest.param(3, [("A", 0, 1)], "A", id="a base alone is no home for the others"),
    ],
)
def test_a_strategy_spreads_tasks(count, entries, placed):
    strategy = [{"capacityProvider": name, "weight": weight, "base": base} for name, weight, base in entries]
    assert sorted(spread(count, strategy)) == sorted(placed)
