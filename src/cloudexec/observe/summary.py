"""What is known of a run, as one JSON object in the bucket: `PREFIX/summaries/RUN.json`. Pure.

Called by: recorder.py (writes), infra/runs (reads).   Calls: nothing.
Trust:     the object is not signed, and holds no secret but what calls put into the messages of their errors. It is
           read strictly, shown to people, and decides nothing.
Size:      a few KB; 100 failures and 5,000 workers are the most that it names, the rest is counted.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from cloudexec.errors import WireError

FORMAT: Final = 1
FOLDER: Final = "summaries"
OVER: Final = ("done", "failed", "stopped")  # states after which nothing more is written
STATES: Final = ("running", "detached", *OVER)
BACKENDS: Final = ("ecs", "lambda")
MOST_FAILURES: Final = 100
MOST_WORKERS: Final = 5000
MOST_BYTES: Final = 8 << 20  # a reader takes no more: whoever wrote it may be anybody who can write to the bucket
DURATION_BOUNDS_S: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)  # one more count stands above the last
T = TypeVar("T")


def summary_key(prefix: str, run_id: str) -> str:
    """Where a run's summary lies. prefix: of all runs, as executors know it."""
    return f"{summaries_prefix(prefix)}{run_id}.json"


def summaries_prefix(prefix: str) -> str:
    """Where all summaries lie, with a slash at the end."""
    return f"{prefix.strip('/')}/{FOLDER}/".lstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who runs it. process: HOST/PID/START, by which its death can be told on its own machine. arn: empty if nobody
    had asked for it anyway."""

    host: str = ""
    user: str = ""
    pid: int = 0
    process: str = ""
    arn: str = ""
    python: str = ""
    cloudexec: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where calls run: what of it applies. capacity: what workers ask for, `on-demand`, `spot` or `own`."""

    region: str = ""
    bucket: str = ""
    prefix: str = ""
    cluster: str = ""
    task_definition: str = ""
    image: str = ""
    functions: tuple[str, ...] = ()
    qualifier: str = ""
    capacity: str = ""
    spot: bool = False
    arch: str = ""
    vcpu: float = 0.0
    memory_mib: int = 0
    slots: int = 1
    log_group: str = ""
    log_stream_prefix: str = ""
    public_ip: bool = False
    logs_output: bool = False  # whether what calls print goes to the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many calls are where; each call is counted once. retries: attempts after the first, by cause."""

    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Calls so far."""
        return self.pending + self.running + self.done + self.failed + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Over all attempts whose outcome the client has seen. run_s: wall-clock seconds in slots."""

    run_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long calls took. counts: for each bound those that took no longer (and longer than the bound before), then
    those above the last."""

    bounds_s: tuple[float, ...] = DURATION_BOUNDS_S
    counts: tuple[int, ...] = (0,) * (len(DURATION_BOUNDS_S) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One call that failed. message: the first line. worker: empty if no worker has told of it."""

    call: int
    name: str = ""
    type: str
    message: str
    worker: str = ""
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One task. capacity: what it runs on, as far as is known. run: that of larger workers, if it belongs to one.
    started_s, stopped_s: seconds since 1970, ECS's own times where they were seen; None: not yet, or not seen."""

    id: str
    capacity: str = ""
    vcpu: float = 0.0
    memory_mib: int = 0
    started_s: float | None = None
    stopped_s: float | None = None
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocations:
    """Of a Lambda function. billed_s: the time between invocation and answer as the client measured it, rounded up to
    milliseconds (the way there and back is in it); for events the time from first begin to last end of their calls."""

    n: int = 0
    throttled: int = 0
    billed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run. Times are seconds since 1970. n_workers, n_failures count also those that are not named. larger_runs:
    runs of larger workers in which calls were tried again. writer: who wrote it last."""

    run_id: str
    name: str = ""
    backend: str
    state: str = "running"
    reason: str = ""
    client: Client = Client()
    where: Where = Where()
    max_workers: int = 0
    begun_s: float
    updated_s: float
    ended_s: float | None = None
    counts: Counts = Counts()
    sums: Sums = Sums()
    durations: Durations = Durations()
    failures: tuple[Failure, ...] = ()
    n_failures: int = 0
    workers: tuple[Worker, ...] = ()
    n_workers: int = 0
    larger_runs: tuple[str, ...] = ()
    invocations: Invocations = Invocations()
    writer: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state is {self.state!r}, and must be one of {', '.join(STATES)}")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is {self.backend!r}, and must be one of {', '.join(BACKENDS)}")
        if len(self.failures) > MOST_FAILURES or len(self.workers) > MOST_WORKERS:
            raise ValueError(f"{len(self.failures)} failures and {len(self.workers)} workers are more than one names")
        if len(self.durations.counts) != len(self.durations.bounds_s) + 1:
            raise ValueError("durations have another number of counts than bounds")

    @property
    def is_over(self) -> bool:
        """Whether the client has said that the run has ended."""
        return self.state in OVER

    def to_json(self) -> bytes:
        """What lies in the bucket."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes | bytearray | memoryview, run_id: str = "") -> RunSummary:
        """Errors: WireError if it is damaged, of another version, or of another run than `run_id`."""
        what = f"the summary of run {run_id}" if run_id else "a run's summary"
        if len(text) > MOST_BYTES:
            raise WireError(f"{what} has {len(text):,} bytes, more than any that cloudexec writes")
        try:
            said = json.loads(bytes(text), parse_constant=_no_constant)
            if not isinstance(said, dict):
                raise ValueError("it is not an object")
            if said.pop("format", None) != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            found = _read_object(cls, said, "summary")
        except (ValueError, TypeError, RecursionError) as error:
            raise WireError(f"{what} is damaged, or of another version of cloudexec: {error}") from None
        if run_id and found.run_id != run_id:
            raise WireError(f"{what} tells of run {found.run_id!r}")
        return found


# --- reading, strictly ------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` of JSON as this type, and nothing that only looks like it. Errors: ValueError."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _read_object(kind, value, where)
    if origin is tuple:
        return tuple(_read(of[0], one, where) for one in _a(list, value, where))
    if origin is Mapping:
        return {_a(str, name, where): _read(of[1], one, where) for name, one in _a(dict, value, where).items()}
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _read(of[0], value, where)
    if kind in (int, float):
        return _number(kind, value, where)
    return _a(kind, value, where)


@cache  # a summary may name thousands of workers
def _members(kind: type) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The types of a dataclass's members, and which of them must be there."""
    needed = frozenset(
        one.name
        for one in dataclasses.fields(kind)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    )
    return typing.get_type_hints(kind), needed


def _read_object(kind: type[T], value: Any, where: str) -> T:
    said, (hints, needed) = _a(dict, value, where), _members(kind)  # type: ignore[arg-type]  # a class is hashable
    if unknown := sorted(said.keys() - hints.keys()):
        raise ValueError(f"{where} has {', '.join(map(repr, unknown))}, which nobody knows")
    if missing := sorted(needed - said.keys()):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return kind(**{name: _read(hints[name], one, f"{where}.{name}") for name, one in said.items()})


def _number(kind: type[T], value: Any, where: str) -> T:
    is_one = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if not is_one or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where} is {_shown(value)}, and must be a number from 0 on")
    return kind(value)  # type: ignore[call-arg]  # it is int or float


def _a(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{where} is {_shown(value)}, and must be of type {kind.__name__}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
