"""How a value is refused: where it stands, what is wrong, and what to do instead.

Called by: every module of this folder that reads or makes values.   Calls: errors.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from cloudexec.errors import RConversionError

# By the name of the type, because the types' modules need not be imported.
REMEDIES: Final = {
    "set": "pass sorted(…) or list(…)",
    "frozenset": "pass sorted(…) or list(…)",
    "range": "pass numpy.arange(…) for a vector, or list(…) for a list",
    "dict_keys": "pass list(…)",
    "dict_values": "pass list(…)",
    "generator": "pass list(…)",
    "Decimal": "pass float(…) or str(…)",
    "Fraction": "pass float(…)",
    "UUID": "pass str(…)",
    "time": "pass str(…), or a timedelta since midnight",
    "Period": "pass .to_timestamp()",
    "Interval": "pass .left and .right",
    "function": "pass R code instead: an R snippet of its own, or text that the snippet parses",
}


def refuse(what: str, path: str, remedy: str | None = None) -> NoReturn:
    """Errors: RConversionError, always."""
    raise RConversionError(f"{path}: {what}" if path else what, path, remedy=remedy)


def refuse_type(value: Any, path: str) -> NoReturn:
    """Refuse a value for its type."""
    from enum import Enum
    from os import PathLike

    kind = type(value)
    remedy = REMEDIES.get(kind.__name__)
    if isinstance(value, Enum):
        remedy = "pass its .value"
    elif isinstance(value, PathLike):
        remedy = "pass str(…)"
    elif hasattr(kind, "__dataclass_fields__"):
        remedy = "pass dataclasses.asdict(…)"
    refuse(f"R has no counterpart of {kind.__module__}.{kind.__qualname__}", path, remedy)
