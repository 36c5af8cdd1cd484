"""Have CloudFormation do something with a stack, and follow it until it has ended.

Called by: changeset.py, settle.py, remove.py.   Calls: look.py, events.py, place.py.
Requests: one DescribeStackEvents every 0.3 to 3 s, the slower the less happens; DescribeStacks at the start, at
          the end, and on every tenth look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cloudexec.errors import AwsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.events import Event, read_event
from cloudexec.infra.stack.look import StackState, glance

_FASTEST_S: Final = 0.3
_SLOWEST_S: Final = 3.0
_SLOWER: Final = 1.3
_LOOK_ANYWAY: Final = 10


Tell = Callable[[Event], None]
Ended = tuple[StackState, list[Event]]  # the stack at the end of an operation, and the operation's events


def carry_out(place: Place, stack_id: str, operation: str, request: Mapping[str, Any], tell: Tell) -> Ended:
    """Begin an operation, and see it to its end. Errors: AwsError and its kin."""
    newest = next((event.id for event in _newest_first(place, stack_id)), "")
    place.ask("cloudformation", operation, request)
    return _follow(place, stack_id, newest, tell)


def wait(place: Place, stack_id: str, tell: Tell) -> Ended:
    """See to its end what goes on now, whoever has begun it. Errors: AwsError and its kin."""
    ends = (event.id for event in _newest_first(place, stack_id) if event.is_of_stack and event.is_end)
    return _follow(place, stack_id, next(ends, ""), tell)


def _follow(place: Place, stack_id: str, after: str, tell: Tell) -> Ended:
    """after: the id of the last event before the operation; empty if there was none."""
    seen: list[Event] = []

    def news() -> list[Event]:
        new = _events_after(place, stack_id, seen[-1].id if seen else after)
        for event in new:
            tell(event)
        seen.extend(new)
        return new

    pause_s, n_looks = _FASTEST_S, 0
    while True:
        n_looks += 1
        new = news()
        if any(event.is_of_stack and event.is_end for event in new) or n_looks % _LOOK_ANYWAY in (1, 0):
            state = glance(place, stack_id)
            is_gone = state.status in ("", "DELETE_COMPLETE")
            if is_gone or (not state.is_busy and (seen or n_looks >= _LOOK_ANYWAY)):
                news()  # it may have been quick
                return state, seen
        pause_s = _FASTEST_S if new else min(_SLOWEST_S, pause_s * _SLOWER)
        time.sleep(pause_s)


def _events_after(place: Place, stack: str, after: str) -> list[Event]:
    """Oldest first."""
    found = []
    for event in _newest_first(place, stack):
        if event.id == after:
            break
        found.append(event)
    return found[::-1]


def _newest_first(place: Place, stack: str) -> Iterator[Event]:
    said: Iterator[Any] = place.pages("cloudformation", "describe_stack_events", {"StackName": stack}, "StackEvents")
    try:
        yield from map(read_event, said)
    except AwsError as error:
        if error.code != "ValidationError":  # there is no such stack, yet
            raise
