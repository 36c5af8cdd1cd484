"""Policies of buckets: kept as they were written, and carried out where they have no conditions.

Called by:  front.py, for requests; control.py, for resetting.   Calls: moto.py.
Reason:     moto denies what a statement denies under a condition, whether the condition holds or not: a bucket that
            wants TLS (aws:SecureTransport) would be closed to everybody here.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Final

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request

OPERATIONS: Final = ("PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy", "DeleteBucket")


class BucketPolicies:
    """Answers what concerns policies of buckets."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._written: dict[str, bytes] = {}  # by bucket

    def handles(self, request: Request) -> bool:
        """Whether this request is ours."""
        return request.service == "s3" and request.operation in OPERATIONS

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        bucket = request.path.strip("/")
        with self._lock:
            if request.operation == "GetBucketPolicy":
                written = self._written.get(bucket)
                return Answer(body=written) if written is not None else self._moto.answer(request)
            if request.operation == "PutBucketPolicy":
                return self._put(request, bucket)
            answer = self._moto.answer(request)
            if answer.ok:
                self._written.pop(bucket, None)
            return answer

    def forget(self) -> None:
        """No policies."""
        with self._lock:
            self._written.clear()

    def _put(self, request: Request, bucket: str) -> Answer:
        if not self._moto.send("s3", "HEAD", f"/{bucket}").ok:
            raise Refusal("NoSuchBucket", "The specified bucket does not exist", 404)
        plain = without_conditions(request.body)
        method, body = ("PUT", json.dumps(plain).encode()) if plain["Statement"] else ("DELETE", b"")
        answer = self._moto.send("s3", method, f"/{bucket}", body, "application/json", query="policy")
        if answer.ok:
            self._written[bucket] = request.body
        return Answer(status=204) if answer.ok else answer


def without_conditions(text: bytes) -> dict[str, Any]:
    """The policy's statements that hold always; a Refusal if it is none."""
    try:
        said = json.loads(text)
        statements = said["Statement"] if isinstance(said["Statement"], list) else [said["Statement"]]
        return {**said, "Statement": [each for each in statements if not each.get("Condition")]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = (
            "This policy contains invalid Json" if isinstance(error, ValueError) else "Missing required field Statement"
        )
        raise Refusal("MalformedPolicy", what) from error
