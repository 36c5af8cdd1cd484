"""Read a deployed CloudFormation stack: which of its resources is meant by which setting.

Called by: ecs/discovery.py, awslambda/discovery.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cloudexec.errors import AccessDenied, AwsError, SettingsError

Ask = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]

DEFAULT_STACK: Final = "cloudexec"
_OURS: Final = ("cloudexec", "worker")  # in a logical id, where a stack has several resources of a type


def resources_of(name: str, ask: Ask, *, is_named: bool) -> Iterable[Mapping[str, Any]]:
    """The stack's resources; none if there is no such stack, or no right to look, unless somebody has named it.

    Errors: SettingsError, AwsError and its kin.
    """
    try:
        reply = ask("cloudformation", "describe_stack_resources", {"StackName": name})
    except AwsError as error:
        if is_named:
            is_absent = error.code == "ValidationError"
            remedy = (
                f"correct its name (stack=) or the region, or make it: `cloudexec up --stack {name}`"
                if is_absent
                else error.remedy
            )
            raise SettingsError(f"stack {name!r} cannot be read: {error.what}", remedy=remedy) from error
        if isinstance(error, AccessDenied) or error.code == "ValidationError":
            return ()
        raise
    return reply.get("StackResources") or ()


def by_types(resources: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Physical ids by type and logical id, of what is there."""
    found: dict[str, dict[str, str]] = {}
    for resource in resources:
        if resource.get("PhysicalResourceId") and not resource.get("ResourceStatus", "").startswith("DELETE"):
            found.setdefault(resource["ResourceType"], {})[resource["LogicalResourceId"]] = resource[
                "PhysicalResourceId"
            ]
    return found


def choose(stack: str, key: str, ids: Mapping[str, str], is_needed: bool) -> str:
    """The logical id that is meant; "" if there is none, or nobody needs to know."""
    ours = [one for one in ids if any(word in one.lower() for word in _OURS)]
    candidates = list(ids) if len(ids) <= 1 else ours
    if len(candidates) == 1:
        return candidates[0]
    if ids and is_needed:
        what = f"stack {stack!r} has several resources that may be the {key}: {', '.join(ids)}"
        raise SettingsError(what, remedy=f"name one with {key}=")
    return ""
