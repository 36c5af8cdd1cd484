"""Items become NumPy arrays; where NumPy has no NA, pandas' nullable ones.

Called by: values.py, tables.py.   Calls: meanings, libraries.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from cloudexec.r.rds import codes, meanings, times
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.libraries import numpy, pandas
from cloudexec.r.rds.parsing import Item

_LONGEST_S = 9 * 10**12  # of int64 microseconds


def array(item: Item, path: str) -> Any:
    """The elements in one dimension. With NA: integers are Int64, logicals boolean, text is objects and None.

    Times come without their zone, as UTC: tables.py adds it.
    """
    kind = meanings.meaning(item, path)
    if kind == "factor":
        raise ValueError("a factor is no array")
    if kind == "Date":
        return days(item, path)
    if kind == "POSIXct":
        return instants(item, path)
    if kind == "difftime":
        return durations(item, path)
    if kind == "integer64":
        values = _numbers(item, ">i8").astype("i8")
        return with_missing(values, values == codes.NA_INTEGER64)
    return _plain(item)


def _plain(item: Item) -> Any:
    if item.sexp == codes.CHARACTER:
        return objects(item.values)
    if item.sexp in (codes.DOUBLE, codes.COMPLEX):
        doubles = _quiet(_numbers(item, ">f8").astype("f8"))
        return doubles if item.sexp == codes.DOUBLE else doubles.view("c16")
    if item.sexp == codes.RAW:
        return _numbers(item, "u1").copy()
    numbers = _numbers(item, ">i4")
    missing = numbers == codes.NA_INTEGER
    return with_missing(numbers != 0 if item.sexp == codes.LOGICAL else numbers.astype("i8"), missing)


def _quiet(values: Any) -> Any:
    """R's NA is a signalling NaN, at which NumPy warns when it computes; with one bit more it stays NA, quietly."""
    missing = numpy().isnan(values)
    if missing.any():
        values.view("u8")[missing] |= codes.QUIET_BIT
    return values


def with_missing(values: Any, missing: Any) -> Any:
    """Nullable if something is missing; objects and None where there is no pandas."""
    if not missing.any():
        return values
    if pandas() is None:
        return objects([None if absent else value for value, absent in zip(values.tolist(), missing, strict=True)])
    kind = pandas().arrays.BooleanArray if values.dtype.kind == "b" else pandas().arrays.IntegerArray
    return kind(values, missing)


def objects(values: list[Any]) -> Any:
    """An object array of one dimension, whatever the elements are."""
    out = numpy().empty(len(values), dtype=object)
    out[:] = values
    return out


def days(item: Item, path: str) -> Any:
    """datetime64[D]; R's fractions of a day are cut off."""
    since, finite = _finite(item)
    _check_range(abs(since), _LONGEST_S / 86_400, path)
    return _filled(numpy().floor(since).astype("i8"), finite, "datetime64[D]")


def instants(item: Item, path: str) -> Any:
    """datetime64[us], in UTC."""
    since_s, finite = _finite(item)
    return _filled(_microseconds(since_s, path), finite, "datetime64[us]")


def durations(item: Item, path: str) -> Any:
    """timedelta64[us]."""
    lasting, finite = _finite(item)
    return _filled(_microseconds(lasting * times.UNIT_S[meanings.units(item)], path), finite, "timedelta64[us]")


def _microseconds(values_s: Any, path: str) -> Any:
    """Rounded; see times.microseconds."""
    _check_range(abs(values_s), _LONGEST_S, path)
    whole = numpy().floor(values_s)
    rest = numpy().rint((values_s - whole) * 1e6)
    return whole.astype("i8") * 1_000_000 + rest.astype("i8")


def _finite(item: Item) -> tuple[Any, Any]:
    """The numbers as doubles, 0 where there is none, and where there is one."""
    if item.sexp == codes.DOUBLE:
        values = _numbers(item, ">f8").astype("f8")
        finite = numpy().isfinite(values)
    else:
        values = _numbers(item, ">i4").astype("f8")
        finite = values != codes.NA_INTEGER
    values[~finite] = 0
    return values, finite


def _check_range(sizes: Any, most: float, path: str) -> None:
    if sizes.size and sizes.max() > most:
        refuse("a time is beyond Python's range", path)


def _filled(counts: Any, finite: Any, dtype: str) -> Any:
    out = counts.view(dtype)
    out[~finite] = "NaT"
    return out


def dim(item: Item) -> tuple[int, ...]:
    """Sizes of the dimensions; empty for a vector or list without. Errors: ValueError if they do not fit."""
    found = item.attributes.get("dim")
    if found is None or found.sexp == codes.NULL:
        return ()
    if found.sexp != codes.INTEGER:
        raise ValueError("dimensions are no integers")
    sizes = struct.unpack(f">{found.length}i", found.values)
    if not sizes or min(sizes) < 0 or math.prod(sizes) != item.length:
        raise ValueError(f"dimensions {sizes} do not fit {item.length} elements")
    return sizes


def _numbers(item: Item, dtype: str) -> Any:
    return numpy().frombuffer(item.values, dtype=dtype)
