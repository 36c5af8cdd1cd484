"""What R's classes make of a vector, and its elements as plain Python values. NumPy is not needed here.

Called by: values.py, vectors.py, tables.py.   Calls: parsing, for items; times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import tzinfo
from typing import Any, Final, NoReturn

from cloudexec.r.rds import codes, times
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.nodes import NAIVE
from cloudexec.r.rds.parsing import Item

FRAME_CLASSES: Final = frozenset({"data.frame", "tbl_df", "tbl", "data.table"})
VECTOR_CLASSES: Final = {  # all classes that a vector may have, and what they make of it
    (): "",
    ("AsIs",): "",
    ("factor",): "factor",
    ("ordered", "factor"): "factor",
    ("Date",): "Date",
    ("IDate", "Date"): "Date",
    ("POSIXct", "POSIXt"): "POSIXct",
    ("difftime",): "difftime",
    ("hms", "difftime"): "difftime",
    ("integer64",): "integer64",
}
_FORMS: Final = {codes.LOGICAL: "i", codes.INTEGER: "i", codes.DOUBLE: "d"}
_STORED: Final = {
    "factor": {codes.INTEGER},
    "integer64": {codes.DOUBLE},
    **{name: set(_FORMS) for name in ("Date", "POSIXct", "difftime")},
}


def meaning(item: Item, path: str) -> str:
    """What a vector is, apart from its type. Errors: RConversionError for a class that is no plain data."""
    found = VECTOR_CLASSES.get(item.classes)
    if found is None:
        refuse_class(item, path)
    if found and item.sexp not in _STORED[found]:
        raise ValueError(f"a {found} is stored as type {item.sexp}")
    return found


def refuse_class(item: Item, path: str) -> NoReturn:
    """Refuse an object that is more than its data."""
    refuse(f"an object of class {'/'.join(item.classes)} is no plain data", path)


def is_frame(item: Item) -> bool:
    """data.frame, tibble or data.table."""
    return "data.frame" in item.classes and FRAME_CLASSES.issuperset(item.classes)


def zone(item: Item) -> str | None:
    """The zone's name of a POSIXct; "UTC" where R would take the machine's own; None for a time without a zone."""
    if NAIVE in item.attributes:
        return None
    names = item.texts("tzone")
    return (names[0] if names else None) or "UTC"


def units(item: Item) -> str:
    """Of a difftime."""
    found = (item.texts("units") or ["days"])[0]
    if found not in times.UNIT_S:
        raise ValueError(f"a difftime in {found!r}")
    return found


def scalars(item: Item, path: str) -> list[Any]:
    """The elements, None where NA; NA of doubles is NaN. Errors: RConversionError, ValueError."""
    if item.sexp == codes.CHARACTER:
        return list(item.values)
    if item.sexp == codes.COMPLEX:
        parts = struct.unpack(f">{2 * item.length}d", item.values)
        return [complex(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    kind = meaning(item, path)
    if kind == "integer64":
        return [None if n == codes.NA_INTEGER64 else n for n in struct.unpack(f">{item.length}q", item.values)]
    if item.sexp == codes.RAW:
        return list(item.values)
    numbers = struct.unpack(f">{item.length}{_FORMS[item.sexp]}", item.values)
    plain: list[Any] = list(numbers)
    if item.sexp != codes.DOUBLE:
        plain = [None if number == codes.NA_INTEGER else number for number in numbers]
    if kind in _MOMENTS:
        return _moments(kind, item, plain, path)
    if item.sexp == codes.LOGICAL:
        return [None if number is None else bool(number) for number in plain]
    return plain


def _moments(kind: str, item: Item, plain: list[float | None], path: str) -> list[Any]:
    make = _MOMENTS[kind](item)
    try:
        return [None if number is None else make(number) for number in plain]
    except ValueError as error:
        refuse(str(error), path)


def _datetimes(item: Item) -> Callable[[float], Any]:
    name = zone(item)
    place: tzinfo | None = None if name is None else times.zone_of(name)
    return lambda since: times.datetime_from(since, place)


def _timedeltas(item: Item) -> Callable[[float], Any]:
    unit = units(item)
    return lambda value: times.timedelta_from(value, unit)


_MOMENTS: Final[dict[str, Callable[[Item], Callable[[float], Any]]]] = {
    "Date": lambda item: times.date_from,
    "POSIXct": _datetimes,
    "difftime": _timedeltas,
}


def levels(item: Item) -> tuple[list[str], list[int]]:
    """A factor's levels, and for each code the level's position, -1 if it is NA itself. Errors: ValueError."""
    texts = item.texts("levels") or []
    names = [text for text in texts if text is not None]
    if len(set(names)) < len(names):
        raise ValueError("a level of a factor occurs twice")
    positions = {name: position for position, name in enumerate(names)}
    return names, [-1 if text is None else positions[text] for text in texts]
