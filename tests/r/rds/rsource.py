"""R source of Python values, written independently of the codec: what R makes of it is what a stream must hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NA = {"integer": "NA_integer_", "double": "NA_real_", "character": "NA_character_", "logical": "NA"}


def vector(kind: str, values: Sequence[Any]) -> str:
    """A vector of a type; None is NA. Time types are doubles in days or seconds, factors are text."""
    stored = {"integer": "integer", "logical": "logical", "character": "character", "factor": "character"}
    base = stored.get(kind, "double")
    plain = f"c({', '.join(_element(base, value) for value in values)})" if values else f"{base}(0)"
    if kind == "factor":
        levels = sorted({value for value in values if value is not None})
        return f"factor({plain}, levels = {vector('character', levels)})"
    if kind == "date":
        return f'structure({plain}, class = "Date")'
    if kind == "naive":
        return f'structure({plain}, class = c("POSIXct", "POSIXt"), tzone = "UTC", cloudexec_naive = TRUE)'
    if kind == "zoned":
        return f'structure({plain}, class = c("POSIXct", "POSIXt"), tzone = "America/New_York")'
    if kind == "duration":
        return f'structure({plain}, class = "difftime", units = "secs")'
    return plain


def _element(base: str, value: Any) -> str:
    if value is None:
        return NA[base]
    if base == "integer":
        return f"{value}L"
    if base == "logical":
        return "TRUE" if value else "FALSE"
    if base == "character":
        return text(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return float(value).hex()


def text(value: str) -> str:
    """Every character that is not a letter or digit as an escape."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{{{ord(c):x}}}" for c in value) + '"'
