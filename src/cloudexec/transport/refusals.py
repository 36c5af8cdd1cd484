"""Read what AWS says when it refuses, and make the error of it. Pure.

Called by:  conversation.py, and boto.py with what boto3 has read.   Calls: errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

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
_CODE_HEADER: Final = "x-amzn-errortype"
_CLOCKS: Final = re.compile(r"[Ss]ignature (expired|not yet current)").search
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d+)?").fullmatch

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
        "UnauthorizedOperation",  # EC2
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
    reason: str = ""  # of a throttle: which limit it was
    retry_after_s: float | None = None


def hides_error(request: Request, reply: Reply) -> bool:
    """Whether a 200 is none: S3 begins to answer a long completion before it knows how it ends."""
    return request.method == "POST" and request.service == "s3" and _ROOT_ERROR.match(reply.body) is not None


def read_refusal(request: Request, reply: Reply) -> Refusal:
    """Code and message of an answer that is no success, in either protocol; without a body, the status has to do."""
    text = reply.body.decode("utf-8", "replace")
    said = {} if request.service == "s3" else _json_in(text)
    # REST-JSON has the code in a header, the other protocol in the body. Lambda's `Type` only says whose fault it is.
    code: str | None = _code_in(reply.headers.get(_CODE_HEADER) or said.get("__type") or said.get("code"))
    message: str | None = str(said.get("message") or said.get("Message") or "")
    if not said:  # S3; also an emulator or gateway that answers in XML
        code, message = code or find_tag("Code", text), find_tag("Message", text)
    if not code:
        code, message = name_bare(request, reply.status), "" if request.method == "HEAD" else message or text
    if code == "InvalidSignatureException" and message and _CLOCKS(message):
        code = "SignatureExpired"
    return Refusal(
        reply.status,
        code,
        (message or "")[:_MOST_TEXT],
        request_id_in(reply.headers),
        str(said.get("Reason") or ""),
        seconds_in(reply.headers.get("retry-after") or said.get("retryAfterSeconds")),
    )


def request_id_in(headers: Mapping[str, str]) -> str:
    """The service's id of the request; empty if it gave none."""
    return headers.get("x-amz-request-id") or headers.get("x-amzn-requestid") or ""


def seconds_in(said: object) -> float | None:
    """The seconds of a Retry-After; None if it is none, or a date."""
    return float(str(said)) if _SECONDS(str(said)) else None


def name_bare(request: Request, status: int) -> str:
    """A code for an answer that has none: answers to HEAD have no body, and proxies have no codes.

    A 503 is S3 asking for patience. From in front of Lambda it says nothing about what has become of the invocation.
    """
    if request.method != "HEAD" and status in (404, 412):
        return str(status)
    return str(status) if status == 503 and request.service == "lambda" else _BARE.get(status, str(status))


def _json_in(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _code_in(said: object) -> str:
    """The code alone: it comes as `prefix#Code`, or as `Code:where`."""
    return str(said or "").partition(":")[0].rpartition("#")[2]


def error_of(what: str, refusal: Refusal) -> AwsError:
    """The error that a caller sees."""
    code = _OTHER_NAMES.get(refusal.code, refusal.code)
    tail = f": {refusal.message}" if refusal.message else ""
    why = f", {refusal.reason}" if refusal.reason else ""
    text = f"{what}: {code} ({refusal.status}{why}){tail}"
    kind = _class_of(code, refusal.status)
    more = (refusal.reason, refusal.retry_after_s) if kind is Throttled else ()
    return kind(text, code, refusal.status, refusal.request_id, *more, remedy=_REMEDIES.get(code))


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
