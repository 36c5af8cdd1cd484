"""End a run whose key is not on this machine: take away what it lives on.

Called by: cli/runs.py, cleaning.py.   Calls: Place for requests, home.py, signs.py for its state and its tasks.
Order:     the control object first, because it tells a living client and all workers that the run is over (they end by
           themselves, and the client's open futures fail with RunTakenOver); then queues, so that nobody takes calls
           any more; then tasks, which would end anyhow. What the run has stored stays: `cloudexec clean` removes it.
Only ours: a queue must bear the run's name and its tag, a task must have been started by the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cloudexec.backends.ecs.requests import stop_task_request
from cloudexec.backends.pull.control import client_name
from cloudexec.backends.pull.home import HOME_TAG, RUN_TAG
from cloudexec.errors import AwsError, RunMissing, WireError
from cloudexec.infra.runs.home import RunsHome
from cloudexec.infra.runs.signs import is_left, look, shown_state, tasks_of
from cloudexec.observe.summary import RunSummary, summary_key

KINDS: Final = ("work", "out")
_ABSENT: Final = "QueueDoesNotExist"
_TRIES: Final = 3  # a living client writes every 30 s at the most, and is silent once it sees that the run was taken


@dataclass(kw_only=True)
class StopReport:
    """What was done."""

    run_id: str
    had_control: bool = False
    queues: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def force_stop(home: RunsHome, run_id: str, *, cluster: str = "", who: str = "") -> StopReport:
    """End a run. cluster: where its tasks are, if its summary does not say it. Errors: AwsError and its kin."""
    report = StopReport(run_id=run_id)
    summary, etag, was_left = _described(home, report)
    runs = (run_id, *(summary.larger_runs if summary is not None else ()))
    for one in runs:
        report.had_control |= remove_control(home, one)
    is_ecs = summary is None or summary.backend == "ecs"
    if is_ecs:
        for one in runs:
            report.queues += remove_queues(home, own_queues(home, one))
        cluster = summary.where.cluster if summary is not None else cluster
        if cluster:
            report.tasks = [arn for one in runs for arn in stop_tasks(home, one, cluster)]
        else:
            report.notes.append("its cluster is not known (give --cluster): workers end when they see that it is over")
    elif not report.had_control:
        report.notes.append(
            "it has no control object, because none of its invocations has lasted: nothing can be taken from it. It "
            "ends with its client"
        )
    if summary is not None and not mark_stopped(home, summary, etag, who, was_left=was_left):
        report.notes.append("its summary does not say so: somebody else writes it. Repeat the command")
    return report


def _described(home: RunsHome, report: StopReport) -> tuple[RunSummary | None, str, bool]:
    """The summary, its version, and whether nobody worked for the run any more. Errors: AwsError and its kin."""
    found, _ = home.entry(summary_key(home.prefix, report.run_id))
    trouble = "it has no summary"
    if found is not None:
        try:
            summary, etag = home.read_version(report.run_id)
            signs = look(home, summary, found["LastModified"].timestamp())
            return summary, etag, is_left(shown_state(summary, signs), signs)
        except WireError as error:
            trouble = error.what
        except RunMissing:  # removed meanwhile
            pass
    report.notes.append(f"{trouble}: only what bears its id was looked for")
    return None, "", False


def mark_stopped(home: RunsHome, summary: RunSummary, etag: str, who: str, *, was_left: bool = False) -> bool:
    """Have the summary say so; whether it says that the run is over. was_left: nobody has worked for it since its
    client's last word, which is its end: it is not billed until today. Errors: AwsError and its kin."""
    for _ in range(_TRIES):
        if summary.is_over or home.write(_stopped(summary, who, was_left), etag):
            return True
        try:  # the client has written between our reading and our writing
            summary, etag = home.read_version(summary.run_id)
        except (RunMissing, WireError):
            return False
    return summary.is_over


def _stopped(summary: RunSummary, who: str, was_left: bool) -> RunSummary:
    now_s = time.time()
    return replace(
        summary,
        state="stopped",
        reason=f"stopped by {who}" if who else "stopped from outside",
        updated_s=now_s,
        ended_s=summary.updated_s if was_left else now_s,
        writer=f"{client_name()}/{os.urandom(6).hex()}",
    )


def remove_control(home: RunsHome, run_id: str) -> bool:
    """Whether there was one. Errors: AwsError."""
    key = home.run_prefix(run_id) + "control"
    if home.entry(key)[0] is None:
        return False
    home.place.ask("s3", "delete_object", {**home.owner, "Key": key})
    return True


# --- queues ----------------------------------------------------------------------------------


def own_queues(home: RunsHome, run_id: str) -> list[str]:
    """The URLs of a run's queues that are there. Errors: AwsError."""
    urls = []
    for kind in KINDS:
        try:
            url = str(home.place.ask("sqs", "get_queue_url", {"QueueName": f"cloudexec-{run_id}-{kind}"})["QueueUrl"])
            if is_own(home, url, run_id):
                urls.append(url)
        except AwsError as error:
            if error.code != _ABSENT:
                raise
    return urls


def is_own(home: RunsHome, url: str, run_id: str, *, is_known: bool = True) -> bool:
    """Whether a queue bears the run's tag, and belongs to this bucket. Errors: AwsError.

    is_known: whether anything else tells that the run does, for a queue that does not say it.
    """
    try:
        tags = home.place.ask("sqs", "list_queue_tags", {"QueueUrl": url}).get("Tags") or {}
    except AwsError as error:
        if error.code != _ABSENT:  # a queue that was removed may be listed for a minute more
            raise
        return False
    says_home = tags.get(HOME_TAG)
    is_here = is_known if says_home is None else says_home == f"{home.bucket}/{home.prefix}"
    return bool(tags.get(RUN_TAG) == run_id and is_here)


def remove_queues(home: RunsHome, urls: Sequence[str]) -> list[str]:
    """The names of those that were there. Errors: AwsError."""
    removed = []
    for url in urls:
        try:
            home.place.ask("sqs", "delete_queue", {"QueueUrl": url})
            removed.append(url.rsplit("/", 1)[-1])
        except AwsError as error:
            if error.code != _ABSENT:
                raise
    return removed


# --- tasks -----------------------------------------------------------------------------------


def stop_tasks(home: RunsHome, run_id: str, cluster: str) -> list[str]:
    """Tasks of a run that were told to stop. Errors: AwsError."""
    stopped = []
    for arn in tasks_of(home, run_id, cluster):
        try:
            home.place.ask("ecs", "stop_task", stop_task_request(cluster, arn, "the run was stopped from outside"))
            stopped.append(arn)
        except AwsError as error:
            if "not found" not in error.what.casefold():  # it has ended meanwhile
                raise
    return stopped
