"""Carry containers' lines to CloudWatch Logs, which is moto's.

Called by:  tasks.py.   Calls: moto.py.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any, Final

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Refusal

SEND_EVERY_S: Final = 0.05
Stream = tuple[str, str, str]  # region, group, stream


class LogShipper:
    """Lines come in one by one and leave in batches."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # one sender, so that lines keep their order
        self._waiting: defaultdict[Stream, list[dict[str, Any]]] = defaultdict(list)
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="logs", daemon=True).start()

    def open(self, stream: Stream, *, create_group: bool) -> None:
        """Make a stream ready; a Refusal if its group is not there."""
        region, group, name = stream
        if create_group:
            self._create("CreateLogGroup", {"logGroupName": group}, region)
        self._create("CreateLogStream", {"logGroupName": group, "logStreamName": name}, region)

    def _create(self, operation: str, parameters: dict[str, Any], region: str) -> None:
        try:
            self._moto.call("logs", operation, parameters, region=region)
        except Refusal as refusal:
            if refusal.code != "ResourceAlreadyExistsException":
                raise

    def write(self, stream: Stream, line: str) -> None:
        """Take one line."""
        with self._lock:
            self._waiting[stream].append({"timestamp": int(time.time() * 1000), "message": line})
        self._wake.set()

    def flush(self) -> None:
        """Send what has come in; when this returns it can be read."""
        with self._sending:
            with self._lock:
                waiting, self._waiting = self._waiting, defaultdict(list)
            for (region, group, stream), events in waiting.items():
                for first in range(0, len(events), 1000):
                    self._send(region, group, stream, events[first : first + 1000])

    def _send(self, region: str, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        parameters = {"logGroupName": group, "logStreamName": stream, "logEvents": events}
        try:
            self._moto.call("logs", "PutLogEvents", parameters, region=region)
        except Refusal:
            pass  # somebody deleted the group; on AWS the lines are lost, too

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self.flush()
            time.sleep(SEND_EVERY_S)
