"""The build context: a Dockerfile, cloudexec as a wheel, the project's lists of packages. Nothing else of the project.

Called by:  cli/image.py, which hands it to tools.py or remote.py.   Calls: recipe.py, wheel.py, git.
Its files are made with fixed times and modes, and its digest is that of names and bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.infra.images.recipe import EPOCH_S, Recipe, dockerfile
from cloudexec.infra.images.wheel import zipped

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "build", "dist"})
_MOST_SOURCE_BYTES: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Context:
    """All files, by their path."""

    files: Mapping[str, bytes]

    @property
    def sha256(self) -> str:
        """Of names and bytes: the same input has the same."""
        digest = hashlib.sha256()
        for path, data in sorted(self.files.items()):
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()

    @property
    def zip(self) -> bytes:
        """What CodeBuild gets."""
        return zipped(dict(sorted(self.files.items())))

    def write_to(self, folder: Path) -> None:
        """Errors: OSError."""
        for path, data in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o644)
        # Tools keep a file's time in the layer that copies it.
        for made in (folder, *folder.rglob("*")):
            if made.is_dir():
                made.chmod(0o755)
            os.utime(made, (EPOCH_S, EPOCH_S))

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """In a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="cloudexec-image-") as name:
            self.write_to(Path(name))
            yield Path(name)


def context_of(
    recipe: Recipe,
    own_wheel: tuple[str, bytes],
    *,
    wheels: Mapping[str, bytes] | None = None,
    source: Mapping[str, bytes] | None = None,
    text: str = "",
) -> Context:
    """text: a Dockerfile of the user's own, instead of the recipe's."""
    name, data = own_wheel
    files = {"Dockerfile": (text or dockerfile(recipe)).encode(), f"cloudexec/{name}": data}
    files |= {path: content.encode() for path, content in recipe.project.files.items()}
    files |= {f"wheels/{path}": content for path, content in (wheels or {}).items()}
    files |= {f"source/{path}": content for path, content in (source or {}).items()}
    return Context(files)


def wheels_in(folder: Path) -> dict[str, bytes]:
    """The wheels and source archives of a folder. Errors: SettingsError."""
    found = {
        path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix in (".whl", ".gz", ".zip")
    }
    # Our own goes in apart; another version of it beside would be a riddle.
    found = {name: data for name, data in found.items() if not name.startswith("cloudexec-")}
    if not found:
        raise SettingsError(f"--wheels {folder}: there are no wheels", remedy=f"pip wheel -w {folder} PACKAGE…")
    return found


def source_of(folder: Path) -> dict[str, bytes]:
    """The project's own files: those that git knows, or all that are neither hidden nor made. Errors: SettingsError."""
    found = {}
    size = 0
    for path in _tracked(folder) or _walked(folder):
        parts = path.parts
        # What begins with a dot is configuration, of tools or of secrets (.env): code does not need it.
        if any(part.startswith(".") or part in _SKIPPED for part in parts) or not (folder / path).is_file():
            continue
        found[path.as_posix()] = (folder / path).read_bytes()
        size += len(found[path.as_posix()])
        if size > _MOST_SOURCE_BYTES:
            what = f"--with-source: {folder} has more than {_MOST_SOURCE_BYTES // 10**6} MB"
            raise SettingsError(what, remedy="keep data out of the project's directory, or out of git")
    if not found:
        raise SettingsError(f"--with-source: {folder} has no files", remedy="go to the project's directory")
    return found


def _tracked(folder: Path) -> list[Path]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, check=False)
    except OSError:
        return []
    return sorted(Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name) if done.returncode == 0 else []


def _walked(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        # An environment is no source.
        keep = [one for one in folders if not (Path(where, one) / "pyvenv.cfg").exists()]
        folders[:] = sorted(one for one in keep if not one.startswith(".") and one not in _SKIPPED)
        for name in sorted(files):
            yield Path(where, name).relative_to(folder)
