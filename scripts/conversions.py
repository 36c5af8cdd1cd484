#!/usr/bin/env python3
"""Write the conversion tables of docs/r.md, from the rows that the codec's tests run against R.

    python scripts/conversions.py [--check] [PAGE]

Called by: people after a change of the rows; with `--check` (exit status 1 if the tables are stale) by a test.
Calls:     tests/r/rds/cases.py, therefore it needs NumPy and pandas; made_tables.py.
The tables stand between `<!-- conversions: begin -->` and `<!-- conversions: end -->`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from made_tables import settle

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.r.rds.cases import HERE, REFUSED, THERE, evaluated  # noqa: E402 -- found through the line above

PAGE = ROOT / "docs" / "r.md"
BEGIN, END = "<!-- conversions: begin -->\n", "<!-- conversions: end -->"


def tables() -> str:
    """All three of them."""
    there = ((_code(row.python), _code(row.r), _code(row.back) or "the same") for row in THERE if row.listed)
    here = ((_code(row.r), _code(row.python)) for row in HERE if row.listed)
    refused = ((_code(row.python), _remedy(row.python)) for row in REFUSED if row.listed)
    return "\n".join(
        [
            _table(("Python", "becomes in R", "and comes back as"), there),
            _table(("R", "becomes in Python"), here),
            _table(("Python value without counterpart", "what the error tells"), refused),
        ]
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _code(source: str) -> str:
    return f"`{source.replace('|', chr(92) + '|')}`" if source else ""


def _remedy(source: str) -> str:
    """The error's own words, without the path."""
    from cloudexec.errors import RConversionError
    from cloudexec.r import rds

    try:
        rds.dumps(evaluated(source), path="")
    except RConversionError as error:
        return str(error).replace("|", r"\|").replace("[", r"\[")  # `[…][…]` would be a link
    raise ValueError(f"{source} is not refused")


def rewritten(text: str) -> str:
    """The page with its tables made anew. Errors: ValueError if they have no place in it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the tables, {BEGIN.strip()!r} … {END!r}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Write the conversion tables of docs/r.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the tables are stale")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    given = parser.parse_args()
    return settle(given.page, rewritten, check=given.check, by="scripts/conversions.py")


if __name__ == "__main__":
    sys.exit(main())
