"""Write what executors read: the configuration file, with the user's own lines left as they are.

Called by: cli/up.py, cli/down.py.   Calls: tomlkit (of the extra `cli`), backends.aws_config; stack, for a type.
The default stack's settings stand at the top of the file, those of another stack in a table of its name, which
`CLOUDEXEC_PROFILE=NAME` chooses. A comment marks each line that `up` has written: a line that happens to say the same
may be the user's, and only marked lines are ever taken back. The mark of a line that said something else keeps it, and
`down` restores it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cloudexec.backends.aws_config import (
    FILE_VARIABLE,
    KEYS,
    TABLE_VARIABLE,
    config_path,
    from_environment,
    variable_of,
)
from cloudexec.backends.stack import DEFAULT_STACK
from cloudexec.errors import SettingsError
from cloudexec.infra.stack.look import StackState

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Settings = dict[str, Any]
_MARK: Final = "# by `cloudexec up`"
_INSTEAD: Final = f"{_MARK}, instead of: "
_UNTOLD: Final = ("aws_profile", "endpoint_url")  # no output of a stack tells later what they were
# In the order in which they are written; nothing else is ever written or removed.
WRITTEN: Final = (
    "region",
    "stack",
    "aws_profile",
    "endpoint_url",
    "bucket",
    "cluster",
    "task_definition",
    "subnets",
    "security_groups",
    "assign_public_ip",
    "log_group",
    "function",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of the file. changed, removed: keys. overruled: variables that say otherwise."""

    path: Path | None
    table: str = ""
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()


def settings_of(
    state: StackState, *, region: str, profile: str = "", endpoint_url: str = "", is_public: bool | None = None
) -> Settings:
    """What the outputs of a stack are for executors. is_public: of the subnets; None lets executors look."""
    outputs = state.outputs
    said: Settings = {
        "region": region,
        "stack": state.name if state.name != DEFAULT_STACK else "",
        "aws_profile": profile,
        "endpoint_url": endpoint_url,
        "bucket": outputs.get("Bucket", ""),
        "cluster": outputs.get("Cluster", ""),
        # The family: always the newest revision, also after an `up` by somebody else.
        "task_definition": outputs.get("Worker", "").rpartition("/")[2].partition(":")[0],
        "subnets": state.subnets,
        "security_groups": [one for one in outputs.get("SecurityGroup", "").split(",") if one],
        "assign_public_ip": is_public if state.subnets else None,
        "log_group": outputs.get("Log", ""),
        "function": outputs.get("Function", ""),
    }
    assert set(said) == set(WRITTEN)
    assert set(said) <= set(KEYS)
    return {key: value for key, value in said.items() if value not in ("", [], None)}


def write(settings: Settings, before: Settings, stack: str, environ: Mapping[str, str]) -> Written:
    """Write the settings of a stack; those of `before` that it has no more go. Errors: SettingsError."""
    path = path_of(environ)
    if path is None:
        return Written(path=None)
    document = _read(path)
    name = "" if stack == DEFAULT_STACK else stack
    table = _table(document, name, make=True, path=path)
    assert table is not None
    overruled = _overruled(document, name, settings, environ)
    changed, removed = [], []
    for key, value in before.items():
        if key not in settings and _is_ours(table, key) and _plain(table.get(key)) == value:
            _take_back(table, key)
            removed.append(key)
    for key, value in settings.items():
        if _plain(table.get(key)) != value:
            _put(table, key, value, _mark(table, key))
            changed.append(key)
    if changed or removed:
        _replace(path, document.as_string())
    return Written(
        path=path,
        table=name,
        changed=tuple(changed),
        removed=tuple(removed),
        overruled=overruled,
    )


def remove(settings: Settings, stack: str, environ: Mapping[str, str]) -> Written:
    """Take back what `write` has written, where it still says that. Errors: SettingsError."""
    path = path_of(environ)
    if path is None or not path.exists():
        return Written(path=path)
    document = _read(path)
    name = "" if stack == DEFAULT_STACK else stack
    table = _table(document, name, make=False, path=path)
    if table is None:
        return Written(path=path)
    ours = [key for key in WRITTEN if _is_ours(table, key)]
    changed = [key for key in ours if key in _UNTOLD or _plain(table.get(key)) == settings.get(key)]
    for key in changed:
        _take_back(table, key)
    if name and changed and not table:
        del document[name]
    if changed:
        text = document.as_string()
        if text.strip() or environ.get(FILE_VARIABLE) or path.is_symlink():  # somebody else refers to it
            _replace(path, text)
        else:
            path.unlink()
    return Written(path=path, table=name, removed=tuple(changed))


def path_of(environ: Mapping[str, str]) -> Path | None:
    """Where the file lies, or would; None if there is to be none: CLOUDEXEC_CONFIG=/dev/null."""
    path = config_path(environ)
    return None if str(path) == os.devnull else path


def has_table(path: Path, name: str) -> bool:
    """Whether the file has a table of that name. Errors: SettingsError."""
    return not name or name in _read(path)


def _overruled(document: TOMLDocument, table: str, settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables because of which executors will not do as the file says. Errors: SettingsError for what none can be."""
    said = from_environment(environ)
    found = [variable_of(key) for key in settings if key in said and said[key].value != KEYS[key](settings[key])]
    chosen = environ.get(TABLE_VARIABLE, "")
    if chosen and not table and _says_otherwise(document.get(chosen), settings):
        found.append(TABLE_VARIABLE)
    return tuple(found)


def _says_otherwise(table: Any, settings: Settings) -> bool:
    """Whether settings of this table differ; one that is not there stops executors."""
    said = _plain(table)
    if not isinstance(said, Mapping):
        return True
    return any(said.get(key, value) != value for key, value in settings.items())


def _is_ours(table: Any, key: str) -> bool:
    return key in table and table.item(key).trivia.comment.startswith(_MARK)


def _mark(table: Any, key: str) -> str:
    """The comment of a line that is about to be written: what stands there now is kept in it, if it is the user's."""
    import tomlkit

    if key not in table:
        return _MARK
    now = table.item(key)
    if _is_ours(table, key):
        return str(now.trivia.comment)
    said = f"{_INSTEAD}{tomlkit.item(_plain(now)).as_string()} {now.trivia.comment}".rstrip()
    return said if said.isprintable() else _MARK


def _take_back(table: Any, key: str) -> None:
    """Remove a line of ours; what it has displaced comes back."""
    import tomlkit

    comment = str(table.item(key).trivia.comment)
    if comment.startswith(_INSTEAD):
        before: Any = tomlkit.parse(f"{key} = {comment.removeprefix(_INSTEAD)}\n").item(key)
        _put(table, key, before, before.trivia.comment)
    else:
        del table[key]


def _put(table: Any, key: str, value: Any, comment: str) -> None:
    import tomlkit

    table[key] = tomlkit.item(_plain(value))
    # Not before: without a comment of its own it would get that of the line it replaces.
    trivia = table.item(key).trivia
    trivia.comment_ws, trivia.comment = ("  " if comment else ""), comment


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _read(path: Path) -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", remedy="correct it; it is left as it is") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", remedy="correct its permissions") from None


def _table(document: TOMLDocument, name: str, *, make: bool, path: Path) -> MutableMapping[str, Any] | None:
    import tomlkit

    if not name:
        return document
    if name in KEYS:
        what = f"{path} cannot have a table [{name}]: that is the name of a setting"
        raise SettingsError(what, remedy="use another name with --stack, or --no-config")
    if name not in document:
        if not make:
            return None
        document[name] = tomlkit.table()
    table = document[name]
    if not isinstance(table, MutableMapping):
        raise SettingsError(f"{path}: {name} is not a table", remedy=f"remove the line, or set {FILE_VARIABLE}")
    return table


def _replace(path: Path, text: str) -> None:
    """Write the whole file at once: whoever reads it meanwhile sees the old one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()  # a link stays one
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, name = tempfile.mkstemp(prefix=".config-", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, mode)
        os.replace(name, target)
    except OSError as error:
        remedy = f"correct its permissions, set {FILE_VARIABLE}, or give --no-config"
        raise SettingsError(f"{path} cannot be written: {error.strerror}", remedy=remedy) from None
