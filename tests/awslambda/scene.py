"""What Lambda's faults are tested with: calls that leave traces, and looks at what a run has in the pocket AWS.

Called by: the tests here, and by workers, which run these calls.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from tests.ecs.scene import SOON, big, double, eventually, runs_in, trace, wait_at, wait_for_calls

__all__ = ["SOON", "big", "double", "eventually", "runs_in", "trace", "wait_at", "wait_for_calls"]

HANDLER: Final = "cloudexec.worker.awslambda.handler"
# Environments look at things more often than they would in a real account, so that tests need not wait.
QUICK: Final = {"control_after_s": 0.2, "control_every_s": 0.2, "event_beat_s": 0.2, "early_after_s": 0.3}


# --- calls -------------------------------------------------------------------------------------


def signal_runtime(number: int) -> None:
    """Send a signal to Lambda's runtime client, which has started the supervisor of this slot; then wait."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        runtime = int(file.read().rpartition(")")[2].split()[1])
    os.kill(runtime, number)
    time.sleep(60)


def kill_environment(diary: str = os.devnull, x: Any = "killer", times: int = 1000) -> Any:
    """Kill it the first `times` times, as the diary tells."""
    trace(diary, x)
    if runs_in(Path(diary))[str(x)] <= times:
        signal_runtime(signal.SIGKILL)
    return x


def span(diary: str, seconds: float) -> None:
    """Leave begin and end, on a clock that all processes of this machine have in common."""
    began = time.monotonic()
    time.sleep(seconds)
    with open(diary, "a") as file:
        file.write(f"{began} {time.monotonic()}\n")


# --- looking -----------------------------------------------------------------------------------


def most_at_once(diary: Any) -> int:
    """How many calls that left their span ran at the same time."""
    spans = [tuple(map(float, line.split())) for line in diary.read_text().splitlines()]
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    at_once = most = 0
    for _, step in edges:
        at_once += step
        most = max(most, at_once)
    return most


def busy_in(aws: Any, function: str) -> list[Any]:
    """Environments in which something is invoked."""
    return [each for each in aws.environments() if each.function == function and each.state in ("cold", "busy")]


def left_of(aws: Any, run_id: str) -> list[str]:
    """Objects of a run that are still in the bucket, but for its summary, which stays on purpose."""
    return [key for key in aws.objects() if run_id in key and "/summaries/" not in key]
