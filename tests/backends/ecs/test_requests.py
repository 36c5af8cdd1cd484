"""Every request has the shape that the service's own model demands, and says what it should."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.ecs import requests
from cloudexec.backends.ecs.replies import DefinitionFacts
from cloudexec.backends.ecs.requests import MOST_OVERRIDES, Launch, Outfit, container_memory_mib
from cloudexec.backends.ecs.sizes import FARGATE_SIZES
from cloudexec.backends.ecs.target import Capacity, EcsTarget, ProviderShare
from cloudexec.errors import SettingsError
from tests.backends.ecs.models import complaints, enumerated

PLAIN = EcsTarget(cluster="c", task_definition="td:3", subnets=("subnet-1", "subnet-2"))
OUTFIT = Outfit(run_id="r20261121-052301-9f3a1c", name="fit", environment={"A": "1"})
ARN = "arn:aws:ecs:eu-west-1:123456789012:task/c/0123456789abcdef"


def a_launch(capacity=Capacity.ON_DEMAND, count=10):
    return Launch(number=1, token="r1.me.1", count=count, capacity=capacity)


shares = st.builds(
    ProviderShare, provider=st.sampled_from(["own-1", "own-2"]), weight=st.integers(1, 1000), base=st.just(0)
)
common = {
    "cluster": st.just("c"),
    "subnets": st.lists(st.from_regex(r"subnet-[0-9a-f]{8}", fullmatch=True), min_size=1, max_size=3).map(tuple),
    "security_groups": st.lists(st.just("sg-1"), max_size=1).map(tuple),
    "assign_public_ip": st.sampled_from([None, True, False]),
    "ephemeral_gib": st.none() | st.integers(21, 200),
    "tags": st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.just("v"), max_size=3),
    "log_group": st.sampled_from(["", "/cloudexec"]),
    "region": st.just("eu-west-1"),
    "arch": st.sampled_from(["", "x86_64", "arm64"]),
}
sizes = st.sampled_from([*FARGATE_SIZES, None]).map(
    lambda size: {} if size is None else {"vcpu": size.vcpu, "memory_mib": size.memory_mib}
)
capacities = st.sampled_from(
    [{}, {"spot": True}, {"launch_type": "FARGATE"}, {"launch_type": "EC2"}, {"launch_type": "MANAGED_INSTANCES"}]
) | st.lists(shares, min_size=1, max_size=3).map(lambda some: {"capacity_provider_strategy": tuple(some)})
things = st.sampled_from([{"task_definition": "td"}, {"image": "i:1", "execution_role": "e", "task_role": "t"}])
targets = st.builds(
    lambda rest, size, capacity, thing: EcsTarget(**rest, **size, **capacity, **thing),
    st.fixed_dictionaries(common),
    sizes,
    capacities,
    things,
)
outfits = st.builds(
    Outfit,
    run_id=st.just("r20261121-052301-9f3a1c"),
    parent_id=st.sampled_from(["", "r20261121-052300-0a0b0c"]),
    memory_mib=st.none() | st.integers(1, 1 << 18),
    name=st.text("abc -_", max_size=20),
    command=st.none() | st.just(("python", "x.py")) | st.just(requests.WORKER_COMMAND),
    environment=st.dictionaries(st.from_regex(r"[A-Z]{1,9}", fullmatch=True), st.text(max_size=50), max_size=4),
)


@given(target=targets, outfit=outfits, count=st.integers(1, 10))
def test_every_run_task_is_valid(target, outfit, count):
    launch = a_launch(target.capacity, count)
    request = requests.run_task_request(target, launch, outfit, "" if target.task_definition else "td:1")
    assert complaints("ecs", "run_task", request) == ""
    assert ("launchType" in request) != ("capacityProviderStrategy" in request)
    assert len(json.dumps(request["overrides"])) <= MOST_OVERRIDES


@given(target=targets)
def test_every_task_definition_is_valid(target):
    if target.image:
        request = requests.register_task_definition_request(target)
        assert complaints("ecs", "register_task_definition", request) == ""


@pytest.mark.parametrize(
    ("service", "operation", "request_"),
    [
        pytest.param("ecs", "describe_tasks", requests.describe_tasks_request("c", [ARN] * 100), id="describe"),
        pytest.param("ecs", "list_tasks", requests.list_tasks_request("c", "r1"), id="list"),
        pytest.param("ecs", "list_tasks", requests.list_tasks_request("c", "r1", "next"), id="list, next page"),
        pytest.param("ecs", "stop_task", requests.stop_task_request("c", ARN, "no sign of life"), id="stop"),
        pytest.param("ecs", "describe_task_definition", requests.describe_task_definition_request("td"), id="look up"),
        pytest.param(
            "logs",
            "get_log_events",
            requests.get_log_events_request(EcsTarget(log_group="/cloudexec"), ARN),
            id="last lines",
        ),
    ],
)
def test_the_other_requests_are_valid(service, operation, request_):
    assert complaints(service, operation, request_) == ""


def test_a_run_task_says_whose_it_is_and_is_safe_to_repeat():
    request = requests.run_task_request(PLAIN, a_launch(), OUTFIT)
    assert request["clientToken"] == "r1.me.1"
    assert request["startedBy"] == OUTFIT.run_id
    assert re.fullmatch(r"[A-Za-z0-9\-/_]{1,128}", request["startedBy"])
    assert {"key": "cloudexec:run", "value": OUTFIT.run_id} in request["tags"]
    assert {"key": "cloudexec:name", "value": "fit"} in request["tags"]
    assert request["overrides"]["containerOverrides"] == [
        {
            "name": "worker",
            "command": ["python", "-m", "cloudexec.worker", "--pull"],
            "environment": [{"name": "A", "value": "1"}],
        }
    ]


@pytest.mark.parametrize(
    ("target", "capacity", "asks_for"),
    [
        pytest.param(PLAIN, Capacity.ON_DEMAND, {"launchType": "FARGATE"}, id="on demand, on any cluster"),
        pytest.param(
            PLAIN,
            Capacity.SPOT,
            {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]},
            id="Spot is reached by a strategy only",
        ),
        pytest.param(EcsTarget(launch_type="EC2"), Capacity.OWN, {"launchType": "EC2"}, id="EC2"),
        pytest.param(
            EcsTarget(capacity_provider_strategy=(ProviderShare(provider="p", weight=2, base=1),)),
            Capacity.OWN,
            {"capacityProviderStrategy": [{"capacityProvider": "p", "weight": 2, "base": 1}]},
            id="a strategy of the user's",
        ),
    ],
)
def test_capacity(target, capacity, asks_for):
    request = requests.run_task_request(target, a_launch(capacity), OUTFIT)
    assert {name: request.get(name) for name in asks_for} == asks_for
    assert ("launchType" in request) + ("capacityProviderStrategy" in request) == 1


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        pytest.param({"assign_public_ip": True}, "ENABLED", id="wanted"),
        pytest.param({}, "DISABLED", id="not wanted"),
        pytest.param({"launch_type": "EC2", "assign_public_ip": True}, None, id="EC2 tasks have none"),
    ],
)
def test_a_public_address(settings, address):
    target = EcsTarget(cluster="c", task_definition="t", subnets=("s",), **settings)
    network = requests.run_task_request(target, a_launch(target.capacity), OUTFIT)["networkConfiguration"]
    assert network["awsvpcConfiguration"].get("assignPublicIp") == address
    if address is not None:
        path = ("networkConfiguration", "awsvpcConfiguration", "assignPublicIp")
        assert address in enumerated("ecs", "run_task", *path)


def test_a_size_overrides_that_of_a_task_definition_and_not_that_of_an_image():
    sized = EcsTarget(task_definition="t", vcpu=0.5, memory_mib=1024)
    overrides = requests.task_overrides(sized, OUTFIT)
    assert (overrides["cpu"], overrides["memory"]) == ("512", "1024")
    assert "cpu" not in requests.task_overrides(EcsTarget(image="i", vcpu=0.5, memory_mib=1024), OUTFIT)


@pytest.mark.parametrize(
    ("outfit", "culprit"),
    [
        pytest.param(Outfit(run_id="r", environment={"SHORT": "x", "LONG": "y" * 9000}), "env LONG", id="a variable"),
        pytest.param(Outfit(run_id="r", command=("python", "x" * 9000)), "the command", id="the command"),
        pytest.param(Outfit(run_id="r", environment={"CHINESE": "字" * 2000}), "env CHINESE", id="escapes count"),
    ],
)
def test_overrides_that_are_too_long_are_refused_before_any_request(outfit, culprit):
    with pytest.raises(SettingsError) as caught:
        requests.run_task_request(PLAIN, a_launch(), outfit)
    assert f"the longest: {culprit} (" in caught.value.what
    assert "8192" in caught.value.what


@given(length=st.integers(7900, 8300))
def test_the_limit_is_exact(length):
    outfit = Outfit(run_id="r", command=None, environment={"A": "x" * length})
    container = {"name": "worker", "environment": [{"name": "A", "value": ""}]}
    characters = len(json.dumps({"containerOverrides": [container]}))
    if characters + length <= MOST_OVERRIDES:
        requests.task_overrides(PLAIN, outfit)
    else:
        with pytest.raises(SettingsError):
            requests.task_overrides(PLAIN, outfit)


def test_one_definition_for_one_image_size_and_processor():
    target = EcsTarget(image="i:1", arch="x86_64", execution_role="e", log_group="g", region="r")
    family = requests.register_task_definition_request(target)["family"]
    assert family == requests.register_task_definition_request(target)["family"]
    others = [
        EcsTarget(image="i:2", arch="x86_64", execution_role="e", log_group="g", region="r"),
        EcsTarget(image="i:1", arch="arm64", execution_role="e", log_group="g", region="r"),
        EcsTarget(image="i:1", arch="x86_64", vcpu=2, memory_mib=4096, execution_role="e", log_group="g", region="r"),
    ]
    families = {family, *(requests.register_task_definition_request(other)["family"] for other in others)}
    assert len(families) == 4
    assert all(re.fullmatch(r"cloudexec-[A-Za-z0-9_-]{1,200}", each) for each in families)


def test_a_registered_worker_has_the_longest_stop_timeout_and_its_log():
    target = EcsTarget(image="i", log_group="/cloudexec", region="eu-west-1", execution_role="e")
    (container,) = requests.register_task_definition_request(target)["containerDefinitions"]
    assert container["stopTimeout"] == 120
    assert container["logConfiguration"]["options"]["awslogs-stream-prefix"] == "cloudexec"
    assert requests.log_stream(target, ARN) == "cloudexec/worker/0123456789abcdef"


def test_a_stop_reason_is_known_again_and_short_enough():
    request = requests.stop_task_request("c", ARN, "x" * 1000)
    assert request["reason"].startswith(requests.OUR_STOP)
    assert len(request["reason"]) == 255


@pytest.mark.parametrize("n_tasks", [0, 101])
def test_a_look_has_room_for_a_hundred(n_tasks):
    with pytest.raises(ValueError, match="1…100"):
        requests.describe_tasks_request("c", [ARN] * n_tasks)


@pytest.mark.parametrize("count", [0, 11])
def test_a_launch_has_room_for_ten(count):
    with pytest.raises(ValueError, match="1…10"):
        a_launch(count=count)


@pytest.mark.parametrize(
    ("task_mib", "container_mib", "wanted_mib", "then_mib"),
    [
        pytest.param(2048, None, 8192, None, id="a container without a limit of its own has the task's"),
        pytest.param(2048, 2048, 8192, 8192, id="one with a limit is given the new size"),
        pytest.param(2048, 1792, 8192, 7936, id="its neighbours keep what they have"),
        pytest.param(2048, 2048, None, None, id="the definition's size is kept"),
        pytest.param(None, 512, 1024, 1024, id="a definition without a size"),
    ],
)
def test_a_container_can_use_a_task_of_another_size(task_mib, container_mib, wanted_mib, then_mib):
    facts = DefinitionFacts(
        arn="td", container="worker", is_active=True, memory_mib=task_mib, container_mib=container_mib
    )
    size = {} if wanted_mib is None else {"vcpu": 2, "memory_mib": wanted_mib}
    target = EcsTarget(cluster="c", task_definition="td", launch_type="EC2", **size)
    assert container_memory_mib(target, facts) == then_mib


def test_what_is_tried_again_names_the_run_that_it_belongs_to():
    request = requests.run_task_request(PLAIN, a_launch(), Outfit(run_id="r2", parent_id="r1", memory_mib=4096))
    assert {"key": "cloudexec:parent", "value": "r1"} in request["tags"]
    assert request["overrides"]["containerOverrides"][0]["memory"] == 4096
