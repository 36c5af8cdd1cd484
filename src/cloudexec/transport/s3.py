"""Build S3 operations: objects, pages of names, multipart uploads. Pure.

Called by:  store, worker, backends.   Calls: operation.py, encoding.py.
Mirror:     s3replies.py reads what comes back.
Repeating:  every operation here may be repeated. Reads change nothing; a plain put, part or delete ends in the same
            state however often it arrives; a second `create_multipart_upload` leaves an empty upload that the bucket's
            lifecycle removes. Conditional writes are the exception: their own success makes the repeat fail with 412.
            They carry a random token in the object's metadata, and `confirm` compares it before a 412 is believed.
Owner:      every request names the account that must own the bucket (unless `owner` is empty): somebody else's bucket
            of the same name gets nothing.
Source:     Amazon S3 API reference.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from cloudexec.errors import SettingsError
from cloudexec.transport.encoding import encode_path, encode_query
from cloudexec.transport.operation import Buffer, Operation, Request
from cloudexec.transport.s3replies import S3Object, body_as, etag_of, nothing, object_of, read_etag, read_object
from cloudexec.transport.s3xml import DeleteFailure, Page, complete_body, delete_body, read_deleted, read_page, read_tag

__all__ = [
    "DeleteFailure",
    "Page",
    "S3Object",
    "abort_multipart_upload",
    "complete_multipart_upload",
    "create_multipart_upload",
    "delete_object",
    "delete_objects",
    "get_object",
    "head_object",
    "list_objects",
    "new_writer",
    "put_object",
    "upload_part",
]

KEYS_A_DELETE: Final = 1000
KEYS_A_PAGE: Final = 1000
WRITER_HEADER: Final = "x-amz-meta-cloudexec-writer"
_WRITER_NAME: Final = "cloudexec-writer"


def new_writer() -> str:
    """A token that tells one writer of an object from all others."""
    return os.urandom(12).hex()


def put_object(
    bucket: str,
    key: str,
    pieces: Sequence[Buffer],
    *,
    owner: str,
    if_none_match: bool = False,
    if_match: str | None = None,
    content_type: str | None = None,
    writer: str | None = None,
) -> Operation[str]:
    """Write the pieces, one after another, as an object; the result is its ETag.

    `if_none_match`: only where there is no object; `if_match`: only over the object with this ETag.
    Errors: PreconditionFailed, unless the object that is in the way turns out to be this very one.
    """
    headers: list[tuple[str, str]] = []
    arguments = _arguments(bucket, key, owner)
    confirm = None
    if content_type is not None:
        headers.append(("content-type", content_type))
        arguments["ContentType"] = content_type
    if if_none_match or if_match is not None:
        writer = writer or new_writer()
        headers += _condition(arguments, if_none_match, if_match)
        confirm = partial(_confirm, bucket, key, owner, writer)
    if writer:
        headers.append((WRITER_HEADER, writer))
        arguments["Metadata"] = {_WRITER_NAME: writer}
    request = _request("PUT", bucket, key, owner, headers=headers, pieces=tuple(pieces))
    return Operation(
        name="PutObject",
        request=request,
        read=read_etag,
        arguments=arguments,
        read_boto=etag_of,
        confirm=confirm,
    )


def get_object(
    bucket: str, key: str, *, owner: str, if_none_match: str | None = None, range: tuple[int, int] | None = None
) -> Operation[S3Object]:
    """Read an object, or the bytes `range[0]` to `range[1] - 1` of it.

    `if_none_match`: an ETag; if the object still has it, the answer is `not_modified` and has no body.
    Errors: NoSuchKey.
    """
    headers: list[tuple[str, str]] = []
    arguments = _arguments(bucket, key, owner)
    if if_none_match is not None:
        headers.append(("if-none-match", if_none_match))
        arguments["IfNoneMatch"] = if_none_match
    if range is not None:
        text = f"bytes={range[0]}-{range[1] - 1}"
        headers.append(("range", text))
        arguments["Range"] = text
    request = _request("GET", bucket, key, owner, headers=headers)
    return Operation(name="GetObject", request=request, read=read_object, arguments=arguments, read_boto=object_of)


def head_object(bucket: str, key: str, *, owner: str) -> Operation[S3Object]:
    """All about an object but its body. Errors: NoSuchKey."""
    request = _request("HEAD", bucket, key, owner)
    arguments = _arguments(bucket, key, owner)
    return Operation(name="HeadObject", request=request, read=read_object, arguments=arguments, read_boto=object_of)


def list_objects(
    bucket: str, prefix: str = "", *, owner: str, start_after: str = "", max_keys: int = KEYS_A_PAGE
) -> Operation[Page]:
    """A page of objects whose keys start with `prefix` and sort behind `start_after`, in UTF-8 order.

    The next page starts after the last key of this one, if `is_truncated`.
    """
    query = {"list-type": "2", "encoding-type": "url", "max-keys": str(max_keys)}
    arguments = _arguments(bucket, None, owner)
    arguments |= {"Prefix": prefix, "MaxKeys": max_keys, "EncodingType": "url"}
    if prefix:
        query["prefix"] = prefix
    if start_after:
        query["start-after"] = start_after
        arguments["StartAfter"] = start_after
    request = _request("GET", bucket, None, owner, query=query)
    return Operation(
        name="ListObjectsV2", request=request, read=body_as(read_page), arguments=arguments, read_boto=Page.of_boto
    )


def delete_object(bucket: str, key: str, *, owner: str) -> Operation[None]:
    """Remove an object, if it is there."""
    request = _request("DELETE", bucket, key, owner)
    arguments = _arguments(bucket, key, owner)
    return Operation(name="DeleteObject", request=request, read=nothing, arguments=arguments, read_boto=nothing)


def delete_objects(bucket: str, keys: Sequence[str], *, owner: str) -> Operation[list[DeleteFailure]]:
    """Remove up to 1,000 objects; the result names those that are still there, with the reasons."""
    if not 0 < len(keys) <= KEYS_A_DELETE:
        raise SettingsError(f"{len(keys)} keys in one delete", remedy=f"give 1 to {KEYS_A_DELETE} keys")
    body, md5 = delete_body(keys)
    headers = [("content-md5", md5), ("content-type", "application/xml")]
    arguments = _arguments(bucket, None, owner)
    arguments["Delete"] = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    return Operation(
        name="DeleteObjects",
        request=_request("POST", bucket, None, owner, query={"delete": ""}, headers=headers, pieces=(body,)),
        read=body_as(read_deleted),
        arguments=arguments,
        read_boto=lambda reply: [DeleteFailure.of_boto(error) for error in reply.get("Errors", ())],
    )


def create_multipart_upload(bucket: str, key: str, *, owner: str, writer: str | None = None) -> Operation[str]:
    """Begin an upload in parts; the result is its id. `writer` is that of `complete_multipart_upload`."""
    arguments = _arguments(bucket, key, owner)
    headers = [(WRITER_HEADER, writer)] if writer else []
    if writer:
        arguments["Metadata"] = {_WRITER_NAME: writer}
    return Operation(
        name="CreateMultipartUpload",
        request=_request("POST", bucket, key, owner, query={"uploads": ""}, headers=headers),
        read=body_as(partial(read_tag, "UploadId")),
        arguments=arguments,
        read_boto=lambda reply: str(reply["UploadId"]),
    )


def upload_part(
    bucket: str, key: str, upload_id: str, number: int, pieces: Sequence[Buffer], *, owner: str
) -> Operation[str]:
    """Write part `number` (1 to 10,000; all but the last at least 5 MiB); the result is its ETag."""
    query = {"partNumber": str(number), "uploadId": upload_id}
    return Operation(
        name="UploadPart",
        request=_request("PUT", bucket, key, owner, query=query, pieces=tuple(pieces)),
        read=read_etag,
        arguments=_arguments(bucket, key, owner) | {"PartNumber": number, "UploadId": upload_id},
        read_boto=etag_of,
    )


def complete_multipart_upload(
    bucket: str,
    key: str,
    upload_id: str,
    etags: Sequence[str],
    *,
    owner: str,
    if_none_match: bool = False,
    writer: str | None = None,
) -> Operation[str]:
    """Make an object of parts 1, 2, …, given by their ETags; the result is the object's ETag.

    Give the `writer` of `create_multipart_upload`: after a lost answer it tells whether the object is this one.
    Errors: PreconditionFailed with `if_none_match`; AwsError with code NoSuchUpload, or ConditionalRequestConflict if
    another writer was at it in the same moment: then the upload has to begin anew.
    """
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    arguments = _arguments(bucket, key, owner) | {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
    headers = [("content-type", "application/xml"), *_condition(arguments, if_none_match, None)]
    body = complete_body(etags)
    return Operation(
        name="CompleteMultipartUpload",
        request=_request("POST", bucket, key, owner, query={"uploadId": upload_id}, headers=headers, pieces=(body,)),
        read=body_as(partial(read_tag, "ETag")),
        arguments=arguments,
        read_boto=etag_of,
        confirm=partial(_confirm, bucket, key, owner, writer) if writer else None,
    )


def abort_multipart_upload(bucket: str, key: str, upload_id: str, *, owner: str) -> Operation[None]:
    """Throw an upload and its parts away."""
    return Operation(
        name="AbortMultipartUpload",
        request=_request("DELETE", bucket, key, owner, query={"uploadId": upload_id}),
        read=nothing,
        arguments=_arguments(bucket, key, owner) | {"UploadId": upload_id},
        read_boto=nothing,
    )


def _confirm(bucket: str, key: str, owner: str, writer: str) -> Operation[str | None]:
    """Ask for the object's ETag if `writer` wrote it."""

    def ours(found: S3Object) -> str | None:
        return found.etag if found.metadata.get(_WRITER_NAME) == writer else None

    return Operation(
        name="HeadObject",
        request=_request("HEAD", bucket, key, owner),
        read=lambda reply: ours(read_object(reply)),
        arguments=_arguments(bucket, key, owner),
        read_boto=lambda reply: ours(object_of(reply)),
    )


def _request(
    method: str,
    bucket: str,
    key: str | None,
    owner: str,
    *,
    query: dict[str, str] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    pieces: tuple[Buffer, ...] = (),
) -> Request:
    """A request about an object, or about the bucket if `key` is None: an empty key would be the bucket by mistake."""
    if not bucket or key == "":
        raise SettingsError(f"bucket {bucket!r}, key {key!r}: neither may be empty")
    path = "/" if key is None else "/" + encode_path(key)
    everything = (*headers, ("x-amz-expected-bucket-owner", owner)) if owner else tuple(headers)
    return Request("s3", method, path, encode_query(query) if query else "", everything, pieces, bucket)


def _arguments(bucket: str, key: str | None, owner: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"Bucket": bucket}
    if key is not None:
        arguments["Key"] = key
    if owner:
        arguments["ExpectedBucketOwner"] = owner
    return arguments


def _condition(arguments: dict[str, Any], if_none_match: bool, if_match: str | None) -> list[tuple[str, str]]:
    headers = []
    if if_none_match:
        headers.append(("if-none-match", "*"))
        arguments["IfNoneMatch"] = "*"
    if if_match is not None:
        headers.append(("if-match", if_match))
        arguments["IfMatch"] = if_match
    return headers
