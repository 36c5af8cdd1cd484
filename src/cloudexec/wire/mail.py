"""What clients and cloud workers say to each other through queues and one small object.

Called by: backends/pull (client) and worker/agent (cloud).   Calls: messages.py for outcomes, envelope.py.
Layout:    a queue's message is base64 of a sealed BATCH (to workers) or REPORT (to the client); the control object is
           a sealed CONTROL. A report's body: JSON length u32 | JSON | outcomes, each lane index u16, length u32, body.
Nothing here is ever unpickled.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cloudexec.errors import WireError
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.messages import Outcome, decode_outcome, encode_outcome

SETTINGS_VARIABLE: Final = "CLOUDEXEC_WORKER"  # WorkerSettings, as JSON
KEY_VARIABLE: Final = "CLOUDEXEC_KEY"  # the run's key, in hexadecimal digits
_JSON_SIZE: Final = struct.Struct("<I")
_OUTCOME_HEAD: Final = struct.Struct("<HI")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class WorkerSettings(NamedTuple):
    """What a cloud worker must know; it travels in the environment of its container, so it is kept short.

    queues: URLs. prefix: of the run's objects, without a slash at its end. initializer: the name of a blob that holds
    packed parts, empty for none. blob_prefix: where blobs lie if that is not below `prefix`. Times are seconds.
    """

    run_id: str
    region: str
    work_queue: str
    out_queue: str
    bucket: str
    bucket_owner: str
    prefix: str
    n_slots: int
    python_version: str
    max_tasks_per_child: int = 0
    inline_bytes: int = 131072
    initializer: str = ""
    blob_prefix: str = ""
    calls_run: str = ""  # the run that the calls belong to, if it is another one
    log_output: bool = True  # what calls print goes to the worker's log, too
    visibility_s: float = 60.0  # of work messages; extended while their calls run
    idle_s: float = 120.0  # without work for so long, a worker ends
    lifetime_s: float = 86400.0  # it takes no more work after this time, and ends
    stale_s: float = 600.0  # the client's heartbeat is older: it is taken for dead
    control_every_s: float = 5.0  # how often the control object is read
    tell_after_s: float = 2.0  # a call that has run so long without an outcome is reported as held
    beat_every_s: float = 15.0  # a busy worker reports at least so often
    most_receives: int = 5  # a message taken more often than this kills its workers

    def to_json(self) -> str:
        """For the environment."""
        return json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> WorkerSettings:
        """Errors: WireError."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise WireError(f"{SETTINGS_VARIABLE} is damaged, or of another version of cloudexec: {error}") from None


class LaneStart(NamedTuple):
    """A slot is there. `lane` is its lane's id, unique in the run."""

    lane: str
    slot: int


class LaneStop(NamedTuple):
    """A slot has ended. See control.SlotDown; `unstarted` are calls that it had and never started."""

    lane: str
    exitcode: int
    why: str
    killed_call: int
    running_call: int
    last_words: str
    unstarted: list[int]


class Report(NamedTuple):
    """What a worker tells; it counts its reports from 1, so that twins and stragglers are known.

    held: the calls that each lane holds, the running one first; None when nothing is said of it. receipts: of work
    messages that are not deleted yet, with the calls in them. requeued: [call, attempt] that it has put back into the
    queue itself, for others. dropped: calls that it was told to stop and had not started. leaving: why it ends, in its
    last report; broken: because it cannot work, so that the next one may fare alike. failed_start: the outcome among
    `outcomes` is the initializer's. facts: of the machine, in the first.
    """

    worker: str
    number: int
    up: Sequence[LaneStart] = ()
    down: Sequence[LaneStop] = ()
    outcomes: Sequence[tuple[str, Outcome]] = ()
    held: Mapping[str, Sequence[int]] | None = None
    receipts: Mapping[str, Sequence[int]] = _NOTHING
    requeued: Sequence[tuple[int, int]] = ()
    dropped: Sequence[int] = ()
    leaving: str = ""
    broken: bool = False
    failed_start: bool = False
    facts: Mapping[str, str] = _NOTHING


class Control(NamedTuple):
    """What a client tells all its workers, as often as it changes and as its heartbeat.

    stops: calls to end, running or not. leave: workers that shall end; "*" means all. detached: nobody is there, by
    intention. n_workers: the fleet's size, so that workers know how often they may ask.
    """

    number: int
    client: str
    stops: Sequence[int] = ()
    leave: Sequence[str] = ()
    detached: bool = False
    n_workers: int = 1


def encode_report(report: Report) -> bytes:
    """The body of a REPORT message."""
    lanes: dict[str, int] = {}
    pieces: list[bytes] = []
    for lane, outcome in report.outcomes:
        body = encode_outcome(outcome)
        pieces += (_OUTCOME_HEAD.pack(lanes.setdefault(lane, len(lanes)), len(body)), body)
    said = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in report._asdict().items()
        if name != "outcomes" and value is not None and (value or name == "held")
    }
    text = json.dumps({**said, "lanes": list(lanes)}, separators=(",", ":")).encode()
    return b"".join((_JSON_SIZE.pack(len(text)), text, *pieces))


def decode_report(body: memoryview) -> Report:
    """The report in a REPORT message; values of outcomes are views into `body`. Errors: WireError."""
    try:
        (size,) = _JSON_SIZE.unpack_from(body)
        at = _JSON_SIZE.size + size
        said: dict[str, Any] = json.loads(bytes(body[_JSON_SIZE.size : at]))
        lanes = said.pop("lanes")
        said["up"] = [LaneStart(*fields) for fields in said.get("up", [])]
        said["down"] = [LaneStop(*fields) for fields in said.get("down", [])]
        said["requeued"] = [(int(number), int(attempt)) for number, attempt in said.get("requeued", [])]
        said["outcomes"] = _read_outcomes(body, at, lanes)
        return Report(**said)
    except (struct.error, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise WireError(f"a report of {len(body)} bytes is damaged: {error!r}") from None


def _read_outcomes(body: memoryview, at: int, lanes: Sequence[str]) -> list[tuple[str, Outcome]]:
    outcomes = []
    while at < len(body):
        lane, length = _OUTCOME_HEAD.unpack_from(body, at)
        at += _OUTCOME_HEAD.size
        if at + length > len(body):
            raise ValueError("it ends in the middle")
        outcomes.append((lanes[lane], decode_outcome(body[at : at + length])))
        at += length
    return outcomes


def encode_control(control: Control) -> bytes:
    """The body of a CONTROL message."""
    return json.dumps(control._asdict()).encode()


def decode_control(body: memoryview) -> Control:
    """Errors: WireError."""
    try:
        return Control(**json.loads(bytes(body)))
    except (ValueError, TypeError) as error:
        raise WireError(f"a control message of {len(body)} bytes is damaged: {error!r}") from None


def to_text(seal: Seal, kind: Kind, body: bytes) -> str:
    """A sealed message as a queue carries it."""
    return base64.b64encode(seal.close(kind, body)).decode("ascii")


def from_text(seal: Seal, kind: Kind, text: str) -> memoryview:
    """The body of a queue's message. Errors: WireError (not of this kind), SignatureError."""
    try:
        message = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"a queue's message of {len(text)} characters is not base64") from None
    found, body = seal.open(message)
    if found is not kind:
        raise WireError(f"expected a {kind.name} message in the queue, got {found.name}")
    return body
