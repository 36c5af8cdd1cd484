"""S3 by path style: objects, conditions, ranges, lists. No multipart, no versions; every bucket exists.

Called by: emulator.py, fleet.py (the control object), functions.py (what Lithops' workers write).
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from email.utils import formatdate
from hashlib import md5
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from cloud.door import Answer, Request

_XML: Final = "Content-Type: application/xml\r\n"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACE: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_KEY: Final = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)


class Stored(NamedTuple):
    """One object."""

    body: bytes
    etag: str
    modified_s: float
    meta: str  # header lines x-amz-meta-…, as they came


class Bucket:
    """Objects by key, and the keys in order."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.keys: list[str] = []

    def put(self, key: str, body: bytes, meta: str = "") -> Stored:
        """Write an object."""
        if key not in self.objects:
            insort(self.keys, key)
        etag = f'"{md5(body, usedforsecurity=False).hexdigest()}"'
        stored = self.objects[key] = Stored(body, etag, time.time(), meta)
        return stored

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]


class S3:
    """All buckets."""

    def __init__(self) -> None:
        self.buckets: defaultdict[str, Bucket] = defaultdict(Bucket)

    def act(self, operation: str, request: Request) -> Answer:
        """Do what was asked."""
        name, _, key = unquote(request.path.lstrip("/")).partition("/")
        bucket = self.buckets[name]
        if operation == "PutObject":
            return _put(bucket, key, request)
        if operation in ("GetObject", "HeadObject"):
            return _get(bucket, key, request)
        if operation == "DeleteObject":
            bucket.delete(key)
            return Answer("204 No Content")
        if operation == "DeleteObjects":
            return _delete_many(bucket, request)
        if operation == "ListObjectsV2":
            return _list(name, bucket, request)
        if operation in ("HeadBucket", "CreateBucket"):
            return Answer("200 OK", headers="x-amz-bucket-region: us-east-1\r\n")
        return _error("501 Not Implemented", "NotImplemented", operation)


def operation_of(request: Request) -> str:
    """The operation's name, by method, path and query."""
    has_key = "/" in request.path.lstrip("/").rstrip("/")
    query = {part.partition("=")[0] for part in request.query.split("&")}
    if query & {"uploads", "uploadId", "versioning", "location", "tagging", "lifecycle", "policy", "acl"}:
        return f"{request.method}?{request.query}"
    if request.method == "POST" and "delete" in query:
        return "DeleteObjects"
    if has_key:
        names = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
    else:
        names = {"PUT": "CreateBucket", "GET": "ListObjectsV2", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}
    return names.get(request.method, request.method)


def _put(bucket: Bucket, key: str, request: Request) -> Answer:
    headers = request.headers
    found = bucket.objects.get(key)
    if headers.get("if-none-match") == "*" and found is not None:
        return _error("412 Precondition Failed", "PreconditionFailed", "it is there")
    if "if-match" in headers and found is None:
        return _error("404 Not Found", "NoSuchKey", key)
    if "if-match" in headers and found is not None and found.etag != headers["if-match"]:
        return _error("412 Precondition Failed", "PreconditionFailed", "it is another")
    meta = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name.startswith("x-amz-meta-"))
    stored = bucket.put(key, request.body, meta)
    return Answer("200 OK", headers=f"ETag: {stored.etag}\r\n")


def _get(bucket: Bucket, key: str, request: Request) -> Answer:
    stored = bucket.objects.get(key)
    is_head = request.method == "HEAD"
    if stored is None:
        missing = _error("404 Not Found", "NoSuchKey", key)
        return missing._replace(body=b"", length=0) if is_head else missing
    headers = (
        f"ETag: {stored.etag}\r\nLast-Modified: {formatdate(stored.modified_s, usegmt=True)}\r\n"
        f"Accept-Ranges: bytes\r\nContent-Type: binary/octet-stream\r\n{stored.meta}"
    )
    if request.headers.get("if-none-match") == stored.etag:
        return Answer("304 Not Modified", headers=headers)
    if is_head:
        return Answer("200 OK", headers=headers, length=len(stored.body))
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted is None:
        return Answer("200 OK", stored.body, headers)
    first, size = int(wanted[1]), len(stored.body)
    if first >= size:
        return _error("416 Requested Range Not Satisfiable", "InvalidRange", request.headers["range"])
    last = min(int(wanted[2] or size), size - 1)
    headers += f"Content-Range: bytes {first}-{last}/{size}\r\n"
    return Answer("206 Partial Content", memoryview(stored.body)[first : last + 1], headers)


def _delete_many(bucket: Bucket, request: Request) -> Answer:
    for found in _KEY.findall(request.body):
        bucket.delete(_unescape(found.decode()))
    return Answer("200 OK", f"{_HEAD}<DeleteResult {_SPACE}/>".encode(), _XML)


def _list(name: str, bucket: Bucket, request: Request) -> Answer:
    asked = dict(parse_qsl(request.query, keep_blank_values=True))
    prefix, most = asked.get("prefix", ""), min(1000, int(asked.get("max-keys", 1000)))
    if asked.get("delimiter"):
        return _error("501 Not Implemented", "NotImplemented", "delimiter")
    keys = bucket.keys
    after = asked.get("continuation-token") or asked.get("start-after", "")
    at = max(bisect_right(keys, after) if after else 0, bisect_left(keys, prefix))
    stop = at
    while stop < len(keys) and stop - at < most and keys[stop].startswith(prefix):
        stop += 1
    page = keys[at:stop]
    is_cut = stop < len(keys) and keys[stop].startswith(prefix) and bool(page)
    shown = quote if asked.get("encoding-type") == "url" else escape
    contents = "".join(_entry(shown(key), bucket.objects[key]) for key in page)
    more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_cut else ""
    coding = "<EncodingType>url</EncodingType>" if "encoding-type" in asked else ""
    body = (
        f"{_HEAD}<ListBucketResult {_SPACE}><Name>{name}</Name><Prefix>{shown(prefix)}</Prefix>"
        f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>{coding}"
        f"<IsTruncated>{'true' if is_cut else 'false'}</IsTruncated>{more}{contents}</ListBucketResult>"
    )
    return Answer("200 OK", body.encode(), _XML)


def _entry(key: str, stored: Stored) -> str:
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.modified_s))
    return (
        f"<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>{escape(stored.etag)}</ETag>"
        f"<Size>{len(stored.body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _unescape(text: str) -> str:
    for code, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(code, character)
    return text


def _error(status: str, code: str, text: str) -> Answer:
    body = f"{_HEAD}<Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    return Answer(status, body.encode(), _XML)
