"""Buckets and their policies.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py, shapes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Failed,
    Job,
    Kind,
    Made,
    Properties,
    changed,
    document,
    key_values,
    without,
)
from cloudexec.testing.pocket.server.cloudformation.shapes import shaped

NAME_LIMIT: Final = 63
# Property -> (operation that sets it, its argument, operation that takes it away).
SETTINGS: Final = {
    "PublicAccessBlockConfiguration": (
        "put_public_access_block",
        "PublicAccessBlockConfiguration",
        "delete_public_access_block",
    ),
    "OwnershipControls": ("put_bucket_ownership_controls", "OwnershipControls", "delete_bucket_ownership_controls"),
    "BucketEncryption": (
        "put_bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "delete_bucket_encryption",
    ),
    "LifecycleConfiguration": (
        "put_bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        "delete_bucket_lifecycle",
    ),
    "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration", ""),
    "Tags": ("put_bucket_tagging", "Tagging", "delete_bucket_tagging"),
    "NotificationConfiguration": ("put_bucket_notification_configuration", "NotificationConfiguration", ""),
}


class Bucket(Kind):
    """AWS::S3::Bucket."""

    type = "AWS::S3::Bucket"
    properties = frozenset({"BucketName", *SETTINGS})
    replaced_by = frozenset({"BucketName"})
    attributes = ("Arn", "DomainName", "DualStackDomainName", "RegionalDomainName", "WebsiteURL")
    name_property = "BucketName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """A bucket that is ours already is no new one, although S3 in us-east-1 would answer 200."""
        name = str(properties.get("BucketName") or job.name(NAME_LIMIT, lower=True))
        wanted = {each: _as_request(each, properties[each], job) for each in SETTINGS if each in properties}
        if job.bucket_is_ours(name):
            what = f"Resource of type 'AWS::S3::Bucket' with identifier '{name}' already exists."
            raise Failed(what, "AlreadyExists")
        where = {"LocationConstraint": job.region}
        job.ask(
            "s3",
            "create_bucket",
            Bucket=name,
            **({} if job.region == "us-east-1" else {"CreateBucketConfiguration": where}),
        )
        job.begun(name)
        for each, value in wanted.items():
            _put(job, name, each, value)
        return self._made(name, job)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Each setting by itself."""
        for each, (_, _, takes_away) in SETTINGS.items():
            if not changed(properties, before, each):
                continue
            if each in properties:
                _put(job, physical_id, each, _as_request(each, properties[each], job))
            elif takes_away:
                job.ask("s3", takes_away, Bucket=physical_id)
            else:
                _put(job, physical_id, each, {"Status": "Suspended"} if each == "VersioningConfiguration" else {})
        return self._made(physical_id, job)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """S3 refuses it while it holds anything."""
        job.ask("s3", "delete_bucket", Bucket=physical_id)

    def _made(self, name: str, job: Job) -> Made:
        attributes = {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "DualStackDomainName": f"{name}.s3.dualstack.{job.region}.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{job.region}.amazonaws.com",
            "WebsiteURL": f"http://{name}.s3-website-{job.region}.amazonaws.com",
        }
        return Made(physical_id=name, attributes=attributes)


def _put(job: Job, bucket: str, name: str, value: Any) -> None:
    operation, argument, _ = SETTINGS[name]
    job.ask("s3", operation, Bucket=bucket, **{argument: value})


def _as_request(name: str, value: Any, job: Job) -> Any:
    """A property as S3's request has it."""
    operation = "".join(word.capitalize() for word in SETTINGS[name][0].split("_"))
    wanted = WORDS[name](value) if name in WORDS else value
    shape = job.input_shape("s3", operation).members[SETTINGS[name][1]]
    return shaped(wanted, shape, f"#/{name}")


def _encryption(value: Any) -> dict[str, Any]:
    rules = []
    for rule in value["ServerSideEncryptionConfiguration"]:
        renamed = {"ApplyServerSideEncryptionByDefault": dict(rule.get("ServerSideEncryptionByDefault") or {})}
        renamed["ApplyServerSideEncryptionByDefault"].setdefault("SSEAlgorithm", "aws:kms")
        rules.append({**without(rule, "ServerSideEncryptionByDefault"), **renamed})
    return {"Rules": rules}


def _lifecycle(value: Any) -> dict[str, Any]:
    return {"Rules": [_lifecycle_rule(rule) for rule in value["Rules"]]}


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    given = without(
        rule,
        "Prefix",
        "ExpirationInDays",
        "ExpirationDate",
        "ExpiredObjectDeleteMarker",
        "NoncurrentVersionExpirationInDays",
        "TagFilters",
    )
    expiration = {
        name: rule[said]
        for name, said in (
            ("Days", "ExpirationInDays"),
            ("Date", "ExpirationDate"),
            ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
        )
        if said in rule
    }
    if expiration:
        given["Expiration"] = expiration
    if "NoncurrentVersionExpirationInDays" in rule:
        given["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule["NoncurrentVersionExpirationInDays"]}
    tags = rule.get("TagFilters") or []
    given["Filter"] = (
        {"And": {"Prefix": rule.get("Prefix", ""), "Tags": tags}} if tags else {"Prefix": rule.get("Prefix", "")}
    )
    return given


def _notifications(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for said, name, argument, target in (
        ("LambdaConfigurations", "LambdaFunctionConfigurations", "LambdaFunctionArn", "Function"),
        ("QueueConfigurations", "QueueConfigurations", "QueueArn", "Queue"),
    ):
        if said in value:
            found[name] = [_notification(each, argument, target) for each in value[said]]
    return {**found, **without(value, "LambdaConfigurations", "QueueConfigurations")}


def _notification(said: dict[str, Any], argument: str, target: str) -> dict[str, Any]:
    wanted: dict[str, Any] = {argument: said[target], "Events": [said["Event"]]}
    if "Filter" in said:
        wanted["Filter"] = {"Key": {"FilterRules": said["Filter"]["S3Key"]["Rules"]}}
    return wanted


WORDS: Final[dict[str, Callable[[Any], Any]]] = {
    "BucketEncryption": _encryption,
    "LifecycleConfiguration": _lifecycle,
    "NotificationConfiguration": _notifications,
    "Tags": lambda value: {"TagSet": key_values({"Tags": value})},
}


class BucketPolicy(Kind):
    """AWS::S3::BucketPolicy."""

    type = "AWS::S3::BucketPolicy"
    properties = frozenset({"Bucket", "PolicyDocument"})
    required = properties
    replaced_by = frozenset({"Bucket"})

    def create(self, job: Job, properties: Properties) -> Made:
        """It has no name of its own."""
        name = str(properties["Bucket"])
        job.ask("s3", "put_bucket_policy", Bucket=name, Policy=document(properties["PolicyDocument"]))
        return Made(physical_id=name)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """The new one takes the old one's place."""
        return self.create(job, properties)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """The bucket stays."""
        job.ask("s3", "delete_bucket_policy", Bucket=str(properties["Bucket"]))
