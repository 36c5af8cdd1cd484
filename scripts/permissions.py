#!/usr/bin/env python3
"""Compare the table of rights with what was really asked, and write the tables of docs/permissions.md.

    permissions.py --check DIR [DIR…]    what the pocket AWS has put down (CLOUDEXEC_POCKET_RECORD=DIR) while tests ran:
                                         whoever asks must have the right, and each right must have been needed
    permissions.py --check DIR --some    the first half alone, where only some of the tests have run
    permissions.py --tables              write the tables
    permissions.py --tables --check      fail if they are stale

Called by: scripts/test.sh after all tests; by hand; tests/infra/permissions, tests/docs.
Calls:     cloudexec.infra.permissions, made_tables.py.   Exit status: 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from made_tables import settle

from cloudexec.infra.permissions.actions import FREE, action_of
from cloudexec.infra.permissions.grants import GRANTS, Grant, Part, Who
from cloudexec.infra.permissions.render import grants_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "permissions.md"
TABLE = re.compile(r"(?P<begin><!-- rights: (?P<who>[\w-]+) -->\n).*?(?P<end><!-- end of rights -->)", re.DOTALL)
# Who signs requests that the pocket sees, and whose rows they have; the others are services of AWS, and programs
# without cloudexec. `cloudexec doctor` tries what clients do, and looks at what set-up has made.
RECORDED = {
    "client": (Who.CLIENT,),
    "task": (Who.TASK,),
    "function": (Who.FUNCTION,),
    "setup": (Who.SETUP,),
    "doctor": (Who.CLIENT, Who.SETUP),
}
# Executors inside calls need the client's rights; who wants them adds `ClientPolicy` to the function's role
# (docs/lambda.md), the stack does not.
INSIDE_CALLS = {
    "function": {one for grant in grants_of(Who.CLIENT, [Part.LAMBDA]) for one in grant.actions if "lambda:" in one}
}

Asked = Mapping[str, Mapping[str, int]]  # by principal: how often which operation


# --- what was asked ---------------------------------------------------------------------------------


def read(folders: Iterable[Path]) -> dict[str, Counter[str]]:
    """The sum of all records in these folders."""
    found: dict[str, Counter[str]] = {principal: Counter() for principal in RECORDED}
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        for principal, counts in json.loads(path.read_text()).items():
            found.setdefault(principal, Counter()).update(counts)
    return found


def missing(asked: Asked) -> list[str]:
    """Operations that somebody has used without a right for it in the table."""
    found = []
    for principal, roles in RECORDED.items():
        allowed = {action for who in roles for grant in grants_of(who) for action in grant.actions} | FREE
        allowed |= INSIDE_CALLS.get(principal, set())
        for operation, count in sorted(asked.get(principal, {}).items()):
            if action_of(operation) not in allowed:
                asks = f"{principal} asks {operation}"
                found.append(f"{asks} ({count} times), and has no row with {action_of(operation)}")
    return found


def unused(asked: Asked) -> list[str]:
    """Rights that nobody has needed, and of which the table does not say why it grants them nevertheless."""
    found = []
    for who in (Who.CLIENT, Who.TASK, Who.FUNCTION, Who.SETUP):
        principals = [principal for principal, roles in RECORDED.items() if who in roles]
        used = {action_of(operation) for principal in principals for operation in asked.get(principal, {})}
        granted = {action: grant for grant in grants_of(who) for action in grant.needed}
        for action in sorted(granted.keys() - used):
            found.append(f"{who.value} may {action} ({granted[action].why}), and has never asked for it")
    return found


def compare(folders: Sequence[Path], *, only_some: bool) -> int:
    """The exit status."""
    asked = read(folders)
    if not any(asked.values()):
        print(f"rights: no pocket AWS has put anything down in {', '.join(map(str, folders))}")
        return 1
    wrong = missing(asked) + ([] if only_some else unused(asked))
    for line in wrong:
        print(line)
    total = ", ".join(f"{principal} {sum(asked[principal].values()):,}" for principal in RECORDED)
    print(f"rights: {len(wrong)} of them differ from what was asked; requests: {total}")
    return 1 if wrong else 0


# --- the page ---------------------------------------------------------------------------------------


def table(who: Who) -> str:
    """All rows of somebody, for the page."""
    lines = ["| what for | actions | on | only if |", "|---|---|---|---|"]
    return "\n".join([*lines, *(_row(grant) for grant in GRANTS if grant.who is who)]) + "\n"


def _row(grant: Grant) -> str:
    conditions = [
        f"`{key}` {operator} {' or '.join(f'`{one}`' for one in _listed(value))}"
        for operator, keys in grant.when.items()
        for key, value in keys.items()
    ]
    why = f"{grant.why} *(can be left out)*" if grant.optional else grant.why
    cells = [why, _codes(grant.actions), _codes([short(each) for each in grant.on]), "<br>".join(conditions)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _codes(words: Iterable[str]) -> str:
    return "<br>".join(f"`{word}`" for word in words)


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def short(arn: str) -> str:
    """An ARN without what all have: `s3:::{bucket}/code/*`."""
    return arn.removeprefix("arn:{partition}:").replace(":{region}:{account}:", ":…:")


def rewritten(text: str) -> str:
    """The page with its tables made anew. Errors: ValueError if it has none."""
    new, count = TABLE.subn(lambda found: found["begin"] + table(Who(found["who"])) + found["end"], text)
    if not count:
        raise ValueError("the page has no table between '<!-- rights: WHO -->' and '<!-- end of rights -->'")
    return new


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Compare the table of rights with what was asked; write its tables.")
    parser.add_argument("--check", nargs="*", type=Path, metavar="DIR", help="records to compare with")
    parser.add_argument("--some", action="store_true", help="only some of the tests have run")
    parser.add_argument("--tables", action="store_true", help="the page's tables; with --check write nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    if given.tables:
        return settle(given.page, rewritten, check=given.check is not None, by="scripts/permissions.py --tables")
    if not given.check:
        parser.error("give --check DIR or --tables")
    return compare(given.check, only_some=given.some)


if __name__ == "__main__":
    sys.exit(main())
