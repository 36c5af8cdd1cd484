"""Make the bundle: one zip that is a function's code, and that workers without an image fetch.

Called by: stack/deploy.py.   Calls: sources.py, packages.py, the file system.
Same words, same index: same bytes. Names are sorted, times and modes are fixed, and what pip notes of its own work
is left out, so that the hash, which is the object's name, tells whether anything has changed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.infra.bundle import packages as wheels
from cloudexec.infra.bundle.sources import fingerprint, library_files, missing_here

LAMBDA_UNPACKED_BYTES: Final = 250 * 1024 * 1024
_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can tell
_OF_PIP: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_COMPILE_S: Final = 600
_NAMED: Final = 5  # the largest packages, in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a bundle is made of. packages: as pip takes them; requirements: the text of a requirements file."""

    packages: tuple[str, ...] = ()
    requirements: str = ""
    python: str
    arch: str = "x86_64"

    def __post_init__(self) -> None:
        wheels.check_target(self.python, self.arch)

    @property
    def fingerprint(self) -> str:
        """See sources.fingerprint. Errors: SettingsError."""
        files = library_files(self.python)
        return fingerprint(files, self.packages, self.requirements, self.python, self.arch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A zip and what is in it. contents: versions by distribution; weights: unpacked bytes by what is at its top."""

    path: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int
    contents: Mapping[str, str]
    weights: Mapping[str, int] = field(repr=False)


def make_bundle(
    packages: Sequence[str] = (), *, python: str, arch: str = "x86_64", requirements: str = "", folder: Path
) -> Bundle:
    """Make the zip below `folder`, named by its hash. requirements: the text of a requirements file.

    Errors: SettingsError.
    """
    wheels.check_target(python, arch)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=folder) as name:
        root = Path(name, "root")
        root.mkdir()
        listed = Path(name, "requirements.txt") if requirements.strip() else None
        if listed is not None:
            listed.write_text(wheels.without_ours(requirements), encoding="utf-8")
        wanted = [*packages, *missing_here(python)]
        wheels.install(wanted, listed, python=python, arch=arch, target=root)
        _tidy(root)
        _add_library(root, python)
        if is_compiled(python):
            _compile(root)
            if _weight(root) > LAMBDA_UNPACKED_BYTES:  # rather a slow start than none
                _remove_byte_code(root)
        return _zipped(root, folder)


def check_for_lambda(bundle: Bundle) -> None:
    """Errors: SettingsError if Lambda would refuse it."""
    if bundle.unpacked_bytes <= LAMBDA_UNPACKED_BYTES:
        return
    largest = sorted(bundle.weights.items(), key=lambda item: -item[1])[:_NAMED]
    named = ", ".join(f"{name} {_mb(n_bytes)}" for name, n_bytes in largest)
    raise SettingsError(
        f"the packages take {_mb(bundle.unpacked_bytes)} unpacked, and a function may have 250 MB; largest: {named}",
        remedy="leave some out, make a function of an image (`cloudexec image`), or a stack with --only ecs",
    )


def is_compiled(python: str) -> bool:
    """Whether the bundle holds byte code: this interpreter can only make its own.

    Measured: without it each new environment compiles what it imports, 2.5 s for pandas, 0.1 s for cloudexec alone.
    """
    return platform.python_implementation() == "CPython" and python == "{}.{}".format(*sys.version_info[:2])


def _tidy(root: Path) -> None:
    """Without what differs from machine to machine: pip's notes, and programs that name this interpreter."""
    shutil.rmtree(root / "bin", ignore_errors=True)
    for folder in root.glob("*.dist-info"):
        for name in _OF_PIP:
            (folder / name).unlink(missing_ok=True)
    _remove_byte_code(root)


def _remove_byte_code(root: Path) -> None:
    for cache in [*root.rglob("__pycache__")]:
        shutil.rmtree(cache, ignore_errors=True)


def _weight(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _add_library(root: Path, python: str) -> None:
    """Our own, in the place of what packages may have brought of the same names."""
    files = library_files(python)
    for name in sorted({path.partition("/")[0].partition("-")[0] for path in files}):
        shutil.rmtree(root / name, ignore_errors=True)
        for folder in root.glob(f"{name}-*.dist-info"):
            shutil.rmtree(folder)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def _compile(root: Path) -> None:
    """Byte code that is not checked against its source, so that it holds whatever the file's time is."""
    words = [sys.executable, "-m", "compileall", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    subprocess.run(
        # -s: no path of this machine goes into the code; the importer puts the right one there.
        # -x: nobody imports the tests of packages, which are half of some.
        [*words, "-s", str(root), "-x", r"/tests?/", str(root)],
        env={**os.environ, "PYTHONHASHSEED": "0"},  # the order of sets in the code
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_COMPILE_S,
        check=False,  # packages hold files that are not of this Python; they stay as they are
    )


def _zipped(root: Path, folder: Path) -> Bundle:
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    unfinished = root.parent / "bundle.zip"
    weights: dict[str, int] = {}
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, whatever this is
            is_program = os.access(files[name], os.X_OK)
            info.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
            content = files[name].read_bytes()
            archive.writestr(info, content)
            top = name.partition("/")[0]
            weights[top] = weights.get(top, 0) + len(content)
    with unfinished.open("rb") as file:
        sha256 = hashlib.sha256()
        while block := file.read(1 << 20):
            sha256.update(block)
    path = folder / f"{sha256.hexdigest()}.zip"
    os.replace(unfinished, path)
    return Bundle(
        path=path,
        sha256=sha256.hexdigest(),
        size_bytes=path.stat().st_size,
        unpacked_bytes=sum(weights.values()),
        contents=_contents(root),
        weights=weights,
    )


def _contents(root: Path) -> dict[str, str]:
    """Versions by distribution, as the names of their folders tell them."""
    found = [folder.name.removesuffix(".dist-info").rpartition("-") for folder in root.glob("*.dist-info")]
    return {name.replace("_", "-").lower(): version for name, _, version in sorted(found)}


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1024 / 1024:.0f} MB"
