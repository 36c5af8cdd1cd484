"""Why a task stopped, or never started: from the service's words to a cause and a remedy; no I/O happens here.

Called by: fleet.py, replies.py's readers of tasks.   Calls: replies.py, for the task's state.
Source:    ECS developer guide, "Stopped tasks error codes" and "Spot interruption". Texts vary in case and change
over the years: they are matched by how they begin, and the raw text is always kept.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloudexec.backends.ecs.replies import TaskState
from cloudexec.backends.ecs.requests import OUR_STOP
from cloudexec.errors import CloudexecError, ConnectionLost, Throttled
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import Cause

_KILLED: Final = 128 + signal.SIGKILL


class StopKind(Enum):
    """Classes of stops and of starts that failed; each has its own remedy."""

    CAPACITY = "no capacity"
    PULL = "image not pulled"
    INIT = "not initialized"
    OOM = "out of memory"
    SPOT = "spot interruption"
    STOPPED_BY_US = "stopped by this run"
    STOPPED_BY_SOMEBODY = "stopped by somebody"
    EXITED = "exited"
    HOST = "host lost"
    REFUSED = "refused"
    VANISHED = "not known any more"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStop:
    """What a stop means. `text` has the service's own words, reasons of containers included.

    is_permanent: the next task will fare alike, until somebody mends something.
    """

    kind: StopKind
    text: str
    remedy: str
    exit_code: int | None = None
    is_permanent: bool = False

    @property
    def retry_elsewhere(self) -> bool:
        """Whether other capacity, another zone or the other provider, may help at once."""
        return self.kind in (StopKind.CAPACITY, StopKind.SPOT, StopKind.HOST)

    @property
    def error(self) -> str:
        """The name of what to raise if no worker starts for this reason."""
        names = {StopKind.CAPACITY: "CapacityUnavailable", StopKind.PULL: "ImagePullFailed"}
        return names.get(self.kind, "WorkerStartFailed")

    @property
    def may_pass(self) -> bool:
        """Whether the same start may succeed later, though nobody mends anything."""
        passing = (StopKind.UNKNOWN, StopKind.PULL, StopKind.INIT)
        return self.retry_elsewhere or (self.kind in passing and not self.is_permanent)

    def as_end(self, worker: str) -> LaneEnd:
        """What the ledger is told of a worker's calls."""
        detail = f"worker {worker}: {self.text}"
        if self.kind is StopKind.OOM:
            return LaneEnd(Cause.OOM, detail, self.exit_code, remedy=self.remedy)
        return LaneEnd(Cause.LOST, detail, self.exit_code, error="TaskStopped", remedy=self.remedy)

    def as_failed_start(self) -> LaneEnd:
        """What the ledger is told of a worker that never was."""
        return LaneEnd(Cause.LOST, self.text, self.exit_code, error=self.error, remedy=self.remedy)


# --- texts -----------------------------------------------------------------------------------

# What begins a reason, in lower case: its class, and whether the next task will fare alike.
_REASONS: Final = (
    ("outofmemory", StopKind.OOM, False),
    ("capacity is unavailable", StopKind.CAPACITY, False),
    ("resource:", StopKind.CAPACITY, False),
    ("insufficient", StopKind.CAPACITY, False),
    ("no container instance", StopKind.CAPACITY, False),
    ("cannotpullcontainer", StopKind.PULL, True),
    ("cannotpullecrcontainer", StopKind.PULL, True),
    ("cannotpullimagemanifest", StopKind.PULL, True),
    ("resourceinitializationerror", StopKind.INIT, True),
    ("resourcenotfoundexception", StopKind.INIT, True),
    ("cannotstartcontainer", StopKind.INIT, True),
    ("cannotcreatecontainer", StopKind.INIT, True),
    ("cannotcreatevolume", StopKind.INIT, True),
    ("containerruntimeerror", StopKind.INIT, True),
    ("containerruntimetimeout", StopKind.HOST, False),
    ("cannotinspectcontainer", StopKind.HOST, False),
    ("internalerror", StopKind.HOST, False),
    ("timeout waiting for network interface", StopKind.HOST, False),
    ("spotinterruption", StopKind.SPOT, False),
    ("your spot task was interrupted", StopKind.SPOT, False),
)
# What says, anywhere in the text, that a pull or an initialization may go better the next time.
_PASSING: Final = ("429", "toomanyrequests", "too many requests", "throttl", "rate exceeded", "500 ", "502 ", "503 ")
_REMEDIES: Final = {
    StopKind.CAPACITY: "give subnets in more zones, another size, or spot=True with fallback='on_demand'; or wait",
    StopKind.INIT: (
        "look at the execution role (ECR, logs, secrets), the log group, the way from the subnet to these services, "
        "and the image's command"
    ),
    StopKind.OOM: (
        "give containers more memory_mib or fewer slots, or name larger sizes in which such a call is tried again: "
        "oom_sizes="
    ),
    StopKind.SPOT: "nothing is wrong: Spot capacity comes and goes; on_demand_base= keeps some workers that stay",
    StopKind.STOPPED_BY_US: "nothing is wrong: this run asked for it",
    StopKind.STOPPED_BY_SOMEBODY: "find out who stops tasks in this cluster",
    StopKind.REFUSED: "correct the setting that the service names",
    StopKind.HOST: "nothing to do: the machine below it was lost; Retry(lost=...) allows more attempts",
    StopKind.VANISHED: "look for it in the console: ECS forgets stopped tasks after an hour",
    StopKind.UNKNOWN: "read the service's words above",
}
_QUOTA: Final = ("reached the limit", "provisioning", "quota", "limit exceeded")
_QUOTA_REMEDY: Final = (
    "ask Service Quotas for more Fargate vCPUs (On-Demand L-3032A538, Spot L-36FBB829; new accounts have 6), or use "
    "fewer workers"
)
_PULL_REMEDIES: Final = (
    (("not found", "manifest unknown", "does not exist", "notfound"), "no such image: correct its name and tag"),
    (
        ("no matching manifest", "platform", "exec format"),
        "the image is for another processor: set arch= to the image's, or build it for this one",
    ),
    (
        ("denied", "unauthorized", "403", "credentials", "not authorized"),
        "the execution role may not pull it: allow ecr:GetAuthorizationToken, ecr:BatchGetImage, "
        "ecr:GetDownloadUrlForLayer and ecr:BatchCheckLayerAvailability",
    ),
    (("429", "toomanyrequests", "rate limit"), "the registry limits pulls: use a copy of the image in ECR"),
    (
        ("timeout", "timed out", "no route", "dial tcp", "connection refused", "no such host"),
        "no way from the subnet to the registry: set assign_public_ip=True in a public subnet, or give it a NAT "
        "gateway or endpoints",
    ),
)
_ANY_PULL: Final = "check the image's name, the execution role's rights, and the subnet's way to the registry"


def stop_of(task: TaskState) -> WorkerStop:
    """What a stopped task's state means."""
    kind, is_permanent = _kind_of(task)
    return _stop(kind, _text_of(task), task.exit_code, is_permanent)


def stop_for_reason(reason: str, detail: str = "") -> WorkerStop:
    """What an entry of RunTask's `failures` means."""
    kind, is_permanent = _kind_of_text(reason) or (StopKind.UNKNOWN, False)
    if reason.casefold() in ("agent", "attribute", "inactive", "missing"):
        kind, is_permanent = (StopKind.CAPACITY, False) if reason.casefold() == "agent" else (StopKind.UNKNOWN, True)
    return _stop(kind, f"{reason} ({detail})" if detail else reason or "no reason was given", None, is_permanent)


def stop_for_error(error: CloudexecError) -> WorkerStop:
    """What a refusal of RunTask means. What the account's quota forbids now, it may allow later."""
    text = error.what.casefold()
    if any(sign in text for sign in _QUOTA):
        return WorkerStop(kind=StopKind.CAPACITY, text=error.what, remedy=_QUOTA_REMEDY)
    if isinstance(error, (Throttled, ConnectionLost)):
        kind, is_permanent = StopKind.UNKNOWN, False
    else:
        kind, is_permanent = _kind_of_text(error.what) or (StopKind.REFUSED, True)
    return WorkerStop(kind=kind, text=error.what, remedy=error.remedy, is_permanent=is_permanent)


def late_start(task: TaskState | None, within_s: float) -> WorkerStop:
    """No report has come in time."""
    if task is None:
        return _stop(StopKind.UNKNOWN, f"no task was there within {within_s:g} s", None, False)
    said = "; ".join(task.reasons) or f"it is {task.last_status}"
    text = f"task {task.arn} did not report within {within_s:g} s: {said}"
    if task.last_status == "RUNNING":
        remedy = "its container runs: check its log, and the subnet's way to SQS and S3 (public IP, NAT or endpoints)"
        return WorkerStop(kind=StopKind.INIT, text=text, remedy=remedy)
    remedy = "look at the task in the console: capacity, network interfaces, the size of the image"
    return WorkerStop(kind=StopKind.UNKNOWN, text=text, remedy=remedy)


def vanished(arn: str) -> WorkerStop:
    """ECS does not know the task any more."""
    return _stop(StopKind.VANISHED, f"task {arn} is not known to ECS any more", None, False)


def unstopped(arn: str) -> WorkerStop:
    """It was told to stop, and is not seen to."""
    return _stop(StopKind.UNKNOWN, f"task {arn} was told to stop, and is not seen to end", None, False)


def remedy_in(words: str) -> str:
    """What a worker's last words ask for; "" if nothing is known of them."""
    if "No module named cloudexec" in words or "No module named 'cloudexec'" in words:
        return "the image has Python, and no cloudexec in it: add `pip install cloudexec` of the client's version to it"
    return ""


def _stop(kind: StopKind, text: str, exit_code: int | None, is_permanent: bool) -> WorkerStop:
    remedy = _remedy(kind, text.casefold(), exit_code)
    return WorkerStop(kind=kind, text=text, remedy=remedy, exit_code=exit_code, is_permanent=is_permanent)


def _kind_of(task: TaskState) -> tuple[StopKind, bool]:
    by_text = next(filter(None, map(_kind_of_text, task.reasons)), None)
    if by_text is not None and by_text[0] is StopKind.OOM:
        if task.exit_code in (None, _KILLED):
            return by_text
        # Memory had killed one of its slots, some time before; the service says so of every container to whose
        # processes that ever happened. The end of the worker has another reason.
        by_text = None
    if task.stop_code == "SpotInterruption":
        # The same code stands for "was taken away" and for "was not to be had".
        return (StopKind.SPOT if task.started_s is not None else StopKind.CAPACITY), False
    if task.stop_code in ("TerminationNotice", "InfrastructureHealth"):
        return StopKind.HOST, False
    if task.stop_code in ("UserInitiated", "ServiceSchedulerInitiated"):
        is_ours = task.stopped_reason.startswith(OUR_STOP)
        return (StopKind.STOPPED_BY_US if is_ours else StopKind.STOPPED_BY_SOMEBODY), False
    if by_text is not None:
        return by_text
    if task.exit_code is not None:
        return StopKind.EXITED, False
    return (StopKind.INIT if task.stop_code == "TaskFailedToStart" else StopKind.UNKNOWN), False


def _kind_of_text(reason: str) -> tuple[StopKind, bool] | None:
    text = reason.strip().casefold()
    for beginning, kind, is_permanent in _REASONS:
        if text.startswith(beginning):
            return kind, is_permanent and not any(passing in text for passing in _PASSING)
    return None


def _text_of(task: TaskState) -> str:
    said = [task.stop_code or "stopped", *dict.fromkeys(task.reasons)]
    if task.exit_code is not None:
        said.append(f"exit code {task.exit_code}")
    where = ", ".join(filter(None, (task.provider, task.zone)))
    return f"task {task.arn}{f' ({where})' if where else ''}: {'; '.join(said)}"


def _remedy(kind: StopKind, text: str, exit_code: int | None) -> str:
    if kind is StopKind.EXITED:
        return _exit_remedy(exit_code)
    if kind is StopKind.PULL:
        return next((remedy for signs, remedy in _PULL_REMEDIES if any(sign in text for sign in signs)), _ANY_PULL)
    return _REMEDIES[kind]


def _exit_remedy(exit_code: int | None) -> str:
    if exit_code == _KILLED:
        return "it was killed, most often for memory: give it more memory_mib, or fewer slots"
    if exit_code in (126, 127):
        return "the image has no `python` that can be started: put Python and cloudexec into it"
    return "read the worker's log"
