"""Putting calls back into the work queue: new sealed messages, for other workers. Pure.

Called by: agent.py, when the worker must end, and for messages that may have killed a worker; post.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.mail import to_text
from cloudexec.wire.messages import PackedCall, encode_batch
from cloudexec.worker.agent.books import Held, Work
from cloudexec.worker.agent.reporter import MOST_BYTES

_IN_ONE: Final = 10
_REQUEST_BYTES: Final = 1_000_000


class Parcel(NamedTuple):
    """A message for the work queue; `works` names the old message of each call in it."""

    text: str
    attempts: list[tuple[int, int]]
    works: list[Work]


def parcels(seal: Seal, interrupted: Iterable[Held], waiting: Iterable[Held], *, singly: bool = False) -> list[Parcel]:
    """The calls as new messages, those of one old message together unless `singly`. An attempt that was interrupted
    counts."""
    by_work: dict[str, list[tuple[Work, PackedCall]]] = {}
    for held in interrupted:
        call = held.call._replace(attempt=held.call.attempt + 1)
        by_work.setdefault(held.work.id, []).append((held.work, call))
    for held in waiting:
        by_work.setdefault(held.work.id, []).append((held.work, held.call))
    most = 1 if singly else MOST_BYTES
    return [_parcel(seal, piece) for calls in by_work.values() for piece in _cut(calls, most)]


def requests(items: Iterable[Parcel]) -> list[list[Parcel]]:
    """Parcels by the request that sends them: ten at most, a million characters at most."""
    found: list[list[Parcel]] = []
    size = 0
    for item in items:
        size += len(item.text)
        if not found or len(found[-1]) == _IN_ONE or size > _REQUEST_BYTES:
            found.append([])
            size = len(item.text)
        found[-1].append(item)
    return found


def _cut(calls: list[tuple[Work, PackedCall]], most_bytes: int) -> list[list[tuple[Work, PackedCall]]]:
    pieces: list[list[tuple[Work, PackedCall]]] = []
    size = 0
    for work, call in calls:
        size += len(call.packed) + 64
        if not pieces or size + _function_bytes(pieces[-1], call) > most_bytes:
            pieces.append([])
            size = len(call.packed) + 64
        pieces[-1].append((work, call))
    return pieces


def _function_bytes(piece: list[tuple[Work, PackedCall]], call: PackedCall) -> int:
    functions = {other.function.digest: len(other.function.packed) for _, other in piece}
    functions[call.function.digest] = len(call.function.packed)
    return sum(functions.values())


def _parcel(seal: Seal, piece: list[tuple[Work, PackedCall]]) -> Parcel:
    batch = piece[0][0].batch
    calls = [call for _, call in piece]
    body = encode_batch(calls, batch.python, batch.pickler)
    return Parcel(
        to_text(seal, Kind.BATCH, body),
        [(call.number, call.attempt) for call in calls],
        [work for work, _ in piece],
    )
