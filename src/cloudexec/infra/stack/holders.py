"""Who holds the stack's policies, and what its roles were given besides: IAM removes neither a policy nor a role then.

Called by: inside.py.   Calls: place.py.
Reason:    CloudFormation finds it out last, when everything else is gone; so it is asked before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cloudexec.errors import AwsError
from cloudexec.infra.place import Place

# Names of the policies that the template gives its roles.
OWN: Final = frozenset({"worker", "start", "build"})
_HOLDERS: Final = (
    ("PolicyUsers", "UserName", "user"),
    ("PolicyGroups", "GroupName", "group"),
    ("PolicyRoles", "RoleName", "role"),
)


def in_the_way(place: Place, resources: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Sentences, each with the command that ends it. resources: logical id -> type, physical id. Errors: AwsError."""
    for logical_id, (kind, physical_id) in resources.items():
        try:
            if kind == "AWS::IAM::ManagedPolicy":
                yield from _holders(place, logical_id, physical_id)
            elif kind == "AWS::IAM::Role":
                yield from _additions(place, logical_id, physical_id)
        except AwsError as error:
            if error.status not in (403, 404):  # who may not look hears it from CloudFormation
                raise


def _holders(place: Place, logical_id: str, arn: str) -> Iterator[tuple[str, str]]:
    said = place.ask("iam", "list_entities_for_policy", {"PolicyArn": arn})
    for listed, key, word in _HOLDERS:
        for one in said.get(listed) or ():
            command = f"aws iam detach-{word}-policy --{word}-name {one[key]} --policy-arn {arn}"
            yield f"{logical_id} is attached to {word} {one[key]}", command


def _additions(place: Place, logical_id: str, role: str) -> Iterator[tuple[str, str]]:
    for name in place.ask("iam", "list_role_policies", {"RoleName": role}).get("PolicyNames") or ():
        if name not in OWN:
            command = f"aws iam delete-role-policy --role-name {role} --policy-name {name}"
            yield f"{logical_id} was given a policy {name}", command
    for one in place.ask("iam", "list_attached_role_policies", {"RoleName": role}).get("AttachedPolicies") or ():
        command = f"aws iam detach-role-policy --role-name {role} --policy-arn {one['PolicyArn']}"
        yield f"{logical_id} was given the policy {one['PolicyName']}", command
