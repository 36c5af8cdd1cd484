#!/usr/bin/env python3
"""Write the tables of the documentation that are computed: costs and times, in docs/lambda.md.

    python scripts/tables.py [--check] [PAGE]

Called by: people after a change of prices or of the model; with `--check` (exit status 1 if a table is stale) by
tests/docs/test_tables.py.   Calls: cloudexec.observe.estimates.
A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from cloudexec.errors import SettingsError
from cloudexec.observe.estimates import FargateShape, LambdaShape, Work, on_fargate, on_lambda

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "lambda.md"
CALLS_S = (1, 10, 60, 900)
COUNTS = (100, 10_000, 1_000_000)
TABLE = re.compile(r"(?P<begin><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end of table -->)", re.DOTALL)


def lambda_or_ecs() -> str:
    """When Lambda, when ECS: each length of call by each number of calls."""
    lines = [
        "| calls | of | Lambda: last result after | x86 | Arm | ECS: tasks | last result after | Fargate | Spot |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(Work(n_calls=n_calls, call_s=call_s)) for call_s in CALLS_S for n_calls in COUNTS]
    return "\n".join(lines) + "\n"


def _row(work: Work) -> str:
    cells = [f"{work.n_calls:,}", f"{work.call_s:g} s"]
    try:
        x86, arm = on_lambda(work), on_lambda(work, LambdaShape(arch="arm64"))
        cells += [duration(x86.makespan_s), dollars(x86.usd), dollars(arm.usd)]
    except SettingsError:
        cells += ["too long", "–", "–"]
    plain, spot = on_fargate(work), on_fargate(work, FargateShape(spot=True))
    cells += [f"{plain.n_places:,}", duration(plain.makespan_s), dollars(plain.usd), dollars(spot.usd)]
    return f"| {' | '.join(cells)} |"


def duration(seconds: float) -> str:
    """For people, with two or three digits."""
    for unit_s, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{_short(seconds / unit_s)} {unit}"
    return f"{_short(seconds)} s"


def dollars(usd: float) -> str:
    """To the cent; what is below ten cents with two digits."""
    return f"${usd:,.2f}" if usd >= 0.1 else f"${float(f'{usd:.2g}'):f}".rstrip("0")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


TABLES: dict[str, Callable[[], str]] = {"lambda-or-ecs": lambda_or_ecs}


def rewritten(text: str) -> str:
    """The page with its tables computed anew. Errors: ValueError if it has none, or one that nobody computes."""

    def table(found: re.Match[str]) -> str:
        if found["name"] not in TABLES:
            raise ValueError(f"nobody computes a table {found['name']!r}; there are {', '.join(TABLES)}")
        return f"{found['begin']}{TABLES[found['name']]()}{found['end']}"

    new, count = TABLE.subn(table, text)
    if not count:
        raise ValueError("the page has no table between '<!-- table: NAME -->' and '<!-- end of table -->'")
    return new


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Write the computed tables of a page.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is stale")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    given = parser.parse_args()
    text = given.page.read_text(encoding="utf-8")
    try:
        new = rewritten(text)
    except ValueError as error:
        print(f"{given.page}: {error}", file=sys.stderr)
        return 2
    if new == text:
        return 0
    if given.check:
        print(f"{given.page}: a table is stale; run python scripts/tables.py", file=sys.stderr)
        return 1
    given.page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
