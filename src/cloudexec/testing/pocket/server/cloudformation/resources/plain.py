"""Repositories of images, build projects, queues.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py.
"""

from __future__ import annotations

from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.intrinsics import is_true, text_of
from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Job,
    Kind,
    Made,
    Properties,
    changed,
    document,
    key_values,
    only,
    retag,
    tags_of,
    without,
)

REPOSITORY_LIMIT: Final = 256
PROJECT_LIMIT: Final = 255
QUEUE_LIMIT: Final = 80


class Repository(Kind):
    """AWS::ECR::Repository."""

    type = "AWS::ECR::Repository"
    properties = frozenset(
        {
            "EmptyOnDelete",
            "EncryptionConfiguration",
            "ImageScanningConfiguration",
            "ImageTagMutability",
            "LifecyclePolicy",
            "RepositoryName",
            "RepositoryPolicyText",
            "Tags",
        }
    )
    replaced_by = frozenset({"RepositoryName", "EncryptionConfiguration"})
    attributes = ("Arn", "RepositoryUri")
    name_property = "RepositoryName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The repository, then its policies."""
        name = str(properties.get("RepositoryName") or job.name(REPOSITORY_LIMIT, lower=True))
        wanted = only(properties, "EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability")
        wanted |= {"RepositoryName": name, "Tags": key_values(properties)}
        made = job.ask_for("ecr", "CreateRepository", wanted)["repository"]
        job.begun(name)
        self._put_policies(job, name, properties, {})
        attributes = {"Arn": made["repositoryArn"], "RepositoryUri": made["repositoryUri"]}
        return Made(physical_id=name, attributes=attributes)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """What differs."""
        if changed(properties, before, "ImageScanningConfiguration"):
            scanning = properties.get("ImageScanningConfiguration") or {"ScanOnPush": False}
            wanted = {"RepositoryName": physical_id, "ImageScanningConfiguration": scanning}
            job.ask_for("ecr", "PutImageScanningConfiguration", wanted)
        if changed(properties, before, "ImageTagMutability"):
            word = str(properties.get("ImageTagMutability") or "MUTABLE")
            job.ask("ecr", "put_image_tag_mutability", repositoryName=physical_id, imageTagMutability=word)
        self._put_policies(job, physical_id, properties, before)
        made = job.ask("ecr", "describe_repositories", repositoryNames=[physical_id])["repositories"][0]
        arn = made["repositoryArn"]
        retag(
            properties,
            before,
            lambda gone: job.ask("ecr", "untag_resource", resourceArn=arn, tagKeys=gone),
            lambda: job.ask("ecr", "tag_resource", resourceArn=arn, tags=key_values(properties)),
        )
        return Made(physical_id=physical_id, attributes={"Arn": arn, "RepositoryUri": made["repositoryUri"]})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """ECR refuses it while it holds images, unless EmptyOnDelete says otherwise."""
        force = is_true(properties.get("EmptyOnDelete", False))
        job.ask("ecr", "delete_repository", repositoryName=physical_id, force=force)

    def _put_policies(self, job: Job, name: str, properties: Properties, before: Properties) -> None:
        if changed(properties, before, "LifecyclePolicy"):
            text = (properties.get("LifecyclePolicy") or {}).get("LifecyclePolicyText")
            if text:
                job.ask("ecr", "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=text)
            else:
                job.ask("ecr", "delete_lifecycle_policy", repositoryName=name)
        if changed(properties, before, "RepositoryPolicyText"):
            if "RepositoryPolicyText" in properties:
                text = document(properties["RepositoryPolicyText"])
                job.ask("ecr", "set_repository_policy", repositoryName=name, policyText=text)
            else:
                job.ask("ecr", "delete_repository_policy", repositoryName=name)


class Project(Kind):
    """AWS::CodeBuild::Project."""

    type = "AWS::CodeBuild::Project"
    properties = frozenset(
        {
            "Artifacts",
            "Cache",
            "ConcurrentBuildLimit",
            "Description",
            "EncryptionKey",
            "Environment",
            "LogsConfig",
            "Name",
            "QueuedTimeoutInMinutes",
            "SecondarySources",
            "ServiceRole",
            "Source",
            "SourceVersion",
            "Tags",
            "TimeoutInMinutes",
            "VpcConfig",
        }
    )
    required = frozenset({"Artifacts", "Environment", "ServiceRole", "Source"})
    replaced_by = frozenset({"Name"})
    attributes = ("Arn",)
    name_property = "Name"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        name = str(properties.get("Name") or job.name(PROJECT_LIMIT))
        wanted = {**without(properties, "Tags"), "Name": name, "Tags": key_values(properties)}
        made = job.ask_for("codebuild", "CreateProject", wanted)
        return Made(physical_id=name, attributes={"Arn": made["project"]["arn"]})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """One request with everything."""
        wanted = {**without(properties, "Tags"), "Name": physical_id, "Tags": key_values(properties)}
        job.ask_for("codebuild", "UpdateProject", wanted)
        arn = f"arn:aws:codebuild:{job.region}:{job.account_id}:project/{physical_id}"
        return Made(physical_id=physical_id, attributes={"Arn": arn})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """Its builds go, too."""
        job.ask("codebuild", "delete_project", name=physical_id)


class Queue(Kind):
    """AWS::SQS::Queue."""

    type = "AWS::SQS::Queue"
    attribute_names: Final = (
        "ContentBasedDeduplication",
        "DelaySeconds",
        "FifoQueue",
        "KmsMasterKeyId",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "RedrivePolicy",
        "VisibilityTimeout",
    )
    properties = frozenset({*attribute_names, "QueueName", "Tags"})
    replaced_by = frozenset({"QueueName", "FifoQueue"})
    attributes = ("Arn", "QueueName", "QueueUrl")
    name_property = "QueueName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """Its physical id is its URL."""
        name = str(properties.get("QueueName") or job.name(QUEUE_LIMIT))
        wanted: dict[str, Any] = {"QueueName": name, "Attributes": self._attributes(properties)}
        if tags_of(properties):
            wanted["tags"] = tags_of(properties)
        return self._made(job, job.ask("sqs", "create_queue", **wanted)["QueueUrl"])

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Attributes and tags; an attribute that is no longer said stays, since SQS tells no defaults."""
        if changed(properties, before, *self.attribute_names):
            attributes = self._attributes(properties)
            job.ask("sqs", "set_queue_attributes", QueueUrl=physical_id, Attributes=attributes)
        retag(
            properties,
            before,
            lambda gone: job.ask("sqs", "untag_queue", QueueUrl=physical_id, TagKeys=gone),
            lambda: job.ask("sqs", "tag_queue", QueueUrl=physical_id, Tags=tags_of(properties)),
        )
        return self._made(job, physical_id)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """With its messages."""
        job.ask("sqs", "delete_queue", QueueUrl=physical_id)

    def _attributes(self, properties: Properties) -> dict[str, str]:
        named = only(properties, *self.attribute_names)
        return {name: document(each) if isinstance(each, dict) else text_of(each) for name, each in named.items()}

    def _made(self, job: Job, url: str) -> Made:
        name = url.rpartition("/")[2]
        arn = f"arn:aws:sqs:{job.region}:{job.account_id}:{name}"
        return Made(physical_id=url, attributes={"Arn": arn, "QueueName": name, "QueueUrl": url})
