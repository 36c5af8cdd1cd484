"""A Python value becomes nodes, or is refused with its path. Nothing is encoded here.

Called by: rds.dumps, rds.check.   Calls: nodes; scans.py for lists of text; arrays.py, frames.py for what those hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any, Final

from cloudexec.r.rds import arrays, codes, frames, nodes, scans, strings
from cloudexec.r.rds.faults import refuse, refuse_type
from cloudexec.r.rds.libraries import loaded
from cloudexec.r.rds.nodes import Node
from cloudexec.r.robject import RObject


def describe(value: Any, path: str, depth: int = 0) -> Node:
    """The R object that a value becomes. Errors: RConversionError."""
    exact = _EXACT.get(type(value))
    if exact is not None:
        return exact(value, path, depth)
    if type(value).__module__.partition(".")[0] == "pandas" or _in_family(value, "pandas", "DataFrame", "Series"):
        return _pandas(value, path)
    if _in_family(value, "numpy", "ndarray"):
        return arrays.array(value, path)
    if _in_family(value, "numpy", "generic"):
        return arrays.array(loaded("numpy").asarray(value), path)
    if isinstance(value, Enum):
        refuse_type(value, path)
    for base, make in _EXACT.items():
        if isinstance(value, base):
            return make(value, path, depth)
    return refuse_type(value, path)


def _in_family(value: Any, module: str, *names: str) -> bool:
    """Whether a value is of a class of a library, or of a subclass; without the library nothing is."""
    library = loaded(module)
    return library is not None and any(isinstance(value, getattr(library, name, ())) for name in names)


def _pandas(value: Any, path: str) -> Node:
    pandas = loaded("pandas")
    if isinstance(value, pandas.DataFrame):
        return frames.frame(value, path)
    if isinstance(value, pandas.Series):
        return frames.series(value, path)
    if isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray)):
        return frames.extension(value, path)
    if value is pandas.NaT:
        return scans.vector([value], "datetime", lambda _: path)
    if value is pandas.NA:
        return scans.vector([value], "logical", lambda _: path)
    if isinstance(value, datetime):  # a Timestamp
        return _one("datetime")(value, path, 0)
    if isinstance(value, timedelta):
        return _one("timedelta")(value, path, 0)
    return refuse_type(value, path)


def _null(value: None, path: str, depth: int) -> Node:
    return nodes.NULL


def _logical(value: bool, path: str, depth: int) -> Node:
    return nodes.logical(value)


def _double(value: float, path: str, depth: int) -> Node:
    return nodes.doubles(value)


def _one(family: str) -> Callable[[Any, str, int], Node]:
    """A vector of length 1."""
    return lambda value, path, depth: scans.vector((value,), family, lambda _: path)


def _complex(value: complex, path: str, depth: int) -> Node:
    parts = nodes.doubles(value.real, value.imag)
    return Node(sexp=codes.COMPLEX, length=1, body=parts.body)


def _raw(value: Any, path: str, depth: int) -> Node:
    view = memoryview(value)
    return nodes.raw(view if view.c_contiguous else view.tobytes())


def _list(value: Any, path: str, depth: int) -> Node:
    """A list; one of nothing but text is a character vector."""
    types = set(map(type, value))
    if types and all(issubclass(kind, str) and not issubclass(kind, Enum) for kind in types):
        return scans.vector(value, "character", lambda position: f"{path}[{position}]")
    _check_depth(path, depth)
    quick = _list_of_numbers(value, types)
    if quick is not None:
        return quick
    return nodes.listed([describe(item, f"{path}[{position}]", depth + 1) for position, item in enumerate(value)])


def _list_of_numbers(value: Any, types: set[type]) -> Node | None:
    """A long list of nothing but floats, without a node for each."""
    if types != {float}:
        return None
    head = (codes.DOUBLE, 1)
    words = [word for item in value for word in (*head, item)]

    def body() -> bytes:
        import struct

        return struct.pack(">" + "IId" * len(value), *words)

    return Node(sexp=codes.LIST, length=len(value), body=body)


def _dict(value: Mapping[Any, Any], path: str, depth: int) -> Node:
    """A list with names."""
    for key in value:
        if not isinstance(key, str) or isinstance(key, Enum):
            refuse(f"the key {key!r} is no text; names of a list are text in R", path, "pass {str(key): …}")
    what = strings.fault(tuple(value))
    if what:
        refuse(f"a key is {what}, which R does not have", path)
    _check_depth(path, depth)
    items = [describe(item, f"{path}[{key!r}]", depth + 1) for key, item in value.items()]
    return nodes.listed(items, nodes.named(list(value)))


def _check_depth(path: str, depth: int) -> None:
    if depth >= codes.DEEPEST:
        what = f"lists are nested more than {codes.DEEPEST} deep, or one contains itself"
        refuse(what, path if len(path) < 100 else path[:100] + "…")


def _opaque(value: RObject, path: str, depth: int) -> Node:
    """An object of R's own, wrapped: its stream cannot be spliced into ours, whose symbols have other numbers."""
    return nodes.raw(
        value.data,
        nodes.classed(codes.OPAQUE_CLASS),
        ("r_class", nodes.texts(value.r_class)),
        ("r_size", nodes.doubles(value.r_size)),
        ("r_head", nodes.texts((value.head,))),
        ("r_session", nodes.texts((value.session,))),
    )


_EXACT: Final[dict[type, Callable[[Any, str, int], Node]]] = {
    type(None): _null,
    bool: _logical,
    int: _one("integer"),
    float: _double,
    complex: _complex,
    str: _one("character"),
    bytes: _raw,
    bytearray: _raw,
    memoryview: _raw,
    datetime: _one("datetime"),  # before date, whose subclass it is
    date: _one("date"),
    timedelta: _one("timedelta"),
    list: _list,
    tuple: _list,
    dict: _dict,
    RObject: _opaque,
}
