"""What cloudexec is tested with, for users' tests too.

Files: pocket/      an AWS on loopback that really runs its tasks; `python -m cloudexec.testing` serves it
       plugin.py    its pytest fixtures
       simulation/  drives the real ledger against a random cloud, in virtual time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudexec.testing.pocket.functions import EnvironmentView, FunctionCounts
    from cloudexec.testing.pocket.pocket import PocketAWS, QueueView, TaskView
    from cloudexec.testing.pocket.settings import PocketSettings

__all__ = ["EnvironmentView", "FunctionCounts", "PocketAWS", "PocketSettings", "QueueView", "TaskView"]

_HOMES = {
    "EnvironmentView": "cloudexec.testing.pocket.functions",
    "FunctionCounts": "cloudexec.testing.pocket.functions",
    "PocketAWS": "cloudexec.testing.pocket.pocket",
    "PocketSettings": "cloudexec.testing.pocket.settings",
    "QueueView": "cloudexec.testing.pocket.pocket",
    "TaskView": "cloudexec.testing.pocket.pocket",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
