"""Read what S3 answers: objects from headers and bodies, or from boto3's dictionaries. Pure.

Called by:  s3.py.   Calls: encoding.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from cloudexec.transport.encoding import read_http_date
from cloudexec.transport.operation import Reply

T = TypeVar("T")


class S3Object(NamedTuple):
    """An object as it was read. `body` is writable and the caller's own; empty if `not_modified` or only its head was
    asked for. `size` is the whole object's, also when only its head or a range of it was asked for. Times are on the
    service's clock, in seconds since 1970.
    """

    body: memoryview
    etag: str
    size: int
    last_modified_s: float | None
    server_date_s: float | None
    metadata: Mapping[str, str]
    not_modified: bool = False


def nothing(reply: object) -> None:
    return None


def body_as(read: Callable[[str], T]) -> Callable[[Reply], T]:
    return lambda reply: read(reply.body.decode())


def read_etag(reply: Reply) -> str:
    return reply.headers.get("etag", "")


def etag_of(reply: Mapping[str, Any]) -> str:
    return str(reply["ETag"])


def read_object(reply: Reply) -> S3Object:
    headers = reply.headers
    body = reply.body if isinstance(reply.body, bytearray) else bytearray(reply.body)
    start = len("x-amz-meta-")
    return S3Object(
        body=memoryview(body),
        etag=headers.get("etag", ""),
        size=_whole_size(headers.get("content-range", ""), len(body) or int(headers.get("content-length", 0))),
        last_modified_s=read_http_date(headers.get("last-modified", "")),
        server_date_s=read_http_date(headers.get("date", "")),
        not_modified=reply.status == 304,
        metadata={name[start:]: headers[name] for name in headers if name.startswith("x-amz-meta-")},
    )


def _whole_size(content_range: str, found: int) -> int:
    """Of `bytes 0-99/12345` the last number; without a range, what was found."""
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else found


def object_of(reply: Mapping[str, Any]) -> S3Object:
    about = reply["ResponseMetadata"]
    body = bytearray(reply["Body"].read()) if "Body" in reply else bytearray()
    modified = reply.get("LastModified")
    return S3Object(
        body=memoryview(body),
        etag=str(reply.get("ETag", "")),
        size=_whole_size(reply.get("ContentRange", ""), len(body) or int(reply.get("ContentLength", 0))),
        last_modified_s=None if modified is None else modified.timestamp(),
        server_date_s=read_http_date(about["HTTPHeaders"].get("date", "")),
        not_modified=about["HTTPStatusCode"] == 304,
        metadata=reply.get("Metadata", {}),
    )
