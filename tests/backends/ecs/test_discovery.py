"""What was not given is found: environment, file, stack, default network; who names one thing speaks for its kin."""

import json
import uuid

import pytest

from cloudexec.backends.clients import Clients
from cloudexec.backends.ecs.discovery import complete, settings_of_stack, settle
from cloudexec.backends.ecs.target import Capacity, Fallback, ProviderShare
from cloudexec.errors import AccessDenied, SettingsError
from tests.backends.ecs.conftest import session_in

TEMPLATE = {
    "Resources": {
        "Cluster": {"Type": "AWS::ECS::Cluster", "Properties": {}},
        "Store": {"Type": "AWS::S3::Bucket", "Properties": {}},
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "SubnetA": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.0.0/24", "MapPublicIpOnLaunch": True},
        },
        "SubnetB": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.1.0/24", "MapPublicIpOnLaunch": True},
        },
        "Group": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {"VpcId": {"Ref": "Vpc"}, "GroupDescription": "workers"},
        },
        "Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {}},
        "ExecutionRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
        },
        "WorkerTask": {
            "Type": "AWS::ECS::TaskDefinition",
            "Properties": {
                "Family": "w",
                "ContainerDefinitions": [{"Name": "worker", "Image": "i", "Memory": 512}],
            },
        },
    }
}


@pytest.fixture
def environ(tmp_path):
    """Nobody's environment: nothing is set, and the home directory is empty."""
    return {"HOME": str(tmp_path)}


@pytest.fixture(scope="module")
def stack(endpoint):
    """A deployed stack's name."""
    name = f"cloudexec-{uuid.uuid4().hex[:8]}"
    client = session_in("eu-west-1").client("cloudformation", endpoint_url=endpoint)
    client.create_stack(StackName=name, TemplateBody=json.dumps(TEMPLATE))
    client.close()
    return name


def test_everything_may_come_from_a_stack(clients, stack, environ):
    place = complete(settle({"stack": stack}, environ), clients.ask, environ)
    target = place.target
    assert place.missing == ()
    assert stack in target.cluster
    assert target.task_definition.startswith("arn:aws:ecs:")
    assert len(target.subnets) == 2
    assert len(target.security_groups) == 1
    assert place.bucket
    assert (target.execution_role, target.assign_public_ip) == ("", True)
    assert place.sources["cluster"] == f"stack {stack}, resource Cluster"
    assert f"bucket = {place.bucket} (stack {stack}, resource Store)" in place.lines()


def test_an_image_takes_the_stacks_roles_and_not_its_task_definition(clients, stack, environ):
    place = complete(settle({"stack": stack, "image": "mine:1"}, environ), clients.ask, environ)
    assert (place.target.image, place.target.task_definition) == ("mine:1", "")
    assert "ExecutionRole" in place.target.execution_role


def test_arguments_are_stronger_than_environment_file_and_stack(clients, stack, environ, tmp_path):
    (tmp_path / ".config" / "cloudexec").mkdir(parents=True)
    (tmp_path / ".config" / "cloudexec" / "config.toml").write_text('cluster = "file"\nbucket = "file"\nregion = "r"\n')
    environ |= {"CLOUDEXEC_CLUSTER": "environment", "CLOUDEXEC_BUCKET": "environment", "CLOUDEXEC_STACK": stack}
    place = complete(settle({"cluster": "argument"}, environ), clients.ask, environ)
    assert (place.target.cluster, place.bucket, place.target.region) == ("argument", "environment", "r")
    assert stack in place.sources["task_definition"]


def test_without_a_stack_the_default_network_is_taken(clients, environ):
    given = {"cluster": "c", "task_definition": "t", "bucket": "b"}
    place = complete(settle(given, environ), clients.ask, environ)
    assert len(place.target.subnets) == 3
    assert len(place.target.security_groups) == 1
    assert place.sources["subnets"].startswith("default VPC vpc-")
    assert place.target.assign_public_ip is True


def test_what_is_missing_is_named_with_what_to_do(clients, environ, tmp_path):
    with pytest.raises(SettingsError) as caught:
        complete(settle({"cluster": "c"}, environ), clients.ask, environ)
    assert "not known: task_definition or image, bucket;" in caught.value.what
    assert str(tmp_path) in caught.value.what
    assert "CLOUDEXEC_TASK_DEFINITION" in caught.value.remedy


def test_a_stack_that_was_named_must_be_there(clients, environ):
    with pytest.raises(SettingsError, match="stack 'nowhere' cannot be read"):
        complete(settle({"stack": "nowhere"}, environ), clients.ask, environ)


def test_when_all_is_given_nothing_is_asked(environ):
    def ask(*request):
        raise AssertionError(f"asked for {request}")

    given = {
        "cluster": "c",
        "task_definition": "t",
        "bucket": "b",
        "subnets": ["subnet-1"],
        "assign_public_ip": False,
    }
    assert complete(settle(given, environ), ask, environ).missing == ()


def test_who_may_not_look_at_subnets_gets_no_public_address_and_is_told(environ):
    def ask(service, operation, request):
        raise AccessDenied(f"{service} {operation}: no", "UnauthorizedOperation", 403)

    given = {"cluster": "c", "task_definition": "t", "bucket": "b", "subnets": ["subnet-1"]}
    place = complete(settle(given, environ), ask, environ)
    assert place.target.assign_public_ip is False
    assert "not allowed" in place.sources["assign_public_ip"]


# --- what belongs together ---


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        pytest.param({"image": "i"}, {"TASK_DEFINITION": "t"}, {"image": "i", "task_definition": ""}, id="an image"),
        pytest.param(
            {"task_definition": "t"},
            {"IMAGE": "i", "TASK_ROLE": "r"},
            {"task_definition": "t", "image": "", "task_role": ""},
            id="a task definition has its image and roles",
        ),
        pytest.param(
            {"launch_type": "EC2"},
            {"SPOT": "yes", "ON_DEMAND_BASE": "2"},
            {"capacity": Capacity.OWN, "on_demand_base": 0},
            id="EC2 knows no spot=",
        ),
        pytest.param({"spot": True}, {"LAUNCH_TYPE": "EC2"}, {"capacity": Capacity.SPOT}, id="spot"),
        pytest.param(
            {"spot": False}, {"SPOT": "yes", "ON_DEMAND_BASE": "2"}, {"spot": False, "on_demand_base": 0}, id="no spot"
        ),
        pytest.param(
            {"on_demand_base": 1}, {"SPOT": "yes", "FALLBACK": "wait"},
            {"spot": True, "on_demand_base": 1, "fallback": Fallback.WAIT}, id="a base adds to the environment's spot",
        ),
        pytest.param(
            {"subnets": ["s"]},
            {"SECURITY_GROUPS": "sg-of-another-network"},
            {"subnets": ("s",), "security_groups": ()},
            id="groups belong to their network",
        ),
        pytest.param(
            {"vcpu": 4, "memory_mib": 8192}, {"VCPU": "1", "MEMORY_MIB": "2048"}, {"n_slots": 4}, id="a size"
        ),
    ],
)  # fmt: skip
def test_who_names_one_speaks_for_its_kin(given, environ, expected, tmp_path):
    variables = {f"CLOUDEXEC_{name}": value for name, value in environ.items()}
    target = settle(given, {"HOME": str(tmp_path), **variables}).target
    assert {name: getattr(target, name) for name in expected} == expected


def test_contradictions_within_a_source_are_refused(environ):
    with pytest.raises(SettingsError, match="both task_definition"):
        settle({"task_definition": "t", "image": "i"}, environ)


@pytest.mark.parametrize(
    "said",
    [
        {"provider": "p", "weight": 2, "base": 1},
        {"capacityProvider": "p", "weight": 2, "base": 1},
        ProviderShare(provider="p", weight=2, base=1),
    ],
    ids=["ours", "as boto3 writes it", "an object"],
)
def test_a_strategy_may_be_written_in_three_ways(said, environ):
    target = settle({"capacity_provider_strategy": [said]}, environ).target
    assert target.capacity_provider_strategy == (ProviderShare(provider="p", weight=2, base=1),)


@pytest.mark.parametrize("said", [{"name": "p"}, "p", {"provider": "p", "wait": 1}])
def test_a_strategy_that_cannot_be_read_is_shown(said, environ):
    with pytest.raises(SettingsError, match="not an entry"):
        settle({"capacity_provider_strategy": [said]}, environ)


def test_an_unknown_fallback_is_refused(environ):
    with pytest.raises(SettingsError) as caught:
        settle({"fallback": "give up"}, environ)
    assert caught.value.remedy == "give 'on_demand' or 'wait'"


# --- stacks with more than one of a kind ---


def resources(*described):
    return [
        {"ResourceType": kind, "LogicalResourceId": logical, "PhysicalResourceId": physical, "ResourceStatus": status}
        for kind, logical, physical, status in described
    ]


def test_of_several_the_one_with_our_name_is_meant():
    two = resources(
        ("AWS::S3::Bucket", "Data", "data", "CREATE_COMPLETE"),
        ("AWS::S3::Bucket", "CloudexecBucket", "ours", "CREATE_COMPLETE"),
    )
    assert settings_of_stack("s", two, {"bucket"})["bucket"].value == "ours"


def test_several_without_our_name_are_an_error_only_if_one_is_needed():
    two = resources(("AWS::S3::Bucket", "A", "a", "CREATE_COMPLETE"), ("AWS::S3::Bucket", "B", "b", "CREATE_COMPLETE"))
    assert settings_of_stack("s", two, set()) == {}
    with pytest.raises(SettingsError, match="several resources that may be the bucket: A, B"):
        settings_of_stack("s", two, {"bucket"})


def test_what_is_gone_or_not_there_yet_does_not_count():
    gone = resources(
        ("AWS::ECS::Cluster", "Old", "old", "DELETE_COMPLETE"), ("AWS::ECS::Cluster", "New", None, "CREATE_IN_PROGRESS")
    )
    assert settings_of_stack("s", gone, {"cluster"}) == {}


def test_roles_are_known_by_their_names():
    roles = resources(
        ("AWS::IAM::Role", "TaskExecutionRole", "exec", "CREATE_COMPLETE"),
        ("AWS::IAM::Role", "TaskRole", "task", "CREATE_COMPLETE"),
    )
    found = settings_of_stack("s", roles, set())
    assert (found["execution_role"].value, found["task_role"].value) == ("exec", "task")


def test_a_region_without_a_default_network_is_said(endpoint, environ):
    clients = Clients(session=session_in("eu-north-1"), endpoint_url=endpoint)
    ec2 = clients.client("ec2")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    given = {"cluster": "c", "task_definition": "t", "bucket": "b"}
    with pytest.raises(SettingsError, match="not known: subnets;"):
        complete(settle(given, environ), clients.ask, environ)
    clients.close()
