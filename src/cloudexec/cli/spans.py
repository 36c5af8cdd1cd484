"""Spans and moments as people write and read them: `7d`, `90m`, `5 min ago`.

Called by: runs.py, runviews.py.   Calls: click, for errors of usage.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any, Final

import click

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class Span(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5 only
    """A number and a unit; the value is seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, (int, float)):
            return float(value)
        found = _SPAN.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} is no span of time: give e.g. 90s, 10m, 2h, 7d, 4w", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """A span before now, or a local time such as `2026-11-21T18:30`; the value is seconds since 1970."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, (int, float)):
            return float(value)
        if _SPAN.fullmatch(value.strip()):
            return time.time() - Span().convert(value, param, ctx)
        try:
            return datetime.fromisoformat(value.strip()).timestamp()
        except ValueError:
            self.fail(f"{value!r} is neither a span such as 10m nor a time such as 2026-11-21T18:30", param, ctx)


def shown_span(seconds: float) -> str:
    """In two digits or so."""
    if seconds < 99.5:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} d"


def shown_moment(at_s: float) -> str:
    """In local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
