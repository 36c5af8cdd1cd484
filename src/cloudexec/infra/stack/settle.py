"""Bring a stack into a state that can be changed: wait for it, roll it on, remove what can only be made anew.

Called by: deploy.py; remove.py, for the error of an operation.   Calls: look.py, follow.py, events.py, place.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.events import Event, first_failure, plain_reason, remedy_of
from cloudexec.infra.stack.follow import carry_out, wait
from cloudexec.infra.stack.look import StackState, look
from cloudexec.infra.stack.teller import Teller

# What a resource was to be called that has no id yet; see template.
_NAMES: Final = {"AWS::Logs::LogGroup": "/cloudexec/{}", "AWS::ECR::Repository": "{}"}
_MOST_ROUNDS: Final = 6  # of what must come before: wait, roll on, wait, remove, …


class Refused(Exception):
    """Somebody said no."""


def settled(place: Place, state: StackState, teller: Teller, *, is_dry: bool) -> StackState:
    """The stack in a state that can be changed. Errors: Refused, AwsError and its kin."""
    for _ in range(_MOST_ROUNDS):
        if state.is_busy:
            teller.say(f"Stack {state.name!r} is {state.status}: waiting for it; Ctrl-C changes nothing.")
            wait(place, state.id, teller.event)
            state = look(place)
        elif state.status == "UPDATE_ROLLBACK_FAILED":
            _ask(teller, is_dry, f"Stack {state.name!r} could not be taken back ({state.reason}). Try that again?")
            state = _rolled_on(place, state, teller)
        elif state.is_broken:
            why = f"Stack {state.name!r} is {state.status}, so it can only be removed and made anew"
            _ask(teller, is_dry, f"{why}. Remove it?")
            state = _removed(place, state, teller)
        else:
            return state
    raise AwsError(f"stack {state.name!r} does not come to rest: it is {state.status}", state.status, remedy="repeat")


def _ask(teller: Teller, is_dry: bool, question: str) -> None:
    if is_dry:
        raise SettingsError(question.rpartition(". ")[0], remedy="repeat without --dry-run: that is done first")
    if not teller.agrees(question):
        raise Refused


def _rolled_on(place: Place, state: StackState, teller: Teller) -> StackState:
    now, events = carry_out(place, state.id, "continue_update_rollback", {"StackName": state.id}, teller.event)
    if now.status != "UPDATE_ROLLBACK_COMPLETE":
        raise failure(now, events, "could not be taken back")
    return look(place)


def _removed(place: Place, state: StackState, teller: Teller) -> StackState:
    now, events = carry_out(place, state.id, "delete_stack", {"StackName": state.id}, teller.event)
    if now.status != "DELETE_COMPLETE":
        raise failure(now, events, "could not be removed")
    return look(place)


def failure(state: StackState, events: Sequence[Event], what: str) -> AwsError:
    """The error of an operation that failed: the first resource's reason, and what to do about that."""
    found = first_failure(events)
    if found is None:
        reason = state.reason or f"it is {state.status}"
        return AwsError(f"stack {state.name!r} {what}: {reason}", state.status, remedy=remedy_of("", reason))
    reason = plain_reason(found.reason) or found.status
    return AwsError(
        f"stack {state.name!r} {what}: {found.logical_id} ({found.kind}): {reason}",
        found.status,
        remedy=remedy_of(found.kind, found.reason, found.physical_id or _NAMES.get(found.kind, "").format(state.name)),
    )
