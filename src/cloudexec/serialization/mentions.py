"""Which modules a pickle, or code inside it, will import when it is read and run.

Called by: shipping.py.   Calls: pickletools and dis, imported on first need.
A pickle names what it imports in opcodes. Searching its bytes for a few names takes less than a microsecond;
only if one is found do the opcodes tell whether it is a module's name or just a word like any other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any, Final

_EXACT_UP_TO_BYTES: Final = 1 << 16  # reading opcodes takes 1 µs each
_STRINGS: Final = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_FROM_MEMO: Final = frozenset({"BINGET", "LONG_BINGET"})
_STACK_GLOBAL: Final = 0x93
_IMPORTS_BY_CALL: Final = frozenset({"import_module", "__import__"})


def may_import(stream: bytes) -> bool:
    """Whether a pickle imports anything at all, as far as one glance can tell."""
    return _STACK_GLOBAL in stream


def mentioned(stream: bytes, names: Iterable[str]) -> frozenset[str]:
    """Those of `names`, top-level modules whose names occur in the pickle, that reading it imports.

    In a long pickle, occurring as a whole string is enough.
    """
    if len(stream) > _EXACT_UP_TO_BYTES:
        return frozenset(name for name in names if _occurs(stream, name.encode()))
    imported = {name.partition(".")[0] for name in modules_in(stream)}
    return frozenset(name for name in names if name in imported)


def _occurs(stream: bytes, name: bytes) -> bool:
    """Whether a string of the pickle is this name, or a dotted one that begins with it."""
    if b"\x8c" + bytes((len(name),)) + name in stream:
        return True
    at = stream.find(name + b".")
    while at >= 0:
        if at >= 2 and stream[at - 2] == 0x8C:
            return True
        at = stream.find(name + b".", at + 1)
    return False


def modules_in(stream: bytes) -> set[str]:
    """The modules, by their dotted names, that reading a pickle imports."""
    from pickletools import genops

    found: set[str] = set()
    memo: list[Any] = []
    argument: Any
    before: Any = None  # the two topmost values, if they are strings or the one function that imports
    top: Any = None
    for opcode, argument, _position in genops(stream):
        name = opcode.name
        if name in _STRINGS:
            before, top = top, argument
        elif name in _FROM_MEMO:
            before, top = top, memo[argument]
        elif name == "MEMOIZE":
            memo.append(top)
        elif name == "STACK_GLOBAL":
            if isinstance(before, str):
                found.add(before)
            before, top = None, (_IMPORTER if top == "subimport" else None)
        else:
            if name == "TUPLE1" and before is _IMPORTER and isinstance(top, str):
                found.add(top)
            before, top = None, None
    return found


_IMPORTER: Final = object()  # stands for cloudpickle's `subimport`, whose argument is a module's name


def imported_by(codes: Iterable[CodeType]) -> set[str]:
    """The top-level modules that code imports by absolute names when it runs, inner functions included."""
    return {name for code in codes for name in _imported_by(code) if name}


def imports_relatively(codes: Iterable[CodeType]) -> bool:
    """Whether code imports anything by a name that begins with a dot. The package that this starts from stands among
    the function's globals, so the pickle mentions it as a mere string."""
    return any("" in _imported_by(code) for code in codes)


@functools.lru_cache(maxsize=512)
def _imported_by(code: CodeType) -> frozenset[str]:
    """Top-level names; an empty one for a relative import."""
    return frozenset(name.partition(".")[0] for name in _imports(code))


def _imports(code: CodeType) -> Iterator[str]:
    import dis

    level: Any = 0
    values: list[Any] = []
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            level = values[-2] if len(values) >= 2 else 0  # under the list of names lies how many dots there are
            yield "" if level else step.argval
        if step.opname != "EXTENDED_ARG":
            values.append(step.argval)
    if not _IMPORTS_BY_CALL.isdisjoint(code.co_names):
        yield from (const for const in code.co_consts if isinstance(const, str) and _is_dotted(const))
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _imports(const)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
