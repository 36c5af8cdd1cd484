"""What a change set would do. Pure.

Called by: deploy.py, changeset.py; teller.py and cli/stackviews.py, for types.   Calls: observe/prices.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.observe.prices import US_EAST_1

# What has data or a name that others use: whoever loses it must be told first.
_PRECIOUS: Final = {
    "AWS::S3::Bucket": "with everything in it",
    "AWS::ECR::Repository": "with its images",
    "AWS::Logs::LogGroup": "with its lines",
}
# Of what a stack of ours may hold, what costs something while nothing runs; empty by design, and a test keeps it so.
_COSTS_AT_REST: Final[Mapping[str, str]] = {
    "AWS::EC2::NatGateway": "$33 a month",
    "AWS::EC2::EIP": "$3.60 a month",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "$16 a month",
}
_FREE_ENDPOINT: Final = "Gateway"
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One resource. action: Add, Modify, Remove, Replace, or `Replace?` if only the deed will show."""

    action: str
    logical_id: str
    kind: str
    physical_id: str = ""
    what: tuple[str, ...] = ()  # names of properties

    @property
    def is_loss(self) -> bool:
        """Whether something that is there goes away. A task definition's next revision loses nothing."""
        is_revision = self.kind == "AWS::ECS::TaskDefinition" and self.action != "Remove"
        return self.action in ("Remove", "Replace", "Replace?") and not is_revision

    @property
    def loses(self) -> str:
        """`Bucket my-bucket is removed, with everything in it`."""
        verb = {"Remove": "is removed", "Replace": "is replaced", "Replace?": "may be replaced"}[self.action]
        more = _PRECIOUS.get(self.kind, "")
        return f"{self.logical_id} {self.physical_id} {verb}{f', {more}' if more else ''}"


def read_changes(said: Iterable[Mapping[str, Any]]) -> list[Change]:
    """`Changes` of DescribeChangeSet."""
    return [_read(each["ResourceChange"]) for each in said if each.get("ResourceChange")]


def _read(said: Mapping[str, Any]) -> Change:
    replacing = {"True": "Replace", "Conditional": "Replace?"}
    action = (
        replacing.get(str(said.get("Replacement")), said["Action"]) if said["Action"] == "Modify" else said["Action"]
    )
    targets = [detail.get("Target") or {} for detail in said.get("Details") or ()]
    names = {str(target.get("Name") or target.get("Attribute") or "") for target in targets}
    return Change(
        action=action,
        logical_id=said["LogicalResourceId"],
        kind=said["ResourceType"],
        physical_id=said.get("PhysicalResourceId") or "",
        what=tuple(sorted(names - {""})),
    )


def is_nothing(status: str, reason: str) -> bool:
    """Whether a change set failed because there is nothing to change."""
    return status == "FAILED" and any(words in reason for words in _NO_CHANGES)


def later(template: Mapping[str, Any], changes: Sequence[Change]) -> list[Change]:
    """What a new stack gets only when its code is there."""
    now = {change.logical_id for change in changes}
    rest = {name: each for name, each in template["Resources"].items() if name not in now}
    return [Change(action="Add", logical_id=name, kind=each["Type"]) for name, each in rest.items()]


def costs_at_rest(template: Mapping[str, Any], code_bytes: int) -> list[str]:
    """What is paid while nothing runs: one line for each thing."""
    lines = [
        f"{name}: {_COSTS_AT_REST[each['Type']]}"
        for name, each in template["Resources"].items()
        if each["Type"] in _COSTS_AT_REST
    ]
    lines += [
        f"{name}: an interface endpoint, $7.30 a month for each subnet"
        for name, each in template["Resources"].items()
        if each["Type"] == "AWS::EC2::VPCEndpoint" and each["Properties"].get("VpcEndpointType") != _FREE_ENDPOINT
    ]
    if code_bytes:
        dollars = code_bytes / 1024**3 * US_EAST_1.s3_gb_month
        price = f"${dollars:.2f}" if dollars >= 0.01 else "less than a cent"
        lines.append(f"{code_bytes / 1024**2:.0f} MB of code in the bucket: {price} a month")
    return lines
