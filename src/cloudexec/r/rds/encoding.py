"""Nodes become the bytes of one RDS stream.

Called by: rds.dumps.   Calls: codes, for the numbers; nodes, for types.
"""

from __future__ import annotations

import struct
from typing import Any

from cloudexec.r.rds import codes
from cloudexec.r.rds.nodes import Node

_END_OF_PAIRLIST = struct.pack(">I", codes.NULL)


def encoded(node: Node) -> bytes:
    """The whole stream, joined once."""
    stream = _Stream()
    stream.write(node)
    return b"".join(stream.parts)


class _Stream:
    """The parts so far, and the symbols that were written: R refers to a symbol by number the second time."""

    def __init__(self) -> None:
        self.parts: list[Any] = [codes.HEADER]
        self._symbols: dict[str, int] = {}

    def write(self, node: Node) -> None:
        """Append an object."""
        self.parts.append(_head(node))
        if node.sexp == codes.NULL:
            return
        if node.body is not None:
            self.parts.append(node.body())
        for item in node.items:
            self.write(item)
        if node.attributes:
            self._write_attributes(node)

    def _write_attributes(self, node: Node) -> None:
        for name, value in node.attributes:
            self.parts.append(struct.pack(">I", codes.TAGGED_PAIR))
            self.parts.append(self._symbol(name))
            self.write(value)
        self.parts.append(_END_OF_PAIRLIST)

    def _symbol(self, name: str) -> bytes:
        number = self._symbols.get(name)
        if number is not None:
            return struct.pack(">I", number << 8 | codes.REFERENCE)
        self._symbols[name] = len(self._symbols) + 1
        text = name.encode("ascii")  # attribute names are ours
        return struct.pack(">III", codes.SYMBOL, codes.ASCII_FLAGS, len(text)) + text


def _head(node: Node) -> bytes:
    """Type, flags and length."""
    if node.sexp == codes.NULL:
        return struct.pack(">I", codes.NULL)
    flags = node.sexp
    if node.attributes:
        flags |= codes.HAS_ATTRIBUTES
        if any(name == "class" for name, _ in node.attributes):
            flags |= codes.IS_OBJECT  # without it R dispatches no method
    if node.length < codes.SHORTEST_LONG_VECTOR:
        return struct.pack(">II", flags, node.length)
    return struct.pack(">IiII", flags, -1, node.length >> 32, node.length & 0xFFFFFFFF)
