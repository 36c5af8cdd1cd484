"""Ref, Fn::GetAtt, Fn::Sub and their kin: what a value means, and what it refers to. Pure.

Called by:  model.py, template.py.   Calls: nothing; the scope knows what names stand for.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.reading import invalid

VARIABLE: Final = re.compile(r"\$\{(!?)([^}]*)\}")
VARIABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.:]+")
PSEUDO: Final = ("AccountId", "NotificationARNs", "NoValue", "Partition", "Region", "StackId", "StackName", "URLSuffix")
JOIN_WORDS: Final = (
    "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of strings "
    "to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
)


class NoValue:
    """What AWS::NoValue means: the property is not there."""


NO_VALUE: Final = NoValue()


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What names stand for."""

    parameters: Mapping[str, str | list[str]]
    conditions: Mapping[str, bool]
    mappings: Mapping[str, Any]
    pseudo: Mapping[str, Any]  # "AWS::Region" and its kin
    reference: Callable[[str], Any]  # Ref of a resource
    attribute: Callable[[str, str], Any]  # Fn::GetAtt
    zones: Callable[[str], list[str]]  # of a region


def resolve(value: Any, scope: Scope) -> Any:
    """The value with all functions carried out; NO_VALUE where nothing is to stand."""
    if isinstance(value, list):
        return [item for item in (resolve(each, scope) for each in value) if item is not NO_VALUE]
    if not isinstance(value, dict):
        return value
    called = function_of(value)
    if called is not None:
        return FUNCTIONS[called](value[called], scope)
    resolved = {key: resolve(each, scope) for key, each in value.items()}
    return {key: each for key, each in resolved.items() if each is not NO_VALUE}


def function_of(value: dict[str, Any]) -> str | None:
    """The function that a dictionary calls; None if it is plain data."""
    if len(value) != 1:
        return None
    (name,) = value
    if name in FUNCTIONS:
        return str(name)
    if isinstance(name, str) and name.startswith("Fn::"):
        known = ", ".join(name for name in FUNCTIONS if name.startswith("Fn::"))
        raise invalid(f"Template error: Encountered unsupported function: {name} Supported functions are: [{known}]")
    return None


def text_of(value: object) -> str:
    """A scalar as text: true rather than True."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_true(value: object) -> bool:
    """Whether a scalar says true, as a word or as a value."""
    return text_of(value) == "true"


# --- functions ---------------------------------------------------------------------------------------


def _ref(name: Any, scope: Scope) -> Any:
    if name == "AWS::NoValue":
        return NO_VALUE
    if name in scope.pseudo:
        return scope.pseudo[name]
    if name in scope.parameters:
        return scope.parameters[name]
    return scope.reference(str(name))


def _get_att(said: Any, scope: Scope) -> Any:
    name, attribute = attribute_named(said)
    return scope.attribute(name, text_of(resolve(attribute, scope)))


def attribute_named(said: Any) -> tuple[str, Any]:
    """Resource and attribute of a Fn::GetAtt."""
    if isinstance(said, str) and "." in said:
        said = said.split(".", 1)
    if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str):
        what = "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and"
        raise invalid(f"{what} the resource attribute")
    return said[0], said[1]


def _sub(said: Any, scope: Scope) -> str:
    text, given = sub_parts(said)
    values = {name: resolve(each, scope) for name, each in given.items()}

    def replace(found: re.Match[str]) -> str:
        if found[1]:
            return f"${{{found[2]}}}"  # ${!Literal}
        name = found[2].strip()
        value = values[name] if name in values else _named(name, scope)
        if isinstance(value, (list, dict, NoValue)):
            raise invalid(f"Template error: Fn::Sub expression does not resolve to a string: {name}")
        return text_of(value)

    return VARIABLE.sub(replace, text)


def _named(name: str, scope: Scope) -> Any:
    if "." in name and not name.startswith("AWS::"):
        resource, attribute = name.split(".", 1)
        return scope.attribute(resource, attribute)
    return _ref(name, scope)


def sub_parts(said: Any) -> tuple[str, dict[str, Any]]:
    """Text and variables of a Fn::Sub."""
    if isinstance(said, str):
        said = [said, {}]
    if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str) or not isinstance(said[1], dict):
        what = "Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a"
        more = "string as first argument, and an optional second argument to specify a mapping of values to replace in"
        raise invalid(f"{what} {more} the string")
    for mark, name in VARIABLE.findall(said[0]):
        if not mark and not VARIABLE_NAME.fullmatch(name.strip()):
            what = "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters,"
            raise invalid(f"{what} underscores, periods, and colons")
    return said[0], said[1]


def _join(said: Any, scope: Scope) -> str:
    if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str):
        raise invalid(JOIN_WORDS)
    items = resolve(said[1], scope)
    if not isinstance(items, list) or any(isinstance(item, (list, dict)) for item in items):
        raise invalid(JOIN_WORDS)
    return said[0].join(text_of(item) for item in items)


def _select(said: Any, scope: Scope) -> Any:
    if not isinstance(said, list) or len(said) != 2:
        what = "Template error: every Fn::Select object requires two non-null parameters, the first is an integer index"
        raise invalid(f"{what} and the second a list")
    index, items = text_of(resolve(said[0], scope)), resolve(said[1], scope)
    if not isinstance(items, list) or not index.isdigit() or int(index) >= len(items):
        raise invalid(f"Template error: Fn::Select  cannot select nonexistent value at index {index}")
    return items[int(index)]


def _split(said: Any, scope: Scope) -> list[str]:
    if not isinstance(said, list) or len(said) != 2 or not isinstance(said[0], str) or not said[0]:
        what = "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string"
        raise invalid(f"{what} to be split or a function that returns a string to be split.")
    return text_of(resolve(said[1], scope)).split(said[0])


def _get_azs(said: Any, scope: Scope) -> list[str]:
    return scope.zones(text_of(resolve(said, scope)) or str(scope.pseudo["AWS::Region"]))


def _if(said: Any, scope: Scope) -> Any:
    return resolve(branch(said, scope.conditions), scope)


def branch(said: Any, conditions: Mapping[str, bool]) -> Any:
    """What a Fn::If takes."""
    if not isinstance(said, list) or len(said) != 3:
        raise invalid("Template error: Fn::If requires a list argument with three elements")
    if said[0] not in conditions:
        raise invalid(f"Template format error: Unresolved condition dependency {said[0]} in Fn::If")
    return said[1] if conditions[said[0]] else said[2]


def _find_in_map(said: Any, scope: Scope) -> Any:
    if not isinstance(said, list) or len(said) != 3:
        what = "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the"
        raise invalid(f"{what} attribute for return value")
    names = [text_of(resolve(each, scope)) for each in said]
    found: Any = scope.mappings
    for name in names:
        if not isinstance(found, dict) or name not in found:
            raise invalid(f"Template error: Unable to get mapping for {'::'.join(names)}")
        found = found[name]
    return found


def _base64(said: Any, scope: Scope) -> str:
    return base64.b64encode(text_of(resolve(said, scope)).encode()).decode()


def _cidr(said: Any, scope: Scope) -> list[str]:
    block, count, bits = (text_of(each) for each in resolve(said, scope))
    network = ipaddress.ip_network(block)
    subnets = network.subnets(new_prefix=network.max_prefixlen - int(bits))
    return [str(subnet) for _, subnet in zip(range(int(count)), subnets, strict=False)]


FUNCTIONS: Final[dict[str, Callable[[Any, Scope], Any]]] = {
    "Ref": _ref,
    "Fn::Base64": _base64,
    "Fn::Cidr": _cidr,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": _get_azs,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
}


# --- conditions --------------------------------------------------------------------------------------


def evaluate_conditions(
    written: Mapping[str, Any], parameters: Mapping[str, Any], mappings: Mapping[str, Any], pseudo: Mapping[str, Any]
) -> dict[str, bool]:
    """Every condition of a template."""

    def only_parameters(name: str, *_: str) -> Any:
        what = f"Unresolved dependencies [{name}]. Cannot reference resources in the Conditions block of the template"
        raise invalid(f"Template format error: {what}")

    known: dict[str, bool] = {}
    scope = Scope(
        parameters=parameters,
        conditions=known,
        mappings=mappings,
        pseudo=pseudo,
        reference=only_parameters,
        attribute=only_parameters,
        zones=lambda region: only_parameters("Fn::GetAZs"),
    )

    def named(name: str, way: tuple[str, ...]) -> bool:
        if name in way:
            raise invalid(f"Template error: Found circular condition dependency between {name} and {way[-1]}")
        if name not in written:
            raise invalid(f"Template format error: Unresolved condition dependency {name} in the Conditions block")
        if name not in known:
            known[name] = holds(written[name], (*way, name))
        return known[name]

    def holds(said: Any, way: tuple[str, ...]) -> bool:
        if not isinstance(said, dict) or len(said) != 1:
            raise invalid(
                "Template format error: Conditions can only be boolean operations on parameters and other conditions"
            )
        ((function, given),) = said.items()
        if function == "Condition":
            return named(str(given), way)
        if not isinstance(given, list):
            raise invalid(f"Template error: every {function} object requires a list of conditions")
        if function == "Fn::Equals" and len(given) == 2:
            first, second = (resolve(each, scope) for each in given)
            return text_of(first) == text_of(second)
        if function == "Fn::Not" and len(given) == 1:
            return not holds(given[0], way)
        if function in ("Fn::And", "Fn::Or") and 2 <= len(given) <= 10:
            each = [holds(one, way) for one in given]
            return all(each) if function == "Fn::And" else any(each)
        raise invalid(
            "Template format error: Conditions can only be boolean operations on parameters and other conditions"
        )

    return {name: named(name, ()) for name in written}


# --- what a value refers to --------------------------------------------------------------------------


def prune(value: Any, conditions: Mapping[str, bool]) -> Any:
    """The value with each Fn::If replaced by what it takes, so that only what counts is looked at."""
    if isinstance(value, list):
        return [prune(each, conditions) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::If"}:
        return prune(branch(value["Fn::If"], conditions), conditions)
    return {key: prune(each, conditions) for key, each in value.items()}


def references(value: Any) -> Iterator[tuple[str, str | None]]:
    """Names that a value refers to, with the attribute where one is asked for; parameters among them."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if not isinstance(value, dict):
        return
    called = function_of(value)
    if called == "Ref":
        yield str(value[called]), None
    elif called == "Fn::GetAtt":
        name, attribute = attribute_named(value[called])
        yield name, attribute if isinstance(attribute, str) else ""
        yield from references(attribute)
    elif called == "Fn::Sub":
        text, given = sub_parts(value[called])
        yield from references(list(given.values()))
        for mark, name in VARIABLE.findall(text):
            if not mark and name.strip() not in given:
                yield _reference_in_text(name.strip())
    else:
        yield from references(list(value.values()))


def _reference_in_text(name: str) -> tuple[str, str | None]:
    if name.startswith("AWS::") or "." not in name:
        return name, None
    resource, attribute = name.split(".", 1)
    return resource, attribute
