"""Lines of a run in CloudWatch Logs, in their order.

Called by: cli/runs.py.   Calls: Place for `FilterLogEvents`, listing.py for whether the run goes on.
Finding:   each line of a call begins with `RUN/17 out| `, each line of a worker with `RUN `: the id is the pattern, and
           what only looks like it is left out here. A worker's stream is read whole, with lines of anybody's.
Schedule:  PAUSE_S between two requests (CloudWatch takes 5 a second where it takes fewest), FOLLOW_S between two looks
           at what is new, OVER_EVERY_S between two looks at whether the run is over. CloudWatch shows lines seconds
           after they were written, so following goes on for LATE_S after the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AwsError, RunMissing, SettingsError
from cloudexec.infra.runs.home import RunsHome
from cloudexec.infra.runs.listing import view
from cloudexec.observe.summary import RunSummary

PAUSE_S: Final = 0.2
FOLLOW_S: Final = 1.0
OVER_EVERY_S: Final = 5.0
LATE_S: Final = 5.0
_BEFORE_S: Final = 5.0  # clocks differ
_AFTER_S: Final = 60.0
_REMEMBERED_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One event. at_s: seconds since 1970."""

    at_s: float
    stream: str
    text: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a run's lines is wanted. call: 0 for all. worker: a task's or environment's id, "" for all."""

    call: int = 0
    worker: str = ""
    since_s: float = 0.0

    def request(self, summary: RunSummary) -> dict[str, Any]:
        """Arguments for `filter_log_events`, without its times. Errors: SettingsError without a log group."""
        where = summary.where
        if not where.log_group:
            what = (
                f"the tasks of run {summary.run_id} write no log that can be read: its definition has no awslogs group"
            )
            raise SettingsError(what, remedy="give the task definition a logConfiguration, or log_group= with image=")
        request: dict[str, Any] = {"logGroupName": where.log_group}
        if self.worker and where.log_stream_prefix:
            request["logStreamNames"] = [where.log_stream_prefix + self.worker]
        elif where.log_stream_prefix:
            request["logStreamNamePrefix"] = where.log_stream_prefix
        if not self.worker or self.call or summary.backend == "lambda":
            request["filterPattern"] = f'"{self._id(summary)}"'
        return request

    def takes(self, summary: RunSummary, line: LogLine) -> bool:
        """Whether a line that was found is one of them."""
        if self.worker and not line.stream.endswith(self.worker):
            return False
        if self.call:
            return line.text.startswith(self._id(summary) + " ")
        return bool(self.worker and summary.backend == "ecs") or line.text.startswith(
            (summary.run_id + "/", summary.run_id + " ")
        )

    def _id(self, summary: RunSummary) -> str:
        return f"{summary.run_id}/{self.call}" if self.call else summary.run_id


def read_lines(home: RunsHome, summary: RunSummary, wanted: Wanted) -> Iterator[LogLine]:
    """All lines so far. Errors: SettingsError, AwsError and its kin."""
    until_s = None
    if summary.ended_s is not None:  # of a run that was stopped when it was abandoned, workers went on until then
        until_s = max(summary.ended_s, summary.updated_s) + _AFTER_S
    yield from _pages(home, summary, wanted, _begin_of(summary, wanted), until_s)


def follow(
    home: RunsHome,
    summary: RunSummary,
    wanted: Wanted,
    *,
    over_every_s: float = OVER_EVERY_S,
    late_s: float = LATE_S,
) -> Iterator[LogLine]:
    """Lines as they come, until the run is over, or nobody works for it any more. Errors: as `read_lines`."""
    since_s = _begin_of(summary, wanted)
    seen: dict[str, float] = {}
    looked_s = -over_every_s
    until_s = _last_s(summary)
    while True:
        began_s = time.time()
        for line in _pages(home, summary, wanted, since_s, None):
            if line.id not in seen:
                seen[line.id] = line.at_s
                yield line
        if until_s is not None and began_s > until_s + late_s:
            return
        # What is late stands behind what was read: look back a little, and tell by ids what is new.
        newest_s = max(seen.values(), default=since_s)
        since_s = max(since_s, newest_s - _REMEMBERED_S / 2)
        seen = {id: at_s for id, at_s in seen.items() if at_s >= since_s}
        time.sleep(FOLLOW_S)
        if until_s is None and time.monotonic() >= looked_s + over_every_s:
            looked_s = time.monotonic()
            summary, until_s = _again(home, summary)


def _again(home: RunsHome, summary: RunSummary) -> tuple[RunSummary, float | None]:
    """What is known of the run now, and since when nothing more comes; None: it goes on. Errors: AwsError."""
    try:
        found = view(home, home.lookup(summary.run_id))
    except RunMissing:
        return summary, time.time()
    if found.state in ("abandoned", "gone"):
        return found.summary or summary, time.time()
    summary = found.summary or summary
    return summary, _last_s(summary)


def _last_s(summary: RunSummary) -> float | None:
    """When a run ended, None if it goes on."""
    if not summary.is_over:
        return None
    return summary.updated_s if summary.ended_s is None else summary.ended_s


def _begin_of(summary: RunSummary, wanted: Wanted) -> float:
    return max(summary.begun_s - _BEFORE_S, wanted.since_s)


def _pages(
    home: RunsHome, summary: RunSummary, wanted: Wanted, since_s: float, until_s: float | None
) -> Iterator[LogLine]:
    request = {**wanted.request(summary), "startTime": int(since_s * 1000)}
    if until_s is not None:
        request["endTime"] = int(until_s * 1000)
    while True:
        began_s = time.monotonic()
        reply = _filtered(home, summary, request)
        lines = [_line(event) for event in reply.get("events") or ()]
        yield from sorted((one for one in lines if wanted.takes(summary, one)), key=lambda one: one.at_s)
        if not reply.get("nextToken"):
            return
        request["nextToken"] = reply["nextToken"]
        time.sleep(max(0.0, began_s + PAUSE_S - time.monotonic()))


def _filtered(home: RunsHome, summary: RunSummary, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return home.place.ask("logs", "filter_log_events", request)
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        if "logStreamNames" in request:  # the task has written nothing yet
            return {}
        if summary.is_over:
            what = f"the log group {request['logGroupName']} of run {summary.run_id} is not there any more"
            raise SettingsError(
                what, remedy=f"look at the region ({home.place.region}); the run was in {summary.where.region}"
            ) from error
        return {}  # Lambda makes the group with the first line


def _line(event: dict[str, Any]) -> LogLine:
    return LogLine(
        at_s=event["timestamp"] / 1000,
        stream=str(event.get("logStreamName") or ""),
        text=str(event["message"]).rstrip("\n"),
        id=str(event.get("eventId") or f"{event.get('logStreamName')}{event['timestamp']}{event['message']}"),
    )
