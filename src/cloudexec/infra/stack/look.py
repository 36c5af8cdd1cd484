"""What is there of a stack.

Called by: all that acts beside it, settings_file.py, doctor.   Calls: place.py; template, for its options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.place import Place
from cloudexec.infra.template.options import OPTIONS_KEY, STACK_TAG, StackOptions

# As the repository of images takes it: no hyphens side by side or at the end, and not one letter alone.
_NAME: Final = re.compile(r"(?=.{2,30}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*").fullmatch
BROKEN: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")  # it can only be removed
REVIEW: Final = "REVIEW_IN_PROGRESS"  # a change set was made, nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """One stack as CloudFormation tells of it. status: empty if there is none. options: None if it is not ours."""

    name: str
    id: str = ""
    status: str = ""
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    options: StackOptions | None = None
    created: datetime | None = None
    updated: datetime | None = None

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing but, perhaps, an empty stack that waits for a review."""
        return self.status in ("", REVIEW, "DELETE_COMPLETE")

    @property
    def is_ours(self) -> bool:
        """Whether `cloudexec up` made it. An empty one belongs to nobody."""
        return self.tags.get(STACK_TAG) == self.name or self.is_absent

    @property
    def is_busy(self) -> bool:
        """Whether CloudFormation works on it now."""
        return self.status.endswith("_IN_PROGRESS") and self.status != REVIEW

    @property
    def is_broken(self) -> bool:
        """Whether it can only be removed."""
        return self.status in BROKEN

    @property
    def bundle_key(self) -> str:
        """The key of the code that is in use; empty before its upload."""
        return self.parameters.get("BundleKey", "")

    @property
    def subnets(self) -> list[str]:
        """Of the outputs: where tasks live."""
        return [one for one in self.outputs.get("Subnets", "").split(",") if one]

    def age_s(self, now: datetime) -> float:
        """Seconds since its last change."""
        since = self.updated or self.created
        return (now - since).total_seconds() if since else 0.0


def check_name(name: str) -> None:
    """Errors: SettingsError. Buckets, repositories and roles are named after the stack, so it is short and small."""
    if not _NAME(name):
        what = f"stack={name!r} is not a name for a stack of cloudexec"
        remedy = "give 2 to 30 lower-case letters and digits, with single hyphens between them, beginning with a letter"
        raise SettingsError(what, remedy=remedy)


def look(place: Place, name: str = "") -> StackState:
    """The stack of the place, or the one of this name or id. Errors: AwsError and its kin, SettingsError."""
    state = glance(place, name)
    if state.is_absent or not state.is_ours:
        return state
    template = place.ask("cloudformation", "get_template", {"StackName": state.id, "TemplateStage": "Original"})
    return replace(state, options=read_options(template.get("TemplateBody")))


def glance(place: Place, name: str = "") -> StackState:
    """The same without its options: one request, not two. Errors: AwsError and its kin."""
    try:
        reply = place.ask("cloudformation", "describe_stacks", {"StackName": name or place.stack})
    except AwsError as error:
        # One code for a stack that is not there, and for much else.
        if error.code == "ValidationError" and "does not exist" in error.what:
            return StackState(name=place.stack)
        raise
    said = reply["Stacks"][0]
    if said["StackStatus"] == "DELETE_COMPLETE":  # asked for by its id
        return StackState(name=said["StackName"], id=said["StackId"], status="DELETE_COMPLETE")
    return read_stack(said)


def read_stack(said: Mapping[str, Any], template: Any = None) -> StackState:
    """One of `Stacks` of DescribeStacks, and what GetTemplate has. Errors: SettingsError for a newer format."""
    return StackState(
        name=said["StackName"],
        id=said["StackId"],
        status=said["StackStatus"],
        reason=said.get("StackStatusReason") or "",
        parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in said.get("Parameters") or ()},
        outputs={each["OutputKey"]: each["OutputValue"] for each in said.get("Outputs") or ()},
        tags={each["Key"]: each["Value"] for each in said.get("Tags") or ()},
        options=read_options(template),
        created=said.get("CreationTime"),
        updated=said.get("LastUpdatedTime"),
    )


def read_options(template: Any) -> StackOptions | None:
    """What a template was made from; None if it is not one of ours. Errors: SettingsError for a newer format."""
    if isinstance(template, str):
        try:
            template = json.loads(template)
        except ValueError:  # YAML, which `up` never sends: somebody has deployed what --print gave
            template = _read_yaml(template)
    metadata = template.get("Metadata") if isinstance(template, Mapping) else None
    if not isinstance(metadata, Mapping) or OPTIONS_KEY not in metadata:
        return None
    return StackOptions.from_metadata(metadata[OPTIONS_KEY])


def _read_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML is not typed here
        """Takes short tags, whose values nobody asks for here."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return None
