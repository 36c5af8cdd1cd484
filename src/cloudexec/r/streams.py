"""Streams of R's L'Ecuyer generator, computed without R.

Called by: snippet.py.   Calls: nothing.
MRG32k3a: two linear recurrences of order three, modulo M1 and M2. A stream begins 2**127 steps after the one before
it, so stream k is a power of a matrix away, whatever k is.
Source: P. L'Ecuyer, R. Simard, E. J. Chen, W. D. Kelton, "An object-oriented random-number package with many long
streams and substreams", Operations Research 50 (2002); R: src/main/RNG.c (scrambling), parallel::nextRNGStream.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from operator import index
from typing import Final

from cloudexec.errors import SettingsError

Matrix = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
Vector = tuple[int, int, int]

_M1: Final = 4294967087
_M2: Final = 4294944443
_A1: Final[Matrix] = ((0, 1, 0), (0, 0, 1), (-810728, 1403580, 0))
_A2: Final[Matrix] = ((0, 1, 0), (0, 0, 1), (-1370589, 0, 527612))
_STREAM_LOG2: Final = 127
_SUBSTREAM_LOG2: Final = 76
_KIND: Final = 10407  # L'Ecuyer-CMRG, Inversion, Rejection: R's defaults since 3.6
_SCRAMBLES: Final = 50
_WORD: Final = 1 << 32
_ONE: Final[Matrix] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True, slots=True)
class RStream:
    """One stream of random numbers: `.Random.seed` of R, as seven signed integers. An argument of an R call that is
    an RStream becomes the call's generator, and is not passed on."""

    seed: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.seed) != 7 or self.seed[0] % 100 != _KIND % 100:
            what = f"{self.seed!r} is no .Random.seed of L'Ecuyer's generator"
            raise SettingsError(what, remedy="take streams from R.streams(seed)")


@dataclass(frozen=True, slots=True)
class RStreams:
    """All streams of one seed, in order: `ex.map(f, xs, R.streams(42))`; `R.streams(42)[k]` is stream k, from 0.

    The same as element k + 1 of `future.apply::future_lapply(X, f, future.seed = 42)` gets.
    """

    seed: int

    def __post_init__(self) -> None:
        try:
            known = index(self.seed)
        except TypeError:
            known = _WORD
        if not -(1 << 31) < known < 1 << 31:  # R's NA_integer_ is the one below
            what = f"seed={self.seed!r} is not an integer that R's set.seed() takes"
            raise SettingsError(what, remedy="give one between -2147483647 and 2147483647")

    def __iter__(self) -> Iterator[RStream]:
        state = _first(int(self.seed))
        step1, step2 = _power(_A1, 1 << _STREAM_LOG2, _M1), _power(_A2, 1 << _STREAM_LOG2, _M2)
        sub1, sub2 = _power(_A1, 1 << _SUBSTREAM_LOG2, _M1), _power(_A2, 1 << _SUBSTREAM_LOG2, _M2)
        one, two = state
        while True:
            yield _as_seed(_times(sub1, one, _M1), _times(sub2, two, _M2))
            one, two = _times(step1, one, _M1), _times(step2, two, _M2)

    def __getitem__(self, k: int) -> RStream:
        if k < 0:
            raise IndexError(f"there is no stream {k}: they are counted from 0, without end")
        one, two = _first(int(self.seed))
        n = (k << _STREAM_LOG2) + (1 << _SUBSTREAM_LOG2)
        return _as_seed(_times(_power(_A1, n, _M1), one, _M1), _times(_power(_A2, n, _M2), two, _M2))


def set_seed(seed: int) -> RStream:
    """What `set.seed(seed, kind = "L'Ecuyer-CMRG")` makes."""
    return _as_seed(*_first(seed))


@cache
def _first(seed: int) -> tuple[Vector, Vector]:
    """R scrambles the seed fifty times, then fills the state from the same congruential generator."""
    word = seed % _WORD
    for _ in range(_SCRAMBLES):
        word = (69069 * word + 1) % _WORD
    words: list[int] = []
    while len(words) < 6:
        word = (69069 * word + 1) % _WORD
        while word >= _M2:  # as R does: each must be below the smaller modulus
            word = (69069 * word + 1) % _WORD
        words.append(word)
    return (words[0], words[1], words[2]), (words[3], words[4], words[5])


@cache
def _squares(matrix: Matrix, modulus: int) -> list[Matrix]:
    """matrix ** (2 ** i), as far as any power asked for."""
    found = [matrix]
    while len(found) < 200:
        found.append(_product(found[-1], found[-1], modulus))
    return found


def _power(matrix: Matrix, n: int, modulus: int) -> Matrix:
    squares = _squares(matrix, modulus)
    result = _ONE
    for bit in re.finditer("1", f"{n:b}"[::-1]):
        result = _product(squares[bit.start()], result, modulus)
    return result


def _product(left: Matrix, right: Matrix, modulus: int) -> Matrix:
    columns = tuple(zip(*right, strict=True))
    (a, b, c) = (tuple(sum(x * y for x, y in zip(row, col, strict=True)) % modulus for col in columns) for row in left)
    return a, b, c  # type: ignore[return-value]  # each has three


def _times(matrix: Matrix, vector: Vector, modulus: int) -> Vector:
    (a, b, c) = (sum(x * y for x, y in zip(row, vector, strict=True)) % modulus for row in matrix)
    return a, b, c


def _as_seed(one: Vector, two: Vector) -> RStream:
    return RStream((_KIND, *(word - _WORD if word >= _WORD // 2 else word for word in (*one, *two))))
