"""Errors after which an executor is of no more use: they are `BrokenExecutor`s, as the contract asks.

Neighbours: `cloudexec.errors` shows these names as its own, and imports this file on first use.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from cloudexec.errors import CloudexecError


class InitializerFailed(CloudexecError, BrokenExecutor):
    """The `initializer` raised; its own exception is the `__cause__`."""

    remedy = "mend the initializer, or its initargs, and create a new executor"


class WorkerStartFailed(CloudexecError, BrokenExecutor):
    """No worker could be started, several times in a row."""

    remedy = "read the worker's last words above; `python -m cloudexec.worker --check` tries it by hand"


class EngineFailed(CloudexecError, BrokenExecutor):
    """The background loop died; every open future got this, with the reason as `__cause__`."""

    remedy = "create a new executor; this is a defect of cloudexec, please report it with the traceback"
