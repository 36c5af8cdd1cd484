"""Items become what only pandas has: frames, series, categoricals, times with zones.

Called by: values.py.   Calls: vectors, meanings, libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from cloudexec.r.rds import codes, meanings, vectors
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.libraries import numpy, pandas
from cloudexec.r.rds.parsing import Item

Convert = Callable[[Item, str], Any]  # for the elements of list columns
_YEAR_1: Final = -719_162  # days from 1970
_YEAR_9999: Final = 2_932_896
_LONGEST_NS_US: Final = 9_200_000_000_000_000  # microseconds that int64 nanoseconds hold


def required(what: str, path: str) -> Any:
    """pandas. Errors: RConversionError without it."""
    found = pandas()
    if found is None:
        refuse(f"{what} comes back through pandas, which is not installed", path, "install pandas where results arrive")
    return found


def frame(item: Item, path: str, convert: Convert) -> Any:
    """A DataFrame; row names if they are text, because numbers of rows are no data."""
    pd = required("a data frame", path)
    names = item.texts("names") or [None] * item.length
    if len(names) != item.length:
        raise ValueError("a data frame has not as many names as columns")
    index, n_rows = _rows(item)
    columns = {}
    for position, (name, column) in enumerate(zip(names, item.values, strict=True)):
        columns[position] = _column(column, f"{path}[{name!r}]", n_rows, convert)
    made = pd.DataFrame(columns, index=index, copy=False)
    if names:
        made.columns = _index(names)
    return made


def series(item: Item, names: list[str | None], path: str) -> Any:
    """A vector with names, or without names if they are empty."""
    pd = required("a vector with names", path)
    index = _index(names) if names else None
    return pd.Series(column(item, path), index=index)


def matrix(item: Item, dim: tuple[int, ...], path: str) -> Any:
    """A matrix with row or column names."""
    pd = required("a matrix with names", path)
    n_rows, n_columns = dim
    rows, names = dimnames(item, dim)
    index = pd.RangeIndex(n_rows) if rows is None else _index(rows)
    labels = pd.RangeIndex(n_columns) if names is None else _index(names)
    values = column(item, path)
    if isinstance(values, numpy().ndarray) and values.dtype != object:
        return pd.DataFrame(values.reshape(dim, order="F"), index=index, columns=labels)
    made = pd.DataFrame({n: values[n * n_rows : (n + 1) * n_rows] for n in range(n_columns)}, index=index)
    made.columns = labels
    return made


def factor(item: Item, path: str) -> Any:
    """A Categorical."""
    pd = required("a factor", path)
    names, positions = meanings.levels(item)
    counted = numpy().frombuffer(item.values, dtype=">i4").astype("i8")
    counted[counted == codes.NA_INTEGER] = 0
    if counted.size and (counted.min() < 0 or counted.max() > len(positions)):
        raise ValueError("a code of a factor has no level")
    table = numpy().array([-1, *positions], dtype="i4")  # wide enough for every code: pandas narrows it itself
    return pd.Categorical.from_codes(
        table[counted], pd.Index(names, dtype=_text_dtype()), ordered="ordered" in item.classes
    )


def column(item: Item, path: str) -> Any:
    """A vector as pandas holds it best."""
    kind = meanings.meaning(item, path)
    if kind == "factor":
        return factor(item, path)
    if kind == "POSIXct":
        return zoned(item, path)
    values = vectors.array(item, path)
    if kind == "Date":
        return _dates(values, path)
    if kind == "difftime":
        return _resolved(values, path)
    if item.sexp == codes.CHARACTER and str(_text_dtype()) != "object":
        return pandas().array(values, dtype=_text_dtype())
    return values


def zoned(item: Item, path: str) -> Any:
    """Times with their zone; without one if they have none."""
    values = _resolved(vectors.instants(item, path), path)
    name = meanings.zone(item)
    if name is None:
        return values
    utc = pandas().DatetimeIndex(values).tz_localize("UTC")
    return utc.array if name == "UTC" else _converted(utc, name).array


def _converted(utc: Any, name: str) -> Any:
    try:
        return utc.tz_convert(name)
    except (
        Exception
    ):  # pytz and zoneinfo have a dozen ways to say that they do not know a zone: the instants stay right
        return utc


def _dates(values: Any, path: str) -> Any:
    """datetime.date objects, as pandas has no dates without a time of day; datetime64 would go back to R as POSIXct."""
    present = values[~numpy().isnat(values)].view("i8")
    if present.size and (present.min() < _YEAR_1 or present.max() > _YEAR_9999):
        refuse("a date is beyond the years 1 to 9999", path)
    return values.astype(object)


def _resolved(values: Any, path: str) -> Any:
    """In the unit that this pandas gives to times by itself; microseconds where nanoseconds do not reach."""
    pd = pandas()
    if int(pd.__version__.split(".")[0]) >= 3:
        return values
    present = values[~numpy().isnat(values)].view("i8")
    if not present.size or abs(present).max() < _LONGEST_NS_US:
        return values.astype(values.dtype.str.replace("us", "ns"))
    if int(pd.__version__.split(".")[0]) < 2:
        refuse(f"a time is beyond the range of pandas {pd.__version__}", path, "install pandas 2 or later")
    return values


def _column(item: Item, path: str, n_rows: int, convert: Convert) -> Any:
    """One column of a frame."""
    if meanings.is_frame(item) or len(vectors.dim(item)) > 1:
        refuse("a column that is a data frame or matrix itself has no place in pandas", path, "do.call(data.frame, df)")
    if item.length != n_rows:
        raise ValueError(f"a column has {item.length} rows, its data frame {n_rows}")
    if item.sexp == codes.LIST and item.classes in ((), ("AsIs",)):
        return vectors.objects([convert(value, f"{path}[{position}]") for position, value in enumerate(item.values)])
    if item.sexp not in codes.VECTORS:
        refuse(f"{codes.TYPE_NAMES.get(item.sexp, 'this column')} is no plain data", path)
    return column(item, path)


def _rows(item: Item) -> tuple[Any, int]:
    """The index, and the number of rows. Errors: ValueError."""
    pd = pandas()
    rows = item.attributes.get("row.names")
    if rows is None:
        raise ValueError("a data frame has no row names")
    if rows.sexp == codes.CHARACTER:
        return _index(rows.values), rows.length
    numbers = numpy().frombuffer(rows.values, dtype={codes.INTEGER: ">i4", codes.DOUBLE: ">f8"}[rows.sexp])
    short = len(numbers) == 2 and (numbers[0] == codes.NA_INTEGER or numbers[0] != numbers[0])
    count = abs(int(numbers[1])) if short else len(numbers)
    return pd.RangeIndex(count), count


def dimnames(item: Item, dim: tuple[int, ...]) -> list[list[str | None] | None]:
    """Names of the elements of each dimension, None where it has none. Errors: ValueError."""
    found = item.attributes["dimnames"]
    if found.sexp != codes.LIST or found.length != len(dim):
        raise ValueError("dimnames are no list of all dimensions")
    names: list[list[str | None] | None] = []
    for given, size in zip(found.values, dim, strict=True):
        if given.sexp == codes.NULL:
            names.append(None)
        elif given.sexp == codes.CHARACTER and given.length == size:
            names.append(given.values)
        else:
            raise ValueError("dimnames do not fit their dimension")
    return names


def _index(names: list[str | None]) -> Any:
    return pandas().Index(names, dtype=_text_dtype())


@cache
def _text_dtype() -> Any:
    """What this pandas makes of text: str, or object before pandas 3."""
    return pandas().Series(["a"]).dtype
