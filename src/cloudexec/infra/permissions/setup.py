"""The rights of whoever makes, checks and removes the stack: `cloudexec up`, `down`, `doctor`, `image`.

Called by: grants.py.   Calls: rows.py; pure data.
Reason:    CloudFormation acts with the rights of whoever asks it, so what it does with each resource stands here, too.
Source:    the permissions of handlers in the schemas of AWS's resource types, for the properties that our template has.
           tests/infra/permissions compares them with the types in the template.
"""

from __future__ import annotations

from typing import Final

from cloudexec.infra.permissions.rows import BY_PROTOCOL, PUSHES, Condition, Grant, Part, Who

_STACK: Final = "CloudFormation asks, in the name of whoever changes the stack"
_BUCKET: Final = "arn:{partition}:s3:::{bucket}"
_ROLES: Final = "arn:{partition}:iam::{account}:role/{stack}-*"
_POLICIES: Final = "arn:{partition}:iam::{account}:policy/{stack}-*"
_EC2: Final = "arn:{partition}:ec2:{region}:{account}:"
_DEFINITIONS: Final = "arn:{partition}:ecs:{region}:{account}:task-definition/"
_QUEUES: Final = "arn:{partition}:sqs:{region}:{account}:cloudexec-*"
# A new VPC has neither name nor tag by which it could be told from others: it must be CloudFormation that makes it.
_BY_STACKS: Final = {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}}
# Nobody but CloudFormation can set a tag that begins with aws:.
_OF_THE_STACK: Final = {"StringEquals": {"aws:ResourceTag/aws:cloudformation:stack-name": "{stack}"}}


def _handled(
    part: Part, why: str, actions: tuple[str, ...], on: tuple[str, ...] = ("*",), when: Condition | None = None
) -> Grant:
    """What CloudFormation does with a kind of resource."""
    indirect = dict.fromkeys(actions, _STACK)
    return Grant(who=Who.SETUP, part=part, why=why, actions=actions, on=on, when=when or {}, indirect=indirect)


def _passed(part: Part, service: str, *roles: str) -> Grant:
    return _handled(
        part,
        f"to give {service} these roles, and no others",
        ("iam:PassRole",),
        roles,
        when={"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}},
    )


_ASKED: Final = (
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="to make, change, watch and remove the stack, by change sets that are shown before",
        actions=(
            "cloudformation:ContinueUpdateRollback",
            "cloudformation:CreateChangeSet",
            "cloudformation:DeleteChangeSet",
            "cloudformation:DeleteStack",
            "cloudformation:DescribeChangeSet",
            "cloudformation:DescribeEvents",
            "cloudformation:DescribeStackEvents",
            "cloudformation:DescribeStackResources",
            "cloudformation:DescribeStacks",
            "cloudformation:ExecuteChangeSet",
            "cloudformation:GetTemplate",
            "cloudformation:ListStackResources",
            "cloudformation:TagResource",
        ),
        on=("arn:{partition}:cloudformation:{region}:{account}:stack/{stack}/*",),
        indirect={"cloudformation:TagResource": "part of CreateChangeSet with tags"},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="to upload the code of function and workers, and contexts of builds",
        actions=("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"),
        on=(f"{_BUCKET}/code/*", f"{_BUCKET}/builds/*"),
        indirect={
            "s3:AbortMultipartUpload": "an upload that breaks off",
            "s3:GetObject": "Lambda fetches the function's code in the name of whoever changes the stack",
        },
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="to empty the bucket before it is removed",
        actions=("s3:DeleteObject", "s3:DeleteObjectVersion"),
        on=(f"{_BUCKET}/*",),
        indirect={"s3:DeleteObjectVersion": "where somebody has switched versions on"},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="`down` looks whether a run is at work that has written its summary lately",
        actions=("s3:GetObject",),
        on=(f"{_BUCKET}/{{prefix}}/summaries/*",),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="to see what is in it, and whether it is there and one's own",
        actions=("s3:GetBucketVersioning", "s3:ListBucket", "s3:ListBucketVersions"),
        on=(_BUCKET,),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="`doctor` says whose a bucket is that refuses; it cannot be restricted",
        actions=("s3:ListAllMyBuckets",),
        optional=True,
        indirect={"s3:ListAllMyBuckets": "only when a bucket refuses"},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="`doctor` says whether the account may use the region; it cannot be restricted",
        actions=("ec2:DescribeRegions",),
        optional=True,
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="`doctor` asks which rights somebody lacks; it changes nothing",
        actions=("iam:SimulatePrincipalPolicy",),
        on=("arn:{partition}:iam::{account}:role/*", "arn:{partition}:iam::{account}:user/*"),
        optional=True,
    ),
    Grant(
        who=Who.SETUP,
        part=Part.ECS,
        why="queues that runs have left behind",
        actions=("sqs:DeleteQueue", "sqs:ListQueueTags"),
        on=(_QUEUES,),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.ECS,
        why="task definitions that runs have registered for images of their own",
        actions=("ecs:DeleteTaskDefinitions",),
        on=(f"{_DEFINITIONS}cloudexec-*", f"{_DEFINITIONS}{{stack}}-*"),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.ECS,
        why="to find the network, queues and task definitions; none of it can be restricted",
        actions=(
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcEndpoints",
            "ec2:DescribeVpcs",
            "ecs:DeregisterTaskDefinition",
            "ecs:DescribeTaskDefinition",
            "ecs:ListTaskDefinitionFamilies",
            "ecs:ListTaskDefinitions",
            "sqs:ListQueues",
        ),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.ECS,
        why="to see and stop tasks in this cluster",
        actions=("ecs:DescribeTasks", "ecs:ListTasks", "ecs:StopTask"),
        when={"ArnEquals": {"ecs:cluster": "{cluster}"}},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.ECS,
        why="the role of ECS itself, which the first cluster of an account needs",
        actions=("iam:CreateServiceLinkedRole",),
        on=("arn:{partition}:iam::{account}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS*",),
        when={"StringEquals": {"iam:AWSServiceName": "ecs.amazonaws.com"}},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.COMMON,
        why="`doctor` compares quotas with max_workers",
        actions=("servicequotas:GetAWSDefaultServiceQuota", "servicequotas:GetServiceQuota"),
        optional=True,
        indirect={"servicequotas:GetAWSDefaultServiceQuota": "only for a quota without a value of the account's own"},
    ),
    Grant(
        who=Who.SETUP,
        part=Part.LAMBDA,
        why="`doctor` looks at the account's concurrency; it cannot be restricted",
        actions=("lambda:GetAccountSettings",),
        optional=True,
    ),
    Grant(
        who=Who.SETUP,
        part=Part.IMAGES,
        why="to log in to the registry; it cannot be restricted",
        actions=("ecr:GetAuthorizationToken",),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.IMAGES,
        why="to push images, and to look at them",
        actions=tuple(sorted((*PUSHES, "ecr:DescribeImages", "ecr:ListImages"))),
        on=("{repository}",),
        indirect=BY_PROTOCOL,
    ),
    Grant(
        who=Who.SETUP,
        part=Part.IMAGES,
        why="to build images where there is no Docker",
        actions=("codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds"),
        on=("{build}",),
    ),
    Grant(
        who=Who.SETUP,
        part=Part.IMAGES,
        why="to show what a build prints",
        actions=("logs:GetLogEvents",),
        on=("{log_group}:*",),
    ),
)

_HANDLED: Final = (
    _handled(
        Part.COMMON,
        "the bucket, its policy and its rules",
        (
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:DeleteBucketPolicy",
            "s3:GetBucketNotification",
            "s3:GetBucketOwnershipControls",
            "s3:GetBucketPolicy",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetBucketTagging",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
            "s3:ListTagsForResource",
            "s3:PutBucketNotification",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketTagging",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:TagResource",
            "s3:UntagResource",
        ),
        (_BUCKET,),
    ),
    _handled(
        Part.COMMON,
        "the log group",
        (
            "logs:CreateLogGroup",
            "logs:DeleteLogGroup",
            "logs:DeleteRetentionPolicy",
            "logs:GetDataProtectionPolicy",
            "logs:ListTagsForResource",
            "logs:PutRetentionPolicy",
            "logs:TagResource",
            "logs:UntagResource",
        ),
        ("{log_group}", "{log_group}:*"),
    ),
    _handled(
        Part.COMMON,
        "to find the log group; it cannot be restricted",
        ("logs:DescribeIndexPolicies", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies"),
    ),
    _handled(
        Part.COMMON,
        "the roles of tasks, of the function and of builds, with the rights in this table",
        (
            "iam:CreateRole",
            "iam:DeleteRole",
            "iam:DeleteRolePermissionsBoundary",
            "iam:DeleteRolePolicy",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:PutRolePermissionsBoundary",
            "iam:PutRolePolicy",
            "iam:TagRole",
            "iam:UntagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
            "iam:UpdateRoleDescription",
        ),
        (_ROLES,),
    ),
    _handled(
        Part.COMMON,
        "the policies for clients and for whoever only puts jobs",
        (
            "iam:CreatePolicy",
            "iam:CreatePolicyVersion",
            "iam:DeletePolicy",
            "iam:DeletePolicyVersion",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:ListEntitiesForPolicy",
            "iam:ListPolicyVersions",
        ),
        (_POLICIES,),
    ),
    _passed(Part.ECS, "ecs-tasks", "{task_role}", "{execution_role}"),
    _passed(Part.LAMBDA, "lambda", "{function_role}"),
    _passed(Part.IMAGES, "codebuild", "{build_role}"),
    _handled(
        Part.ECS,
        "the cluster",
        (
            "ecs:CreateCluster",
            "ecs:DeleteCluster",
            "ecs:DescribeClusters",
            "ecs:PutClusterCapacityProviders",
            "ecs:UpdateCluster",
        ),
        ("{cluster}",),
    ),
    _handled(
        Part.ECS,
        "the workers' task definition; registering cannot be restricted",
        ("ecs:RegisterTaskDefinition",),
    ),
    _handled(
        Part.ECS,
        "tags of the cluster and of the task definition",
        ("ecs:ListTagsForResource", "ecs:TagResource", "ecs:UntagResource"),
        ("{cluster}", f"{_DEFINITIONS}{{stack}}-*"),
    ),
    _handled(
        Part.ECS,
        "the workers' security group: made by CloudFormation, and changed while it is being made",
        (
            "ec2:AuthorizeSecurityGroupEgress",  # perhaps before it has its tags
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:RevokeSecurityGroupEgress",
        ),
        (f"{_EC2}security-group/*", f"{_EC2}vpc/*"),
        when=_BY_STACKS,
    ),
    _handled(
        Part.ECS,
        "whether anything still uses the security group; it cannot be restricted",
        ("ec2:DescribeInstances",),
    ),
    _handled(
        Part.ECS,
        "the workers' security group, of this stack only",
        (
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
            "ec2:DeleteTags",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:UpdateSecurityGroupRuleDescriptionsEgress",
            "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
        ),
        (f"{_EC2}security-group/*",),
        when=_OF_THE_STACK,
    ),
    _handled(
        Part.LAMBDA,
        "the function, its events, and who may invoke it",
        (
            "lambda:AddPermission",
            "lambda:CreateFunction",
            "lambda:DeleteFunction",
            "lambda:DeleteFunctionEventInvokeConfig",
            "lambda:GetFunction",
            "lambda:GetFunctionCodeSigningConfig",
            "lambda:GetFunctionConcurrency",
            "lambda:GetFunctionConfiguration",
            "lambda:GetFunctionEventInvokeConfig",
            "lambda:GetFunctionRecursionConfig",
            "lambda:GetFunctionScalingConfig",
            "lambda:GetPolicy",
            "lambda:GetRuntimeManagementConfig",
            "lambda:ListTags",
            "lambda:PutFunctionEventInvokeConfig",
            "lambda:RemovePermission",
            "lambda:TagResource",
            "lambda:UntagResource",
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
            "lambda:UpdateFunctionEventInvokeConfig",
        ),
        ("{function}", "{function}:*", "{image_function}", "{image_function}:*"),
    ),
    _handled(
        Part.IMAGES,
        "the repository of images",
        (
            "ecr:CreateRepository",
            "ecr:DeleteLifecyclePolicy",
            "ecr:DeleteRepository",
            "ecr:DeleteRepositoryPolicy",
            "ecr:DescribeRepositories",
            "ecr:GetLifecyclePolicy",
            "ecr:GetRepositoryPolicy",
            "ecr:ListTagsForResource",
            "ecr:PutImageScanningConfiguration",
            "ecr:PutLifecyclePolicy",
            "ecr:SetRepositoryPolicy",
            "ecr:TagResource",
            "ecr:UntagResource",
        ),
        ("{repository}",),
    ),
    _handled(
        Part.IMAGES,
        "the builder of images",
        (
            "codebuild:BatchGetProjects",
            "codebuild:CreateProject",
            "codebuild:DeleteProject",
            "codebuild:UpdateProject",
        ),
        ("{build}",),
    ),
    _handled(
        Part.NETWORK,
        "a network of one's own (`up --network new`): made by CloudFormation only",
        (
            "ec2:AssociateRouteTable",
            "ec2:AttachInternetGateway",
            "ec2:CreateInternetGateway",
            "ec2:CreateRoute",
            "ec2:CreateRouteTable",
            "ec2:CreateSubnet",
            "ec2:CreateTags",
            "ec2:CreateVpc",
            "ec2:CreateVpcEndpoint",
            "ec2:DeleteVpcEndpoints",  # CloudFormation does not tag endpoints everywhere
            "ec2:ModifySubnetAttribute",
            "ec2:ModifyVpcAttribute",
            "ec2:ModifyVpcEndpoint",
        ),
        tuple(
            f"{_EC2}{kind}/*"
            for kind in ("internet-gateway", "route-table", "security-group", "subnet", "vpc", "vpc-endpoint")
        ),
        when=_BY_STACKS,
    ),
    _handled(
        Part.NETWORK,
        "the same, of this stack only",
        (
            "ec2:DeleteInternetGateway",
            "ec2:DeleteRoute",
            "ec2:DeleteRouteTable",
            "ec2:DeleteSubnet",
            "ec2:DeleteTags",
            "ec2:DeleteVpc",
            "ec2:DetachInternetGateway",
            "ec2:DisassociateRouteTable",
            "ec2:ReplaceRoute",
            "ec2:ReplaceRouteTableAssociation",
        ),
        tuple(f"{_EC2}{kind}/*" for kind in ("internet-gateway", "route-table", "subnet", "vpc")),
        when=_OF_THE_STACK,
    ),
    _handled(
        Part.NETWORK,
        "to see what is there; it cannot be restricted",
        (
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeInternetGateways",
            "ec2:DescribeNetworkAcls",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeVpcEncryptionControls",
            "ec2:DescribeVpnGateways",
        ),
    ),
    _handled(
        Part.NETWORK,
        "whether its DNS is switched on",
        ("ec2:DescribeVpcAttribute",),
        (f"{_EC2}vpc/*",),
    ),
)

SETUP: Final[tuple[Grant, ...]] = (*_ASKED, *_HANDLED)
