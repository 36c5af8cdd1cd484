"""Character vectors: a million strings without a million steps of Python.

Called by: nodes.py (writes), parsing.py (reads).   Calls: codes.
On the wire a string is: flags (four bytes, which tell the encoding), length (four bytes), bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from operator import eq, itemgetter
from typing import Any

from cloudexec.r.rds import codes

_HEAD = struct.Struct(">Ii")
_FEW = 64  # strings that are not worth a window
_SAMPLE = 1000
_CAUTIOUS = 1024  # strings that are read singly where windows do not work
_WINDOW_BYTES = 1 << 20
_GUESSED_BYTES = 40  # of a string; a window much larger than a vector would be wasted on what comes after it


# --- writing -----------------------------------------------------------------------------------


def fault(values: Sequence[Any]) -> str | None:
    """Why strings cannot be written; None if they can. R has neither NUL inside a string nor half a surrogate pair."""
    text = _joined(values)
    if "\0" in text:
        return "a string with a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "a string with half a surrogate pair"
    return None


def encoded(values: Sequence[Any]) -> bytes:
    """The strings of a character vector; what is no `str` is NA."""
    if not _mostly_different(values):
        table = {value: _entry(value) for value in set(values)}
        return b"".join(map(table.__getitem__, values))
    if set(map(type, values)) == {str} and _joined(values).isascii():
        return _all_different(values)
    return b"".join(map(_entry, values))


def _mostly_different(values: Sequence[Any]) -> bool:
    """A guess, from the first of them: what is asked of each string would be asked of few if they repeat."""
    sample = values[:_SAMPLE]
    return 2 * len(set(sample)) > len(sample)


def _joined(values: Sequence[Any]) -> str:
    """All text that occurs, each at least once."""
    pool = values if _mostly_different(values) else set(values)
    try:
        return "".join(pool)
    except TypeError:  # some are missing
        return "".join([value for value in pool if isinstance(value, str)])


def _all_different(values: Sequence[str]) -> bytes:
    """ASCII strings with few repetitions: heads and strings are joined as text, where one byte is one character."""
    heads = {length: _ascii_head(length) for length in set(map(len, values))}
    interleaved = zip(map(heads.__getitem__, map(len, values)), values, strict=True)
    return "".join(chain.from_iterable(interleaved)).encode("latin-1")


def _ascii_head(length: int) -> str:
    return (codes.ASCII_HEAD + struct.pack(">I", length)).decode("latin-1")


def _entry(value: object) -> bytes:
    if not isinstance(value, str):
        return codes.NA_STRING
    data = value.encode()
    return (codes.ASCII_HEAD if value.isascii() else codes.UTF8_HEAD) + struct.pack(">I", len(data)) + data


# --- reading -----------------------------------------------------------------------------------


def decoded(data: memoryview, at: int, count: int) -> tuple[list[str | None], int]:
    """`count` strings from a position on, and the position after them. Errors: ValueError if they are not there."""
    values: list[str | None] = []
    table: dict[str, list[str | None] | None] = {}
    while len(values) < count:
        missing = count - len(values)
        if missing >= _FEW and bytes(data[at : at + 4]) in (codes.ASCII_HEAD, codes.UTF8_HEAD):
            found, at = _window(data, at, missing, table)
            values += found
            if found:
                continue
        for _ in range(min(missing, _CAUTIOUS)):
            value, at = _single(data, at)
            values.append(value)
    return values, at


def _window(
    data: memoryview, at: int, most: int, table: dict[str, list[str | None] | None]
) -> tuple[list[str | None], int]:
    """As many strings as one window shows, split at the flags of the first; none if that does not work.

    The flags' bytes may occur by chance elsewhere. A piece is believed only if it is a whole number of strings, to the
    byte: then it ends where a string ends, and the next piece begins where one begins.
    """
    text = str(data[at : at + min(_WINDOW_BYTES, (most + 1) * _GUESSED_BYTES)], "latin-1")
    separator = text[:4]
    pieces = text.split(separator)[1:-1][:most]  # the last piece may go on behind the window
    if not pieces:
        return [], at
    if separator == codes.ASCII_HEAD.decode("latin-1") and _each_is_one(pieces):
        size = sum(map(len, pieces)) + 4 * len(pieces)
        distinct = set(pieces)
        if 2 * len(distinct) > len(pieces):
            return [piece[4:] for piece in pieces], at + size
        known = {piece: piece[4:] for piece in distinct}  # equal strings are one object
        return list(map(known.__getitem__, pieces)), at + size
    values: list[str | None] = []
    for piece in pieces:
        if piece not in table:
            table[piece] = _entries(separator + piece)
        entries = table[piece]
        if entries is None or len(values) + len(entries) > most:
            break
        values += entries
        at += 4 + len(piece)
    return values, at


def _each_is_one(pieces: list[str]) -> bool:
    """Whether each piece is the length and the bytes of one string."""
    heads = {size: struct.pack(">I", max(size - 4, 0)).decode("latin-1") for size in set(map(len, pieces))}
    return all(map(eq, map(itemgetter(slice(4)), pieces), map(heads.__getitem__, map(len, pieces))))


def _entries(piece: str) -> list[str | None] | None:
    """The strings of a piece; None if it is not a whole number of them."""
    data = memoryview(piece.encode("latin-1"))
    values: list[str | None] = []
    at = 0
    try:
        while at < len(data):
            value, at = _single(data, at)
            values.append(value)
    except ValueError:
        return None
    return values


def _single(data: memoryview, at: int) -> tuple[str | None, int]:
    """One string and the position after it."""
    if at + 8 > len(data):
        raise ValueError("the data ends inside a character vector")
    flags, length = _HEAD.unpack_from(data, at)
    if flags & 0xFF != codes.CHARSXP:
        raise ValueError(f"type {flags & 0xFF} stands where a string is expected")
    start, end = at + 8, at + 8 + length
    if length == -1:
        return None, start
    if length < 0 or end > len(data):
        raise ValueError(f"a string of {length} bytes goes beyond the data")
    return _text(data[start:end], flags), end


def _text(data: memoryview, flags: int) -> str:
    """Without a mark it is UTF-8, R's own encoding where our harness runs; what is not shows as R prints it."""
    if flags & codes.LATIN1:
        return str(data, "latin-1")
    if flags & codes.BYTES:
        return str(data, "ascii", "backslashreplace")
    return str(data, "utf-8", "backslashreplace")
