"""Follow what CloudFormation does with a stack, until it has ended.

Called by: deploy.py, settle.py, remove.py.   Calls: look.py, events.py, place.py.
Requests: one DescribeStackEvents every 0.3 to 3 s, the slower the less happens; DescribeStacks at the start, at
          the end, and on every tenth look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from cloudexec.errors import AwsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.events import Event, read_event
from cloudexec.infra.stack.look import StackState, look

_FASTEST_S: Final = 0.3
_SLOWEST_S: Final = 3.0
_SLOWER: Final = 1.3
_LOOK_ANYWAY: Final = 10


def latest_event(place: Place, stack: str) -> str:
    """The id of the newest event: what happens from now on comes after it."""
    return next((event.id for event in _newest_first(place, stack)), "")


def event_before_operation(place: Place, stack: str) -> str:
    """The id of the event that ended what was before the operation that goes on now; empty if there was nothing."""
    return next((event.id for event in _newest_first(place, stack) if event.is_of_stack and event.is_end), "")


def follow(place: Place, stack_id: str, after: str, tell: Callable[[Event], None]) -> tuple[StackState, list[Event]]:
    """The stack at the end of the operation, and the operation's events. after: the id of the last one before it.

    Errors: AwsError and its kin.
    """
    seen: list[Event] = []
    pause_s, n_looks = _FASTEST_S, 0
    while True:
        n_looks += 1
        new = _events_after(place, stack_id, seen[-1].id if seen else after)
        for event in new:
            tell(event)
        seen += new
        if any(event.is_of_stack and event.is_end for event in new) or n_looks % _LOOK_ANYWAY in (1, 0):
            state = look(place, stack_id)
            is_gone = state.status in ("", "DELETE_COMPLETE")
            if is_gone or (not state.is_busy and (seen or n_looks >= _LOOK_ANYWAY)):
                last = _events_after(place, stack_id, seen[-1].id if seen else after)  # it may have been quick
                for event in last:
                    tell(event)
                return state, seen + last
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
