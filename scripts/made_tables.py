"""Write a page whose tables are computed, or look whether they are stale.

Called by: conversions.py, permissions.py, tables.py, each with what makes its tables anew.   Calls: nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def settle(page: Path, rewritten: Callable[[str], str], *, check: bool, by: str) -> int:
    """Write a page anew; the exit status. check: only look whether that would change it. by: what writes its tables.

    rewritten: the text with its tables made anew; a ValueError if they have no place in it.
    """
    text = page.read_text(encoding="utf-8")
    try:
        new = rewritten(text)
    except ValueError as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 2
    if new == text:
        return 0
    if check:
        print(f"{page}: a table is stale; run python {by}", file=sys.stderr)
        return 1
    page.write_text(new, encoding="utf-8")
    return 0
