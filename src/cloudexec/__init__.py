"""cloudexec: `concurrent.futures` code on AWS, in your own account.

Each name is loaded on first use, because workers pass through here and must start in milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudexec.command import Command, CommandResult
    from cloudexec.executors.awslambda import LambdaExecutor
    from cloudexec.executors.ecs import ECSExecutor
    from cloudexec.executors.local import LocalExecutor
    from cloudexec.future import CallStats, Future
    from cloudexec.ledger.calls import Retry
    from cloudexec.observe.run import RunFacts
    from cloudexec.r.robject import RFiles, RObject
    from cloudexec.r.snippet import R

__version__ = "0.1.0"
__all__ = [
    "CallStats",
    "Command",
    "CommandResult",
    "ECSExecutor",
    "Future",
    "LambdaExecutor",
    "LocalExecutor",
    "R",
    "RFiles",
    "RObject",
    "Retry",
    "RunFacts",
    "__version__",
    "errors",
]

_HOMES = {
    "CallStats": "cloudexec.future",
    "Command": "cloudexec.command",
    "CommandResult": "cloudexec.command",
    "ECSExecutor": "cloudexec.executors.ecs",
    "Future": "cloudexec.future",
    "LambdaExecutor": "cloudexec.executors.awslambda",
    "LocalExecutor": "cloudexec.executors.local",
    "R": "cloudexec.r.snippet",
    "RFiles": "cloudexec.r.robject",
    "RObject": "cloudexec.r.robject",
    "Retry": "cloudexec.ledger.calls",
    "RunFacts": "cloudexec.observe.run",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "errors":
        return import_module("cloudexec.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
