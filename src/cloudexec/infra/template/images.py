"""The repository of images, and a builder for whoever has no Docker.

Called by: build.py.   Pure.
"""

from __future__ import annotations

import json

from cloudexec.infra.names import in_template
from cloudexec.infra.permissions.grants import Who
from cloudexec.infra.permissions.render import in_cloudformation, policy
from cloudexec.infra.template.options import Shape, StackOptions, att, ref, resource, role, sub

_FUNCTIONS = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function"
_KEPT_IMAGES = 10
_BUILD_MINUTES = 60


def resources(options: StackOptions) -> Shape:
    """An empty repository costs nothing; neither does a project of CodeBuild that builds nothing."""
    found = {
        "Repository": resource(
            "AWS::ECR::Repository",
            {
                "RepositoryName": ref("AWS::StackName"),
                "EmptyOnDelete": True,
                "ImageScanningConfiguration": {"ScanOnPush": True},
                "LifecyclePolicy": {"LifecyclePolicyText": json.dumps(_lifecycle(), separators=(",", ":"))},
                "RepositoryPolicyText": _pulled_by_lambda(),
            },
        )
    }
    if options.builds:
        found |= {
            "BuildProject": resource("AWS::CodeBuild::Project", _project()),
            "BuildRole": role(
                "codebuild.amazonaws.com",
                {"build": in_cloudformation(policy(Who.BUILD, in_template()))},
                {"StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")}},
            ),
        }
    return found


def _lifecycle() -> Shape:
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": _KEPT_IMAGES}
    return {"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]}


def _pulled_by_lambda() -> Shape:
    statement = {
        "Sid": "LambdaPulls",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        # The key that Lambda is known to send here: it writes the same condition where a repository has no policy.
        "Condition": {"StringLike": {"aws:SourceArn": sub(f"{_FUNCTIONS}:${{AWS::StackName}}-*")}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _project() -> Shape:
    return {
        "Name": ref("AWS::StackName"),
        "Description": "Builds worker images where there is no Docker",
        "ServiceRole": att("BuildRole"),
        "TimeoutInMinutes": _BUILD_MINUTES,
        "Artifacts": {"Type": "NO_ARTIFACTS"},
        # Each build names its own context and its own steps.
        "Source": {"Type": "NO_SOURCE", "BuildSpec": "version: 0.2\nphases: {build: {commands: ['false']}}\n"},
        "Environment": {
            "Type": {"Fn::If": ["IsArm", "ARM_CONTAINER", "LINUX_CONTAINER"]},
            "ComputeType": "BUILD_GENERAL1_SMALL",
            "Image": {
                "Fn::If": [
                    "IsArm",
                    "aws/codebuild/amazonlinux-aarch64-standard:3.0",
                    "aws/codebuild/amazonlinux-x86_64-standard:5.0",
                ]
            },
            "PrivilegedMode": True,  # Docker inside needs it
            "EnvironmentVariables": [
                {"Name": "REPOSITORY", "Value": sub("${Repository.RepositoryUri}")},
            ],
        },
        "LogsConfig": {"CloudWatchLogs": {"Status": "ENABLED", "GroupName": ref("Log"), "StreamName": "builds"}},
    }
