"""The network of tasks: whether they reach S3, SQS, the log and their image, and whether there is room for them.

Called by: examine.py.   Calls: EC2; image.py, for names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AccessDenied
from cloudexec.infra.doctor.findings import Finding, detail, failed, of_error, ok, unknown, warning
from cloudexec.infra.doctor.image import read_name
from cloudexec.infra.doctor.scene import Scene

SUBJECT: Final = "subnets"
_HTTPS: Final = 443
_ANYWHERE: Final = ("0.0.0.0/0", "::/0")
_WAYS_OUT: Final = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "VpcPeeringConnectionId", "InstanceId")
PUBLIC, OUT, NOWHERE, BROKEN = "public", "out", "nowhere", "broken"


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What EC2 tells, in its own shapes. tables, endpoints, groups: None where nobody could look.

    has_public_ip: whether tasks get a public address. needs: services that tasks must reach, by the ends of endpoint
    names (`s3`, `sqs`, …), and `internet` for an image of a public registry.
    """

    subnets: tuple[Mapping[str, Any], ...]
    tables: tuple[Mapping[str, Any], ...] | None
    endpoints: tuple[Mapping[str, Any], ...] | None
    groups: tuple[Mapping[str, Any], ...] | None
    has_public_ip: bool
    needs: frozenset[str]
    n_tasks: int


def check_network(scene: Scene) -> list[Finding]:
    """Ask EC2 about the subnets and what belongs to them."""
    target = scene.ecs.target
    if not target.subnets:
        return [ok(SUBJECT, "tasks use the network of their instances")]
    try:
        subnets = scene.ask("ec2", "describe_subnets", {"SubnetIds": list(target.subnets)})["Subnets"]
    except AccessDenied as error:
        return [of_error(SUBJECT, f"subnets {', '.join(target.subnets)}", error)]
    vpcs = sorted({one["VpcId"] for one in subnets})
    of_vpcs = {"Filters": [{"Name": "vpc-id", "Values": vpcs}]}
    facts = NetworkFacts(
        subnets=tuple(subnets),
        tables=_all(scene, "describe_route_tables", of_vpcs, "RouteTables"),
        endpoints=_all(scene, "describe_vpc_endpoints", of_vpcs, "VpcEndpoints"),
        groups=_all(scene, "describe_security_groups", {"GroupIds": list(target.security_groups)}, "SecurityGroups")
        if target.security_groups
        else (),
        has_public_ip=bool(target.assign_public_ip),
        needs=needs_of(str(scene.container.get("image") or target.image), has_log=bool(scene.log_group)),
        n_tasks=scene.n_tasks,
    )
    return judge_network(facts)


def _all(scene: Scene, operation: str, request: Mapping[str, Any], items: str) -> tuple[Mapping[str, Any], ...] | None:
    try:
        return tuple(scene.ask("ec2", operation, request).get(items) or ())
    except AccessDenied:
        return None


def needs_of(image: str, *, has_log: bool) -> frozenset[str]:
    """What a worker must reach. Pure."""
    needs = {"s3", "sqs"} | ({"logs"} if has_log else set())
    return frozenset(needs | ({"ecr.api", "ecr.dkr"} if read_name(image) else {"internet"}))


def judge_network(found: NetworkFacts) -> list[Finding]:
    """Everything about it. Pure."""
    findings = [
        *_judge_vpcs(found),
        *_judge_room(found),
        *(_judge_routes(found) if found.tables is not None else ()),
        *_judge_groups(found),
    ]
    unseen = [
        action
        for action, said in (
            ("ec2:DescribeRouteTables", found.tables),
            ("ec2:DescribeVpcEndpoints", found.endpoints),
            ("ec2:DescribeSecurityGroups", found.groups),
        )
        if said is None
    ]
    if unseen:
        text = f"could not look whether tasks reach S3, SQS and their image: {', '.join(unseen)} is not allowed"
        findings.append(unknown(SUBJECT, text))
    elif not findings:
        vpc = found.subnets[0]["VpcId"]
        zones = len({one.get("AvailabilityZone") for one in found.subnets})
        text = f"{len(found.subnets)} in {zones} zones of {vpc}, with a route to what workers need"
        findings.append(ok(SUBJECT, text, vpc=vpc, free=_free(found)))
        if found.has_public_ip:
            findings.append(detail(SUBJECT, "tasks get public addresses, which cost $0.005 an hour each"))
    return findings


def _judge_vpcs(found: NetworkFacts) -> list[Finding]:
    vpcs = sorted({one["VpcId"] for one in found.subnets})
    if len(vpcs) > 1:
        text = f"the subnets are of several VPCs ({', '.join(vpcs)}), and a task's must be of one"
        return [failed(SUBJECT, text, "correct subnets=")]
    strange = [one["GroupId"] for one in found.groups or () if one.get("VpcId") not in vpcs]
    if strange:
        text = f"security group {', '.join(strange)} is not of the subnets' VPC {', '.join(vpcs)}: no task can start"
        return [failed(SUBJECT, text, "correct security_groups= or subnets=")]
    return []


def _free(found: NetworkFacts) -> int:
    return sum(int(one.get("AvailableIpAddressCount") or 0) for one in found.subnets)


def _judge_room(found: NetworkFacts) -> list[Finding]:
    free = _free(found)
    if free >= found.n_tasks:
        return []
    text = f"the subnets have {free} free addresses, and each of {found.n_tasks} workers takes one"
    remedy = "name more or larger subnets, or let a worker have more slots (vcpu=4)"
    return [(failed if free == 0 else warning)(SUBJECT, text, remedy, free=free, tasks=found.n_tasks)]


# --- routes -----------------------------------------------------------------------------------------


def table_of(subnet: Mapping[str, Any], tables: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The route table of a subnet: its own, else the main one of its VPC; {} if there is none. Pure."""
    main: Mapping[str, Any] = {}
    for table in tables:
        for association in table.get("Associations") or ():
            if association.get("SubnetId") == subnet["SubnetId"]:
                return table
            if association.get("Main") and table.get("VpcId") == subnet["VpcId"]:
                main = table
    return main


def way_of(table: Mapping[str, Any]) -> str:
    """Where a default route leads: PUBLIC (an internet gateway), OUT (NAT and others), BROKEN, NOWHERE. Pure."""
    for route in table.get("Routes") or ():
        if route.get("DestinationCidrBlock") != "0.0.0.0/0":
            continue
        if route.get("State") == "blackhole":
            return BROKEN
        if str(route.get("GatewayId") or "").startswith("igw-"):
            return PUBLIC
        if any(route.get(name) for name in _WAYS_OUT) or route.get("GatewayId"):
            return OUT
    return NOWHERE


def endpoints_of(
    subnet: Mapping[str, Any], table: Mapping[str, Any], endpoints: Iterable[Mapping[str, Any]]
) -> frozenset[str]:
    """The services that a subnet reaches by endpoints. Pure."""
    reached = set()
    for one in endpoints:
        if one.get("VpcId") != subnet["VpcId"] or str(one.get("State") or "available").lower() != "available":
            continue
        service = ".".join(str(one.get("ServiceName")).split(".")[3:])  # com.amazonaws.REGION.ecr.api
        if one.get("VpcEndpointType", "Gateway") == "Gateway":
            if table.get("RouteTableId") in (one.get("RouteTableIds") or ()):
                reached.add(service)
        elif one.get("PrivateDnsEnabled", True):
            reached.add(service)
    return frozenset(reached)


def _judge_routes(found: NetworkFacts) -> list[Finding]:
    by_trouble: dict[tuple[str, str], list[str]] = {}
    warnings: dict[tuple[str, str], list[str]] = {}
    for subnet in found.subnets:
        table = table_of(subnet, found.tables or ())
        way, reached = way_of(table), endpoints_of(subnet, table, found.endpoints or ())
        if trouble := _trouble(way, reached, found):
            by_trouble.setdefault(trouble, []).append(subnet["SubnetId"])
        elif way == OUT and "s3" not in reached:
            text = "has a way out, and no gateway endpoint for S3: what goes to S3 by NAT costs $0.045 a GB"
            warnings.setdefault((text, "add a gateway endpoint for S3: it is free"), []).append(subnet["SubnetId"])
    findings = [failed(SUBJECT, f"{_named(ids)}: {text}", remedy) for (text, remedy), ids in by_trouble.items()]
    findings += [warning(SUBJECT, f"{_named(ids)}: {text}", remedy) for (text, remedy), ids in warnings.items()]
    return findings


def _trouble(way: str, reached: Collection[str], found: NetworkFacts) -> tuple[str, str] | None:
    """What keeps tasks of a subnet from what they need, and what to do."""
    if way == OUT or (way == PUBLIC and found.has_public_ip):
        return None
    missing = sorted(found.needs - set(reached))
    if not missing or (found.endpoints is None and missing != ["internet"]):
        return None
    if way == BROKEN:
        text = "its default route leads into a black hole: what it pointed at has been removed"
        return text, "correct the route, or name other subnets"
    if way == PUBLIC:
        text = "it is public, and tasks get no public address: they reach nothing outside"
        return text, "give assign_public_ip=True, or name subnets with a NAT gateway"
    services = ", ".join(name for name in missing if name != "internet")
    if "internet" in missing:
        text = "no route leads out, and the image is in a public registry"
        others = f", and endpoints for {services}" if services else ""
        return text, f"add a NAT gateway, name public subnets, or take an image in ECR{others}"
    text = f"no route leads out, and there is no endpoint for {services}"
    return text, f"add these endpoints (s3 as a gateway is free), a NAT gateway, or name public subnets: {services}"


def _named(ids: list[str]) -> str:
    return f"{', '.join(ids[:3])} and {len(ids) - 3} more" if len(ids) > 4 else ", ".join(ids)


# --- security groups ----------------------------------------------------------------------------------


def _judge_groups(found: NetworkFacts) -> list[Finding]:
    if not found.groups:
        return []
    lets_out = [reach_of(group) for group in found.groups]
    named = ", ".join(group["GroupId"] for group in found.groups)
    if not any(lets_out):
        text = f"security group {named} lets nothing out to port {_HTTPS}: tasks reach neither S3 nor their image"
        return [failed(SUBJECT, text, f"allow TCP {_HTTPS} to 0.0.0.0/0 among its outbound rules")]
    if "anywhere" not in lets_out:
        text = f"security group {named} lets port {_HTTPS} out to some addresses only"
        return [warning(SUBJECT, text, "see that S3, SQS and the image are among them; --run tries it")]
    return []


def reach_of(group: Mapping[str, Any]) -> str:
    """How far HTTPS gets: `anywhere`, `somewhere`, or "" for nowhere. Pure."""
    reach = ""
    for rule in group.get("IpPermissionsEgress") or ():
        protocol = str(rule.get("IpProtocol"))
        low, high = rule.get("FromPort", 0), rule.get("ToPort", 65_535)
        if protocol not in ("-1", "tcp", "6") or (protocol != "-1" and not low <= _HTTPS <= high):
            continue
        cidrs = [one.get("CidrIp") for one in rule.get("IpRanges") or ()]
        cidrs += [one.get("CidrIpv6") for one in rule.get("Ipv6Ranges") or ()]
        if any(cidr in _ANYWHERE for cidr in cidrs):
            return "anywhere"
        if cidrs or rule.get("PrefixListIds") or rule.get("UserIdGroupPairs"):
            reach = "somewhere"
    return reach
