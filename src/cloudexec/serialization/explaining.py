"""What would travel with a call, for people to read. Packs as a submit does, and sends no call.

Called by: executors, for `explain`.   Calls: packer, shipping, pickling.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from cloudexec.errors import CloudexecError
from cloudexec.ids import BlobRef
from cloudexec.serialization.bundles import megabytes, natives_in
from cloudexec.serialization.functions import name_of
from cloudexec.serialization.packer import Packer
from cloudexec.serialization.pickling import Pickled, dumps
from cloudexec.serialization.shipping import AUTO, Need, Shipping
from cloudexec.serialization.stability import global_names, is_importable

_LARGE_CAPTURE_BYTES: Final = 1 << 20
_COLUMN: Final = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class TravellingModule:
    """A local module: its files, their bytes, the bytes of the zip file that travels once, and why it does."""

    name: str
    files: tuple[str, ...]
    n_bytes: int
    zip_bytes: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A value that a function by value takes along: where it stands (`global x`, `closure y`, `default z`), its type,
    and the bytes of its own pickle; None if it cannot be pickled."""

    where: str
    kind: str
    n_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would travel with a call; `str()` gives a table.

    how: the function goes: by name, by value, or not at all. Sizes are those of pickles, 0 where there is none.
    blob_bytes: of each part that is large enough to be stored by itself. left_out: local modules that the call needs
    and that do not travel, with the reason for each.
    """

    name: str
    how: str
    function_bytes: int
    arguments_bytes: int
    blob_bytes: tuple[int, ...] = ()
    modules: tuple[TravellingModule, ...] = ()
    left_out: Mapping[str, str]
    captured: tuple[Captured, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {line}".rstrip() for line in self._lines())])

    def _lines(self) -> Iterator[str]:
        yield f"{'function':{_COLUMN}}{self.how}{_if_any(self.function_bytes, ', ')}"
        yield f"{'arguments':{_COLUMN}}{_if_any(self.arguments_bytes) or 'cannot travel'}"
        yield from _titled("blobs", [megabytes(size) for size in self.blob_bytes])
        yield from _titled("modules", _table([_row_of(module) for module in self.modules]) or ["none travel"])
        yield from _titled("stay here", _table(list(self.left_out.items())))
        captured = [(c.where, c.kind, "?" if c.n_bytes is None else megabytes(c.n_bytes)) for c in self.captured]
        yield from _titled("captures", _table(captured))
        yield from _titled("warnings", list(self.warnings))


def _if_any(size: int, before: str = "") -> str:
    return f"{before}{megabytes(size)}" if size else ""


def _titled(title: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{'' if number else title:{_COLUMN}}{line}"


def _row_of(module: TravellingModule) -> tuple[str, ...]:
    files = f"{len(module.files)} file{'s' if len(module.files) != 1 else ''}"
    return module.name, files, f"{megabytes(module.n_bytes)}, zipped {megabytes(module.zip_bytes)}", module.why


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def explain_function(packer: Packer, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Explanation:
    """What would travel if the call were submitted. What would fail there stands among the warnings here."""
    warnings: list[str] = []
    pickled = _pickled(function, f"the function {name_of(function)}", warnings)
    arguments = _pickled((args, dict(kwargs)), "an argument", warnings)
    pickles = [each for each in (pickled, arguments) if each is not None]
    modules = _needs(packer.shipping, pickles, warnings)
    captured = _captured(function) if pickled is None or pickled.pickler else ()
    return Explanation(
        name=name_of(function),
        how=_how(function, pickled),
        function_bytes=_size(pickled) or 0,
        arguments_bytes=_size(arguments) or 0,
        blob_bytes=tuple(size for p in pickles for size in packer.blob_sizes(p, is_function=p is pickled)),
        modules=tuple(_travelling(need) for need in modules),
        left_out=_left_out(packer.shipping, pickles, modules),
        captured=captured,
        warnings=(*warnings, *_native_warnings(modules), *_capture_warnings(captured)),
    )


def _pickled(value: object, what: str, warnings: list[str]) -> Pickled | None:
    try:
        return dumps(value)
    except Exception as error:
        warnings.append(f"{what} cannot be pickled: {error}")
        return None


def _how(function: Any, pickled: Pickled | None) -> str:
    if pickled is None:
        return "cannot travel"
    if pickled.pickler:
        return f"by value (cloudpickle {pickled.pickler})"
    return f"by name ({function.__module__}.{name_of(function)})" if is_importable(function) else "by name"


def _size(pickled: Pickled | None) -> int | None:
    if pickled is None:
        return None
    return len(pickled.stream) + sum(buffer.nbytes for buffer in pickled.buffers)


# --- modules ----------------------------------------------------------------------------------


def _needs(shipping: Shipping | None, pickles: list[Pickled], warnings: list[str]) -> list[Need]:
    if shipping is None:
        return []
    try:
        return shipping.explain(pickles)
    except CloudexecError as error:
        warnings.append(str(error))
        return []


def _left_out(shipping: Shipping | None, pickles: list[Pickled], modules: list[Need]) -> dict[str, str]:
    """What "auto" would have found besides."""
    if shipping is not None and shipping.finds:
        return {}
    there = {need.snapshot.source.name for need in modules}
    needed = _needs(Shipping(AUTO, _only_named), pickles, [])
    return {need.snapshot.source.name: need.why for need in needed if need.snapshot.source.name not in there}


def _only_named(content: memoryview) -> BlobRef:
    return BlobRef(hashlib.sha256(content).digest(), content.nbytes)


def _travelling(need: Need) -> TravellingModule:
    files = need.snapshot.files
    return TravellingModule(
        name=need.snapshot.source.name,
        files=tuple(file.name for file in files),
        n_bytes=sum(file.size for file in files),
        zip_bytes=need.snapshot.module.bundle.size,
        why=need.why,
    )


def _native_warnings(modules: list[Need]) -> Iterator[str]:
    here = f"{sysconfig.get_platform()}, Python {'.'.join(map(str, sys.version_info[:2]))}"
    for need in modules:
        natives = natives_in(need.snapshot.files)
        if natives:
            more = f" and {len(natives) - 1} more" if len(natives) > 1 else ""
            yield f"{natives[0]}{more}: native code, runs where platform and Python are as here ({here})"


# --- what a function by value takes along -----------------------------------------------------


def _captured(function: Any) -> tuple[Captured, ...]:
    return tuple(_measured(where, value) for where, value in _captures(function))


def _captures(function: Any) -> Iterator[tuple[str, object]]:
    if isinstance(function, functools.partial):
        for number, value in enumerate(function.args):
            yield f"partial [{number}]", value
        for name, value in function.keywords.items():
            yield f"partial {name}", value
        yield from _captures(function.func)
    elif isinstance(function, MethodType):
        yield "self", function.__self__
    elif isinstance(function, FunctionType):
        for name in sorted(global_names(function.__code__)):
            if name in function.__globals__:
                yield f"global {name}", function.__globals__[name]
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield f"closure {name}", cell.cell_contents
            except ValueError:  # not bound yet
                continue
        for number, value in enumerate(function.__defaults__ or ()):
            yield f"default [{number}]", value
        for name, value in (function.__kwdefaults__ or {}).items():
            yield f"default {name}", value
    else:
        yield from ((f".{name}", value) for name, value in getattr(function, "__dict__", {}).items())


def _measured(where: str, value: object) -> Captured:
    try:
        size = _size(dumps(value))
    except Exception:
        size = None
    kind = f"module {value.__name__}" if isinstance(value, ModuleType) else type(value).__qualname__
    return Captured(where=where, kind=kind, n_bytes=size)


def _capture_warnings(captured: tuple[Captured, ...]) -> Iterator[str]:
    for value in captured:
        if value.n_bytes is None:
            yield f"{value.where} ({value.kind}) cannot be pickled: make it inside the function, or in an initializer"
        elif value.n_bytes >= _LARGE_CAPTURE_BYTES:
            size = megabytes(value.n_bytes)
            yield f"{value.where} ({value.kind}) adds {size} to the function: hand it over as an argument instead"
