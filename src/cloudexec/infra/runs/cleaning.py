"""What runs that are over have left behind: found by their ids and tags, shown, and removed if that is wanted.

Called by: cli/runs.py.   Calls: home.py, signs.py, stopping.py.
Found are:  summaries, folders below PREFIX/runs/, queues with the name, the tag and the home of a run. A queue of
            which nothing tells that its run belongs to this bucket is left alone, whatever it is called.
Left alone: runs that may be alive, and those that have shown a sign of life less than `older_than_s` ago.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from cloudexec.backends.pull.control import is_dead_here
from cloudexec.errors import AwsError, CloudexecError, RunMissing
from cloudexec.infra.runs.home import AT_ONCE, RUN_ID, RunsHome, begun_s, is_run_id
from cloudexec.infra.runs.signs import DETACHED_S, SILENT_S, SUMMARY_SILENT_S, control_age, tasks_of
from cloudexec.infra.runs.stopping import is_own, remove_queues, stop_tasks
from cloudexec.observe.summary import RunSummary, summary_key

OLDER_THAN_S: Final = 7 * 86_400.0
_QUEUE: Final = re.compile(rf"cloudexec-({RUN_ID.pattern})-(?:work|out)")
_KEYS_AT_ONCE: Final = 1000


@dataclass(kw_only=True)
class Remains:
    """What is left of one run. kept: why it is left alone; empty if it may go. last_s: its last sign of life."""

    run_id: str
    queues: list[str] = field(default_factory=list)
    n_objects: int = 0
    n_bytes: int = 0
    tasks: list[str] = field(default_factory=list)
    cluster: str = ""
    has_summary: bool = False
    last_s: float = 0.0
    kept: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.queues or self.n_objects or self.tasks or self.has_summary)


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What is known of one run before it is judged. control_s: the age of its control object, None without one;
    newest_s: how long ago any object of it was written, its summary included."""

    summary: RunSummary | None
    control_s: float | None
    newest_s: float
    is_dead_here: bool = False


def why_kept(traces: Traces, older_than_s: float) -> str:
    """Why a run is left alone; empty if it may go. What is not known speaks for the run."""
    summary, control_s = traces.summary, traces.control_s
    is_over = summary is not None and summary.is_over
    if control_s is not None and control_s < SILENT_S and not traces.is_dead_here and not is_over:
        return f"its client was there {control_s:.0f} s ago"
    if summary is not None and summary.state == "detached" and control_s is not None and control_s < DETACHED_S:
        return "it was detached, and can be attached to"
    is_running = summary is not None and summary.state == "running"
    if is_running and control_s is None and traces.newest_s < SUMMARY_SILENT_S and not traces.is_dead_here:
        return f"it wrote its summary {traces.newest_s:.0f} s ago"
    if traces.newest_s < older_than_s:
        return f"its last sign of life is {traces.newest_s / 86_400:.1f} days old"
    return ""


def find_remains(
    home: RunsHome, *, older_than_s: float = OLDER_THAN_S, run_id: str = "", summaries: bool = False
) -> list[Remains]:
    """What is there of runs, oldest first; those that are kept say why. Errors: AwsError and its kin."""
    begun_until_s = time.time() - older_than_s

    def is_meant(one: str) -> bool:
        """What is younger than all that is looked for is not even looked at."""
        return one == (run_id or one) and is_run_id(one) and begun_s(one) <= begun_until_s

    described = {entry.run_id: entry.modified_s for entry in home.summaries()}
    folders = set(_folders(home))
    queues = _queues(home, is_meant, described.keys() | folders)
    wanted = folders | queues.keys() | (described.keys() if summaries or run_id else set())
    ids = [one for one in sorted(wanted) if is_meant(one)]
    if not ids:
        return []

    def look(one: str) -> Remains:
        return _remains(
            home, one, queues.get(one, []), described.get(one), one in folders, older_than_s, summaries=summaries
        )

    with ThreadPoolExecutor(min(AT_ONCE, len(ids))) as threads:
        return [remains for remains in threads.map(look, ids) if not remains.is_empty]


def _remains(
    home: RunsHome,
    run_id: str,
    queues: list[str],
    described_s: float | None,
    has_folder: bool,
    older_than_s: float,
    *,
    summaries: bool,
) -> Remains:
    now_s, summary = time.time(), None
    if described_s is not None:
        try:
            summary = home.read(run_id)
        except RunMissing:
            described_s = None
        except CloudexecError:  # damaged: its date is all that it tells
            pass
    remains = Remains(run_id=run_id, queues=queues, has_summary=summaries and described_s is not None)
    dates = [begun_s(run_id), described_s or 0.0]
    control_s = None
    if has_folder:
        for entry in home.objects({**home.owner, "Prefix": home.run_prefix(run_id)}):
            remains.n_objects += 1
            remains.n_bytes += entry["Size"]
            dates.append(entry["LastModified"].timestamp())
        control_s, now_s = control_age(home, run_id)
    remains.last_s = max(dates)
    is_dead = summary is not None and is_dead_here(summary.client.process)
    traces = Traces(
        summary=summary, control_s=control_s, newest_s=max(0.0, now_s - remains.last_s), is_dead_here=is_dead
    )
    remains.kept = why_kept(traces, older_than_s)
    if not remains.kept and summary is not None and summary.backend == "ecs" and summary.where.cluster:
        remains.cluster = summary.where.cluster
        remains.tasks = tasks_of(home, run_id, remains.cluster)
    return remains


def remove(home: RunsHome, remains: Remains) -> None:
    """Remove what was found of one run. Errors: AwsError and its kin; what was removed before stays removed."""
    assert not remains.kept
    if remains.tasks:
        stop_tasks(home, remains.run_id, remains.cluster)
    remove_queues(home, remains.queues)
    if remains.n_objects:
        keys = [entry["Key"] for entry in home.objects({**home.owner, "Prefix": home.run_prefix(remains.run_id)})]
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            _delete(home, keys[at : at + _KEYS_AT_ONCE])
    if remains.has_summary:
        home.place.ask("s3", "delete_object", {**home.owner, "Key": summary_key(home.prefix, remains.run_id)})


def _delete(home: RunsHome, keys: list[str]) -> None:
    request = {**home.owner, "Delete": {"Objects": [{"Key": key} for key in keys], "Quiet": True}}
    if errors := home.place.ask("s3", "delete_objects", request).get("Errors"):
        first = errors[0]
        what = f"{len(errors)} of {len(keys)} objects could not be removed; {first['Key']}: {first.get('Message')}"
        raise AwsError(what, str(first.get("Code", "")))


def _folders(home: RunsHome) -> Iterable[str]:
    """Runs that have objects."""
    prefix = home.run_prefix("x").removesuffix("x/")
    for one in home.objects({**home.owner, "Prefix": prefix, "Delimiter": "/"}, "CommonPrefixes"):
        name = one["Prefix"][len(prefix) :].rstrip("/")
        if is_run_id(name):
            yield name


def _queues(home: RunsHome, is_meant: Callable[[str], bool], known: Collection[str]) -> Mapping[str, list[str]]:
    """URLs of queues by run: of runs that are meant and known here, or whose tag says that they belong here. Tags are
    asked for one by one, so of no others."""
    found: dict[str, list[str]] = {}
    request = {"QueueNamePrefix": "cloudexec-r", "MaxResults": 1000}
    for url in home.place.pages("sqs", "list_queues", request, "QueueUrls"):
        named = _QUEUE.fullmatch(url.rsplit("/", 1)[-1])
        if named is None or not is_meant(named[1]):
            continue
        if is_own(home, url, named[1], is_known=named[1] in known):
            found.setdefault(named[1], []).append(url)
    return found
