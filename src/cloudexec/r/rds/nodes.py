"""What will be written: R objects whose data is not encoded yet. Making a node finds every reason to refuse a value.

Called by: describing.py, scans.py, arrays.py, frames.py (make nodes), encoding.py (writes them).
Calls:     codes, strings.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cloudexec.r.rds import codes, strings

Body = Callable[[], Any]  # gives a bytes-like object


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One R object. body: its data, encoded when called. items: the elements of a list, which has no body then."""

    sexp: int
    length: int = 0
    body: Body | None = None
    items: tuple[Node, ...] = ()
    attributes: tuple[tuple[str, Node], ...] = ()

    def encoded(self) -> Any:
        """The data of a vector, without head and attributes."""
        return self.body() if self.body is not None else b""


NULL: Final = Node(sexp=codes.NULL)


def packed(sexp: int, form: str, values: Sequence[object], *attributes: tuple[str, Node]) -> Node:
    """A vector of numbers that `struct` packs; form: "i" for integer and logical vectors, "d" for double ones."""
    body = partial(struct.pack, f">{len(values)}{form}", *values)
    return Node(sexp=sexp, length=len(values), body=body, attributes=attributes)


def logical(value: bool) -> Node:
    """`TRUE` or `FALSE`."""
    return packed(codes.LOGICAL, "i", (value,))


def integers(*values: int) -> Node:
    """An integer vector."""
    return packed(codes.INTEGER, "i", values)


def doubles(*values: float) -> Node:
    """A double vector."""
    return packed(codes.DOUBLE, "d", values)


def texts(values: Sequence[object], *attributes: tuple[str, Node]) -> Node:
    """A character vector; what is no `str` becomes NA. The values are writable, see strings.fault."""
    body = partial(strings.encoded, values)
    return Node(sexp=codes.CHARACTER, length=len(values), body=body, attributes=attributes)


def raw(data: bytes | bytearray | memoryview, *attributes: tuple[str, Node]) -> Node:
    """A raw vector."""
    return Node(sexp=codes.RAW, length=memoryview(data).nbytes, body=lambda: data, attributes=attributes)


def listed(items: Sequence[Node], *attributes: tuple[str, Node]) -> Node:
    """A list."""
    return Node(sexp=codes.LIST, length=len(items), items=tuple(items), attributes=attributes)


# What classes of R say in attributes.

Attributes = tuple[tuple[str, Node], ...]


def classed(*names: str) -> tuple[str, Node]:
    """The class attribute."""
    return "class", texts(names)


def named(names: Sequence[object]) -> tuple[str, Node]:
    """The names attribute."""
    return "names", texts(names)


def date() -> Attributes:
    """Days since 1970-01-01."""
    return (classed("Date"),)


def posixct(zone: str | None) -> Attributes:
    """Seconds since 1970-01-01 UTC. zone None: without a zone, which R sees as UTC."""
    if zone is None:
        return (classed("POSIXct", "POSIXt"), ("tzone", texts(("UTC",))), (NAIVE, logical(True)))
    return (classed("POSIXct", "POSIXt"), ("tzone", texts((zone,))))


def difftime(units: str) -> Attributes:
    """A duration."""
    return (classed("difftime"), ("units", texts((units,))))


NAIVE: Final = "cloudexec_naive"  # beside tzone="UTC", which is what R's own code shall see
