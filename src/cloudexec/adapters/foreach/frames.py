"""What R and this process say to each other: a frame is a kind and parts, nothing is nested. Pure.

Called by: server.py.   Calls: errors.
Mirror:    r/cloudexec/R/frames.R, which has integers and doubles and no others; hence lengths are doubles.

    kind (4 letters) | number of parts (uint32) | length of each part (float64) | the parts          big endian
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cloudexec.errors import WireError

_HEAD: Final = struct.Struct(">4sI")
_MOST_PARTS: Final = 1 << 22
_MOST_BYTES: Final = 1 << 40


class Frame(NamedTuple):
    """One message. Text in parts is UTF-8."""

    kind: str
    parts: tuple[bytes, ...]

    def text(self, index: int) -> str:
        """A part that is text. Errors: WireError if there is none."""
        if index >= len(self.parts):
            raise WireError(f"a {self.kind} frame has {len(self.parts)} parts, and part {index} was wanted")
        return self.parts[index].decode(errors="backslashreplace")

    def number(self, index: int) -> int:
        """A part that is a whole number in decimal. Errors: WireError."""
        text = self.text(index)
        if not text.isdecimal():
            raise WireError(f"part {index} of a {self.kind} frame is {text[:40]!r}, and a number was wanted")
        return int(text)


def encode(kind: str, parts: Sequence[bytes | str | int]) -> list[bytes]:
    """The frame as pieces to be written one after the other."""
    pieces = [part if isinstance(part, bytes) else str(part).encode(errors="backslashreplace") for part in parts]
    lengths = struct.pack(f">{len(pieces)}d", *map(len, pieces))
    return [_HEAD.pack(kind.encode("ascii"), len(pieces)) + lengths, *pieces]


def read(take: Callable[[int], bytes], most_bytes: int = _MOST_BYTES) -> Frame:
    """The next frame; `take(n)` gives exactly n bytes.

    most_bytes: what all parts together may have, as whoever has not shown a token may claim anything.
    Errors: WireError, and what `take` raises.
    """
    kind, count = _HEAD.unpack(take(_HEAD.size))
    if not kind.isalpha() or count > min(_MOST_PARTS, most_bytes):
        raise WireError(f"{kind!r} with {count:,} parts is no frame")
    lengths = struct.unpack(f">{count}d", take(8 * count))
    if not all(length >= 0 and length.is_integer() for length in lengths) or sum(lengths) > most_bytes:
        raise WireError(f"a {kind!r} frame has parts of impossible lengths")
    return Frame(kind.decode("ascii"), tuple(take(int(length)) for length in lengths))
