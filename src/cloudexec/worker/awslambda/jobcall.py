"""What runs in the slot of a job: import the callable, call it, and write what came of it as JSON.

Called by: a slot, by name; jobs.py names it.
Whatever happens becomes text: nobody unpickles what a job has made.
"""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_TRACEBACK = 64 * 1024


def run_named(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Call `module:function`; JSON with `state`, and `value` or `error`, as results have them."""
    try:
        value = _find(name)(*args, **kwargs)
    except BaseException as error:  # also SystemExit: a job is a call, not the process
        return json.dumps({"state": "failed", "value": None, "error": _described(error)})
    try:
        return json.dumps({"state": "done", "value": value, "error": None}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        message = f"the result, a {type(value).__qualname__}, cannot be written as JSON: {problem}"
        described = {"type": "UnpicklableResult", "message": message, "traceback": ""}
        return json.dumps({"state": "failed", "value": None, "error": described})


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _described(error: BaseException) -> dict[str, str]:
    try:
        message = str(error)
    except Exception:  # its class is the user's
        message = "?"
    try:
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:
        text = ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": message, "traceback": text[-_MOST_TRACEBACK:]}
