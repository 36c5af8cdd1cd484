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
    from cloudexec.errors.broken import (
        CapacityUnavailable,
        EngineFailed,
        ImagePullFailed,
        InitializerFailed,
        WorkerStartFailed,
    )
    from cloudexec.errors.rlang import (
        RConversionError,
        RCrashed,
        RError,
        RMissing,
        RPackageMissing,
        RTimeout,
    )
    from cloudexec.errors.rlang import RWarning as RWarning  # a warning, no error: not in __all__

__all__ = [
    "AccessDenied",
    "AwsError",
    "BlobMissing",
    "CallCrashed",
    "CallExited",
    "CallStopped",
    "CallTimeout",
    "CapacityUnavailable",
    "CloudexecError",
    "CommandFailed",
    "ConnectionLost",
    "CredentialsExpired",
    "CredentialsMissing",
    "EngineFailed",
    "EnvironmentLost",
    "EventDropped",
    "ExecutorClosed",
    "ExecutorForked",
    "ExecutorNotPicklable",
    "FunctionDenied",
    "FunctionFailed",
    "FunctionImportFailed",
    "FunctionKeyDenied",
    "FunctionMissing",
    "FunctionTimeout",
    "HandlerNotFound",
    "ImagePullFailed",
    "InitializerFailed",
    "InvocationThrottled",
    "ModuleNotShippable",
    "NoSuchKey",
    "OutOfMemory",
    "PayloadTooLarge",
    "PreconditionFailed",
    "RConversionError",
    "RCrashed",
    "RError",
    "RMissing",
    "RPackageMissing",
    "RTimeout",
    "RecursionStopped",
    "RemoteError",
    "RemoteTraceback",
    "ResultUnreadable",
    "RunBusy",
    "RunDetached",
    "RunMissing",
    "RunTakenOver",
    "SettingsError",
    "SignatureError",
    "StoreFull",
    "TaskStopped",
    "Throttled",
    "UnpicklableArgument",
    "UnpicklableResult",
    "VersionMismatch",
    "WireError",
    "WorkerLost",
    "WorkerStartFailed",
    "WrongArchitecture",
]

_BROKEN = frozenset(
    {
        "CapacityUnavailable",
        "EngineFailed",
        "FunctionDenied",
        "FunctionFailed",
        "FunctionImportFailed",
        "FunctionKeyDenied",
        "FunctionMissing",
        "HandlerNotFound",
        "ImagePullFailed",
        "InitializerFailed",
        "InvocationThrottled",
        "RecursionStopped",
        "RunDetached",
        "RunTakenOver",
        "WorkerStartFailed",
        "WrongArchitecture",
    }
)
_RLANG = frozenset({"RConversionError", "RCrashed", "RError", "RMissing", "RPackageMissing", "RTimeout", "RWarning"})


def __getattr__(name: str) -> Any:
    if name in _BROKEN:
        from cloudexec.errors import broken

        return getattr(broken, name)
    if name in _RLANG:
        from cloudexec.errors import rlang

        return getattr(rlang, name)
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


class ModuleNotShippable(CloudexecError):
    """A local module that a call needs cannot travel with it: too large, or unreadable."""

    remedy = (
        "move data out of the package, install the package where the workers run, "
        "or name what shall travel yourself with modules=[...]"
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


class FunctionTimeout(CallTimeout):
    """The call ran until the Lambda function's own timeout was near. Arguments: what, that timeout in seconds."""

    remedy = "raise the function's timeout (900 s at most), make the call smaller, or run it on ECSExecutor"


class PayloadTooLarge(CloudexecError):
    """A call's arguments or result do not fit into an invocation, and there is no bucket for them."""

    remedy = "give the executor a bucket=, or the function an environment variable CLOUDEXEC_BUCKET"


class CallStopped(CloudexecError):
    """`future.stop()` or `terminate_workers()` ended the call."""

    remedy = "somebody asked for it; submit the call again if it is still wanted"


class CommandFailed(CloudexecError):
    """A command ended with an exit code other than 0, or could not be started. Arguments: what, exit code (None if it
    never ran), the last lines of its log, its CommandResult."""

    remedy = "its last lines above say why; Command(..., check=False) returns the result instead of raising"

    @property
    def exit_code(self) -> int | None:
        """As the program left it; 128 + n if signal n ended it."""
        code = self.args[1] if len(self.args) > 1 else None
        return code if isinstance(code, int) else None

    @property
    def log(self) -> str:
        """The last lines that it wrote."""
        return str(self.args[2]) if len(self.args) > 2 else ""

    @property
    def result(self) -> Any:
        """The CommandResult, with the whole log and the timings; None if it never ran."""
        return self.args[3] if len(self.args) > 3 else None


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


class TaskStopped(WorkerLost):
    """The container that held the call was stopped: Spot, its host, somebody, or its own process."""

    remedy = "see the reason named above; Retry(lost=...) allows more attempts"


class EnvironmentLost(WorkerLost):
    """The Lambda environment that ran the call died or was killed, or the connection to it broke."""

    remedy = "see the reason and the log lines above; Retry(lost=...) allows more attempts"


class EventDropped(WorkerLost):
    """Lambda accepted an Event invocation and did not run it in time, or it stopped in the middle without a word."""

    remedy = "see the function's log and its on-failure destination; Retry(lost=...) allows more attempts"


class RunMissing(CloudexecError, LookupError):
    """There is no run of this id where it was looked for, or its key is not known here."""

    remedy = "check the id and the bucket; attach on the machine that started the run, or give its key"


class RunBusy(CloudexecError):
    """Another client that seems alive has the run."""

    remedy = "shut that client down or detach it; take_over=True takes the run from it, and its futures fail"


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


# --- AWS -------------------------------------------------------------------------------------


class AwsError(CloudexecError):
    """AWS refused a request. Arguments: what, the service's code, HTTP status, request id."""

    remedy = "look the code up in the documentation of the service; AWS support asks for the request id"

    @property
    def code(self) -> str:
        """The service's own name for what went wrong, such as `QueueDoesNotExist`; empty if it gave none."""
        return str(self.args[1]) if len(self.args) > 1 else ""

    @property
    def status(self) -> int | None:
        """HTTP status of the answer; None if there was no answer."""
        status = self.args[2] if len(self.args) > 2 else None
        return status if isinstance(status, int) else None

    @property
    def request_id(self) -> str:
        """The service's id of the request; empty if it gave none."""
        return str(self.args[3]) if len(self.args) > 3 else ""


class AccessDenied(AwsError):
    """The credentials are not allowed to do this, or AWS does not know them."""

    remedy = "check whose credentials these are (aws sts get-caller-identity), and that their policy allows the request"


class CredentialsMissing(AwsError):
    """No credentials were found; the text names every place that was tried."""

    remedy = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run `aws configure` or `aws sso login`, name a profile "
        "(--profile, AWS_PROFILE), or give the task or instance a role"
    )


class CredentialsExpired(AwsError):
    """The credentials' time is over, and their source has no newer ones."""

    remedy = "log in again (aws sso login), or export fresh temporary credentials"


class Throttled(AwsError):
    """AWS asked to slow down, and went on doing so after all repeats. Arguments: those of AwsError, then the limit that
    was met and the seconds to wait, where AWS names them."""

    remedy = "use fewer workers or runs at once, or ask AWS for a higher quota of the named service"

    @property
    def reason(self) -> str:
        """Which limit it was, such as Lambda's `ConcurrentInvocationLimitExceeded`; empty if AWS did not say."""
        return str(self.args[4]) if len(self.args) > 4 else ""

    @property
    def retry_after_s(self) -> float | None:
        """How long AWS asks to wait; None if it did not say."""
        seconds = self.args[5] if len(self.args) > 5 else None
        return seconds if isinstance(seconds, float) else None


class NoSuchKey(AwsError, LookupError):
    """There is no object under this key."""

    remedy = "check bucket and key; a lifecycle rule or another process may have removed the object"


class PreconditionFailed(AwsError):
    """A conditional request found another state: somebody else wrote the object first."""

    remedy = "read the object again and decide anew"


class ConnectionLost(AwsError):
    """No connection, or it broke before the answer was complete. Arguments: what, whether AWS may have acted."""

    remedy = (
        "check network, endpoint, proxy and security groups; a worker in a private subnet needs NAT or VPC endpoints"
    )

    @property
    def code(self) -> str:
        """Always empty: there was no answer."""
        return ""

    @property
    def ambiguous(self) -> bool:
        """Whether AWS may have carried the request out; False if it certainly never got all of it."""
        return len(self.args) > 1 and self.args[1] is True


# --- us --------------------------------------------------------------------------------------


class WireError(CloudexecError):
    """A message is cut short, of another version, or of the wrong kind."""

    remedy = "client and worker must have the same version of cloudexec; otherwise please report it"


class SignatureError(WireError):
    """A message does not carry the run's signature; nothing of it was unpickled."""

    remedy = "somebody else wrote to the run's channel, or two runs share one; start a new run"
