"""A template with its parameters: which resources there are, in which order, and what their properties say. Pure.

Called by:  desk.py, changes.py, work.py.   Calls: intrinsics.py, template.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cloudexec.testing.pocket.server.cloudformation.intrinsics import (
    Scope,
    evaluate_conditions,
    prune,
    references,
    resolve,
    text_of,
)
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.template import Declared, Template, outputs_of

Reference = Callable[[str], Any]
Attribute = Callable[[str, str], Any]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a stack is to be."""

    template: Template
    texts: Mapping[str, str]  # of the parameters
    tags: Mapping[str, str]
    pseudo: Mapping[str, Any]
    conditions: Mapping[str, bool]
    resources: Mapping[str, Declared]  # those whose condition holds, their properties pruned
    depends: Mapping[str, tuple[str, ...]]
    levels: tuple[tuple[str, ...], ...]  # what is in one can be made at once, after all before it
    zones: Callable[[str], list[str]]

    def scope(self, reference: Reference, attribute: Attribute) -> Scope:
        """What names stand for, given what is known of resources."""
        declared = self.template.parameters
        return Scope(
            parameters={name: declared[name].value(text) for name, text in self.texts.items()},
            conditions=self.conditions,
            mappings=self.template.mappings,
            pseudo=self.pseudo,
            reference=reference,
            attribute=attribute,
            zones=self.zones,
        )

    def properties(self, name: str, reference: Reference, attribute: Attribute, *, has_tags: bool) -> dict[str, Any]:
        """The properties of a resource with everything resolved; the stack's tags among its own, if it takes tags."""
        found = dict(resolve(dict(self.resources[name].properties), self.scope(reference, attribute)))
        if has_tags and self.tags:
            own = found.get("Tags") or []
            named = {text_of(tag["Key"]) for tag in own}
            found["Tags"] = [*own, *({"Key": key, "Value": self.tags[key]} for key in self.tags if key not in named)]
        return found

    def outputs(self, reference: Reference, attribute: Attribute) -> list[dict[str, str]]:
        """`Outputs` of DescribeStacks."""
        scope = self.scope(reference, attribute)
        return outputs_of(self.template, self.conditions, lambda value: resolve(value, scope))


def model_of(
    template: Template,
    texts: Mapping[str, str],
    tags: Mapping[str, str],
    pseudo: Mapping[str, Any],
    zones: Callable[[str], list[str]],
) -> Model:
    """The model; a ValidationError if the template contradicts itself with these parameters."""
    values = {name: template.parameters[name].value(text) for name, text in texts.items()}
    conditions = evaluate_conditions(template.conditions, values, template.mappings, pseudo)
    active = {
        name: replace(each, properties=prune(each.properties, conditions))
        for name, each in template.resources.items()
        if conditions.get(each.condition, True)
    }
    depends = {name: _depends(each, active, template) for name, each in active.items()}
    outputs = [each for each in template.outputs.values() if conditions.get(str(each.get("Condition") or ""), True)]
    for name, _ in references(prune(outputs, conditions)):
        if name in template.resources and name not in active:
            what = f"Unresolved resource dependencies [{name}] in the Outputs block of the template"
            raise invalid(f"Template format error: {what}")
    return Model(
        template=template,
        texts=texts,
        tags=tags,
        pseudo=pseudo,
        conditions=conditions,
        resources=active,
        depends=depends,
        levels=levels_of(depends),
        zones=zones,
    )


def _depends(said: Declared, active: Mapping[str, Declared], template: Template) -> tuple[str, ...]:
    found = dict.fromkeys(name for name in said.depends_on if name in active)
    for name, _ in references(said.properties):
        if name in active:
            found[name] = None
        elif name in template.resources:
            what = f"Unresolved resource dependencies [{name}] in the Resources block of the template"
            raise invalid(f"Template format error: {what}")
    return tuple(found)


def levels_of(depends: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Layers of a graph, what depends on nothing first; a ValidationError for a circle."""
    levels: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while len(placed) < len(depends):
        level = tuple(
            name
            for name, others in depends.items()
            if name not in placed and placed.issuperset(set(others) & set(depends))
        )
        if not level:
            circle = ", ".join(sorted(set(depends) - placed))
            raise invalid(f"Circular dependency between resources: [{circle}]")
        levels.append(level)
        placed.update(level)
    return tuple(levels)
