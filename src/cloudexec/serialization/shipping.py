"""Which local modules travel with a call, and in which version.

Called by: packer.py, functions.py, explaining.py.   Calls: modules, mentions, bundles, and the blob book.

    a pickle's names ----> local? ----> what their sources import ----> local? ----> ... ----> ShippedModule each
    imports in its code -> local? -^

What travels is a *snapshot*: a module's files at the moment when a call first needed it. It is taken anew only when
a part of the module has been loaded since then, for the first time from a changed file, or again
(`importlib.reload`, autoreload). So an editor that saves a file in mid-run changes nothing; a reload does.
Blobs of snapshots stay in the store until the run ends: they are few, and each call may need them again.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import CodeType
from typing import Any, Final, Literal, NamedTuple

from cloudexec.errors import SettingsError
from cloudexec.ids import BlobRef
from cloudexec.serialization.bundles import MOST_BYTES, File, files_of, imports_in, zipped
from cloudexec.serialization.functions import digest_with
from cloudexec.serialization.mentions import imported_by, imports_relatively, may_import, mentioned
from cloudexec.serialization.modules import Source, can_be_found, loaded_parts, loaded_top_levels, locate
from cloudexec.serialization.pickling import Pickled
from cloudexec.wire.messages import PackedFunction, ShippedModule

Modules = Literal["auto"] | Sequence[str | os.PathLike[str]] | None
AUTO: Final = "auto"
_OUTDATED: Final = object()  # is no module's spec
_REMEDY: Final = 'give "auto", None, or a list of module names, directories and .py files'


class Snapshot(NamedTuple):
    """A module's files as they travel. imports: top-level modules that they import, with a place for each.
    specs: the `__spec__` of each part that was loaded."""

    source: Source
    files: tuple[File, ...]
    module: ShippedModule
    imports: dict[str, str]
    specs: dict[str, object]

    def holds(self) -> bool:
        """Whether no part has been loaded again since then: each loading makes a new spec."""
        for name, spec in self.specs.items():
            module = sys.modules.get(name)
            if module is not None and getattr(module, "__spec__", None) is not spec:
                return False
        return True

    def covers(self, name: str) -> bool:
        """Whether a part that was loaded later came from a file that travels as it is."""
        origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None)
        if origin is None:  # a namespace
            return True
        try:
            status = os.stat(origin)
        except OSError:
            return False
        here = os.path.abspath(origin)
        return any((f.path, f.mtime_ns, f.size) == (here, status.st_mtime_ns, status.st_size) for f in self.files)


class Need(NamedTuple):
    """A local module that must be in place, and why."""

    snapshot: Snapshot
    why: str


class Shipping:
    """Finds and packs the modules of one executor's calls. Thread-safe.

    setting: "auto" finds them; names and paths are those that always travel, and besides them nothing does unless
    "auto" is in the list. add: keeps a blob until the run ends.
    """

    def __init__(self, setting: Modules, add: Callable[[memoryview], BlobRef], *, most_bytes: int = MOST_BYTES) -> None:
        self.finds, self._by_hand = chosen(setting)
        self._add = add
        self._most_bytes = most_bytes
        self._lock = threading.RLock()
        self._seen: tuple[int, str] = (0, "")
        self._names: tuple[tuple[bytes, str], ...] = ()  # local top-level modules that are loaded
        self._local: dict[str, bool] = {}
        self._judged: dict[str, int] = {}  # the id of the module that `_local` speaks of
        self._snapshots: dict[str, Snapshot] = {}
        self._proven: set[str] = set()
        self._answers: dict[frozenset[str], tuple[ShippedModule, ...]] = {}
        self._variants: dict[tuple[bytes, tuple[ShippedModule, ...]], PackedFunction] = {}

    def for_function(self, pickled: Pickled) -> tuple[ShippedModule, ...]:
        """What travels with a function. Errors: ModuleNotShippable, StoreFull."""
        if not self._by_hand and self._needs_none(pickled):
            return ()
        with self._lock:
            return self._answer(self._named_in(pickled).union(self._by_hand))

    def for_arguments(self, pickled: Pickled) -> tuple[ShippedModule, ...]:
        """What must travel because of arguments. Errors: ModuleNotShippable, StoreFull."""
        if self._needs_none(pickled):
            return ()
        with self._lock:
            return self._answer(self._named_in(pickled))

    def always(self) -> tuple[ShippedModule, ...]:
        """What travels with everything. Errors: ModuleNotShippable, StoreFull."""
        with self._lock:
            return self._answer(frozenset(self._by_hand))

    def knows_all(self, codes: Iterable[CodeType]) -> bool:
        """Whether all that code by value imports is there: what is not may be written before the next call."""
        return not self.finds or all(map(can_be_found, imported_by(codes)))

    def is_current(self, modules: tuple[ShippedModule, ...]) -> bool:
        """Whether these are still the versions that this process uses."""
        if self._seen != _newest_module():
            with self._lock:
                self._look()
        for module in modules:
            snapshot = self._snapshots.get(module.name)
            if snapshot is None or snapshot.module != module or not snapshot.holds():
                return False
        return True

    def joined(self, function: PackedFunction, modules: tuple[ShippedModule, ...]) -> PackedFunction:
        """The function, with what its arguments need besides."""
        if all(module in function.modules for module in modules):
            return function
        key = function.digest, modules
        variant = self._variants.get(key)
        if variant is None:
            every = {module.name: module for module in (*function.modules, *modules)}
            union = tuple(every[name] for name in sorted(every))
            variant = function._replace(digest=digest_with(function.digest, union), modules=union)
            self._variants[key] = variant
        return variant

    def needs(self, names: Iterable[str], why: str) -> list[Need]:
        """These modules, and what they import, each with the first reason; names that are not local are left out."""
        with self._lock:
            reasons = {name: "named in modules=" if name in self._by_hand else why for name in names}
            found = []
            for name in (queue := list(reasons)):
                snapshot = self._snapshot(name)
                if snapshot is None:
                    continue
                found.append(Need(snapshot, reasons[name]))
                for imported, place in snapshot.imports.items() if self.finds else ():
                    if imported not in reasons and self._is_local(imported):
                        reasons[imported] = f"{place} imports it"
                        queue.append(imported)
            return found

    def explain(self, pickles: Iterable[Pickled]) -> list[Need]:
        """What travels because of these pickles, and why. Errors: ModuleNotShippable, StoreFull."""
        with self._lock:
            names = {name for pickled in pickles for name in self._named_in(pickled)}
            return self.needs(sorted(names.union(self._by_hand)), "the call refers to it")

    def _needs_none(self, pickled: Pickled) -> bool:
        """Whether one glance tells that a pickle needs no local module: it takes less than a microsecond."""
        stream = pickled.stream
        if not self.finds or not may_import(stream):
            return True
        if pickled.codes or self._seen != _newest_module():
            return False
        for name, _ in self._names:  # noqa: SIM110 - all() with a generator takes twice as long
            if name in stream:
                return False
        return True

    def _named_in(self, pickled: Pickled) -> frozenset[str]:
        if not self.finds:
            return frozenset()
        if self._seen != _newest_module():
            self._look()
        hits = [name for raw, name in self._names if raw in pickled.stream]
        if hits and not self._proven.issuperset(hits) and not imports_relatively(pickled.codes):
            hits = list(mentioned(pickled.stream, hits))
            self._proven.update(hits)
        hits += [name for name in imported_by(pickled.codes) if self._is_local(name)]
        return frozenset(hits)

    def _answer(self, names: frozenset[str]) -> tuple[ShippedModule, ...]:
        if not names:
            return ()
        known = self._answers.get(names)
        if known is None or not self.is_current(known):
            modules = (need.snapshot.module for need in self.needs(names, ""))
            known = self._answers[names] = tuple(sorted(modules))
        return known

    def _look(self) -> None:
        """Learn which modules were loaded since the last look."""
        self._seen = _newest_module()
        for name in loaded_top_levels():
            self._is_local(name)
        self._names = tuple((name.encode(), name) for name, local in self._local.items() if local)
        for top, parts in loaded_parts(list(self._snapshots)).items():
            snapshot = self._snapshots[top]
            new = [part for part in parts if part not in snapshot.specs]
            if all(snapshot.covers(part) for part in new):
                snapshot.specs.update(_specs(new))
            else:
                snapshot.specs[top] = _OUTDATED

    def _is_local(self, name: str) -> bool:
        module = id(sys.modules.get(name))
        if self._judged.get(name) != module:
            self._local[name] = locate(name) is not None
            if can_be_found(name):  # else it may be written in a moment
                self._judged[name] = module
        return self._local[name]

    def _snapshot(self, name: str) -> Snapshot | None:
        old = self._snapshots.get(name)
        if old is not None and old.holds():
            return old
        source = self._by_hand.get(name) or locate(name)
        if source is None:
            self._snapshots.pop(name, None)
            return None
        specs = _specs(loaded_parts([name])[name])
        files = files_of(source, self._most_bytes)
        if old is not None and old.files == files:
            module = old.module
        else:
            module = ShippedModule(name, self._add(memoryview(zipped(files))))
        self._snapshots[name] = Snapshot(source, files, module, imports_in(files), specs)
        return self._snapshots[name]


def _newest_module() -> tuple[int, str]:
    """Changes whenever a module is loaded for the first time, near enough."""
    return len(sys.modules), next(reversed(sys.modules), "")


def _specs(names: Iterable[str]) -> dict[str, object]:
    return {name: getattr(sys.modules.get(name), "__spec__", None) for name in names}


# --- the setting ------------------------------------------------------------------------------


def chosen(setting: Any) -> tuple[bool, dict[str, Source]]:
    """Whether modules are to be found, and those that are named. Errors: SettingsError."""
    if setting is None:
        return False, {}
    if setting == AUTO:
        return True, {}
    if isinstance(setting, (str, bytes, os.PathLike)) or not isinstance(setting, Sequence):
        raise SettingsError(f"modules={setting!r} is unknown", remedy=_REMEDY)
    sources = [_source(item) for item in setting if item != AUTO]
    return AUTO in setting, {source.name: source for source in sources}


def _source(item: Any) -> Source:
    if isinstance(item, str) and all(part.isidentifier() for part in item.split(".")):
        source = locate(item.partition(".")[0], also_installed=True)
        if source is None:
            what = f"modules: {item!r} is not a module that can travel"
            raise SettingsError(what, remedy="name a module that can be imported here and is not built in")
        return source
    if not isinstance(item, (str, os.PathLike)):
        raise SettingsError(f"modules: {item!r} is neither a name nor a path", remedy=_REMEDY)
    path = os.path.abspath(os.fspath(item))
    name, ending = os.path.splitext(os.path.basename(path))
    is_folder = os.path.isdir(path)
    if not (is_folder or (ending == ".py" and os.path.isfile(path))):
        raise SettingsError(f"modules: {path} is neither a directory nor a .py file", remedy=_REMEDY)
    name = os.path.basename(path) if is_folder else name
    if not name.isidentifier():
        raise SettingsError(f"modules: {path} cannot be imported: {name!r} is not a name", remedy=_REMEDY)
    return Source(name, (path,), is_folder)
