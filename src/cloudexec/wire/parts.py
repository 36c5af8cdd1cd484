"""A pickle with its out-of-band buffers: each part lies inline or is named as a blob.

Called by: serialization, which makes and reads pickles; messages.py, which carries packed parts.
Layout:    count u32 | per part: form u8, length u64, then the bytes (inline) or 32 digest bytes (blob)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from cloudexec.errors import WireError
from cloudexec.ids import BlobRef

_COUNT: Final = struct.Struct("<I")
_PART: Final = struct.Struct("<BQ")
_ONE: Final = struct.Struct("<IBQ")
_INLINE: Final = 0
_BLOB: Final = 1
DIGEST_BYTES: Final = 32


Part = bytes | bytearray | memoryview | BlobRef


def pack_parts(parts: Sequence[Part]) -> bytes:
    """One byte string of all parts; the first is the pickle, the others are its buffers in order."""
    if len(parts) == 1 and type(parts[0]) is bytes:
        return _ONE.pack(1, _INLINE, len(parts[0])) + parts[0]
    pieces: list[bytes | bytearray | memoryview] = [_COUNT.pack(len(parts))]
    for part in parts:
        if isinstance(part, BlobRef):
            pieces += (_PART.pack(_BLOB, part.size), part.digest)
        else:
            pieces += (_PART.pack(_INLINE, len(part)), part)
    return b"".join(pieces)


def sole_part(packed: bytes | memoryview) -> memoryview | None:
    """The bytes of the only part, if there is just one and it lies inline: the common case, made quick."""
    view = memoryview(packed)
    if len(view) >= _ONE.size:
        count, form, length = _ONE.unpack_from(view)
        if count == 1 and form == _INLINE and length == len(view) - _ONE.size:
            return view[_ONE.size :]
    return None


def unpack_parts(packed: bytes | memoryview) -> list[Part]:
    """The parts in `packed`; inline ones are views into it.

    Errors: WireError when the bytes end too early or too late.
    """
    view = memoryview(packed)
    try:
        return _read_parts(view)
    except struct.error:
        raise WireError(f"{len(view)} bytes do not hold the parts that they announce") from None


def _read_parts(view: memoryview) -> list[Part]:
    (count,) = _COUNT.unpack_from(view)
    at = _COUNT.size
    parts: list[Part] = []
    for _ in range(count):
        form, length = _PART.unpack_from(view, at)
        at += _PART.size
        end = at + (length if form == _INLINE else DIGEST_BYTES)
        if end > len(view) or form not in (_INLINE, _BLOB):
            raise WireError(f"part {len(parts)} of {count} is damaged")
        body = view[at:end]
        parts.append(body if form == _INLINE else BlobRef(bytes(body), length))
        at = end
    if at != len(view):
        raise WireError(f"{len(view) - at} bytes stand behind the last part")
    return parts
