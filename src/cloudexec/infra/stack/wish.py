"""What `up` was asked for, and what becomes of it with what is there. Pure.

Called by: deploy.py, cli/up.py.   Calls: template, bundle, look.py.
Rule:      what is not asked for stays as it is; where nothing is, the default holds.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cloudexec.errors import SettingsError
from cloudexec.infra.bundle.build import Order
from cloudexec.infra.stack.code import CodeRecord
from cloudexec.infra.stack.look import StackState
from cloudexec.infra.stack.network import Network
from cloudexec.infra.template.options import StackOptions

PARTS: Final = {"ecs": (True, False), "lambda": (False, True), "both": (True, True)}
_BY_OPTION: Final = {"VpcId": "--network", "Subnets": "--network", "BundleKey": "--packages", "Architecture": "--arch"}
THIS_PYTHON: Final = "{}.{}".format(*sys.version_info[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for; None: nothing was said. only: ecs, lambda or both; requirements: the text of a file."""

    only: str | None = None
    network: Network | None = None
    packages: tuple[str, ...] | None = None
    requirements: str | None = None
    arch: str | None = None
    python: str | None = None
    builds: bool | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    is_rebuilt: bool = False  # packages are fetched anew, to get newer versions


def options_of(wish: Wish, before: StackOptions | None) -> StackOptions:
    """What the template is made from."""
    options = before or StackOptions(python=THIS_PYTHON)
    if wish.only:
        ecs, function = PARTS[wish.only]
        options = replace(options, ecs=ecs, function=function)
    if wish.network:
        options = replace(options, network=wish.network.kind)
    if wish.builds is not None:
        options = replace(options, builds=wish.builds)
    return replace(options, python=wish.python) if wish.python else options


def order_of(wish: Wish, options: StackOptions, before: CodeRecord | None, arch: str) -> Order:
    """What the bundle is made of. arch: the stack's. Errors: SettingsError."""
    packages = wish.packages if wish.packages is not None else before.packages if before else ()
    requirements = wish.requirements if wish.requirements is not None else before.requirements if before else ""
    return Order(packages=packages, requirements=requirements, python=options.python, arch=arch)


def needs_bundle(options: StackOptions, parameters: Mapping[str, str]) -> bool:
    """Whether any part has no image of its own. parameters: as they will be."""
    is_for_worker = options.ecs and not parameters.get("WorkerImage")
    return is_for_worker or needs_bundle_for_function(options, parameters)


def needs_bundle_for_function(options: StackOptions, parameters: Mapping[str, str]) -> bool:
    """Whether the bundle is the function's code, which has a limit."""
    return options.function and not parameters.get("FunctionImage")


def check_parameters(given: Mapping[str, str], template: Mapping[str, Any]) -> None:
    """Errors: SettingsError for names that the template does not have, and those that an option sets; for values
    that CloudFormation would refuse without saying which it takes."""
    known = template["Parameters"]
    for name, value in given.items():
        if name in _BY_OPTION:
            raise SettingsError(f"--parameters {name} is set by an option", remedy=f"give {_BY_OPTION[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            names = ", ".join(each for each in known if each not in _BY_OPTION)
            remedy = f"did you mean {near[0]!r}?" if near else f"names are {names}"
            raise SettingsError(f"--parameters {name} is unknown", remedy=remedy)
        if wanted := _wanted(value, known[name]):
            raise SettingsError(f"--parameters {name}={value} is not what it takes", remedy=f"give {wanted}")


def _wanted(value: str, about: Mapping[str, Any]) -> str:
    """What a parameter takes, if this is not it."""
    if "AllowedValues" in about:
        allowed = [str(each) for each in about["AllowedValues"]]
        return "" if value in allowed else f"one of {', '.join(allowed)}"
    if about.get("Type") != "Number":
        return ""
    least, most = about.get("MinValue", -math.inf), about.get("MaxValue", math.inf)
    is_number = re.fullmatch(r"[+-]?\d+(\.\d+)?", value) is not None
    if is_number and least <= float(value) <= most:
        return ""
    return f"a number from {least} to {most}" if most < math.inf else "a number"


def parameters_of(template: Mapping[str, Any], own: Mapping[str, str], state: StackState) -> dict[str, str | None]:
    """Values for a change set: what we say, else what the stack has (None), else the default (left out)."""
    found: dict[str, str | None] = {}
    for name in template["Parameters"]:
        if name in own:
            found[name] = own[name]
        elif name in state.parameters and not state.is_absent:
            found[name] = None
    return found


def values_of(template: Mapping[str, Any], parameters: Mapping[str, str | None], state: StackState) -> dict[str, str]:
    """What all parameters will be."""
    defaults = {name: str(about.get("Default", "")) for name, about in template["Parameters"].items()}
    said = {name: state.parameters.get(name, "") if value is None else value for name, value in parameters.items()}
    return defaults | said
