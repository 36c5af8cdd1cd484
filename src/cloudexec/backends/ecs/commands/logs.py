"""Read what a command wrote, once, when its task is over.

Called by: backend.py, on its threads.   Calls: `ask`, for CloudWatch Logs.
A log that cannot be read is no failure of the command: the text says why there is nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from cloudexec.backends.ecs.driver import Ask
from cloudexec.backends.ecs.requests import get_log_events_request
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.command import MOST_LOG_BYTES, TAIL_LINES, last_lines
from cloudexec.errors import AwsError, CloudexecError, ConnectionLost, Throttled

MOST_EVENTS: Final = 10_000  # in one answer
_MOST_PAGES: Final = 200  # pages may be empty though more are to come
_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)  # Logs answers some ten such requests a second


def read_log(ask: Ask, target: EcsTarget, arn: str, n_lines: int | None, pause: Callable[[float], Any]) -> str:
    """The last lines of a task's log; None: all, up to one megabyte. Those that errors show are read in any case."""
    if not target.log_group:
        what = "the task definition does not send one to CloudWatch Logs"
        images = "; for an image, give the executor log_group= and execution_role=" if target.image else ""
        return f"(no log: {what}{images})\n"
    most = MOST_LOG_BYTES if n_lines is None else max(n_lines, TAIL_LINES)  # no line is shorter than a byte
    try:
        return last_lines(_paged(ask, target, arn, most, pause), n_lines)
    except AwsError as error:
        return f"(no log: {error.what})\n"
    except CloudexecError as error:
        return f"(no log: {error})\n"


def _paged(ask: Ask, target: EcsTarget, arn: str, most: int, pause: Callable[[float], Any]) -> str:
    """Backwards from the end, page by page."""
    request: dict[str, Any] = get_log_events_request(target, arn, min(most, MOST_EVENTS))
    pages: list[list[str]] = []
    size = n_events = 0
    for _ in range(_MOST_PAGES):
        reply = _asked(ask, request, pause)
        page = [f"{event['message']}\n" for event in reply.get("events") or ()]
        pages.append(page)
        n_events += len(page)
        size += sum(len(line.encode()) for line in page)
        token = reply.get("nextBackwardToken")
        # At its end a log gives back the token that it was asked with.
        is_all = token in (None, request.get("nextToken"))
        if is_all or size >= MOST_LOG_BYTES or n_events >= most:
            break
        request["nextToken"] = token
    return _bounded([line for page in reversed(pages) for line in page])


def _bounded(lines: list[str]) -> str:
    """As many of the last lines as may be kept."""
    room, first = MOST_LOG_BYTES, len(lines)
    while first and room >= (size := len(lines[first - 1].encode())):
        room -= size
        first -= 1
    return "".join(lines[first:])


def _asked(ask: Ask, request: dict[str, Any], pause: Callable[[float], Any]) -> dict[str, Any]:
    for pause_s in _PAUSES_S:
        try:
            return ask("logs", "get_log_events", request)
        except (Throttled, ConnectionLost):
            pause(pause_s)
    return ask("logs", "get_log_events", request)


def sleep(seconds: float) -> None:
    """The pause that threads make."""
    time.sleep(seconds)
