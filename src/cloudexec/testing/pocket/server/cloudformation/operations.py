"""What CloudFormation's API does: check, write down, begin the work, tell.

Called by:  plane.py.   Calls: everything in this folder but wire.py.
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

from cloudexec.testing.pocket.server.cloudformation import changes, states
from cloudexec.testing.pocket.server.cloudformation.model import Model, model_of
from cloudexec.testing.pocket.server.cloudformation.parameters import values_of
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.stacks import ChangeSet, Stack, new_id
from cloudexec.testing.pocket.server.cloudformation.template import Template, check_capabilities, parse
from cloudexec.testing.pocket.server.cloudformation.work import USER, Over, Tools, Work
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


class Operations:
    """All stacks, and what may be done to them."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._lock = threading.RLock()
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
        return parse(self._text(caller, wanted), self._tools.kinds)

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
            reply = self._tools.ask(caller.access_key, caller.region, "s3", "get_object", Bucket=bucket, Key=path)
        except ClientError as error:
            raise invalid(f"S3 error: {error.response['Error'].get('Message', '')}") from error
        body = reply["Body"].read()
        if len(body) > URL_BYTES:
            raise invalid("Template may not exceed 1000000 bytes in size.")
        return str(body.decode())

    def model(self, caller: Caller, wanted: Wanted, name: str, stack_id: str, stack: Stack | None) -> Model:
        """What a stack is to be after a request; stack: what it is until then."""
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
            reply = self._tools.ask(caller.access_key, region, "ec2", "describe_availability_zones")
            return sorted(zone["ZoneName"] for zone in reply["AvailabilityZones"])

        return model_of(template, texts, tags, pseudo_of(caller.region, name, stack_id, wanted), zones)

    def _check_capabilities(self, template: Template, given: list[str]) -> None:
        if not check_capabilities(template, given):
            what = f"Requires capabilities : [{', '.join(template.capabilities)}]"
            raise Refusal("InsufficientCapabilitiesException", what)

    def _missing_parameter(self, caller: Caller, model: Model) -> str:
        """What EC2 does not have of what the parameters name; "" if it has everything."""
        for name, parameter in model.template.parameters.items():
            if not parameter.existing:
                continue
            operation, argument = LOOKS[parameter.existing]
            value = parameter.value(model.texts[name])
            for one in value if isinstance(value, list) else [value]:
                try:
                    self._tools.ask(caller.access_key, caller.region, "ec2", operation, **{argument: [one]})
                except ClientError as error:
                    if "NotFound" not in error.response["Error"]["Code"] and "Malformed" not in str(error):
                        return str(error.response["Error"]["Message"])
                    return (
                        f"Parameter validation failed: parameter value {one} for parameter name {name} does not exist"
                    )
        return ""

    # --- beginning work --------------------------------------------------------------------------

    def _start(self, stack: Stack, work: Callable[[], None], after: threading.Thread | None = None) -> None:
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

    def _work(self, stack: Stack) -> Work:
        return Work(stack, self._tools)

    # --- stacks ----------------------------------------------------------------------------------

    def create_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CreateStack."""
        name, token = checked_name(wanted), str(wanted.get("ClientRequestToken") or "")
        with self._lock:
            there = self.find(name, caller.region)
            if there is not None:
                if token and there.token == token:
                    return {"StackId": there.id}
                raise Refusal("AlreadyExistsException", f"Stack [{name}] already exists")
            stack = self._new(caller, wanted, name)
            problem = self._missing_parameter(caller, stack.model)
            if problem:
                raise invalid(problem)
            keeps = bool(wanted.get("DisableRollback"))
            stack.on_failure = str(wanted.get("OnFailure") or ("DO_NOTHING" if keeps else "ROLLBACK"))
            stack.token = token
            self.stacks.append(stack)
            stack.to("CREATE_IN_PROGRESS", USER)
        self._start(stack, self._work(stack).create)
        return {"StackId": stack.id}

    def _new(self, caller: Caller, wanted: Wanted, name: str) -> Stack:
        stack_id = new_id(caller.region, ACCOUNT_ID, "stack", name)
        model = self.model(caller, wanted, name, stack_id, None)
        self._check_capabilities(model.template, wanted.get("Capabilities") or [])
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

    def update_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """UpdateStack."""
        with self._lock:
            stack = self._for_update(caller, wanted)
            model = self._next_model(caller, wanted, stack)
            problem = self._missing_parameter(caller, model)
            if problem:
                raise invalid(problem)
            plan = changes.changes_of(model, stack.records, self._tools.kinds)
            is_failed = stack.status.endswith("_FAILED")
            if not is_failed and changes.is_nothing(model, plan, stack.records, stack.model, stack.outputs):
                raise invalid(changes.NO_UPDATES)
            self._begin_update(caller, wanted, stack)
        keeps = bool(wanted.get("DisableRollback"))
        self._start(stack, lambda: self._work(stack).update(model, keep_failed=keeps))
        return {"StackId": stack.id}

    def _for_update(self, caller: Caller, wanted: Wanted) -> Stack:
        stack = self.found_for_change(str(wanted["StackName"]), caller.region)
        states.check_update(stack.id, stack.status)
        return stack

    def _next_model(self, caller: Caller, wanted: Wanted, stack: Stack) -> Model:
        model = self.model(caller, wanted, stack.name, stack.id, stack)
        self._check_capabilities(model.template, wanted.get("Capabilities") or [])
        there = {name: record.type for name, record in stack.records.items() if record.is_there}
        other = [name for name, each in model.resources.items() if there.get(name, each.type) != each.type]
        if other:
            what = "Update of resource type is not permitted. The new template modifies resource type of the following"
            raise invalid(f"{what} resources: [{', '.join(other)}]")
        return model

    def _begin_update(self, caller: Caller, wanted: Wanted, stack: Stack) -> None:
        stack.access_key, stack.token = caller.access_key, str(wanted.get("ClientRequestToken") or "")
        stack.updated_s = time.time()
        stack.role_arn = str(wanted.get("RoleARN") or stack.role_arn)
        stack.capabilities = list(wanted.get("Capabilities") or [])
        stack.to("UPDATE_IN_PROGRESS", USER)

    def delete_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """DeleteStack; of what is not there, nothing."""
        with self._lock:
            stack = self.find(str(wanted["StackName"]), caller.region)
            if stack is None or states.may_be_forgotten(stack.status):
                return {}
            if stack.is_protected:
                raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
            states.check_delete(stack.id, stack.status)
            retained = list(wanted.get("RetainResources") or [])
            if retained and stack.status != "DELETE_FAILED":
                what = f"Invalid operation on stack [{stack.id}]. RetainResources may only be specified"
                raise invalid(f"{what} if the stack is in the DELETE_FAILED state.")
            strange = [name for name in retained if name not in stack.records]
            if strange:
                raise invalid(f"The following resources to retain do not exist in the stack: [{', '.join(strange)}]")
            running = stack.thread if stack.is_busy else None
            stack.cancelled.set()
            stack.access_key, stack.token = caller.access_key, str(wanted.get("ClientRequestToken") or "")
            stack.role_arn = str(wanted.get("RoleARN") or stack.role_arn)
            force = wanted.get("DeletionMode") == "FORCE_DELETE_STACK"
            stack.to("DELETE_IN_PROGRESS", USER)
        self._start(stack, lambda: self._work(stack).delete(retained, force=force), running)
        return {}

    def cancel_update_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CancelUpdateStack."""
        with self._lock:
            stack = self.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_cancel(stack.status)
            stack.cancelled.set()
        return {}

    def continue_update_rollback(self, caller: Caller, wanted: Wanted) -> Wanted:
        """ContinueUpdateRollback."""
        with self._lock:
            stack = self.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_continue(stack.id, stack.status)
            stack.access_key = caller.access_key
            stack.to("UPDATE_ROLLBACK_IN_PROGRESS", USER)
        skipped = list(wanted.get("ResourcesToSkip") or [])
        self._start(stack, lambda: self._work(stack).roll_back_update(skipped))
        return {}

    def rollback_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """RollbackStack, of what DisableRollback has kept."""
        with self._lock:
            stack = self.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_rollback(stack.id, stack.status)
            stack.access_key = caller.access_key
            is_new = stack.settled is None
            stack.to("ROLLBACK_IN_PROGRESS" if is_new else "UPDATE_ROLLBACK_IN_PROGRESS", USER)
        work = self._work(stack)
        self._start(stack, work.roll_back_creation if is_new else lambda: work.roll_back_update([]))
        return {"StackId": stack.id}

    def update_termination_protection(self, caller: Caller, wanted: Wanted) -> Wanted:
        """UpdateTerminationProtection."""
        stack = self.found_for_change(str(wanted["StackName"]), caller.region)
        stack.is_protected = bool(wanted["EnableTerminationProtection"])
        return {"StackId": stack.id}

    # --- change sets -----------------------------------------------------------------------------

    def create_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CreateChangeSet."""
        kind, name = str(wanted.get("ChangeSetType") or "UPDATE"), str(wanted["ChangeSetName"])
        with self._lock:
            stack = self.find(str(wanted["StackName"]), caller.region)
            if kind == "CREATE":
                if stack is not None and stack.status != states.REVIEW:
                    what = f"already exists and cannot be created again with the changeSet [{name}]."
                    raise invalid(f"Stack [{stack.name}] {what}")
                is_new, stack = stack is None, stack or self._new(caller, wanted, checked_name(wanted))
                model = self.model(caller, wanted, stack.name, stack.id, None)
                self._check_capabilities(model.template, wanted.get("Capabilities") or [])
                if is_new:
                    self.stacks.append(stack)
                    stack.to(states.REVIEW, USER)
            elif kind == "UPDATE":
                stack = self._for_update(caller, wanted)
                model = self._next_model(caller, wanted, stack)
            else:
                raise invalid(f"The pocket AWS has no change sets of the type {kind}")
            if any(each.name == name for each in stack.change_sets.values()):
                what = f"ChangeSet {name} cannot be created: a ChangeSet with this name exists"
                raise Refusal("AlreadyExistsException", what)
            plan = changes.changes_of(model, stack.records, self._tools.kinds)
            problem = self._missing_parameter(caller, model)
            if kind == "UPDATE" and changes.is_nothing(model, plan, stack.records, stack.model, stack.outputs):
                problem = changes.NO_CHANGES
            change_set = ChangeSet(
                id=new_id(caller.region, ACCOUNT_ID, "changeSet", name),
                name=name,
                kind=kind,
                model=model,
                changes=plan,
                problem=problem,
                ready_s=time.time() + self._tools.pause_s,
                description=str(wanted.get("Description") or ""),
                on_failure=str(wanted.get("OnStackFailure") or ""),
                capabilities=list(wanted.get("Capabilities") or []),
                role_arn=str(wanted.get("RoleARN") or ""),
                notifications=list(wanted.get("NotificationARNs") or []),
            )
            stack.change_sets[change_set.id] = change_set
        return {"Id": change_set.id, "StackId": stack.id}

    def execute_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """ExecuteChangeSet."""
        token = str(wanted.get("ClientRequestToken") or "")
        with self._lock:
            stack, change_set = self.change_set(wanted, caller.region)
            if token and stack.token == token and change_set.execution != "AVAILABLE":
                return {}
            if change_set.execution_status != "AVAILABLE":
                said = change_set.status if change_set.status != "CREATE_COMPLETE" else change_set.execution_status
                what = f"ChangeSet [{change_set.id}] cannot be executed in its current status of [{said}]"
                raise Refusal("InvalidChangeSetStatus", what)
            if change_set.kind == "UPDATE":
                states.check_update(stack.id, stack.status)
            for other in [each for each in stack.change_sets if each != change_set.id]:
                del stack.change_sets[other]
            change_set.execution, stack.change_set_id = "EXECUTE_IN_PROGRESS", change_set.id
            keeps = bool(wanted.get("DisableRollback"))
            asked = {
                "ClientRequestToken": token,
                "Capabilities": change_set.capabilities,
                "RoleARN": change_set.role_arn,
            }
            if change_set.kind == "UPDATE":
                self._begin_update(caller, asked, stack)
            else:
                stack.model, stack.capabilities = change_set.model, change_set.capabilities
                stack.access_key, stack.token = caller.access_key, token
                stack.role_arn, stack.created_s = change_set.role_arn, time.time()
                stack.on_failure = "DO_NOTHING" if keeps else change_set.on_failure or "ROLLBACK"
                stack.to("CREATE_IN_PROGRESS", USER)
        keeps = keeps or change_set.on_failure == "DO_NOTHING"
        self._start(stack, lambda: self._execute(stack, change_set, keeps))
        return {}

    def _execute(self, stack: Stack, change_set: ChangeSet, keeps: bool) -> None:
        work = self._work(stack)
        if change_set.kind == "UPDATE":
            work.update(change_set.model, keep_failed=keeps)
        else:
            work.create()
        went_well = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        change_set.execution = "EXECUTE_COMPLETE" if went_well else "EXECUTE_FAILED"

    def delete_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """DeleteChangeSet; the stack stays, even if it is nothing yet."""
        with self._lock:
            try:
                stack, change_set = self.change_set(wanted, caller.region)
            except Refusal as refusal:
                if refusal.code == "ChangeSetNotFound":
                    return {}
                raise
            if change_set.execution == "EXECUTE_IN_PROGRESS":
                what = f"ChangeSet [{change_set.id}] cannot be deleted in its current status of [EXECUTE_IN_PROGRESS]"
                raise Refusal("InvalidChangeSetStatus", what)
            del stack.change_sets[change_set.id]
        return {}


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
