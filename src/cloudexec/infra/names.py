"""What stands for `{bucket}`, `{cluster}`, … in the resources of a right: CloudFormation's words, or concrete names.

Called by: permissions, template, stack, doctor, cli/policy.py.   Calls: nothing; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from cloudexec.errors import SettingsError

PREFIX: Final = "cloudexec"  # of keys in the bucket, and of what clients make: queues, task definitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Texts to put into an ARN. bucket is a name; cluster, roles, functions, log_group, repository, build are ARNs.

    An ARN may end in `*` where nobody knows the rest before the stack is there.
    """

    partition: str
    region: str
    account: str
    stack: str
    bucket: str
    cluster: str
    task_role: str
    execution_role: str
    function_role: str
    build_role: str
    function: str
    image_function: str  # the function when it is of an image
    log_group: str
    repository: str
    build: str
    prefix: str = PREFIX

    def put_into(self, pattern: str) -> str:
        """The pattern with its `{name}`s replaced."""
        for each in fields(self):
            pattern = pattern.replace(f"{{{each.name}}}", getattr(self, each.name))
        return pattern


def in_template() -> Names:
    """For `Fn::Sub`: what CloudFormation fills in."""
    named = _named(
        account="${AWS::AccountId}",
        region="${AWS::Region}",
        stack="${AWS::StackName}",
        partition="${AWS::Partition}",
        bucket="${BucketName}",  # the parameter: function, role and bucket name each other
        prefix=PREFIX,
    )
    # The function and others stay named: rights are there before they are, and GetAtt would wait for them.
    return replace(
        named,
        cluster="${Cluster.Arn}",
        task_role="${TaskRole.Arn}",
        execution_role="${ExecutionRole.Arn}",
        function_role="${FunctionRole.Arn}",
        build_role="${BuildRole.Arn}",
    )


def concrete(
    *, account: str, region: str, stack: str, partition: str = "aws", bucket: str = "", prefix: str = PREFIX
) -> Names:
    """For a stack of this name, deployed or not. CloudFormation ends the names of roles with letters of its own.

    Errors: SettingsError.
    """
    if not (account.isascii() and account.isdigit() and len(account) == 12):
        raise SettingsError(f"{account!r} is not an AWS account id", remedy="give its twelve digits")
    bucket = bucket or bucket_name(stack, account, region)
    return _named(account=account, region=region, stack=stack, partition=partition, bucket=bucket, prefix=prefix)


def _named(*, account: str, region: str, stack: str, partition: str, bucket: str, prefix: str) -> Names:
    """How the stack calls what it makes."""

    def arn(service: str, rest: str) -> str:
        return f"arn:{partition}:{service}:{region}:{account}:{rest}"

    def role(logical_id: str) -> str:
        return f"arn:{partition}:iam::{account}:role/{stack}-{logical_id}-*"

    return Names(
        partition=partition,
        region=region,
        account=account,
        stack=stack,
        bucket=bucket,
        cluster=arn("ecs", f"cluster/{stack}"),
        task_role=role("TaskRole"),
        execution_role=role("ExecutionRole"),
        function_role=role("FunctionRole"),
        build_role=role("BuildRole"),
        function=arn("lambda", f"function:{stack}-worker"),
        image_function=arn("lambda", f"function:{stack}-image"),
        log_group=arn("logs", f"log-group:/cloudexec/{stack}"),
        repository=arn("ecr", f"repository/{stack}"),
        build=arn("codebuild", f"project/{stack}"),
        prefix=prefix,
    )


def as_deployed(names: Names, ids: Mapping[str, str]) -> Names:
    """The same with what a stack really has. ids: physical ids by logical id; what is not there stays a pattern."""

    def role(logical_id: str, known: str) -> str:
        return f"arn:{names.partition}:iam::{names.account}:role/{ids[logical_id]}" if logical_id in ids else known

    return replace(
        names,
        bucket=ids.get("Bucket", names.bucket),
        task_role=role("TaskRole", names.task_role),
        execution_role=role("ExecutionRole", names.execution_role),
        function_role=role("FunctionRole", names.function_role),
        build_role=role("BuildRole", names.build_role),
    )


def bucket_name(stack: str, account: str, region: str) -> str:
    """The bucket's name, unless another one is asked for. It can be guessed, so every request names its owner."""
    return f"{stack}-{account}-{region}".lower()
