"""Where tasks live: the default VPC, one that is named, or a small one of our own. No NAT in any of them.

Called by: build.py.   Pure.
"""

from __future__ import annotations

from cloudexec.infra.template.options import Shape, StackOptions, att, ref, resource, sub


def parameters(options: StackOptions) -> Shape:
    """The network that is there already."""
    if options.network == "new":
        return {}
    return {
        "VpcId": {"Type": "AWS::EC2::VPC::Id", "Description": "The VPC of the tasks"},
        "Subnets": {
            "Type": "List<AWS::EC2::Subnet::Id>",
            "Description": "Its subnets for tasks, with a route to S3, SQS and the image",
        },
    }


def resources(options: StackOptions) -> Shape:
    """A security group that lets nothing in; with `new`, two public subnets and a free way to S3."""
    vpc = ref("Vpc") if options.network == "new" else ref("VpcId")
    everywhere = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "To AWS, and to what functions use"}]
    group = resource(
        "AWS::EC2::SecurityGroup",
        {
            "GroupDescription": "Workers of cloudexec: nothing comes in",
            "VpcId": vpc,
            "SecurityGroupEgress": everywhere,
        },
    )
    return {"SecurityGroup": group, **(_own() if options.network == "new" else {})}


def _own() -> Shape:
    named = {"Tags": [{"Key": "Name", "Value": ref("AWS::StackName")}]}
    found = {
        "Vpc": resource(
            "AWS::EC2::VPC",
            {"CidrBlock": "10.72.0.0/16", "EnableDnsSupport": True, "EnableDnsHostnames": True, **named},
        ),
        "Gateway": resource("AWS::EC2::InternetGateway", dict(named)),
        "GatewayAttachment": resource(
            "AWS::EC2::VPCGatewayAttachment", {"VpcId": ref("Vpc"), "InternetGatewayId": ref("Gateway")}
        ),
        "RouteTable": resource("AWS::EC2::RouteTable", {"VpcId": ref("Vpc"), **named}),
        "DefaultRoute": resource(
            "AWS::EC2::Route",
            {
                "RouteTableId": ref("RouteTable"),
                "DestinationCidrBlock": "0.0.0.0/0",
                "GatewayId": ref("Gateway"),
            },
            DependsOn=["GatewayAttachment"],
        ),
        # Free, and what goes to S3 by it leaves no trace on the bill.
        "S3Endpoint": resource(
            "AWS::EC2::VPCEndpoint",
            {
                "VpcId": ref("Vpc"),
                "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"),
                "VpcEndpointType": "Gateway",
                "RouteTableIds": [ref("RouteTable")],
            },
        ),
    }
    for number, letter in enumerate("AB"):
        found[f"Subnet{letter}"] = resource(
            "AWS::EC2::Subnet",
            {
                "VpcId": ref("Vpc"),
                "CidrBlock": f"10.72.{64 * number}.0/18",  # 16,000 tasks in each
                "AvailabilityZone": {"Fn::Select": [number, {"Fn::GetAZs": ""}]},
                "MapPublicIpOnLaunch": True,
                **named,
            },
        )
        found[f"Route{letter}"] = resource(
            "AWS::EC2::SubnetRouteTableAssociation",
            {"SubnetId": ref(f"Subnet{letter}"), "RouteTableId": ref("RouteTable")},
        )
    return found


def subnets(options: StackOptions) -> Shape:
    """The subnets as an output: joined by commas."""
    listed: object = [ref("SubnetA"), ref("SubnetB")] if options.network == "new" else ref("Subnets")
    return {"Fn::Join": [",", listed]}


def group_id() -> Shape:
    """The security group as an output."""
    return att("SecurityGroup", "GroupId")
