"""Vectors that R describes instead of writing them out, as `saveRDS` does by default (ALTREP, version 3): `1:10`,
`as.character(1:10)`, what `sort()` gives.

Called by: parsing.py.   Calls: codes.
Source:    R's altclasses.c. A sequence is its length, first value and step; a text that waits is the numbers that it
           comes from; a wrapper is a vector with notes about it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cloudexec.r.rds import codes

if TYPE_CHECKING:
    from cloudexec.r.rds.parsing import Item

_LONGEST: Final = 10**8  # elements of a sequence: a few forged bytes shall not fill the memory
_WHOLE: Final = 1e15  # R shows 15 digits
_SEQUENCES: Final = {"compact_intseq": (codes.INTEGER, "i"), "compact_realseq": (codes.DOUBLE, "d")}


def expanded(kind: str, state: list[Item]) -> tuple[int, int, Any]:
    """Type, length and values of the vector. kind: its class in R. state: what R wrote. Errors: ValueError."""
    if not state:
        raise ValueError(f"a vector of the kind {kind} says nothing about itself")
    if kind in _SEQUENCES:
        return _sequence(*_SEQUENCES[kind], state[0])
    if kind.startswith("wrap_"):
        return state[0].sexp, state[0].length, state[0].values
    if kind == "deferred_string" and state[0].sexp in _NUMBERS and not state[0].attributes:
        form, text = _NUMBERS[state[0].sexp]
        return codes.CHARACTER, state[0].length, [text(*each) for each in struct.iter_unpack(form, state[0].values)]
    raise ValueError(f"a vector of the kind {kind} cannot be read; saveRDS(…, version = 2) writes it out")


def _sequence(sexp: int, form: str, described: Item) -> tuple[int, int, Any]:
    if described.sexp != codes.DOUBLE or described.length != 3:
        raise ValueError("a sequence is not described by three numbers")
    length, first, step = struct.unpack(">3d", described.values)
    if not 0 <= length <= _LONGEST or step not in (1.0, -1.0) or not abs(first) < codes.EXACT:
        raise ValueError(f"a sequence of {length:g} numbers from {first:g} by {step:g} cannot be read")
    begin, by = int(first), int(step)
    if form == "i" and not all(-(2**31) < end < 2**31 for end in (begin, begin + by * max(0, int(length) - 1))):
        raise ValueError("a sequence of integers leaves their range")
    rest = first - begin  # 0.5:9.5 is a sequence, too
    numbers = range(begin, begin + by * int(length), by)
    made = array(form, numbers if not rest else (number + rest for number in numbers))
    if sys.byteorder == "little":
        made.byteswap()
    return sexp, len(made), memoryview(made.tobytes())


def _integer(number: int) -> str | None:
    return None if number == codes.NA_INTEGER else str(number)


def _whole(bits: int) -> str | None:
    """As R's `as.character` has it: `1e+05` where that is shorter."""
    if bits & ~codes.QUIET_BIT == codes.NA_REAL_BITS:
        return None
    (number,) = struct.unpack(">d", struct.pack(">Q", bits))
    if not abs(number) < _WHOLE or number != int(number):
        raise ValueError("numbers that wait to be text cannot be read; saveRDS(…, version = 2) writes the text")
    plain = str(int(number))
    digits = plain.lstrip("-")
    mantissa = digits.rstrip("0")
    point = "." if len(mantissa) > 1 else ""
    short = f"{'-' * (number < 0)}{mantissa[:1]}{point}{mantissa[1:]}e+{len(digits) - 1:02d}"
    return plain if len(plain) <= len(short) else short


_NUMBERS: Final[dict[int, tuple[str, Callable[[int], str | None]]]] = {
    codes.INTEGER: (">i", _integer),
    codes.DOUBLE: (">Q", _whole),
}
