"""NumPy and pandas, if they are there: nobody pays for them who passes plain Python values.

Called by: describing.py (writing), values.py, vectors.py, tables.py (reading).   Calls: nothing.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


def loaded(name: str) -> Any:
    """A module that somebody imported, or None. Whoever passes an array has imported NumPy."""
    return sys.modules.get(name)


@cache
def numpy() -> Any:
    """NumPy, or None where it is not installed."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


@cache
def pandas() -> Any:
    """pandas, or None where it is not installed."""
    try:
        import pandas
    except ImportError:
        return None
    return pandas
