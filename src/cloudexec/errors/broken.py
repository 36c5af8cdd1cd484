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


class FunctionMissing(WorkerStartFailed):
    """There is no Lambda function of this name or qualifier in this region."""

    remedy = "correct function=, qualifier= or region=; `aws lambda list-functions` shows what there is"


class FunctionDenied(WorkerStartFailed):
    """These credentials may not invoke the function."""

    remedy = "allow lambda:InvokeFunction on the function, and check whose credentials these are"


class FunctionImportFailed(WorkerStartFailed):
    """The function's environment could not import the worker: it, or what it needs, is not in the zip or image."""

    remedy = "put cloudexec and cloudpickle into the zip or image, built for the function's Python and architecture"


class HandlerNotFound(WorkerStartFailed):
    """The function's handler is not cloudexec's."""

    remedy = "set the function's handler to cloudexec.worker.awslambda.handler"


class WrongArchitecture(WorkerStartFailed):
    """The function's code does not fit its runtime or architecture."""

    remedy = "build the image, or the wheels in the zip, for the function's architecture (x86_64 or arm64) and runtime"


class FunctionKeyDenied(WorkerStartFailed):
    """Lambda could not decrypt the function's environment or image: its KMS key is missing, disabled or forbidden."""

    remedy = "enable the KMS key and allow kms:Decrypt to the function's role, or give the function another key"


class RecursionStopped(WorkerStartFailed):
    """Lambda stopped a chain of functions that invoke each other."""

    remedy = "let calls not submit to Lambda executors in turn, about 16 deep; allow it with PutFunctionRecursionConfig"


class InvocationThrottled(WorkerStartFailed):
    """Lambda refused every invocation (429) for longer than `throttle_timeout_s`."""

    remedy = "lower max_workers, free or raise the concurrency that the error names, or raise throttle_timeout_s="


class FunctionFailed(WorkerStartFailed):
    """The function's handler raised an exception of its own, outside any call."""

    remedy = "read the log lines above; client and function must have the same version of cloudexec"


class EngineFailed(CloudexecError, BrokenExecutor):
    """The background loop died; every open future got this, with the reason as `__cause__`."""

    remedy = "create a new executor; this is a defect of cloudexec, please report it with the traceback"


class RunTakenOver(CloudexecError, BrokenExecutor):
    """Another client attached to this run; only one may have it."""

    remedy = "go on in the client that attached; its futures get the results"


class RunDetached(CloudexecError, BrokenExecutor):
    """`detach()` was called: the run goes on without this executor, whose open futures end with this error."""

    remedy = "attach to the run with its id to get the results, here or in another process"
