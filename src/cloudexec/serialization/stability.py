"""May a function's pickle be used again, and may its unpickled copy?

Called by: functions.py.
A function that is pickled by value takes along what it refers to: globals, closure, defaults. Its pickle may be
used again only while all of that is the same; that can be checked in a microsecond if all of it is immutable
(numbers, strings, modules, importable things, other such functions), and not at all otherwise. Its unpickled
copy may be used for several calls only if, besides, no call can leave anything behind in it.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from cloudexec.serialization.pickling import pickles_modules_by_value

_ATOMS: Final = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range}
)
_LEAVES_TRACES: Final = frozenset(
    {"globals", "locals", "vars", "exec", "eval", "setattr", "delattr", "inspect", "gc", "sys"}
    | {"__dict__", "__globals__", "__closure__", "__defaults__", "__kwdefaults__", "__setattr__", "__code__"}
    | {"__annotations__", "__type_params__"}
)
_ABSENT: Final = object()


class Watch:
    """Notes all that a function by value depends on. Does not hold the function itself, only what it refers to."""

    __slots__ = ("_bindings", "_cells", "_codes", "_root", "_seen", "stateless")

    def __init__(self) -> None:
        self.stateless = True
        self._root: tuple[CodeType, Any, Any]
        self._codes: list[tuple[FunctionType, CodeType, Any, Any]] = []
        self._cells: list[tuple[Any, Any]] = []
        self._bindings: list[tuple[dict[str, Any], str, Any]] = []
        self._seen: set[int] = set()

    def holds(self, function: Any) -> bool:
        """Whether everything is still as it was: then the pickle of `function` would come out the same."""
        code, defaults, kwdefaults = self._root
        return (
            function.__code__ is code
            and function.__defaults__ is defaults
            and function.__kwdefaults__ is kwdefaults
            and not function.__dict__
            and all(d.get(name, _ABSENT) is value for d, name, value in self._bindings)
            and all(_contents(cell) is value for cell, value in self._cells)
            and all(
                f.__code__ is code and f.__defaults__ is defaults and f.__kwdefaults__ is kw and not f.__dict__
                for f, code, defaults, kw in self._codes
            )
        )

    def add(self, function: FunctionType) -> bool:
        """Note a function by value and all that it needs; False if that includes anything mutable."""
        if id(function) in self._seen:
            return True
        is_root = not self._seen
        self._seen.add(id(function))
        code, kwdefaults = function.__code__, function.__kwdefaults__
        if function.__dict__ or kwdefaults or not all(self._fixed(d) for d in function.__defaults__ or ()):
            return False
        if is_root:
            self._root = (code, function.__defaults__, kwdefaults)
        else:
            self._codes.append((function, code, function.__defaults__, kwdefaults))
        self.stateless = self.stateless and not _leaves_traces(code)
        return self._add_cells(function) and self._add_globals(function)

    def _add_cells(self, function: FunctionType) -> bool:
        for cell in function.__closure__ or ():
            value = _contents(cell)
            if value is _ABSENT or not self._fixed(value):
                return False
            self._cells.append((cell, value))
        return True

    def _add_globals(self, function: FunctionType) -> bool:
        namespace = function.__globals__
        for name in global_names(function.__code__):
            value = namespace.get(name, _ABSENT)
            if value is not _ABSENT and not self._fixed(value):
                return False
            self._bindings.append((namespace, name, value))
        return True

    def _fixed(self, value: object) -> bool:
        kind = type(value)
        if kind in _ATOMS:
            return True
        if kind is BuiltinFunctionType:  # its module, or what a method such as `[].append` is bound to
            return self._fixed(value.__self__)  # type: ignore[attr-defined]  # it is a built-in
        if kind is ModuleType:
            return sys.modules.get(value.__name__) is value  # type: ignore[attr-defined]  # it is a module
        if is_importable(value):
            return True
        if kind is tuple:
            return all(self._fixed(item) for item in value)  # type: ignore[attr-defined]  # it is a tuple
        return isinstance(value, FunctionType) and self.add(value)


class Named:
    """Stands for a Watch over a function that is pickled by its name: nothing but the name's meaning can change."""

    def holds(self, function: object) -> bool:
        """Whether the name still means the function."""
        return is_importable(function)


def watch(function: object) -> Watch | None:
    """A watch over a function that is pickled by value; None if its pickle must be made anew each time."""
    if not isinstance(function, FunctionType) or pickles_modules_by_value():
        return None
    notes = Watch()
    return notes if notes.add(function) else None


def is_bare_builtin(value: object) -> bool:
    """Whether it is a built-in function, rather than a method of some object."""
    return isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType)


def is_importable(value: object) -> bool:
    """Whether pickle would name a function or class by its module, which is not `__main__`."""
    if not isinstance(value, (FunctionType, type)):
        return False
    module_name = getattr(value, "__module__", None)
    if module_name in (None, "__main__", "__mp_main__"):
        return False
    found: Any = sys.modules.get(module_name)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _contents(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _codes(code: CodeType) -> list[CodeType]:
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [code, *(found for each in inner for found in _codes(each))]


def global_names(code: CodeType) -> set[str]:
    """Every name that the code or its inner functions may look up among the globals."""
    return {name for each in _codes(code) for name in each.co_names}


def _leaves_traces(code: CodeType) -> bool:
    """Whether running the code could change the function itself, its globals or its closure."""
    from opcode import opmap

    writes = {opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")}
    to_cell = {opmap[name] for name in ("STORE_DEREF", "DELETE_DEREF") if name in opmap}
    for each in _codes(code):
        opcodes = set(each.co_code[::2])
        if opcodes & writes or (each.co_freevars and opcodes & to_cell):
            return True
    return not _LEAVES_TRACES.isdisjoint(global_names(code))
