"""A local module as one zip file: the same bytes whenever the sources are the same.

Called by: shipping.py.   Calls: modules.py.
A package travels whole, with its data files. What only this machine needs stays: caches, version control,
virtual environments. A module that is not reasonable to send is refused, with the files that make it so.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from cloudexec.errors import ModuleNotShippable
from cloudexec.serialization.modules import Import, Source, imports_of, is_native

MOST_BYTES: Final = 50 << 20
_MOST_FILES: Final = 20_000
_SKIPPED_FOLDERS: Final = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", ".tox", ".nox", "node_modules"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints"}
)
_SKIPPED_ENDINGS: Final = (".pyc", ".pyo", ".DS_Store")
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # the first time a zip file can tell
_LEVEL: Final = 3  # three times as quick as the usual 6, and 5 % larger


class File(NamedTuple):
    """A file of a bundle: its name inside, with `/`, its place here, and what tells whether it has changed."""

    name: str
    path: str
    mtime_ns: int
    size: int
    is_executable: bool


def files_of(source: Source, most_bytes: int = MOST_BYTES) -> tuple[File, ...]:
    """The files that a module consists of, by name. Errors: ModuleNotShippable."""
    found: dict[str, File] = {}
    try:
        for file in _walk(source):
            found.setdefault(file.name, file)  # of a namespace's places, the first wins, as in an import
            if len(found) > _MOST_FILES:
                raise ModuleNotShippable(_too_many(source))
    except OSError as error:
        raise ModuleNotShippable(f"the local module {source.name} cannot be read: {error}") from error
    files = tuple(found[name] for name in sorted(found))
    if sum(file.size for file in files) > most_bytes:
        raise ModuleNotShippable(_too_large(source, files, most_bytes))
    return files


def _walk(source: Source) -> Iterator[File]:
    for place in source.places:
        if source.is_package:
            yield from _walk_folder(place, source.name, frozenset())
        else:
            ending = os.path.basename(place).partition(".")[2]
            yield _file(place, f"{source.name}.{ending or 'py'}")


def _walk_folder(folder: str, name: str, above: frozenset[str]) -> Iterator[File]:
    real = os.path.realpath(folder)
    if real in above:  # a link that leads back up
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            inner = f"{name}/{entry.name}"
            if entry.is_dir():
                if entry.name not in _SKIPPED_FOLDERS and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield from _walk_folder(entry.path, inner, above | {real})
            elif entry.is_file() and not entry.name.endswith(_SKIPPED_ENDINGS):
                yield _file(entry.path, inner)


def _file(path: str, name: str) -> File:
    status = os.stat(path)
    return File(name, path, status.st_mtime_ns, status.st_size, bool(status.st_mode & stat.S_IXUSR))


def _too_large(source: Source, files: tuple[File, ...], most_bytes: int) -> str:
    total = sum(file.size for file in files)
    biggest = sorted(files, key=lambda file: -file.size)[:3]
    named = ", ".join(f"{file.name} ({megabytes(file.size)})" for file in biggest)
    return (
        f"the local module {source.name} ({', '.join(source.places)}) has {megabytes(total)} in {len(files)} files, "
        f"more than the {megabytes(most_bytes)} that may travel; the largest are {named}"
    )


def _too_many(source: Source) -> str:
    return f"the local module {source.name} ({', '.join(source.places)}) has more than {_MOST_FILES:,} files"


def megabytes(size: int) -> str:
    """A number of bytes, as people say it."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:,.1f} KB" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"


def zipped(files: tuple[File, ...]) -> bytes:
    """The zip file of these files. Errors: ModuleNotShippable when one of them went away."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        for file in files:
            info = zipfile.ZipInfo(file.name, _LONG_AGO)
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = (stat.S_IFREG | (0o755 if file.is_executable else 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            try:
                with open(file.path, "rb") as content:
                    bundle.writestr(info, content.read(), compresslevel=_LEVEL)
            except OSError as error:
                raise ModuleNotShippable(f"{file.path} of a local module cannot be read: {error}") from error
    return out.getvalue()


def imports_in(files: tuple[File, ...]) -> dict[str, str]:
    """What the source files among these import, each with the first place, e.g. `mypkg/model.py:3`."""
    found: dict[str, str] = {}
    for file in files:
        if file.name.endswith(".py"):
            for name, line in _imports(file):
                found.setdefault(name, f"{file.name}:{line}")
    return found


def _imports(file: File) -> tuple[Import, ...]:
    return imports_of(file.path, file.mtime_ns, file.size)


def natives_in(files: tuple[File, ...]) -> tuple[str, ...]:
    """The files that run on this platform only."""
    return tuple(file.name for file in files if is_native(file.name))
