"""A template's text as a dictionary: JSON, or YAML with short tags such as !Ref. Pure.

Called by:  template.py.   Calls: PyYAML.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from cloudexec.testing.pocket.server.requests import Refusal

PLAIN_TAGS: Final = ("Ref", "Condition")  # all others stand for Fn::NAME


def invalid(message: str) -> Refusal:
    """What CloudFormation answers to nearly everything that it does not take."""
    return Refusal("ValidationError", message)


def read_template(text: str) -> dict[str, Any]:
    """The dictionary; a ValidationError if there is none."""
    value = _json(text) if text.lstrip().startswith("{") else _yaml(text)
    if not isinstance(value, dict):
        raise invalid("Template format error: unsupported structure.")
    return value


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"(line {error.lineno}, column {error.colno})"
        try:
            return _yaml(text)  # a flow mapping begins like JSON
        except Refusal:
            raise invalid(f"Template format error: JSON not well-formed. {where}") from error


def _yaml(text: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise invalid(f"Template format error: YAML not well-formed.{where}") from error
    except yaml.YAMLError as error:
        raise invalid("Template format error: YAML not well-formed.") from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is not typed here
    """YAML as CloudFormation reads it: dates stay text."""


# A copy: the lists are shared with SafeLoader.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _short_tag(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, object]:
    value: object
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in PLAIN_TAGS else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_tag)
