"""`cloudexec doctor`: look at everything that a run needs, and say what to do.

Called by: main.py.   Calls: infra/doctor; for --run the executors, as a user would make them.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import click
from rich.markup import escape

from cloudexec.backends.clients import Clients
from cloudexec.cli.common import json_option, place_of, place_options
from cloudexec.cli.main import FAILED
from cloudexec.cli.show import out, print_json
from cloudexec.errors import SettingsError
from cloudexec.executors.awslambda import LambdaExecutor
from cloudexec.executors.base import CloudExecutor
from cloudexec.executors.ecs import ECSExecutor
from cloudexec.infra.doctor.examine import examine
from cloudexec.infra.doctor.findings import LOOK_REMEDY, Finding, Level, unknown
from cloudexec.infra.doctor.scene import Wanted
from cloudexec.infra.doctor.trial import SUBJECTS, Trial, cost_of, judge_failure, judge_trial, make_witness
from cloudexec.infra.place import Place

WIDTH: Final = 80  # where nobody can say how wide the terminal is
MOST_WIDTH: Final = 110  # longer lines are hard to read
TRIAL_S: Final = {"ecs": 420.0, "lambda": 120.0}
_STYLES: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "bold red", Level.UNKNOWN: "cyan"}
_INDENT: Final = 24  # `warning  credentials    `


@click.command(name="doctor")
@click.option("--run", "runs", is_flag=True, help="Also run one call on each backend that is set up; costs a cent.")
@click.option("--only", type=click.Choice(["ecs", "lambda"]), help="Look at one backend alone.")
@click.option("--max-workers", type=click.IntRange(min=1), metavar="N", help="Look whether so many calls fit at once.")
@click.option("--verbose", "-v", is_flag=True, help="Also print each setting with its source, and what is well.")
@json_option
@place_options
def doctor(
    runs: bool,
    only: str | None,
    max_workers: int | None,
    verbose: bool,
    as_json: bool,
    **where: Any,
) -> int:
    """Check credentials, stack, roles, network, quotas, image; say what to do.

    Nothing is changed, but for one small object in the bucket that is written and removed. The exit code is 1 if
    something failed.
    """
    given = {name: value for name, value in where.items() if value}
    settings = {"aws_profile" if name == "profile" else name: value for name, value in given.items()}
    wanted = Wanted(
        given=settings,
        environ=dict(os.environ),
        parts=frozenset({only} if only else ()),
        max_workers=max_workers,
    )
    tell = (lambda _: None) if as_json else _Teller(verbose=verbose)
    found: list[Finding] = []
    with _place(where) as place:
        for finding in examine(place, wanted):
            found.append(finding)
            tell(finding)
    for finding in _trials(given, wanted.parts, found) if runs else ():
        found.append(finding)
        tell(finding)
    counts = Counter(finding.level.value for finding in found if as_json or verbose or not finding.is_detail)
    if as_json:
        summary = {level.value: counts[level.value] for level in Level}
        print_json({"findings": [finding.as_json() for finding in found], "summary": summary})
    else:
        _print_summary(counts, runs=runs)
    return FAILED if counts[Level.FAILED.value] else 0


@contextmanager
def _place(where: Mapping[str, Any]) -> Iterator[Place]:
    """Where to look. One without settings where they cannot be read: `examine` reads them first, tells why they cannot,
    as one finding among others, and asks nothing of AWS."""
    with ExitStack() as held:
        try:
            place = held.enter_context(place_of(**where))
        except SettingsError:
            clients = Clients()
            held.callback(clients.close)
            place = Place(clients)
        yield place


class _Teller:
    """Prints findings as they come; a subject's name stands before its first line."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._console = out()
        self._subject = ""
        self._told_once: set[str] = set()
        self._width = min(MOST_WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)

    def __call__(self, finding: Finding) -> None:
        if finding.is_detail and not self._verbose:
            return
        subject, self._subject = "" if finding.subject == self._subject else finding.subject, finding.subject
        style = _STYLES[finding.level]
        lines = wrapped(finding.text, self._width - _INDENT)
        self._console.print(f"[{style}]{finding.level.value:<8}[/] {escape(f'{subject:<14} {lines[0]}')}")
        for line in lines[1:]:
            self._console.print(" " * _INDENT + escape(line))
        remedy = "" if finding.remedy in self._told_once else finding.remedy
        if remedy == LOOK_REMEDY:
            self._told_once.add(remedy)
        for number, line in enumerate(wrapped(remedy, self._width - _INDENT - 3) if remedy else ()):
            self._console.print(f"{' ' * _INDENT}[bold]{'-> ' if number == 0 else '   '}[/]{escape(line)}")


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most this width; what is longer by itself (an ARN, a command's word) stays whole, to be copied."""
    words = " ".join(text.split())
    return textwrap.wrap(words, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def _print_summary(counts: Mapping[str, int], *, runs: bool) -> None:
    parts = [f"{counts[level.value]} {level.value}" for level in Level if counts[level.value]]
    console = out()
    console.print()
    console.print(escape(", ".join(parts)))
    if not runs and not counts[Level.FAILED.value]:
        console.print("`cloudexec doctor --run` also runs a call on each backend, which tells more than any look.")


# --- --run --------------------------------------------------------------------------------------------


def _trials(given: Mapping[str, str], parts: Collection[str], found: list[Finding]) -> Iterator[Finding]:
    """One call on each backend that is set up. What failed before may well be why a call would fail, too."""
    for backend in ("ecs", "lambda"):
        if parts and backend not in parts:
            continue
        facts = _width_of(found, backend)
        if facts is None:
            if not parts:
                continue
            text = "no call was run, because of what failed above"
            yield unknown(SUBJECTS[backend], text, "correct that first")
            continue
        yield from _trial(given, backend, facts)


def _width_of(found: list[Finding], backend: str) -> Mapping[str, Any] | None:
    """The facts of a backend's width; None if it is not set up, or could not be looked at."""
    named = "environments" if backend == "lambda" else "workers"
    return next((one.facts for one in found if one.subject == "width" and named in one.facts), None)


def _trial(given: Mapping[str, str], backend: str, facts: Mapping[str, Any]) -> list[Finding]:
    witness, began_s = make_witness(), time.monotonic()
    try:
        with _executor(backend, given) as executor:
            there = executor.submit(witness).result(timeout=TRIAL_S[backend])
            first_s = time.monotonic() - began_s
            executor.submit(witness).result(timeout=TRIAL_S[backend])
            second_s = time.monotonic() - began_s - first_s
    except Exception as error:  # the executor's own words are the finding
        return judge_failure(backend, error)
    usd = cost_of(backend, facts, time.monotonic() - began_s)
    trial = Trial(backend=backend, first_s=first_s, second_s=second_s, there=there, here=witness(), usd=usd)
    return judge_trial(trial)


def _executor(backend: str, given: Mapping[str, str]) -> CloudExecutor:
    make: Callable[..., CloudExecutor] = ECSExecutor if backend == "ecs" else LambdaExecutor
    return make(max_workers=1, name="cloudexec-doctor", on_error="cancel", **given)
