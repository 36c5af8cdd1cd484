"""Version, kind, length and signature around every message.

Called by: messages' senders and receivers on both halves.   Calls: hmac.
Layout:    magic `cx` | version u8 | kind u8 | body length u64 | HMAC-SHA256 of all that and the body | body
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from enum import IntEnum
from typing import Final

from cloudexec.errors import SignatureError, WireError

VERSION: Final = 1
KEY_BYTES: Final = 32
MOST_BYTES: Final = 1 << 32

_MAGIC: Final = b"cx"
_HEAD: Final = struct.Struct("<2sBBQ")
_MAC_BYTES: Final = 32
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
OVERHEAD: Final = _HEAD.size + _MAC_BYTES


class Kind(IntEnum):
    """What a message is."""

    BATCH = 1  # calls, client to slot
    REVOKE = 2  # drop what you have not started, client to slot
    OUTCOME = 3  # one attempt's end, slot to client
    INITIALIZER_FAILED = 4  # slot to client; the body is an outcome
    GIVEN = 5  # one call that is the slot's already, client to slot
    REPORT = 6  # what a cloud worker tells, through a queue
    CONTROL = 7  # what a client tells all its cloud workers, in an object
    JOURNAL = 8  # what a client has submitted and heard, in an object
    RECORD = 9  # what a run is made of, in an object, for who attaches


_KINDS: Final = {int(kind): kind for kind in Kind}


def new_key() -> bytes:
    """A fresh key for one run. It must never lie in the store."""
    return os.urandom(KEY_BYTES)


class Seal:
    """Signs and checks messages with one run's key."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise WireError(f"a run key has {KEY_BYTES} bytes, this one has {len(key)}")
        # HMAC is sha256(outer pad, sha256(inner pad, message)). The pads are hashed here once, and copied for
        # each message: a third of what hmac.digest takes. A test compares every result with hmac.digest.
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def __reduce__(self) -> str:
        raise TypeError("a run key must not be pickled")

    def close(self, kind: Kind, body: bytes) -> bytes:
        """The signed message around `body`."""
        head = _HEAD.pack(_MAGIC, VERSION, kind, len(body))
        return b"".join((head, self._mac(head, body), body))

    def open(self, message: bytes | bytearray | memoryview) -> tuple[Kind, memoryview]:
        """Kind and body of one whole message, after its signature was found right.

        Errors: WireError (cut short, other version), SignatureError (not signed with this key).
        """
        view = memoryview(message)
        kind, length = read_head(view)
        if len(view) != OVERHEAD + length:
            raise WireError(f"a message of {OVERHEAD + length} bytes came as {len(view)} bytes")
        body = view[OVERHEAD:]
        if not hmac.compare_digest(self._mac(view[: _HEAD.size], body), view[_HEAD.size : OVERHEAD]):
            raise SignatureError(f"a {kind.name} message of {length} bytes is not signed with this run's key")
        return kind, body

    def _mac(self, head: bytes | memoryview, body: bytes | memoryview) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(head)
        inner.update(body)
        outer.update(inner.digest())
        return outer.digest()


def read_head(view: memoryview | bytearray | bytes, offset: int = 0) -> tuple[Kind, int]:
    """Kind and body length of the message that starts at `offset`.

    Errors: WireError if it is not a message of this version.
    """
    try:
        magic, version, kind, length = _HEAD.unpack_from(view, offset)
    except struct.error:
        raise WireError(f"a message of {len(view) - offset} bytes is too short to have a head") from None
    if magic != _MAGIC or version != VERSION:
        raise WireError(f"expected a version {VERSION} message, got magic {magic!r} version {version}")
    if kind not in _KINDS:
        raise WireError(f"unknown kind of message: {kind}")
    if length > MOST_BYTES:  # else a forged head would have its reader wait for ever
        raise WireError(f"a message of {length:,} bytes is announced; none is longer than {MOST_BYTES:,}")
    return _KINDS[kind], length
