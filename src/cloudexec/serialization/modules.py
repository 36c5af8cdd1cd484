"""Which modules are the user's own, where they lie, and what their sources import.

Called by: shipping.py, explaining.py.   Calls: importlib, ast.
Local:     a top-level module whose source is a file or directory outside of the standard library, of every
           site-packages, and of what `pip install --target` has filled. What `pip install -e` installs lies
           elsewhere, so it is local.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from typing import Any, Final, NamedTuple

_NEVER: Final = frozenset({"__main__", "__mp_main__", "cloudexec", "cloudpickle"})  # every worker has its own
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_MOST_SCANS: Final = 20_000


class Source(NamedTuple):
    """Where a top-level module lies: its directory (several, if a namespace package is spread out), or its file."""

    name: str
    places: tuple[str, ...]
    is_package: bool


class Import(NamedTuple):
    """A top-level module that a source file imports, and the line of the first import."""

    name: str
    line: int


def is_native(path: str) -> bool:
    """Whether a file is compiled for one platform and one version of Python."""
    return path.endswith((*EXTENSION_SUFFIXES, ".so", ".pyd", ".dylib"))


def locate(name: str, *, also_installed: bool = False) -> Source | None:
    """A top-level module's source; None if it is not local or cannot be found.

    also_installed: local or not does not matter, only the standard library stays where it is.
    """
    if name in _NEVER or name in sys.stdlib_module_names:
        return None
    places, is_package = _places_of(name)
    keep = os.path.exists if also_installed else _is_local
    kept = tuple(place for place in places if keep(place))
    return Source(name, kept, is_package) if kept else None


def can_be_found(name: str) -> bool:
    """Whether there is such a top-level module at all, as of now."""
    return name in sys.modules or name in sys.stdlib_module_names or _find(name) is not None


def _places_of(name: str) -> tuple[list[str], bool]:
    """What Python knows of a module, imported or not, and whether it is a package."""
    module: Any = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is None:
        spec = _find(name)
        if spec is None:
            return [], False
    if spec is None:  # made by hand, e.g. by an old import hook
        found, origin = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        found, origin = spec.submodule_search_locations, spec.origin if spec.has_location else None
    if found is not None:
        return [os.path.abspath(place) for place in found], True
    return ([os.path.abspath(origin)] if origin else []), False


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # somebody's import hook, or no module at all
        return None


def _is_local(place: str) -> bool:
    if not os.path.exists(place) or not _INSTALLED.isdisjoint(place.split(os.sep)):
        return False
    real = os.path.realpath(place)
    if any(path.startswith(home) for home in _library_homes() for path in (place, real)):
        return False
    return not _was_filled_by_pip(os.path.dirname(place))


@functools.cache
def _was_filled_by_pip(folder: str) -> bool:
    """Whether a folder holds what pip notes of each installation, beside the modules themselves."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(entry.name.endswith(".dist-info") and entry.is_dir() for entry in entries)
    return False


@functools.cache
def _library_homes() -> tuple[str, ...]:
    """Where the standard library and what pip installs lie."""
    import site
    import sysconfig

    paths = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths.update(site.getsitepackages())
    paths.add(site.getusersitepackages())
    homes = {os.path.join(path, "") for path in paths if path}
    return tuple(homes | {os.path.join(os.path.realpath(home), "") for home in homes})


# --- what a source file imports ---------------------------------------------------------------

_scans: dict[str, tuple[tuple[int, int], tuple[Import, ...]]] = {}


def imports_of(path: str, mtime_ns: int, size: int) -> tuple[Import, ...]:
    """The top-level modules that a source file names in imports; read once, as long as the file stays the same.

    What cannot be parsed imports nothing: a template, say, or Python 2.
    """
    known = _scans.get(path)
    if known is None or known[0] != (mtime_ns, size):
        known = _scans[path] = ((mtime_ns, size), _scan(path))
        if len(_scans) > _MOST_SCANS:
            del _scans[next(iter(_scans))]
    return known[1]


def _scan(path: str) -> tuple[Import, ...]:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    first: dict[str, int] = {}
    for name, line in _imports_in(tree):
        top = name.partition(".")[0]
        if top:
            first[top] = min(line, first.get(top, line))
    return tuple(Import(name, first[name]) for name in sorted(first))


def _imports_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute names; a relative import stays within its package, which travels whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno
        elif isinstance(node, ast.Call) and _is_import_call(node.func) and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, node.lineno


def _is_import_call(called: ast.expr) -> bool:
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in ("import_module", "__import__")


def loaded_top_levels() -> list[str]:
    """The names of all top-level modules that this process has imported."""
    return [name for name in list(sys.modules) if "." not in name]


def loaded_parts(names: Sequence[str]) -> dict[str, list[str]]:
    """The imported modules of some top-level modules, by top-level name, themselves included."""
    parts: dict[str, list[str]] = {name: [] for name in names}
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in parts:
            parts[top].append(name)
    return parts
