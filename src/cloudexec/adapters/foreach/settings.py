"""What the R user wrote, as executors and options.

Called by: server.py.   Calls: executors, on first use.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, Final

import cloudexec
from cloudexec.errors import SettingsError
from cloudexec.executors.base import CloudExecutor
from cloudexec.ledger.calls import Retry

_EXECUTORS: Final = {"local": "LocalExecutor", "ecs": "ECSExecutor", "lambda": "LambdaExecutor"}
_PYTHON_ONLY: Final = frozenset({"initializer", "initargs", "session", "on_error"})  # values that R cannot write
_OPTIONS: Final = ("timeout_s", "retries", "env", "name", "seed")


def open_executor(kind: str, settings_json: str) -> CloudExecutor:
    """The executor that `registerDoCloudexec(kind, ...)` asks for. Errors: SettingsError."""
    if kind not in _EXECUTORS:
        known = ", ".join(f'"{each}"' for each in _EXECUTORS)
        raise SettingsError(f'there is no executor "{kind}"', remedy=f"use one of {known}")
    made: Any = getattr(cloudexec, _EXECUTORS[kind])
    executor: CloudExecutor = made(**_fitting(made, _table(settings_json)))
    return executor


def loop_options(options_json: str) -> dict[str, Any]:
    """`.options.cloudexec` of one foreach: arguments of `with_options`, and `seed`. Errors: SettingsError."""
    options = _table(options_json)
    for name in options:
        _check_known(name, _OPTIONS, ".options.cloudexec")
    if isinstance(options.get("retries"), dict):
        options["retries"] = _retry(options["retries"])
    seed = options.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise SettingsError(f"seed={seed!r} is not a whole number", remedy="give one, as to set.seed()")
    return options


def _fitting(made: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the executor takes them."""
    known = {
        name: str(parameter.annotation)
        for name, parameter in inspect.signature(made.__init__).parameters.items()
        if name != "self" and name not in _PYTHON_ONLY
    }
    fitting = {}
    for name, value in settings.items():
        _check_known(name, tuple(known), made.__name__)
        # In R one value and a vector of one are the same thing.
        is_one = "Sequence[" in known[name] and not isinstance(value, list) and value is not None
        fitting[name] = _retry(value) if name == "retries" and isinstance(value, dict) else [value] if is_one else value
    return fitting


def _retry(by_cause: Mapping[str, Any]) -> Retry:
    for name in by_cause:
        _check_known(name, tuple(Retry.__dataclass_fields__), "retries")
    return Retry(**by_cause)


def _check_known(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise SettingsError(f"{what} has no setting {name!r}", remedy=f"it has {', '.join(known)}")


def _table(text: str) -> dict[str, Any]:
    """A JSON object; R writes one without names as an empty array."""
    table = json.loads(text) or {}
    if not isinstance(table, dict):
        raise SettingsError(f"{text[:80]} has no names", remedy="give settings as name = value")
    return table
