"""R code as a plain callable value, and the engines that run it (docs/decisions/0008).

Called by: users (`from cloudexec import R`); adapters.foreach.   Calls: errors. No executor knows this package.
Each name is loaded on first use, because a worker that unpickles an `R` passes through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudexec.r.robject import RFiles, RObject
    from cloudexec.r.snippet import R
    from cloudexec.r.streams import RStream

__all__ = ["R", "RFiles", "RObject", "RStream"]

_HOMES = {"R": "snippet", "RFiles": "robject", "RObject": "robject", "RStream": "streams"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
