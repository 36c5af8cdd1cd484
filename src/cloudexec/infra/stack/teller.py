"""How `up` speaks with whoever runs it, and what it shows before it acts. (`down` shows other things: remove.py.)

Called by: deploy.py, settle.py; cli/stackviews.py implements it.   Calls: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloudexec.infra.stack.changes import Change
from cloudexec.infra.stack.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a change set would do. later: what a new stack gets when its code is there. at_rest: what is paid then."""

    stack: str
    is_new: bool
    changes: Sequence[Change]
    later: Sequence[Change] = ()
    at_rest: Sequence[str] = ()
    contents: Mapping[str, str] | None = None


class Teller(Protocol):
    """Whoever runs `up`: is told, shown, asked."""

    def say(self, line: str) -> None:
        """What goes on."""

    def show(self, plan: Plan) -> None:
        """What is about to happen."""

    def event(self, event: Event) -> None:
        """What has happened to a resource."""

    def agrees(self, question: str) -> bool:
        """Whether to go on."""
