"""NumPy's arrays and scalars become R vectors, matrices and arrays.

Called by: describing.py; frames.py for the columns of frames.   Calls: scans.py for object arrays, nodes, times.
NumPy is imported by whoever made the array, never at import of this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cloudexec.r.rds import codes, nodes, scans
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.nodes import Attributes, Node

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_UNITS_S = {"D": 86_400, "W": 604_800, "h": 3600, "m": 60, "s": 1}
_PER_S = {"ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}


def array(values: Array, path: str) -> Node:
    """An array: R's order, with `dim` unless it has one dimension. Errors: RConversionError."""
    if type(values).__name__ == "MaskedArray":
        refuse(
            "R has no counterpart of a masked array", path, "pass .filled(…), or a pandas Series with missing values"
        )
    if values.ndim == 0:
        values = values.reshape(1)  # a scalar of R's has length 1
    node = vector(values, path, missing=None, nan_is_na=False)
    if values.ndim == 1:
        return node
    if max(values.shape) >= codes.SHORTEST_LONG_VECTOR:
        refuse(f"a dimension of {max(values.shape)} is beyond R's", path)
    dim = ("dim", nodes.integers(*values.shape))
    return Node(sexp=node.sexp, length=node.length, body=node.body, attributes=(*node.attributes, dim))


def vector(values: Array, path: str, *, missing: Array | None, nan_is_na: bool) -> Node:
    """The elements in R's order. missing: a mask of the elements that are NA. nan_is_na: what pandas means by NaN."""
    describe = _KINDS.get(values.dtype.kind)
    if describe is None:
        fields = "pass a DataFrame, or one array for each field" if values.dtype.names else None
        refuse(f"R has no counterpart of the dtype {values.dtype}", path, fields)
    return describe(values, path, missing, nan_is_na)


def _flat(values: Array) -> Array:
    return values.ravel(order="F")


def _numbers(sexp: int, dtype: str, na: Any, values: Array, missing: Array | None, *attributes: Any) -> Node:
    def body() -> Any:
        out = _flat(values).astype(dtype)
        if missing is not None:
            out.view(">u8" if na == codes.NA_REAL_BITS else dtype)[_flat(missing)] = na
        return out.data.cast("B") if out.size else b""

    return Node(sexp=sexp, length=values.size, body=body, attributes=tuple(attributes))


def _logical(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    return _numbers(codes.LOGICAL, ">i4", codes.NA_INTEGER, values, missing)


def _integers(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    if _fits_r(values):
        return _numbers(codes.INTEGER, ">i4", codes.NA_INTEGER, values, missing)
    lowest, highest = _range(values)
    for value in (lowest, highest):
        if abs(value) > codes.EXACT:
            scans.refuse_inexact(value, path)
    return _numbers(codes.DOUBLE, ">f8", codes.NA_REAL_BITS, values, missing)


def _fits_r(values: Array) -> bool:
    """Whether R's 32-bit integers hold all values; its lowest one means NA."""
    if values.dtype.itemsize < 4 or not values.size:
        return True
    lowest, highest = _range(values)
    return bool(lowest > codes.NA_INTEGER and highest < 2**31)


def _range(values: Array) -> tuple[int, int]:
    found: tuple[int, int] = scans.remembered(values, ("range",), lambda: (int(values.min()), int(values.max())))
    return found


def _doubles(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    if values.dtype.itemsize > 8:
        refuse(f"R's doubles are shorter than {values.dtype}", path, "pass .astype(float)")

    def body() -> Any:
        import numpy

        flat = _flat(values)
        out = flat.astype(">f8")
        absent = None if missing is None else _flat(missing)
        if nan_is_na:
            absent = numpy.isnan(flat) if absent is None else absent | numpy.isnan(flat)
        if absent is not None and absent.any():
            out.view(">u8")[absent] = codes.NA_REAL_BITS
        return out.data.cast("B") if out.size else b""

    return Node(sexp=codes.DOUBLE, length=values.size, body=body)


def _complexes(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    if values.dtype.itemsize > 16:
        refuse(f"R's complex numbers are shorter than {values.dtype}", path, "pass .astype(complex)")

    def body() -> Any:
        import numpy

        out = _flat(values).astype(">c16")
        if nan_is_na:  # both halves of NA_complex_ are NA
            out.view(">u8").reshape(-1, 2)[numpy.isnan(out)] = codes.NA_REAL_BITS
        return out.data.cast("B") if out.size else b""

    return Node(sexp=codes.COMPLEX, length=values.size, body=body)


def _text(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    return _objects(values.astype(object), path, missing, nan_is_na)


def _objects(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    """An object array; what its elements are is found once, and remembered."""
    if not values.size:
        return nodes.texts(())

    def described() -> Node:
        flat = _flat(values).tolist()
        return scans.vector(flat, scans.family(flat, place), place)

    def place(position: int) -> str:
        index = position if values.ndim == 1 else _index(position, values.shape)
        return f"{path}[{index}]"

    if not scans.is_checking():
        return described()
    # A body would keep the elements alive; a check needs none.
    node: Node = scans.remembered(values, ("objects",), lambda: replace(described(), body=None))
    return node


def _index(position: int, shape: tuple[int, ...]) -> str:
    """Where an element stands, from its number in R's order."""
    places = []
    for size in shape:
        position, place = divmod(position, size)
        places.append(str(place))
    return ", ".join(places)


def times(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    """Dates if the unit is a day or longer, otherwise times without a zone."""
    import numpy

    unit = numpy.datetime_data(values.dtype)[0]
    if unit in ("generic", "D", "W", "M", "Y"):
        return _since(values, "datetime64[D]", 1, nodes.date())
    return instants(values, nodes.posixct(None))


def instants(values: Array, attributes: Attributes) -> Node:
    """Times in UTC, of a zone that the attributes tell."""
    return _in_seconds(values, "datetime64", attributes)


def _durations(values: Array, path: str, missing: Array | None, nan_is_na: bool) -> Node:
    import numpy

    unit = numpy.datetime_data(values.dtype)[0]
    if unit in ("M", "Y"):
        refuse(f"a duration in {values.dtype} has no fixed length", path, "pass days")
    if unit in ("generic", "D", "W"):
        return _since(values, "timedelta64[D]", 1, nodes.difftime("days"))
    return _in_seconds(values, "timedelta64", nodes.difftime("secs"))


def _in_seconds(values: Array, family: str, attributes: Attributes) -> Node:
    """As doubles of seconds, from any unit of an hour or less."""
    import numpy

    unit, step = numpy.datetime_data(values.dtype)
    if unit in _UNITS_S:
        return _since(values, f"{family}[s]", 1, attributes)
    if step != 1:
        return _since(values, f"{family}[{unit}]", _PER_S[unit], attributes)
    return _since(values, None, _PER_S[unit], attributes)


def _since(values: Array, dtype: str | None, per_unit: int, attributes: Attributes) -> Node:
    """Counts of a unit as doubles, divided; NaT is NA."""

    def body() -> Any:
        import numpy

        flat = _flat(values)
        if dtype is not None:
            flat = flat.astype(dtype)
        counts = flat.view(numpy.int64) if flat.dtype.isnative else flat.astype(flat.dtype.newbyteorder("=")).view("i8")
        out = _divided(counts, per_unit).astype(">f8")
        absent = numpy.isnat(flat)
        if absent.any():
            out.view(">u8")[absent] = codes.NA_REAL_BITS
        return out.data.cast("B") if out.size else b""

    return Node(sexp=codes.DOUBLE, length=values.size, body=body, attributes=attributes)


def _divided(counts: Array, per_unit: int) -> Array:
    """The doubles next to the quotients: a count beyond 2**53 is cut into microseconds and a rest first."""
    if per_unit <= 10**6:
        return counts / per_unit if per_unit > 1 else counts.astype("f8")
    cut = per_unit // 10**6
    whole = counts // cut
    rest = counts - whole * cut
    seconds = whole / 10**6
    return seconds + rest / per_unit if rest.any() else seconds


_KINDS: dict[str, Callable[[Any, str, Any, bool], Node]] = {
    "b": _logical,
    "i": _integers,
    "u": _integers,
    "f": _doubles,
    "c": _complexes,
    "U": _text,
    "O": _objects,
    "M": times,
    "m": _durations,
}
