"""A pickle with its out-of-band buffers: each part lies inline, is attached, or is named as a blob.

Called by: serialization, which makes and reads pickles; messages.py, which carries packed parts.
Layout:    count u32 | per part: form u8, length u64, then the bytes (inline), 32 digest bytes
           (blob), or nothing (attached)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from cloudexec.errors import WireError
from cloudexec.ids import Attached, BlobRef

_COUNT: Final = struct.Struct("<I")
_PART: Final = struct.Struct("<BQ")
_ONE: Final = struct.Struct("<IBQ")
_INLINE: Final = 0
_BLOB: Final = 1
_ATTACHED: Final = 2
DIGEST_BYTES: Final = 32


Part = bytes | bytearray | memoryview | BlobRef | Attached


def pack_parts(parts: Sequence[Part]) -> bytes:
    """One byte string of all parts; the first is the pickle, the others are its buffers in order."""
    if len(parts) == 1 and type(parts[0]) is bytes:
        return _ONE.pack(1, _INLINE, len(parts[0])) + parts[0]
    pieces: list[bytes | bytearray | memoryview] = [_COUNT.pack(len(parts))]
    for part in parts:
        if isinstance(part, BlobRef):
            pieces += (_PART.pack(_BLOB, part.size), part.digest)
        elif isinstance(part, Attached):
            pieces.append(_PART.pack(_ATTACHED, part.size))
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


def attached_sizes(packed: bytes | memoryview) -> list[int]:
    """Sizes of the attachments that belong to `packed`, in order; none if it is damaged, as loading it will tell."""
    if sole_part(packed) is not None:
        return []
    try:
        return [part.size for part in unpack_parts(packed) if isinstance(part, Attached)]
    except WireError:
        return []


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
        end = at + (length if form == _INLINE else DIGEST_BYTES if form == _BLOB else 0)
        if end > len(view) or form > _ATTACHED:
            raise WireError(f"part {len(parts)} of {count} is damaged")
        body = view[at:end]
        if form == _ATTACHED:
            parts.append(Attached(length))
        else:
            parts.append(body if form == _INLINE else BlobRef(bytes(body), length))
        at = end
    if at != len(view):
        raise WireError(f"{len(view) - at} bytes stand behind the last part")
    return parts
