"""How commands speak: lines, tables, JSON, questions.

Called by: all commands.   Calls: rich.
What a command was asked for goes to stdout, what it tells on the way to stderr, so that a pipe gets the first alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cloudexec.errors import CloudexecError

_ANY_WIDTH: Final = 10_000


def out() -> Console:
    """Where answers go. Made anew, because a test's stdout changes."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def err() -> Console:
    """Where everything else goes."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """A line for people, on stderr."""
    err().print(escape(text), style=style or None)


def say_error(error: CloudexecError | str) -> None:
    """What happened, and what to do about it."""
    console = err()
    if isinstance(error, CloudexecError):
        console.print(f"[bold red]cloudexec:[/] {escape(error.what)}")
        if error.remedy:
            console.print(f"[bold]  what to do:[/] {escape(error.remedy)}")
        return
    console.print(f"[bold red]cloudexec:[/] {escape(error)}")


def print_json(value: Any) -> None:
    """For machines: one document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; `right`: headings of columns of numbers. The first column is an id, and stays whole.

    Only a terminal has a width: in a pipe or file no line is broken.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        is_whole = index == 0 or heading in right
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=is_whole)
    for row in rows:
        table.add_row(*[escape(str(cell)) for cell in row])
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _ANY_WIDTH
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on: --yes, or a person at a terminal says so. Without a terminal nobody is asked: no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say(f"{question} Repeat with --yes to do it.")
        return False
    return click.confirm(question, default=False, err=True)
