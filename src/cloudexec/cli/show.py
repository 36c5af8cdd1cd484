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
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from cloudexec.errors import CloudexecError

_ANY_WIDTH: Final = 10_000
_READABLE: Final = 20  # columns of a cell that is broken into lines
_GAP: Final = 2


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

    Only a terminal has a width: in a pipe or file no line is broken. Where a terminal is too narrow for a table that
    can be read, each row becomes some lines.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _ANY_WIDTH
    console = Console(file=sys.stdout, highlight=False, width=width)
    cells = [[str(cell) for cell in row] for row in rows]
    natural = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    is_whole = [index == 0 or heading in right for index, heading in enumerate(headings)]
    least = [each if whole else min(each, _READABLE) for each, whole in zip(natural, is_whole, strict=True)]
    if sum(least) + _GAP * (len(least) - 1) > console.width:
        _print_records(console, headings, cells)
        return
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=any(headings))
    for heading, whole, width_least in zip(headings, is_whole, least, strict=True):
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=whole, min_width=width_least)
    for row in cells:
        table.add_row(*map(escape, row))
    console.print(table)


def _print_records(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The id on a line of its own; below it, what has a value: `state done, workers 2`."""
    for first, *rest in rows:
        console.print(escape(first), style="bold", soft_wrap=True)
        said = [f"{heading} {cell}".strip() for heading, cell in zip(headings[1:], rest, strict=True) if cell]
        console.print(Padding(escape(", ".join(said)), (0, 0, 0, 2)))


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on: --yes, or a person at a terminal says so. Without a terminal nobody is asked: no."""
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed before Python began
        say(f"{question} Repeat with --yes to do it.")
        return False
    return click.confirm(question, default=False, err=True)
