"""pandas' frames, series and categoricals become data frames, vectors and factors.

Called by: describing.py.   Calls: arrays.py for what NumPy holds, nodes, scans; describing.py for what lists hold.
pandas means "missing" by NaN, therefore NaN is NA here, while in bare arrays it stays NaN.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from cloudexec.r.rds import arrays, codes, nodes, scans, strings
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.nodes import Node
from cloudexec.r.robject import RObject

_COMPOSITE = (list, tuple, dict, bytes, RObject)
_COMPOSITE_NAMES = frozenset({"ndarray", "DataFrame", "Series"})
_TO_NULLABLE = {"i": "Int64", "u": "UInt64", "f": "Float64", "b": "boolean"}


def frame(value: Any, path: str) -> Node:
    """A DataFrame as `data.frame`; row names are an index of text. Errors: RConversionError."""
    names = _column_names(value, path)
    columns = [vector(column, f"{path}[{name!r}]") for name, (_, column) in zip(names, value.items(), strict=True)]
    rows = _row_names(value.index, path)
    return nodes.listed(columns, nodes.named(names), nodes.classed("data.frame"), ("row.names", rows))


def series(value: Any, path: str) -> Node:
    """A Series as a vector; names are an index of text."""
    node = vector(value, path)
    names = _labels(value.index, path)
    if names is None:
        return node
    attributes = (*node.attributes, nodes.named(names))
    return Node(sexp=node.sexp, length=node.length, body=node.body, attributes=attributes)


def extension(value: Any, path: str) -> Node:
    """An array of pandas' own, or an index, as a vector."""
    from pandas import Series

    return vector(Series(value), path)


def vector(column: Any, path: str) -> Node:
    """A Series without its index."""
    dtype = column.dtype
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        return _factor(column, path)
    if kind == "DatetimeTZDtype":
        zone = scans.zone_name(dtype.tz, path)
        unit = getattr(dtype, "unit", "ns")
        return arrays.instants(column.to_numpy(dtype=f"datetime64[{unit}]"), nodes.posixct(zone))
    if kind == "ArrowDtype" and dtype.kind in _TO_NULLABLE:
        return _nullable(column.astype(_TO_NULLABLE[dtype.kind]), path)
    if kind in ("StringDtype", "ArrowDtype"):
        return _objects(column, path)
    if kind == "SparseDtype":
        refuse("a sparse column would become a dense one", path, "pass .sparse.to_dense() if that is meant")
    if kind in ("PeriodDtype", "IntervalDtype"):
        remedy = "pass .dt.to_timestamp()" if kind == "PeriodDtype" else "pass .left and .right as columns"
        refuse(f"R has no counterpart of the dtype {dtype}", path, remedy)
    if hasattr(dtype, "numpy_dtype") and hasattr(column.array, "_mask"):
        return _nullable(column, path)
    if not isinstance(column.to_numpy().dtype, type(dtype)):
        refuse(f"R has no counterpart of the dtype {dtype}", path, "pass .astype(object), or a plain dtype")
    values = column.to_numpy()
    if values.dtype == object and scans.remembered(values, ("composite",), lambda: _is_composite(values)):
        return _list_column(values, path)
    return arrays.vector(values, path, missing=None, nan_is_na=True)


def _is_composite(values: Any) -> bool:
    """Whether there are elements that no vector of R's has."""
    kinds = set(map(type, values.tolist()))
    return any(issubclass(kind, _COMPOSITE) or kind.__name__ in _COMPOSITE_NAMES for kind in kinds)


def _list_column(values: Any, path: str) -> Node:
    """Lists, arrays, fitted models: a column that is a list."""
    from cloudexec.r.rds.describing import describe  # which calls us

    return nodes.listed([describe(value, f"{path}[{row}]", 1) for row, value in enumerate(values.tolist())])


def _nullable(column: Any, path: str) -> Node:
    """Int64, Float64, boolean and their kin: values and a mask."""
    missing = column.isna().to_numpy()
    dtype = column.dtype.numpy_dtype
    present = column.array._data if hasattr(column.array, "_data") else column.to_numpy(dtype=dtype, na_value=0)
    return arrays.vector(present, path, missing=missing if missing.any() else None, nan_is_na=False)


def _objects(column: Any, path: str) -> Node:
    """Text and whatever Arrow holds, as Python objects. A column of text is text even if all of it is missing."""
    is_text = type(column.dtype).__name__ == "StringDtype"

    def described() -> Node:
        values = _object_array(column)
        if is_text:
            return scans.vector(values.tolist(), "character", lambda position: f"{path}[{position}]")
        return arrays.vector(values, path, missing=None, nan_is_na=True)

    if not scans.is_checking():
        return described()
    arrow = getattr(column.array, "_pa_array", None)  # a new array of objects is made from it each time
    owner = _object_array(column) if arrow is None else arrow
    remember = scans.remembered if arrow is None else scans.remembered_of
    node: Node = remember(owner, ("column",), lambda: replace(described(), body=None))
    return node


def _object_array(column: Any) -> Any:
    """The elements; the column's own array where it has one, so that a check of it is remembered."""
    import numpy

    own = getattr(column.array, "_ndarray", None)
    if isinstance(own, numpy.ndarray) and own.dtype == object:
        return own
    return column.to_numpy(dtype=object)


def _factor(column: Any, path: str) -> Node:
    """A factor; its levels are text. The codes of pandas count from 0 in as few bits as will do: -1 means missing."""
    levels = column.cat.categories.tolist()
    if not all(isinstance(level, str) for level in levels):
        refuse("levels of a factor are text in R", path, "pass .cat.rename_categories(str), or .astype(…) numbers")
    _check_text(levels, path)

    def body() -> Any:
        counted = column.cat.codes.to_numpy().astype(">i4")
        counted += 1
        counted[counted == 0] = codes.NA_INTEGER
        return counted.data.cast("B") if counted.size else b""

    classes = ("ordered", "factor") if column.cat.ordered else ("factor",)
    attributes = (("levels", nodes.texts(levels)), nodes.classed(*classes))
    return Node(sexp=codes.INTEGER, length=len(column), body=body, attributes=attributes)


def _column_names(value: Any, path: str) -> list[str]:
    _check_flat(value.columns, f"{path}.columns", "the columns have several levels")
    names: list[str] = value.columns.tolist()
    if not all(isinstance(name, str) for name in names):
        refuse("column names are text in R", f"{path}.columns", "pass df.rename(columns=str)")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        refuse(f"two columns are called {twice!r}", f"{path}.columns", "rename one of them")
    _check_text(names, f"{path}.columns")
    return names


def _row_names(index: Any, path: str) -> Node:
    names = _labels(index, path)
    if names is None:  # R's own short form of 1, 2, …, n
        return nodes.integers(codes.NA_INTEGER, -len(index))
    if len(set(names)) < len(names):
        refuse("row names of R are unique, this index is not", f"{path}.index", "pass df.reset_index()")
    return nodes.texts(names)


def _labels(index: Any, path: str) -> list[str] | None:
    """The names that an index of text gives; None for one that only numbers its rows.

    Errors: RConversionError for an index that holds data, which would be lost.
    """
    place = f"{path}.index"
    _check_flat(index, place, "the index has several levels")
    if type(index).__name__ == "RangeIndex" or (index.dtype.kind in "iu" and index.name is None):
        return None
    names: list[str] = index.tolist()
    if not names and index.dtype == object:
        return None
    if not all(isinstance(name, str) for name in names):
        _refuse_index(index, place)
    _check_text(names, place)
    return names


def _refuse_index(index: Any, place: str) -> NoReturn:
    name = "" if index.name is None else f" {index.name!r}"
    what = f"the {type(index).__name__}{name} would be lost in R"
    refuse(what, place, "pass .reset_index(), with drop=True if the index is not wanted")


def _check_flat(index: Any, place: str, what: str) -> None:
    if index.nlevels > 1:
        remedy = "pass .reset_index()" if place.endswith(".index") else "join them, e.g. df.columns.map('_'.join)"
        refuse(f"{what}, R has one", place, remedy)


def _check_text(values: list[str], place: str) -> None:
    what = strings.fault(values)
    if what:
        refuse(f"R has no counterpart of {what}", place)
