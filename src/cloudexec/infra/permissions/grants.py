"""The table of rights. Everything that names rights (template, `cloudexec policy`, docs, tests) is made of it.

Called by: render.py, scripts/permissions.py, tests.   Calls: rows.py, setup.py; pure data.
Source:    each service's page in AWS's Service Authorization Reference, for resources and condition keys.
"""

from __future__ import annotations

from typing import Final

from cloudexec.infra.permissions.rows import BY_PROTOCOL, PULLS, PUSHES, Condition, Grant, Part, Who
from cloudexec.infra.permissions.setup import SETUP

__all__ = ["GRANTS", "Grant", "Part", "Who"]

_OBJECTS: Final = "arn:{partition}:s3:::{bucket}/{prefix}/"
_BUCKET: Final = ("arn:{partition}:s3:::{bucket}",)
_QUEUES: Final = "arn:{partition}:sqs:{region}:{account}:cloudexec-*"
_ABORT: Final = {"s3:AbortMultipartUpload": "an upload that breaks off"}
_PASSED: Final = "part of the request that hands the role over"


def _listing(*below: str) -> Condition:
    """What may be listed; and S3 asks for this right, without any prefix, when a key is not there: 404 or 403?"""
    return {"StringLikeIfExists": {"s3:prefix": tuple(f"{{prefix}}/{each}" for each in below)}}


def _log(who: Who, part: Part, why: str, *, written: str) -> Grant:
    """The log of what a service runs; `written`: by whom."""
    actions = ("logs:CreateLogStream", "logs:PutLogEvents")
    indirect = dict.fromkeys(actions, written)
    return Grant(who=who, part=part, why=why, actions=actions, on=("{log_group}:*",), indirect=indirect)


_CLIENT: Final = (
    Grant(
        who=Who.CLIENT,
        part=Part.COMMON,
        why="arguments, results, the journal of its runs; they are removed when a run ends",
        actions=("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
        on=(_OBJECTS + "runs/*",),
        indirect=_ABORT,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.COMMON,
        why="what `runs`, `show` and `cost` read; `clean` removes old ones",
        actions=("s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
        on=(_OBJECTS + "summaries/*",),
        optional=True,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.COMMON,
        why="without it, S3 says 'denied' of what is not there; runs are listed with it",
        actions=("s3:ListBucket",),
        on=_BUCKET,
        when=_listing("runs/*", "summaries/*"),
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.COMMON,
        why="the last lines of a worker that died, for the exceptions of its calls; `cloudexec logs`",
        actions=("logs:GetLogEvents", "logs:FilterLogEvents"),
        on=("{log_group}:log-stream:*", "{log_group}:*", "{log_group}"),
        optional=True,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.COMMON,
        why="to find what is not set: the resources of this stack",
        actions=("cloudformation:DescribeStackResources",),
        on=("arn:{partition}:cloudformation:{region}:{account}:stack/{stack}/*",),
        optional=True,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="the two queues of each run",
        actions=(
            "sqs:CreateQueue",
            "sqs:TagQueue",
            "sqs:DeleteQueue",
            "sqs:SendMessage",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ListQueueTags",
        ),
        on=(_QUEUES,),
        indirect={"sqs:TagQueue": "part of CreateQueue with tags"},
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="`cloudexec clean` looks for queues that were left behind; it cannot be restricted to some",
        actions=("sqs:ListQueues",),
        optional=True,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="to start workers, in this cluster only",
        actions=("ecs:RunTask",),
        on=(
            "arn:{partition}:ecs:{region}:{account}:task-definition/cloudexec-*",
            "arn:{partition}:ecs:{region}:{account}:task-definition/{stack}-*",
        ),
        when={"ArnEquals": {"ecs:cluster": "{cluster}"}},
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="to watch and stop them",
        actions=("ecs:DescribeTasks", "ecs:ListTasks", "ecs:StopTask"),
        when={"ArnEquals": {"ecs:cluster": "{cluster}"}},
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="to mark them as this run's",
        actions=("ecs:TagResource",),
        when={"StringEquals": {"ecs:CreateAction": ("RunTask", "RegisterTaskDefinition")}},
        indirect={"ecs:TagResource": "part of RunTask and RegisterTaskDefinition with tags"},
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="sizes of a task definition; a definition for image=. ECS restricts neither to some definitions for sure",
        actions=("ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"),
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="to give workers their role, and no other",
        actions=("iam:PassRole",),
        on=("{task_role}", "{execution_role}"),
        when={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        indirect={"iam:PassRole": _PASSED},
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.ECS,
        why="the subnets and the security group of the default network, where none are set; they cannot be restricted",
        actions=("ec2:DescribeVpcs", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"),
        optional=True,
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.LAMBDA,
        why="to run calls, and to know the function's timeout, memory and concurrency",
        actions=(
            "lambda:InvokeFunction",
            "lambda:GetFunctionConfiguration",
            "lambda:GetFunctionConcurrency",
            "lambda:GetFunctionEventInvokeConfig",
        ),
        on=("{function}", "{function}:*", "{image_function}", "{image_function}:*"),
    ),
    Grant(
        who=Who.CLIENT,
        part=Part.LAMBDA,
        why="the account's concurrency; it cannot be restricted",
        actions=("lambda:GetAccountSettings",),
        optional=True,
    ),
)

_TASK: Final = (
    Grant(
        who=Who.TASK,
        part=Part.ECS,
        why="functions and arguments; the code of a worker that has no image of its own",
        actions=("s3:GetObject",),
        on=(_OBJECTS + "runs/*", "arn:{partition}:s3:::{bucket}/code/*"),
    ),
    Grant(
        who=Who.TASK,
        part=Part.ECS,
        why="results; neither the journal nor what the client orders",
        actions=("s3:PutObject", "s3:AbortMultipartUpload"),
        on=(_OBJECTS + "runs/*/blobs/*",),
        indirect=_ABORT,
    ),
    Grant(
        who=Who.TASK,
        part=Part.ECS,
        why="without it, S3 says 'denied' of what is not there",
        actions=("s3:ListBucket",),
        on=_BUCKET,
        when=_listing("runs/*"),
        indirect={"s3:ListBucket": "it decides between 'denied' and 'not there'"},
    ),
    Grant(
        who=Who.TASK,
        part=Part.ECS,
        why="to take calls",
        actions=("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
        on=(_QUEUES + "-work",),
    ),
    Grant(
        who=Who.TASK,
        part=Part.ECS,
        why="to send outcomes, and to put calls back when it must leave",
        actions=("sqs:SendMessage",),
        on=(_QUEUES,),
    ),
)

_FUNCTION: Final = (
    _log(Who.FUNCTION, Part.LAMBDA, "its log", written="Lambda itself writes"),
    Grant(
        who=Who.FUNCTION,
        part=Part.LAMBDA,
        why="functions and arguments; jobs; results of jobs, to do none twice",
        actions=("s3:GetObject",),
        on=(_OBJECTS + "runs/*", _OBJECTS + "jobs/*", _OBJECTS + "results/*"),
    ),
    Grant(
        who=Who.FUNCTION,
        part=Part.LAMBDA,
        why="results; neither jobs nor what the client orders",
        actions=("s3:PutObject", "s3:AbortMultipartUpload"),
        on=(
            _OBJECTS + "runs/*/blobs/*",
            _OBJECTS + "runs/*/answers/*",
            _OBJECTS + "runs/*/events/*",
            _OBJECTS + "results/*",
        ),
        indirect=_ABORT,
    ),
    Grant(
        who=Who.FUNCTION,
        part=Part.LAMBDA,
        why="without it, S3 says 'denied' of what is not there",
        actions=("s3:ListBucket",),
        on=_BUCKET,
        when=_listing("*"),
        indirect={"s3:ListBucket": "it decides between 'denied' and 'not there'"},
    ),
)

_EXECUTION: Final = (
    Grant(
        who=Who.EXECUTION,
        part=Part.ECS,
        why="to log in to the registry; it cannot be restricted",
        actions=("ecr:GetAuthorizationToken",),
        indirect={"ecr:GetAuthorizationToken": "ECS itself asks"},
    ),
    Grant(
        who=Who.EXECUTION,
        part=Part.ECS,
        why="to pull the image",
        actions=PULLS,
        on=("{repository}",),
        indirect=dict.fromkeys(PULLS, "ECS itself asks"),
    ),
    _log(Who.EXECUTION, Part.ECS, "to write the workers' log", written="ECS itself writes"),
)

_JOBS: Final = (
    Grant(
        who=Who.JOBS,
        part=Part.LAMBDA,
        why="to put jobs",
        actions=("s3:GetObject", "s3:PutObject"),
        on=(_OBJECTS + "jobs/*",),
    ),
    Grant(
        who=Who.JOBS,
        part=Part.LAMBDA,
        why="to read their results",
        actions=("s3:GetObject",),
        on=(_OBJECTS + "results/*",),
    ),
    Grant(
        who=Who.JOBS,
        part=Part.LAMBDA,
        why="to see which are there",
        actions=("s3:ListBucket",),
        on=_BUCKET,
        when=_listing("jobs/*", "results/*"),
    ),
)

_BUILD: Final = (
    Grant(
        who=Who.BUILD,
        part=Part.IMAGES,
        why="to log in to the registry; it cannot be restricted",
        actions=("ecr:GetAuthorizationToken",),
        indirect={"ecr:GetAuthorizationToken": "CodeBuild itself asks"},
    ),
    Grant(
        who=Who.BUILD,
        part=Part.IMAGES,
        why="to push the image",
        actions=PUSHES,
        on=("{repository}",),
        indirect=BY_PROTOCOL,
    ),
    Grant(
        who=Who.BUILD,
        part=Part.IMAGES,
        why="the context that is built",
        actions=("s3:GetObject", "s3:GetObjectVersion"),
        on=("arn:{partition}:s3:::{bucket}/builds/*",),
        indirect=dict.fromkeys(("s3:GetObject", "s3:GetObjectVersion"), "CodeBuild itself fetches it"),
    ),
    _log(Who.BUILD, Part.IMAGES, "its log", written="CodeBuild writes"),
)

GRANTS: Final[tuple[Grant, ...]] = (*_CLIENT, *_TASK, *_FUNCTION, *SETUP, *_EXECUTION, *_JOBS, *_BUILD)
