"""A template, checked as CloudFormation checks it before it begins anything. Pure.

Called by:  desk.py, model.py.
Calls:      reading.py, intrinsics.py, parameters.py; the kinds of resources, for their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.intrinsics import NO_VALUE, PSEUDO, references, text_of
from cloudexec.testing.pocket.server.cloudformation.parameters import Parameter, declared
from cloudexec.testing.pocket.server.cloudformation.reading import invalid, read_template
from cloudexec.testing.pocket.server.cloudformation.resources.kind import Kind

SECTIONS: Final = (
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
)
MEMBERS: Final = (
    "Type",
    "Properties",
    "Condition",
    "DependsOn",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "Metadata",
    "CreationPolicy",
    "UpdatePolicy",
)
POLICIES: Final = ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One resource as a template declares it."""

    logical_id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    condition: str = ""
    depends_on: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    metadata: Any = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template that passed the checks."""

    text: str
    description: str
    parameters: Mapping[str, Parameter]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    resources: Mapping[str, Declared]
    outputs: Mapping[str, Mapping[str, Any]]
    capabilities: tuple[str, ...]  # that it needs
    capability_types: tuple[str, ...]  # because of these


def parse(text: str, kinds: Mapping[str, Kind]) -> Template:
    """The template; a ValidationError if it cannot be one."""
    said = read_template(text)
    strange = [str(name) for name in said if name not in SECTIONS and name not in ("Transform", "Rules", "Hooks")]
    if strange:
        raise invalid(f"Invalid template property or properties [{', '.join(strange)}]")
    for name in ("Transform", "Rules", "Hooks"):
        if name in said:
            raise invalid(f"Template error: the pocket AWS knows no {name}")
    for name in SECTIONS[3:]:
        if not isinstance(said.get(name, {}), dict):
            raise invalid(f"Template format error: {name} must be a map")
    if not said.get("Resources"):
        raise invalid("Template format error: At least one Resources member must be defined.")
    resources = {name: _declared(str(name), each) for name, each in said["Resources"].items()}
    strange = sorted({each.type for each in resources.values() if each.type not in kinds})
    if strange:
        raise invalid(f"Template format error: Unrecognized resource types: [{', '.join(strange)}]")
    types = tuple(dict.fromkeys(each.type for each in resources.values() if kinds[each.type].capability))
    is_named = any(kinds[each.type].needs_named_capability(each.properties) for each in resources.values())
    template = Template(
        text=text,
        description=str(said.get("Description") or ""),
        parameters={name: declared(name, each) for name, each in said.get("Parameters", {}).items()},
        mappings=said.get("Mappings", {}),
        conditions=said.get("Conditions", {}),
        resources=resources,
        outputs=_outputs(said.get("Outputs", {})),
        capabilities=("CAPABILITY_NAMED_IAM",) if is_named else ("CAPABILITY_IAM",) if types else (),
        capability_types=types,
    )
    _check_references(template, kinds)
    return template


def _declared(name: str, said: Any) -> Declared:
    if not name.isalnum():
        raise invalid(f"Template format error: Resource name {name} is non alphanumeric.")
    if not isinstance(said, dict) or not isinstance(said.get("Type"), str):
        what = f"[/Resources/{name}] Every Resources object must contain a Type member."
        raise invalid(f"Template format error: {what}")
    for member in said:
        if member not in MEMBERS:
            raise invalid(f"Invalid template resource property '{member}'")
    depends = said.get("DependsOn", [])
    policies = {member: said.get(member, "Delete") for member in ("DeletionPolicy", "UpdateReplacePolicy")}
    for member, value in policies.items():
        if value not in POLICIES:
            raise invalid(f"Template format error: Unrecognized {member} {value} for resource {name}")
    properties = said.get("Properties") or {}
    if not isinstance(properties, dict):
        raise invalid(
            f"Template format error: [/Resources/{name}/Properties] 'null' values are not allowed in templates"
        )
    return Declared(
        logical_id=name,
        type=said["Type"],
        properties=properties,
        condition=str(said.get("Condition") or ""),
        depends_on=tuple([depends] if isinstance(depends, str) else depends),
        deletion_policy=policies["DeletionPolicy"],
        update_replace_policy=policies["UpdateReplacePolicy"],
        metadata=said.get("Metadata"),
    )


def _outputs(said: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    for name, output in said.items():
        if not str(name).isalnum():
            raise invalid(f"Template format error: Outputs name '{name}' is non alphanumeric.")
        if not isinstance(output, dict) or "Value" not in output:
            raise invalid(f"Template format error: Every Outputs member must contain a Value object: {name}")
    return dict(said)


def _check_references(template: Template, kinds: Mapping[str, Kind]) -> None:
    for block, values in (
        ("Resources", [each.properties for each in template.resources.values()]),
        ("Outputs", list(template.outputs.values())),
    ):
        known = {*template.parameters, *template.resources, *(f"AWS::{name}" for name in PSEUDO)}
        found = list(references(values))
        missing = sorted({name for name, attribute in found if attribute is None and name not in known})
        if missing:
            what = f"Unresolved resource dependencies [{', '.join(missing)}] in the {block} block of the template"
            raise invalid(f"Template format error: {what}")
        for name, attribute in found:
            if attribute:
                _check_attribute(template, kinds, name, attribute)
    depended = {name for each in template.resources.values() for name in each.depends_on}
    missing = sorted(depended - set(template.resources))
    if missing:
        what = f"Unresolved resource dependencies [{', '.join(missing)}] in the Resources block of the template"
        raise invalid(f"Template format error: {what}")
    conditions = {each.condition for each in template.resources.values()}
    conditions |= {str(output.get("Condition") or "") for output in template.outputs.values()}
    for name in sorted(conditions - {""} - set(template.conditions)):
        raise invalid(f"Template format error: Unresolved condition dependency {name}")


def _check_attribute(template: Template, kinds: Mapping[str, Kind], name: str, attribute: str) -> None:
    if name not in template.resources:
        raise invalid(f"Template error: instance of Fn::GetAtt references undefined resource {name}")
    if attribute not in kinds[template.resources[name].type].attributes:
        what = f"resource {name} does not support attribute type {attribute} in Fn::GetAtt"
        raise invalid(f"Template error: {what}")


def check_capabilities(template: Template, given: list[str]) -> bool:
    """Whether the given capabilities are what the template needs."""
    if template.capabilities == ("CAPABILITY_IAM",):
        return bool({"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"} & set(given))
    return set(template.capabilities) <= set(given)


def outputs_of(
    template: Template, conditions: Mapping[str, bool], resolved: Callable[[Any], Any]
) -> list[dict[str, str]]:
    """`Outputs` of DescribeStacks."""
    found = []
    for name, said in template.outputs.items():
        if not conditions.get(str(said.get("Condition") or ""), True):
            continue
        value = resolved(said["Value"])
        if value is NO_VALUE or isinstance(value, (list, dict)):
            what = f"The Value field of every Outputs member must evaluate to a String: {name}"
            raise invalid(f"Template format error: {what}")
        output = {"OutputKey": name, "OutputValue": text_of(value)}
        if said.get("Description"):
            output["Description"] = str(said["Description"])
        if isinstance(said.get("Export"), dict):
            output["ExportName"] = text_of(resolved(said["Export"].get("Name")))
        found.append(output)
    return found
