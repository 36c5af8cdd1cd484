"""What happens to a stack, and why something failed. Pure.

Called by: follow.py, changeset.py, settle.py, remove.py, cli.   Calls: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

STACK_TYPE: Final = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a stack's history."""

    id: str
    logical_id: str
    physical_id: str
    kind: str  # AWS::S3::Bucket
    status: str
    reason: str = ""
    at: datetime | None = None

    @property
    def is_of_stack(self) -> bool:
        """Whether it tells of the stack itself."""
        return self.kind == STACK_TYPE

    @property
    def is_end(self) -> bool:
        """Whether nothing more is to come of what it tells of."""
        return not self.status.endswith("_IN_PROGRESS")

    @property
    def is_failure(self) -> bool:
        """Whether something went wrong by itself; what is cancelled because of that does not count."""
        return self.status.endswith("_FAILED") and not _CANCELLED(self.reason)


_CANCELLED: Final = re.compile(r"Resource (creation|update|deletion) cancelled", re.IGNORECASE).match


def read_event(said: Mapping[str, Any]) -> Event:
    """One of `StackEvents` of DescribeStackEvents."""
    return Event(
        id=said["EventId"],
        logical_id=said.get("LogicalResourceId") or "",
        physical_id=said.get("PhysicalResourceId") or "",
        kind=said.get("ResourceType") or "",
        status=said.get("ResourceStatus") or "",
        reason=said.get("ResourceStatusReason") or "",
        at=said.get("Timestamp"),
    )


_IDENTIFIER: Final = re.compile(r"identifier '([^']+)'").search


def early_failures(said: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Of `OperationEvents` of DescribeEvents: what CloudFormation finds wrong before it begins, without warnings."""
    wrong = [each for each in said if each.get("EventType") == "VALIDATION_ERROR"]
    return [_read_early(each) for each in wrong if each.get("ValidationFailureMode") != "WARN"]


def _read_early(said: Mapping[str, Any]) -> Event:
    reason = said.get("ValidationStatusReason") or ""
    named = _IDENTIFIER(reason)
    return Event(
        id=said["EventId"],
        logical_id=said.get("LogicalResourceId") or "",
        physical_id=named[1] if named else "",
        kind=said.get("ResourceType") or "",
        status="VALIDATION_FAILED",
        reason=reason,
    )


def first_failure(events: Iterable[Event]) -> Event | None:
    """The resource that failed first, of events in their order; what the stack says of itself comes last."""
    failures = [event for event in events if event.is_failure]
    of_resources = [event for event in failures if not event.is_of_stack]
    return next(iter(of_resources or failures), None)


def last_failures(events: Sequence[Event]) -> list[Event]:
    """Resources that could not be removed: each one's last word, if that is a failure."""
    last = {event.logical_id: event for event in events if not event.is_of_stack}
    return [event for event in last.values() if event.is_failure]


_HANDLER: Final = re.compile(r'Resource handler returned message: "(.*)" \(.*', re.DOTALL)
_ADDITIONS: Final = re.compile(r" ?\((Service: [^()]*|Request ID: [^()]*)\)", re.DOTALL)


def plain_reason(reason: str) -> str:
    """CloudFormation's reason without what only its authors need."""
    if found := _HANDLER.match(reason):
        reason = found[1]
    return _ADDITIONS.sub("", reason).strip().rstrip(".")


_BUCKET: Final = "AWS::S3::Bucket"
_GENERIC: Final = "mend what is named, and repeat `cloudexec up`; `cloudexec doctor` looks at the account"
# The type of a resource (empty: any), what its reason holds, what to do. The first that fits is said.
_REMEDIES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        _BUCKET,
        r"BucketAlreadyOwnedByYou|you already own it|already owned by you",
        "this account has a bucket of that name, perhaps one that `down --keep-bucket` has left: remove it with "
        "`aws s3 rb s3://{name} --force` if nobody needs it, or name another one: --parameters BucketName=NAME",
    ),
    (
        _BUCKET,
        r"already exists|BucketAlreadyExists|not available",
        "another account has a bucket of that name, and yours cannot have it: name another one with "
        "--parameters BucketName=NAME",
    ),
    (
        _BUCKET,
        r"OperationAborted|conflicting conditional operation",
        "a bucket of that name was removed a short while ago, and S3 takes up to an hour to forget it: repeat later, "
        "or name another one: --parameters BucketName=NAME",
    ),
    (
        _BUCKET,
        r"not empty|BucketNotEmpty",
        "something has written to it while it was removed: stop that, and repeat `cloudexec down`",
    ),
    (
        "",
        r"service linked role|service-linked role",
        "the account has never used ECS: run `aws iam create-service-linked-role --aws-service-name "
        "ecs.amazonaws.com` once, and repeat",
    ),
    (
        "",
        r"is not authorized to perform:? (?P<action>[\w-]+:\w+)",
        "allow {action}: `cloudexec policy setup` prints all rights that up and down need; or have an administrator "
        "run `cloudexec up`",
    ),
    (
        "",
        r"not authorized|AccessDenied|Access Denied|UnauthorizedOperation|Forbidden",
        "the credentials lack a right: `cloudexec policy setup` prints all that up and down need",
    ),
    (
        "AWS::Logs::LogGroup",
        r"already exists",
        "it is left from an earlier life: `aws logs delete-log-group --log-group-name {name}` if nobody needs what it "
        "holds, or use another name with --stack",
    ),
    (
        "AWS::ECR::Repository",
        r"already exists",
        "it is left from an earlier life: `aws ecr delete-repository --repository-name {name} --force` if nobody needs "
        "its images, or use another name with --stack",
    ),
    (
        "",
        r"already exists|AlreadyExists|ResourceExistenceCheck",
        "something of that name is there that this stack did not make: remove it, or use another name with --stack",
    ),
    (
        "AWS::EC2::VPC",
        r"maximum number of VPCs|VpcLimitExceeded",
        "the account has as many VPCs as it may: use one with --network default or --network VPC-ID",
    ),
    (
        "",
        r"LimitExceeded|maximum number|quota|ServiceQuotaExceeded",
        "a quota of the account is used up: remove what nobody needs, or ask for more in the console's Service Quotas",
    ),
    (
        "AWS::Lambda::Function",
        r"[Rr]untime parameter|not supported for creating",
        "Lambda does not take this Python: give another one with --python, and run the client on the same",
    ),
    (
        "AWS::Lambda::Function",
        r"NoSuchKey|does not exist|no longer exists",
        "the code is not in the bucket: `cloudexec up --rebuild` uploads it anew",
    ),
    (
        "AWS::IAM::ManagedPolicy",
        r"Cannot delete a policy attached|DeleteConflict|must be detached",
        "somebody has it attached: `aws iam list-entities-for-policy --policy-arn {name}` names them; detach it, "
        "and repeat",
    ),
    (
        "AWS::IAM::Role",
        r"must (detach all|delete) policies first|DeleteConflict",
        "it was given a policy besides those of the stack: `aws iam list-role-policies --role-name {name}` and "
        "`aws iam list-attached-role-policies --role-name {name}` name it; take it away, and repeat",
    ),
    (
        "AWS::ECS::Cluster",
        r"contains Tasks|ClusterContains|while Tasks are active",
        "tasks run in it: stop them, and repeat",
    ),
    (
        "",
        r"dependent object|DependencyViolation|has dependencies|mapped public address",
        "something that the stack did not make uses it, such as a network interface: remove that, and repeat",
    ),
    (
        "",
        r"[Rr]ate exceeded|Throttling",
        "AWS asks to slow down: repeat in a minute",
    ),
)


def remedy_of(kind: str, reason: str, name: str = "") -> str:
    """What to do about a failed resource. name: its physical id, or the one it was to have."""
    for of_kind, pattern, remedy in _REMEDIES:
        found = re.search(pattern, reason) if of_kind in ("", kind) else None
        if found:
            return remedy.format(name=name or "NAME", **found.groupdict())
    return _GENERIC
