"""Properties of a resource as an API's request wants them, after botocore's model of that API. Pure.

Called by:  resources/.   Calls: nothing; the shapes are asking.py's.

CloudFormation writes `EntryPoint` where ECS's request has `entryPoint`, and takes "1024" where a number is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cloudexec.testing.pocket.server.cloudformation.intrinsics import text_of


class Unwanted(Exception):
    """Properties that a type of resource does not take."""


def shaped(value: Any, shape: Any, where: str = "#") -> Any:
    """The value with names and types of the shape; Unwanted where it does not fit."""
    kind = shape.type_name
    if kind == "structure":
        return _structure(value, shape, where)
    if kind == "list":
        if not isinstance(value, list):
            raise Unwanted(f"{where}: expected type: JSONArray, found: {_word(value)}")
        return [shaped(each, shape.member, f"{where}/{index}") for index, each in enumerate(value)]
    if kind == "map":
        if not isinstance(value, dict):
            raise Unwanted(f"{where}: expected type: JSONObject, found: {_word(value)}")
        return {text_of(key): shaped(each, shape.value, f"{where}/{key}") for key, each in value.items()}
    return _scalar(value, kind, where)


def _structure(value: Any, shape: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unwanted(f"{where}: expected type: JSONObject, found: {_word(value)}")
    names = {name.lower(): name for name in shape.members}
    found = {}
    for key, each in value.items():
        name = names.get(str(key).lower())
        if name is None:
            raise Unwanted(f"{where}: extraneous key [{key}] is not permitted")
        found[name] = shaped(each, shape.members[name], f"{where}/{key}")
    for name in shape.required_members:
        if name not in found:
            raise Unwanted(f"{where}: required key [{name[0].upper()}{name[1:]}] not found")
    return found


def _scalar(value: Any, kind: str, where: str) -> Any:
    if kind == "string" and isinstance(value, dict):
        return json.dumps(value)  # a policy
    if isinstance(value, (list, dict)):
        raise Unwanted(f"{where}: expected type: {kind.capitalize()}, found: {_word(value)}")
    text = text_of(value)
    try:
        if kind in ("integer", "long"):
            return int(text)
        if kind in ("float", "double"):
            return float(text)
    except ValueError:
        raise Unwanted(f"{where}: expected type: Number, found: String") from None
    if kind == "boolean":
        if text not in ("true", "false"):
            raise Unwanted(f"{where}: expected type: Boolean, found: {_word(value)}")
        return text == "true"
    return text


def _word(value: Any) -> str:
    words: Mapping[type, str] = {
        dict: "JSONObject",
        list: "JSONArray",
        bool: "Boolean",
        int: "Integer",
        float: "Double",
    }
    return words.get(type(value), "String")
