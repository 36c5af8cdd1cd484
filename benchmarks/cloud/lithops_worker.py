"""What a Lithops worker does with an event: read function and data, write `.init` and status, call by call.

Called by: functions.py, for each event of Lithops' client.   Calls: s3.py for what the worker reads and writes.
It makes the requests of a Lithops 3.8 worker, one after another, and writes the objects that its client reads. As in
fleet.py a call takes as many seconds as its argument says, and its result is the time of its end.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import time
from collections.abc import Callable
from typing import Any, Final

from cloud.backstage import Backstage
from cloud.s3 import S3, Bucket

_KEYS: Final = "lithops.jobs"


class LithopsWorker:
    """One invocation: its calls, one after another."""

    def __init__(self, backstage: Backstage, s3: S3, payload: dict[str, Any], over: Callable[[], None]) -> None:
        self._backstage = backstage
        self._payload = payload
        self._over = over
        config = payload["config"]
        self._bucket: Bucket = s3.buckets[config[config["lithops"]["storage"]]["storage_bucket"]]
        self._activation = os.urandom(6).hex()
        self._started_s = 0.0
        self._data: list[bytes] = []
        self._next = 0

    def run(self) -> None:
        """Fetch the function."""
        self._started_s = time.time()
        self._get(self._payload["func_key"], self._fetch_data)

    def _fetch_data(self, _function: bytes) -> None:
        key = self._payload.get("data_key")
        if key:
            self._get(key, self._cut)
        else:
            self._data = [ast.literal_eval(text) for text in self._payload["data_byte_strs"]]
            self._begin()

    def _cut(self, data: bytes) -> None:
        self._data = [data[first : last + 1] for first, last in self._payload["data_byte_ranges"]]
        self._begin()

    def _begin(self) -> None:
        """The next call; its `.init` is written while it runs."""
        if self._next == len(self._data):
            self._over()
            return
        key = self._key(f"{self._activation}.init")
        self._backstage.request("s3", "PutObject", lambda: self._bucket.put(key, b""))
        (seconds,) = pickle.loads(self._data[self._next]).values()
        start = time.monotonic()
        self._backstage.clock.at(start + seconds, self._end, start, start + seconds)

    def _end(self, start_s: float, end_s: float) -> None:
        offset_s = time.time() - time.monotonic()
        result = pickle.dumps(end_s + offset_s)
        status = {
            **self._said(),
            "worker_func_start_tstamp": start_s + offset_s,
            "worker_func_end_tstamp": end_s + offset_s,
            "worker_func_exec_time": round(end_s - start_s, 8),
            "worker_end_tstamp": time.time(),
            "func_result_size": len(result),
            "result": str(result),
        }
        body, key = json.dumps(status).encode(), self._key("status.json")
        self._backstage.request("s3", "PutObject", lambda: self._bucket.put(key, body), self._told)

    def _told(self, _stored: object) -> None:
        self._next += 1
        self._begin()

    def _get(self, key: str, then: Callable[[bytes], None]) -> None:
        bucket = self._bucket
        self._backstage.request("s3", "GetObject", lambda: bucket.objects[key].body, then)

    def _key(self, name: str) -> str:
        payload = self._payload
        job = f"{payload['executor_id']}-{payload['job_id']}"
        return f"{_KEYS}/{job}/{payload['call_ids'][self._next]}/{name}"

    def _said(self) -> dict[str, Any]:
        """What every status has."""
        payload = self._payload
        usage = ("sent_net_io", "recv_net_io", "rss", "vms", "uss", "cpu_system_time", "cpu_user_time")
        return {
            "type": "__end__",
            "exception": False,
            "activation_id": self._activation,
            "python_version": "3.13",
            "worker_start_tstamp": self._started_s,
            "host_submit_tstamp": payload.get("host_submit_tstamp", self._started_s),
            "call_id": payload["call_ids"][self._next],
            "job_id": payload["job_id"],
            "executor_id": payload["executor_id"],
            "chunksize": payload.get("chunksize", 1),
            "worker_calls": len(self._data),
            "worker_cold_start": False,
            "worker_func_cpu_usage": [0.0],
            "worker_peak_memory_start": 0,
            "worker_peak_memory_end": 0,
            "worker_result_upload_time": 0,
            **{f"worker_func_{name}": 0 for name in usage},
        }
