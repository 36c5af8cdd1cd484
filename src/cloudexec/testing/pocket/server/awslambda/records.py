"""What environments have written and done: log lines on their way to CloudWatch Logs, counts of executions.

Called by:  environment.py and pool.py, which write; plane.py before anybody reads logs; the Python face.
Calls:      moto.py.
Reason:     a PutLogEvents costs milliseconds of moto, and hardly any test reads these logs: lines wait here until a
            request to CloudWatch Logs comes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict, deque
from typing import Any, Final

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Refusal

MOST_LINES: Final = 100_000  # that wait in one stream; older ones are lost
Stream = tuple[str, str, str]  # region, group, stream


class LogBook:
    """Lines that wait until somebody wants to read them."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: defaultdict[Stream, deque[tuple[float, str]]] = defaultdict(lambda: deque(maxlen=MOST_LINES))

    def write(self, stream: Stream, line: str) -> None:
        """Take one line."""
        with self._lock:
            self._waiting[stream].append((time.time(), line))

    def flush(self) -> None:
        """Hand everything to CloudWatch Logs; when this returns it can be read."""
        with self._flushing:
            with self._lock:
                waiting = dict(self._waiting)
                self._waiting.clear()
            for (region, group, stream), lines in waiting.items():
                self._create("CreateLogGroup", {"logGroupName": group}, region)
                self._create("CreateLogStream", {"logGroupName": group, "logStreamName": stream}, region)
                events = [{"timestamp": int(at_s * 1000), "message": f"{line}\n"} for at_s, line in lines]
                for first in range(0, len(events), 1000):
                    some = events[first : first + 1000]
                    parameters = {"logGroupName": group, "logStreamName": stream, "logEvents": some}
                    with contextlib.suppress(Refusal):  # somebody deletes the group meanwhile
                        self._moto.call("logs", "PutLogEvents", parameters, region=region)

    def _create(self, operation: str, parameters: dict[str, Any], region: str) -> None:
        with contextlib.suppress(Refusal):  # it is there already
            self._moto.call("logs", operation, parameters, region=region)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._waiting.clear()


class Tally:
    """How often what was executed, by function."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._executed: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def count(self, function: str, what: str) -> None:
        """One more: cold_starts, throttles, errors, events, dropped_events."""
        with self._lock:
            self._counts[function][what] += 1

    def executed(self, function: str, request_id: str) -> None:
        """A function was handed an invocation; the attempts at an event share its id."""
        with self._lock:
            self._executed[function][request_id] += 1

    def told(self) -> dict[str, Any]:
        """Everything, by function."""
        with self._lock:
            names = {*self._counts, *self._executed}
            return {
                name: {"counts": dict(self._counts[name]), "executed": dict(self._executed[name])} for name in names
            }

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self._counts.clear()
            self._executed.clear()
