"""What every operation needs: look up a stack, read what a request wants, begin the work.

Called by:  plane.py; operations.py, changesets.py, telling.py.   Calls: template.py, parameters.py, model.py, work.py.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from cloudexec.testing.pocket.server.cloudformation import states
from cloudexec.testing.pocket.server.cloudformation.model import Model, model_of
from cloudexec.testing.pocket.server.cloudformation.parameters import values_of
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.stacks import ChangeSet, Stack, new_id
from cloudexec.testing.pocket.server.cloudformation.steps import Over, Tools
from cloudexec.testing.pocket.server.cloudformation.template import Template, check_capabilities, parse
from cloudexec.testing.pocket.server.cloudformation.work import USER, Work
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.settings import ACCOUNT_ID

log = logging.getLogger(__name__)
Wanted = dict[str, Any]
STACK_NAME: Final = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
BODY_BYTES: Final = 51_200
URL_BYTES: Final = 1_048_576
# A parameter that names something of EC2 -> how to look whether it is there.
LOOKS: Final = {
    "vpc": ("describe_vpcs", "VpcIds"),
    "subnet": ("describe_subnets", "SubnetIds"),
    "group": ("describe_security_groups", "GroupIds"),
}
END_S: Final = 10.0


class Caller:
    """Who asks, and where."""

    def __init__(self, access_key: str, region: str) -> None:
        self.access_key, self.region = access_key, region


class Desk:
    """All stacks, and what every operation needs: look up, read a request, begin the work."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.lock = threading.RLock()
        self.stacks: list[Stack] = []  # oldest first, deleted ones too

    def end(self) -> None:
        """Wait for the work that has been told to stop, and forget everything."""
        for stack in self.stacks:
            if stack.thread is not None:
                stack.thread.join(END_S)
        self.stacks = []

    # --- looking up ------------------------------------------------------------------------------

    def find(self, name: str, region: str) -> Stack | None:
        """A stack by its id, or one that is not deleted by its name."""
        for stack in reversed(self.stacks):
            if stack.id == name:
                return stack
            if stack.name == name and stack.region == region and stack.status != "DELETE_COMPLETE":
                return stack
        return None

    def found(self, name: str, region: str) -> Stack:
        """The same; a ValidationError if there is none."""
        stack = self.find(name, region)
        if stack is None:
            raise invalid(f"Stack with id {name} does not exist")
        return stack

    def found_for_change(self, name: str, region: str) -> Stack:
        """The same in the words that other operations have."""
        stack = self.find(name, region)
        if stack is None or stack.status == "DELETE_COMPLETE":
            raise invalid(f"Stack [{name}] does not exist")
        return stack

    def change_set(self, wanted: Wanted, region: str) -> tuple[Stack, ChangeSet]:
        """A change set by its id, or by its name and the stack's."""
        name = str(wanted["ChangeSetName"])
        if not name.startswith("arn:") and not wanted.get("StackName"):
            raise invalid("StackName must be specified if ChangeSetName is not specified as an ARN.")
        if wanted.get("StackName"):
            candidates = [self.found_for_change(str(wanted["StackName"]), region)]
        else:
            candidates = list(self.stacks)
        for stack in candidates:
            for change_set in stack.change_sets.values():
                if name in (change_set.id, change_set.name):
                    return stack, change_set
        raise Refusal("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)

    # --- from a request to a model ---------------------------------------------------------------

    def template(self, caller: Caller, wanted: Wanted, stack: Stack | None = None) -> Template:
        """The template that a request means."""
        if wanted.get("UsePreviousTemplate") and stack is not None:
            return stack.model.template
        return parse(self._text(caller, wanted), self.tools.kinds)

    def _text(self, caller: Caller, wanted: Wanted) -> str:
        if "TemplateBody" in wanted:
            text = str(wanted["TemplateBody"])
            if len(text.encode()) > BODY_BYTES:
                what = "Member must have length less than or equal to 51200"
                raise invalid(
                    f"1 validation error detected: Value at 'templateBody' failed to satisfy constraint: {what}"
                )
            return text
        if "TemplateURL" not in wanted:
            raise invalid("Either Template URL or Template Body must be specified.")
        where = urlsplit(str(wanted["TemplateURL"]))
        host, path = where.hostname or "", unquote(where.path.lstrip("/"))
        bucket, dot, rest = host.partition(".s3")
        if not dot or not rest.endswith(".amazonaws.com"):  # the bucket is the first part of the path
            bucket, _, path = path.partition("/")
        try:
            reply = self.tools.ask(caller.access_key, caller.region, "s3", "get_object", Bucket=bucket, Key=path)
        except ClientError as error:
            raise invalid(f"S3 error: {error.response['Error'].get('Message', '')}") from error
        body = reply["Body"].read()
        if len(body) > URL_BYTES:
            raise invalid("Template may not exceed 1000000 bytes in size.")
        return str(body.decode())

    def model(self, caller: Caller, wanted: Wanted, name: str, stack_id: str, stack: Stack | None) -> Model:
        """What a stack is to be after a request that allows for it; stack: what it is until then."""
        template = self.template(caller, wanted, stack)
        previous = stack.model.texts if stack is not None else {}
        texts = values_of(template.parameters, wanted.get("Parameters") or [], previous)
        if "Tags" in wanted or stack is None:
            tags = {str(tag["Key"]): str(tag["Value"]) for tag in wanted.get("Tags") or []}
        else:
            tags = dict(stack.model.tags)
        if any(name.startswith("aws:") for name in tags):
            raise invalid("aws: prefixed tag key names are not allowed for external use.")

        @cache  # a template may ask often
        def zones(region: str) -> list[str]:
            reply = self.tools.ask(caller.access_key, region, "ec2", "describe_availability_zones")
            return sorted(zone["ZoneName"] for zone in reply["AvailabilityZones"])

        model = model_of(template, texts, tags, pseudo_of(caller.region, name, stack_id, wanted), zones)
        if not check_capabilities(template, wanted.get("Capabilities") or []):
            what = f"Requires capabilities : [{', '.join(template.capabilities)}]"
            raise Refusal("InsufficientCapabilitiesException", what)
        return model

    def missing_parameter(self, caller: Caller, model: Model) -> str:
        """What EC2 does not have of what the parameters name; "" if it has everything."""
        for name, parameter in model.template.parameters.items():
            if not parameter.existing:
                continue
            operation, argument = LOOKS[parameter.existing]
            value = parameter.value(model.texts[name])
            for one in value if isinstance(value, list) else [value]:
                try:
                    self.tools.ask(caller.access_key, caller.region, "ec2", operation, **{argument: [one]})
                except ClientError as error:
                    if "NotFound" not in error.response["Error"]["Code"] and "Malformed" not in str(error):
                        return str(error.response["Error"]["Message"])
                    return (
                        f"Parameter validation failed: parameter value {one} for parameter name {name} does not exist"
                    )
        return ""

    # --- beginning work --------------------------------------------------------------------------

    def start(self, stack: Stack, work: Callable[[], None], after: threading.Thread | None = None) -> None:
        """Do the work on a thread of its own, when another one has ended."""

        def run() -> None:
            if after is not None:
                after.join()
                stack.cancelled.clear()
            try:
                work()
            except Over:
                pass
            except Exception:
                log.exception("stack %s", stack.name)
                stack.to(stack.status.replace("_IN_PROGRESS", "_FAILED"), "Internal Failure")

        stack.thread = threading.Thread(target=run, name=f"stack {stack.name}", daemon=True)
        stack.thread.start()

    def work(self, stack: Stack) -> Work:
        """What can be done to a stack."""
        return Work(stack, self.tools)

    def new(self, caller: Caller, wanted: Wanted, name: str) -> Stack:
        """A stack that is not in the list yet; a refusal if it could not begin."""
        stack_id = new_id(caller.region, ACCOUNT_ID, "stack", name)
        model = self.model(caller, wanted, name, stack_id, None)
        return Stack(
            id=stack_id,
            name=name,
            region=caller.region,
            status=states.REVIEW,
            access_key=caller.access_key,
            model=model,
            capabilities=list(wanted.get("Capabilities") or []),
            role_arn=str(wanted.get("RoleARN") or ""),
            notifications=list(wanted.get("NotificationARNs") or []),
            is_protected=bool(wanted.get("EnableTerminationProtection")),
            timeout_min=wanted.get("TimeoutInMinutes"),
        )

    def for_update(self, caller: Caller, wanted: Wanted) -> Stack:
        """The stack that is to be updated; a ValidationError if it cannot be now."""
        stack = self.found_for_change(str(wanted["StackName"]), caller.region)
        states.check_update(stack.id, stack.status)
        return stack

    def next_model(self, caller: Caller, wanted: Wanted, stack: Stack) -> Model:
        """What a stack is to be after an update; a refusal if it cannot become that."""
        model = self.model(caller, wanted, stack.name, stack.id, stack)
        there = {name: record.type for name, record in stack.records.items() if record.is_there}
        other = [name for name, each in model.resources.items() if there.get(name, each.type) != each.type]
        if other:
            what = "Update of resource type is not permitted. The new template modifies resource type of the following"
            raise invalid(f"{what} resources: [{', '.join(other)}]")
        return model

    def begin_update(self, caller: Caller, wanted: Wanted, stack: Stack) -> None:
        """Write down that an update begins; change sets that were computed before it are void."""
        stack.cancelled.clear()  # a cancellation that came too late for the last update
        for change_set in stack.change_sets.values():
            if change_set.execution == "AVAILABLE":
                change_set.execution = "OBSOLETE"
        stack.access_key, stack.token = caller.access_key, str(wanted.get("ClientRequestToken") or "")
        stack.updated_s = time.time()
        stack.role_arn = str(wanted.get("RoleARN") or stack.role_arn)
        stack.capabilities = list(wanted.get("Capabilities") or [])
        stack.to("UPDATE_IN_PROGRESS", USER)


def checked_name(wanted: Wanted) -> str:
    """A new stack's name."""
    name = str(wanted["StackName"])
    if not STACK_NAME.fullmatch(name):
        what = "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: {what}"
        )
    return name


def pseudo_of(region: str, name: str, stack_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What AWS:: names stand for."""
    return {
        "AWS::AccountId": ACCOUNT_ID,
        "AWS::NotificationARNs": list(wanted.get("NotificationARNs") or []),
        "AWS::Partition": "aws",
        "AWS::Region": region,
        "AWS::StackId": stack_id,
        "AWS::StackName": name,
        "AWS::URLSuffix": "amazonaws.com",
    }
