"""What Lambda writes into logs and error payloads. Pure.

Called by:  environment.py, invoke.py, events.py.   Calls: nothing.
Source:     AWS's documentation and logs seen by many; test for `errorType`, not for sentences.
"""

from __future__ import annotations

import json
import math
import re
import signal
from datetime import datetime, timezone
from typing import Final

MOST_SYNC_BYTES: Final = 6 * 1024 * 1024
MOST_EVENT_BYTES: Final = 1024 * 1024
MOST_ANSWER_BYTES: Final = 6_291_556
MOST_HOPS: Final = 16
TAIL_BYTES: Final = 4096
SIGNALS: Final = {
    signal.SIGKILL: "killed",
    signal.SIGTERM: "terminated",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGILL: "illegal instruction",
    signal.SIGFPE: "floating point exception",
    signal.SIGINT: "interrupt",
}


def error_payload(kind: str, message: str, request_id: str = "") -> bytes:
    """The payload of a function error that the platform tells."""
    text = f"RequestId: {request_id} Error: {message}" if request_id else message
    return json.dumps({"errorType": kind, "errorMessage": text}).encode()


def exit_words(returncode: int) -> str:
    """How a runtime has ended; `returncode` is subprocess's."""
    if returncode == 0:
        return "Runtime exited without providing a reason"
    if returncode > 0:
        return f"Runtime exited with error: exit status {returncode}"
    return f"Runtime exited with error: signal: {SIGNALS.get(signal.Signals(-returncode), f'signal {-returncode}')}"


def timeout_words(timeout_s: float) -> str:
    """That the time was over."""
    return f"Task timed out after {timeout_s:.2f} seconds"


def too_large_payload(size: int) -> bytes:
    """That an answer has more bytes than may pass."""
    message = f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({MOST_ANSWER_BYTES} bytes)."
    return error_payload("Function.ResponseSizeTooLarge", message)


def init_error_payload(body: bytes, request_id: str) -> bytes:
    """What the runtime told when it could not load the handler, with the id of the invocation that met it."""
    return json.dumps({**_init_error(body), "requestId": request_id}).encode()


def init_error_type(body: bytes) -> str:
    """The error type in it."""
    return str(_init_error(body)["errorType"])


def _init_error(body: bytes) -> dict[str, object]:
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    unknown: dict[str, object] = {"errorType": "Runtime.Unknown", "errorMessage": "Runtime failed to initialize"}
    return {**unknown, **told} if isinstance(told, dict) else unknown


def init_start(runtime: str) -> str:
    """The first line of a cold environment."""
    return f"INIT_START Runtime Version: {runtime.replace('python', 'python:', 1) or 'image'}"


def init_report(duration_s: float, status: str, kind: str = "") -> str:
    """The line about an init phase that failed."""
    more = f"\tError Type: {kind}" if kind else ""
    return f"INIT_REPORT Init Duration: {duration_s * 1000:.2f} ms\tPhase: init\tStatus: {status}{more}"


def start_line(request_id: str, version: str) -> str:
    """Before the function's own lines."""
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    """After the function's own lines."""
    return f"END RequestId: {request_id}"


def report_line(
    request_id: str, *, duration_s: float, init_s: float | None, memory_mb: int, used_mb: int, trouble: str
) -> str:
    """The line that tells time and memory; init is billed. trouble: "", "timeout" or an error type."""
    billed_ms = math.ceil((duration_s + (init_s or 0.0)) * 1000)
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_s * 1000:.2f} ms",
        f"Billed Duration: {billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {used_mb} MB",
    ]
    if init_s is not None:
        fields.append(f"Init Duration: {init_s * 1000:.2f} ms")
    if trouble:
        fields.append("Status: timeout" if trouble == "timeout" else f"Status: error\tError Type: {trouble}")
    return "\t".join([*fields, ""])


def timeout_line(request_id: str, timeout_s: float, now_s: float) -> str:
    """The line about a timeout; it begins with an instant."""
    instant = datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return f"{instant}Z {request_id} {timeout_words(timeout_s)}"


# --- the trace header ------------------------------------------------------------------------------

LINEAGE: Final = re.compile(r"(?:^|;)\s*Lineage=([^;]*)")
ROOT: Final = re.compile(r"(?:^|;)\s*Root=([^;]*)")


def hops(trace: str, function_hash: str) -> int:
    """How often this chain of requests has been at a function already; `Lineage=HASH:COUNT|HASH:COUNT`."""
    return _lineage(trace).get(function_hash, 0)


def next_trace(trace: str, function_hash: str, fresh_root: str) -> str:
    """The trace header that an invocation hands to its function."""
    root = ROOT.search(trace)
    counts = _lineage(trace)
    counts[function_hash] = counts.get(function_hash, 0) + 1
    lineage = "|".join(f"{name}:{count}" for name, count in counts.items())
    return f"Root={root.group(1) if root else fresh_root};Sampled=0;Lineage={lineage}"


def _lineage(trace: str) -> dict[str, int]:
    found = LINEAGE.search(trace)
    counts = {}
    for entry in found.group(1).split("|") if found else []:
        name, _, count = entry.rpartition(":")
        if name and count.isdigit():
            counts[name] = int(count)
    return counts
