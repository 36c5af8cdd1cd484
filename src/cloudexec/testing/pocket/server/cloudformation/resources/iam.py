"""Roles and managed policies.

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
    document,
    key_values,
    only,
    retag,
)

ROLE_LIMIT: Final = 64
POLICY_LIMIT: Final = 128
HOLDERS: Final = (("Roles", "role", "RoleName"), ("Users", "user", "UserName"), ("Groups", "group", "GroupName"))


class Role(Kind):
    """AWS::IAM::Role."""

    type = "AWS::IAM::Role"
    properties = frozenset(
        {
            "AssumeRolePolicyDocument",
            "Description",
            "ManagedPolicyArns",
            "MaxSessionDuration",
            "Path",
            "PermissionsBoundary",
            "Policies",
            "RoleName",
            "Tags",
        }
    )
    required = frozenset({"AssumeRolePolicyDocument"})
    replaced_by = frozenset({"RoleName", "Path"})
    attributes = ("Arn", "RoleId")
    name_property = "RoleName"
    capability = True
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The role, then its policies."""
        name = str(properties.get("RoleName") or job.name(ROLE_LIMIT))
        wanted = only(properties, "Description", "MaxSessionDuration", "Path", "PermissionsBoundary", "Tags")
        wanted |= {"RoleName": name, "AssumeRolePolicyDocument": document(properties["AssumeRolePolicyDocument"])}
        role = job.ask_for("iam", "CreateRole", wanted)["Role"]
        job.begun(name)
        self._put_policies(job, name, properties, {})
        return Made(physical_id=name, attributes={"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """What differs."""
        if changed(properties, before, "AssumeRolePolicyDocument"):
            trust = document(properties["AssumeRolePolicyDocument"])
            job.ask("iam", "update_assume_role_policy", RoleName=physical_id, PolicyDocument=trust)
        if changed(properties, before, "Description", "MaxSessionDuration"):
            wanted = only(properties, "Description", "MaxSessionDuration")
            wanted["RoleName"] = physical_id
            job.ask_for("iam", "UpdateRole", wanted)
        if changed(properties, before, "PermissionsBoundary"):
            if "PermissionsBoundary" in properties:
                boundary = str(properties["PermissionsBoundary"])
                job.ask("iam", "put_role_permissions_boundary", RoleName=physical_id, PermissionsBoundary=boundary)
            else:
                job.ask("iam", "delete_role_permissions_boundary", RoleName=physical_id)
        retag(
            properties,
            before,
            lambda gone: job.ask("iam", "untag_role", RoleName=physical_id, TagKeys=gone),
            lambda: job.ask("iam", "tag_role", RoleName=physical_id, Tags=key_values(properties)),
        )
        self._put_policies(job, physical_id, properties, before)
        role = job.ask("iam", "get_role", RoleName=physical_id)["Role"]
        return Made(physical_id=physical_id, attributes={"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """IAM wants its policies gone first."""
        self._put_policies(job, physical_id, {}, properties)
        job.ask("iam", "delete_role", RoleName=physical_id)

    def _put_policies(self, job: Job, name: str, properties: Properties, before: Properties) -> None:
        old = {str(each["PolicyName"]): document(each["PolicyDocument"]) for each in before.get("Policies") or []}
        new = {str(each["PolicyName"]): document(each["PolicyDocument"]) for each in properties.get("Policies") or []}
        for gone in sorted(set(old) - set(new)):
            job.drop("iam", "delete_role_policy", RoleName=name, PolicyName=gone)
        for policy, text in new.items():
            if old.get(policy) != text:
                job.ask("iam", "put_role_policy", RoleName=name, PolicyName=policy, PolicyDocument=text)
        attached, wanted = set(before.get("ManagedPolicyArns") or []), set(properties.get("ManagedPolicyArns") or [])
        for arn in sorted(attached - wanted):
            job.drop("iam", "detach_role_policy", RoleName=name, PolicyArn=arn)
        for arn in sorted(wanted - attached):
            job.ask("iam", "attach_role_policy", RoleName=name, PolicyArn=arn)


class ManagedPolicy(Kind):
    """AWS::IAM::ManagedPolicy."""

    type = "AWS::IAM::ManagedPolicy"
    properties = frozenset({"Description", "Groups", "ManagedPolicyName", "Path", "PolicyDocument", "Roles", "Users"})
    required = frozenset({"PolicyDocument"})
    replaced_by = frozenset({"ManagedPolicyName", "Path", "Description"})
    attributes = ("PolicyArn", "PolicyId")
    name_property = "ManagedPolicyName"
    capability = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The policy, then who has it."""
        wanted = {
            **only(properties, "Description", "Path"),
            "PolicyName": str(properties.get("ManagedPolicyName") or job.name(POLICY_LIMIT)),
            "PolicyDocument": document(properties["PolicyDocument"]),
        }
        policy = job.ask_for("iam", "CreatePolicy", wanted)["Policy"]
        job.begun(policy["Arn"])
        self._hand_out(job, policy["Arn"], properties, {})
        attributes = {"PolicyArn": policy["Arn"], "PolicyId": policy["PolicyId"]}
        return Made(physical_id=policy["Arn"], attributes=attributes)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """A new version becomes the default; the old ones go, since IAM keeps five."""
        if changed(properties, before, "PolicyDocument"):
            text = document(properties["PolicyDocument"])
            job.ask("iam", "create_policy_version", PolicyArn=physical_id, PolicyDocument=text, SetAsDefault=True)
            self._drop_versions(job, physical_id)
        self._hand_out(job, physical_id, properties, before)
        policy = job.ask("iam", "get_policy", PolicyArn=physical_id)["Policy"]
        return Made(physical_id=physical_id, attributes={"PolicyArn": physical_id, "PolicyId": policy["PolicyId"]})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """IAM wants it to be nobody's, and without other versions."""
        self._hand_out(job, physical_id, {}, properties)
        self._drop_versions(job, physical_id)
        job.ask("iam", "delete_policy", PolicyArn=physical_id)

    def _drop_versions(self, job: Job, arn: str) -> None:
        for version in job.ask("iam", "list_policy_versions", PolicyArn=arn)["Versions"]:
            if not version["IsDefaultVersion"]:
                job.ask("iam", "delete_policy_version", PolicyArn=arn, VersionId=version["VersionId"])

    def _hand_out(self, job: Job, arn: str, properties: Properties, before: Properties) -> None:
        for listed, word, argument in HOLDERS:
            had, has = set(before.get(listed) or []), set(properties.get(listed) or [])
            for name in sorted(had - has):
                job.drop("iam", f"detach_{word}_policy", PolicyArn=arn, **{argument: name})
            for name in sorted(has - had):
                job.ask("iam", f"attach_{word}_policy", PolicyArn=arn, **{argument: name})
