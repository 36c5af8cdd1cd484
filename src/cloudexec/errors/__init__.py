"""Every error that cloudexec raises, sorted by who can act on it.

Neighbours: everybody imports this floor; it imports nothing but the standard library.
Note:       `BrokenExecutor` subclasses live in `broken.py`, because `concurrent.futures` costs a
            worker 4 ms of start-up that it does not need; the names are the same from outside.

Each class carries a `remedy`, and each has a heading in docs/troubleshooting.md (a test compares them).
All arguments go to `super().__init__`, so that every error survives pickling.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudexec.errors.broken import EngineFailed, InitializerFailed, WorkerStartFailed

__all__ = [
    "BlobMissing",
    "CallCrashed",
    "CallExited",
    "CallStopped",
    "CallTimeout",
    "CloudexecError",
    "EngineFailed",
    "ExecutorClosed",
    "ExecutorForked",
    "ExecutorNotPicklable",
    "InitializerFailed",
    "OutOfMemory",
    "RemoteError",
    "RemoteTraceback",
    "ResultUnreadable",
    "SettingsError",
    "SignatureError",
    "StoreFull",
    "UnpicklableArgument",
    "UnpicklableResult",
    "VersionMismatch",
    "WireError",
    "WorkerLost",
    "WorkerStartFailed",
]

_BROKEN = frozenset({"EngineFailed", "InitializerFailed", "WorkerStartFailed"})


def __getattr__(name: str) -> Any:
    if name in _BROKEN:
        from cloudexec.errors import broken

        return getattr(broken, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class CloudexecError(Exception):
    """Base of all errors of this library: what happened, to which id, and what to try."""

    remedy: str = "see docs/troubleshooting.md"

    def __init__(self, what: str, *args: object, remedy: str | None = None) -> None:
        super().__init__(what, *args)
        if remedy is not None:
            self.remedy = remedy

    @property
    def what(self) -> str:
        """What happened, without the remedy."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.what.rstrip('.')}. Remedy: {self.remedy}"


# --- your input ------------------------------------------------------------------------------


class SettingsError(CloudexecError, ValueError):
    """A setting or option is unknown, out of range, or contradicts another one."""

    remedy = "correct the named setting"


class UnpicklableArgument(CloudexecError, pickle.PicklingError):
    """The function or an argument cannot be pickled; it is the exception of that future alone."""

    remedy = (
        "open files, locks, sockets and generators stay in one process: pass a path or plain data, "
        "and open the resource inside the function"
    )


class ExecutorClosed(CloudexecError, RuntimeError):
    """`submit` or `map` was called after `shutdown`."""

    remedy = "submit inside the `with` block, or create a new executor"

    def __init__(
        self, what: str = "cannot schedule new futures after shutdown", *args: object, remedy: str | None = None
    ) -> None:
        super().__init__(what, *args, remedy=remedy)

    def __str__(self) -> str:
        return self.what  # the standard library's own sentence, which callers match on


class ExecutorForked(CloudexecError, RuntimeError):
    """An executor that was created before a fork is used in the child process."""

    remedy = "create an executor of its own in the child process"


class ExecutorNotPicklable(CloudexecError, TypeError):
    """An executor was pickled, for instance because a submitted function refers to it."""

    remedy = "do not refer to the executor inside a submitted function; create one there if you need it"


# --- your function ---------------------------------------------------------------------------


class RemoteTraceback(CloudexecError):
    """The traceback as the worker printed it; it stands as `__cause__` of a call's own exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.what}"""'


class RemoteError(CloudexecError):
    """Describes an exception that could not travel: its type's name, its text and its traceback.

    Arguments: what, type name, message.
    """

    remedy = (
        "the exception's class does not survive pickling: pass all arguments of its __init__ on to "
        "super().__init__, or define it in a module that the worker can import"
    )

    @property
    def type_name(self) -> str:
        """Qualified name of the original exception's class."""
        return str(self.args[1]) if len(self.args) > 1 else "?"


class CallExited(CloudexecError):
    """The function raised SystemExit, KeyboardInterrupt or GeneratorExit. Arguments: what, exit code."""

    remedy = "return a value or raise an Exception instead of leaving the process"

    @property
    def code(self) -> object:
        """What was handed to `sys.exit`."""
        return self.args[1] if len(self.args) > 1 else None


class CallCrashed(CloudexecError):
    """The process that ran the call died in it. Arguments: what, exit code (negative: minus the signal)."""

    remedy = (
        "look at the function's native code, its memory and its use of os._exit; retries=Retry(crash=1) "
        "tries again in a fresh process"
    )

    @property
    def exitcode(self) -> int | None:
        """Exit status of the process; minus the signal's number if a signal ended it."""
        code = self.args[1] if len(self.args) > 1 else None
        return code if isinstance(code, int) else None


class OutOfMemory(CallCrashed):
    """The kernel killed the call's process because memory ran out."""

    remedy = "run fewer calls at once (max_workers), give the worker more memory, or work on smaller pieces"


class CallTimeout(CloudexecError, TimeoutError):
    """The call ran longer than its `timeout_s` and was killed. Arguments: what, limit in seconds."""

    remedy = "raise timeout_s, or make the call smaller"


class CallStopped(CloudexecError):
    """`future.stop()` or `terminate_workers()` ended the call."""

    remedy = "somebody asked for it; submit the call again if it is still wanted"


class UnpicklableResult(CloudexecError, pickle.PicklingError):
    """The function returned something that cannot be pickled, or that does not unpickle."""

    remedy = "return plain data (numbers, strings, arrays, data frames) instead of the live object"


class ResultUnreadable(CloudexecError):
    """A result arrived that unpickled in the worker but not in this process."""

    remedy = "the module that defines the result's class must be importable here, in the same version"


# --- the place where it ran ------------------------------------------------------------------


class WorkerLost(CloudexecError):
    """The worker that held the call died or fell silent, more often than the retry budget allows."""

    remedy = "see the cause named above; Retry(lost=...) allows more attempts"


class VersionMismatch(CloudexecError):
    """Client and worker run different versions of Python or cloudpickle, so pickles cannot be trusted."""

    remedy = "give the worker's image the client's Python minor version and cloudpickle version"


class StoreFull(CloudexecError, OSError):
    """The store has no room for an argument or a result."""

    remedy = "free space there, or name a roomier place with store_dir="

    def __init__(self, what: str, *args: object, remedy: str | None = None) -> None:
        CloudexecError.__init__(self, what, *args, remedy=remedy)

    __str__ = CloudexecError.__str__


class BlobMissing(CloudexecError, LookupError):
    """A blob that a call refers to is not in the store."""

    remedy = "something removed the run's files while it was alive; run the call again"


# --- us --------------------------------------------------------------------------------------


class WireError(CloudexecError):
    """A message is cut short, of another version, or of the wrong kind."""

    remedy = "client and worker must have the same version of cloudexec; otherwise please report it"


class SignatureError(WireError):
    """A message does not carry the run's signature; nothing of it was unpickled."""

    remedy = "somebody else wrote to the run's channel, or two runs share one; start a new run"
