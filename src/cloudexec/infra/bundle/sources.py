"""What of this installation goes into a bundle: cloudexec and the pure Python that it needs.

Called by: build.py.   Calls: the file system.
Reason:    copied from where they are installed, editable or not, they are the client's own versions, and a bundle
           without packages needs no package index.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cloudexec.errors import SettingsError

# Of the client alone: the pocket AWS, the command line, the account's side.
NOT_FOR_WORKERS: Final = ("testing", "cli", "infra")
_FORMAT: Final = 1  # of bundles: the same words make another zip when it changes
_TOMLLIB_SINCE: Final = (3, 11)


def library_files(python: str) -> dict[str, bytes]:
    """Path in the bundle -> bytes. python: the version that it is for. Errors: SettingsError."""
    files = _package_files("cloudexec", leave_out=NOT_FOR_WORKERS)
    files |= _package_files("cloudpickle")
    if needs_tomli(python) and importlib.util.find_spec("tomli") is not None:
        files |= _package_files("tomli")
    return dict(sorted(files.items()))


def needs_tomli(python: str) -> bool:
    """Whether that Python cannot read TOML by itself."""
    return tuple(int(part) for part in python.split(".")) < _TOMLLIB_SINCE


def missing_here(python: str) -> tuple[str, ...]:
    """What the library needs there and this installation cannot give; an index has it."""
    return ("tomli",) if needs_tomli(python) and importlib.util.find_spec("tomli") is None else ()


def fingerprint(files: Mapping[str, bytes], packages: Sequence[str], requirements: str, python: str, arch: str) -> str:
    """The same for what would make the same bundle, as far as our own words decide it: an index may have news."""
    said = {
        "format": _FORMAT,
        "files": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
        "packages": sorted(packages),
        "requirements": requirements,
        "python": python,
        "arch": arch,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _package_files(name: str, leave_out: Sequence[str] = ()) -> dict[str, bytes]:
    spec = importlib.util.find_spec(name)
    home = Path(next(iter((spec.submodule_search_locations if spec else None) or ()), "."))
    if spec is None or not (home / "__init__.py").exists():
        raise SettingsError(f"{name} is not installed as a package of files", remedy=f"pip install {name}")
    found = {}
    for path in home.rglob("*"):
        inside = path.relative_to(home)
        # Compiled parts are this machine's; all three packages work without.
        is_other = path.suffix in (".so", ".pyd", ".pyc", ".pyi") or "__pycache__" in inside.parts
        if path.is_file() and not is_other and inside.parts[0] not in leave_out:
            found[f"{name}/{inside.as_posix()}"] = path.read_bytes()
    return found | _metadata(name)


def _metadata(name: str) -> dict[str, bytes]:
    """As much as `importlib.metadata.version` needs in the worker."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # on a path, not installed
        return {}
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {f"{name}-{version}.dist-info/METADATA": text.encode()}
