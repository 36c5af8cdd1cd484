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


class CapacityUnavailable(WorkerStartFailed):
    """The service has no room for workers of this kind now, and had none until the deadline."""

    remedy = "try another size, region or zone, or spot=True with fallback='on_demand'; or wait"


class ImagePullFailed(WorkerStartFailed):
    """The worker's image could not be fetched."""

    remedy = "check the image's name, the execution role's rights, and the subnet's way to the registry"


class EngineFailed(CloudexecError, BrokenExecutor):
    """The background loop died; every open future got this, with the reason as `__cause__`."""

    remedy = "create a new executor; this is a defect of cloudexec, please report it with the traceback"


class RunTakenOver(CloudexecError, BrokenExecutor):
    """Another client attached to this run; only one may have it."""

    remedy = "go on in the client that attached; its futures get the results"


class RunDetached(CloudexecError, BrokenExecutor):
    """`detach()` was called: the run goes on without this executor, whose open futures end with this error."""

    remedy = "attach to the run with its id to get the results, here or in another process"
