"""Clusters and task definitions.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py.
"""

from __future__ import annotations

from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Job,
    Kind,
    Made,
    Properties,
    changed,
    key_values,
    only,
    retag,
)

NAME_LIMIT: Final = 255


class Cluster(Kind):
    """AWS::ECS::Cluster."""

    type = "AWS::ECS::Cluster"
    properties = frozenset(
        {
            "CapacityProviders",
            "ClusterName",
            "ClusterSettings",
            "Configuration",
            "DefaultCapacityProviderStrategy",
            "Tags",
        }
    )
    replaced_by = frozenset({"ClusterName"})
    attributes = ("Arn",)
    name_property = "ClusterName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """Capacity providers come with the cluster."""
        name = str(properties.get("ClusterName") or job.name(NAME_LIMIT))
        wanted = {"ClusterName": name, **only(properties, "CapacityProviders", "Configuration")}
        wanted |= only(properties, "DefaultCapacityProviderStrategy")
        if "ClusterSettings" in properties:
            wanted["Settings"] = properties["ClusterSettings"]
        if "Tags" in properties:
            wanted["Tags"] = key_values(properties)
        made = job.ask_for("ecs", "CreateCluster", wanted)["cluster"]
        return Made(physical_id=name, attributes={"Arn": made["clusterArn"]})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Settings and capacity each have an operation of their own."""
        arn = f"arn:aws:ecs:{job.region}:{job.account_id}:cluster/{physical_id}"
        if changed(properties, before, "ClusterSettings", "Configuration"):
            wanted = {"Cluster": physical_id, **only(properties, "Configuration")}
            wanted["Settings"] = properties.get("ClusterSettings") or []
            job.ask_for("ecs", "UpdateCluster", wanted)
        if changed(properties, before, "CapacityProviders", "DefaultCapacityProviderStrategy"):
            wanted = {
                "Cluster": physical_id,
                "CapacityProviders": properties.get("CapacityProviders") or [],
                "DefaultCapacityProviderStrategy": properties.get("DefaultCapacityProviderStrategy") or [],
            }
            job.ask_for("ecs", "PutClusterCapacityProviders", wanted)
        _retag(job, arn, properties, before)
        return Made(physical_id=physical_id, attributes={"Arn": arn})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """ECS refuses it while tasks run."""
        job.ask("ecs", "delete_cluster", cluster=physical_id)


class TaskDefinition(Kind):
    """AWS::ECS::TaskDefinition: a revision; anything but tags makes another one."""

    type = "AWS::ECS::TaskDefinition"
    properties = frozenset(
        {
            "ContainerDefinitions",
            "Cpu",
            "EphemeralStorage",
            "ExecutionRoleArn",
            "Family",
            "IpcMode",
            "Memory",
            "NetworkMode",
            "PidMode",
            "PlacementConstraints",
            "RequiresCompatibilities",
            "RuntimePlatform",
            "Tags",
            "TaskRoleArn",
            "Volumes",
        }
    )
    replaced_by = properties - {"Tags"}
    attributes = ("TaskDefinitionArn",)
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """Register it."""
        wanted: dict[str, Any] = {"Family": job.name(NAME_LIMIT), **properties}
        if "Tags" in properties:
            wanted["Tags"] = key_values(properties)
        arn = job.ask_for("ecs", "RegisterTaskDefinition", wanted)["taskDefinition"]["taskDefinitionArn"]
        return Made(physical_id=arn, attributes={"TaskDefinitionArn": arn})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Tags alone."""
        _retag(job, physical_id, properties, before)
        return Made(physical_id=physical_id, attributes={"TaskDefinitionArn": physical_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """It stays INACTIVE, as on AWS."""
        job.ask("ecs", "deregister_task_definition", taskDefinition=physical_id)


def _retag(job: Job, arn: str, properties: Properties, before: Properties) -> None:
    retag(
        properties,
        before,
        lambda gone: job.ask("ecs", "untag_resource", resourceArn=arn, tagKeys=gone),
        lambda: job.ask("ecs", "tag_resource", resourceArn=arn, tags=key_values(properties, "key", "value")),
    )
