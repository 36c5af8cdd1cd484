"""One resource of a stack at a time: made, changed, replaced, set back or removed, and its events told.

Called by:  work.py.   Calls: resources/, asking.py (as `Tools.ask`), reasons.py; stacks.py for the record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cloudexec.testing.pocket.server.cloudformation.reasons import SERVICES, handler_code, handler_message
from cloudexec.testing.pocket.server.cloudformation.resources.kind import Failed, Job, Kind, Made
from cloudexec.testing.pocket.server.cloudformation.shapes import Unwanted
from cloudexec.testing.pocket.server.cloudformation.stacks import Record, Stack
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.settings import ACCOUNT_ID

INITIATED: Final = "Resource creation Initiated"


class Over(Exception):
    """The pocket ends, or is reset."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the work needs of the pocket."""

    kinds: Mapping[str, Kind]
    ask: Callable[..., dict[str, Any]]  # (access key, region, service, operation, **request)
    input_shape: Callable[[str, str], Any]
    bucket_is_ours: Callable[[str], bool]
    role_key: Callable[[str, str], str]  # (role's ARN, region): an access key of the role
    fault: Callable[..., str | None]  # (stack=, logical_id=, on=): the reason why it is to fail
    pause_s: float
    over: threading.Event


class Steps:
    """What is done to single resources of one stack. Each tells whether it worked."""

    def __init__(self, stack: Stack, tools: Tools) -> None:
        self._stack, self._tools = stack, tools
        self._key = tools.role_key(stack.role_arn, stack.region) if stack.role_arn else stack.access_key

    def create(self, kind: Kind, record: Record, problem: Exception | None) -> bool:
        """Make it. problem: what its properties could not be resolved for; told as its failure."""

        def make() -> Made:
            self._check(kind, record.properties, record.logical_id, "create", problem)
            return kind.create(self._job(record.logical_id, begun), record.properties)

        def begun(physical_id: str) -> None:
            nonlocal record
            record = self._stack.note(record, "CREATE_IN_PROGRESS", INITIATED, physical_id=physical_id)

        made = self._attempt(make, lambda reason: self._stack.note(record, "CREATE_FAILED", reason))
        if made is None:
            return False
        if not record.physical_id:
            begun(made.physical_id)
        self._pause()
        self._stack.note(record, "CREATE_COMPLETE", physical_id=made.physical_id, attributes=made.attributes)
        return True

    def update(self, kind: Kind, record: Record, wanted: Mapping[str, Any], problem: Exception | None) -> bool:
        """Change it in place."""

        def make() -> Made:
            self._check(kind, wanted, record.logical_id, "update", problem)
            job = self._job(record.logical_id)
            return kind.update(job, record.physical_id, wanted, record.properties)

        def fail(reason: str) -> None:
            # What was tried is remembered: the roll-back sets all of it back.
            self._stack.note(record, "UPDATE_FAILED", reason, properties=wanted)

        made = self._attempt(make, fail)
        if made is None:
            return False
        self._pause()
        self._stack.note(record, "UPDATE_COMPLETE", properties=wanted, attributes=made.attributes)
        return True

    def replace(self, kind: Kind, record: Record, wanted: Mapping[str, Any], problem: Exception | None) -> bool:
        """Make another one; the old one is removed at the end of the stack's work."""
        fresh: list[str] = []

        def make() -> Made:
            self._check(kind, wanted, record.logical_id, "update", problem)
            named = wanted.get(kind.name_property) if kind.name_property else None
            if named is not None and named == record.properties.get(kind.name_property):
                what = "CloudFormation cannot update a stack when a custom-named resource requires replacing."
                raise Refusal("", f"{what} Rename {named} and update the stack again.")
            return kind.create(self._job(record.logical_id, fresh.append), wanted)

        def fail(reason: str) -> None:
            half_made = {"physical_id": fresh[0], "properties": wanted} if fresh else {}
            self._stack.note(record, "UPDATE_FAILED", reason, **half_made)

        made = self._attempt(make, fail)
        if made is None:
            return False
        self._pause()
        self._stack.leaving.append(record)
        self._stack.note(
            record,
            "UPDATE_COMPLETE",
            physical_id=made.physical_id,
            properties=wanted,
            attributes=made.attributes,
        )
        return True

    def cancel(self, name: str) -> None:
        """It was begun, and another of its level has failed."""
        record = self._stack.records[name]
        word = "creation" if record.status.startswith("CREATE") else "update"
        self._stack.note(record, record.status.replace("IN_PROGRESS", "FAILED"), f"Resource {word} cancelled")

    def set_back(self, now: Record, old: Record) -> bool:
        """Change it in place to what it was."""
        stack, name = self._stack, old.logical_id
        kind = self._tools.kinds[old.type]
        record = stack.note(now, "UPDATE_IN_PROGRESS")

        def make() -> Made:
            self._check(kind, old.properties, name, "update", None)
            return kind.update(self._job(name), old.physical_id, old.properties, now.properties)

        made = self._attempt(make, lambda reason: stack.note(record, "UPDATE_FAILED", reason))
        if made is None:
            return False
        self._pause()
        stack.records[name] = old
        stack.note(old, "UPDATE_COMPLETE")
        return True

    def remove(self, record: Record) -> bool:
        """Remove it; what is gone already is as good."""
        stack = self._stack
        if not record.physical_id:
            stack.note(record, "DELETE_COMPLETE")
            return True
        kind = self._tools.kinds[record.type]
        record = stack.note(record, "DELETE_IN_PROGRESS")

        def make() -> Made:
            reason = self._tools.fault(stack=stack.name, logical_id=record.logical_id, on="delete")
            if reason is not None:
                raise Refusal("", reason)
            try:
                kind.delete(self._job(record.logical_id), record.physical_id, record.properties)
            except ClientError as error:
                if handler_code(error) != "NotFound":
                    raise
            return Made(physical_id=record.physical_id)

        if self._attempt(make, lambda reason: stack.note(record, "DELETE_FAILED", reason)) is None:
            return False
        self._pause()
        stack.note(record, "DELETE_COMPLETE")
        return True

    def _check(self, kind: Kind, properties: Mapping[str, Any], name: str, on: str, problem: Exception | None) -> None:
        if problem is not None:
            raise problem
        kind.check(properties)
        reason = self._tools.fault(stack=self._stack.name, logical_id=name, on=on)
        if reason is not None:
            raise Refusal("", reason)

    # --- one request after the other -------------------------------------------------------------

    def _attempt(self, make: Callable[[], Made], fail: Callable[[str], object]) -> Made | None:
        """What was made; None if it failed, and then `fail` has heard why."""
        if self._tools.over.is_set():
            raise Over
        try:
            return make()
        except Refusal as refusal:
            fail(refusal.message)
        except (Unwanted, BotoCoreError, KeyError, TypeError, AttributeError) as error:
            # The last three are properties of another shape than a kind expects.
            what = str(error) if isinstance(error, (Unwanted, BotoCoreError)) else f"#: {error!r} does not fit"
            fail(f"Properties validation failed for resource with message: [{what}]")
        except (ClientError, Failed) as error:
            fail(handler_message(error))
        return None

    def _job(self, name: str, begun: Callable[[str], object] = lambda physical_id: None) -> Job:
        stack, tools = self._stack, self._tools

        def ask(service: str, operation: str, **request: Any) -> dict[str, Any]:
            try:
                return tools.ask(self._key, stack.region, service, operation, **request)
            except ClientError as error:
                error.response["Service"] = SERVICES.get(service, service)
                raise

        def drop(service: str, operation: str, **request: Any) -> None:
            try:
                ask(service, operation, **request)
            except ClientError as error:
                if handler_code(error) != "NotFound":
                    raise

        return Job(
            stack_name=stack.name,
            logical_id=name,
            region=stack.region,
            account_id=ACCOUNT_ID,
            ask=ask,
            drop=drop,
            begun=begun,
            input_shape=tools.input_shape,
            bucket_is_ours=tools.bucket_is_ours,
        )

    def _pause(self) -> None:
        if self._tools.over.wait(self._tools.pause_s):
            raise Over
