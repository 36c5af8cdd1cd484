"""What may be done to stacks without a change set: check, write down, begin the work.

Called by:  plane.py.   Calls: desk.py, states.py, changes.py.
"""

from __future__ import annotations

from cloudexec.testing.pocket.server.cloudformation import changes, states
from cloudexec.testing.pocket.server.cloudformation.desk import Caller, Desk, Wanted, checked_name
from cloudexec.testing.pocket.server.cloudformation.reading import invalid
from cloudexec.testing.pocket.server.cloudformation.work import USER
from cloudexec.testing.pocket.server.requests import Refusal


class Operations:
    """What changes stacks, each method an operation of the API."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def create_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CreateStack."""
        name, token = checked_name(wanted), str(wanted.get("ClientRequestToken") or "")
        with self._desk.lock:
            there = self._desk.find(name, caller.region)
            if there is not None:
                if token and there.token == token:
                    return {"StackId": there.id}
                raise Refusal("AlreadyExistsException", f"Stack [{name}] already exists")
            stack = self._desk.new(caller, wanted, name)
            problem = self._desk.missing_parameter(caller, stack.model)
            if problem:
                raise invalid(problem)
            keeps = bool(wanted.get("DisableRollback"))
            stack.on_failure = str(wanted.get("OnFailure") or ("DO_NOTHING" if keeps else "ROLLBACK"))
            stack.token = token
            self._desk.stacks.append(stack)
            stack.to("CREATE_IN_PROGRESS", USER)
        self._desk.start(stack, self._desk.work(stack).create)
        return {"StackId": stack.id}

    def update_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """UpdateStack."""
        with self._desk.lock:
            stack = self._desk.for_update(caller, wanted)
            model = self._desk.next_model(caller, wanted, stack)
            problem = self._desk.missing_parameter(caller, model)
            if problem:
                raise invalid(problem)
            plan = changes.changes_of(model, stack.records, self._desk.tools.kinds)
            is_failed = stack.status.endswith("_FAILED")
            if not is_failed and changes.is_nothing(model, plan, stack.records, stack.model, stack.outputs):
                raise invalid(changes.NO_UPDATES)
            self._desk.begin_update(caller, wanted, stack)
        keeps = bool(wanted.get("DisableRollback"))
        self._desk.start(stack, lambda: self._desk.work(stack).update(model, keep_failed=keeps))
        return {"StackId": stack.id}

    def delete_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """DeleteStack; of what is not there, nothing."""
        with self._desk.lock:
            stack = self._desk.find(str(wanted["StackName"]), caller.region)
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
            force = wanted.get("DeletionMode") == "FORCE_DELETE_STACK"
            with stack.lock:
                running = stack.thread if stack.is_busy else None
                stack.cancelled.set()
                stack.access_key, stack.token = caller.access_key, str(wanted.get("ClientRequestToken") or "")
                stack.role_arn = str(wanted.get("RoleARN") or stack.role_arn)
                stack.to("DELETE_IN_PROGRESS", USER)
        self._desk.start(stack, lambda: self._desk.work(stack).delete(retained, force=force), running)
        return {}

    def cancel_update_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """CancelUpdateStack."""
        with self._desk.lock:
            stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_cancel(stack.status)
            stack.cancelled.set()
        return {}

    def continue_update_rollback(self, caller: Caller, wanted: Wanted) -> Wanted:
        """ContinueUpdateRollback."""
        with self._desk.lock:
            stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_continue(stack.id, stack.status)
            stack.access_key = caller.access_key
            stack.to("UPDATE_ROLLBACK_IN_PROGRESS", USER)
        skipped = list(wanted.get("ResourcesToSkip") or [])
        self._desk.start(stack, lambda: self._desk.work(stack).roll_back_update(skipped))
        return {}

    def rollback_stack(self, caller: Caller, wanted: Wanted) -> Wanted:
        """RollbackStack, of what DisableRollback has kept."""
        with self._desk.lock:
            stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
            states.check_rollback(stack.id, stack.status)
            stack.access_key = caller.access_key
            is_new = stack.settled is None
            stack.to("ROLLBACK_IN_PROGRESS" if is_new else "UPDATE_ROLLBACK_IN_PROGRESS", USER)
        work = self._desk.work(stack)
        self._desk.start(stack, work.roll_back_creation if is_new else lambda: work.roll_back_update([]))
        return {"StackId": stack.id}

    def update_termination_protection(self, caller: Caller, wanted: Wanted) -> Wanted:
        """UpdateTerminationProtection."""
        stack = self._desk.found_for_change(str(wanted["StackName"]), caller.region)
        stack.is_protected = bool(wanted["EnableTerminationProtection"])
        return {"StackId": stack.id}
