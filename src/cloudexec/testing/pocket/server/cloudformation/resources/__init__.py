"""Every type of resource that the pocket's CloudFormation makes.

Called by:  plane.py.   Calls: the files of this folder, one for each service; kind.py tells what a type is.
"""

from __future__ import annotations

from typing import Final

from cloudexec.testing.pocket.server.cloudformation.resources import awslambda, ec2, ecs, iam, logs, plain, s3
from cloudexec.testing.pocket.server.cloudformation.resources.kind import Kind

ALL: Final[tuple[type[Kind], ...]] = (
    awslambda.EventInvokeConfig,
    awslambda.Function,
    awslambda.Permission,
    ec2.GatewayAttachment,
    ec2.InternetGateway,
    ec2.Route,
    ec2.RouteTable,
    ec2.SecurityGroup,
    ec2.Subnet,
    ec2.SubnetRouteTableAssociation,
    ec2.Vpc,
    ec2.VpcEndpoint,
    ecs.Cluster,
    ecs.TaskDefinition,
    iam.ManagedPolicy,
    iam.Role,
    logs.LogGroup,
    plain.Project,
    plain.Queue,
    plain.Repository,
    s3.Bucket,
    s3.BucketPolicy,
)
KINDS: Final = {kind.type: kind() for kind in ALL}
