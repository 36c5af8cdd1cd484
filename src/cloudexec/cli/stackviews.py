"""How `up` and `down` tell what happens to a stack.

Called by: up.py, down.py.   Calls: show.py; infra/stack, for types.
On a terminal a line at the bottom says what is at work now; without one there are plain lines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from cloudexec.cli.show import confirmed, err
from cloudexec.errors import AwsError, ConnectionLost, SettingsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.changes import Change
from cloudexec.infra.stack.events import Event, plain_reason
from cloudexec.infra.stack.inside import Inside
from cloudexec.infra.stack.look import StackState
from cloudexec.infra.stack.teller import Plan

_WORDS: Final = {
    "CREATE_COMPLETE": ("made", "green"),
    "UPDATE_COMPLETE": ("changed", "green"),
    "DELETE_COMPLETE": ("removed", "green"),
    "DELETE_SKIPPED": ("kept", "yellow"),
}
_LOUD: Final = {"Add": "green", "Modify": "", "Remove": "bold red", "Replace": "bold red", "Replace?": "bold yellow"}


class StackTeller:
    """Tells on stderr; asks there, too."""

    def __init__(self, *, yes: bool, begins: Callable[[StackState], None] = lambda state: None) -> None:
        self._yes = yes
        self._begins = begins
        self._console: Console = err()
        self._status: Status | None = None
        self._busy: dict[str, str] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """While something may happen."""
        try:
            yield
        finally:
            self._rest()

    def say(self, line: str) -> None:
        """What goes on."""
        self._console.print(escape(line))

    def agrees(self, question: str) -> bool:
        """Whether to go on."""
        self._rest()
        return confirmed(question, yes=self._yes)

    def begins(self, state: StackState) -> None:
        """It is about to go."""
        self._begins(state)

    def event(self, event: Event) -> None:
        """One line for each resource, when it is done."""
        if event.is_of_stack:
            if event.is_end:
                self._rest()
            return
        if not event.is_end:
            self._busy[event.logical_id] = event.kind
            self._tell_busy()
            return
        self._busy.pop(event.logical_id, None)
        if event.status in _WORDS:
            word, style = _WORDS[event.status]
            if not event.physical_id:
                return  # it never was there
            name = event.physical_id
            name = name.partition("/")[2] or name if name.startswith("arn:") else name
            self._console.print(f"  [{style}]{word:8}[/] {event.logical_id:18} [dim]{escape(name)}[/]")
        elif event.is_failure:
            reason = plain_reason(event.reason)
            self._console.print(f"  [bold red]failed[/]   {event.logical_id:18} {escape(reason)}")
        self._tell_busy()

    # --- up ---

    def show(self, plan: Plan) -> None:
        """What is about to happen."""
        verb = "will be made" if plan.is_new else "will be changed"
        self._console.print(f"Stack [bold]{escape(plan.stack)}[/] {verb}:")
        for change in plan.changes:
            self._show_change(change)
        if plan.later:
            self._console.print("and when its code has been uploaded:")
            for change in plan.later:
                self._show_change(change)
        for change in plan.changes:
            if change.is_loss:
                self._console.print(f"[bold red]ATTENTION:[/] {escape(change.loses)}")
        if plan.contents:
            named = ", ".join(f"{name} {version}" for name, version in plan.contents.items())
            self._console.print(f"Code: {escape(named)}")
        paid = "; ".join(plan.at_rest)
        self._console.print(f"It costs nothing while nothing runs{f', but {escape(paid)}' if paid else ''}.")

    def _show_change(self, change: Change) -> None:
        style = _LOUD.get(change.action, "")
        action = f"[{style}]{change.action:8}[/]" if style else f"{change.action:8}"
        more = f" [dim]{escape(', '.join(change.what))}[/]" if change.what else ""
        self._console.print(f"  {action} {change.logical_id:18} {change.kind}{more}")

    # --- down ---

    def show_inside(self, inside: Inside, *, keep_bucket: bool) -> None:
        """What is about to go."""
        self._console.print("This will be removed:")
        for logical_id, (kind, physical_id) in inside.resources.items():
            kept = "  [yellow](kept, if it is not empty)[/]" if keep_bucket and logical_id == "Bucket" else ""
            self._console.print(f"  {logical_id:18} {kind:34} [dim]{escape(physical_id)}[/]{kept}")
        for name, objects in inside.objects.items():
            verb = "kept" if keep_bucket else "removed"
            self._console.print(f"  {objects.n} objects of the kind {name!r}, {_size(objects.n_bytes)}: {verb}")
        for number, what in (
            (inside.n_images, "images in the repository"),
            (len(inside.tasks), "workers that run"),
            (len(inside.queues), "queues of runs"),
            (len(inside.definitions), "task definitions of image="),
        ):
            if number:
                self._console.print(f"  {number} {what}")

    # --- the line at the bottom ---

    def _tell_busy(self) -> None:
        if not self._console.is_terminal:
            return
        text = f"at work: {', '.join(sorted(self._busy))}" if self._busy else "waiting for CloudFormation"
        if self._status is None:
            self._status = self._console.status(escape(text))
            self._status.start()
        else:
            self._status.update(escape(text))

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1024**2:.1f} MB" if n_bytes >= 1 << 20 else f"{n_bytes / 1024:.1f} KB"


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Say of a region that nobody knows that it is that, and not the network."""
    try:
        yield
    except ConnectionLost as error:
        known = place.known_regions("cloudformation")
        if place.region in known or place.clients.endpoint_of("cloudformation"):
            raise
        what = f"region {place.region!r} is unknown, or cannot be reached: {error.what}"
        near = ", ".join(_near(place.region, known))  # none in a partition that is younger than this boto3
        remedy = f"correct --region; near it: {near}" if near else "correct --region"
        raise SettingsError(what, remedy=remedy) from error
    except AwsError as error:
        if error.code in ("OptInRequired", "UnrecognizedClientException", "InvalidClientTokenId"):
            error.remedy += f"; or region {place.region!r} is not enabled in this account: give another one by --region"
        raise


def _near(region: str, known: Sequence[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(region, known, n=3, cutoff=0.4) or list(known[:3])
