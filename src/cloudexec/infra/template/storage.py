"""The bucket and the log, which everything shares.

Called by: build.py.   Pure.
"""

from __future__ import annotations

from cloudexec.infra.names import PREFIX
from cloudexec.infra.template.options import Shape, StackOptions, att, parameter, ref, resource, sub

_BUCKET_ARN = "arn:${AWS::Partition}:s3:::${BucketName}"


def parameters(options: StackOptions) -> Shape:
    """How long things are kept."""
    days = {"MinValue": 1, "MaxValue": 3650}
    found = {
        "BucketName": {
            "Type": "String",
            "Description": "The bucket's name; `cloudexec up` gives STACK-ACCOUNT-REGION",
            # No dots: they are not covered by the certificate of bucket.s3.REGION.amazonaws.com.
            "AllowedPattern": "[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        },
        "RunDays": parameter("Number", 7, "Days after which what a run has left behind is removed", **days),
        "SummaryDays": parameter("Number", 90, "Days for which `cloudexec runs` remembers a run", **days),
        "LogDays": parameter("Number", 14, "Days for which logs are kept", AllowedValues=_LOG_DAYS),
    }
    if options.function:
        found["ResultDays"] = parameter("Number", 30, "Days for which jobs and their results are kept", **days)
    return found


# What CloudWatch Logs takes.
_LOG_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]


def resources(options: StackOptions) -> Shape:
    """Bucket and log group."""
    bucket: Shape = {
        "BucketName": ref("BucketName"),
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "LifecycleConfiguration": {"Rules": _rules(options)},
    }
    more: Shape = {}
    if options.function:
        bucket["NotificationConfiguration"] = {
            "Fn::If": ["HasFunction", {"LambdaConfigurations": [_jobs()]}, ref("AWS::NoValue")]
        }
        more["DependsOn"] = ["FunctionPermission"]
    return {
        "Bucket": resource("AWS::S3::Bucket", bucket, **more),
        "BucketPolicy": resource(
            "AWS::S3::BucketPolicy",
            {"Bucket": ref("Bucket"), "PolicyDocument": {"Version": "2012-10-17", "Statement": [_only_tls()]}},
        ),
        "Log": resource(
            "AWS::Logs::LogGroup",
            {"LogGroupName": sub("/cloudexec/${AWS::StackName}"), "RetentionInDays": ref("LogDays")},
        ),
    }


def _rules(options: StackOptions) -> list[Shape]:
    """What a client that died has left goes by itself; messages wait four days for somebody to attach."""

    def expire(name: str, below: str, days: Shape | int) -> Shape:
        return {"Id": name, "Status": "Enabled", "Prefix": below, "ExpirationInDays": days}

    rules = [
        expire("old-runs", f"{PREFIX}/runs/", ref("RunDays")),
        expire("old-summaries", f"{PREFIX}/summaries/", ref("SummaryDays")),
        expire("old-builds", "builds/", 7),
        {"Id": "broken-uploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]
    if options.function:
        rules += [
            expire("old-jobs", f"{PREFIX}/jobs/", ref("ResultDays")),
            expire("old-results", f"{PREFIX}/results/", ref("ResultDays")),
        ]
    return rules


def _jobs() -> Shape:
    """Results must not match: one that started the function would do so for ever."""
    filters = [{"Name": "prefix", "Value": f"{PREFIX}/jobs/"}, {"Name": "suffix", "Value": ".json"}]
    return {"Event": "s3:ObjectCreated:*", "Function": att("Function"), "Filter": {"S3Key": {"Rules": filters}}}


def _only_tls() -> Shape:
    return {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [sub(_BUCKET_ARN), sub(f"{_BUCKET_ARN}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
