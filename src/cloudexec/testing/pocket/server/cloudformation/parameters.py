"""What is given for a template's parameters: defaults, previous values, constraints, lists. Pure.

Called by:  template.py, desk.py.   Calls: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.intrinsics import is_true, text_of
from cloudexec.testing.pocket.server.cloudformation.reading import invalid

PLAIN_TYPES: Final = ("String", "Number", "List<Number>", "CommaDelimitedList")
# Of these CloudFormation looks whether they exist; desk.py asks EC2.
KIND_OF_TYPE: Final = {
    "AWS::EC2::VPC::Id": "vpc",
    "AWS::EC2::Subnet::Id": "subnet",
    "AWS::EC2::SecurityGroup::Id": "group",
}
HIDDEN: Final = "****"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter as a template declares it."""

    name: str
    type: str
    default: str | None = None
    description: str = ""
    no_echo: bool = False
    allowed: tuple[str, ...] = ()
    constraints: Mapping[str, Any] = field(default_factory=dict)  # AllowedPattern, MinLength, MaxValue, …

    @property
    def is_list(self) -> bool:
        """Whether its value is a list."""
        return self.type == "CommaDelimitedList" or self.type.startswith("List<")

    @property
    def existing(self) -> str:
        """vpc, subnet or group, if it names one that must exist."""
        return KIND_OF_TYPE.get(self.type.removeprefix("List<").removesuffix(">"), "")

    def value(self, text: str) -> str | list[str]:
        """What Ref gives."""
        return [each.strip() for each in text.split(",")] if self.is_list else text

    def shown(self, text: str) -> str:
        """The text as descriptions tell it."""
        return HIDDEN if self.no_echo else text


def declared(name: str, said: Any) -> Parameter:
    """A parameter of a template; a ValidationError if it cannot be one."""
    if not isinstance(said, dict) or "Type" not in said:
        raise invalid("Template format error: Every Parameters object must contain a Type member.")
    kind = str(said["Type"])
    known = kind in PLAIN_TYPES or kind.removeprefix("List<").removesuffix(">") in KIND_OF_TYPE
    if not known:
        raise invalid(f"Template format error: Unrecognized parameter type: {kind}")
    default = said.get("Default")
    names = ("AllowedPattern", "MinLength", "MaxLength", "MinValue", "MaxValue", "ConstraintDescription")
    return Parameter(
        name=name,
        type=kind,
        default=None if default is None else text_of(default),
        description=str(said.get("Description") or ""),
        no_echo=is_true(said.get("NoEcho", False)),
        allowed=tuple(text_of(each) for each in said.get("AllowedValues") or ()),
        constraints={each: said[each] for each in names if each in said},
    )


def values_of(
    declared: Mapping[str, Parameter], given: list[dict[str, Any]], previous: Mapping[str, str]
) -> dict[str, str]:
    """The text of every parameter. given: `Parameters` of a request; previous: the stack's.

    As on AWS, who does not name a parameter in an update gets its default, and not its previous value.
    """
    named = {str(each.get("ParameterKey")): each for each in given}
    strange = [name for name in named if name not in declared]
    if strange:
        raise invalid(f"Parameters: [{', '.join(strange)}] do not exist in the template")
    texts: dict[str, str] = {}
    for name, parameter in declared.items():
        said = named.get(name, {})
        if said.get("UsePreviousValue"):
            if "ParameterValue" in said:
                what = f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true and non empty"
                raise invalid(f"{what} value for a parameter")
            if name not in previous:
                what = (
                    f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true for a parameter"
                )
                raise invalid(f"{what} key not in the previous template")
            texts[name] = previous[name]
        elif "ParameterValue" in said:
            texts[name] = str(said["ParameterValue"])
        elif parameter.default is not None:
            texts[name] = parameter.default
    missing = [name for name in declared if name not in texts]
    if missing:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    for name, text in texts.items():
        _check(declared[name], text)
    return texts


def _check(parameter: Parameter, text: str) -> None:
    for item in parameter.value(text) if parameter.is_list else [text]:
        _check_item(parameter, str(item))


def _check_item(parameter: Parameter, text: str) -> None:
    name, told = parameter.name, parameter.constraints.get("ConstraintDescription")
    trouble = _trouble(parameter, text)
    if trouble and told:
        raise invalid(f"Parameter '{name}' failed to satisfy constraint: {told}")
    if trouble:
        raise invalid(f"Parameter '{name}' {trouble}")


def _trouble(parameter: Parameter, text: str) -> str:
    """What is wrong with a value; "" if nothing is."""
    limits = parameter.constraints
    if parameter.allowed and text not in parameter.allowed:
        return "must be one of AllowedValues"
    if "AllowedPattern" in limits and not re.fullmatch(str(limits["AllowedPattern"]), text):
        return f"must match pattern {limits['AllowedPattern']}"
    if "MinLength" in limits and len(text) < int(limits["MinLength"]):
        return f"must contain at least {limits['MinLength']} characters"
    if "MaxLength" in limits and len(text) > int(limits["MaxLength"]):
        return f"must contain at most {limits['MaxLength']} characters"
    if "Number" not in parameter.type:
        return ""
    try:
        number = float(text)
    except ValueError:
        return "must be a number"
    if "MinValue" in limits and number < float(limits["MinValue"]):
        return f"must be a number not less than {limits['MinValue']}"
    if "MaxValue" in limits and number > float(limits["MaxValue"]):
        return f"must be a number not greater than {limits['MaxValue']}"
    return ""
