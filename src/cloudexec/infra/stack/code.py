"""The code in the stack's bucket: bundles, and the record of what the newest was made of.

Called by: deploy.py, doctor.   Calls: place.py, bundle.
The record tells a later `up` which packages to keep, and whether there is anything to do. Every request names the
bucket's owner: a bucket's name can be guessed, and code must not go to, or come from, somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.errors import AwsError, NoSuchKey
from cloudexec.infra.bundle.build import Bundle, Order
from cloudexec.infra.bundle.words import CODE_PREFIX
from cloudexec.infra.place import Place

RECORD_KEY: Final = f"{CODE_PREFIX}bundle.json"
_FORMAT: Final = 1
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRecord:
    """What a bundle was made of. contents: versions by distribution."""

    key: str
    fingerprint: str
    packages: tuple[str, ...]
    requirements: str
    python: str
    arch: str
    contents: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """What `read_record` reads."""
        said = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"format": _FORMAT, **said}, indent=1).encode()


def read_record(text: bytes) -> CodeRecord | None:
    """What `to_json` wrote; None for what is damaged or of another version: the bundle is made anew then."""
    try:
        said = json.loads(text)
        if said.pop("format") != _FORMAT:
            return None
        return CodeRecord(**{**said, "packages": tuple(str(each) for each in said["packages"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def record_of(order: Order, bundle: Bundle) -> CodeRecord:
    """The record of a new bundle."""
    return CodeRecord(
        key=key_of(bundle),
        fingerprint=order.fingerprint,
        packages=order.packages,
        requirements=order.requirements,
        python=order.python,
        arch=order.arch,
        contents=bundle.contents,
    )


def key_of(bundle: Bundle) -> str:
    """Where a bundle lies in the bucket."""
    return f"{CODE_PREFIX}{bundle.sha256}.zip"


def fetch_record(place: Place, bucket: str) -> CodeRecord | None:
    """The record in the bucket; None if there is none. Errors: AwsError and its kin."""
    try:
        reply = _ask(place, "get_object", bucket, RECORD_KEY)
    except AwsError as error:
        if isinstance(error, NoSuchKey) or error.code == "NoSuchBucket":
            return None
        raise
    return read_record(place.body(f"reading s3://{bucket}/{RECORD_KEY}", reply, _MOST_BYTES))


def size_of(place: Place, bucket: str, key: str) -> int | None:
    """The bytes of a bundle in the bucket; None if it is not there. Errors: AwsError and its kin."""
    try:
        return int(_ask(place, "head_object", bucket, key)["ContentLength"])
    except AwsError as error:
        if isinstance(error, NoSuchKey) or error.status == 404:
            return None
        raise


def upload(place: Place, bucket: str, bundle: Bundle) -> None:
    """Put the bundle into the bucket, unless it is there. Errors: AwsError and its kin."""
    key = key_of(bundle)
    if size_of(place, bucket, key) is not None:
        return
    with bundle.path.open("rb") as file:
        _ask(place, "put_object", bucket, key, Body=file, ContentType="application/zip")


def write_record(place: Place, bucket: str, record: CodeRecord) -> None:
    """Say what the code is made of. Errors: AwsError and its kin."""
    _ask(place, "put_object", bucket, RECORD_KEY, Body=record.to_json(), ContentType="application/json")


def _ask(place: Place, operation: str, bucket: str, key: str, **more: Any) -> dict[str, Any]:
    """A request to this account's bucket. Errors: AwsError and its kin; S3 says `denied` of a bucket of another
    owner, too, so that one tells what to look at."""
    request = {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": place.account_id, **more}
    try:
        return place.ask("s3", operation, request)
    except AwsError as error:
        if error.status != 403:
            raise
        what = f"bucket {bucket} does not take requests of account {place.account_id}: {error.what}"
        remedy = (
            "if another account owns it, name a bucket of your own with --parameters BucketName=NAME; if it is yours, "
            f"allow s3:GetObject and s3:PutObject on {bucket}/{CODE_PREFIX}* (`cloudexec policy setup`)"
        )
        raise AwsError(what, *error.args[1:], remedy=remedy) from error
