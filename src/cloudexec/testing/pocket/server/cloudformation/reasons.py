"""Why a resource failed, in CloudFormation's words. Pure.

Called by:  work.py, steps.py.   Calls: nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from botocore.exceptions import ClientError

from cloudexec.testing.pocket.server.cloudformation.resources.kind import Failed

SERVICES: Final = {
    "codebuild": "CodeBuild",
    "ec2": "Ec2",
    "ecr": "Ecr",
    "ecs": "Ecs",
    "iam": "Iam",
    "lambda": "Lambda",
    "logs": "CloudWatchLogs",
    "s3": "S3",
    "sqs": "Sqs",
}
# Words in a service's error code -> what CloudFormation calls it.
HANDLER_CODES: Final = (
    (("AlreadyExists", "AlreadyOwnedByYou", "ResourceConflict", "Duplicate"), "AlreadyExists"),
    (("AccessDenied", "UnauthorizedOperation", "AllAccessDisabled"), "AccessDenied"),
    (("NotFound", "NoSuch", "DoesNotExist"), "NotFound"),
    (("LimitExceeded", "QuotaExceeded"), "ServiceLimitExceeded"),
    (("Throttl", "TooManyRequests", "SlowDown"), "Throttling"),
    (("Validation", "Invalid", "Malformed", "ClientException", "MissingParameter"), "InvalidRequest"),
)


def handler_message(error: ClientError | Failed) -> str:
    """A refusal as CloudFormation tells it."""
    if isinstance(error, Failed):
        what, code = error.message, error.code
    else:
        about = error.response["Error"]
        metadata = error.response.get("ResponseMetadata", {})
        service = error.response.get("Service") or error.operation_name
        request_id = metadata.get("RequestId") or uuid.uuid4()
        status = metadata.get("HTTPStatusCode", 400)
        where = f"(Service: {service}, Status Code: {status}, Request ID: {request_id})"
        what = f"{about.get('Message') or about.get('Code')} {where}"
        code = handler_code(error)
    return f'Resource handler returned message: "{what}" (RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})'


def handler_code(error: ClientError) -> str:
    """What CloudFormation calls a service's error."""
    said = str(error.response["Error"].get("Code"))
    for words, code in HANDLER_CODES:
        if any(word in said for word in words):
            return code
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
    if status in (403, 404):
        return "AccessDenied" if status == 403 else "NotFound"
    return "ServiceInternalError" if status >= 500 else "GeneralServiceException"


def failure(by_verb: Mapping[str, list[str]]) -> str:
    """Which resources failed, by what was tried."""
    return "".join(
        f"The following resource(s) failed to {verb}: [{', '.join(names)}]. " for verb, names in by_verb.items()
    )
