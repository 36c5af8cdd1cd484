"""Functions, what becomes of their events, and who may invoke them.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Job,
    Kind,
    Made,
    Properties,
    changed,
    only,
    retag,
    tags_of,
    without,
)

NAME_LIMIT: Final = 64
# What UpdateFunctionConfiguration sets; what is no longer said goes back to this.
CONFIGURATION: Final[dict[str, Any]] = {
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "Handler": None,
    "ImageConfig": {},
    "Layers": [],
    "LoggingConfig": None,
    "MemorySize": 128,
    "Role": None,
    "Runtime": None,
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}


class Function(Kind):
    """AWS::Lambda::Function."""

    type = "AWS::Lambda::Function"
    properties = frozenset(
        {*CONFIGURATION, "Architectures", "Code", "FunctionName", "PackageType", "ReservedConcurrentExecutions", "Tags"}
    )
    required = frozenset({"Code", "Role"})
    replaced_by = frozenset({"FunctionName", "PackageType"})
    attributes = ("Arn",)
    name_property = "FunctionName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The function, then what is reserved for it."""
        name = str(properties.get("FunctionName") or job.name(NAME_LIMIT))
        wanted = without(properties, "ReservedConcurrentExecutions", "Tags", "Code", "FunctionName")
        request = job.request("lambda", "CreateFunction", {**wanted, "FunctionName": name, "Code": {}})
        request["Code"] = _code(properties["Code"])
        if tags_of(properties):
            request["Tags"] = tags_of(properties)
        made = job.ask("lambda", "create_function", **request)
        job.begun(name)
        self._reserve(job, name, properties, {})
        return Made(physical_id=name, attributes={"Arn": made["FunctionArn"]})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Code and configuration are two requests; none while the function stays as it is."""
        arn = f"arn:aws:lambda:{job.region}:{job.account_id}:function:{physical_id}"
        if changed(properties, before, "Code", "Architectures"):
            request = {"FunctionName": physical_id, **only(properties, "Architectures")}
            job.ask("lambda", "update_function_code", **request, **_code(properties["Code"]))
        names = [name for name in CONFIGURATION if changed(properties, before, name)]
        wanted = {name: properties.get(name, CONFIGURATION[name]) for name in names}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if wanted:
            job.ask_for("lambda", "UpdateFunctionConfiguration", {"FunctionName": physical_id, **wanted})
        self._reserve(job, physical_id, properties, before)
        retag(
            properties,
            before,
            lambda gone: job.ask("lambda", "untag_resource", Resource=arn, TagKeys=gone),
            lambda: job.ask("lambda", "tag_resource", Resource=arn, Tags=tags_of(properties)),
        )
        return Made(physical_id=physical_id, attributes={"Arn": arn})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """With all versions."""
        job.ask("lambda", "delete_function", FunctionName=physical_id)

    def _reserve(self, job: Job, name: str, properties: Properties, before: Properties) -> None:
        if not changed(properties, before, "ReservedConcurrentExecutions"):
            return
        reserved = properties.get("ReservedConcurrentExecutions")
        if reserved is None:
            job.ask("lambda", "delete_function_concurrency", FunctionName=name)
        else:
            number = int(reserved)
            job.ask("lambda", "put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=number)


def _code(said: Properties) -> dict[str, Any]:
    """`Code` as the request has it; ZipFile is the text of index.py."""
    code = only(said, "S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri")
    if "ZipFile" in said:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            written.writestr(zipfile.ZipInfo("index.py", (2026, 1, 1, 0, 0, 0)), str(said["ZipFile"]))
        code["ZipFile"] = archive.getvalue()
    return code


class EventInvokeConfig(Kind):
    """AWS::Lambda::EventInvokeConfig."""

    type = "AWS::Lambda::EventInvokeConfig"
    properties = frozenset(
        {"DestinationConfig", "FunctionName", "MaximumEventAgeInSeconds", "MaximumRetryAttempts", "Qualifier"}
    )
    required = frozenset({"FunctionName", "Qualifier"})
    replaced_by = required

    def create(self, job: Job, properties: Properties) -> Made:
        """It has no name of its own."""
        job.ask_for("lambda", "PutFunctionEventInvokeConfig", properties)
        return Made(physical_id=f"{properties['FunctionName']}|{properties['Qualifier']}")

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """The new one takes the old one's place."""
        return self.create(job, properties)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """Events are treated as is usual again."""
        which = {name: str(properties[name]) for name in ("FunctionName", "Qualifier")}
        job.ask("lambda", "delete_function_event_invoke_config", **which)


class Permission(Kind):
    """AWS::Lambda::Permission: a statement of a function's policy; any change makes another one."""

    type = "AWS::Lambda::Permission"
    properties = frozenset(
        {
            "Action",
            "EventSourceToken",
            "FunctionName",
            "FunctionUrlAuthType",
            "Principal",
            "PrincipalOrgID",
            "SourceAccount",
            "SourceArn",
        }
    )
    required = frozenset({"Action", "FunctionName", "Principal"})
    replaced_by = properties
    attributes = ("Id",)

    def create(self, job: Job, properties: Properties) -> Made:
        """Its id is made up."""
        statement_id = job.name(100)
        job.ask_for("lambda", "AddPermission", {**properties, "StatementId": statement_id})
        return Made(physical_id=statement_id, attributes={"Id": statement_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """The function stays."""
        name = str(properties["FunctionName"])
        job.ask("lambda", "remove_permission", FunctionName=name, StatementId=physical_id)
