"""The bytes of a stream become items: R objects as they stand there, numbers still in their bytes.

Called by: rds.loads.   Calls: codes, strings, compact.
Everything is read, whatever it is, and nothing is evaluated. Errors are ValueErrors; no length is believed before the
bytes are seen to be there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.r.rds import codes, compact, strings

_WORD = struct.Struct(">I")
_LEAST_ITEM_BYTES: Final = 4
_LEAST_STRING_BYTES: Final = 8
_DEEPEST: Final = codes.DEEPEST + 10  # attributes of the innermost list


@dataclass(slots=True)
class Item:
    """One R object. values: bytes of numbers, strings of a character vector, items of a list, the name of a symbol."""

    sexp: int
    length: int = 0
    values: Any = None
    attributes: dict[str, Item] = field(default_factory=dict)

    def texts(self, name: str) -> list[str | None] | None:
        """An attribute that is a character vector; None without it."""
        found = self.attributes.get(name)
        if found is None or found.sexp == codes.NULL:
            return None
        if found.sexp != codes.CHARACTER:
            raise ValueError(f"the attribute {name!r} is no character vector")
        values: list[str | None] = found.values
        return values

    @property
    def classes(self) -> tuple[str, ...]:
        """What `oldClass(x)` says."""
        return tuple(name for name in self.texts("class") or () if name is not None)


NULL: Final = Item(codes.NULL)


def parsed(data: memoryview) -> Item:
    """The object in a stream. Errors: ValueError."""
    stream = _Stream(data)
    stream.read_header()
    item = stream.read(0)
    if stream.at != len(data):
        raise ValueError(f"{len(data) - stream.at} bytes stand behind the object")
    return item


class _Stream:
    """A position in the bytes, and the objects that later ones refer to by number."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        self._referable: list[Item] = []

    # Words and bytes.

    def word(self) -> int:
        """Four bytes."""
        if self.at + 4 > len(self.data):
            raise ValueError("the data ends early")
        (value,) = _WORD.unpack_from(self.data, self.at)
        self.at += 4
        return int(value)

    def take(self, size: int) -> memoryview:
        """So many bytes, without copying them."""
        if size > len(self.data) - self.at:
            raise ValueError(f"{size} bytes are announced, {len(self.data) - self.at} are there")
        taken = self.data[self.at : self.at + size]
        self.at += size
        return taken

    def count(self, least_bytes: int) -> int:
        """A length whose elements take at least so many bytes each."""
        value = self.word()
        if value == 0xFFFFFFFF:
            value = self.word() << 32 | self.word()
        if value * least_bytes > len(self.data) - self.at:
            raise ValueError(f"{value} elements are announced, {len(self.data) - self.at} bytes are there")
        return value

    def read_header(self) -> None:
        """Format and version."""
        if bytes(self.take(2)) != b"X\n":
            raise ValueError("it does not begin like an RDS stream that is not compressed")
        version = self.word()
        self.take(8)  # R versions: the writer's, and the oldest that can read it
        if version not in (2, 3):
            raise ValueError(f"RDS version {version} is not known")
        if version == 3:
            self.take(self.word())  # the writer's encoding

    # Objects.

    def read(self, depth: int) -> Item:
        """The object that begins here."""
        if depth > _DEEPEST:
            raise ValueError("objects are nested too deep")
        flags = self.word()
        sexp = flags & 0xFF
        reader = _READERS.get(sexp)
        if reader is None:
            if sexp == codes.NULL:
                return NULL
            if sexp in codes.SINGLETONS:
                return Item(sexp)
            raise ValueError(f"{codes.TYPE_NAMES.get(sexp, f'type {sexp}')} cannot be read")
        item = reader(self, sexp, flags, depth)
        if flags & codes.HAS_ATTRIBUTES and sexp not in _WITHOUT_ATTRIBUTES:
            item.attributes = self.attributes(depth)
        return item

    def attributes(self, depth: int) -> dict[str, Item]:
        """A pairlist with tags."""
        found: dict[str, Item] = {}
        while True:
            flags = self.word()
            if flags == codes.NULL:
                return found
            if flags & 0xFF != codes.PAIRLIST or not flags & codes.HAS_TAG:
                raise ValueError("attributes are no pairlist with names")
            tag = self.read(depth + 1)
            if tag.sexp != codes.SYMBOL:
                raise ValueError("the name of an attribute is no symbol")
            found[tag.values] = self.read(depth + 1)

    def _numbers(self, sexp: int, flags: int, depth: int) -> Item:
        size = codes.ITEM_BYTES[sexp]
        length = self.count(size)
        return Item(sexp, length, self.take(length * size))

    def _texts(self, sexp: int, flags: int, depth: int) -> Item:
        length = self.count(_LEAST_STRING_BYTES)
        values, self.at = strings.decoded(self.data, self.at, length)
        return Item(sexp, length, values)

    def _list(self, sexp: int, flags: int, depth: int) -> Item:
        length = self.count(_LEAST_ITEM_BYTES)
        return Item(sexp, length, [self.read(depth + 1) for _ in range(length)])

    def _symbol(self, sexp: int, flags: int, depth: int) -> Item:
        (name,), self.at = strings.decoded(self.data, self.at, 1)
        return self._remember(Item(sexp, values=name or "NA"))

    def _reference(self, sexp: int, flags: int, depth: int) -> Item:
        number = flags >> 8 or self.word()
        if not 0 < number <= len(self._referable):
            raise ValueError(f"it refers to object {number}, {len(self._referable)} were read")
        return self._referable[number - 1]

    def _pairs(self, sexp: int, flags: int, depth: int) -> Item:
        """A pairlist, a call, a function or a promise: their elements hang one behind the other."""
        first = Item(sexp)
        while True:
            if flags & codes.HAS_ATTRIBUTES:
                self.read(depth + 1)
            if flags & codes.HAS_TAG:
                self.read(depth + 1)
            self.read(depth + 1)
            (flags,) = _WORD.unpack(self.take(4))
            if flags & 0xFF not in _PAIRS:
                self.at -= 4
                self.read(depth + 1)
                return first

    def _environment(self, sexp: int, flags: int, depth: int) -> Item:
        self.word()  # whether it is locked
        item = self._remember(Item(sexp))
        for _ in ("enclosing", "frame", "hash table", "attributes"):
            self.read(depth + 1)
        return item

    def _named(self, sexp: int, flags: int, depth: int) -> Item:
        """A package or a namespace, by name and version."""
        self.word()
        _, self.at = strings.decoded(self.data, self.at, self.count(_LEAST_STRING_BYTES))
        return self._remember(Item(sexp))

    def _primitive(self, sexp: int, flags: int, depth: int) -> Item:
        self.take(self.word())
        return Item(sexp)

    def _pointer(self, sexp: int, flags: int, depth: int) -> Item:
        item = self._remember(Item(sexp))
        self.read(depth + 1)
        self.read(depth + 1)
        return item

    def _weak(self, sexp: int, flags: int, depth: int) -> Item:
        return self._remember(Item(sexp))

    def _s4(self, sexp: int, flags: int, depth: int) -> Item:
        return Item(sexp)

    def _compact(self, sexp: int, flags: int, depth: int) -> Item:
        """A vector that is described: what kind of, its description, its attributes."""
        kind, *_ = self._elements(depth) or [NULL]
        if kind.sexp != codes.SYMBOL:
            raise ValueError("a compact vector is of no kind")
        first = self.word()
        self.at -= 4
        state = self._elements(depth) if first & 0xFF == codes.PAIRLIST else [self.read(depth + 1)]
        item = Item(*compact.expanded(kind.values, state))
        item.attributes = {**(state[0].attributes if kind.values.startswith("wrap_") else {}), **self.attributes(depth)}
        return item

    def _elements(self, depth: int) -> list[Item]:
        """Those of a pairlist, and what stands in the place of its end."""
        found: list[Item] = []
        while (flags := self.word()) != codes.NULL:
            if flags & 0xFF != codes.PAIRLIST:
                self.at -= 4
                return [*found, self.read(depth + 1)]
            if flags & codes.HAS_ATTRIBUTES:
                self.read(depth + 1)
            if flags & codes.HAS_TAG:
                self.read(depth + 1)
            found.append(self.read(depth + 1))
        return found

    def _remember(self, item: Item) -> Item:
        self._referable.append(item)
        return item


_PAIRS: Final = frozenset(
    {codes.PAIRLIST, codes.LANGUAGE, codes.CLOSURE, codes.PROMISE, codes.DOTS}
)  # their attributes come first
_WITHOUT_ATTRIBUTES: Final = _PAIRS | {  # behind them; in a reference the flag's bit is one of its number
    codes.REFERENCE,
    codes.SYMBOL,
    codes.ENVIRONMENT,
    codes.ALTREP,
    codes.PACKAGE,
    codes.NAMESPACE,
    codes.PERSISTENT,
}
_READERS: Final[dict[int, Callable[[_Stream, int, int, int], Item]]] = {
    **dict.fromkeys(codes.ITEM_BYTES, _Stream._numbers),
    codes.CHARACTER: _Stream._texts,
    codes.LIST: _Stream._list,
    codes.EXPRESSION: _Stream._list,
    codes.SYMBOL: _Stream._symbol,
    codes.REFERENCE: _Stream._reference,
    **dict.fromkeys(_PAIRS, _Stream._pairs),
    codes.ENVIRONMENT: _Stream._environment,
    **dict.fromkeys((codes.PACKAGE, codes.NAMESPACE, codes.PERSISTENT), _Stream._named),
    **dict.fromkeys((codes.SPECIAL, codes.BUILTIN), _Stream._primitive),
    codes.POINTER: _Stream._pointer,
    codes.WEAKREF: _Stream._weak,
    codes.S4: _Stream._s4,
    codes.ALTREP: _Stream._compact,
}
