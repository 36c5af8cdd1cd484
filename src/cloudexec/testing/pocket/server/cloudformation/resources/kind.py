"""What every type of resource is: how it is made, changed and removed, by requests.

Called by:  the files of this folder, steps.py.   Calls: shapes.py.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from botocore import xform_name

from cloudexec.testing.pocket.server.cloudformation.intrinsics import text_of
from cloudexec.testing.pocket.server.cloudformation.shapes import Unwanted, shaped

RANDOM_LENGTH: Final = 12
Properties = Mapping[str, Any]


class Failed(Exception):
    """A resource that cannot be made, for a reason that no service told.

    Arguments: message, code: what AWS calls the HandlerErrorCode.
    """

    def __init__(self, message: str, code: str = "InvalidRequest") -> None:
        super().__init__(message, code)
        self.message, self.code = message, code


@dataclass(frozen=True, kw_only=True)
class Made:
    """A resource that is there."""

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)  # what Fn::GetAtt gives


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the making of one resource has at hand."""

    stack_name: str
    logical_id: str
    region: str
    account_id: str
    ask: Callable[..., dict[str, Any]]  # (service, operation, **request): the reply; botocore's ClientError
    drop: Callable[..., None]  # the same, where nothing is to be said if it is gone already
    begun: Callable[[str], object]  # from now on the resource has this physical id, and is removed if the rest fails
    input_shape: Callable[[str, str], Any]  # (service, operation): botocore's model of the request
    bucket_is_ours: Callable[[str], bool]  # without a request that would be counted

    def name(self, limit: int, *, lower: bool = False) -> str:
        """A name as CloudFormation makes it up: STACK-LOGICALID-RANDOM, the stack's name shortened to the limit."""
        letters = string.ascii_lowercase if lower else string.ascii_letters
        chance = "".join(secrets.choice(letters + string.digits) for _ in range(RANDOM_LENGTH))
        logical_id = self.logical_id[: limit - RANDOM_LENGTH - 3]
        stack = self.stack_name[: max(1, limit - RANDOM_LENGTH - 2 - len(logical_id))]
        name = f"{stack}-{logical_id}-{chance}"
        return name.lower() if lower else name

    def request(self, service: str, operation: str, properties: Properties) -> dict[str, Any]:
        """Properties as that operation's request has them; Unwanted."""
        return dict(shaped(dict(properties), self.input_shape(service, operation)))

    def ask_for(self, service: str, operation: str, properties: Properties) -> dict[str, Any]:
        """The reply to a request with these properties; Unwanted. operation: as the API has it: `CreateCluster`."""
        return self.ask(service, xform_name(operation), **self.request(service, operation, properties))


class Kind:
    """One type of resource. What `replaced_by` names cannot be changed in place."""

    type: ClassVar[str]
    properties: ClassVar[frozenset[str]]
    required: ClassVar[frozenset[str]] = frozenset()
    replaced_by: ClassVar[frozenset[str]] = frozenset()
    attributes: ClassVar[tuple[str, ...]] = ()
    name_property: ClassVar[str] = ""
    capability: ClassVar[bool] = False  # whether it needs CAPABILITY_IAM
    has_tags: ClassVar[bool] = False  # whether it takes the stack's tags

    def needs_named_capability(self, properties: Properties) -> bool:
        """Whether CAPABILITY_IAM is not enough."""
        return self.capability and bool(self.name_property) and self.name_property in properties

    def check(self, properties: Properties) -> None:
        """Refuse properties by their names; Unwanted."""
        for name in properties:
            if name not in self.properties:
                raise Unwanted(f"#: extraneous key [{name}] is not permitted")
        for name in sorted(self.required):
            if name not in properties:
                raise Unwanted(f"#: required key [{name}] not found")

    def create(self, job: Job, properties: Properties) -> Made:
        """Make it."""
        raise NotImplementedError

    def update(self, job: Job, physical_id: str, properties: Properties, before: Properties) -> Made:
        """Change it in place; what `replaced_by` names has not changed."""
        raise NotImplementedError

    def delete(self, job: Job, physical_id: str, properties: Properties) -> None:
        """Remove it; what is gone already raises as the service does."""
        raise NotImplementedError


def changed(properties: Properties, before: Properties, *names: str) -> bool:
    """Whether one of these properties differs."""
    return any(properties.get(name) != before.get(name) for name in names)


def differing(properties: Properties, before: Properties) -> set[str]:
    """Names of all properties that differ."""
    return {name for name in {*properties, *before} if changed(properties, before, name)}


def document(value: Any) -> str:
    """A policy as the request has it."""
    return value if isinstance(value, str) else json.dumps(value)


def tags_of(properties: Properties) -> dict[str, str]:
    """Tags as a map; the stack's are among them."""
    return {str(tag["Key"]): text_of(tag["Value"]) for tag in properties.get("Tags") or []}


def key_values(properties: Properties, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Tags as a list."""
    return [{key: name, value: text} for name, text in tags_of(properties).items()]


def retag(
    properties: Properties, before: Properties, untag: Callable[[list[str]], object], tag: Callable[[], object]
) -> None:
    """Tags as they are wanted now. untag: takes away those of these names; tag: sets all that are wanted."""
    if not changed(properties, before, "Tags"):
        return
    gone = sorted(set(tags_of(before)) - set(tags_of(properties)))
    if gone:
        untag(gone)
    if tags_of(properties):
        tag()


def without(properties: Properties, *names: str) -> dict[str, Any]:
    """The properties but these."""
    return {name: value for name, value in properties.items() if name not in names}


def only(properties: Properties, *names: str) -> dict[str, Any]:
    """These of the properties, where they are there."""
    return {name: properties[name] for name in names if name in properties}
