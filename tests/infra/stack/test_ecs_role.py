"""An account that has never used ECS: its first cluster works, because the role of ECS itself was made before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudexec.backends.clients import Clients
from cloudexec.infra.place import Place
from cloudexec.infra.stack.ecsrole import ensure
from tests.infra.stack.scene import OTHER_PYTHON, REGION, Scene

CLUSTER = {"clusterName": "first", "capacityProviders": ["FARGATE"]}


@pytest.fixture
def place(scene: Scene) -> Iterator[Place]:
    clients = Clients(region=REGION, endpoint_url=scene.aws.endpoint_url)
    with scene.as_shell():
        yield Place(clients)
    clients.close()


@pytest.fixture
def new_account(scene: Scene) -> Scene:
    scene.client("iam").delete_service_linked_role(RoleName="AWSServiceRoleForECS")
    return scene


def test_without_it_the_first_cluster_fails(new_account: Scene):
    with pytest.raises(Exception, match="Unable to assume the service linked role"):
        new_account.client("ecs").create_cluster(**CLUSTER)


def test_it_is_made_told_and_waited_for(new_account: Scene, place: Place):
    said: list[str] = []
    assert ensure(place, said.append, spreads_s=0.3)
    assert "AWSServiceRoleForECS" in said[0]
    assert new_account.client("ecs").create_cluster(**CLUSTER)["cluster"]["status"] == "ACTIVE"
    assert not ensure(place, said.append)
    assert len(said) == 1


def test_who_may_not_make_it_goes_on(new_account: Scene, place: Place):
    new_account.aws.faults.error("AccessDenied", "no", status=403, service="iam", operation="CreateServiceLinkedRole")
    assert not ensure(place, print)


def test_up_asks_for_it_when_it_makes_a_cluster(scene: Scene):
    scene.aws.faults.error("AccessDenied", "no", status=403, service="iam", operation="CreateServiceLinkedRole")
    assert scene.run("up", "--yes", "--only", "ecs", "--python", OTHER_PYTHON).code == 0
    assert len(scene.aws.faults.fired("error")) == 1
