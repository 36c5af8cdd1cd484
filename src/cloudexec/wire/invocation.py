"""What a client and a Lambda function say to each other in an invocation's payload and answer.

Called by: backends/awslambda (client) and worker/awslambda (cloud).   Calls: envelope.py.
Layout:    JSON, because Lambda takes nothing else; what is signed stands in it as base64 of a sealed message: a BATCH
           in the payload, a REPORT (see mail.py) in the answer. docs/decisions/0007 lists all forms.
Nothing here is ever unpickled.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cloudexec.errors import SignatureError, WireError
from cloudexec.wire.envelope import KEY_BYTES, Kind, Seal

FORMAT: Final = 1
MOST_PAYLOAD: Final = 6 * 1024 * 1024 - 4096  # of a synchronous invocation, both ways
MOST_SEALED: Final = (MOST_PAYLOAD - 64) // 4 * 3  # in an answer: base64 adds a third
MOST_EVENT: Final = 1024 * 1024 - 4096  # of an Event invocation


class InvocationSettings(NamedTuple):
    """What an environment must know of a run. Environments serve one run at a time, and may see several.

    bucket, owner: empty if the run has no bucket. prefix: of the run's objects, without a slash at its end.
    initializer: base64 of packed parts, or empty; initializer_blob: the name of a blob with them instead.
    margin_s: so long before the function's deadline the worker answers. Times are seconds.
    """

    run_id: str
    region: str
    n_slots: int
    python_version: str
    bucket: str = ""
    owner: str = ""
    prefix: str = ""
    max_tasks_per_child: int = 0
    inline_bytes: int = 262144
    initializer: str = ""
    initializer_blob: str = ""
    margin_s: float = 1.0
    control_after_s: float = 5.0  # a call that runs longer looks at the control object
    control_every_s: float = 5.0
    stale_s: float = 120.0  # the client's heartbeat is older: it is taken for dead
    event_beat_s: float = 15.0  # how often a running event says that it lives
    early_after_s: float = 2.0  # a batch that takes longer tells what it has, and gives back what waits
    log_output: bool = True  # what calls print goes to the function's log, too


class Event(NamedTuple):
    """A payload. Either `batch` (sealed) or `stored` (its name in the store) is given. name: of an Event invocation.
    early: under which name the batch may tell before its end; empty if nobody would look. probe: there is no batch;
    see whether an event could write its claim."""

    key: bytes
    settings: InvocationSettings
    batch: bytes = b""
    stored: str = ""
    name: str = ""
    early: str = ""
    probe: str = ""


class Answer(NamedTuple):
    """What a function returns: one of a sealed report, the name under which it is stored, or why nothing was run."""

    report: bytes = b""
    stored: str = ""
    refused_error: str = ""
    refused_what: str = ""


class EventHead:
    """The part of all payloads of a run that is the same, made once."""

    def __init__(self, key: bytes, settings: InvocationSettings) -> None:
        said = {"cloudexec": FORMAT, "key": key.hex(), "settings": settings._asdict()}
        self._head = json.dumps(said, separators=(",", ":"))[:-1].encode()

    def with_batch(self, sealed: bytes, name: str = "", early: str = "") -> bytes:
        """A payload with the batch in it."""
        text = base64.b64encode(sealed)
        return b"".join((self._head, b',"batch":"', text, b'"', _named(name, early), b"}"))

    def with_stored(self, stored: str, name: str = "", early: str = "") -> bytes:
        """A payload that says where the batch lies."""
        return b"".join((self._head, b',"stored":', json.dumps(stored).encode(), _named(name, early), b"}"))

    def with_probe(self, name: str) -> bytes:
        """A payload without a batch; the claim that is tried bears the name."""
        return b"".join((self._head, b',"probe":', json.dumps(name).encode(), b"}"))


def _named(name: str, early: str) -> bytes:
    said = {key: text for key, text in (("event", name), ("early", early)) if text}
    return b"," + json.dumps(said)[1:-1].encode() if said else b""


def is_ours(event: object) -> bool:
    """Whether an event that a function was given comes from an executor."""
    return isinstance(event, Mapping) and "cloudexec" in event


def decode_event(event: Mapping[str, Any]) -> Event:
    """An event as awslambdaric hands it over. Errors: WireError, which does not quote the key."""
    if event.get("cloudexec") != FORMAT:
        raise WireError(f"an invocation of format {event.get('cloudexec')!r}; this worker reads format {FORMAT}")
    try:
        settings = InvocationSettings(**event["settings"])
        return Event(
            key=_key(event["key"]),
            settings=settings,
            batch=base64.b64decode(event.get("batch", ""), validate=True),
            stored=str(event.get("stored", "")),
            name=str(event.get("event", "")),
            early=str(event.get("early", "")),
            probe=str(event.get("probe", "")),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise WireError(f"an invocation is damaged, or of another version of cloudexec: {error!r}") from None


def _key(text: object) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WireError(f"an invocation's key does not have {2 * KEY_BYTES} hexadecimal digits")
    return key


def encode_answer(answer: Answer) -> dict[str, Any]:
    """What the handler returns; awslambdaric writes it as JSON."""
    if answer.refused_error:
        return {"refused": {"error": answer.refused_error, "what": answer.refused_what}}
    if answer.stored:
        return {"stored": answer.stored}
    return {"report": base64.b64encode(answer.report).decode("ascii")}


_REPORT: Final = b'{"report": "'  # as json.dumps writes it


def decode_answer(payload: bytes | bytearray | memoryview) -> Answer:
    """Errors: WireError."""
    data = bytes(payload)
    try:
        if data.startswith(_REPORT) and data.endswith(b'"}'):  # nearly all; json would copy megabytes twice
            return Answer(report=base64.b64decode(data[len(_REPORT) : -2], validate=True))
        said = json.loads(data)
        if "refused" in said:
            refused = said["refused"]
            return Answer(refused_error=str(refused["error"]), refused_what=str(refused["what"]))
        if "stored" in said:
            return Answer(stored=str(said["stored"]))
        return Answer(report=base64.b64decode(said["report"], validate=True))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        beginning = data[:200].decode("utf-8", "replace")
        raise WireError(f"the function's answer is none of a cloudexec worker: {beginning!r} ({error!r})") from None


def open_report(seal: Seal, sealed: bytes | bytearray | memoryview) -> memoryview:
    """The body of a sealed REPORT. Errors: WireError, SignatureError."""
    kind, body = seal.open(memoryview(sealed))
    if kind is not Kind.REPORT:
        raise SignatureError(f"expected a REPORT message, got {kind.name}")
    return body
