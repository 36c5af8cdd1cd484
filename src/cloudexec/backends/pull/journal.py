"""What must outlive the client: calls submitted and placed, their ends, and the reports that were heard.

Called by: backend.py, which writes an entry once a second and deletes the reports in it from their queue afterwards;
           attaching.py, which reads all entries.   Calls: wire for the encodings.
Layout:    JSON length u32 | JSON | batches and reports, each length u32 and body. An entry is sealed as JOURNAL.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cloudexec.backends.protocol import OutboundCall
from cloudexec.errors import WireError
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import CallOptions, Cause, Retry
from cloudexec.wire.mail import Report, decode_report
from cloudexec.wire.messages import PackedCall, decode_batch, encode_batch

_SIZE: Final = struct.Struct("<I")
_MOST_IN_A_BATCH: Final = 10_000


class Journal:
    """What is to be written next. See protocol.Chronicle; lives on the engine's thread."""

    def __init__(self) -> None:
        self._calls: list[OutboundCall] = []
        self._placed: list[tuple[int, int]] = []
        self._cancelled: list[int] = []
        self._failed: list[tuple[int, LaneEnd]] = []
        self._reports: list[bytes | memoryview] = []
        self._receipts: list[str] = []

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._calls or self._placed or self._cancelled or self._failed or self._reports)

    def submitted(self, calls: list[OutboundCall]) -> None:
        """See Chronicle."""
        self._calls += calls

    def cancelled(self, number: int) -> None:
        """See Chronicle."""
        self._cancelled.append(number)

    def failed(self, number: int, end: LaneEnd) -> None:
        """See Chronicle."""
        self._failed.append((number, end))

    def placed(self, attempts: Iterable[tuple[int, int]]) -> None:
        """These attempts, each (number, attempt), lie in the queue now."""
        self._placed += attempts

    def heard(self, report: bytes | memoryview, receipt: str) -> None:
        """A report's body, and the receipt that deletes it from its queue."""
        self._reports.append(report)
        self._receipts.append(receipt)

    def take(self) -> tuple[bytes, list[str]]:
        """The body of the next entry, and the receipts that may be used once it is written."""
        pieces: list[bytes | memoryview] = []
        options: dict[tuple[Any, ...], tuple[int, CallOptions]] = {}
        batches = []
        for start in range(0, len(self._calls), _MOST_IN_A_BATCH):
            calls = self._calls[start : start + _MOST_IN_A_BATCH]
            batches.append([_index(options, call.options) for call in calls])
            body = encode_batch([call.for_wire() for call in calls])
            pieces += (_SIZE.pack(len(body)), body)
        for report in self._reports:
            pieces += (_SIZE.pack(len(report)), report)
        text = json.dumps(
            {
                "options": [_options_said(each) for _, each in options.values()],
                "batches": batches,
                "placed": self._placed,
                "cancelled": self._cancelled,
                "failed": [(number, _end_said(end)) for number, end in self._failed],
                "n_reports": len(self._reports),
            },
            separators=(",", ":"),
        ).encode()
        receipts = self._receipts
        self.__init__()  # type: ignore[misc]  # begins anew, as empty as it was made
        return b"".join((_SIZE.pack(len(text)), text, *pieces)), receipts


@dataclass
class Restored:
    """What the entries of a journal say together; later entries overrule earlier ones."""

    calls: dict[int, tuple[PackedCall, CallOptions]] = field(default_factory=dict)
    placed: dict[int, int] = field(default_factory=dict)  # the latest attempt of each
    cancelled: set[int] = field(default_factory=set)
    failed: dict[int, LaneEnd] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    pickler: dict[int, str] = field(default_factory=dict)

    def add(self, body: memoryview) -> None:
        """One more entry, in the order of their numbers. Errors: WireError."""
        try:
            self._add(body)
        except (struct.error, ValueError, KeyError, IndexError, TypeError) as error:
            raise WireError(f"a journal entry of {len(body)} bytes is damaged: {error!r}") from None

    def _add(self, body: memoryview) -> None:
        (size,) = _SIZE.unpack_from(body)
        at = _SIZE.size + size
        said: dict[str, Any] = json.loads(bytes(body[_SIZE.size : at]))
        options = [_options_read(each) for each in said["options"]]
        for which in said["batches"]:
            piece, at = _next_piece(body, at)
            batch = decode_batch(piece)
            for call, index in zip(batch.calls, which, strict=True):
                self.calls[call.number] = (call, options[index])
                self.pickler[call.number] = batch.pickler
        for number, attempt in said["placed"]:
            self.placed[number] = max(attempt, self.placed.get(number, 0))
        self.cancelled.update(said["cancelled"])
        self.failed.update((number, _end_read(end)) for number, end in said["failed"])
        for _ in range(said["n_reports"]):
            piece, at = _next_piece(body, at)
            self.reports.append(decode_report(piece))


def _next_piece(body: memoryview, at: int) -> tuple[memoryview, int]:
    (size,) = _SIZE.unpack_from(body, at)
    at += _SIZE.size
    if at + size > len(body):
        raise ValueError("it ends in the middle")
    return body[at : at + size], at + size


def _index(known: dict[tuple[Any, ...], tuple[int, CallOptions]], options: CallOptions) -> int:
    return known.setdefault(_key(options), (len(known), options))[0]


def _key(options: CallOptions) -> tuple[Any, ...]:
    """Equal for options that say the same."""
    env = None if options.env is None else tuple(sorted(options.env.items()))
    return options.timeout_s, options.retry, env, options.name, options.batch


def _options_said(options: CallOptions) -> dict[str, Any]:
    retry = options.retry
    budget = {cause.value: getattr(retry, cause.value) for cause in Cause}
    return {
        "timeout_s": options.timeout_s,
        "retry": {**budget, "backoff_s": retry.backoff_s},
        "env": options.env,
        "name": options.name,
        "batch": options.batch,
    }


def _options_read(said: dict[str, Any]) -> CallOptions:
    return CallOptions(**{**said, "retry": Retry(**said["retry"])})


def _end_said(end: LaneEnd) -> list[Any]:
    return [end.cause.value, *end[1:]]


def _end_read(said: list[Any]) -> LaneEnd:
    cause, *rest = said
    return LaneEnd(Cause(cause), *rest)
