"""Items become Python values: the policy of docs/r.md, from R's side.

Called by: rds.loads.   Calls: meanings, vectors.py (NumPy), tables.py (pandas), robject.
"""

from __future__ import annotations

from typing import Any

from cloudexec.r.rds import codes, meanings, tables, vectors
from cloudexec.r.rds.faults import refuse
from cloudexec.r.rds.libraries import numpy, pandas
from cloudexec.r.rds.parsing import Item
from cloudexec.r.robject import RObject


class Reader:
    """simplify: a vector of length 1 becomes a scalar."""

    def __init__(self, simplify: bool) -> None:
        self._simplify = simplify

    def value(self, item: Item, path: str) -> Any:
        """The Python value of an item. Errors: RConversionError; ValueError if the item contradicts itself."""
        if item.sexp == codes.NULL:
            return None
        if item.sexp == codes.LIST:
            return self._list(item, path)
        if item.sexp not in codes.VECTORS:
            refuse(f"{codes.TYPE_NAMES.get(item.sexp, f'type {item.sexp}')} is no plain data", path)
        if item.sexp == codes.RAW and item.classes == (codes.OPAQUE_CLASS,):
            return _opaque(item)
        return self._vector(item, path)

    def _list(self, item: Item, path: str) -> Any:
        if meanings.is_frame(item):
            return tables.frame(item, path, self.value)
        if item.classes not in ((), ("AsIs",)):
            meanings.refuse_class(item, path)
        if vectors.dim(item):
            refuse("a list with dimensions is no plain data", path)
        names = item.texts("names")
        if names is None or not any(names):
            return [self.value(each, f"{path}[{position}]") for position, each in enumerate(item.values)]
        if len(names) != item.length:
            raise ValueError("a list has not as many names as elements")
        if not all(names) or len(set(names)) < len(names):
            refuse(
                "a list with names for some elements only, or one name twice, is no dict", path, "name each, or none"
            )
        return {name: self.value(each, f"{path}[{name!r}]") for name, each in zip(names, item.values, strict=True)}

    def _vector(self, item: Item, path: str) -> Any:
        kind = meanings.meaning(item, path)
        dim, names = vectors.dim(item), item.texts("names")
        if names is not None and len(names) != item.length:
            raise ValueError("a vector has not as many names as elements")
        if kind == "factor":
            made = tables.factor(item, path)
            return made if names is None else pandas().Series(made, index=names)
        if dim:
            return _array(item, dim, path)
        if names is not None:
            return tables.series(item, names, path)
        if item.sexp == codes.RAW:
            return bytes(item.values)
        if item.length == 1 and self._simplify:
            return meanings.scalars(item, path)[0]
        return _flat(item, kind, path)


def _flat(item: Item, kind: str, path: str) -> Any:
    """A vector without names or dimensions."""
    if numpy() is None:
        return meanings.scalars(item, path)
    if kind == "POSIXct" and meanings.zone(item) is not None:  # NumPy has no zones
        if pandas() is None:
            return vectors.objects(meanings.scalars(item, path))
        return tables.series(item, [], path)
    return vectors.array(item, path)


def _array(item: Item, dim: tuple[int, ...], path: str) -> Any:
    """A matrix or an array; with names a DataFrame, or a Series."""
    if numpy() is None:
        refuse("a matrix comes back through NumPy, which is not installed", path, "install numpy where results arrive")
    has_names = "dimnames" in item.attributes
    if has_names and len(dim) == 1:
        names = tables.dimnames(item, dim)[0]
        return tables.series(item, names or [], path)
    if has_names and len(dim) == 2:
        return tables.matrix(item, dim, path)
    return _without_nullable(item, vectors.array(item, path)).reshape(dim, order="F")


def _without_nullable(item: Item, values: Any) -> Any:
    """Nullable arrays have one dimension: in more, integers with NA become doubles, logicals objects."""
    if isinstance(values, numpy().ndarray):
        return values
    if item.sexp == codes.INTEGER:
        return values.to_numpy(dtype="f8", na_value=numpy().nan)
    return values.to_numpy(dtype=object, na_value=None)


def _opaque(item: Item) -> RObject:
    size = item.attributes.get("r_size")
    head, session = item.texts("r_head") or [], item.texts("r_session") or []
    return RObject(
        data=bytes(item.values),
        r_class=tuple(name for name in item.texts("r_class") or () if name is not None),
        r_size=meanings.scalars(size, "r_size")[0] if size is not None and size.length else 0.0,
        head="\n".join(line for line in head if line is not None),
        session="\n".join(line for line in session if line is not None),
    )
