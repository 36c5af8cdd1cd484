"""Names of runs and of what belongs to them.

Neighbours: everybody may import this; it imports the standard library only.
Form:       run `r20261121-052301-9f3a1c`, call `RUN/17`, attempt `RUN/17#2`, worker `w1`, slot `w1.0`.
"""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple


def new_run_id(now_s: float | None = None) -> str:
    """A run's id: starts with UTC time, so that runs sort by age; 24 random bits tell twins apart."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() if now_s is None else now_s))
    return f"r{stamp}-{os.urandom(3).hex()}"


def call_id(run_id: str, number: int) -> str:
    """The id of call `number` of a run; numbers start at 1."""
    return f"{run_id}/{number}"


def attempt_id(run_id: str, number: int, attempt: int) -> str:
    """The id of one try at a call; attempts start at 1."""
    return f"{run_id}/{number}#{attempt}"


def slot_id(worker_id: str, slot: int) -> str:
    """The id of one slot of a worker; slots start at 0."""
    return f"{worker_id}.{slot}"


class Attached(NamedTuple):
    """Stands for bytes that travel behind a message instead of in it: the next ones of this size."""

    size: int


_BLOBS: Final = "blobs/"
_DIGEST_DIGITS: Final = 64
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_NO_HASH: Final = bytes(8)  # no SHA-256 that anybody will ever see begins with 64 zero bits


class BlobRef(NamedTuple):
    """A blob's name: the SHA-256 of its bytes, and their number."""

    digest: bytes
    size: int

    @classmethod
    def unhashed(cls, size: int) -> BlobRef:
        """A random name, for bytes that are read once: hashing them would be a waste. No hash looks like it."""
        return cls(_NO_HASH + os.urandom(24), size)

    @property
    def name(self) -> str:
        """The key under which the store holds it."""
        return f"{_BLOBS}{self.digest.hex()}"


def digest_in(name: str) -> bytes | None:
    """The SHA-256 that the bytes under this name of a store must have; None if the name promises none."""
    digits = name[len(_BLOBS) :]
    if not name.startswith(_BLOBS) or len(digits) != _DIGEST_DIGITS or not _HEXADECIMAL.issuperset(digits):
        return None
    digest = bytes.fromhex(digits)
    return None if digest.startswith(_NO_HASH) else digest
