"""Whether a run is alive: asked of what cannot lie, and put into one word.

Called by: listing.py, stopping.py, cleaning.py, costs.py.   Calls: Place: one listing and, on ECS, one ListTasks a run.
Signs:     the age of the control object, which a living client writes every 20 s at the latest; tasks; on the
           client's own machine, whether its process is there. A Lambda run without long calls has no control object:
           then the age of its summary counts, which is written every five minutes at the latest.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cloudexec.backends.pull.control import is_dead_here
from cloudexec.errors import AwsError
from cloudexec.infra.runs.home import RunsHome
from cloudexec.observe.summary import RunSummary

SILENT_S: Final = 90.0  # of a control object; four beats
SUMMARY_SILENT_S: Final = 660.0  # of a summary; two beats
STARTING_S: Final = 60.0  # a run may not have its control object yet
DETACHED_S: Final = 4 * 86_400.0  # results of a detached run wait so long


class Signs(NamedTuple):
    """What was seen of a run. control_s: the age of its control object, None without one. n_tasks: those that run or
    are to run, None where nobody could look. is_dead: its client was a process of this machine, and is gone."""

    control_s: float | None
    summary_s: float
    n_tasks: int | None
    is_dead: bool = False


def shown_state(summary: RunSummary, signs: Signs) -> str:
    """One word: running, detached, done, failed, stopped; silent: its client is gone, and workers are still there;
    abandoned: both are gone."""
    if summary.is_over:
        return summary.state
    if summary.state == "detached":
        return "abandoned" if signs.control_s is None and not signs.n_tasks else "detached"
    if is_client_alive(summary, signs):
        return "running"
    has_none = signs.n_tasks == 0 or summary.backend == "lambda"
    return "abandoned" if has_none else "silent"


def is_client_alive(summary: RunSummary, signs: Signs) -> bool:
    """Whether the client of a run that says it is running has shown it lately."""
    if signs.is_dead:
        return False
    if signs.control_s is not None:
        return signs.control_s < SILENT_S
    return signs.summary_s < (SUMMARY_SILENT_S if summary.backend == "lambda" else STARTING_S)


def is_left(state: str, signs: Signs | None) -> bool:
    """Whether nobody works for a run any more, as far as anybody can see, and its summary does not say since when."""
    has_tasks = signs is not None and bool(signs.n_tasks)
    return state == "abandoned" or (state in ("silent", "detached") and not has_tasks)


def look(home: RunsHome, summary: RunSummary, modified_s: float) -> Signs:
    """Ask for the signs of one run. modified_s: when its summary was written. Errors: AwsError and its kin."""
    if summary.is_over:
        return Signs(None, 0.0, None)
    control_s, now_s = control_age(home, summary.run_id)
    return Signs(
        control_s=control_s,
        summary_s=max(0.0, now_s - modified_s),
        n_tasks=count_tasks(home, summary),
        is_dead=is_dead_here(summary.client.process),
    )


def control_age(home: RunsHome, run_id: str) -> tuple[float | None, float]:
    """The age of a run's control object, None without one; and what time S3 has. Errors: AwsError."""
    found, now_s = home.entry(home.run_prefix(run_id) + "control")
    return (None if found is None else max(0.0, now_s - found["LastModified"].timestamp())), now_s


def tasks_of(home: RunsHome, run_id: str, cluster: str) -> list[str]:
    """Tasks of a run that are to run; none in a cluster that is gone. Errors: AwsError and its kin."""
    request = {"cluster": cluster, "startedBy": run_id, "maxResults": 100}
    try:
        return list(home.place.pages("ecs", "list_tasks", request, "taskArns"))
    except AwsError as error:
        if error.code != "ClusterNotFoundException":
            raise
        return []


def count_tasks(home: RunsHome, summary: RunSummary) -> int | None:
    """Tasks of a run and of its larger workers; None where nobody may look."""
    if summary.backend != "ecs" or not summary.where.cluster:
        return 0
    try:
        runs = (summary.run_id, *summary.larger_runs)
        return sum(len(tasks_of(home, run_id, summary.where.cluster)) for run_id in runs)
    except AwsError:
        return None
