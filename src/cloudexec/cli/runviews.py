"""Runs as tables for people and as JSON for programs. Pure, but for the clock.

Called by: runs.py.   Calls: infra.runs for types, observe.summary.
JSON:      docs/runs.md tells the fields; what stands there is kept.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cloudexec.cli.spans import shown_moment, shown_span
from cloudexec.infra.runs.cleaning import Remains
from cloudexec.infra.runs.costs import RunCost, cost_of_view
from cloudexec.infra.runs.listing import RunView
from cloudexec.infra.runs.logs import LogLine
from cloudexec.observe.summary import Durations, RunSummary

HEADINGS: Final = ("run", "name", "backend", "state", "begun", "done", "failed", "open", "workers", "cost", "who")
NUMBERS: Final = ("done", "failed", "open", "workers", "cost")
LEAST_SHOWN_USD: Final = 0.0001
_MIB: Final = 1 << 20
_ESCAPES: Final = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")  # colours may stay


def plain(text: str) -> str:
    """Without what a terminal would obey: a summary may be anybody's who can write to the bucket."""
    return "".join(one if one.isprintable() else "·" for one in text)


def shown_usd(usd: float) -> str:
    """Cents from a dollar on, more digits below; what is less than can be shown is not nothing."""
    if usd <= 0:
        return "$0"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}" if usd >= LEAST_SHOWN_USD else "<$0.0001"


def who(summary: RunSummary) -> str:
    """Who runs it: user and host, or the end of the identity's ARN."""
    client = summary.client
    if client.user or client.host:
        return plain(f"{client.user}@{client.host}")
    return plain(client.arn.rpartition("/")[2])


def list_row(view: RunView) -> Sequence[object]:
    """A line of `cloudexec runs`."""
    summary = view.summary
    if summary is None:
        return (view.run_id, "", "", view.state, "", "", "", "", "", "", view.trouble[:60])
    counts = summary.counts
    n_workers = summary.n_workers if summary.backend == "ecs" else summary.invocations.n
    begun = f"{shown_moment(summary.begun_s)} ({shown_span(time.time() - summary.begun_s)} ago)"
    return (
        view.run_id,
        plain(summary.name),
        summary.backend,
        view.state,
        begun,
        counts.done,
        counts.failed,
        counts.pending + counts.running,
        n_workers,
        shown_usd(cost_of_view(view).usd),
        who(summary),
    )


def list_json(view: RunView) -> dict[str, Any]:
    """An entry of `cloudexec runs --json`."""
    summary = view.summary
    if summary is None:
        return {"run": view.run_id, "state": view.state, "trouble": view.trouble, "summary": None, "usd": None}
    said = dataclasses.asdict(summary)
    for name in ("failures", "workers"):
        del said[name]
    return {"run": view.run_id, "state": view.state, "trouble": "", "summary": said, "usd": cost_of_view(view).usd}


def run_json(view: RunView, queues: Mapping[str, Any]) -> dict[str, Any]:
    """What `cloudexec show --json` prints."""
    summary = view.summary
    signs = view.signs._asdict() if view.signs is not None else None
    said = dataclasses.asdict(summary) if summary is not None else None
    return {
        "run": view.run_id,
        "state": view.state,
        "trouble": view.trouble,
        "signs": signs,
        "queues": queues or None,
        "summary": said,
        "usd": cost_of_view(view).usd if summary is not None else None,
    }


def run_facts(view: RunView, queues: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    """What `cloudexec show` prints first: names and values."""
    summary = view.summary
    assert summary is not None
    counts, sums, where = summary.counts, summary.sums, summary.where
    client = summary.client
    end = f", ended {shown_moment(summary.ended_s)}" if summary.ended_s is not None else ""
    last_s = summary.ended_s if summary.ended_s is not None else time.time()
    facts = [
        ("run", view.run_id + (f" ({summary.name})" if summary.name else "")),
        ("state", view.state + (f": {summary.reason}" if summary.reason else "")),
        ("begun", f"{shown_moment(summary.begun_s)}{end} ({shown_span(last_s - summary.begun_s)})"),
        ("told", f"{shown_moment(summary.updated_s)}, by the client"),
        ("who", f"{who(summary)}, pid {client.pid}, Python {client.python}, cloudexec {client.cloudexec}"),
        ("identity", client.arn),
        ("where", _where(summary)),
        ("log", where.log_group + ("" if where.logs_output else " (without what calls print)")),
        (
            "calls",
            f"{counts.done:,} done, {counts.failed:,} failed, {counts.running:,} running, {counts.pending:,} pending, "
            f"{counts.cancelled:,} cancelled of {counts.total:,}{_percent(summary)}",
        ),
        ("retries", ", ".join(f"{n:,} for {cause}" for cause, n in counts.retries.items())),
        (
            "time in calls",
            f"{shown_span(sums.run_s)}, CPU {shown_span(sums.cpu_s)}, most memory of a slot "
            f"{sums.peak_memory_bytes / _MIB:,.0f} MiB",
        ),
        ("durations", shown_durations(summary.durations)),
        ("workers", _workers(summary)),
        ("queues", "; ".join(f"{kind}: {n['waiting']} waiting, {n['taken']} taken" for kind, n in queues.items())),
        ("cost", f"{shown_usd(cost_of_view(view).usd)}, estimated; `cloudexec cost {view.run_id}` has the items"),
        ("what to do", hint(view)),
    ]
    return [(name, plain(text)) for name, text in facts if text]


def hint(view: RunView) -> str:
    """How to go on with a run in this state."""
    run_id, summary = view.run_id, view.summary
    can_attach = summary is not None and summary.backend == "ecs"
    attach = f'ECSExecutor.attach("{run_id}") where its key is; ' if can_attach else ""
    if view.state == "abandoned":
        return f"its client is gone. {attach}`cloudexec stop {run_id}` ends it, `cloudexec clean` removes what is left"
    if view.state == "silent":
        return f"its client is gone, its workers go on for a while. {attach}or `cloudexec stop {run_id}`"
    if view.state == "detached":
        return f"{attach}or `cloudexec stop {run_id}`"
    return ""


def _percent(summary: RunSummary) -> str:
    counts = summary.counts
    over = counts.done + counts.failed + counts.cancelled
    return f" ({over / counts.total:.0%})" if counts.total and not summary.is_over else ""


def _where(summary: RunSummary) -> str:
    where = summary.where
    if summary.backend == "lambda":
        functions = ", ".join(where.functions) + (f":{where.qualifier}" if where.qualifier else "")
        return f"Lambda {functions}, {where.memory_mib} MiB, {where.arch}, {where.region}"
    image = where.image or where.task_definition.rpartition("/")[2]
    size = f"{where.vcpu:g} vCPU, {where.memory_mib} MiB, {where.slots} slots"
    return f"cluster {where.cluster}, {image}, {size}, {where.capacity}, {where.arch}, {where.region}"


def _workers(summary: RunSummary) -> str:
    if summary.backend == "lambda":
        used = summary.invocations
        return (
            f"{used.n:,} invocations, {used.billed_s:,.1f} s, {used.throttled:,} refused; at most {summary.max_workers}"
        )
    kinds = Counter(worker.capacity or "?" for worker in summary.workers)
    up = sum(worker.stopped_s is None for worker in summary.workers)
    by_kind = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return (
        f"{summary.n_workers:,} so far ({by_kind}), {up} not known to have ended; at most {summary.max_workers} calls"
        if summary.n_workers
        else ""
    )


def shown_durations(durations: Durations) -> str:
    """Those that there are: `17 up to 1 s, 3 up to 10 s`."""
    bounds = [f"up to {bound:g} s" for bound in durations.bounds_s] + [f"above {durations.bounds_s[-1]:g} s"]
    return ", ".join(f"{n:,} {bound}" for bound, n in zip(bounds, durations.counts, strict=True) if n)


def failure_rows(summary: RunSummary) -> Iterable[Sequence[object]]:
    """Lines of the table of failures: call, name, error, message, worker, attempts."""
    for one in summary.failures:
        yield one.call, plain(one.name), plain(one.type), plain(one.message), plain(one.worker), one.attempts


def cost_json(cost: RunCost) -> dict[str, Any]:
    """What `cloudexec cost --json` prints."""
    return {**dataclasses.asdict(cost), "run": cost.run_id, "usd": cost.usd}


def remains_row(remains: Remains) -> Sequence[object]:
    """A line of `cloudexec clean`, without what becomes of it."""
    return (
        remains.run_id,
        len(remains.queues),
        remains.n_objects,
        f"{remains.n_bytes / _MIB:,.1f}",
        len(remains.tasks),
        "yes" if remains.has_summary else "",
    )


def log_text(line: LogLine, run_id: str) -> str:
    """A line for people: the time, the call or the worker, and what it says."""
    at = time.strftime("%H:%M:%S", time.localtime(line.at_s))
    said = _ESCAPES.sub("·", line.text)
    if said.startswith(run_id + "/"):
        return f"{at} {said[len(run_id) + 1 :]}"
    own = f"{run_id} cloudexec worker: "
    text = said[len(own) :] if said.startswith(own) else said
    return f"{at} {plain(line.stream).rpartition('/')[2].rpartition(']')[2][:8]} worker| {text}"
