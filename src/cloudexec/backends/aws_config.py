"""Settings that were not given as arguments: environment variables and the configuration file; no network.

Called by: executors, ecs/discovery.py.
File:      `$CLOUDEXEC_CONFIG`, else `$XDG_CONFIG_HOME/cloudexec/config.toml`, else `~/.config/cloudexec/config.toml`.
           Keys at its top hold always; a table such as `[big]` overrules them when `CLOUDEXEC_PROFILE=big` names it.
Variables: `CLOUDEXEC_` and the key in capitals, e.g. `CLOUDEXEC_SUBNETS=subnet-1,subnet-2`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from cloudexec.errors import SettingsError

FILE_VARIABLE: Final = "CLOUDEXEC_CONFIG"
TABLE_VARIABLE: Final = "CLOUDEXEC_PROFILE"
_FILE_ONLY: Final = frozenset({"capacity_provider_strategy", "aws_profile"})  # AWS_PROFILE is read by boto3
_TRUTHS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class Found(NamedTuple):
    """A setting's value, and where it comes from, in words that a person can follow."""

    value: Any
    source: str


Settings = dict[str, Found]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _url(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"https?://[^/\s]+\S*", text):
        raise ValueError("a URL that begins with https:// or http://")
    return text


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(part, str) and part for part in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _integer(value: object) -> int:
    if isinstance(value, str) and value.strip().isdigit():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("a number") from None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("a number")
    return float(value)


def _truth(value: object) -> bool:
    found = _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError("true or false")
    return found


def _table(value: object) -> dict[str, str]:
    if isinstance(value, str):  # of a variable: a=1,b=2
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("a table of texts, in a variable key=value,key=value")
        return {name.strip(): text.strip() for name, _, text in pairs}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("a table of texts")
    return dict(value)


def _tables(value: object) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("a list of capacity providers")
    return tuple(value)


def _sizes(value: object) -> tuple[tuple[float, int], ...]:
    if isinstance(value, str):  # of a variable: 2:8192,4:16384
        value = [part.split(":") for part in value.split(",") if part.strip()]
    try:
        return tuple((_number(vcpu), _integer(memory_mib)) for vcpu, memory_mib in value)  # type: ignore[attr-defined]  # else TypeError
    except (TypeError, ValueError):
        raise ValueError("a list of (vcpu, memory_mib), in a variable 2:8192,4:16384") from None


KEYS: Final[Mapping[str, Callable[[object], Any]]] = {
    "arch": _text,
    "assign_public_ip": _truth,
    "aws_profile": _text,
    "bucket": _text,
    "capacity_provider_strategy": _tables,
    "cluster": _text,
    "container": _text,
    "endpoint_url": _url,
    "ephemeral_gib": _integer,
    "execution_role": _text,
    "fallback": _text,
    "function": _text,
    "image": _text,
    "launch_type": _text,
    "log_group": _text,
    "log_prefix": _text,
    "memory_mib": _integer,
    "on_demand_base": _integer,
    "oom_sizes": _sizes,
    "prefix": _text,
    "qualifier": _text,
    "region": _text,
    "security_groups": _texts,
    "shards": _texts,
    "slots": _integer,
    "spot": _truth,
    "stack": _text,
    "subnets": _texts,
    "tags": _table,
    "task_definition": _text,
    "task_role": _text,
    "vcpu": _number,
}


def variable_of(key: str) -> str:
    """The environment variable of a setting."""
    return f"CLOUDEXEC_{key.upper()}"


def from_arguments(given: Mapping[str, Any]) -> Settings:
    """What a caller said; None says nothing. Errors: SettingsError."""
    _check_names(given, "arguments")
    return {key: Found(_read(key, value, "argument"), "argument") for key, value in given.items() if value is not None}


def from_environment(environ: Mapping[str, str]) -> Settings:
    """What environment variables say; empty ones say nothing. Errors: SettingsError."""
    given = {key: environ.get(variable_of(key), "") for key in KEYS if key not in _FILE_ONLY}
    return {
        key: Found(_read(key, text, variable_of(key)), f"environment variable {variable_of(key)}")
        for key, text in given.items()
        if text
    }


def from_file(environ: Mapping[str, str]) -> Settings:
    """What the configuration file says; no file says nothing, unless it was named. Errors: SettingsError."""
    path, table = config_path(environ), environ.get(TABLE_VARIABLE, "")
    if not path.exists():
        if environ.get(FILE_VARIABLE):
            raise SettingsError(
                f"{FILE_VARIABLE}={path}: there is no such file",
                remedy="correct or unset the variable; `cloudexec up` writes the file",
            )
        if table:
            what = f"{TABLE_VARIABLE}={table}, and there is no file {path}"
            raise SettingsError(what, remedy="write the file, or unset the variable")
        return {}
    said = _parse(path)
    tables = {name: each for name, each in said.items() if isinstance(each, dict) and name not in KEYS}
    _check_names((name for name in said if name not in tables), path)
    for name, each in tables.items():
        _check_names(each, f"{path}, table [{name}]")
    if table and table not in tables:
        raise SettingsError(
            f"{path} has no table [{table}], which {TABLE_VARIABLE} names",
            remedy=f"tables are {', '.join(tables)}" if tables else "write one",
        )
    settings = {key: Found(_read(key, value, path), f"{path}") for key, value in said.items() if key in KEYS}
    where = f"{path}, table [{table}]"
    return settings | {key: Found(_read(key, value, where), where) for key, value in tables.get(table, {}).items()}


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the configuration file lies, or would."""
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(home, "cloudexec", "config.toml")


def _parse(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", remedy="correct its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", remedy="correct the line that is named") from None


def _check_names(names: Iterable[str], where: object) -> None:
    for name in names:
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"keys are {', '.join(KEYS)}"
            raise SettingsError(f"{where}: {name!r} is unknown", remedy=remedy)


def _read(key: str, value: object, where: object) -> Any:
    try:
        return KEYS[key](value)
    except ValueError as error:
        raise SettingsError(f"{where}: {key}={value!r} is not {error}", remedy="correct its value") from None
