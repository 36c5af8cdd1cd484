"""ECS: the cluster, its capacity, the workers' task definition, its log.

Called by: examine.py.   Calls: ECS, CloudWatch Logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cloudexec.backends.ecs.sizes import check_fargate_size
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.doctor.findings import Finding, detail, failed, of_error, ok, warning
from cloudexec.infra.doctor.scene import Scene

SUBJECT: Final = "ecs"
_MAKE: Final = "cloudexec up, or correct {}="


def check_cluster(scene: Scene) -> list[Finding]:
    """Whether the cluster starts tasks on what is asked for."""
    target = scene.ecs.target
    said = scene.ask("ecs", "describe_clusters", {"clusters": [target.cluster]})
    return judge_cluster(target, said.get("clusters") or [])


def judge_cluster(target: EcsTarget, said: list[Mapping[str, Any]]) -> list[Finding]:
    """Pure."""
    if not said or said[0].get("status") == "INACTIVE":
        text = f"there is no cluster {target.cluster}"
        return [failed(SUBJECT, text, _MAKE.format("cluster") + " or region=", cluster=target.cluster)]
    status = str(said[0].get("status") or "ACTIVE")
    if status != "ACTIVE":
        remedy = "wait a minute, or make it anew: cloudexec up"
        return [failed(SUBJECT, f"cluster {target.cluster} is {status}", remedy, status=status)]
    has = set(said[0].get("capacityProviders") or [])
    wanted = {"FARGATE_SPOT"} if target.spot else {share.provider for share in target.capacity_provider_strategy}
    if lacking := sorted(wanted - has):
        text = f"cluster {target.cluster} has no capacity provider {', '.join(lacking)}, which the settings ask for"
        remedy = (
            f"aws ecs put-cluster-capacity-providers --cluster {target.cluster} --capacity-providers "
            f"{' '.join(sorted(has | wanted))} --default-capacity-provider-strategy []"
        )
        return [failed(SUBJECT, text, remedy, lacking=lacking)]
    findings = [ok(SUBJECT, f"cluster {target.cluster} is ACTIVE", cluster=target.cluster)]
    if not target.spot and "FARGATE_SPOT" in has and target.is_fargate:
        findings.append(detail(SUBJECT, "it has FARGATE_SPOT, too: spot=True costs about a third"))
    if not target.is_fargate and target.launch_type == "EC2" and not said[0].get("registeredContainerInstancesCount"):
        text = f"cluster {target.cluster} has no EC2 instances, and launch_type is EC2"
        findings.append(failed(SUBJECT, text, "start instances for it, or leave launch_type= away: Fargate"))
    return findings


def check_definition(scene: Scene) -> list[Finding]:
    """Whether workers can be started from the task definition."""
    target = scene.ecs.target
    if not target.task_definition:
        return [ok(SUBJECT, f"workers run image {target.image}; their task definition is registered by the executor")]
    findings = judge_definition(target, scene.definition, scene.container, scene.worker_size)
    return findings + _check_log(scene)


def judge_definition(
    target: EcsTarget, said: Mapping[str, Any], container: Mapping[str, Any], size: tuple[float, int]
) -> list[Finding]:
    """Pure. container: the one that runs the worker, {} if there is none of its name. size: vCPU, MiB."""
    named = f"task definition {said['family']}:{said['revision']}"
    findings: list[Finding] = []
    if said.get("status", "ACTIVE") != "ACTIVE":
        text = f"{named} is {said['status']}: nothing can be started from it"
        return [failed(SUBJECT, text, _MAKE.format("task_definition"))]
    if not container:
        names = ", ".join(one["name"] for one in said.get("containerDefinitions") or [])
        text = f"{named} has no container {target.container_name}; it has {names or 'none'}"
        return [failed(SUBJECT, text, "name it with container=")]
    if target.is_fargate:
        findings += _judge_fargate(named, said, size)
    findings += _judge_architecture(named, target, said)
    findings += _judge_driver(named, container)
    if not findings:
        arch = (said.get("runtimePlatform") or {}).get("cpuArchitecture") or "X86_64"
        text = f"{named} is ACTIVE: {size[0]:g} vCPU and {size[1]} MiB, {arch}"
        findings.append(ok(SUBJECT, text, vcpu=size[0], memory_mib=size[1], arch=arch))
    return findings


def _judge_fargate(named: str, said: Mapping[str, Any], size: tuple[float, int]) -> list[Finding]:
    if said.get("compatibilities") and "FARGATE" not in said["compatibilities"]:
        text = f"{named} cannot run on Fargate"
        return [failed(SUBJECT, text, "register it with requiresCompatibilities FARGATE, or cloudexec up")]
    try:
        check_fargate_size(*size)
    except SettingsError as error:
        return [failed(SUBJECT, f"{named}: {error.what}", error.remedy)]
    return []


def _judge_architecture(named: str, target: EcsTarget, said: Mapping[str, Any]) -> list[Finding]:
    has = (said.get("runtimePlatform") or {}).get("cpuArchitecture") or "X86_64"
    if target.architecture and target.architecture != has:
        text = f"{named} is for {has}, and arch={target.arch} is set"
        return [failed(SUBJECT, text, "leave arch= away, or take a definition and an image for it")]
    if (system := (said.get("runtimePlatform") or {}).get("operatingSystemFamily") or "LINUX") != "LINUX":
        return [failed(SUBJECT, f"{named} is for {system}, and workers run on Linux", _MAKE.format("task_definition"))]
    return []


def _judge_driver(named: str, container: Mapping[str, Any]) -> list[Finding]:
    logs = container.get("logConfiguration") or {}
    if not logs:
        text = f"{named} writes no log: what a worker that dies says last is lost"
        return [warning(SUBJECT, text, "give its container the log driver awslogs")]
    if logs.get("logDriver") != "awslogs":
        text = f"{named} logs by {logs.get('logDriver')}: neither errors nor `cloudexec logs` can show its lines"
        return [warning(SUBJECT, text, "take the log driver awslogs, if they shall")]
    return []


def _check_log(scene: Scene) -> list[Finding]:
    group = scene.log_group
    if not group:
        return []
    try:
        said = scene.ask("logs", "describe_log_groups", {"logGroupNamePrefix": group})
    except AwsError as error:
        return [of_error(SUBJECT, f"log group {group}", error)]
    is_made = str(scene.log_options.get("awslogs-create-group") or "").lower() == "true"
    return judge_log_group(group, said.get("logGroups") or [], is_made_by_task=is_made)


def judge_log_group(group: str, said: list[Mapping[str, Any]], *, is_made_by_task: bool) -> list[Finding]:
    """Pure. A task whose log group is not there does not start."""
    found = next((one for one in said if one["logGroupName"] == group), None)
    if found is None and not is_made_by_task:
        remedy = f"aws logs create-log-group --log-group-name {group}, or cloudexec up"
        return [failed(SUBJECT, f"there is no log group {group}: tasks that write to it do not start", remedy)]
    if found is not None and not found.get("retentionInDays"):
        text = f"log group {group} keeps everything for ever, at $0.03 a GB and month"
        remedy = f"aws logs put-retention-policy --log-group-name {group} --retention-in-days 14"
        return [warning(SUBJECT, text, remedy)]
    return [detail(SUBJECT, f"log group {group} is there")]
