"""Read what projects write down about their packages: pip, conda, pyproject.toml, renv. Nothing is opened here.

Called by:  project.py, which hands in a `Read`.   Calls: PyYAML for conda's files.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The text of a file, by its path relative to the project; None if there is none.
Read = Callable[[str], "str | None"]

_PASSWORD: Final = re.compile(r"://[^/\s:@$]+:[^/\s@$]+@")
_INCLUDE: Final = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]*(?P<path>\S+)")
_EDITABLE: Final = re.compile(r"^(?:-e|--editable)[ =]*(?P<path>\S+)")
_LOCAL: Final = re.compile(r"^(?:\.|/|~|file:|[^\s=<>!~;@\[]+/)")
_SELF: Final = re.compile(r"^\.(?:/)?(?:\[[^\]]*\])?$")
_NAME: Final = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*(.*)$")
_CLAUSE: Final = re.compile(r"^\s*(==|=|>=|<=|!=|~=|>|<)?\s*(\d+)(?:\.(\d+|\*))?(\S*)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What pip is to install, its files put into one another's place."""

    lines: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    has_itself: bool = False  # the project named itself (`-e .`); its code travels with the calls

    @property
    def text(self) -> str:
        """For a requirements.txt."""
        return "".join(f"{line}\n" for line in self.lines)

    @property
    def constraints_text(self) -> str:
        """For a constraints.txt; empty if there are none."""
        return "".join(f"{line}\n" for line in self.constraints)

    @property
    def is_hashed(self) -> bool:
        """Whether pip checks hashes, and then wants one for each package."""
        return any("--hash" in line for line in self.lines)

    @property
    def needs_git(self) -> bool:
        """Whether a package comes out of a repository."""
        return any("git+" in line for line in self.lines)


# --- pip -----------------------------------------------------------------------------------------


def read_requirements(path: str, read: Read) -> Requirements:
    """A file of pip's with what it includes. Errors: SettingsError (missing file, local path, password)."""
    lines: list[str] = []
    constraints: list[str] = []
    has_itself = _gather(path, read, lines, constraints, ())
    return Requirements(lines=tuple(lines), constraints=tuple(constraints), has_itself=has_itself)


def _gather(path: str, read: Read, lines: list[str], constraints: list[str], above: tuple[str, ...]) -> bool:
    text = read(path)
    if text is None:
        what = f"{path} is not there" + (f"; {above[-1]} names it" if above else "")
        raise SettingsError(what, remedy="correct the name; names are relative to the file that has them")
    if path in above:
        raise SettingsError(f"{path} includes itself", remedy="take the circle out of the files")
    has_itself = False
    for line in _logical_lines(text):
        included = _INCLUDE.match(line)
        if included and "://" not in included["path"]:
            other = posixpath.normpath(posixpath.join(posixpath.dirname(path), included["path"]))
            into = constraints if line.startswith(("-c", "--c")) else lines
            has_itself |= _gather(other, read, into, constraints, (*above, path))
        elif is_itself(line):
            has_itself = True
        else:
            lines.append(checked_requirement(line, path))
    return has_itself


def _logical_lines(text: str) -> Iterable[str]:
    """Lines without comments and continuations."""
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        if line:
            yield re.sub(r"\s+", " ", line)


def is_itself(line: str) -> bool:
    """Whether a line names the project that it lies in."""
    found = _EDITABLE.match(line)
    return bool(_SELF.match(found["path"] if found else line.split(" ")[0]))


def checked_requirement(line: str, where: str) -> str:
    """The line. Errors: SettingsError for what an image cannot have, or must not."""
    if _PASSWORD.search(line):
        shown = _PASSWORD.sub("://…@", line)
        remedy = "write ${NAME} in its place, set NAME, and give --build-arg NAME; it stays in the build stage"
        raise SettingsError(f"{where} has a password in it: {shown}", remedy=remedy)
    found = _EDITABLE.match(line)
    target = found["path"] if found else line
    target = target.split(" @ ")[-1].strip()
    is_remote = "://" in target and not target.startswith("file:")
    if (found or not line.startswith("-")) and not is_remote and _LOCAL.match(target):
        remedy = (
            "build a wheel of it (pip wheel --no-deps -w wheels PATH), give --wheels wheels and name it as a package"
        )
        raise SettingsError(f"{where} names a local path, which is not in the image: {line}", remedy=remedy)
    return line


# --- pyproject.toml ------------------------------------------------------------------------------


def read_toml(path: str, read: Read) -> dict[str, Any]:
    """A TOML file; {} if it is not there. Errors: SettingsError."""
    text = read(path)
    try:
        return tomllib.loads(text) if text is not None else {}
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} cannot be read: {error}", remedy="correct the file") from None


def read_pyproject(read: Read, extras: Sequence[str] = ()) -> Requirements:
    """The dependencies of PEP 621, with extras. Errors: SettingsError."""
    table = read_toml("pyproject.toml", read).get("project")
    if not isinstance(table, dict):
        what = "pyproject.toml has no [project] table, so its dependencies are not known"
        raise SettingsError(what, remedy="export them (e.g. poetry export -o requirements.txt), then repeat")
    if "dependencies" in table.get("dynamic", ()):
        what = "pyproject.toml has its dependencies made by its build tool (dynamic)"
        raise SettingsError(what, remedy="name the file that has them, e.g. --from requirements.txt")
    lines = list(table.get("dependencies", ()))
    _with_extras(table, extras, lines, set())
    checked = (checked_requirement(line, "pyproject.toml") for line in lines)
    return Requirements(lines=tuple(dict.fromkeys(checked)))


def _with_extras(table: Mapping[str, Any], extras: Iterable[str], lines: list[str], seen: set[str]) -> None:
    known = {normal(name): wanted for name, wanted in table.get("optional-dependencies", {}).items()}
    for extra in map(normal, extras):
        if extra not in known:
            has = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"pyproject.toml has no extra {extra!r}", remedy=f"its extras: {has}")
        if extra in seen:
            continue
        seen.add(extra)
        for line in known[extra]:
            found = _NAME.match(line)
            # `project[a,b]` in an extra of the project means those extras.
            if found and normal(found[1]) == normal(str(table.get("name", ""))):
                _with_extras(table, (found[2] or "").split(","), lines, seen)
            else:
                lines.append(line)


def normal(name: str) -> str:
    """A package's name as indexes compare them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


# --- conda ---------------------------------------------------------------------------------------


def read_environment(path: str, read: Read, python: str) -> tuple[str, bool]:
    """A conda environment.yml, with Python pinned to the client's minor version; whether it names its own project.

    Errors: SettingsError, if it wants another Python.
    """
    import yaml

    try:
        found = yaml.safe_load(read(path) or "")
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} cannot be read: {error}", remedy="correct the file") from None
    listed = found.get("dependencies") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise SettingsError(f"{path} has no list of dependencies", remedy="see conda's documentation of the file")
    specs = [one for one in listed if isinstance(one, str)]
    names = {one: re.split(r"[\s=<>!~\[]", one.split("::")[-1], maxsplit=1)[0].lower() for one in specs}
    for one in specs:
        if names[one] == "python" and not allows_python(one, python):
            what = f"{path} asks for {one}, but this is Python {python}; calls must run on the Python that pickled them"
            raise SettingsError(
                what, remedy=f"create the environment of the file and work in it, or write python={python}"
            )
    for_pip, has_itself = _pip_part(listed, path, read)
    kept: list[Any] = [f"python={python}.*", *[one for one in specs if names[one] not in ("python", "pip")], "pip"]
    if for_pip:
        kept.append({"pip": for_pip})
    wanted = {"channels": found.get("channels") or ["conda-forge"], "dependencies": kept}
    return yaml.safe_dump(wanted, sort_keys=False), has_itself


def _pip_part(listed: Iterable[Any], path: str, read: Read) -> tuple[list[str], bool]:
    text = "\n".join(
        str(line) for one in listed if isinstance(one, dict) for line in one.get("pip") or () if line is not None
    )
    found = read_requirements(path, lambda name: text if name == path else read(name))
    return list(found.lines), found.has_itself


def allows_python(spec: str, python: str) -> bool:
    """Whether conda's spec, such as `python>=3.10,<3.13`, allows this minor version."""
    wanted = re.sub(r"^(\S*::)?python\s*", "", spec, flags=re.IGNORECASE).strip()
    wanted = re.sub(r"^\[.*\]$", "", wanted)
    ours = tuple(int(part) for part in python.split("."))
    return any(all(_allows(clause, ours) for clause in group.split(",")) for group in wanted.split("|"))


def _allows(clause: str, ours: tuple[int, ...]) -> bool:
    found = _CLAUSE.match(clause.split("=h")[0]) if clause.strip(" *=") else None
    if found is None:
        return True  # no version, or one that only conda understands: conda will say
    sign, major, minor = found[1] or "=", int(found[2]), found[3]
    is_exact = found[4] not in ("", ".*", "*")
    theirs = (major,) if minor in (None, "*") else (major, int(minor))
    mine = ours[: len(theirs)]
    if sign in ("=", "=="):
        # `==3.13` alone is 3.13.0, which is that minor version, too.
        return mine == theirs
    if sign == "~=":
        return mine >= theirs and (is_exact is False or mine == theirs) and ours[0] == major
    if sign == "!=":
        return mine != theirs or is_exact
    if sign == ">":
        # `>3.12` is fulfilled by 3.12.1.
        return mine >= theirs
    if sign == "<":
        return mine < theirs or (is_exact and mine == theirs)
    return mine >= theirs if sign == ">=" else mine <= theirs


# --- R -------------------------------------------------------------------------------------------


def renv_version(text: str) -> str:
    """The version of R in a renv.lock, such as 4.3.1. Errors: SettingsError if it is none."""
    try:
        return str(json.loads(text)["R"]["Version"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError("renv.lock cannot be read", remedy="make it anew with renv::snapshot()") from None
