"""Python objects that shall become one R vector: what they are, all of them, and which are missing.

Called by: describing.py (lists of text), arrays.py, frames.py (object arrays).   Calls: nodes, times, strings, faults.
A scan of a large array is remembered as long as the array lives: `map(f, xs, repeat(frame))` checks the same frame
ten thousand times. (What is changed in place after its check is caught when it is written.)
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any, Final

from cloudexec.r.rds import codes, nodes, strings, times
from cloudexec.r.rds.faults import refuse, refuse_type
from cloudexec.r.rds.nodes import Node

Place = Callable[[int], str]  # the path of an element
_MISSING_TYPES: Final = frozenset({"NoneType", "NAType", "NaTType"})
_WORTH_REMEMBERING: Final = 1000


_known: dict[tuple[object, ...], tuple[Any, Any]] = {}
_checking: ContextVar[bool] = ContextVar("checking", default=False)


@contextmanager
def checking() -> Iterator[None]:
    """Inside, answers are remembered. Writing looks at everything anew: an array may have changed since its check."""
    token = _checking.set(True)
    try:
        yield
    finally:
        _checking.reset(token)


def is_checking() -> bool:
    """Whether nothing will be encoded."""
    return _checking.get()


def remembered(array: Any, question: tuple[object, ...], answer: Callable[[], Any]) -> Any:
    """What was answered about a NumPy array at an earlier check, or is answered now.

    The entry dies with the array that owns the data; a view is found again by where its data lies.
    """
    if not _checking.get() or array.size < _WORTH_REMEMBERING:
        return answer()
    owner = array
    while type(getattr(owner, "base", None)) is type(array):
        owner = owner.base
    where = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype)
    return remembered_of(owner, (*question, *where), answer)


def remembered_of(owner: Any, question: tuple[object, ...], answer: Callable[[], Any]) -> Any:
    """The same for anything that lives as long as the data, and that weak references can point to."""
    if not _checking.get():
        return answer()
    key = (id(owner), *question)
    known = _known.get(key)
    if known is not None and known[0]() is owner:
        return known[1]
    found = answer()
    _known[key] = (weakref.ref(owner, lambda _: _known.pop(key, None)), found)
    return found


def family(values: Sequence[Any], place: Place) -> str:
    """What all values are: character, logical, integer, double, complex, date, datetime, timedelta.

    Missing are None, pandas.NA, NaT, and NaN among values that are no numbers; if all are missing, they are text
    (or what the marks say). Errors: RConversionError at the first value that does not fit.
    """
    families = {kind: _family_of(kind) for kind in set(map(type, values))}
    found = set(families.values()) - {None}
    floats = (value for value in values if families[type(value)] == "double")
    if "double" in found and len(found) > 1 and all(map(math.isnan, floats)):
        found.discard("double")
    if found == {"double", "integer"}:
        found = {"double"}
    if len(found) > 1 or "" in found:
        _refuse_first(values, families, place)
    if found:
        return found.pop() or ""
    return "datetime" if any(kind.__name__ == "NaTType" for kind in families) else "character"


def _family_of(kind: type) -> str | None:
    """None if values of the type are missing; empty if R has no vector of them."""
    if kind.__name__ in _MISSING_TYPES:
        return None
    if issubclass(kind, Enum):
        return ""
    for base, name in _FAMILIES:
        if issubclass(kind, base):
            return name
    return _NUMPY_FAMILIES.get(kind.__name__, "") if kind.__module__ == "numpy" else ""


_FAMILIES: Final[tuple[tuple[type, str], ...]] = (
    (str, "character"),
    (bool, "logical"),
    (int, "integer"),
    (float, "double"),
    (complex, "complex"),
    (datetime, "datetime"),
    (date, "date"),
    (timedelta, "timedelta"),
)
_NUMPY_FAMILIES: Final = {
    **dict.fromkeys(("bool", "bool_"), "logical"),
    **{f"{sign}int{bits}": "integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("float16", "float32"), "double"),
    "complex64": "complex",
}


def _refuse_first(values: Sequence[Any], families: dict[type, str | None], place: Place) -> None:
    """Name the first value that has no family, or another than the values before it."""
    first = ""
    for position, value in enumerate(values):
        found = families[type(value)]
        if found == "":
            refuse_type(value, place(position))
        if found is None or (found == "double" and math.isnan(value)):
            continue
        if first and found != first and {first, found} != {"double", "integer"}:
            what = f"{type(value).__name__} among {first} values; a vector of R's is of one type"
            refuse(what, place(position), "make it one type, e.g. .astype(str), or pass a list")
        first = first or found


def vector(values: Sequence[Any], kind: str, place: Place) -> Node:
    """The values of a family as an R vector."""
    return _VECTORS[kind](values, place)


def missing(value: object) -> bool:
    """None, pandas.NA, NaT or NaN."""
    return value is None or type(value).__name__ in _MISSING_TYPES or value != value


def _character(values: Sequence[Any], place: Place) -> Node:
    if strings.fault(values):
        for position, value in enumerate(values):
            if isinstance(value, str) and (what := strings.fault((value,))):
                refuse(f"R has no counterpart of {what}", place(position), "remove it, or pass the text as bytes")
    return nodes.texts(values)


def _logical(values: Sequence[Any], place: Place) -> Node:
    return nodes.packed(codes.LOGICAL, "i", [codes.NA_INTEGER if missing(value) else bool(value) for value in values])


def _integer(values: Sequence[Any], place: Place) -> Node:
    plain = [None if missing(value) else int(value) for value in values]
    present = [value for value in plain if value is not None]
    if not present or (min(present) > codes.NA_INTEGER and max(present) < 2**31):
        return nodes.packed(codes.INTEGER, "i", [codes.NA_INTEGER if value is None else value for value in plain])
    for position, value in enumerate(plain):
        if value is not None and abs(value) > codes.EXACT:
            refuse_inexact(value, place(position))
    return _na_doubles([None if value is None else float(value) for value in plain])


def _double(values: Sequence[Any], place: Place) -> Node:
    plain = [None if missing(value) else value for value in values]
    for position, value in enumerate(plain):
        if isinstance(value, int) and abs(value) > codes.EXACT:
            refuse_inexact(value, place(position))
    return _na_doubles([None if value is None else float(value) for value in plain])


def _complex(values: Sequence[Any], place: Place) -> Node:
    parts = [part for value in values for part in ((None, None) if missing(value) else (value.real, value.imag))]
    doubled = _na_doubles([None if part is None else float(part) for part in parts])
    return Node(sexp=codes.COMPLEX, length=len(values), body=doubled.body)


def _date(values: Sequence[Any], place: Place) -> Node:
    return _na_doubles([None if missing(value) else times.days(value) for value in values], *nodes.date())


def _datetime(values: Sequence[Any], place: Place) -> Node:
    zones: dict[Any, int] = {}
    for position, value in enumerate(values):
        if not missing(value):
            zones.setdefault(value.tzinfo, position)
    names = {zone_name(zone, place(position)) for zone, position in zones.items()}
    if len(names) > 1:
        shown = ", ".join(sorted(str(name) for name in names))
        refuse(f"times of several zones ({shown}); a vector has one", place(max(zones.values())), "convert to one zone")
    zone = names.pop() if names else None
    return _na_doubles([None if missing(value) else times.seconds(value) for value in values], *nodes.posixct(zone))


def _timedelta(values: Sequence[Any], place: Place) -> Node:
    seconds = [None if missing(value) else times.duration_s(value) for value in values]
    return _na_doubles(seconds, *nodes.difftime("secs"))


_VECTORS: Final[dict[str, Callable[[Sequence[Any], Place], Node]]] = {
    "character": _character,
    "logical": _logical,
    "integer": _integer,
    "double": _double,
    "complex": _complex,
    "date": _date,
    "datetime": _datetime,
    "timedelta": _timedelta,
}


def zone_name(zone: Any, path: str) -> str | None:
    """R's name of a zone; None for times without one. Errors: RConversionError if R has no name for it."""
    if zone is None:
        return None
    name = times.zone_name(zone)
    if name is None:
        refuse(f"R has no name for the time zone {zone}", path, "convert to a named zone, e.g. 'UTC'")
    return name


def refuse_inexact(value: int, path: str) -> None:
    """Integers that R would round."""
    refuse(f"{value} is beyond ±2**53, where R's numbers are no longer exact", path, "pass float(…) or str(…)")


def _na_doubles(values: Sequence[float | None], *attributes: tuple[str, Node]) -> Node:
    """Doubles, NA where there is None; packing NA as a float would lose what makes it NA on some processors."""

    def body() -> bytes:
        import struct

        return b"".join(codes.NA_REAL if value is None else struct.pack(">d", value) for value in values)

    return Node(sexp=codes.DOUBLE, length=len(values), body=body, attributes=tuple(attributes))
