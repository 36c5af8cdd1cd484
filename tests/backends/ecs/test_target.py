"""A target that exists is valid; contradictions are refused where they are written, with what to do."""

import pytest

from cloudexec.backends.ecs.target import Capacity, EcsTarget, ProviderShare
from cloudexec.errors import SettingsError

OWN = ProviderShare(provider="my-machines")


@pytest.mark.parametrize(
    ("settings", "what", "remedy"),
    [
        pytest.param({"task_definition": "a", "image": "b"}, "both", "give one", id="definition and image"),
        pytest.param({"task_definition": "a", "task_role": "r"}, "belong to", "image=", id="a role for a definition"),
        pytest.param({"vcpu": 1, "memory_mib": 1024, "image": "i"}, "no size", "memory_mib=2048", id="no such size"),
        pytest.param({"image": "i", "vcpu": 4}, "no size", "vcpu=4, memory_mib=8192", id="CPUs need their memory"),
        pytest.param({"task_definition": "a", "vcpu": 4}, "only one", "give both", id="half a size"),
        pytest.param({"vcpu": 0}, "vcpu=0", "vcpu=1", id="no CPU"),
        pytest.param({"memory_mib": -1}, "memory_mib=-1", "2048", id="negative memory"),
        pytest.param({"slots": 0}, "slots=0", "slots >= 1", id="no slot"),
        pytest.param({"slots": 1.5}, "slots=1.5", "slots >= 1", id="half a slot"),
        pytest.param({"arch": "mips"}, "arch='mips'", "arm64", id="unknown processor"),
        pytest.param({"ephemeral_gib": 20}, "21…200", "20 GiB are free", id="disk that is free"),
        pytest.param({"launch_type": "LAMBDA"}, "unknown", "FARGATE", id="unknown launch type"),
        pytest.param(
            {"launch_type": "EC2", "capacity_provider_strategy": (OWN,)}, "exclude", "one of them", id="two ways"
        ),
        pytest.param({"spot": True, "launch_type": "EC2"}, "launch_type", "leave launch_type out", id="spot on EC2"),
        pytest.param(
            {"spot": True, "capacity_provider_strategy": (OWN,)}, "contradicts", "FARGATE_SPOT", id="spot and strategy"
        ),
        pytest.param({"on_demand_base": 2}, "without spot", "spot=True", id="a base of nothing"),
        pytest.param({"on_demand_base": -1, "spot": True}, "negative", "0 or more", id="a negative base"),
        pytest.param(
            {"capacity_provider_strategy": (OWN, ProviderShare(provider="FARGATE"))},
            "mixes",
            "not both",
            id="mixed",
        ),
        pytest.param(
            {"capacity_provider_strategy": (ProviderShare(provider="p", weight=0),)}, "all weights", "1", id="no weight"
        ),
        pytest.param(
            {"capacity_provider_strategy": (ProviderShare(provider="p", base=1), ProviderShare(provider="q", base=1))},
            "several",
            "one of them",
            id="two bases",
        ),
        pytest.param({"tags": {"aws:x": "1"}}, "aws:x", "not starting", id="a tag of Amazon's"),
        pytest.param({"tags": {"cloudexec:run": "1"}}, "cloudexec:run", "not starting", id="a tag of ours"),
        pytest.param({"tags": {"a": "ä;"}}, "'a'", "letters", id="a tag's text"),
        pytest.param({"tags": {str(n): "" for n in range(47)}}, "47 tags", "46", id="too many tags"),
    ],
)
def test_it_refuses(settings, what, remedy):
    with pytest.raises(SettingsError) as caught:
        EcsTarget(**settings)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        pytest.param({}, {"cluster", "task_definition", "subnets"}, id="nothing given"),
        pytest.param({"cluster": "c", "task_definition": "t"}, {"subnets"}, id="Fargate needs subnets"),
        pytest.param({"cluster": "c", "task_definition": "t", "subnets": ("s",)}, set(), id="all there"),
        pytest.param({"cluster": "c", "task_definition": "t", "launch_type": "EC2"}, set(), id="EC2 may do without"),
        pytest.param(
            {"cluster": "c", "image": "i", "subnets": ("s",)}, {"execution_role"}, id="who pulls the image on Fargate?"
        ),
    ],
)
def test_it_knows_what_is_missing(settings, missing):
    assert set(EcsTarget(**settings).missing) == missing


@pytest.mark.parametrize(
    ("settings", "capacity", "is_fargate"),
    [
        pytest.param({}, Capacity.ON_DEMAND, True, id="Fargate by default"),
        pytest.param({"spot": True}, Capacity.SPOT, True, id="spot"),
        pytest.param({"launch_type": "FARGATE"}, Capacity.ON_DEMAND, True, id="named Fargate"),
        pytest.param({"launch_type": "EC2"}, Capacity.OWN, False, id="EC2"),
        pytest.param({"capacity_provider_strategy": (OWN,)}, Capacity.OWN, False, id="an own provider"),
        pytest.param(
            {"capacity_provider_strategy": (ProviderShare(provider="FARGATE_SPOT"),)}, Capacity.OWN, True, id="own mix"
        ),
    ],
)
def test_capacity_follows_from_the_settings(settings, capacity, is_fargate):
    target = EcsTarget(**settings)
    assert (target.capacity, target.is_fargate) == (capacity, is_fargate)


@pytest.mark.parametrize(
    ("settings", "n_slots"),
    [
        pytest.param({}, 1, id="one vCPU"),
        pytest.param({"vcpu": 4, "memory_mib": 8192}, 4, id="one per vCPU"),
        pytest.param({"vcpu": 0.5, "memory_mib": 1024}, 1, id="at least one"),
        pytest.param({"vcpu": 4, "memory_mib": 8192, "slots": 1}, 1, id="as given"),
    ],
)
def test_slots(settings, n_slots):
    assert EcsTarget(**settings).n_slots == n_slots


@pytest.mark.parametrize("share", [{"weight": 1001}, {"weight": -1}, {"base": -1}, {"base": 100_001}])
def test_a_share_is_in_the_services_range(share):
    with pytest.raises(SettingsError, match="out of range"):
        ProviderShare(provider="p", **share)
