"""Make, change, roll back and remove a stack: what CloudFormation does after it has answered.

Called by:  desk.py, on a thread of its own.   Calls: steps.py; model.py for the order, stacks.py for the record.

Resources are made level by level, each level after all that it depends on. What is made of one level is begun
together and carried out one after the other; when one fails, the rest of its level is cancelled, as what AWS makes at
the same time is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.model import Model, levels_of
from cloudexec.testing.pocket.server.cloudformation.reasons import failure
from cloudexec.testing.pocket.server.cloudformation.resources.kind import differing
from cloudexec.testing.pocket.server.cloudformation.stacks import Record, Settled, Stack
from cloudexec.testing.pocket.server.cloudformation.steps import Steps, Tools
from cloudexec.testing.pocket.server.requests import Refusal

USER: Final = "User Initiated"
REPLACES: Final = "Requested update requires the creation of a new physical resource; hence creating one."


class Work:
    """All work on one stack; one thread at a time."""

    def __init__(self, stack: Stack, tools: Tools) -> None:
        self._stack, self._kinds = stack, tools.kinds
        self._steps = Steps(stack, tools)

    # --- the four kinds of work ------------------------------------------------------------------

    def create(self) -> None:
        """From CREATE_IN_PROGRESS on."""
        stack = self._stack
        failed = self._make_all(stack.model)
        if stack.cancelled.is_set():
            return  # whoever deletes the stack goes on
        if not failed:
            stack.outputs = self._outputs(stack.model)
            stack.ends("CREATE_COMPLETE")
            return
        reason = failure({"create": failed})
        if stack.on_failure == "DO_NOTHING":
            stack.ends("CREATE_FAILED", reason)
        elif stack.on_failure == "DELETE":
            stack.to("DELETE_IN_PROGRESS", f"{reason}Delete requested by user.")
            self.delete([])
        else:
            stack.ends("ROLLBACK_IN_PROGRESS", f"{reason}Rollback requested by user.")
            self.roll_back_creation()

    def roll_back_creation(self) -> None:
        """From ROLLBACK_IN_PROGRESS on."""
        left = self._remove(list(self._stack.records.values()), policy="RetainExceptOnCreate")
        if left:
            self._stack.ends("ROLLBACK_FAILED", failure({"delete": left}))
        else:
            self._stack.ends("ROLLBACK_COMPLETE")

    def update(self, model: Model, *, keep_failed: bool) -> None:
        """From UPDATE_IN_PROGRESS on. keep_failed: DisableRollback."""
        stack = self._stack
        if stack.settled is None:
            there = {name: record for name, record in stack.records.items() if record.is_there}
            stack.settled = Settled(model=stack.model, records=there, outputs=stack.outputs)
            stack.records = dict(there)
        stack.model = model
        failed = self._make_all(model)
        if failed or stack.cancelled.is_set():
            reason = failure(self._sorted_failures(failed)) or USER
            stack.cancelled.clear()
            if keep_failed:
                stack.to("UPDATE_FAILED", reason)
            else:
                stack.to("UPDATE_ROLLBACK_IN_PROGRESS", reason)
                self.roll_back_update([])
            return
        stack.outputs = self._outputs(model)
        stack.to("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        gone = [record for name, record in stack.records.items() if name not in model.resources]
        self._clean_up(gone, stack.leaving)
        stack.settled, stack.leaving = None, []
        stack.to("UPDATE_COMPLETE")

    def roll_back_update(self, skipped: list[str]) -> None:
        """From UPDATE_ROLLBACK_IN_PROGRESS on. skipped: resources to be left as they are."""
        stack, settled = self._stack, self._stack.settled
        assert settled is not None
        trash: list[Record] = []
        failed = []
        for level in levels_of({name: record.depends for name, record in settled.records.items()}):
            for name in level:
                if not self._restore(settled.records[name], trash, is_skipped=name in skipped):
                    failed.append(name)
            if failed:
                stack.leaving.extend(trash)
                stack.to("UPDATE_ROLLBACK_FAILED", failure({"update": failed}))
                return
        stack.to("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        kept = {record.physical_id for record in settled.records.values()}
        trash += [record for record in stack.leaving if record.physical_id not in kept]
        self._clean_up([record for name, record in stack.records.items() if name not in settled.records], trash)
        stack.model, stack.outputs, stack.settled, stack.leaving = settled.model, settled.outputs, None, []
        stack.to("UPDATE_ROLLBACK_COMPLETE")

    def delete(self, retained: list[str], *, force: bool = False) -> None:
        """From DELETE_IN_PROGRESS on."""
        stack = self._stack
        left = self._remove([*stack.records.values(), *stack.leaving], retained=retained, force=force)
        if left:
            stack.to("DELETE_FAILED", failure({"delete": left}))
        else:
            stack.deleted_s = time.time()
            stack.to("DELETE_COMPLETE")

    # --- forward ---------------------------------------------------------------------------------

    def _make_all(self, model: Model) -> list[str]:
        """The resources that failed; [] if all are as they are to be."""
        for level in model.levels:
            begun = [(name, step) for name in level if (step := self._begin(model, name)) is not None]
            failed: list[str] = []
            for name, step in begun:
                if failed or self._stack.cancelled.is_set():
                    self._steps.cancel(name)
                elif not step():
                    failed.append(name)
            # What is cancelled is told of as failed, too.
            failed += [name for name, _ in begun if failed and self._stack.records[name].status.endswith("_FAILED")]
            if failed or self._stack.cancelled.is_set():
                return list(dict.fromkeys(failed))
        return []

    def _begin(self, model: Model, name: str) -> Callable[[], bool] | None:
        """What is to be done for a resource, begun; None if nothing is."""
        declared, now = model.resources[name], self._stack.records.get(name)
        kind = self._kinds[declared.type]
        record = Record(
            logical_id=name,
            type=declared.type,
            status="CREATE_IN_PROGRESS",
            depends=model.depends[name],
            deletion_policy=declared.deletion_policy,
            update_replace_policy=declared.update_replace_policy,
            metadata=declared.metadata,
        )
        try:
            wanted = model.properties(name, self._reference, self._attribute, has_tags=kind.has_tags)
            problem: Exception | None = None
        except Refusal as refusal:
            wanted, problem = {}, refusal
        if now is None or not now.is_there or now.status == "CREATE_FAILED":
            if now is not None and now.is_there:
                self._stack.leaving.append(now)  # half made by an attempt that was kept
            self._stack.records.pop(name, None)
            record = self._stack.note(record, "CREATE_IN_PROGRESS", properties=wanted)
            return lambda: self._steps.create(kind, record, problem)
        names = differing(wanted, now.properties)
        if not names and not problem and now.status != "UPDATE_FAILED":
            self._stack.records[name] = _with(now, record)
            return None
        merged = _with(now, record)
        self._stack.records[name] = merged
        replaces = bool(names & kind.replaced_by)
        merged = self._stack.note(merged, "UPDATE_IN_PROGRESS", REPLACES if replaces else "")
        if replaces:
            return lambda: self._steps.replace(kind, merged, wanted, problem)
        return lambda: self._steps.update(kind, merged, wanted, problem)

    def _sorted_failures(self, failed: list[str]) -> dict[str, list[str]]:
        by_verb: dict[str, list[str]] = {}
        for name in failed:
            verb = self._stack.records[name].status.partition("_")[0].lower()
            by_verb.setdefault(verb, []).append(name)
        return by_verb

    # --- back ------------------------------------------------------------------------------------

    def _restore(self, old: Record, trash: list[Record], *, is_skipped: bool) -> bool:
        """Bring a resource back to what it was; whether that worked."""
        stack, name = self._stack, old.logical_id
        now = stack.records.get(name)
        if now is None or (now.status == old.status and now.properties == old.properties):
            stack.records[name] = old
            return True
        if now.physical_id != old.physical_id or now.properties == old.properties or is_skipped:
            if now.physical_id != old.physical_id and now.is_there:
                trash.append(now)
            stack.records[name] = old
            stack.note(old, "UPDATE_COMPLETE")
            return True
        return self._steps.set_back(now, old)

    def _clean_up(self, gone: list[Record], replaced: list[Record]) -> None:
        """Remove what an update has left over; what cannot be removed stays behind, as on AWS."""
        self._remove(gone)
        self._remove(replaced, policy="UpdateReplacePolicy")
        for record in gone:
            self._stack.records.pop(record.logical_id, None)

    def _remove(
        self, records: list[Record], *, policy: str = "", retained: Iterable[str] = (), force: bool = False
    ) -> list[str]:
        """Remove resources, what depends on others first; those that could not be removed."""
        failed: list[str] = []
        needed: set[str] = set()  # by what could not be removed
        for record in reversed(_in_order(records)):
            if record.status in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                continue
            if record.logical_id in needed and not force:
                needed.update(record.depends)
                continue
            if record.physical_id and (_is_retained(record, policy) or record.logical_id in retained):
                self._stack.note(record, "DELETE_SKIPPED")
            elif not self._steps.remove(record):
                if force:
                    self._stack.note(self._stack.records[record.logical_id], "DELETE_SKIPPED")
                    continue
                failed.append(record.logical_id)
                needed.update(record.depends)
        return failed

    def _reference(self, name: str) -> str:
        return self._stack.records[name].physical_id

    def _attribute(self, name: str, attribute: str) -> Any:
        found = self._stack.records[name].attributes
        if attribute not in found:
            raise Refusal("ValidationError", f"Attribute '{attribute}' does not exist on {name}")
        return found[attribute]

    def _outputs(self, model: Model) -> list[dict[str, str]]:
        return model.outputs(self._reference, self._attribute)


def _with(now: Record, declared: Record) -> Record:
    """A resource that is there, with what its template says of it beside its properties."""
    return replace(
        now,
        depends=declared.depends,
        deletion_policy=declared.deletion_policy,
        update_replace_policy=declared.update_replace_policy,
        metadata=declared.metadata,
    )


def _is_retained(record: Record, policy: str) -> bool:
    if policy == "UpdateReplacePolicy":
        return record.update_replace_policy != "Delete"
    if policy == "RetainExceptOnCreate" and record.deletion_policy == policy:
        return False
    return record.deletion_policy != "Delete"


def _in_order(records: list[Record]) -> list[Record]:
    """What depends on nothing first."""
    depends = {record.logical_id: record.depends for record in records}
    place = {name: number for number, level in enumerate(levels_of(depends)) for name in level}
    return sorted(records, key=lambda record: place[record.logical_id])
