"""The XML that S3 speaks: bodies of requests, and what is in answers. Pure.

Called by:  s3.py.   Calls: encoding.py.
Why own:    S3's documents are flat lists of leaf elements; a pattern over the text reads a page of 1,000 keys in a
            fraction of the time that a parser takes, and exactly, entities and url-encoding included.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from cloudexec.errors import AwsError
from cloudexec.transport.encoding import decode_form, escape, read_iso_date, unescape

_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_LEAF: Final = re.compile(r"<(Key|LastModified|ETag|Size)>([^<]*)</|</(Contents)>")
_USUAL: Final = re.compile(  # an object as S3 itself writes it
    r"<Contents><Key>([^<]*)</Key><LastModified>([^<]*)</LastModified><ETag>([^<]*)</ETag>"
    r"(?:<(?!Size>)[A-Za-z]*>[^<]*</[A-Za-z]*>)*<Size>([0-9]+)</Size>"
)
_ERROR: Final = re.compile(r"<Error>(.*?)</Error>", re.DOTALL)


class Listed(NamedTuple):
    """One object of a page; `last_modified` is ISO 8601, in UTC."""

    key: str
    size: int
    etag: str
    last_modified: str

    @property
    def last_modified_s(self) -> float | None:
        """When it was written, in seconds since 1970."""
        return read_iso_date(self.last_modified)


class Page(NamedTuple):
    """Objects in the order of their keys; more follow behind the last one if `is_truncated`."""

    objects: list[Listed]
    is_truncated: bool

    @classmethod
    def of_boto(cls, reply: Mapping[str, Any]) -> Page:
        """The page in an answer of boto3, which undoes the url-encoding only if we have not asked for it."""
        objects = [
            Listed(
                decode_form(item["Key"]),
                item["Size"],
                item["ETag"],
                item["LastModified"].strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            )
            for item in reply.get("Contents", ())
        ]
        return cls(objects=objects, is_truncated=reply["IsTruncated"])


class DeleteFailure(NamedTuple):
    """An object that `delete_objects` could not remove, and why."""

    key: str
    code: str
    message: str

    @classmethod
    def of_boto(cls, error: Mapping[str, Any]) -> DeleteFailure:
        """The same from an entry of boto3's `Errors`."""
        return cls(error.get("Key", ""), error.get("Code", ""), error.get("Message", ""))


def find_tag(name: str, text: str) -> str | None:
    """Content of the first element called `name`, None if there is none."""
    start = text.find(f"<{name}>")
    end = text.find(f"</{name}>", start)
    return None if start < 0 or end < 0 else unescape(text[start + len(name) + 2 : end])


def read_tag(name: str, text: str) -> str:
    """Content of the element called `name`, which must be there."""
    found = find_tag(name, text)
    if found is None:
        raise AwsError(f"S3's answer has no {name}: {text[:200]!r}")
    return found


def read_page(text: str) -> Page:
    """A page of a listing that was asked for with `encoding-type=url`."""
    text = text.replace("&quot;", '"')  # around each ETag; what is left to resolve is rare
    found = _USUAL.findall(text)
    if len(found) != text.count("<Contents>"):
        found = _read_unusual(text)
    is_encoded = find_tag("EncodingType", text) == "url"
    if "&" in text:
        found = [(unescape(key), modified, unescape(etag), size) for key, modified, etag, size in found]
    if is_encoded:
        objects = [Listed(decode_form(key), int(size), etag, modified) for key, modified, etag, size in found]
    else:
        objects = [Listed(key, int(size), etag, modified) for key, modified, etag, size in found]
    return Page(objects=objects, is_truncated=find_tag("IsTruncated", text) == "true")


def _read_unusual(text: str) -> list[tuple[str, str, str, str]]:
    """The same from other servers, which indent, or have another order."""
    found = []
    leaves: dict[str, str] = {}
    start = text.find("<Contents>")  # what stands before describes the page, and has a Prefix and Delimiter of its own
    for name, content, end in _LEAF.findall(text, start):
        leaves[name] = content
        if end:
            found.append((leaves["Key"], leaves["LastModified"], leaves.get("ETag", ""), leaves["Size"]))
            leaves = {}
    return found


def read_deleted(text: str) -> list[DeleteFailure]:
    """The failures in the answer to DeleteObjects."""
    return [
        DeleteFailure(*(find_tag(name, error) or "" for name in ("Key", "Code", "Message")))
        for error in _ERROR.findall(text)
    ]


def delete_body(keys: Sequence[str]) -> tuple[bytes, str]:
    """Body of DeleteObjects, and its Content-MD5, without which S3 takes none."""
    objects = "".join([f"<Object><Key>{escape(key)}</Key></Object>" for key in keys])
    body = f'<Delete xmlns="{_NAMESPACE}"><Quiet>true</Quiet>{objects}</Delete>'.encode()
    return body, b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def complete_body(etags: Sequence[str]) -> bytes:
    """Body of CompleteMultipartUpload: parts 1, 2, … by their ETags."""
    parts = [
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    ]
    return f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{"".join(parts)}</CompleteMultipartUpload>'.encode()
