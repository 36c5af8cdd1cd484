"""What a project wants in its image, from the files that lie in its directory.

Called by:  cli/image.py.   Calls: formats.py.
Order:      what is exact comes first (PRECEDENCE); `chosen` names another. R's lock joins whichever it is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.infra.images.formats import (
    Read,
    Requirements,
    read_environment,
    read_pyproject,
    read_requirements,
    read_toml,
    renv_version,
)

UV, CONDA, PIP, PYPROJECT, NOTHING = "uv", "conda", "pip", "pyproject", "nothing"
# From the exact to the vague. The file, and how it is read.
PRECEDENCE: Final = (
    ("uv.lock", UV),
    ("environment.yml", CONDA),
    ("environment.yaml", CONDA),
    ("requirements.txt", PIP),
    ("pyproject.toml", PYPROJECT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What was found and what of it goes into the build, by its path there."""

    kind: str = NOTHING
    chosen: str = ""  # the file
    files: Mapping[str, str] = field(default_factory=dict)
    extras: tuple[str, ...] = ()  # for uv, which picks them itself
    is_hashed: bool = False
    needs_git: bool = False
    r_version: str = ""  # of a renv.lock; empty if there is none
    is_package: bool = False  # it can be installed: pyproject.toml names a project
    notes: tuple[str, ...] = ()  # what people ought to hear


def project_of(read: Read, *, python: str, chosen: str = "", extras: Sequence[str] = ()) -> Project:
    """What the directory says. python: the client's `3.13`. Errors: SettingsError."""
    read = cache(read)  # several steps ask for the same file
    found = [(name, kind) for name, kind in PRECEDENCE if read(name) is not None]
    if chosen:
        name, kind = chosen, _kind_of(chosen, read)
    else:
        # Of tools' configuration only, pyproject.toml says nothing about packages: another file may, or none.
        usable = [one for one in found if one[1] != PYPROJECT or "project" in read_toml("pyproject.toml", read)]
        name, kind = usable[0] if usable else ("", NOTHING)
    notes = [_why(name, [one for one, _ in found if one != name], is_chosen=bool(chosen))]
    if extras and kind not in (UV, PYPROJECT):
        what = f"--extra is for pyproject.toml and uv.lock, not for {name or 'a directory without them'}"
        raise SettingsError(what, remedy="leave --extra out, or choose with --from")
    lock = read("renv.lock")
    r_version = renv_version(lock) if lock is not None else ""
    files: dict[str, str] = {"renv.lock": lock} if lock is not None else {}
    wanted = Requirements(lines=())
    has_itself = False
    if kind == UV:
        files |= _uv_files(name, read)
    elif kind == CONDA:
        files["environment.yml"], has_itself = read_environment(name, read, python)
        wanted = Requirements(lines=tuple(files["environment.yml"].splitlines()))
    elif kind != NOTHING:
        wanted = read_requirements(name, read) if kind == PIP else read_pyproject(read, extras)
        has_itself = wanted.has_itself
        files["requirements.txt"] = wanted.text
        if wanted.constraints:
            files["constraints.txt"] = wanted.constraints_text
    if has_itself:
        notes.append(f"{name} names the project itself: its code travels with the calls (--with-source bakes it in)")
    if r_version:
        notes.append(f"renv.lock is for R {r_version}; the image has its Debian's R (docs: R in the image)")
    return Project(
        kind=kind,
        chosen=name,
        files=files,
        extras=tuple(extras) if kind == UV else (),
        is_hashed=kind in (PIP, PYPROJECT) and wanted.is_hashed,
        needs_git=wanted.needs_git if kind != UV else 'source = { git = "' in files["uv.lock"],
        r_version=r_version,
        is_package="project" in read_toml("pyproject.toml", read),
        notes=tuple(notes),
    )


def _kind_of(name: str, read: Read) -> str:
    """How a file that somebody named is read."""
    if read(name) is None:
        raise SettingsError(f"--from {name}: there is no such file", remedy="names are relative to the project")
    base = posixpath.basename(name)
    if name in ("uv.lock", "pyproject.toml"):
        return UV if name == "uv.lock" else PYPROJECT
    if base.endswith((".yml", ".yaml")):
        return CONDA
    if base.endswith((".txt", ".in")):
        return PIP
    known = "uv.lock, pyproject.toml, *.yml (conda) and *.txt (pip) of the project"
    raise SettingsError(f"--from {name}: it is not known how to read this", remedy=f"known are {known}")


def _why(name: str, others: Sequence[str], *, is_chosen: bool) -> str:
    if not name:
        return "no file here names packages: the image has cloudexec alone, and what --pip, --apt and --r name"
    if is_chosen or not others:
        return f"packages: {name}"
    return f"packages: {name}, which is more exact than {' and '.join(others)} (--from FILE takes another)"


def _uv_files(name: str, read: Read) -> dict[str, str]:
    project, lock = read("pyproject.toml"), read(name)
    assert lock is not None
    if project is None:
        raise SettingsError("uv.lock is here without its pyproject.toml", remedy="go to the directory that has both")
    if read_toml("pyproject.toml", read).get("tool", {}).get("uv", {}).get("workspace"):
        what = "uv.lock is that of a workspace, whose other members would have to be in the image"
        remedy = "uv export --no-emit-workspace -o requirements.txt, then --from requirements.txt"
        raise SettingsError(what, remedy=remedy)
    return {"uv.lock": lock, "pyproject.toml": project}
