"""What an HTTP request asks of which service, and answers in the shape of that service's protocol. Pure.

Called by:  http.py, front.py and the planes.   Calls: nothing.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote
from xml.sax.saxutils import escape

SIGNING_SCOPE: Final = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
JSON_VERSIONS: Final = {"sqs": "application/x-amz-json-1.0"}  # the others speak 1.1
XML_SERVICES: Final = ("cloudformation", "ec2", "iam", "sts")

# What a query parameter makes of a request to S3: (method, parameter) on a key, then on a bucket.
KEY_OPERATIONS: Final = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("PUT", "tagging"): "PutObjectTagging",
    ("GET", "tagging"): "GetObjectTagging",
}
BUCKET_OPERATIONS: Final = {
    ("GET", "list-type"): "ListObjectsV2",
    ("POST", "delete"): "DeleteObjects",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "location"): "GetBucketLocation",
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("PUT", "tagging"): "PutBucketTagging",
    ("GET", "tagging"): "GetBucketTagging",
    ("PUT", "policy"): "PutBucketPolicy",
    ("GET", "policy"): "GetBucketPolicy",
    ("DELETE", "policy"): "DeleteBucketPolicy",
    ("DELETE", "lifecycle"): "DeleteBucketLifecycle",
    ("DELETE", "tagging"): "DeleteBucketTagging",
    ("PUT", "encryption"): "PutBucketEncryption",
    ("GET", "encryption"): "GetBucketEncryption",
    ("DELETE", "encryption"): "DeleteBucketEncryption",
    ("PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("GET", "publicAccessBlock"): "GetPublicAccessBlock",
    ("DELETE", "publicAccessBlock"): "DeletePublicAccessBlock",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("GET", "ownershipControls"): "GetBucketOwnershipControls",
    ("DELETE", "ownershipControls"): "DeleteBucketOwnershipControls",
    ("PUT", "notification"): "PutBucketNotificationConfiguration",
    ("GET", "notification"): "GetBucketNotificationConfiguration",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "versioning"): "GetBucketVersioning",
}
# Of Lambda, by method and path; `*` is the function.
LAMBDA_OPERATIONS: Final = {
    "POST functions/*/invocations": "Invoke",
    "GET account-settings": "GetAccountSettings",
    "POST functions": "CreateFunction",
    "GET functions": "ListFunctions",
    "GET functions/*": "GetFunction",
    "DELETE functions/*": "DeleteFunction",
    "PUT functions/*/code": "UpdateFunctionCode",
    "GET functions/*/configuration": "GetFunctionConfiguration",
    "PUT functions/*/configuration": "UpdateFunctionConfiguration",
    "PUT functions/*/concurrency": "PutFunctionConcurrency",
    "GET functions/*/concurrency": "GetFunctionConcurrency",
    "DELETE functions/*/concurrency": "DeleteFunctionConcurrency",
    "PUT functions/*/event-invoke-config": "PutFunctionEventInvokeConfig",
    "POST functions/*/event-invoke-config": "UpdateFunctionEventInvokeConfig",
    "GET functions/*/event-invoke-config": "GetFunctionEventInvokeConfig",
    "DELETE functions/*/event-invoke-config": "DeleteFunctionEventInvokeConfig",
    "POST functions/*/versions": "PublishVersion",
    "GET functions/*/versions": "ListVersionsByFunction",
    "POST functions/*/aliases": "CreateAlias",
    "POST functions/*/policy": "AddPermission",
    "GET functions/*/policy": "GetPolicy",
    "DELETE functions/*/policy/*": "RemovePermission",
    "GET tags/*": "ListTags",
    "POST tags/*": "TagResource",
    "DELETE tags/*": "UntagResource",
}
PLAIN_KEY_OPERATIONS: Final = {
    "GET": "GetObject",
    "PUT": "PutObject",
    "HEAD": "HeadObject",
    "DELETE": "DeleteObject",
    "POST": "PostObject",
}
PLAIN_BUCKET_OPERATIONS: Final = {
    "GET": "ListObjects",
    "PUT": "CreateBucket",
    "HEAD": "HeadBucket",
    "DELETE": "DeleteBucket",
    "POST": "PostObject",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request with its whole body; header names are in lower case."""

    method: str
    path: str  # percent-decoded
    query: str  # as it was sent
    headers: dict[str, str]
    body: bytes
    environ: dict[str, Any] = field(repr=False, default_factory=dict)
    service: str = ""
    operation: str = ""
    region: str = ""
    access_key: str = ""

    def json(self) -> dict[str, Any]:
        """The parameters of a JSON protocol's request."""
        value = json.loads(self.body or b"{}")
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP answer with its whole body."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the service did what was asked."""
        return self.status < 400


class Refusal(Exception):
    """What a plane raises to answer with an error; front.py turns it into an Answer.

    Arguments: code, message, status, more members of the answer.
    """

    def __init__(self, code: str, message: str, status: int = 400, **members: object) -> None:
        super().__init__(code, message, status, members)
        self.code, self.message, self.status, self.members = code, message, status, members


def signer(headers: dict[str, str], query: str) -> tuple[str, str, str]:
    """Access key, region and service that signed a request; empty where nobody did."""
    found = SIGNING_SCOPE.search(headers.get("authorization", ""))
    if found is None and "X-Amz-Credential" in query:
        found = SIGNING_SCOPE.search("Credential=" + unquote(parse_qs(query)["X-Amz-Credential"][0]))
    return (found.group(1), found.group(2), found.group(3)) if found else ("", "", "")


def operation_of(service: str, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> str:
    """The API's name of what is asked, e.g. `RunTask`; the method and path where it has none here."""
    target = headers.get("x-amz-target")
    if target:
        return target.rpartition(".")[2]
    if service == "s3":
        return s3_operation(method, path, query)
    if service == "lambda":
        return lambda_operation(method, path)
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode("utf-8", "replace"))).get("Action", "")
    return dict(parse_qsl(query)).get("Action", f"{method} {path}")


def s3_operation(method: str, path: str, query: str) -> str:
    """The API's name of a request to S3, path-style."""
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    names = dict(parse_qsl(query, keep_blank_values=True))
    special, plain = (KEY_OPERATIONS, PLAIN_KEY_OPERATIONS) if key else (BUCKET_OPERATIONS, PLAIN_BUCKET_OPERATIONS)
    for (verb, name), operation in special.items():
        if verb == method and name in names:
            return operation
    return plain.get(method, method)


def lambda_operation(method: str, path: str) -> str:
    """The API's name of a request to Lambda."""
    plain = re.sub("^(functions|tags)/[^/]+", r"\1/*", path.strip("/").partition("/")[2])
    plain = re.sub("/policy/[^/]+$", "/policy/*", plain)
    return LAMBDA_OPERATIONS.get(f"{method} {plain}", f"{method} {path}")


def json_answer(value: object, *, service: str = "", status: int = 200, **headers: str) -> Answer:
    """An answer of a JSON protocol; keyword names become header names with hyphens."""
    kind = JSON_VERSIONS.get(service, "application/x-amz-json-1.1") if service else "application/json"
    more = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    names = (("Content-Type", kind), ("x-amzn-RequestId", str(uuid.uuid4())), *more)
    return Answer(status=status, headers=names, body=json.dumps(value, default=str).encode())


def error_answer(service: str, code: str, message: str, status: int = 400, **members: object) -> Answer:
    """An error in the envelope of the service's protocol."""
    if service == "s3":
        return _xml(status, f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>")
    inner = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    if service == "ec2":
        return _xml(status, f"<Response><Errors>{inner}</Errors><RequestID>{uuid.uuid4()}</RequestID></Response>")
    if service in XML_SERVICES:
        return _xml(status, f"<ErrorResponse>{inner}<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>")
    body = {"__type": code, "message": message, **members}
    if service == "sqs":
        body["__type"] = f"com.amazonaws.sqs#{code}"
        old_name = OLD_SQS_CODES.get(code, code)
        return json_answer(body, service=service, status=status, x_amzn_query_error=f"{old_name};Sender")
    return json_answer(body, service=service or "json", status=status, x_amzn_ErrorType=code)


OLD_SQS_CODES: Final = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
}


def throttle_answer(service: str) -> Answer:
    """What the service answers to who asks too often."""
    if service == "s3":
        return error_answer(service, "SlowDown", "Please reduce your request rate.", 503)
    if service == "sqs":
        return error_answer(service, "RequestThrottled", "Request is throttled.", 403)
    if service == "ec2":
        return error_answer(service, "RequestLimitExceeded", "Request limit exceeded.", 503)
    if service in XML_SERVICES:
        return error_answer(service, "Throttling", "Rate exceeded")
    if service == "lambda":
        message = "Rate Exceeded."
        return error_answer(service, "TooManyRequestsException", message, 429, Reason="CallerRateLimitExceeded")
    return error_answer(service, "ThrottlingException", "Rate exceeded")


def expired_answer(service: str) -> Answer:
    """What the service answers to credentials whose time is over."""
    if service == "s3":
        return error_answer(service, "ExpiredToken", "The provided token has expired.")
    if service in XML_SERVICES:
        code = "RequestExpired" if service == "ec2" else "ExpiredToken"
        return error_answer(service, code, "The security token included in the request is expired", 403)
    return error_answer(service, "ExpiredTokenException", "The security token included in the request is expired")


def xml_answer(body: str) -> Answer:
    """An answer of a protocol that speaks XML."""
    return _xml(200, body)


def _xml(status: int, body: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return Answer(status=status, headers=(("Content-Type", "application/xml"),), body=text.encode())
