"""Networks: VPCs, subnets, routes, security groups, endpoints.

Called by:  resources/__init__.py, for the table of types.   Calls: kind.py.
"""

from __future__ import annotations

from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.intrinsics import is_true, text_of
from cloudexec.testing.pocket.server.cloudformation.resources.kind import (
    Failed,
    Job,
    Kind,
    Made,
    Properties,
    changed,
    document,
    key_values,
    only,
    retag,
    tags_of,
    without,
)

NAME_LIMIT: Final = 255
ANYWHERE: Final = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}  # what a new group lets out


def tagged(resource_type: str, properties: Properties) -> dict[str, Any]:
    """`TagSpecifications` of a request that makes something."""
    if not tags_of(properties):
        return {}
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": key_values(properties)}]}


def retag_by_id(job: Job, physical_id: str, properties: Properties, before: Properties) -> None:
    """Tags as they are wanted now."""
    which = [physical_id]
    retag(
        properties,
        before,
        lambda gone: job.ask("ec2", "delete_tags", Resources=which, Tags=[{"Key": name} for name in gone]),
        lambda: job.ask("ec2", "create_tags", Resources=which, Tags=key_values(properties)),
    )


class Vpc(Kind):
    """AWS::EC2::VPC."""

    type = "AWS::EC2::VPC"
    properties = frozenset({"CidrBlock", "EnableDnsHostnames", "EnableDnsSupport", "InstanceTenancy", "Tags"})
    required = frozenset({"CidrBlock"})
    replaced_by = frozenset({"CidrBlock", "InstanceTenancy"})
    attributes = ("CidrBlock", "DefaultNetworkAcl", "DefaultSecurityGroup", "VpcId")
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The VPC, then its DNS."""
        wanted = only(properties, "CidrBlock", "InstanceTenancy")
        vpc_id = job.ask("ec2", "create_vpc", **wanted, **tagged("vpc", properties))["Vpc"]["VpcId"]
        job.begun(vpc_id)
        self._set_dns(job, vpc_id, properties, {})
        return self._made(job, vpc_id, properties)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """DNS and tags."""
        self._set_dns(job, physical_id, properties, before)
        retag_by_id(job, physical_id, properties, before)
        return self._made(job, physical_id, properties)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 refuses it while anything lies in it."""
        job.ask("ec2", "delete_vpc", VpcId=physical_id)

    def _set_dns(self, job: Job, vpc_id: str, properties: Properties, before: Properties) -> None:
        for name, usual in (("EnableDnsSupport", True), ("EnableDnsHostnames", False)):
            if changed(properties, before, name):
                value = {name: {"Value": is_true(properties.get(name, usual))}}
                job.ask("ec2", "modify_vpc_attribute", VpcId=vpc_id, **value)

    def _made(self, job: Job, vpc_id: str, properties: Properties) -> Made:
        def first(operation: str, members: str, member: str) -> str:
            name = "group-name" if members == "SecurityGroups" else "default"
            word = "default" if members == "SecurityGroups" else "true"
            filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": name, "Values": [word]}]
            found = job.ask("ec2", operation, Filters=filters)[members]
            return str(found[0][member]) if found else ""

        attributes = {
            "VpcId": vpc_id,
            "CidrBlock": properties["CidrBlock"],
            "DefaultSecurityGroup": first("describe_security_groups", "SecurityGroups", "GroupId"),
            "DefaultNetworkAcl": first("describe_network_acls", "NetworkAcls", "NetworkAclId"),
        }
        return Made(physical_id=vpc_id, attributes=attributes)


class Subnet(Kind):
    """AWS::EC2::Subnet."""

    type = "AWS::EC2::Subnet"
    properties = frozenset({"AvailabilityZone", "CidrBlock", "MapPublicIpOnLaunch", "Tags", "VpcId"})
    required = frozenset({"CidrBlock", "VpcId"})
    replaced_by = frozenset({"AvailabilityZone", "CidrBlock", "VpcId"})
    attributes = ("AvailabilityZone", "CidrBlock", "SubnetId", "VpcId")
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The subnet, then whether its tasks get public addresses."""
        wanted = only(properties, "AvailabilityZone", "CidrBlock", "VpcId")
        made = job.ask("ec2", "create_subnet", **wanted, **tagged("subnet", properties))["Subnet"]
        job.begun(made["SubnetId"])
        self._map(job, made["SubnetId"], properties, {})
        return Made(physical_id=made["SubnetId"], attributes=only(made, *self.attributes))

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Public addresses and tags."""
        self._map(job, physical_id, properties, before)
        retag_by_id(job, physical_id, properties, before)
        found = job.ask("ec2", "describe_subnets", SubnetIds=[physical_id])["Subnets"][0]
        return Made(physical_id=physical_id, attributes=only(found, *self.attributes))

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 refuses it while anything lies in it."""
        job.ask("ec2", "delete_subnet", SubnetId=physical_id)

    def _map(self, job: Job, subnet_id: str, properties: Properties, before: Properties) -> None:
        if changed(properties, before, "MapPublicIpOnLaunch"):
            value = {"Value": is_true(properties.get("MapPublicIpOnLaunch", False))}
            job.ask("ec2", "modify_subnet_attribute", SubnetId=subnet_id, MapPublicIpOnLaunch=value)


class InternetGateway(Kind):
    """AWS::EC2::InternetGateway."""

    type = "AWS::EC2::InternetGateway"
    properties = frozenset({"Tags"})
    attributes = ("InternetGatewayId",)
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        reply = job.ask("ec2", "create_internet_gateway", **tagged("internet-gateway", properties))
        gateway_id = reply["InternetGateway"]["InternetGatewayId"]
        return Made(physical_id=gateway_id, attributes={"InternetGatewayId": gateway_id})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Tags."""
        retag_by_id(job, physical_id, properties, before)
        return Made(physical_id=physical_id, attributes={"InternetGatewayId": physical_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 refuses it while it is attached."""
        job.ask("ec2", "delete_internet_gateway", InternetGatewayId=physical_id)


class GatewayAttachment(Kind):
    """AWS::EC2::VPCGatewayAttachment, of an internet gateway."""

    type = "AWS::EC2::VPCGatewayAttachment"
    properties = frozenset({"InternetGatewayId", "VpcId"})
    required = properties
    replaced_by = properties  # on AWS the gateway can be exchanged in place
    attributes = ("AttachmentType",)

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        job.ask("ec2", "attach_internet_gateway", **properties)
        return Made(physical_id=f"IGW|{properties['VpcId']}", attributes={"AttachmentType": "IGW"})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """Both stay."""
        job.ask("ec2", "detach_internet_gateway", **properties)


class RouteTable(Kind):
    """AWS::EC2::RouteTable."""

    type = "AWS::EC2::RouteTable"
    properties = frozenset({"Tags", "VpcId"})
    required = frozenset({"VpcId"})
    replaced_by = frozenset({"VpcId"})
    attributes = ("RouteTableId",)
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        reply = job.ask("ec2", "create_route_table", VpcId=properties["VpcId"], **tagged("route-table", properties))
        table_id = reply["RouteTable"]["RouteTableId"]
        return Made(physical_id=table_id, attributes={"RouteTableId": table_id})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Tags."""
        retag_by_id(job, physical_id, properties, before)
        return Made(physical_id=physical_id, attributes={"RouteTableId": physical_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 refuses it while a subnet has it."""
        job.ask("ec2", "delete_route_table", RouteTableId=physical_id)


class Route(Kind):
    """AWS::EC2::Route."""

    type = "AWS::EC2::Route"
    properties = frozenset({"DestinationCidrBlock", "GatewayId", "NatGatewayId", "NetworkInterfaceId", "RouteTableId"})
    required = frozenset({"DestinationCidrBlock", "RouteTableId"})
    replaced_by = required
    attributes = ("CidrBlock",)

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        job.ask("ec2", "create_route", **properties)
        return self._made(properties)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Another target."""
        job.ask("ec2", "replace_route", **properties)
        return self._made(properties)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """One request."""
        job.ask("ec2", "delete_route", **only(properties, "DestinationCidrBlock", "RouteTableId"))

    def _made(self, properties: Properties) -> Made:
        cidr = properties["DestinationCidrBlock"]
        return Made(physical_id=f"{properties['RouteTableId']}|{cidr}", attributes={"CidrBlock": cidr})


class SubnetRouteTableAssociation(Kind):
    """AWS::EC2::SubnetRouteTableAssociation."""

    type = "AWS::EC2::SubnetRouteTableAssociation"
    properties = frozenset({"RouteTableId", "SubnetId"})
    required = properties
    replaced_by = properties  # on AWS the table can be exchanged in place
    attributes = ("Id",)

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        association_id = job.ask("ec2", "associate_route_table", **properties)["AssociationId"]
        return Made(physical_id=association_id, attributes={"Id": association_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """Both stay."""
        job.ask("ec2", "disassociate_route_table", AssociationId=physical_id)


class SecurityGroup(Kind):
    """AWS::EC2::SecurityGroup."""

    type = "AWS::EC2::SecurityGroup"
    properties = frozenset(
        {"GroupDescription", "GroupName", "SecurityGroupEgress", "SecurityGroupIngress", "Tags", "VpcId"}
    )
    required = frozenset({"GroupDescription"})
    replaced_by = frozenset({"GroupDescription", "GroupName", "VpcId"})
    attributes = ("GroupId", "Id", "VpcId")
    name_property = "GroupName"
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """The group, then its rules; rules for what goes out take the place of the one that lets everything out."""
        wanted = {
            "GroupName": str(properties.get("GroupName") or job.name(NAME_LIMIT)),
            "Description": properties["GroupDescription"],
            **only(properties, "VpcId"),
        }
        group_id = job.ask("ec2", "create_security_group", **wanted, **tagged("security-group", properties))["GroupId"]
        job.begun(group_id)
        self._set_rules(job, group_id, properties, {})
        return self._made(job, group_id)

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Rules and tags."""
        self._set_rules(job, physical_id, properties, before)
        retag_by_id(job, physical_id, properties, before)
        return self._made(job, physical_id)

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 refuses it while something has it."""
        job.ask("ec2", "delete_security_group", GroupId=physical_id)

    def _set_rules(self, job: Job, group_id: str, properties: Properties, before: Properties) -> None:
        for direction, word in (("SecurityGroupEgress", "egress"), ("SecurityGroupIngress", "ingress")):
            usual = [ANYWHERE] if word == "egress" else []
            old = [_rule(each) for each in before.get(direction) or []] or usual
            new = [_rule(each) for each in properties.get(direction) or []] or usual
            gone, more = [each for each in old if each not in new], [each for each in new if each not in old]
            if gone:
                job.ask("ec2", f"revoke_security_group_{word}", GroupId=group_id, IpPermissions=gone)
            if more:
                job.ask("ec2", f"authorize_security_group_{word}", GroupId=group_id, IpPermissions=more)

    def _made(self, job: Job, group_id: str) -> Made:
        found = job.ask("ec2", "describe_security_groups", GroupIds=[group_id])["SecurityGroups"][0]
        attributes = {"GroupId": group_id, "Id": group_id, "VpcId": found.get("VpcId", "")}
        return Made(physical_id=group_id, attributes=attributes)


def _rule(said: Properties) -> dict[str, Any]:
    """A rule as EC2's request has it."""
    rule: dict[str, Any] = {"IpProtocol": text_of(said["IpProtocol"])}
    rule |= {name: int(said[name]) for name in ("FromPort", "ToPort") if name in said}
    told = only(said, "Description")
    for name, members, member in (
        ("CidrIp", "IpRanges", "CidrIp"),
        ("CidrIpv6", "Ipv6Ranges", "CidrIpv6"),
        ("SourceSecurityGroupId", "UserIdGroupPairs", "GroupId"),
        ("DestinationSecurityGroupId", "UserIdGroupPairs", "GroupId"),
        ("SourcePrefixListId", "PrefixListIds", "PrefixListId"),
        ("DestinationPrefixListId", "PrefixListIds", "PrefixListId"),
    ):
        if name in said:
            rule[members] = [{member: said[name], **told}]
    return rule


class VpcEndpoint(Kind):
    """AWS::EC2::VPCEndpoint."""

    type = "AWS::EC2::VPCEndpoint"
    properties = frozenset(
        {
            "PolicyDocument",
            "PrivateDnsEnabled",
            "RouteTableIds",
            "SecurityGroupIds",
            "ServiceName",
            "SubnetIds",
            "Tags",
            "VpcEndpointType",
            "VpcId",
        }
    )
    required = frozenset({"ServiceName", "VpcId"})
    replaced_by = frozenset({"ServiceName", "VpcEndpointType", "VpcId"})
    attributes = ("Id",)
    has_tags = True

    def create(self, job: Job, properties: Properties) -> Made:
        """One request."""
        wanted = without(properties, "PolicyDocument", "PrivateDnsEnabled", "Tags")
        if "PolicyDocument" in properties:
            wanted["PolicyDocument"] = document(properties["PolicyDocument"])
        if "PrivateDnsEnabled" in properties:
            wanted["PrivateDnsEnabled"] = is_true(properties["PrivateDnsEnabled"])
        reply = job.ask("ec2", "create_vpc_endpoint", **wanted, **tagged("vpc-endpoint", properties))
        endpoint_id = reply["VpcEndpoint"]["VpcEndpointId"]
        return Made(physical_id=endpoint_id, attributes={"Id": endpoint_id})

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Route tables, subnets, groups, policy."""
        wanted: dict[str, Any] = {}
        for name, word in (
            ("RouteTableIds", "RouteTable"),
            ("SubnetIds", "Subnet"),
            ("SecurityGroupIds", "SecurityGroup"),
        ):
            old, new = set(before.get(name) or []), set(properties.get(name) or [])
            wanted |= {f"Add{word}Ids": sorted(new - old)} if new - old else {}
            wanted |= {f"Remove{word}Ids": sorted(old - new)} if old - new else {}
        if changed(properties, before, "PolicyDocument") and "PolicyDocument" in properties:
            wanted["PolicyDocument"] = document(properties["PolicyDocument"])
        if changed(properties, before, "PrivateDnsEnabled"):
            wanted["PrivateDnsEnabled"] = is_true(properties.get("PrivateDnsEnabled", False))
        if wanted:
            job.ask("ec2", "modify_vpc_endpoint", VpcEndpointId=physical_id, **wanted)
        retag_by_id(job, physical_id, properties, before)
        return Made(physical_id=physical_id, attributes={"Id": physical_id})

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """EC2 tells what it refuses inside a 200; here that is an error as any other."""
        reply = job.ask("ec2", "delete_vpc_endpoints", VpcEndpointIds=[physical_id])
        for one in reply.get("Unsuccessful") or []:
            raise Failed(str(one["Error"]["Message"]), "GeneralServiceException")
