"""What is remembered of a stack: its resources, its events, its change sets.

Called by:  desk.py, operations.py, changesets.py, telling.py, work.py, steps.py.   Calls: nothing.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cloudexec.testing.pocket.server.cloudformation.model import Model
from cloudexec.testing.pocket.server.cloudformation.wire import instant

STACK_TYPE: Final = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One resource of a stack as it stands; a change makes another one."""

    logical_id: str
    type: str
    status: str
    physical_id: str = ""
    reason: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)  # resolved
    attributes: Mapping[str, Any] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    metadata: Any = None
    changed_s: float = field(default_factory=time.time)

    @property
    def is_there(self) -> bool:
        """Whether something was made for it and not removed."""
        return bool(self.physical_id) and self.status not in ("DELETE_COMPLETE", "DELETE_SKIPPED")


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What an update that fails goes back to."""

    model: Model
    records: Mapping[str, Record]
    outputs: list[dict[str, str]]


@dataclass(kw_only=True, eq=False)
class ChangeSet:
    """What somebody wants to be done to a stack."""

    id: str
    name: str
    kind: str  # CREATE or UPDATE
    model: Model
    changes: list[dict[str, Any]]
    problem: str  # why it cannot be executed
    ready_s: float  # it is being computed until then
    execution: str = "AVAILABLE"
    description: str = ""
    on_failure: str = ""
    capabilities: list[str] = field(default_factory=list)
    role_arn: str = ""
    notifications: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)  # resources, as DescribeEvents tells of them
    created_s: float = field(default_factory=time.time)

    @property
    def status(self) -> str:
        """CREATE_IN_PROGRESS, then CREATE_COMPLETE or FAILED."""
        if time.time() < self.ready_s:
            return "CREATE_IN_PROGRESS"
        return "FAILED" if self.problem else "CREATE_COMPLETE"

    @property
    def execution_status(self) -> str:
        """Whether it can be executed, or was."""
        return self.execution if self.status == "CREATE_COMPLETE" else "UNAVAILABLE"


@dataclass(kw_only=True, eq=False)
class Stack:
    """One stack, from its first change set until after its deletion."""

    id: str
    name: str
    region: str
    status: str
    access_key: str = field(repr=False)  # of whoever asked for what happens now
    model: Model
    reason: str = ""
    created_s: float = field(default_factory=time.time)
    updated_s: float | None = None
    deleted_s: float | None = None
    records: dict[str, Record] = field(default_factory=dict)  # by logical id
    leaving: list[Record] = field(default_factory=list)  # replaced, and not yet removed
    outputs: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)  # by id
    settled: Settled | None = None
    capabilities: list[str] = field(default_factory=list)
    role_arn: str = ""
    notifications: list[str] = field(default_factory=list)
    on_failure: str = "ROLLBACK"
    is_protected: bool = False
    timeout_min: int | None = None
    token: str = ""  # ClientRequestToken of what happens now
    change_set_id: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)  # an end and a deletion may meet
    thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something happens now."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    def to(self, status: str, reason: str = "") -> None:
        """The stack's own status."""
        self.reason = reason
        self._event(self.name, self.id, STACK_TYPE, status, reason, None)
        # Last, so that who sees it finds the event, too.
        self.status = status

    def ends(self, status: str, reason: str = "") -> None:
        """The status at the end of some work, unless the stack is being deleted meanwhile."""
        with self.lock:
            if not self.cancelled.is_set():
                self.to(status, reason)

    def note(self, record: Record, status: str, reason: str = "", **changes: Any) -> Record:
        """A resource's status; the record as it is from now on."""
        changed = replace(record, status=status, reason=reason, changed_s=time.time(), **changes)
        if self.records.get(record.logical_id) in (None, record):  # else the record is of what was replaced
            self.records[record.logical_id] = changed
        properties = changed.properties if status.endswith("_IN_PROGRESS") else None
        self._event(changed.logical_id, changed.physical_id, changed.type, status, reason, properties)
        return changed

    def _event(
        self,
        logical_id: str,
        physical_id: str,
        kind: str,
        status: str,
        reason: str,
        properties: Mapping[str, Any] | None,
    ) -> None:
        now_s = time.time()
        event: dict[str, Any] = {
            "StackId": self.id,
            "StackName": self.name,
            "EventId": str(uuid.uuid4()) if kind == STACK_TYPE else f"{logical_id}-{status}-{instant(now_s)}",
            "LogicalResourceId": logical_id,
            "PhysicalResourceId": physical_id,
            "ResourceType": kind,
            "Timestamp": now_s,
            "ResourceStatus": status,
        }
        if reason:
            event["ResourceStatusReason"] = reason
        if properties is not None:
            event["ResourceProperties"] = json.dumps(properties)
        if self.token:
            event["ClientRequestToken"] = self.token
        self.events.append(event)


def new_id(region: str, account_id: str, what: str, name: str) -> str:
    """The ARN of a stack or a change set."""
    return f"arn:aws:cloudformation:{region}:{account_id}:{what}/{name}/{uuid.uuid4()}"
