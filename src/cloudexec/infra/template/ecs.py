"""Cluster, worker and roles for ECSExecutor.

Called by: build.py.   Calls: bundle/words.py, for the entry point.   Pure.
"""

from __future__ import annotations

from typing import Final

from cloudexec.backends.ecs.requests import STOP_TIMEOUT_S
from cloudexec.infra.bundle.words import ENTRY_POINT, VARIABLE
from cloudexec.infra.names import in_template
from cloudexec.infra.permissions.grants import Who
from cloudexec.infra.permissions.render import in_cloudformation, policy
from cloudexec.infra.template.options import Shape, StackOptions, att, parameter, ref, resource, role, sub

USER: Final = "10001"


def parameters(options: StackOptions) -> Shape:
    """The worker's image and size."""
    return {
        "WorkerImage": parameter(
            "String", "", "The worker image; empty: a plain Python that fetches the bundle when it starts"
        ),
        "WorkerCpu": parameter("String", "1024", "1/1024 vCPU for each container"),
        "WorkerMemory": parameter("String", "2048", "MiB for each container"),
    }


def conditions() -> Shape:
    """The worker needs code: the bundle's, or an image's."""
    return {
        "HasWorkerImage": {"Fn::Not": [{"Fn::Equals": [ref("WorkerImage"), ""]}]},
        "HasWorker": {"Fn::Or": [{"Condition": "HasBundle"}, {"Condition": "HasWorkerImage"}]},
    }


def resources(options: StackOptions) -> Shape:
    """All of ECS. The cluster costs nothing while nothing runs."""
    ours = {"StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")}}
    names = in_template()
    return {
        "Cluster": resource(
            "AWS::ECS::Cluster",
            {"ClusterName": ref("AWS::StackName"), "CapacityProviders": ["FARGATE", "FARGATE_SPOT"]},
        ),
        "Worker": resource("AWS::ECS::TaskDefinition", _worker(options), Condition="HasWorker"),
        # Add here what your functions may do.
        "TaskRole": role("ecs-tasks.amazonaws.com", {"worker": in_cloudformation(policy(Who.TASK, names))}, ours),
        "ExecutionRole": role(
            "ecs-tasks.amazonaws.com", {"start": in_cloudformation(policy(Who.EXECUTION, names))}, ours
        ),
    }


def _worker(options: StackOptions) -> Shape:
    log = {
        "awslogs-group": ref("Log"),
        "awslogs-region": ref("AWS::Region"),
        "awslogs-stream-prefix": "cloudexec",
    }
    plain = f"public.ecr.aws/docker/library/python:{options.python}-slim"

    def bundled(value: object) -> Shape:
        return {"Fn::If": ["HasWorkerImage", ref("AWS::NoValue"), value]}

    container = {
        "Name": "worker",
        "Image": {"Fn::If": ["HasWorkerImage", ref("WorkerImage"), plain]},
        "Essential": True,
        "EntryPoint": bundled(list(ENTRY_POINT)),
        "Command": ["python", "-m", "cloudexec.worker", "--pull"],
        "User": bundled(USER),
        "Environment": bundled(
            [
                {"Name": VARIABLE, "Value": sub("s3://${BucketName}/${BundleKey}")},
                {"Name": "CLOUDEXEC_BUNDLE_OWNER", "Value": ref("AWS::AccountId")},
                {"Name": "PYTHONUNBUFFERED", "Value": "1"},
            ]
        ),
        "StopTimeout": STOP_TIMEOUT_S,
        "LinuxParameters": {"InitProcessEnabled": True},
        "LogConfiguration": {"LogDriver": "awslogs", "Options": log},
    }
    return {
        "Family": sub("${AWS::StackName}-worker"),
        "RequiresCompatibilities": ["FARGATE"],
        "NetworkMode": "awsvpc",
        "Cpu": ref("WorkerCpu"),
        "Memory": ref("WorkerMemory"),
        "RuntimePlatform": {
            "OperatingSystemFamily": "LINUX",
            "CpuArchitecture": {"Fn::If": ["IsArm", "ARM64", "X86_64"]},
        },
        "TaskRoleArn": att("TaskRole"),
        "ExecutionRoleArn": att("ExecutionRole"),
        "ContainerDefinitions": [container],
    }
