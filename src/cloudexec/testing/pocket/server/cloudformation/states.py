"""What a stack may be asked in which state. Pure.

Called by:  operations.py, changesets.py, desk.py.   Calls: nothing.
Source:     CloudFormation's user guide, "Understand stack status codes"; the sentences as clients have seen them.
Not certain: the sentences of CancelUpdateStack, ContinueUpdateRollback, RollbackStack and RetainResources, and that a
            stack in ROLLBACK_IN_PROGRESS may be deleted. Test for codes.
"""

from __future__ import annotations

from typing import Final

from cloudexec.testing.pocket.server.cloudformation.reading import invalid

REVIEW: Final = "REVIEW_IN_PROGRESS"
# From which states an update, or a change set of the type UPDATE, can begin.
UPDATABLE: Final = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "CREATE_FAILED",  # kept by DisableRollback
    "UPDATE_FAILED",
)
# While these last, a stack is not deleted.
NOT_DELETABLE: Final = (
    "UPDATE_IN_PROGRESS",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
)


def check_update(stack_id: str, status: str) -> None:
    """Refuse an update that cannot begin."""
    if status not in UPDATABLE:
        raise invalid(f"Stack:{stack_id} is in {status} state and can not be updated.")


def check_delete(stack_id: str, status: str) -> None:
    """Refuse a deletion that cannot begin."""
    if status in NOT_DELETABLE:
        raise invalid(f"Stack [{stack_id}] cannot be deleted while in status {status}")


def check_cancel(status: str) -> None:
    """Refuse to cancel what is no update."""
    if status != "UPDATE_IN_PROGRESS":
        raise invalid("CancelUpdateStack cannot be called from current stack status")


def check_continue(stack_id: str, status: str) -> None:
    """Refuse to go on with a roll-back that did not fail."""
    if status != "UPDATE_ROLLBACK_FAILED":
        raise invalid(f"Stack:{stack_id} is in {status} state and can not continue update rollback.")


def check_rollback(stack_id: str, status: str) -> None:
    """Refuse to roll back what did not fail, or was not kept."""
    if status not in ("CREATE_FAILED", "UPDATE_FAILED"):
        raise invalid(f"RollbackStack cannot be called on stack {stack_id} in status {status}")


def may_be_forgotten(status: str) -> bool:
    """Whether DeleteStack has nothing to do."""
    return status in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS")
