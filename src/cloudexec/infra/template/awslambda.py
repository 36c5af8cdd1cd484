"""The function and its role for LambdaExecutor.

Called by: build.py.   Pure.
"""

from __future__ import annotations

from cloudexec.infra.names import in_template
from cloudexec.infra.permissions.grants import Part, Who
from cloudexec.infra.permissions.render import in_cloudformation, policy
from cloudexec.infra.template.options import Shape, StackOptions, att, parameter, ref, resource, role, sub

HANDLER = "cloudexec.worker.awslambda.handler"


def parameters(options: StackOptions) -> Shape:
    """The function's code and size."""
    return {
        "FunctionImage": parameter("String", "", "The function's image in ECR; empty: the bundle is its code"),
        "FunctionMemory": parameter("Number", 1769, "MiB; 1769 for each vCPU", MinValue=128, MaxValue=10240),
        "FunctionTimeout": parameter(
            "Number", 900, "Seconds; the longest that a call may take", MinValue=1, MaxValue=900
        ),
        "FunctionStorage": parameter("Number", 512, "MiB of /tmp", MinValue=512, MaxValue=10240),
        "Jobs": parameter(
            "String", "", "What jobs in the bucket may call, e.g. reports:*,etl.daily:run; nothing if empty"
        ),
    }


def conditions() -> Shape:
    """The function needs code: the bundle's, or an image's."""
    return {
        "HasFunctionImage": {"Fn::Not": [{"Fn::Equals": [ref("FunctionImage"), ""]}]},
        "HasFunction": {"Fn::Or": [{"Condition": "HasBundle"}, {"Condition": "HasFunctionImage"}]},
    }


def resources(options: StackOptions) -> Shape:
    """All of Lambda. It costs nothing while nothing runs."""

    def of_image(image: object, bundle: object) -> Shape:
        return {"Fn::If": ["HasFunctionImage", image, bundle]}

    none = ref("AWS::NoValue")
    function: Shape = {
        # A zip cannot become an image: CloudFormation makes another function, which needs a name of its own.
        "FunctionName": of_image(sub("${AWS::StackName}-image"), sub("${AWS::StackName}-worker")),
        "Description": "Runs calls of cloudexec's LambdaExecutor",
        "PackageType": of_image("Image", "Zip"),
        "Code": of_image(
            {"ImageUri": ref("FunctionImage")}, {"S3Bucket": ref("BucketName"), "S3Key": ref("BundleKey")}
        ),
        "Runtime": of_image(none, f"python{options.python}"),
        "Handler": of_image(none, HANDLER),
        "ImageConfig": of_image({"EntryPoint": ["python", "-m", "awslambdaric"], "Command": [HANDLER]}, none),
        "Architectures": [{"Fn::If": ["IsArm", "arm64", "x86_64"]}],
        "MemorySize": ref("FunctionMemory"),
        "Timeout": ref("FunctionTimeout"),
        "EphemeralStorage": {"Size": ref("FunctionStorage")},
        "Role": att("FunctionRole"),
        "LoggingConfig": {"LogGroup": ref("Log")},
        "Environment": {"Variables": {"CLOUDEXEC_BUCKET": ref("BucketName"), "CLOUDEXEC_JOBS": ref("Jobs")}},
    }
    return {
        "Function": resource("AWS::Lambda::Function", function, Condition="HasFunction"),
        # Calls that go by Event are claimed in the bucket; a second attempt of Lambda's would only find the claim.
        "FunctionEvents": resource(
            "AWS::Lambda::EventInvokeConfig",
            {"FunctionName": ref("Function"), "Qualifier": "$LATEST", "MaximumRetryAttempts": 0},
            Condition="HasFunction",
        ),
        # Of the bucket, to invoke the function.
        "FunctionPermission": resource(
            "AWS::Lambda::Permission",
            {
                "FunctionName": ref("Function"),
                "Action": "lambda:InvokeFunction",
                "Principal": "s3.amazonaws.com",
                "SourceAccount": ref("AWS::AccountId"),
                "SourceArn": sub("arn:${AWS::Partition}:s3:::${BucketName}"),
            },
            Condition="HasFunction",
        ),
        # Of the function, and so of your calls. Add here what they may do.
        "FunctionRole": role(
            "lambda.amazonaws.com", {"worker": in_cloudformation(policy(Who.FUNCTION, in_template()))}
        ),
        "JobsPolicy": resource(
            "AWS::IAM::ManagedPolicy",
            {
                "Description": "For whoever only puts jobs into the bucket, in any language",
                "PolicyDocument": in_cloudformation(policy(Who.JOBS, in_template(), [Part.LAMBDA])),
            },
        ),
    }
