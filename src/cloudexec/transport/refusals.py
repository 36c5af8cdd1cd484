"""Read what AWS says when it refuses, and make the error of it. Pure.

Called by:  conversation.py, and boto.py with what boto3 has read.   Calls: errors.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from cloudexec.errors import (
    AccessDenied,
    AwsError,
    CredentialsExpired,
    NoSuchKey,
    PreconditionFailed,
    Throttled,
)
from cloudexec.transport.operation import Reply, Request
from cloudexec.transport.s3xml import find_tag

_ROOT_ERROR: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error>")
_MOST_TEXT: Final = 500

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "SignatureExpired"})
THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AccountProblem",
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "KmsAccessDenied",
        "NotSignedUp",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_OTHER_NAMES: Final = {  # the query protocol's names, which boto3 still shows
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "AWS.SimpleQueueService.PurgeQueueInProgress": "PurgeQueueInProgress",
    "AWS.SimpleQueueService.BatchRequestTooLong": "BatchRequestTooLong",
}
_REMEDIES: Final = {
    "NoSuchBucket": "correct bucket= or region=, or create the bucket",
    "PermanentRedirect": "the bucket lies in another region: correct region= or bucket=",
}
_BARE: Final = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 503: "SlowDown"}


class Refusal(NamedTuple):
    """What the service said."""

    status: int
    code: str
    message: str
    request_id: str


def hides_error(request: Request, reply: Reply) -> bool:
    """Whether a 200 is none: S3 begins to answer a long completion before it knows how it ends."""
    return request.method == "POST" and request.service == "s3" and _ROOT_ERROR.match(reply.body) is not None


def read_refusal(request: Request, reply: Reply) -> Refusal:
    """Code and message of an answer that is no success, in either protocol; without a body, the status has to do."""
    headers = reply.headers
    request_id = headers.get("x-amz-request-id") or headers.get("x-amzn-requestid") or ""
    text = reply.body.decode("utf-8", "replace")
    code, message = _of_json(text) if request.service == "sqs" else (find_tag("Code", text), find_tag("Message", text))
    if not code:
        code, message = name_bare(request.method, reply.status), "" if request.method == "HEAD" else text
    if code == "InvalidSignatureException" and message and "ignature expired" in message:
        code = "SignatureExpired"
    return Refusal(reply.status, code, (message or "")[:_MOST_TEXT], request_id)


def name_bare(method: str, status: int) -> str:
    """A code for an answer that has none: answers to HEAD have no body, and proxies have no codes."""
    return _BARE.get(status, str(status)) if method == "HEAD" or status not in (404, 412) else str(status)


def _of_json(text: str) -> tuple[str | None, str | None]:
    """`__type` is `prefix#Code` or `Code:where`."""
    try:
        said = json.loads(text)
    except ValueError:
        return find_tag("Code", text), find_tag("Message", text)  # an emulator or gateway that answers in XML
    if not isinstance(said, dict):
        return None, None
    code = str(said.get("__type") or said.get("code") or "").rpartition("#")[2].partition(":")[0]
    return code, str(said.get("message") or said.get("Message") or "")


def error_of(what: str, refusal: Refusal) -> AwsError:
    """The error that a caller sees."""
    code = _OTHER_NAMES.get(refusal.code, refusal.code)
    tail = f": {refusal.message}" if refusal.message else ""
    text = f"{what}: {code} ({refusal.status}){tail}"
    kind = _class_of(code, refusal.status)
    return kind(text, code, refusal.status, refusal.request_id, remedy=_REMEDIES.get(code))


def _class_of(code: str, status: int) -> type[AwsError]:
    if code in EXPIRED:
        return CredentialsExpired
    if code in THROTTLED or status == 429:
        return Throttled
    if code in _DENIED:
        return AccessDenied
    if code == "NoSuchKey":
        return NoSuchKey
    return PreconditionFailed if code == "PreconditionFailed" or status == 412 else AwsError
