"""The resources that are there from the start, so that a first task needs nothing but `aws.setup`.

Called by:  control.py, at the start and after each reset.   Calls: moto.py, awslambda/plane.py.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import sys
import zipfile
from typing import Any, Final

from cloudexec.testing.pocket.server.awslambda.plane import Lambdas
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.settings import ACCOUNT_ID

CLUSTER: Final = "cloudexec"
FAMILY: Final = "cloudexec-worker"
CONTAINER: Final = "worker"
IMAGE: Final = "cloudexec/worker"
LOG_GROUP: Final = "/ecs/cloudexec"
FUNCTION: Final = "cloudexec-worker"
HANDLER: Final = "cloudexec.worker.awslambda.handler"
FUNCTION_ROLE: Final = "cloudexec-function"
TASK_ROLES: Final = ("cloudexec-task", "cloudexec-execution")
FUNCTION_MEMORY_MB: Final = 1769  # one vCPU
FUNCTION_TIMEOUT_S: Final = 60


def make_ready(moto: Moto, lambdas: Lambdas, region: str, endpoint_url: str) -> dict[str, Any]:
    """Cluster, bucket, log group, task definition, function, the default VPC's subnets; their names."""
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
    role_arn = _make_role(moto, FUNCTION_ROLE, "lambda")
    for name in TASK_ROLES:
        _make_role(moto, name, "ecs-tasks")
    _open_network(moto)
    moto.rest("lambda", "POST", "/2015-03-31/functions", worker_function(role_arn, bucket))
    lambdas.set_events(FUNCTION, region, {"MaximumRetryAttempts": 0})
    return {
        "region": region,
        "endpoint_url": endpoint_url,
        "cluster": CLUSTER,
        "task_definition": f"{definition['family']}:{definition['revision']}",
        "container": CONTAINER,
        "log_group": LOG_GROUP,
        "bucket": bucket,
        "function": FUNCTION,
        "function_role": role_arn,
        "subnets": subnets,
        "security_groups": groups,
    }


def nothing_ready(moto: Moto, region: str, endpoint_url: str) -> dict[str, Any]:
    """The names of what would be ready, of an account that is empty."""
    _open_network(moto)
    names = ("cluster", "task_definition", "container", "log_group", "bucket", "function", "function_role")
    return {
        "region": region,
        "endpoint_url": endpoint_url,
        **dict.fromkeys(names, ""),
        "subnets": [],
        "security_groups": [],
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


def worker_function(role_arn: str, bucket: str) -> dict[str, Any]:
    """The function of the workers; its code is the cloudexec that is installed here, so the zip holds a note."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        # A fixed time, so that the code has the same hash after each reset.
        written.writestr(zipfile.ZipInfo("README", (2026, 1, 1, 0, 0, 0)), "cloudexec is imported from outside.\n")
    return {
        "FunctionName": FUNCTION,
        "Runtime": f"python{sys.version_info[0]}.{sys.version_info[1]}",
        "Role": role_arn,
        "Handler": HANDLER,
        "MemorySize": FUNCTION_MEMORY_MB,
        "Timeout": FUNCTION_TIMEOUT_S,
        "Environment": {"Variables": {"CLOUDEXEC_BUCKET": bucket}},
        "Code": {"ZipFile": base64.b64encode(archive.getvalue()).decode()},
    }


def _open_network(moto: Moto) -> None:
    """The default VPC has a way out on AWS, and none in moto."""
    (vpc,) = _found(moto, "DescribeVpcs", "vpcId")
    (gateway,) = _found(moto, "CreateInternetGateway", "internetGatewayId")
    (table,) = _found(moto, "DescribeRouteTables", "routeTableId")
    moto.query("ec2", "AttachInternetGateway", {"InternetGatewayId": gateway, "VpcId": vpc})
    route = {"RouteTableId": table, "GatewayId": gateway, "DestinationCidrBlock": "0.0.0.0/0"}
    answer = moto.query("ec2", "CreateRoute", route)
    if not answer.ok:
        raise RuntimeError(f"the default VPC got no route: {answer.body!r}")


def _make_role(moto: Moto, name: str, service: str) -> str:
    """A role that a service may take; moto asks for one that is there."""
    trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    answer = moto.query("iam", "CreateRole", {"RoleName": name, "AssumeRolePolicyDocument": policy})
    if not answer.ok:
        raise RuntimeError(f"role {name} was not created: {answer.body!r}")
    return f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"


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
