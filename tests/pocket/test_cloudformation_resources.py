"""Every type of resource is really made, changed and removed, in the service that it belongs to."""

from __future__ import annotations

import json

import pytest

from cloudexec.testing.pocket.functions import zip_of
from cloudexec.testing.pocket.server.cloudformation.resources import KINDS

TEMPLATE = """
Parameters:
  Later: {Type: String, Default: "no", AllowedValues: ["no", "yes"]}
Conditions:
  IsLater: !Equals [!Ref Later, "yes"]
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DependsOn: Permission
    Properties:
      BucketName: of-every-type
      BucketEncryption: {ServerSideEncryptionConfiguration: [{ServerSideEncryptionByDefault: {SSEAlgorithm: AES256}}]}
      PublicAccessBlockConfiguration: !If
        - IsLater
        - !Ref AWS::NoValue
        - {BlockPublicAcls: true, BlockPublicPolicy: "true", IgnorePublicAcls: true, RestrictPublicBuckets: true}
      OwnershipControls: {Rules: [{ObjectOwnership: BucketOwnerEnforced}]}
      VersioningConfiguration: !If [IsLater, {Status: Enabled}, !Ref AWS::NoValue]
      LifecycleConfiguration:
        Rules:
          - {Id: old, Status: Enabled, Prefix: runs/, ExpirationInDays: !If [IsLater, 9, "7"]}
          - {Id: broken, Status: Enabled, AbortIncompleteMultipartUpload: {DaysAfterInitiation: 1}}
      NotificationConfiguration:
        LambdaConfigurations:
          - Event: s3:ObjectCreated:*
            Function: !GetAtt Function.Arn
            Filter: {S3Key: {Rules: [{Name: prefix, Value: !If [IsLater, tasks/, jobs/]}]}}
      Tags: [{Key: own, Value: !Ref Later}]
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Sid: !If [IsLater, Second, First]
            Effect: Deny
            Principal: "*"
            Action: s3:*
            Resource: [!GetAtt Bucket.Arn, !Sub "${Bucket.Arn}/*"]
            Condition: {Bool: {"aws:SecureTransport": "false"}}
  Log:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: !If [IsLater, 30, 14]}
  Cluster:
    Type: AWS::ECS::Cluster
    Properties:
      CapacityProviders: !If [IsLater, [FARGATE, FARGATE_SPOT], [FARGATE]]
      DefaultCapacityProviderStrategy: [{CapacityProvider: FARGATE, Weight: "1"}]
      ClusterSettings: [{Name: containerInsights, Value: !If [IsLater, enabled, disabled]}]
  Worker:
    Type: AWS::ECS::TaskDefinition
    Properties:
      Family: of-every-type
      RequiresCompatibilities: [FARGATE]
      NetworkMode: awsvpc
      Cpu: "256"
      Memory: !If [IsLater, "1024", "512"]
      EphemeralStorage: {SizeInGiB: "30"}
      RuntimePlatform: {CpuArchitecture: ARM64, OperatingSystemFamily: LINUX}
      TaskRoleArn: !GetAtt Role.Arn
      ExecutionRoleArn: !GetAtt Role.Arn
      ContainerDefinitions:
        - Name: worker
          Image: python:3.13-slim
          EntryPoint: [python, -c, pass]
          Command: [a, b]
          User: "10001"
          StopTimeout: "120"
          Environment: [{Name: A, Value: !Sub "s3://${Bucket}/x"}]
          LinuxParameters: {InitProcessEnabled: "true"}
          LogConfiguration:
            LogDriver: awslogs
            Options: {awslogs-group: !Ref Log, awslogs-region: !Ref AWS::Region, awslogs-stream-prefix: x}
  Role:
    Type: AWS::IAM::Role
    Properties:
      Description: !If [IsLater, later, first]
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
      Policies:
        - PolicyName: !If [IsLater, other, worker]
          PolicyDocument: {Version: "2012-10-17", Statement: [{Effect: Allow, Action: s3:GetObject, Resource: "*"}]}
      ManagedPolicyArns: !If [IsLater, [!Ref Managed], []]
  Managed:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Action: !If [IsLater, "s3:PutObject", "s3:GetObject"], Resource: "*"}]
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Code: {S3Bucket: code, S3Key: !If [IsLater, second.zip, first.zip]}
      Role: !GetAtt Role.Arn
      Handler: main.handler
      Runtime: python3.13
      MemorySize: !If [IsLater, 512, "256"]
      Timeout: 30
      EphemeralStorage: {Size: 600}
      LoggingConfig: {LogGroup: !Ref Log}
      Environment: !If [IsLater, !Ref AWS::NoValue, {Variables: {A: "1"}}]
      ReservedConcurrentExecutions: !If [IsLater, 3, !Ref AWS::NoValue]
  Inline:
    Type: AWS::Lambda::Function
    Properties:
      Code: {ZipFile: "def handler(event, context):\\n    return 42\\n"}
      Role: !GetAtt Role.Arn
      Handler: index.handler
      Runtime: python3.13
  Events:
    Type: AWS::Lambda::EventInvokeConfig
    Properties:
      FunctionName: !Ref Function
      Qualifier: $LATEST
      MaximumRetryAttempts: !If [IsLater, 1, 0]
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Function
      Action: lambda:InvokeFunction
      Principal: s3.amazonaws.com
      SourceAccount: !Ref AWS::AccountId
      SourceArn: arn:aws:s3:::of-every-type
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: !If [IsLater, 60, 30]}
  Vpc:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: 10.7.0.0/16, EnableDnsSupport: true, EnableDnsHostnames: !If [IsLater, false, true]}
  Gateway: {Type: AWS::EC2::InternetGateway}
  Attachment:
    Type: AWS::EC2::VPCGatewayAttachment
    Properties: {VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway}
  Subnet:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [0, !Cidr [!GetAtt Vpc.CidrBlock, 2, 8]]
      AvailabilityZone: !Select [1, !GetAZs ""]
      MapPublicIpOnLaunch: !If [IsLater, false, true]
  Table:
    Type: AWS::EC2::RouteTable
    Properties: {VpcId: !Ref Vpc, Tags: [{Key: Name, Value: !Ref Later}]}
  Route:
    Type: AWS::EC2::Route
    DependsOn: Attachment
    Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gateway}
  Association:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {SubnetId: !Ref Subnet, RouteTableId: !Ref Table}
  Endpoint:
    Type: AWS::EC2::VPCEndpoint
    Properties:
      VpcId: !Ref Vpc
      ServiceName: !Sub com.amazonaws.${AWS::Region}.s3
      VpcEndpointType: Gateway
      RouteTableIds: [!Ref Table]
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: nothing in
      VpcId: !Ref Vpc
      SecurityGroupEgress:
        - {IpProtocol: tcp, FromPort: 443, ToPort: !If [IsLater, "444", 443], CidrIp: 0.0.0.0/0, Description: out}
  Repository:
    Type: AWS::ECR::Repository
    Properties:
      EmptyOnDelete: true
      ImageScanningConfiguration: {ScanOnPush: !If [IsLater, false, true]}
      LifecyclePolicy:
        LifecyclePolicyText: >
          {"rules": [{"rulePriority": 1, "action": {"type": "expire"},
          "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9}}]}
  Project:
    Type: AWS::CodeBuild::Project
    Properties:
      ServiceRole: !GetAtt Role.Arn
      TimeoutInMinutes: !If [IsLater, 30, "60"]
      Artifacts: {Type: NO_ARTIFACTS}
      Source: {Type: NO_SOURCE, BuildSpec: "version: 0.2"}
      Environment:
        Type: LINUX_CONTAINER
        ComputeType: BUILD_GENERAL1_SMALL
        Image: aws/codebuild/standard:7.0
        PrivilegedMode: "true"
        EnvironmentVariables: [{Name: A, Value: !GetAtt Repository.RepositoryUri}]
Outputs:
  Subnets: {Value: !Join [",", [!Ref Subnet]]}
  Queue: {Value: !GetAtt Queue.Arn, Condition: IsLater}
"""


@pytest.fixture
def whole(stacks):
    """The stack of everything, in its first form."""
    s3 = stacks.aws.session().client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="first.zip", Body=zip_of({"main.py": "def handler(e, c): return 1"}))
    s3.put_object(Bucket="code", Key="second.zip", Body=zip_of({"main.py": "def handler(e, c): return 2"}))
    assert set(look(stacks.aws).values()) == {()}
    made = stacks.create(TEMPLATE, Capabilities=["CAPABILITY_IAM"], Tags=[{"Key": "stack", "Value": "mine"}])
    assert made["StackStatus"] == "CREATE_COMPLETE", [stacks.reason("s", "ROLLBACK_IN_PROGRESS"), stacks.events()]
    return stacks


def look(aws):
    """The names of everything that an empty account has not."""
    session = aws.session()
    ec2, iam, ecs = session.client("ec2"), session.client("iam"), session.client("ecs")
    own = [
        {"Name": "vpc-id", "Values": [v["VpcId"] for v in ec2.describe_vpcs()["Vpcs"] if not v["IsDefault"]] or ["-"]}
    ]

    def names(listed, name):
        return tuple(one[name] for one in listed)

    clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
    return {
        "buckets": tuple(b for b in names(session.client("s3").list_buckets()["Buckets"], "Name") if b != "code"),
        "clusters": tuple(one["clusterName"] for one in clusters if one["status"] == "ACTIVE"),
        "definitions": tuple(ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"]),
        "groups of logs": names(session.client("logs").describe_log_groups()["logGroups"], "logGroupName"),
        "roles": names(iam.list_roles()["Roles"], "RoleName"),
        "policies": names(iam.list_policies(Scope="Local")["Policies"], "PolicyName"),
        "functions": names(session.client("lambda").list_functions()["Functions"], "FunctionName"),
        "queues": tuple(session.client("sqs").list_queues().get("QueueUrls", ())),
        "vpcs": tuple(own[0]["Values"]) if own[0]["Values"] != ["-"] else (),
        "subnets": names(ec2.describe_subnets(Filters=own)["Subnets"], "SubnetId"),
        "gateways": tuple(
            one["InternetGatewayId"]
            for one in ec2.describe_internet_gateways()["InternetGateways"]
            if not any(attachment["VpcId"] not in own[0]["Values"] for attachment in one["Attachments"])
        ),
        "tables": names(ec2.describe_route_tables(Filters=own)["RouteTables"], "RouteTableId"),
        "security groups": names(ec2.describe_security_groups(Filters=own)["SecurityGroups"], "GroupId"),
        "endpoints": tuple(
            one["VpcEndpointId"] for one in ec2.describe_vpc_endpoints()["VpcEndpoints"] if one["State"] != "deleted"
        ),
        "repositories": names(session.client("ecr").describe_repositories()["repositories"], "repositoryName"),
        "projects": tuple(session.client("codebuild").list_projects()["projects"]),
    }


def seen(stacks):
    """What the services say of the stack's resources, where the template's two forms differ."""
    session, ids = stacks.aws.session(), stacks.resources()
    s3, iam, ec2, ecs = (session.client(name) for name in ("s3", "iam", "ec2", "ecs"))
    function, name = session.client("lambda"), ids["Bucket"]
    lifecycle = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    (notified,) = s3.get_bucket_notification_configuration(Bucket=name)["LambdaFunctionConfigurations"]
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    cluster = ecs.describe_clusters(clusters=[ids["Cluster"]], include=["SETTINGS"])["clusters"][0]
    definition = ecs.describe_task_definition(taskDefinition=ids["Worker"])["taskDefinition"]
    role = iam.get_role(RoleName=ids["Role"])["Role"]
    attached = iam.list_attached_role_policies(RoleName=ids["Role"])["AttachedPolicies"]
    version = iam.get_policy(PolicyArn=ids["Managed"])["Policy"]["DefaultVersionId"]
    managed = iam.get_policy_version(PolicyArn=ids["Managed"], VersionId=version)["PolicyVersion"]["Document"]
    code = function.get_function(FunctionName=ids["Function"])
    hostnames = ec2.describe_vpc_attribute(VpcId=ids["Vpc"], Attribute="enableDnsHostnames")["EnableDnsHostnames"]
    (subnet,) = ec2.describe_subnets(SubnetIds=[ids["Subnet"]])["Subnets"]
    (group,) = ec2.describe_security_groups(GroupIds=[ids["Group"]])["SecurityGroups"]
    (table,) = ec2.describe_route_tables(RouteTableIds=[ids["Table"]])["RouteTables"]
    (repository,) = session.client("ecr").describe_repositories(repositoryNames=[ids["Repository"]])["repositories"]
    (project,) = session.client("codebuild").batch_get_projects(names=[ids["Project"]])["projects"]
    queue = session.client("sqs").get_queue_attributes(QueueUrl=ids["Queue"], AttributeNames=["All"])["Attributes"]
    return {
        "days": lifecycle[0]["Expiration"]["Days"],
        "prefix": notified["Filter"]["Key"]["FilterRules"][0]["Value"],
        "versioning": s3.get_bucket_versioning(Bucket=name).get("Status"),
        "bucket's tags": {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]},
        "policy": policy["Statement"][0]["Sid"],
        "providers": cluster["capacityProviders"],
        "insights": cluster["settings"][0]["value"],
        "memory": definition["memory"],
        "retention": session.client("logs").describe_log_groups(logGroupNamePrefix=ids["Log"])["logGroups"][0][
            "retentionInDays"
        ],
        "role": role.get("Description"),
        "inline": iam.list_role_policies(RoleName=ids["Role"])["PolicyNames"],
        "attached": [one["PolicyArn"] == ids["Managed"] for one in attached],
        "managed": managed["Statement"][0]["Action"],
        "function": (code["Configuration"]["MemorySize"], code["Configuration"].get("Environment")),
        "reserved": (code.get("Concurrency") or {}).get("ReservedConcurrentExecutions"),
        "result": json.loads(function.invoke(FunctionName=ids["Function"])["Payload"].read()),
        "retries": function.get_function_event_invoke_config(FunctionName=ids["Function"])["MaximumRetryAttempts"],
        "queue": queue["VisibilityTimeout"],
        "hostnames": hostnames["Value"],
        "public": subnet["MapPublicIpOnLaunch"],
        "egress": [rule.get("ToPort") for rule in group["IpPermissionsEgress"]],
        "table": {tag["Key"]: tag["Value"] for tag in table["Tags"]}["Name"],
        "scanning": repository["imageScanningConfiguration"]["scanOnPush"],
        "minutes": project["timeoutInMinutes"],
    }


def tags(stacks, ids):
    """All values that the stack's tag `other` has; None where `stack`, the one before, is left."""
    session, region = stacks.aws.session(), stacks.aws.settings.region

    def arn(service, rest):
        return f"arn:aws:{service}:{region}:123456789012:{rest}"

    ec2 = {
        name: {
            tag["Key"]: tag["Value"]
            for tag in session.client("ec2").describe_tags(Filters=[{"Name": "resource-id", "Values": [ids[name]]}])[
                "Tags"
            ]
        }
        for name in ("Vpc", "Gateway", "Subnet", "Table", "Endpoint", "Group")
    }
    ecs, ecr = session.client("ecs"), session.client("ecr")
    in_lists = {
        "Bucket": session.client("s3").get_bucket_tagging(Bucket=ids["Bucket"])["TagSet"],
        "Cluster": ecs.list_tags_for_resource(resourceArn=arn("ecs", f"cluster/{ids['Cluster']}"))["tags"],
        "Worker": ecs.list_tags_for_resource(resourceArn=ids["Worker"])["tags"],
        "Role": session.client("iam").list_role_tags(RoleName=ids["Role"])["Tags"],
        "Repository": ecr.list_tags_for_resource(resourceArn=arn("ecr", f"repository/{ids['Repository']}"))["tags"],
        "Project": session.client("codebuild").batch_get_projects(names=[ids["Project"]])["projects"][0]["tags"],
    }
    found = {
        name: {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in listed}
        for name, listed in in_lists.items()
    }
    found["Function"] = session.client("lambda").list_tags(Resource=arn("lambda", f"function:{ids['Function']}"))[
        "Tags"
    ]
    found["Log"] = session.client("logs").list_tags_for_resource(resourceArn=arn("logs", f"log-group:{ids['Log']}"))[
        "tags"
    ]
    found["Queue"] = session.client("sqs").list_queue_tags(QueueUrl=ids["Queue"])["Tags"]
    return {None if "stack" in each else each.get("other") for each in (*found.values(), *ec2.values())}


FIRST = {
    "days": 7,
    "prefix": "jobs/",
    "versioning": None,
    "bucket's tags": {"own": "no", "stack": "mine"},
    "policy": "First",
    "providers": ["FARGATE"],
    "insights": "disabled",
    "memory": "512",
    "retention": 14,
    "role": "first",
    "inline": ["worker"],
    "attached": [],
    "managed": "s3:GetObject",
    "function": (256, {"Variables": {"A": "1"}}),
    "reserved": None,
    "result": 1,
    "retries": 0,
    "queue": "30",
    "hostnames": True,
    "public": True,
    "egress": [443],
    "table": "no",
    "scanning": True,
    "minutes": 60,
}
LATER = {
    "days": 9,
    "prefix": "tasks/",
    "versioning": "Enabled",
    "bucket's tags": {"own": "yes", "stack": "mine"},
    "policy": "Second",
    "providers": ["FARGATE", "FARGATE_SPOT"],
    "insights": "enabled",
    "memory": "1024",
    "retention": 30,
    "role": "later",
    "inline": ["other"],
    "attached": [True],
    "managed": "s3:PutObject",
    "function": (512, None),
    "reserved": 3,
    "result": 2,
    "retries": 1,
    "queue": "60",
    "hostnames": False,
    "public": False,
    "egress": [444],
    "table": "yes",
    "scanning": False,
    "minutes": 30,
}


def test_every_type_is_in_the_template():
    assert {kind for kind in KINDS if f"Type: {kind}" not in TEMPLATE} == set()


def test_everything_is_made_changed_and_removed(whole):
    ids = whole.resources()
    assert seen(whole) == FIRST
    task = whole.aws.session().client("ecs").describe_task_definition(taskDefinition=ids["Worker"])["taskDefinition"]
    (container,) = task["containerDefinitions"]
    assert (container["entryPoint"], container["command"], container["user"]) == (
        ["python", "-c", "pass"],
        ["a", "b"],
        "10001",
    )
    assert (container["linuxParameters"], container["stopTimeout"]) == ({"initProcessEnabled": True}, 120)
    assert container["logConfiguration"]["options"]["awslogs-group"] == ids["Log"]
    assert task["runtimePlatform"] == {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}
    assert task["ephemeralStorage"] == {"sizeInGiB": 30}
    assert all(look(whole.aws).values())
    groups = whole.aws.session().client("logs").describe_log_groups()["logGroups"]
    assert [one["logGroupName"] for one in groups] == [ids["Log"]]  # the function, which was invoked, writes there

    whole.client.update_stack(
        StackName="s",
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "Later", "ParameterValue": "yes"}],
    )
    assert whole.wait("s")["StackStatus"] == "UPDATE_COMPLETE", whole.events()
    assert seen(whole) == LATER
    now = whole.resources()
    assert {name for name in ids if ids[name] != now[name]} == {"Worker"}  # another revision; all else is as it was

    whole.client.update_stack(
        StackName="s",
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "Later", "UsePreviousValue": True}],
        Tags=[{"Key": "other", "Value": "yours"}],
    )
    assert whole.wait("s")["StackStatus"] == "UPDATE_COMPLETE", whole.events()
    assert whole.resources() == now
    assert tags(whole, now) == {"yours"}

    assert whole.delete()["StackStatus"] == "DELETE_COMPLETE"
    assert {kind: found for kind, found in look(whole.aws).items() if found} == {}


def test_an_update_of_everything_is_brought_back(whole):
    whole.aws.faults.fail_resource("Project", on="update")  # nothing waits for it, so it is one of the last
    whole.client.update_stack(
        StackName="s",
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "Later", "ParameterValue": "yes"}],
    )
    assert whole.wait("s")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", whole.events()
    back = seen(whole)
    assert back.pop("versioning") in (None, "Suspended")  # S3 knows no way back to what never was
    assert back == {name: value for name, value in FIRST.items() if name != "versioning"}
