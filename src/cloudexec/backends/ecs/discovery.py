"""Find the settings that were not given, and say of each where it comes from.

Called by: executors.   Calls: aws_config.py (environment, file), and `ask` (the stack, the default network).
Order:     arguments, environment, file (these without network: `settle`), then the deployed stack's resources, then
           the default VPC (`complete`). A source is asked only if something is still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from cloudexec.backends.aws_config import (
    Found,
    Settings,
    config_path,
    from_arguments,
    from_environment,
    from_file,
    variable_of,
)
from cloudexec.backends.ecs.sizes import Size
from cloudexec.backends.ecs.target import EcsTarget, Fallback, ProviderShare
from cloudexec.backends.stack import DEFAULT_STACK, by_types, choose, resources_of
from cloudexec.errors import AccessDenied, SettingsError

Ask = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]

NOT_FOR_ECS: Final = frozenset({"function", "qualifier", "shards"})  # they may stand in the same file
_TARGET_KEYS: Final = frozenset(field.name for field in fields(EcsTarget))
# Who names the first speaks for the others too: they exclude it, or belong to it.
_SPEAKS_FOR: Final[Mapping[str, frozenset[str]]] = {
    "task_definition": frozenset({"image", "task_role", "execution_role"}),
    "image": frozenset({"task_definition"}),
    "launch_type": frozenset({"capacity_provider_strategy", "spot", "on_demand_base", "fallback"}),
    "capacity_provider_strategy": frozenset({"launch_type", "spot", "on_demand_base", "fallback"}),
    "spot": frozenset({"launch_type", "capacity_provider_strategy"}),
    "subnets": frozenset({"security_groups", "assign_public_ip"}),
    "vcpu": frozenset({"memory_mib"}),
    "memory_mib": frozenset({"vcpu"}),
}
_SPOT_ALONE: Final = frozenset({"on_demand_base", "fallback"})
_ONE: Final = {
    "AWS::ECS::Cluster": "cluster",
    "AWS::S3::Bucket": "bucket",
    "AWS::ECS::TaskDefinition": "task_definition",
    "AWS::Logs::LogGroup": "log_group",
}
_MANY: Final = {"AWS::EC2::Subnet": "subnets", "AWS::EC2::SecurityGroup": "security_groups"}
_ROLE: Final = "AWS::IAM::Role"


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsPlace:
    """Where a run is to live, as far as it is known. `sources` tells where each setting comes from."""

    target: EcsTarget
    bucket: str = ""
    prefix: str = ""
    stack: str = ""
    aws_profile: str = ""
    endpoint_url: str = ""
    sources: Mapping[str, str]

    @property
    def missing(self) -> tuple[str, ...]:
        """Settings without which nothing can be started."""
        return self.target.missing + (() if self.bucket else ("bucket",))

    def lines(self) -> list[str]:
        """`cluster = ml (stack cloudexec, resource Cluster)`, for people."""
        return [f"{name} = {self.value(name)} ({source})" for name, source in sorted(self.sources.items())]

    def value(self, name: str) -> Any:
        """A setting by its name."""
        return getattr(self.target if name in _TARGET_KEYS else self, name)


def settle(given: Mapping[str, Any], environ: Mapping[str, str]) -> EcsPlace:
    """What arguments, environment and file say together; what is None was not given. No network.

    Errors: SettingsError, also for settings that contradict each other.
    """
    return _place(merge(merge(from_arguments(given), from_environment(environ)), from_file(environ)))


def merge(stronger: Settings, weaker: Settings) -> Settings:
    """The stronger source wins, key by key, and with a key also for what excludes it or belongs to it."""
    taken = set(stronger).union(*(_SPEAKS_FOR.get(name, frozenset()) for name in stronger))
    if "spot" in stronger and not stronger["spot"].value:
        taken |= _SPOT_ALONE
    return {**{name: found for name, found in weaker.items() if name not in taken}, **stronger}


def _place(settings: Settings) -> EcsPlace:
    settings = {name: found for name, found in settings.items() if name not in NOT_FOR_ECS}
    values = {name: found.value for name, found in settings.items()}
    if "fallback" in values:
        values["fallback"] = _fallback(values["fallback"])
    if "capacity_provider_strategy" in values:
        values["capacity_provider_strategy"] = tuple(map(_share, values["capacity_provider_strategy"]))
    if "oom_sizes" in values:
        values["oom_sizes"] = tuple(Size(*size) for size in values["oom_sizes"])
    target = EcsTarget(**{name: value for name, value in values.items() if name in _TARGET_KEYS})
    rest = {name: value for name, value in values.items() if name not in _TARGET_KEYS}
    sources = {name: found.source for name, found in settings.items()}
    return EcsPlace(target=target, sources=sources, **rest)


def _share(said: object) -> ProviderShare:
    """An entry of a strategy, also as boto3 writes it."""
    if isinstance(said, ProviderShare):
        return said
    values = dict(said) if isinstance(said, Mapping) else {}
    if "capacityProvider" in values:
        values["provider"] = values.pop("capacityProvider")
    try:
        return ProviderShare(**values)
    except TypeError:
        remedy = "write {'provider': NAME, 'weight': 1, 'base': 0}"
        raise SettingsError(f"{said!r} is not an entry of a capacity provider strategy", remedy=remedy) from None


def _fallback(value: object) -> Fallback:
    try:
        return Fallback(value)
    except ValueError:
        names = " or ".join(repr(each.value) for each in Fallback)
        raise SettingsError(f"fallback={value!r} is unknown", remedy=f"give {names}") from None


# --- with network ----------------------------------------------------------------------------


def complete(place: EcsPlace, ask: Ask, environ: Mapping[str, str], optional: frozenset[str] = frozenset()) -> EcsPlace:
    """What is missing, from the stack and the default network, except what is `optional`.

    Errors: SettingsError, AwsError and its kin.
    """
    if not optional.issuperset(place.missing) or place.stack:
        place = _add(place, _from_stack(place, ask))
    if "subnets" in place.missing:
        place = _add(place, default_network(ask))
    if not optional.issuperset(place.missing):
        raise _still_missing(place, environ, optional)
    if place.target.assign_public_ip is None and place.target.is_fargate and place.target.subnets:
        found = {**_found(place), **_public_ip(place.target.subnets, ask)}  # it belongs to these subnets
        place = _place(found)
    return place


def _add(place: EcsPlace, more: Settings) -> EcsPlace:
    return _place(merge(_found(place), more))


def _found(place: EcsPlace) -> Settings:
    return {name: Found(place.value(name), source) for name, source in place.sources.items()}


def _from_stack(place: EcsPlace, ask: Ask) -> Settings:
    name = place.stack or DEFAULT_STACK
    resources = resources_of(name, ask, is_named=bool(place.stack))
    settings = settings_of_stack(name, resources, set(place.missing))
    if not place.target.image:  # a task definition has its roles
        settings.pop("task_role", None)
        settings.pop("execution_role", None)
    return settings


def settings_of_stack(name: str, resources: Iterable[Mapping[str, Any]], needed: set[str]) -> Settings:
    """What a stack's resources say. Errors: SettingsError if it is not clear which one is meant for what is needed."""
    by_type = by_types(resources)
    settings: Settings = {}
    for kind, key in _ONE.items():
        if one := choose(name, key, by_type.get(kind, {}), key in needed):
            settings[key] = Found(by_type[kind][one], f"stack {name}, resource {one}")
    for kind, key in _MANY.items():
        if many := by_type.get(kind):
            settings[key] = Found(tuple(many.values()), f"stack {name}, resources {', '.join(many)}")
    return settings | _roles(name, by_type.get(_ROLE, {}))


def _roles(stack: str, roles: Mapping[str, str]) -> Settings:
    execution = [one for one in roles if "execution" in one.lower()]
    task = [one for one in roles if one not in execution and ("task" in one.lower() or "worker" in one.lower())]
    named = {"execution_role": execution, "task_role": task}
    return {
        key: Found(roles[ids[0]], f"stack {stack}, resource {ids[0]}") for key, ids in named.items() if len(ids) == 1
    }


def default_network(ask: Ask) -> Settings:
    """The default VPC's subnets and its default security group; nothing if the region has no default VPC."""
    vpcs = ask("ec2", "describe_vpcs", _filters(is_default="true")).get("Vpcs") or ()
    if not vpcs:
        return {}
    vpc = vpcs[0]["VpcId"]
    subnets = ask("ec2", "describe_subnets", _filters(vpc_id=vpc, default_for_az="true")).get("Subnets") or ()
    if not subnets:
        return {}
    groups = ask("ec2", "describe_security_groups", _filters(vpc_id=vpc, group_name="default")).get("SecurityGroups")
    source = f"default VPC {vpc}"
    ids = tuple(sorted(subnet["SubnetId"] for subnet in subnets))
    settings = {"subnets": Found(ids, source)}
    if groups:
        settings["security_groups"] = Found((groups[0]["GroupId"],), source)
    return settings


def _filters(**values: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in values.items()]}


def _public_ip(subnets: tuple[str, ...], ask: Ask) -> Settings:
    """Tasks get a public address where machines do: without one they reach nothing from a public subnet."""
    try:
        reply = ask("ec2", "describe_subnets", {"SubnetIds": list(subnets)})
    except AccessDenied:
        return {"assign_public_ip": Found(False, "default, because ec2:DescribeSubnets is not allowed")}
    said = [bool(subnet.get("MapPublicIpOnLaunch")) for subnet in reply.get("Subnets") or ()]
    are_public = bool(said) and all(said)
    return {"assign_public_ip": Found(are_public, "the subnets' own setting")}


def _still_missing(place: EcsPlace, environ: Mapping[str, str], optional: frozenset[str]) -> SettingsError:
    names = {"task_definition": "task_definition or image"}
    keys = [name for name in place.missing if name not in optional]
    missing = [names.get(name, name) for name in keys]
    others = f", and likewise {', '.join(missing[1:])}" if missing[1:] else ""
    first = keys[0]
    return SettingsError(
        f"not known: {', '.join(missing)}; looked at arguments, environment, {config_path(environ)}, "
        f"stack {place.stack or DEFAULT_STACK!r} and the default VPC",
        remedy=f"`cloudexec up` makes all of it; or give {first}=, set {variable_of(first)}, or write {first} into "
        f"that file{others}",
    )
