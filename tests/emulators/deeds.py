"""What principals do with their rights, one deed for each action, and what they may not do elsewhere.

Called by: test_rights.py.   A deed is done over HTTP with our own clients; root prepares what it needs.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudexec.backends.clients import Clients
from cloudexec.infra.names import Names
from cloudexec.infra.permissions.grants import Who
from cloudexec.transport import lambdas, s3, sqs
from cloudexec.transport.sync import SyncClient

ACCOUNT = "000000000000"
REGION = "us-east-1"
OTHER_BUCKET = "somebody-elses"
RUN = "cloudexec/runs/r1"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Somebody with keys: our transport for the hot requests, boto3 for the others."""

    call: Callable[[Any], Any]
    ask: Callable[[str, str, dict[str, Any]], dict[str, Any]]
    close: Callable[[], None]

    @staticmethod
    def of(aws, access_key: str, secret_key: str) -> Actor:
        import boto3

        session = boto3.Session(access_key, secret_key, region_name=REGION)
        clients = Clients(session=session, endpoint_url=aws.endpoint.url)
        transport = SyncClient(aws.account_of(access_key, secret_key))

        def close() -> None:
            transport.close()
            clients.close()

        return Actor(call=transport.call, ask=clients.ask, close=close)


class World:
    """What is there: a bucket, a function, queues and a log of ours, and the same of somebody else."""

    def __init__(self, root: Actor, names: Names) -> None:
        self.root, self.names, self.bucket = root, names, names.bucket
        for bucket in (names.bucket, OTHER_BUCKET):
            root.ask("s3", "create_bucket", {"Bucket": bucket})
        trust = json.dumps(TRUST)
        role = root.ask("iam", "create_role", {"RoleName": "for-functions", "AssumeRolePolicyDocument": trust})
        for name in ("cloudexec-worker", "another"):
            root.ask(
                "lambda",
                "create_function",
                {
                    "FunctionName": name,
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Role": role["Role"]["Arn"],
                    "Code": {"ZipFile": _zip("def handler(event, context):\n    return 1\n")},
                },
            )
        for group in ("/cloudexec/cloudexec", "/another"):
            root.ask("logs", "create_log_group", {"logGroupName": group})
            root.ask("logs", "create_log_stream", {"logGroupName": group, "logStreamName": "s"})
        template = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
        for stack in ("cloudexec", "another"):
            root.ask("cloudformation", "create_stack", {"StackName": stack, "TemplateBody": template})

    def put(self, key: str, bucket: str = "") -> str:
        """An object of this key; the key."""
        self.root.ask("s3", "put_object", {"Bucket": bucket or self.bucket, "Key": key, "Body": b"1"})
        return key

    def queue(self, name: str) -> str:
        """The URL of a queue, made where it is not there."""
        return str(self.root.ask("sqs", "create_queue", {"QueueName": name})["QueueUrl"])

    def received(self, name: str) -> tuple[str, str]:
        """A queue's URL, and the receipt of a message in it."""
        url = self.queue(name)
        self.root.ask("sqs", "send_message", {"QueueUrl": url, "MessageBody": "m"})
        (message, *_) = self.root.ask("sqs", "receive_message", {"QueueUrl": url})["Messages"]
        return url, message["ReceiptHandle"]


def _zip(source: str) -> bytes:
    import io
    import zipfile

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("index.py", source)
    return written.getvalue()


Do = Callable[[Actor, World], Any]


@dataclass(frozen=True, kw_only=True)
class Deed:
    """An action of somebody's: done at `here` it is allowed, at `elsewhere` it is not."""

    who: Who
    action: str
    here: tuple[Do, ...]
    elsewhere: tuple[Do, ...] = ()  # none where the action cannot be restricted


# --- how -----------------------------------------------------------------------------------------------


def get(key: str, bucket: str = "") -> Do:
    return lambda actor, world: actor.call(s3.get_object(bucket or world.bucket, world.put(key, bucket), owner=ACCOUNT))


def put(key: str, bucket: str = "") -> Do:
    return lambda actor, world: actor.call(s3.put_object(bucket or world.bucket, key, [b"1"], owner=ACCOUNT))


def delete(key: str, bucket: str = "") -> Do:
    def one_and_many(actor: Actor, world: World) -> None:
        actor.call(s3.delete_object(bucket or world.bucket, world.put(key, bucket), owner=ACCOUNT))
        world.put(key, bucket)
        assert actor.call(s3.delete_objects(bucket or world.bucket, [key], owner=ACCOUNT)) == []

    return one_and_many


def abort(key: str, bucket: str = "") -> Do:
    def aborted(actor: Actor, world: World) -> None:
        place = {"Bucket": bucket or world.bucket, "Key": key}
        upload = world.root.ask("s3", "create_multipart_upload", place)["UploadId"]
        actor.call(s3.abort_multipart_upload(place["Bucket"], key, upload, owner=ACCOUNT))

    return aborted


def listed(prefix: str, bucket: str = "") -> Do:
    return lambda actor, world: actor.call(s3.list_objects(bucket or world.bucket, prefix=prefix, owner=ACCOUNT))


# Ours go by tens (SendMessageBatch, …), for which AWS asks the same right as for one; ministack asks another one.


def send(queue: str) -> Do:
    return of_queue("send_message", queue, MessageBody="m")


def receive(queue: str) -> Do:
    return lambda actor, world: actor.call(sqs.receive_messages(world.queue(queue), wait_s=0))


def finish(queue: str) -> Do:
    def finished(actor: Actor, world: World) -> None:
        url, receipt = world.received(queue)
        actor.ask("sqs", "delete_message", {"QueueUrl": url, "ReceiptHandle": receipt})

    return finished


def extend(queue: str) -> Do:
    def extended(actor: Actor, world: World) -> None:
        url, receipt = world.received(queue)
        actor.ask(
            "sqs", "change_message_visibility", {"QueueUrl": url, "ReceiptHandle": receipt, "VisibilityTimeout": 5}
        )

    return extended


def of_queue(operation: str, name: str, **more: Any) -> Do:
    return lambda actor, world: actor.ask("sqs", operation, {"QueueUrl": world.queue(name), **more})


def create_queue(start: str) -> Do:
    return lambda actor, world: actor.ask("sqs", "create_queue", {"QueueName": f"{start}{uuid.uuid4().hex}"})


def asked(service: str, operation: str, **request: Any) -> Do:
    return lambda actor, world: actor.ask(service, operation, request)


def invoked(function: str) -> Do:
    return lambda actor, world: actor.call(lambdas.invoke(function, b"{}", wait_s=30))


def role(operation: str, name: str, **more: Any) -> Do:
    """Something of a role that root has made before."""

    def done(actor: Actor, world: World) -> None:
        own = f"{name}-{uuid.uuid4().hex[:8]}"
        world.root.ask("iam", "create_role", {"RoleName": own, "AssumeRolePolicyDocument": json.dumps(TRUST)})
        actor.ask("iam", operation, {"RoleName": own, **more})

    return done


def create_role(start: str) -> Do:
    return lambda actor, world: actor.ask(
        "iam",
        "create_role",
        {"RoleName": f"{start}{uuid.uuid4().hex[:8]}", "AssumeRolePolicyDocument": json.dumps(TRUST)},
    )


# --- what ----------------------------------------------------------------------------------------------

LOGS = {"logGroupName": "/cloudexec/cloudexec"}
OTHER_LOGS = {"logGroupName": "/another"}
QUEUE = "cloudexec-r1-work"
OUTCOMES = "cloudexec-r1-outcomes"
OTHER_QUEUE = "another-queue"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]})
CONTAINER = {"name": "worker", "image": "i", "memory": 512}


def _on_objects(
    who: Who, action: str, how: Callable[..., Do], here: tuple[str, ...], not_here: tuple[str, ...]
) -> Deed:
    elsewhere = (*(how(key) for key in not_here), how(here[0], OTHER_BUCKET))
    return Deed(who=who, action=action, here=tuple(how(key) for key in here), elsewhere=elsewhere)


def _on_queues(
    who: Who, action: str, how: Callable[[str], Do], here: tuple[str, ...], not_here: tuple[str, ...]
) -> Deed:
    elsewhere = tuple(how(name) for name in not_here)
    return Deed(who=who, action=action, here=tuple(how(name) for name in here), elsewhere=elsewhere)


_OF_RUNS = (f"{RUN}/control", f"{RUN}/journal/1", "cloudexec/summaries/r1.json")
_NOT_OF_RUNS = ("code/1.zip", "cloudexec/jobs/1.json", "another/runs/r1/control")

CLIENT = (
    _on_objects(Who.CLIENT, "s3:GetObject", get, _OF_RUNS, _NOT_OF_RUNS),
    _on_objects(Who.CLIENT, "s3:PutObject", put, _OF_RUNS, _NOT_OF_RUNS),
    _on_objects(Who.CLIENT, "s3:DeleteObject", delete, _OF_RUNS, _NOT_OF_RUNS),
    _on_objects(Who.CLIENT, "s3:AbortMultipartUpload", abort, (f"{RUN}/blobs/1",), ("code/1.zip",)),
    _on_objects(
        Who.CLIENT, "s3:ListBucket", listed, (f"{RUN}/", "cloudexec/runs/", "cloudexec/summaries/"), ("code/",)
    ),
    *(
        _on_queues(Who.CLIENT, action, how, (QUEUE, OUTCOMES), (OTHER_QUEUE,))
        for action, how in (
            ("sqs:SendMessage", send),
            ("sqs:ReceiveMessage", receive),
            ("sqs:DeleteMessage", finish),
            ("sqs:DeleteQueue", lambda name: of_queue("delete_queue", f"{name}-gone")),
            ("sqs:TagQueue", lambda name: of_queue("tag_queue", name, Tags={"a": "b"})),
            ("sqs:ListQueueTags", lambda name: of_queue("list_queue_tags", name)),
            ("sqs:GetQueueAttributes", lambda name: of_queue("get_queue_attributes", name, AttributeNames=["All"])),
            (
                "sqs:GetQueueUrl",
                lambda name: lambda a, w: (w.queue(name), asked("sqs", "get_queue_url", QueueName=name)(a, w)),
            ),
        )
    ),
    Deed(
        who=Who.CLIENT,
        action="sqs:CreateQueue",
        here=(create_queue("cloudexec-"),),
        elsewhere=(create_queue("another-"),),
    ),
    Deed(who=Who.CLIENT, action="sqs:ListQueues", here=(asked("sqs", "list_queues"),)),
    Deed(
        who=Who.CLIENT,
        action="logs:GetLogEvents",
        here=(asked("logs", "get_log_events", logStreamName="s", **LOGS),),
        elsewhere=(asked("logs", "get_log_events", logStreamName="s", **OTHER_LOGS),),
    ),
    Deed(
        who=Who.CLIENT,
        action="logs:FilterLogEvents",
        here=(asked("logs", "filter_log_events", **LOGS),),
        elsewhere=(asked("logs", "filter_log_events", **OTHER_LOGS),),
    ),
    Deed(
        who=Who.CLIENT,
        action="cloudformation:DescribeStackResources",
        here=(asked("cloudformation", "describe_stack_resources", StackName="cloudexec"),),
        elsewhere=(asked("cloudformation", "describe_stack_resources", StackName="another"),),
    ),
    Deed(
        who=Who.CLIENT,
        action="lambda:InvokeFunction",
        here=(invoked("cloudexec-worker"),),
        elsewhere=(invoked("another"),),
    ),
    Deed(
        who=Who.CLIENT,
        action="lambda:GetFunctionConfiguration",
        here=(asked("lambda", "get_function_configuration", FunctionName="cloudexec-worker"),),
        elsewhere=(asked("lambda", "get_function_configuration", FunctionName="another"),),
    ),
    Deed(who=Who.CLIENT, action="ec2:DescribeVpcs", here=(asked("ec2", "describe_vpcs"),)),
    Deed(who=Who.CLIENT, action="ec2:DescribeSubnets", here=(asked("ec2", "describe_subnets"),)),
    Deed(who=Who.CLIENT, action="ec2:DescribeSecurityGroups", here=(asked("ec2", "describe_security_groups"),)),
    Deed(
        who=Who.CLIENT,
        action="ecs:RegisterTaskDefinition",
        here=(asked("ecs", "register_task_definition", family="cloudexec-f", containerDefinitions=[CONTAINER]),),
    ),
    Deed(
        who=Who.CLIENT,
        action="ecs:DescribeTaskDefinition",
        here=(asked("ecs", "describe_task_definition", taskDefinition="cloudexec-f"),),
    ),
)

TASK = (
    _on_objects(
        Who.TASK, "s3:GetObject", get, (f"{RUN}/blobs/1", f"{RUN}/control", "code/1.zip"), ("cloudexec/jobs/1.json",)
    ),
    _on_objects(
        Who.TASK,
        "s3:PutObject",
        put,
        (f"{RUN}/blobs/1",),
        (f"{RUN}/journal/1", f"{RUN}/control", "code/1.zip", "cloudexec/summaries/r1.json"),
    ),
    _on_objects(Who.TASK, "s3:AbortMultipartUpload", abort, (f"{RUN}/blobs/1",), (f"{RUN}/journal/1",)),
    _on_objects(Who.TASK, "s3:ListBucket", listed, (f"{RUN}/",), ("code/", "cloudexec/summaries/")),
    _on_queues(Who.TASK, "sqs:ReceiveMessage", receive, (QUEUE,), (OUTCOMES, OTHER_QUEUE)),
    _on_queues(Who.TASK, "sqs:DeleteMessage", finish, (QUEUE,), (OUTCOMES, OTHER_QUEUE)),
    _on_queues(Who.TASK, "sqs:ChangeMessageVisibility", extend, (QUEUE,), (OUTCOMES, OTHER_QUEUE)),
    _on_queues(Who.TASK, "sqs:SendMessage", send, (OUTCOMES, QUEUE), (OTHER_QUEUE,)),
)

FUNCTION = (
    _on_objects(
        Who.FUNCTION,
        "s3:GetObject",
        get,
        (f"{RUN}/blobs/1", "cloudexec/jobs/1.json", "cloudexec/results/1.json"),
        ("code/1.zip", "cloudexec/summaries/r1.json"),
    ),
    _on_objects(
        Who.FUNCTION,
        "s3:PutObject",
        put,
        (f"{RUN}/blobs/1", f"{RUN}/answers/1", f"{RUN}/events/1", "cloudexec/results/1.json"),
        (f"{RUN}/control", "cloudexec/jobs/1.json", "code/1.zip"),
    ),
    _on_objects(Who.FUNCTION, "s3:AbortMultipartUpload", abort, (f"{RUN}/blobs/1",), ("cloudexec/jobs/1.json",)),
    _on_objects(Who.FUNCTION, "s3:ListBucket", listed, (f"{RUN}/", "cloudexec/jobs/"), ("code/",)),
)

JOBS = (
    _on_objects(
        Who.JOBS, "s3:GetObject", get, ("cloudexec/jobs/1.json", "cloudexec/results/1.json"), (f"{RUN}/control",)
    ),
    _on_objects(Who.JOBS, "s3:PutObject", put, ("cloudexec/jobs/1.json",), ("cloudexec/results/1.json", "code/1")),
    _on_objects(Who.JOBS, "s3:ListBucket", listed, ("cloudexec/jobs/", "cloudexec/results/"), (f"{RUN}/",)),
)

SETUP = (
    _on_objects(Who.SETUP, "s3:PutObject", put, ("code/1.zip", "builds/1.zip"), (f"{RUN}/control",)),
    _on_objects(Who.SETUP, "s3:GetObject", get, ("code/1.zip",), (f"{RUN}/control",)),
    _on_objects(Who.SETUP, "s3:DeleteObject", delete, ("code/1.zip", f"{RUN}/control"), ()),
    _on_objects(Who.SETUP, "s3:ListBucket", listed, ("", f"{RUN}/"), ()),
    *(
        Deed(
            who=Who.SETUP,
            action=action,
            here=(asked("cloudformation", operation, StackName="cloudexec"),),
            elsewhere=(asked("cloudformation", operation, StackName="another"),),
        )
        for action, operation in (
            ("cloudformation:DescribeStacks", "describe_stacks"),
            ("cloudformation:DescribeStackEvents", "describe_stack_events"),
            ("cloudformation:DescribeStackResources", "describe_stack_resources"),
            ("cloudformation:GetTemplate", "get_template"),
        )
    ),
    Deed(
        who=Who.SETUP,
        action="iam:CreateRole",
        here=(create_role("cloudexec-TaskRole-"),),
        elsewhere=(create_role("admin-"),),
    ),
    *(
        Deed(
            who=Who.SETUP,
            action=action,
            here=(role(operation, "cloudexec-TaskRole", **more),),
            elsewhere=(role(operation, "admin", **more),),
        )
        for action, operation, more in (
            ("iam:PutRolePolicy", "put_role_policy", {"PolicyName": "p", "PolicyDocument": POLICY}),
            ("iam:UpdateAssumeRolePolicy", "update_assume_role_policy", {"PolicyDocument": json.dumps(TRUST)}),
            ("iam:GetRole", "get_role", {}),
            ("iam:ListRolePolicies", "list_role_policies", {}),
            ("iam:TagRole", "tag_role", {"Tags": [{"Key": "a", "Value": "b"}]}),
            ("iam:DeleteRole", "delete_role", {}),
        )
    ),
    Deed(who=Who.SETUP, action="ecr:GetAuthorizationToken", here=(asked("ecr", "get_authorization_token"),)),
)

DEEDS = (*CLIENT, *TASK, *FUNCTION, *JOBS, *SETUP)
