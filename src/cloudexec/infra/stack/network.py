"""Where tasks may live: the default VPC, or one that is named.

Called by: deploy.py, wish.py; cli/up.py, cli/down.py.   Calls: place.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.place import Place

_GIVEN: Final = re.compile(r"(vpc-[0-9a-z]+)(?::(subnet-[0-9a-z]+(?:,subnet-[0-9a-z]+)*))?").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What --network says. kind: as StackOptions has it."""

    kind: str
    vpc: str = ""
    subnets: tuple[str, ...] = ()


def read_network(text: str) -> Network:
    """`default`, `new`, `vpc-1`, or `vpc-1:subnet-1,subnet-2`. Errors: SettingsError."""
    if text in ("default", "new"):
        return Network(kind=text)
    found = _GIVEN(text.replace(" ", ""))
    if not found:
        what = f"--network {text!r} is unknown"
        raise SettingsError(what, remedy="give default, new, or a VPC by its id: vpc-1 or vpc-1:subnet-1,subnet-2")
    return Network(kind="given", vpc=found[1], subnets=tuple((found[2] or "").split(",")) if found[2] else ())


def network_parameters(place: Place, network: Network) -> dict[str, str]:
    """The template's parameters for it. Errors: SettingsError, AwsError and its kin."""
    if network.kind == "new":
        return {}
    vpc = network.vpc or _default_vpc(place)
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    if network.kind == "default":
        filters.append({"Name": "default-for-az", "Values": ["true"]})
    found = list(place.pages("ec2", "describe_subnets", {"Filters": filters}, "Subnets"))
    return {"VpcId": vpc, "Subnets": ",".join(_chosen(vpc, network.subnets, found))}


def _default_vpc(place: Place) -> str:
    reply = place.ask("ec2", "describe_vpcs", {"Filters": [{"Name": "is-default", "Values": ["true"]}]})
    if not reply.get("Vpcs"):
        what = f"account {place.account_id} has no default VPC in {place.region}"
        remedy = "--network new makes a small one (it costs nothing), --network VPC-ID uses another one"
        raise SettingsError(what, remedy=remedy)
    return str(reply["Vpcs"][0]["VpcId"])


def _chosen(vpc: str, wanted: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[str]:
    ids = sorted(str(subnet["SubnetId"]) for subnet in found)
    strange = [one for one in wanted if one not in ids]
    if strange:
        remedy = f"its subnets are {', '.join(ids)}" if ids else "correct the VPC's id, or --region"
        raise SettingsError(f"{', '.join(strange)} is not in {vpc}", remedy=remedy)
    if not ids:
        what = f"{vpc} has no subnets for tasks, or is not there"
        raise SettingsError(what, remedy="--network new makes a small network (it costs nothing); or correct the id")
    return list(wanted) or ids


def are_public(place: Place, subnets: Sequence[str]) -> bool | None:
    """Whether machines get public addresses there: without one, tasks in them reach nothing. None: nobody may look."""
    if not subnets:
        return None
    try:
        reply = place.ask("ec2", "describe_subnets", {"SubnetIds": list(subnets)})
    except AwsError:  # the executor looks itself where nothing is set
        return None
    said = [bool(subnet.get("MapPublicIpOnLaunch")) for subnet in reply.get("Subnets") or ()]
    return bool(said) and all(said)
