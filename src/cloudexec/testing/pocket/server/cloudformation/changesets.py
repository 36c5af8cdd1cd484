"""Change sets: computed at once, executed when somebody says so.

Called by:  plane.py.   Calls: desk.py, states.py, changes.py.
"""

from __future__ import annotations

import time
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation import changes, states
from cloudexec.testing.pocket.server.cloudformation.desk import Caller, Desk, Wanted, checked_name
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.stacks import ChangeSet, Stack, new_id
from cloudexec.testing.pocket.server.cloudformation.work import USER
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.settings import ACCOUNT_ID

EARLY: Final = (
    "The following hook(s)/validation failed: [AWS::EarlyValidation::ResourceExistenceCheck]. To troubleshoot Early "
    "Validation errors, use the DescribeEvents API for detailed failure information."
)


class ChangeSets:
    """What is done with them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def create_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CreateChangeSet."""
        kind, name = str(wanted.get("ChangeSetType") or "UPDATE"), str(wanted["ChangeSetName"])
        with self._desk.lock:
            stack = self._desk.find(str(wanted["StackName"]), caller.region)
            if kind == "CREATE":
                if stack is not None and stack.status != states.REVIEW:
                    what = f"already exists and cannot be created again with the changeSet [{name}]."
                    raise invalid(f"Stack [{stack.name}] {what}")
                if stack is None:
                    stack = self._desk.new(caller, wanted, checked_name(wanted))
                    model = stack.model
                    self._desk.stacks.append(stack)
                    stack.to(states.REVIEW, USER)
                else:
                    model = self._desk.model(caller, wanted, stack.name, stack.id, None)
            elif kind == "UPDATE":
                stack = self._desk.for_update(caller, wanted)
                model = self._desk.next_model(caller, wanted, stack)
            else:
                raise invalid(f"The pocket AWS has no change sets of the type {kind}")
            if any(each.name == name for each in stack.change_sets.values()):
                what = f"ChangeSet {name} cannot be created: a ChangeSet with this name exists"
                raise Refusal("AlreadyExistsException", what)
            plan = changes.changes_of(model, stack.records, self._desk.tools.kinds)
            problem = self._desk.missing_parameter(caller, model)
            if kind == "UPDATE" and changes.is_nothing(model, plan, stack.records, stack.model, stack.outputs):
                problem = changes.NO_CHANGES
            refused = [] if problem else self._refused(stack, plan)
            change_set = ChangeSet(
                id=new_id(caller.region, ACCOUNT_ID, "changeSet", name),
                name=name,
                kind=kind,
                model=model,
                changes=plan,
                problem=problem or (EARLY if refused else ""),
                ready_s=time.time() + self._desk.tools.pause_s,
                description=str(wanted.get("Description") or ""),
                on_failure=str(wanted.get("OnStackFailure") or ""),
                capabilities=list(wanted.get("Capabilities") or []),
                role_arn=str(wanted.get("RoleARN") or ""),
                notifications=list(wanted.get("NotificationARNs") or []),
                refused=refused,
            )
            stack.change_sets[change_set.id] = change_set
        return {"Id": change_set.id, "StackId": stack.id}

    def _refused(self, stack: Stack, plan: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Resources that faults refuse before anything is done."""
        found: list[dict[str, Any]] = []
        for change in (each["ResourceChange"] for each in plan):
            name = change["LogicalResourceId"]
            reason = self._desk.tools.fault(stack=stack.name, logical_id=name, on="validate")
            if reason is not None:
                found.append(
                    {
                        "EventId": f"{name}-{len(found)}",
                        "StackId": stack.id,
                        "EventType": "VALIDATION_ERROR",
                        "LogicalResourceId": name,
                        "ResourceType": change["ResourceType"],
                        "Timestamp": time.time(),
                        "ValidationFailureMode": "FAIL",
                        "ValidationName": "NAME_CONFLICT_VALIDATION",
                        "ValidationStatus": "FAILED",
                        "ValidationStatusReason": reason,
                    }
                )
        return found

    def execute_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """ExecuteChangeSet."""
        token = str(wanted.get("ClientRequestToken") or "")
        with self._desk.lock:
            stack, change_set = self._desk.change_set(wanted, caller.region)
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
                self._desk.begin_update(caller, asked, stack)
            else:
                stack.model, stack.capabilities = change_set.model, change_set.capabilities
                stack.access_key, stack.token = caller.access_key, token
                stack.role_arn, stack.created_s = change_set.role_arn, time.time()
                stack.on_failure = "DO_NOTHING" if keeps else change_set.on_failure or "ROLLBACK"
                stack.to("CREATE_IN_PROGRESS", USER)
        keeps = keeps or change_set.on_failure == "DO_NOTHING"
        self._desk.start(stack, lambda: self._execute(stack, change_set, keeps))
        return {}

    def _execute(self, stack: Stack, change_set: ChangeSet, keeps: bool) -> None:
        work = self._desk.work(stack)
        if change_set.kind == "UPDATE":
            work.update(change_set.model, keep_failed=keeps)
        else:
            work.create()
        went_well = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        change_set.execution = "EXECUTE_COMPLETE" if went_well else "EXECUTE_FAILED"

    def delete_change_set(self, caller: Caller, wanted: Wanted) -> Wanted:
        """DeleteChangeSet; the stack stays, even if it is nothing yet."""
        with self._desk.lock:
            try:
                stack, change_set = self._desk.change_set(wanted, caller.region)
            except Refusal as refusal:
                if refusal.code == "ChangeSetNotFound":
                    return {}
                raise
            if change_set.execution == "EXECUTE_IN_PROGRESS":
                what = f"ChangeSet [{change_set.id}] cannot be deleted in its current status of [EXECUTE_IN_PROGRESS]"
                raise Refusal("InvalidChangeSetStatus", what)
            del stack.change_sets[change_set.id]
        return {}
