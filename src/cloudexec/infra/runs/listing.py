"""The latest runs, in few requests: one for a thousand names, one for each run that is shown, one or two more for each
that is not over.

Called by: cli/runs.py.   Calls: home.py, signs.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloudexec.errors import CloudexecError, RunMissing
from cloudexec.infra.runs.home import AT_ONCE, RunsHome, SummaryEntry
from cloudexec.infra.runs.signs import Signs, look, shown_state
from cloudexec.observe.summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run as it is shown. summary: None if it cannot be read, for the reason in `trouble`."""

    run_id: str
    state: str
    summary: RunSummary | None = None
    signs: Signs | None = None
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The latest runs first. n_older: how many more have begun since the moment that was asked for."""

    runs: list[RunView]
    n_older: int


def list_runs(home: RunsHome, *, most: int, since_s: float = 0.0) -> Listing:
    """Runs begun after `since_s`, `most` of them. Errors: AwsError and its kin."""
    entries = home.summaries(since_s)[::-1]
    shown = entries[:most]
    if not shown:
        return Listing(runs=[], n_older=0)
    assert home.owner  # asked for once, and not by each thread
    with ThreadPoolExecutor(min(AT_ONCE, len(shown))) as threads:
        views = threads.map(lambda entry: view(home, entry), shown)
        runs = [one for one in views if one.state != "gone"]
    return Listing(runs=runs, n_older=len(entries) - len(shown))


def view(home: RunsHome, entry: SummaryEntry) -> RunView:
    """One run; nothing that is wrong with it is in the way of others."""
    try:
        summary = home.read(entry.run_id)
        signs = look(home, summary, entry.modified_s)
    except RunMissing:  # removed meanwhile
        return RunView(run_id=entry.run_id, state="gone")
    except CloudexecError as error:
        return RunView(run_id=entry.run_id, state="unreadable", trouble=error.what)
    return RunView(run_id=entry.run_id, state=shown_state(summary, signs), summary=summary, signs=signs)
