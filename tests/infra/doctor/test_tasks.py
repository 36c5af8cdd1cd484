"""ECS: cluster, task definition, image, and the network of tasks."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.ecs.target import EcsTarget, ProviderShare
from cloudexec.errors import AccessDenied, AwsError
from cloudexec.infra.doctor.cluster import judge_cluster, judge_definition, judge_log_group
from cloudexec.infra.doctor.findings import Level
from cloudexec.infra.doctor.image import (
    judge_bundle,
    judge_bundle_refusal,
    judge_contents,
    judge_ecr,
    judge_elsewhere,
    judge_plain,
    read_name,
)
from cloudexec.infra.doctor.network import NetworkFacts, judge_network, needs_of, reach_of, table_of, way_of

OK, WARNING, FAILED, UNKNOWN = Level.OK, Level.WARNING, Level.FAILED, Level.UNKNOWN


def levels(findings):
    return [finding.level for finding in findings if not finding.is_detail]


# --- the cluster ----------------------------------------------------------------------------------------

BOTH = {"status": "ACTIVE", "capacityProviders": ["FARGATE", "FARGATE_SPOT"]}
OWN = (ProviderShare(provider="mine"),)


@pytest.mark.parametrize(
    ("target", "said", "level", "words"),
    [
        pytest.param({}, [BOTH], OK, "is ACTIVE", id="there"),
        pytest.param({}, [], FAILED, "there is no cluster c", id="not there"),
        pytest.param({}, [{"status": "INACTIVE"}], FAILED, "there is no cluster c", id="removed"),
        pytest.param({}, [{"status": "DEPROVISIONING"}], FAILED, "DEPROVISIONING", id="being removed"),
        pytest.param({"spot": True}, [BOTH], OK, "is ACTIVE", id="has Spot"),
        pytest.param({"spot": True}, [{"status": "ACTIVE"}], FAILED, "FARGATE_SPOT", id="has no Spot"),
        pytest.param({"capacity_provider_strategy": OWN}, [BOTH], FAILED, "provider mine", id="no such provider"),
    ],
)
def test_the_cluster(target, said, level, words):
    findings = judge_cluster(EcsTarget(cluster="c", **target), said)
    assert levels(findings) == [level]
    assert words in findings[0].text


def test_a_cluster_without_instances_starts_nothing_of_launch_type_ec2():
    target = EcsTarget(cluster="c", launch_type="EC2")
    assert levels(judge_cluster(target, [BOTH])) == [OK, FAILED]
    assert levels(judge_cluster(target, [{**BOTH, "registeredContainerInstancesCount": 1}])) == [OK]


# --- the task definition --------------------------------------------------------------------------------

LOGGED = {"name": "worker", "image": "x", "logConfiguration": {"logDriver": "awslogs", "options": {}}}
DEFINITION = {"family": "f", "revision": 1, "status": "ACTIVE", "compatibilities": ["EC2", "FARGATE"]}


@pytest.mark.parametrize(
    ("target", "said", "container", "size", "found", "words"),
    [
        pytest.param({}, {}, LOGGED, (1, 2048), [OK], "1 vCPU and 2048 MiB", id="well"),
        pytest.param({}, {"status": "INACTIVE"}, LOGGED, (1, 2048), [FAILED], "INACTIVE", id="deregistered"),
        pytest.param({}, {}, {}, (1, 2048), [FAILED], "no container worker", id="no such container"),
        pytest.param({}, {"compatibilities": ["EC2"]}, LOGGED, (1, 2048), [FAILED], "Fargate", id="for EC2 alone"),
        pytest.param({}, {}, LOGGED, (1, 1000), [FAILED], "memory_mib=1000", id="no such size"),
        pytest.param({"launch_type": "EC2"}, {}, LOGGED, (1, 1000), [OK], "", id="any size on instances"),
        pytest.param({"arch": "arm64"}, {}, LOGGED, (1, 2048), [FAILED], "X86_64", id="another processor"),
        pytest.param(
            {}, {"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}}, LOGGED, (1, 2048),
            [FAILED], "WINDOWS", id="Windows",
        ),
        pytest.param({}, {}, {"name": "worker"}, (1, 2048), [WARNING], "writes no log", id="no log"),
        pytest.param(
            {}, {}, {"name": "worker", "logConfiguration": {"logDriver": "awsfirelens"}}, (1, 2048),
            [WARNING], "awsfirelens", id="another log",
        ),
    ],
)  # fmt: skip
def test_the_task_definition(target, said, container, size, found, words):
    findings = judge_definition(EcsTarget(**target), DEFINITION | said, container, size)
    assert levels(findings) == found
    assert words in findings[0].text


@pytest.mark.parametrize(
    ("said", "is_made", "found"),
    [
        pytest.param([{"logGroupName": "/g", "retentionInDays": 14}], False, [], id="there, and it ends"),
        pytest.param([{"logGroupName": "/g"}], False, [WARNING], id="there for ever"),
        pytest.param([{"logGroupName": "/g-other"}], False, [FAILED], id="one that only begins so"),
        pytest.param([], True, [], id="the task makes it"),
    ],
)
def test_the_log_group(said, is_made, found):
    assert levels(judge_log_group("/g", said, is_made_by_task=is_made)) == found


# --- the image ------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine"


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        pytest.param(f"{ECR}:v1", ("123456789012", "eu-west-1", "mine", "v1", ""), id="a tag"),
        pytest.param(ECR, ("123456789012", "eu-west-1", "mine", "", ""), id="none"),
        pytest.param(
            f"{ECR}/a/b@sha256:{'0' * 64}",
            ("123456789012", "eu-west-1", "mine/a/b", "", f"sha256:{'0' * 64}"),
            id="a digest",
        ),
        pytest.param("public.ecr.aws/docker/library/python:3.13-slim", None, id="the public registry"),
        pytest.param("python:3.13", None, id="Docker Hub"),
    ],
)
def test_names_of_images(image, parts):
    found = read_name(image)
    assert (found and (found.account, found.region, found.repository, found.tag, found.digest)) == parts


@pytest.mark.parametrize(
    ("size_mb", "days", "found", "words"),
    [
        pytest.param(100, 3, [OK], "a worker starts in about 20 s", id="small and new"),
        pytest.param(2000, 3, [WARNING], "a worker starts in about 115 s", id="large"),
        pytest.param(100, 400, [OK, WARNING], "pushed 400 days ago", id="old"),
    ],
)
def test_an_image_in_ecr(size_mb, days, found, words):
    pushed = datetime.fromtimestamp(NOW.timestamp() - days * 86_400, timezone.utc)
    said = [{"imageSizeInBytes": size_mb * 10**6, "imagePushedAt": pushed, "imageDigest": "sha256:1"}]
    findings = judge_ecr(ECR, said, NOW.timestamp())
    assert levels(findings) == found
    assert words in findings[0].text


def test_an_image_that_is_not_there():
    (finding,) = judge_ecr(ECR, [], 0.0)
    assert finding.level is FAILED


@pytest.mark.parametrize(
    ("image", "level"),
    [
        pytest.param("public.ecr.aws/docker/library/python:3.13-slim", OK, id="this client's Python"),
        pytest.param("public.ecr.aws/docker/library/python:3.12-slim", FAILED, id="another"),
        pytest.param("my/worker", UNKNOWN, id="its name does not tell"),
    ],
)
def test_the_python_under_a_bundle(image, level):
    assert levels(judge_plain(image, "3.13")) == [level]


def test_other_registries_are_not_asked():
    assert levels(judge_elsewhere("ghcr.io/me/worker:1", "3.13")) == [UNKNOWN]
    assert levels(judge_elsewhere("python:3.10-slim", "3.13")) == [FAILED]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        pytest.param(AwsError("x", "404", 404), FAILED, id="not there"),
        pytest.param(AccessDenied("x", "403", 403), UNKNOWN, id="clients may not read it"),
        pytest.param(AwsError("x", "InternalError", 500), FAILED, id="anything else"),
    ],
)
def test_a_bundle_that_cannot_be_looked_at(error, level):
    assert judge_bundle_refusal("s3://b/code/1.zip", error).level is level


def test_a_large_bundle_is_told():
    assert levels(judge_bundle("s3://b/code/1.zip", 2 * 10**6)) == [OK]
    assert levels(judge_bundle("s3://b/code/1.zip", 6 * 10**8)) == [WARNING]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        pytest.param({"cloudexec": "1.0", "cloudpickle": "3.1.2"}, [], id="the same"),
        pytest.param({"cloudexec": "1.1", "cloudpickle": "3.1.2"}, [WARNING], id="a newer one of ours"),
        pytest.param({"cloudexec": "1.0", "cloudpickle": "4.0"}, [FAILED], id="another major version of cloudpickle"),
        pytest.param({}, [], id="nobody has written it down"),
    ],
)
def test_what_the_bundle_was_made_of(there, found):
    assert levels(judge_contents(there, {"cloudexec": "1.0", "cloudpickle": "3.1.2"})) == found


# --- the network ----------------------------------------------------------------------------------------


def subnet(name="subnet-1", vpc="vpc-1", free=100, zone="a"):
    return {"SubnetId": name, "VpcId": vpc, "AvailableIpAddressCount": free, "AvailabilityZone": zone}


def table(*routes, main=True, subnets=(), vpc="vpc-1"):
    associations = [{"Main": True}] if main else []
    associations += [{"Main": False, "SubnetId": name} for name in subnets]
    return {"RouteTableId": "rtb-1", "VpcId": vpc, "Associations": associations, "Routes": list(routes)}


def default_route(state="active", **target):
    return {"DestinationCidrBlock": "0.0.0.0/0", "State": state, **target}


LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local", "State": "active"}
INTERNET, NAT = default_route(GatewayId="igw-1"), default_route(NatGatewayId="nat-1")


def endpoint(service, kind="Interface", tables=()):
    name = f"com.amazonaws.eu-west-1.{service}"
    shape = {"VpcId": "vpc-1", "ServiceName": name, "VpcEndpointType": kind, "State": "available"}
    return shape | ({"RouteTableIds": list(tables)} if kind == "Gateway" else {"PrivateDnsEnabled": True})


S3 = endpoint("s3", "Gateway", ["rtb-1"])
ALL = (S3, *(endpoint(name) for name in ("sqs", "logs", "ecr.api", "ecr.dkr")))
HTTPS_OUT = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def group(*rules, vpc="vpc-1"):
    return {"GroupId": "sg-1", "VpcId": vpc, "IpPermissionsEgress": list(rules)}


def network(**changes):
    known = {
        "subnets": (subnet(),),
        "tables": (table(LOCAL, INTERNET),),
        "endpoints": (),
        "groups": (group(HTTPS_OUT),),
        "has_public_ip": True,
        "needs": needs_of(f"{ECR}:1", has_log=True),
        "n_tasks": 10,
    }
    return NetworkFacts(**known | changes)


OF_SUBNET_2 = table(main=False, subnets=["subnet-2"])
PRIVATE = {"tables": (table(LOCAL),), "has_public_ip": False}


@pytest.mark.parametrize(
    ("changes", "found", "words"),
    [
        pytest.param({}, [OK], "1 in 1 zones of vpc-1", id="public, with a public address"),
        pytest.param({"has_public_ip": False}, [FAILED], "no public address", id="public, without one"),
        pytest.param({"tables": (table(LOCAL, NAT),), "endpoints": (S3,)}, [OK], "", id="NAT, and S3 beside it"),
        pytest.param({"tables": (table(LOCAL, NAT),)}, [WARNING], "by NAT costs", id="NAT alone"),
        pytest.param(PRIVATE, [FAILED], "ecr.api, ecr.dkr, logs, s3, sqs", id="private, with nothing"),
        pytest.param(PRIVATE | {"endpoints": ALL}, [OK], "", id="private, with all endpoints"),
        pytest.param(PRIVATE | {"endpoints": ALL[1:]}, [FAILED], "no endpoint for s3", id="private, without S3's"),
        pytest.param(
            PRIVATE | {"endpoints": ALL, "needs": needs_of("python:3.13", has_log=True)},
            [FAILED], "public registry", id="private, and a public image",
        ),
        pytest.param(
            {"tables": (table(LOCAL, default_route("blackhole", NatGatewayId="nat-1")),)},
            [FAILED], "black hole", id="its NAT was removed",
        ),
        pytest.param(
            {"subnets": (subnet(), subnet("subnet-2")), "tables": (table(INTERNET), OF_SUBNET_2)},
            [FAILED], "subnet-2: no route", id="one of two has a table of its own",
        ),
        pytest.param({"subnets": (subnet(), subnet("s", "vpc-2"))}, [FAILED, FAILED], "several VPCs", id="two VPCs"),
        pytest.param({"groups": (group(HTTPS_OUT, vpc="vpc-2"),)}, [FAILED], "is not of the", id="a strange group"),
        pytest.param({"groups": (group(),)}, [FAILED], "nothing out", id="a group that lets nothing out"),
        pytest.param(
            {"groups": (group(HTTPS_OUT | {"IpRanges": [{"CidrIp": "10.0.0.0/8"}]}),)},
            [WARNING], "some addresses", id="a group that lets little out",
        ),
        pytest.param({"groups": ()}, [OK], "", id="the VPC's own group"),
        pytest.param({"subnets": (subnet(free=3),)}, [WARNING], "3 free addresses", id="little room"),
        pytest.param({"subnets": (subnet(free=0),)}, [FAILED], "0 free addresses", id="no room"),
        pytest.param({"tables": None}, [UNKNOWN], "ec2:DescribeRouteTables", id="nobody may look at routes"),
        pytest.param(
            PRIVATE | {"endpoints": None}, [UNKNOWN], "ec2:DescribeVpcEndpoints", id="nobody may look at endpoints"
        ),
    ],
)  # fmt: skip
def test_the_network(changes, found, words):
    findings = judge_network(network(**changes))
    assert levels(findings) == found
    assert words in findings[0].text


def test_a_subnets_own_table_goes_before_the_main_one():
    own, main = table(main=False, subnets=["subnet-1"]), table(INTERNET)
    assert table_of(subnet(), [main, own]) is own
    assert table_of(subnet("subnet-2"), [main, own]) is main
    assert table_of(subnet(vpc="vpc-2"), [main, own]) == {} or table_of(subnet("x", "vpc-2"), [main]) == {}


@pytest.mark.parametrize(
    ("rule", "reach"),
    [
        pytest.param({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "anywhere", id="everything"),
        pytest.param(HTTPS_OUT, "anywhere", id="HTTPS"),
        pytest.param(HTTPS_OUT | {"FromPort": 80, "ToPort": 80}, "", id="HTTP alone"),
        pytest.param(HTTPS_OUT | {"IpProtocol": "udp"}, "", id="UDP"),
        pytest.param(HTTPS_OUT | {"IpRanges": [], "PrefixListIds": [{"PrefixListId": "pl-1"}]}, "somewhere", id="S3's"),
    ],
)
def test_how_far_https_gets(rule, reach):
    assert reach_of(group(rule)) == reach


@given(
    routes=st.lists(st.sampled_from([LOCAL, INTERNET, NAT, default_route("blackhole", GatewayId="igw-1")]), max_size=3),
    endpoints=st.sets(st.sampled_from(range(len(ALL)))),
    has_public_ip=st.booleans(),
)
def test_more_ways_never_make_a_network_worse(routes, endpoints, has_public_ip):
    def n_failed(some):
        facts = network(tables=(table(*routes),), endpoints=tuple(ALL[n] for n in some), has_public_ip=has_public_ip)
        return levels(judge_network(facts)).count(FAILED)

    assert n_failed(range(len(ALL))) == 0  # by endpoints alone
    assert n_failed(endpoints) <= n_failed(())
    if way_of(table(*routes)) == "out":
        assert n_failed(()) == 0
