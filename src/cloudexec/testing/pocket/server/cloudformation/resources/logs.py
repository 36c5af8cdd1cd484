"""Log groups.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py.
"""

from __future__ import annotations

from typing import Final

from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Job,
    Kind,
    Made,
    Properties,
    changed,
    only,
    retag,
    tags_of,
)

NAME_LIMIT: Final = 512


class LogGroup(Kind):
    """AWS::Logs::LogGroup."""

    type = "AWS::Logs::LogGroup"
    properties = frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "RetentionInDays", "Tags"})
    replaced_by = frozenset({"LogGroupName", "LogGroupClass"})
    attributes = ("Arn",)
    name_property = "LogGroupName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """Retention is a request of its own."""
        name = str(properties.get("LogGroupName") or job.name(NAME_LIMIT))
        wanted = {"LogGroupName": name, **only(properties, "KmsKeyId", "LogGroupClass")}
        if tags_of(properties):
            wanted["Tags"] = tags_of(properties)
        job.ask_for("logs", "CreateLogGroup", wanted)
        job.begun(name)
        self._retain(job, name, properties, {})
        return self._made(job, name)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Retention, key and tags."""
        self._retain(job, physical_id, properties, before)
        if changed(properties, before, "KmsKeyId"):
            if "KmsKeyId" in properties:
                job.ask("logs", "associate_kms_key", logGroupName=physical_id, kmsKeyId=str(properties["KmsKeyId"]))
            else:
                job.ask("logs", "disassociate_kms_key", logGroupName=physical_id)
        made = self._made(job, physical_id)
        arn = str(made.attributes["Arn"]).removesuffix(":*")
        retag(
            properties,
            before,
            lambda gone: job.ask("logs", "untag_resource", resourceArn=arn, tagKeys=gone),
            lambda: job.ask("logs", "tag_resource", resourceArn=arn, tags=tags_of(properties)),
        )
        return made

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """With everything in it."""
        job.ask("logs", "delete_log_group", logGroupName=physical_id)

    def _retain(self, job: Job, name: str, properties: Properties, before: Properties) -> None:
        if not changed(properties, before, "RetentionInDays"):
            return
        if "RetentionInDays" in properties:
            wanted = {"LogGroupName": name, **only(properties, "RetentionInDays")}
            job.ask_for("logs", "PutRetentionPolicy", wanted)
        else:
            job.ask("logs", "delete_retention_policy", logGroupName=name)

    def _made(self, job: Job, name: str) -> Made:
        arn = f"arn:aws:logs:{job.region}:{job.account_id}:log-group:{name}:*"
        return Made(physical_id=name, attributes={"Arn": arn})
