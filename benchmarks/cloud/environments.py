"""What an environment of a function does with a synchronous event: nothing, for as long as it is told to.

Called by: functions.py.   Calls: cloudexec's wire, for every byte of batches and reports.
As in fleet.py a call takes as many seconds as its first argument says, and its result is the time of its end; so does
the plain `{"sleep": SECONDS}` of a function that somebody has written by hand. Each call of a batch is an outcome of
the report; `n_slots` calls run at a time. The argument is unpickled to be read, which is safe here: it comes from the
benchmark itself, over loopback, sealed.
Left out:  batches and answers in the store, initializers, crashes, time limits.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from heapq import heapify, heapreplace
from typing import Any, Final, NamedTuple

from cloud.fleet import seconds_of
from cloudexec.wire.envelope import Kind, Seal
from cloudexec.wire.invocation import Answer, decode_event, encode_answer, is_ours
from cloudexec.wire.mail import Report, encode_report
from cloudexec.wire.messages import Outcome, PackedCall, Verdict, decode_batch
from cloudexec.wire.parts import pack_parts

_PEAK_RSS: Final = 30 << 20
_FACTS: Final = {"python": "{}.{}.{}".format(*sys.version_info[:3]), "memory_mb": "1769"}


class Misfit(Exception):
    """An event that is none of those that are simulated here."""


class Planned(NamedTuple):
    """When a call will run, in seconds after the batch has begun, and in which slot."""

    call: PackedCall
    slot: int
    start_s: float
    end_s: float


class Environment:
    """One environment. It is given one event at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_reports = 0

    def begin(self, event: dict[str, Any]) -> tuple[float, Callable[[], bytes]]:
        """How many seconds the event takes, and what gives the answer when they are over."""
        if is_ours(event):
            return self._begin_batch(event)
        if "sleep" not in event:
            raise Misfit("a synchronous event is a batch of cloudexec's, or has `sleep`")
        return float(event["sleep"]), _now

    def _begin_batch(self, event: dict[str, Any]) -> tuple[float, Callable[[], bytes]]:
        asked = decode_event(event)
        if asked.stored or asked.name:
            raise Misfit("batches in the store, and Event invocations of ours, are not simulated")
        seal = _seal(asked.key)
        kind, body = seal.open(asked.batch)
        if kind is not Kind.BATCH:
            raise Misfit(f"a {kind.name} where a batch should be")
        plan = planned(decode_batch(body).calls, asked.settings.n_slots)
        return max((item.end_s for item in plan), default=0.0), partial(self._report, seal, plan, time.time())

    def _report(self, seal: Seal, plan: list[Planned], began_s: float) -> bytes:
        self._n_reports += 1
        outcomes = [(f"{self._name}.{item.slot}", outcome_of(item, began_s)) for item in plan]
        facts = _FACTS if self._n_reports == 1 else {}
        body = encode_report(Report(self._name, self._n_reports, outcomes=outcomes, facts=facts))
        return json.dumps(encode_answer(Answer(report=seal.close(Kind.REPORT, body)))).encode()


def planned(calls: list[PackedCall], n_slots: int) -> list[Planned]:
    """Each call in the slot that is free first, in the order in which they end."""
    slots = [(0.0, number) for number in range(max(1, n_slots))]
    heapify(slots)
    plan = []
    for call in calls:
        start_s, number = slots[0]
        end_s = start_s + seconds_of(call)
        heapreplace(slots, (end_s, number))
        plan.append(Planned(call, number, start_s, end_s))
    return sorted(plan, key=lambda item: item.end_s)


def outcome_of(item: Planned, began_s: float) -> Outcome:
    """What a worker would have told of it."""
    start_s, end_s = began_s + item.start_s, began_s + item.end_s
    value = pack_parts((pickle.dumps(end_s, 5),))
    return Outcome(item.call.number, item.call.attempt, Verdict.RETURNED, start_s, end_s, 0.0, _PEAK_RSS, value)


def _now() -> bytes:
    return json.dumps({"end": time.time()}).encode()


@lru_cache(maxsize=8)  # of few runs, because there is one client at a time
def _seal(key: bytes) -> Seal:
    return Seal(key)
