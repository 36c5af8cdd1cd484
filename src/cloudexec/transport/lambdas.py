"""Build the one Lambda operation, Invoke, and read its answer. Pure.

Called by:  backends; the worker of a function that calls another.   Calls: operation.py, encoding.py.
Repeating:  an invocation runs a function, and a second one runs it a second time. So Invoke is sent `once`: the client
            repeats it only if AWS certainly did not act, and raises throttles and faults to the caller, who steers
            how many are in flight by them.
Errors:     Throttled (429) with `reason` and `retry_after_s`; AwsError with its `code` for every other refusal.
            A function that fails is no refusal: the answer is a 200 whose `function_error` is not empty.
Source:     AWS Lambda API reference, Invoke, REST-JSON protocol. boto3 sends no content type with it, nor do we.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cloudexec.errors import SettingsError
from cloudexec.transport.encoding import encode_query, encode_value
from cloudexec.transport.operation import Buffer, Operation, Reply, Request

TRACE_HEADER: Final = "x-amzn-trace-id"
TRACE_ARGUMENT: Final = "TraceHeader"  # not one of boto3's own: boto.py makes the header of it
_SYNC_TAIL: Final = (("x-amz-invocation-type", "RequestResponse"), ("x-amz-log-type", "Tail"))
_SYNC: Final = _SYNC_TAIL[:1]
_EVENT: Final = (("x-amz-invocation-type", "Event"),)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch


class Invocation(NamedTuple):
    """What became of an invocation; a `bytearray` payload belongs to the reader alone.

    `status`: 200, or 202 for an accepted event. `function_error`: empty, or "Unhandled" or "Handled"; the payload then
    describes the error. `log_tail`: the last 4 KB of the log, if asked for. `version`: which one ran.
    """

    status: int
    function_error: str
    log_tail: str
    payload: bytes | bytearray
    request_id: str
    version: str


def invoke(
    function: str,
    payload: Buffer,
    *,
    qualifier: str = "",
    event: bool = False,
    tail: bool = True,
    wait_s: float,
    trace: str = "",
) -> Operation[Invocation]:
    """Run a function, given by its name or ARN, with a JSON payload.

    `qualifier`: a version or alias. `event`: Lambda queues it and answers at once. `wait_s`: how long the answer may
    take, that is the function's timeout. `trace`: the X-Ray trace it belongs to, by which Lambda sees recursions.
    """
    path, query = _place(function, qualifier)
    headers: tuple[tuple[str, str], ...] = _EVENT if event else _SYNC_TAIL if tail else _SYNC
    arguments: dict[str, Any] = {"FunctionName": function, "InvocationType": headers[0][1]}
    if tail and not event:
        arguments["LogType"] = "Tail"
    if qualifier:
        arguments["Qualifier"] = qualifier
    if trace:
        if not _PRINTABLE(trace):
            raise SettingsError(f"trace={trace!r} is not the text of a header")
        headers = (*headers, (TRACE_HEADER, trace))
        arguments[TRACE_ARGUMENT] = trace
    return Operation(
        name="Invoke",
        request=Request("lambda", "POST", path, query, headers, (payload,)),
        read=_read,
        arguments=arguments,
        read_boto=_read_boto,
        is_safe=False,
        once=True,
        wait_s=wait_s,
    )


@lru_cache(maxsize=1024)  # a run has a few functions and thousands of calls
def _place(function: str, qualifier: str) -> tuple[str, str]:
    """Path and query of a function's invocations."""
    if function in ("", ".", ".."):  # dots would be resolved as parts of a path
        raise SettingsError(f"function={function!r} is not the name of a function")
    query = encode_query({"Qualifier": qualifier}) if qualifier else ""
    return f"/2015-03-31/functions/{encode_value(function)}/invocations", query


def _read(reply: Reply) -> Invocation:
    header = reply.headers.get
    return Invocation(
        reply.status,
        header("x-amz-function-error", ""),
        _text_of(header("x-amz-log-result", "")),
        reply.body,
        header("x-amzn-requestid", ""),
        header("x-amz-executed-version", ""),
    )


def _read_boto(reply: Mapping[str, Any]) -> Invocation:
    return Invocation(
        reply["StatusCode"],
        reply.get("FunctionError", ""),
        _text_of(reply.get("LogResult", "")),
        reply["Payload"].read(),
        reply.get("ResponseMetadata", {}).get("RequestId", ""),
        reply.get("ExecutedVersion", ""),
    )


def _text_of(log_result: str) -> str:
    """The log's tail; Lambda cuts it by bytes, so that it may begin within a character."""
    return b64decode(log_result).decode("utf-8", "replace") if log_result else ""
