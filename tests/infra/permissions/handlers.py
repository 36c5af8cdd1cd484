"""What CloudFormation asks of a service to create, read, update and delete each type of resource in our template.

Source: `handlers.*.permissions` in the schemas that AWS publishes of its resource types, without those for properties
that the template does not have: replication, websites, KMS keys, VPCs of functions, file systems, …
Called by: test_setup.py.
"""

_TAGS_OF_EC2 = "ec2:CreateTags ec2:DeleteTags "

HANDLERS = {
    kind: frozenset(actions.split())
    for kind, actions in {
        "AWS::S3::Bucket": (
            "s3:CreateBucket s3:DeleteBucket s3:ListBucket s3:PutBucketTagging s3:TagResource s3:UntagResource "
            "s3:PutEncryptionConfiguration s3:PutLifecycleConfiguration s3:PutBucketNotification "
            "s3:PutBucketPublicAccessBlock s3:PutBucketOwnershipControls s3:GetLifecycleConfiguration "
            "s3:GetBucketPublicAccessBlock s3:GetEncryptionConfiguration s3:GetBucketNotification s3:GetBucketTagging "
            "s3:ListTagsForResource s3:GetBucketOwnershipControls"
        ),
        "AWS::S3::BucketPolicy": "s3:GetBucketPolicy s3:PutBucketPolicy s3:DeleteBucketPolicy",
        "AWS::Logs::LogGroup": (
            "logs:CreateLogGroup logs:DeleteLogGroup logs:DescribeLogGroups logs:PutRetentionPolicy "
            "logs:DeleteRetentionPolicy logs:TagResource logs:UntagResource logs:ListTagsForResource "
            "logs:GetDataProtectionPolicy logs:DescribeIndexPolicies logs:DescribeResourcePolicies"
        ),
        "AWS::ECS::Cluster": (
            "ecs:CreateCluster ecs:DescribeClusters ecs:DeleteCluster ecs:UpdateCluster "
            "ecs:PutClusterCapacityProviders ecs:TagResource ecs:UntagResource ecs:ListTagsForResource "
            "iam:CreateServiceLinkedRole"
        ),
        "AWS::ECS::TaskDefinition": (
            "ecs:RegisterTaskDefinition ecs:DescribeTaskDefinition ecs:DeregisterTaskDefinition ecs:TagResource "
            "ecs:UntagResource ecs:ListTagsForResource iam:GetRole iam:PassRole"
        ),
        "AWS::IAM::Role": (
            "iam:CreateRole iam:DeleteRole iam:GetRole iam:PutRolePolicy iam:GetRolePolicy iam:DeleteRolePolicy "
            "iam:ListRolePolicies iam:ListAttachedRolePolicies iam:UpdateRole iam:UpdateRoleDescription "
            "iam:UpdateAssumeRolePolicy iam:TagRole iam:UntagRole iam:PutRolePermissionsBoundary "
            "iam:DeleteRolePermissionsBoundary"
        ),
        "AWS::IAM::ManagedPolicy": (
            "iam:CreatePolicy iam:DeletePolicy iam:GetPolicy iam:GetPolicyVersion iam:ListPolicyVersions "
            "iam:CreatePolicyVersion iam:DeletePolicyVersion iam:ListEntitiesForPolicy"
        ),
        "AWS::Lambda::Function": (
            "lambda:CreateFunction lambda:GetFunction lambda:GetFunctionConfiguration lambda:DeleteFunction "
            "lambda:UpdateFunctionConfiguration lambda:UpdateFunctionCode lambda:TagResource lambda:UntagResource "
            "lambda:ListTags lambda:GetFunctionCodeSigningConfig lambda:GetFunctionRecursionConfig "
            "lambda:GetRuntimeManagementConfig lambda:GetFunctionScalingConfig iam:PassRole s3:GetObject "
            # An image's repository must let the function pull, and whoever makes the function must be able to see it.
            "ecr:GetRepositoryPolicy ecr:SetRepositoryPolicy ecr:BatchGetImage ecr:GetDownloadUrlForLayer"
        ),
        "AWS::Lambda::EventInvokeConfig": (
            "lambda:PutFunctionEventInvokeConfig lambda:GetFunctionEventInvokeConfig "
            "lambda:UpdateFunctionEventInvokeConfig lambda:DeleteFunctionEventInvokeConfig"
        ),
        "AWS::Lambda::Permission": "lambda:AddPermission lambda:GetPolicy lambda:RemovePermission",
        "AWS::ECR::Repository": (
            "ecr:CreateRepository ecr:DescribeRepositories ecr:DeleteRepository ecr:PutLifecyclePolicy "
            "ecr:GetLifecyclePolicy ecr:DeleteLifecyclePolicy ecr:SetRepositoryPolicy ecr:GetRepositoryPolicy "
            "ecr:DeleteRepositoryPolicy ecr:PutImageScanningConfiguration ecr:TagResource ecr:UntagResource "
            "ecr:ListTagsForResource"
        ),
        "AWS::CodeBuild::Project": (
            "codebuild:CreateProject codebuild:UpdateProject codebuild:DeleteProject codebuild:BatchGetProjects "
            "iam:PassRole"
        ),
        "AWS::EC2::SecurityGroup": _TAGS_OF_EC2
        + (
            "ec2:CreateSecurityGroup ec2:DescribeSecurityGroups ec2:DeleteSecurityGroup ec2:DescribeInstances "
            "ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:RevokeSecurityGroupEgress "
            "ec2:RevokeSecurityGroupIngress ec2:UpdateSecurityGroupRuleDescriptionsEgress "
            "ec2:UpdateSecurityGroupRuleDescriptionsIngress"
        ),
        "AWS::EC2::VPC": _TAGS_OF_EC2
        + (
            "ec2:CreateVpc ec2:DeleteVpc ec2:DescribeVpcs ec2:DescribeVpcAttribute ec2:ModifyVpcAttribute "
            "ec2:DescribeNetworkAcls ec2:DescribeSecurityGroups ec2:DescribeVpcEncryptionControls"
        ),
        "AWS::EC2::InternetGateway": _TAGS_OF_EC2
        + "ec2:CreateInternetGateway ec2:DeleteInternetGateway ec2:DescribeInternetGateways",
        "AWS::EC2::VPCGatewayAttachment": (
            "ec2:AttachInternetGateway ec2:DetachInternetGateway ec2:DescribeInternetGateways ec2:DescribeVpnGateways"
        ),
        "AWS::EC2::RouteTable": _TAGS_OF_EC2 + "ec2:CreateRouteTable ec2:DeleteRouteTable ec2:DescribeRouteTables",
        "AWS::EC2::Route": (
            "ec2:CreateRoute ec2:ReplaceRoute ec2:DeleteRoute ec2:DescribeRouteTables ec2:DescribeNetworkInterfaces"
        ),
        "AWS::EC2::Subnet": _TAGS_OF_EC2
        + (
            "ec2:CreateSubnet ec2:DeleteSubnet ec2:DescribeSubnets ec2:ModifySubnetAttribute ec2:DescribeNetworkAcls "
            "ec2:DescribeAvailabilityZones"  # of Fn::GetAZs
        ),
        "AWS::EC2::SubnetRouteTableAssociation": (
            "ec2:AssociateRouteTable ec2:DisassociateRouteTable ec2:ReplaceRouteTableAssociation "
            "ec2:DescribeRouteTables ec2:DescribeSubnets"
        ),
        "AWS::EC2::VPCEndpoint": _TAGS_OF_EC2
        + (
            "ec2:CreateVpcEndpoint ec2:ModifyVpcEndpoint ec2:DeleteVpcEndpoints ec2:DescribeVpcEndpoints "
            "ec2:DescribeSubnets ec2:DescribeSecurityGroups ec2:DescribeVpcs"
        ),
    }.items()
}
