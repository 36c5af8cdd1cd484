"""`cloudexec runs | show | logs | stop | clean | cost`: runs, seen from outside.

Called by: main.py.   Calls: infra.runs; ECSExecutor, which alone can end a run in order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import click

from cloudexec.cli.common import json_option, place_of, place_options, yes_option
from cloudexec.cli.main import REFUSED
from cloudexec.cli.runviews import (
    HEADINGS,
    LEAST_SHOWN_USD,
    NUMBERS,
    cost_json,
    failure_rows,
    hint,
    list_json,
    list_row,
    log_text,
    remains_row,
    run_facts,
    run_json,
    shown_usd,
    who,
)
from cloudexec.cli.show import confirmed, print_json, print_table, say
from cloudexec.cli.spans import Moment, Span, shown_span
from cloudexec.errors import CloudexecError, RunMissing, SettingsError
from cloudexec.executors import runkeys
from cloudexec.executors.ecs import ECSExecutor
from cloudexec.executors.summaries import client_facts
from cloudexec.infra.runs.cleaning import OLDER_THAN_S, find_remains, remove
from cloudexec.infra.runs.costs import cost_of_view, known_tasks
from cloudexec.infra.runs.home import RunsHome, begun_s, find_home, is_run_id
from cloudexec.infra.runs.listing import RunView, list_runs, view
from cloudexec.infra.runs.logs import Wanted, follow, read_lines
from cloudexec.infra.runs.stopping import KINDS, StopReport, force_stop, own_queues
from cloudexec.observe.summary import RunSummary

F = TypeVar("F", bound=Callable[..., Any])
SHOWN: Final = 20
LATELY_S: Final = 30 * 86_400.0
_EVERYTHING: Final = 1_000_000


def home_options(command: F) -> F:
    """Where runs lie: --bucket, --prefix, and the account."""
    command = click.option("--prefix", metavar="PREFIX", default="", help="Of the runs in the bucket.")(command)
    command = click.option("--bucket", metavar="NAME", default="", help="Where runs lie; the stack's by default.")(
        command
    )
    return place_options(command)


@contextlib.contextmanager
def home_of(
    bucket: str, prefix: str, profile: str | None, region: str | None, stack: str | None, endpoint_url: str | None
) -> Iterator[RunsHome]:
    """Errors: SettingsError, AwsError and its kin."""
    with place_of(profile, region, stack, endpoint_url) as place:
        yield find_home(place, bucket, prefix, os.environ, stack_is_given=bool(stack))


# --- looking ----------------------------------------------------------------------------------


@click.command(name="runs")
@click.option("--all", "all_runs", is_flag=True, help=f"All that have a summary, not the {SHOWN} latest of 30 days.")
@json_option
@home_options
def runs(all_runs: bool, as_json: bool, **where: Any) -> None:
    """List runs, the latest first."""
    with home_of(**where) as home:
        since_s = 0.0 if all_runs else time.time() - LATELY_S
        listing = list_runs(home, most=_EVERYTHING if all_runs else SHOWN, since_s=since_s)
    if as_json:
        print_json({"runs": [list_json(one) for one in listing.runs], "n_older": listing.n_older})
        return
    if not listing.runs:
        say(f"no runs in s3://{home.bucket}/{home.prefix}" + ("" if all_runs else " in the last 30 days"))
        return
    print_table(HEADINGS, map(list_row, listing.runs), right=NUMBERS)
    if listing.n_older:
        say(f"{listing.n_older} older ones are not shown: --all")
    for one in listing.runs:
        if one.state in ("abandoned", "silent"):
            say(f"{one.run_id}: {hint(one)}")


@click.command(name="show")
@click.argument("run")
@json_option
@home_options
def show(run: str, as_json: bool, **where: Any) -> None:
    """Show one RUN: its id, the beginning of it, or `last`."""
    with home_of(**where) as home:
        found = _view(home, run)
        queues = _depths(home, found)
    if as_json:
        print_json(run_json(found, queues))
        return
    summary = _summary(found)
    print_table(("", ""), run_facts(found, queues))
    if summary.failures:
        click.echo()
        print_table(("call", "name", "error", "message", "worker", "attempts"), failure_rows(summary))
    if summary.n_failures > len(summary.failures):
        say(f"{summary.n_failures - len(summary.failures):,} more failures are not named in the summary")


def _view(home: RunsHome, said: str) -> RunView:
    """Errors: RunMissing, AwsError."""
    return view(home, home.lookup(said))


def _summary(found: RunView, remedy: str = "look at another run") -> RunSummary:
    if found.summary is None:
        raise CloudexecError(found.trouble or f"run {found.run_id} has no summary", remedy=remedy)
    return found.summary


def _depths(home: RunsHome, found: RunView) -> Mapping[str, Mapping[str, int]]:
    """How many messages lie in the queues of a run that goes on."""
    summary = found.summary
    if summary is None or summary.is_over or summary.backend != "ecs":
        return {}
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    depths = {}
    for url in own_queues(home, found.run_id):
        request = {"QueueUrl": url, "AttributeNames": list(names)}
        said = home.place.ask("sqs", "get_queue_attributes", request).get("Attributes") or {}
        kind = next(kind for kind in KINDS if url.endswith(kind))
        depths[kind] = {"waiting": int(said.get(names[0], 0)), "taken": int(said.get(names[1], 0))}
    return depths


@click.command(name="cost")
@click.argument("run")
@json_option
@home_options
def cost(run: str, as_json: bool, **where: Any) -> None:
    """Estimate what RUN has cost, from its summary and list prices."""
    with home_of(**where) as home:
        seen = _view(home, run)
        found = cost_of_view(seen, known_tasks(home, _summary(seen)))
    if as_json:
        print_json(cost_json(found))
        return
    rows = [(one.what, f"{one.quantity:,.3g}", one.unit, shown_usd(one.usd), one.assumed) for one in found.items]
    print_table(("item", "quantity", "", "cost", "assumed"), rows, right=("quantity", "cost"))
    about = "about " if found.usd >= LEAST_SHOWN_USD else ""
    click.echo(f"{about}{shown_usd(found.usd)}, by list prices of {found.listed_for}, {found.listed}")
    for note in found.notes:
        say(note)


@click.command(name="logs")
@click.argument("run")
@click.argument("call", type=click.IntRange(min=1), required=False)
@click.option("--follow", "-f", "is_followed", is_flag=True, help="Go on until the run is over.")
@click.option("--since", type=Moment(), default=0.0, help="Only what was written since, e.g. 10m or 2026-11-21T18:30.")
@click.option("--worker", metavar="ID", default="", help="Only this worker's: a task's or an environment's id.")
@click.option("--raw", is_flag=True, help="Lines as they stand in the log.")
@json_option
@home_options
def logs(
    run: str,
    call: int | None,
    is_followed: bool,
    since: float,
    worker: str,
    raw: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Print what the workers and calls of RUN have printed, or one CALL: its number."""
    if "/" in run:
        run, _, number = run.partition("/")
        if not number.isdecimal() or int(number) < 1 or call is not None:
            raise click.BadParameter("give RUN/CALL, or RUN and CALL; the first call is 1")
        call = int(number)
    with home_of(**where) as home:
        summary = _summary(_view(home, run))
        if summary.where.region != home.place.region:
            what = f"run {summary.run_id} was in {summary.where.region}, and so is its log"
            raise SettingsError(what, remedy=f"give --region {summary.where.region}")
        wanted = Wanted(call=call or 0, worker=worker, since_s=since)
        n_lines = 0
        for line in (follow if is_followed else read_lines)(home, summary, wanted):
            n_lines += 1
            if as_json:
                click.echo(json.dumps(dataclasses.asdict(line)))
            else:
                click.echo(line.text if raw else log_text(line, summary.run_id))
    if not n_lines and not summary.where.logs_output:
        say("what calls print did not go to the log: log_output=False")
    elif not n_lines and call is not None and call > summary.counts.total and summary.is_over:
        say(f"run {summary.run_id} has no call {call}: {summary.counts.total} were submitted", "yellow")
    elif not n_lines:
        say("no lines yet; CloudWatch shows them some seconds after they were written")


# --- ending -----------------------------------------------------------------------------------


@click.command(name="stop")
@click.argument("run")
@click.option("--force", is_flag=True, help="Without the run's key: take away its queues, tasks and control object.")
@click.option("--cluster", default="", help="With --force, of a run without summary: where its tasks are.")
@yes_option
@json_option
@home_options
def stop(run: str, force: bool, cluster: str, yes: bool, as_json: bool, **where: Any) -> int:
    """End RUN: its calls, its workers, its queues."""
    with home_of(**where) as home:
        run_id, found = _view_if_any(home, run, force)
        if found is not None and found.summary is not None and found.summary.is_over and not force:
            said = {"run": run_id, "how": "over", "state": found.state}
            _told(as_json, said, [f"run {run_id} is over: {found.state}"])
            return 0
        if not confirmed(_question(run_id, found), yes=yes):
            return REFUSED
        if found is not None and not force:
            _stop_in_order(_summary(found, _by_force(run_id)), where)
            _told(
                as_json,
                {"run": run_id, "how": "in order"},
                [f"run {run_id} is stopped: calls, workers, queues, objects"],
            )
            return 0
        here = client_facts()
        report = force_stop(home, run_id, cluster=cluster, who=f"{here.user}@{here.host}")
    _told(as_json, {"how": "forced", **dataclasses.asdict(report), "run": run_id}, _stop_lines(report))
    return 0


def _view_if_any(home: RunsHome, said: str, force: bool) -> tuple[str, RunView | None]:
    """The run's id, and what is seen of it: None only with --force, of one without summary. Errors: RunMissing."""
    try:
        found = _view(home, said)
    except RunMissing:
        if not (force and is_run_id(said)):
            raise
        return said, None
    return found.run_id, found


def _question(run_id: str, found: RunView | None) -> str:
    if found is None or found.summary is None:
        return f"End run {run_id}?"
    counts = found.summary.counts
    still = f"{counts.running + counts.pending} calls open" if found.state == "running" else "its client is gone"
    return f"End run {run_id} of {who(found.summary)} ({found.state}, {still})?"


def _by_force(run_id: str) -> str:
    return f"`cloudexec stop {run_id} --force` takes away what it lives on"


def _stop_in_order(summary: RunSummary, where: Mapping[str, Any]) -> None:
    """where: the options; the run's key says the rest. Errors: SettingsError if only --force can do it."""
    run_id, remedy = summary.run_id, _by_force(summary.run_id)
    if summary.backend != "ecs":
        raise SettingsError(f"run {run_id} is a Lambda run: nobody else can end it in order", remedy=remedy)
    given = {name: where[name] for name in ("profile", "region", "endpoint_url")}
    try:
        executor = ECSExecutor.attach(run_id, take_over=True, **given)
    except RunMissing as error:
        raise SettingsError(f"run {run_id} cannot be ended in order: {error.what}", remedy=remedy) from error
    executor.terminate_workers()
    executor.shutdown(wait=True)


def _stop_lines(report: StopReport) -> list[str]:
    done = [f"its control object ({'removed' if report.had_control else 'there was none'})"]
    done += [f"queue {name}" for name in report.queues]
    done += [f"task {arn.rpartition('/')[2]}" for arn in report.tasks]
    lines = [f"run {report.run_id} was stopped: {', '.join(done)}", *report.notes]
    return [*lines, f"what it has stored is still there: `cloudexec clean --run {report.run_id}`"]


def _told(as_json: bool, value: Mapping[str, Any], lines: list[str]) -> None:
    if as_json:
        print_json(value)
        return
    for line in lines:
        say(line)


@click.command(name="clean")
@click.option("--older-than", type=Span(), default=None, help="Runs whose last sign of life is older; 7d by default.")
@click.option("--run", "run", default="", help="One run only, however young its remains are.")
@click.option("--summaries", is_flag=True, help="Their summaries, too.")
@yes_option
@json_option
@home_options
def clean(older_than: float | None, run: str, summaries: bool, yes: bool, as_json: bool, **where: Any) -> None:
    """Show what runs that are over have left behind; remove it with --yes. Nothing of runs that may be alive."""
    older_than_s = older_than if older_than is not None else 0.0 if run else OLDER_THAN_S
    with home_of(**where) as home:
        run_id = home.find(run) if run else ""
        found = find_remains(home, older_than_s=older_than_s, run_id=run_id, summaries=summaries)
        going = [one for one in found if not one.kept]
        kept = {one.run_id for one in found if one.kept}
        keys = _stale_keys(home, run_id, older_than_s, kept, {one.run_id for one in going})
        if yes:
            for one in going:
                remove(home, one)
            for key in keys:
                runkeys.forget(key)
    if as_json:
        said = [{**dataclasses.asdict(one), "run": one.run_id} for one in found]
        print_json({"removed": yes, "runs": said, "keys": keys})
        return
    if found:
        rows = [(*remains_row(one), one.kept or ("removed" if yes else "would be removed")) for one in found]
        numbers = ("queues", "objects", "MiB", "tasks")
        print_table(("run", *numbers, "summary", "what becomes of it"), rows, right=numbers)
    if keys:
        say(f"{len(keys)} keys of runs that are gone, on this machine: {'removed' if yes else 'would be removed'}")
    if not going and not keys:
        say("nothing to remove" + (f" of runs older than {shown_span(older_than_s)}" if older_than_s else ""))
    elif not yes:
        say("nothing was removed: repeat with --yes to do it")


def _stale_keys(home: RunsHome, run_id: str, older_than_s: float, kept: set[str], going: set[str]) -> list[str]:
    """Keys on this machine of runs in this bucket that nobody can attach to any more."""
    stale = []
    for one in filter(is_run_id, runkeys.known()):
        is_meant = one == run_id if run_id else begun_s(one) < time.time() - older_than_s
        if not is_meant or one in kept:
            continue
        try:
            key = runkeys.load(one)
        except RunMissing:
            continue
        is_here = (key.bucket, key.prefix.strip("/")) == (home.bucket, home.prefix)
        if is_here and (one in going or not _has_record(home, one)):
            stale.append(one)
    return stale


def _has_record(home: RunsHome, run_id: str) -> bool:
    return home.entry(home.run_prefix(run_id) + "run")[0] is not None
