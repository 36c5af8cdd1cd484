"""What a client carries out: a request, and how its answer is read. No I/O, no clock, no environment.

Called by:  s3.py, sqs.py and lambdas.py, which build operations; the clients, which carry them out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

Buffer = bytes | bytearray | memoryview
T = TypeVar("T")


class Request(NamedTuple):
    """One request, before it is addressed and signed; a tuple, because a client makes thousands a second.

    `path` and `query` are canonical (percent-encoded; the query sorted). `headers` have lower-case names; host, date,
    length and signature are added by the account. The body is the `pieces`, one after another.
    """

    service: str  # "s3", "sqs" or "lambda"
    method: str
    path: str = "/"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[Buffer, ...] = ()
    bucket: str = ""


class Reply(NamedTuple):
    """One answer. `headers` have lower-case names; a `bytearray` body belongs to the reader alone."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray = b""


class Operation(Generic[T]):
    """A request and the meaning of its answer.

    `name` and `arguments` are the same request in boto3's words (without the body of an S3 object); `read` takes the
    answer from HTTP, `read_boto` from boto3's dictionary. `is_safe`: whether it may be repeated although the service
    may have acted on it (s3.py and sqs.py say why). `once`: whether throttles, faults and conflicts are the caller's to
    answer, at once: then the client repeats only what the service certainly did not act on. `wait_s`: how long the
    service may hold the answer back.
    `confirm`: what to ask after a refusal that may be the echo of our own success; None as its result means it is not.
    """

    # Written out: `dataclasses` alone would take a quarter of a worker's start.
    __slots__ = ("arguments", "confirm", "is_safe", "name", "once", "read", "read_boto", "request", "wait_s")

    def __init__(
        self,
        *,
        name: str,
        request: Request,
        read: Callable[[Reply], T],
        arguments: Mapping[str, Any],
        read_boto: Callable[[Mapping[str, Any]], T],
        is_safe: bool = True,
        once: bool = False,
        wait_s: float = 0.0,
        confirm: Callable[[], Operation[T | None]] | None = None,
    ) -> None:
        self.name = name
        self.request = request
        self.read = read
        self.arguments = arguments
        self.read_boto = read_boto
        self.is_safe = is_safe
        self.once = once
        self.wait_s = wait_s
        self.confirm = confirm

    @property
    def what(self) -> str:
        """What is asked of which object, queue or function, for people."""
        if self.request.service == "s3":
            key = self.arguments.get("Key", self.arguments.get("Prefix", ""))
            return f"{self.name} s3://{self.request.bucket}/{key}"
        return f"{self.name} {self.arguments.get('QueueUrl') or self.arguments.get('FunctionName', '')}"


def total_bytes(pieces: Sequence[Buffer]) -> int:
    """Length of all pieces together."""
    return sum([piece.nbytes if isinstance(piece, memoryview) else len(piece) for piece in pieces])
