"""What CloudFormation tells of stacks, change sets and templates.

Called by:  plane.py.   Calls: desk.py, for looking up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.desk import Caller, Desk, Wanted
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.stacks import ChangeSet, Record, Stack
from cloudexec.testing.pocket.server.cloudformation.template import Template

PAGE: Final = 100
Operation = Callable[[Caller, Wanted], Wanted]


class Telling:
    """All operations that change nothing."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.table: dict[str, Operation] = {
            "DescribeChangeSet": self._describe_change_set,
            "DescribeEvents": self._describe_early_events,
            "DescribeStackEvents": self._describe_events,
            "DescribeStackResource": self._describe_resource,
            "DescribeStackResources": self._describe_resources,
            "DescribeStacks": self._describe_stacks,
            "GetTemplate": self._get_template,
            "GetTemplateSummary": self._summarize,
            "ListChangeSets": self._list_change_sets,
            "ListStackResources": self._list_resources,
            "ListStacks": self._list_stacks,
            "ValidateTemplate": self._validate,
        }

    # --- stacks ----------------------------------------------------------------------------------

    def _describe_stacks(self, caller: Caller, wanted: Wanted) -> Wanted:
        if wanted.get("StackName"):
            return {"Stacks": [describe(self._desk.found(str(wanted["StackName"]), caller.region))]}
        found = [stack for stack in self._here(caller) if stack.status != "DELETE_COMPLETE"]
        return paged("Stacks", [describe(stack) for stack in reversed(found)], wanted)

    def _here(self, caller: Caller) -> list[Stack]:
        return [stack for stack in self._desk.stacks if stack.region == caller.region]

    def _list_stacks(self, caller: Caller, wanted: Wanted) -> Wanted:
        states = wanted.get("StackStatusFilter")
        found = [stack for stack in self._here(caller) if not states or stack.status in states]
        return paged("StackSummaries", [_summary(stack) for stack in reversed(found)], wanted)

    def _describe_events(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack = self._desk.find(str(wanted.get("StackName")), caller.region)
        if stack is None:
            raise invalid(f"Stack [{wanted.get('StackName')}] does not exist")
        return paged("StackEvents", list(reversed(stack.events)), wanted)

    def _describe_resources(self, caller: Caller, wanted: Wanted) -> Wanted:
        if not wanted.get("StackName"):
            raise invalid("Stack name must be specified")
        stack = self._desk.found(str(wanted["StackName"]), caller.region)
        named = wanted.get("LogicalResourceId")
        if named and named not in stack.records:
            raise invalid(f"Resource {named} does not exist for stack {stack.name}")
        records = [record for name, record in list(stack.records.items()) if named in (None, name)]
        return {"StackResources": [{**_resource(stack, each), "Timestamp": each.changed_s} for each in records]}

    def _describe_resource(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
        record = stack.records.get(str(wanted["LogicalResourceId"]))
        if record is None:
            raise invalid(f"Resource {wanted['LogicalResourceId']} does not exist for stack {stack.name}")
        return {"StackResourceDetail": {**_resource(stack, record), "LastUpdatedTimestamp": record.changed_s}}

    def _list_resources(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack = self._desk.found(str(wanted["StackName"]), caller.region)
        found = []
        for record in list(stack.records.values()):
            told = {**_resource(stack, record), "LastUpdatedTimestamp": record.changed_s}
            found.append({name: value for name, value in told.items() if name not in ("StackId", "StackName")})
        return paged("StackResourceSummaries", found, wanted)

    # --- change sets -----------------------------------------------------------------------------

    def _describe_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack, change_set = self._desk.change_set(wanted, caller.region)
        told: Wanted = {
            **_about(stack, change_set),
            "Parameters": _parameters(change_set.model.template, dict(change_set.model.texts)),
            "NotificationARNs": change_set.notifications,
            "Capabilities": change_set.capabilities,
            "Tags": [{"Key": key, "Value": value} for key, value in change_set.model.tags.items()],
            "RollbackConfiguration": {},
            "OnStackFailure": change_set.on_failure or None,
        }
        return {**told, **paged("Changes", change_set.changes, wanted)}

    def _describe_early_events(self, caller: Caller, wanted: Wanted) -> Wanted:
        """DescribeEvents, of change sets alone."""
        if not wanted.get("ChangeSetName"):
            raise invalid("The pocket AWS tells such events of change sets alone")
        _, change_set = self._desk.change_set(wanted, caller.region)
        return paged("OperationEvents", change_set.refused, wanted)

    def _list_change_sets(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
        return paged("Summaries", [_about(stack, each) for each in stack.change_sets.values()], wanted)

    # --- templates -------------------------------------------------------------------------------

    def _get_template(self, caller: Caller, wanted: Wanted) -> Wanted:
        if wanted.get("ChangeSetName"):
            _, change_set = self._desk.change_set(wanted, caller.region)
            template = change_set.model.template
        else:
            template = self._desk.found(str(wanted.get("StackName")), caller.region).model.template
        return {"TemplateBody": template.text, "StagesAvailable": ["Original", "Processed"]}

    def _validate(self, caller: Caller, wanted: Wanted) -> Wanted:
        template = self._desk.template(caller, wanted)
        parameters = []
        for parameter in template.parameters.values():
            told: Wanted = {"ParameterKey": parameter.name, "NoEcho": parameter.no_echo}
            parameters.append({**told, "Description": parameter.description, "DefaultValue": parameter.default})
        return {"Parameters": parameters, "Description": template.description, **_capabilities(template)}

    def _summarize(self, caller: Caller, wanted: Wanted) -> Wanted:
        stack = None
        if wanted.get("StackName"):
            stack = self._desk.found(str(wanted["StackName"]), caller.region)
            wanted = {"UsePreviousTemplate": True}
        template = self._desk.template(caller, wanted, stack)
        parameters = []
        for parameter in template.parameters.values():
            told: Wanted = {
                "ParameterKey": parameter.name,
                "DefaultValue": parameter.default,
                "ParameterType": parameter.type,
                "NoEcho": parameter.no_echo,
                "Description": parameter.description,
                "ParameterConstraints": {"AllowedValues": list(parameter.allowed)} if parameter.allowed else {},
            }
            parameters.append(told)
        types = list(dict.fromkeys(each.type for each in template.resources.values()))
        return {
            "Parameters": parameters,
            "Description": template.description,
            "ResourceTypes": types,
            "Version": "2010-09-09",
            **_capabilities(template),
        }


def paged(name: str, items: list[Any], wanted: Wanted) -> Wanted:
    """One page of a listing. The token is the place of the next item."""
    token = str(wanted.get("NextToken") or "page-0").removeprefix("page-")
    if not token.isdigit():
        raise invalid("NextToken is not valid")
    first = int(token)
    last = first + min(PAGE, int(wanted.get("MaxResults") or PAGE))
    page: Wanted = {name: items[first:last]}
    if last < len(items):
        page["NextToken"] = f"page-{last}"
    return page


def describe(stack: Stack) -> Wanted:
    """A stack as DescribeStacks tells it."""
    return {
        **_life(stack),
        "Description": stack.model.template.description or None,
        "Parameters": _parameters(stack.model.template, dict(stack.model.texts)),
        "Outputs": stack.outputs if stack.deleted_s is None else [],
        "Tags": [{"Key": key, "Value": value} for key, value in stack.model.tags.items()],
        "Capabilities": stack.capabilities,
        "NotificationARNs": stack.notifications,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "EnableTerminationProtection": stack.is_protected,
        "RollbackConfiguration": {},
        "TimeoutInMinutes": stack.timeout_min,
        "ChangeSetId": stack.change_set_id or None,
        "RoleARN": stack.role_arn or None,
    }


def _summary(stack: Stack) -> Wanted:
    return {**_life(stack), "TemplateDescription": stack.model.template.description}


def _life(stack: Stack) -> Wanted:
    """What a stack and its line in a list both have; None: it is not told."""
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "CreationTime": stack.created_s,
        "LastUpdatedTime": stack.updated_s,
        "DeletionTime": stack.deleted_s,
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason or None,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


def _parameters(template: Template, texts: dict[str, str]) -> list[Wanted]:
    declared = template.parameters
    return [{"ParameterKey": name, "ParameterValue": declared[name].shown(text)} for name, text in texts.items()]


def _resource(stack: Stack, record: Record) -> Wanted:
    return {
        "StackName": stack.name,
        "StackId": stack.id,
        "LogicalResourceId": record.logical_id,
        "PhysicalResourceId": record.physical_id or None,
        "ResourceType": record.type,
        "ResourceStatus": record.status,
        "ResourceStatusReason": record.reason or None,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _about(stack: Stack, change_set: ChangeSet) -> Wanted:
    return {
        "ChangeSetName": change_set.name,
        "ChangeSetId": change_set.id,
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": change_set.description or None,
        "CreationTime": change_set.created_s,
        "ExecutionStatus": change_set.execution_status,
        "Status": change_set.status,
        "StatusReason": change_set.problem or None if change_set.status == "FAILED" else None,
        "IncludeNestedStacks": False,
    }


def _capabilities(template: Template) -> Wanted:
    if not template.capabilities:
        return {"Capabilities": []}
    types = ", ".join(template.capability_types)
    reason = f"The following resource(s) require capabilities: [{types}]"
    return {"Capabilities": list(template.capabilities), "CapabilitiesReason": reason}
