"""The resources that are there from the start, so that a first task needs nothing but `aws.setup`.

Called by:  control.py, at the start and after each reset.   Calls: moto.py.
"""

from __future__ import annotations

import random
import re
from typing import Any, Final

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.settings import ACCOUNT_ID

CLUSTER: Final = "cloudexec"
FAMILY: Final = "cloudexec-worker"
CONTAINER: Final = "worker"
IMAGE: Final = "cloudexec/worker"
LOG_GROUP: Final = "/ecs/cloudexec"


def make_ready(moto: Moto, region: str, endpoint_url: str) -> dict[str, Any]:
    """Cluster, bucket, log group, task definition, the default VPC's subnets; their names."""
    moto.seed(0)  # so that the default VPC's ids are the same after each reset
    subnets, groups = _found(moto, "DescribeSubnets", "subnetId"), _found(moto, "DescribeSecurityGroups", "groupId")[:1]
    moto.seed(random.randrange(2**32))
    providers = ["FARGATE", "FARGATE_SPOT"]
    strategy = [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]
    moto.call("ecs", "CreateCluster", {"clusterName": CLUSTER, "capacityProviders": providers})
    names = {"cluster": CLUSTER, "capacityProviders": providers, "defaultCapacityProviderStrategy": strategy}
    moto.call("ecs", "PutClusterCapacityProviders", names)
    moto.call("logs", "CreateLogGroup", {"logGroupName": LOG_GROUP})
    definition = moto.call("ecs", "RegisterTaskDefinition", worker_definition(region))["taskDefinition"]
    bucket = f"cloudexec-{ACCOUNT_ID}-{region}"
    _make_bucket(moto, bucket, region)
    return {
        "region": region,
        "endpoint_url": endpoint_url,
        "cluster": CLUSTER,
        "task_definition": f"{definition['family']}:{definition['revision']}",
        "container": CONTAINER,
        "log_group": LOG_GROUP,
        "bucket": bucket,
        "subnets": subnets,
        "security_groups": groups,
    }


def worker_definition(region: str) -> dict[str, Any]:
    """The task definition of the workers: one container, one vCPU, 2 GiB."""
    options = {"awslogs-group": LOG_GROUP, "awslogs-region": region, "awslogs-stream-prefix": "cloudexec"}
    return {
        "family": FAMILY,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "1024",
        "memory": "2048",
        "taskRoleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/cloudexec-task",
        "executionRoleArn": f"arn:aws:iam::{ACCOUNT_ID}:role/cloudexec-execution",
        "containerDefinitions": [
            {
                "name": CONTAINER,
                "image": IMAGE,
                "essential": True,
                "command": ["python", "-m", "cloudexec.worker", "--pull"],
                "logConfiguration": {"logDriver": "awslogs", "options": options},
            }
        ],
    }


def _make_bucket(moto: Moto, bucket: str, region: str) -> None:
    body = b""
    if region != "us-east-1":
        inside = f"<LocationConstraint>{region}</LocationConstraint>"
        body = f"<CreateBucketConfiguration>{inside}</CreateBucketConfiguration>".encode()
    answer = moto.send("s3", "PUT", f"/{bucket}", body, "application/xml")
    if not answer.ok:
        raise RuntimeError(f"bucket {bucket} was not created: {answer.body!r}")


def _found(moto: Moto, operation: str, tag: str) -> list[str]:
    answer = moto.query("ec2", operation, {})
    return list(dict.fromkeys(re.findall(rf"<{tag}>([^<]+)</{tag}>", answer.body.decode())))
