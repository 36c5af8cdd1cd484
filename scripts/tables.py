#!/usr/bin/env python3
"""Write the tables of the documentation that are computed: costs and times, in docs/lambda.md and docs/cost.md.

    python scripts/tables.py [--check] [PAGE …]

Called by: people after a change of prices or of the model; with `--check` (exit status 1 if a table is stale) by
tests/docs/test_tables.py.   Calls: cloudexec.observe.estimates, prices; made_tables.py.
A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from made_tables import settle

from cloudexec.errors import SettingsError
from cloudexec.observe.estimates import Estimate, FargateShape, LambdaShape, Work, on_fargate, on_lambda
from cloudexec.observe.prices import US_EAST_1

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "docs" / "lambda.md", ROOT / "docs" / "cost.md")
MEMORY_A_VCPU = 1769  # MB, of a function
N_TASKS = 100
CALLS_S = (1, 10, 60, 900)
COUNTS = (100, 10_000, 1_000_000)
TABLE = re.compile(r"(?P<begin><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end of table -->)", re.DOTALL)


def lambda_or_ecs() -> str:
    """When Lambda, when ECS: each length of call by each number of calls."""
    lines = [
        "| calls | of | Lambda: last result after | x86 | Arm | ECS: tasks | last result after | Fargate | Spot |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(Work(n_calls=n_calls, call_s=call_s)) for call_s in CALLS_S for n_calls in COUNTS]
    return "\n".join(lines) + "\n"


def _row(work: Work) -> str:
    cells = [f"{work.n_calls:,}", f"{work.call_s:g} s"]
    try:
        x86, arm = on_lambda(work), on_lambda(work, LambdaShape(arch="arm64"))
        cells += [duration(x86.makespan_s), dollars(x86.usd), dollars(arm.usd)]
    except SettingsError:
        cells += ["too long", "–", "–"]
    plain, spot = on_fargate(work), on_fargate(work, FargateShape(spot=True))
    cells += [f"{plain.n_places:,}", duration(plain.makespan_s), dollars(plain.usd), dollars(spot.usd)]
    return f"| {' | '.join(cells)} |"


def rates() -> str:
    """The list prices that everything else is computed from."""
    prices = US_EAST_1
    task_h = {arch: prices.fargate_vcpu_h[arch] + 2 * prices.fargate_gb_h[arch] for arch in ("x86_64", "arm64")}
    vcpu_h = {arch: 3600 * MEMORY_A_VCPU / 1024 * prices.lambda_gb_s[arch] for arch in ("x86_64", "arm64")}
    assumed = f"assumed: {100 * prices.spot_discount:.0f} % less; AWS changes it daily"
    rows: list[tuple[str, float, str, str]] = [
        (
            "Fargate, 1 vCPU and 2 GiB, x86",
            task_h["x86_64"],
            " an hour",
            "from the image's pull on; a minute at least",
        ),
        ("the same, Arm", task_h["arm64"], " an hour", ""),
        ("the same, x86, Spot", (1 - prices.spot_discount) * task_h["x86_64"], " an hour", assumed),
        ("a public address of a task", prices.public_ipv4_h, " an hour", "in public subnets"),
        (
            "Lambda, 1,769 MB (1 vCPU), x86",
            vcpu_h["x86_64"],
            " an hour",
            "while an invocation runs, by the millisecond",
        ),
        ("the same, Arm", vcpu_h["arm64"], " an hour", ""),
        ("a million invocations", 1e6 * prices.lambda_request, "", ""),
        ("a million requests to SQS", 1e6 * prices.sqs_request, "", "each 64 KiB of a request counts"),
        ("a thousand writes to S3", 1e3 * prices.s3_write, "", "large arguments and results, journal"),
        ("a thousand reads of S3", 1e3 * prices.s3_read, "", ""),
        ("a GB of log", prices.logs_gb, "", "once, when it is written"),
    ]
    lines = [f"| {what} | {dollars(usd)}{unit} | {when} |" for what, usd, unit, when in rows]
    return "\n".join(["| what | price | when |", "|---|---:|---|", *lines]) + "\n"


def at_rest() -> str:
    """What lies somewhere while nothing runs."""
    prices = US_EAST_1
    rows = [
        ("the code of function and workers, some MB", prices.s3_gb_month, "until `cloudexec down`"),
        ("objects of runs that were not shut down", prices.s3_gb_month, "7 days"),
        ("summaries of runs, some KB each", prices.s3_gb_month, "90 days"),
        ("jobs and their results", prices.s3_gb_month, "30 days"),
        ("logs of workers and functions", prices.logs_gb_month, "14 days"),
        ("images, if you build any", prices.ecr_gb_month, "until you remove them"),
    ]
    lines = [f"| {what} | {dollars(usd)} | {kept} |" for what, usd, kept in rows]
    return "\n".join(["| what | a GB for a month | kept for |", "|---|---:|---|", *lines]) + "\n"


EXAMPLES = (
    ("10,000 images of 1 s", Work(n_calls=10_000, call_s=1), {}),
    ("1,000 simulations of 5 min", Work(n_calls=1_000, call_s=300), {}),
    ("200 models of 10 min, 4 threads, 8 GB", Work(n_calls=200, call_s=600), {"vcpu": 4.0, "memory_mib": 8192}),
    ("50 models of 2 h, 4 threads, 8 GB", Work(n_calls=50, call_s=7200), {"vcpu": 4.0, "memory_mib": 8192}),
    ("a million rows of 0.1 s", Work(n_calls=1_000_000, call_s=0.1), {}),
)


def examples() -> str:
    """Pieces of work, in both places."""
    lines = [
        f"| work | Lambda | Lambda, last result | Fargate, {N_TASKS} tasks at most | Spot | last result |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, work, shape in EXAMPLES:
        tasks = {**shape, "max_tasks": N_TASKS}
        plain, spot = (on_fargate(work, FargateShape(**tasks, spot=spot)) for spot in (False, True))
        memory_mib = min(10_240, int(MEMORY_A_VCPU * shape.get("vcpu", 1)))
        cells = [name, *_lambda_cells(work, LambdaShape(memory_mib=memory_mib))]
        cells += [dollars(plain.usd), dollars(spot.usd), duration(plain.makespan_s)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _lambda_cells(work: Work, shape: LambdaShape) -> tuple[str, str]:
    try:
        found = on_lambda(work, shape)
    except SettingsError:
        return "–", "above 15 min"
    return dollars(found.usd), duration(found.makespan_s)


def pool_or_task() -> str:
    """Why containers stay: a task for each call, and a pool of them."""
    work = Work(n_calls=10_000, call_s=1)
    alone = FargateShape(max_tasks=work.n_calls, fill_s=work.call_s)
    hourly = US_EAST_1.fargate_vcpu_h["x86_64"] + alone.memory_mib / 1024 * US_EAST_1.fargate_gb_h["x86_64"]
    billed_s = work.n_calls * max(alone.least_s, alone.start_s + work.call_s)
    launched_s = alone.ramp.waves(work.n_calls)[-1][0]
    each = 2 * US_EAST_1.s3_write + 2 * US_EAST_1.s3_read
    pool: Estimate = on_fargate(work, FargateShape(max_tasks=N_TASKS))
    lines = [
        f"| {work.n_calls:,} calls of {work.call_s:g} s | a task for each | {pool.n_places} tasks that stay |",
        "|---|---:|---:|",
        f"| Fargate | {dollars(billed_s / 3600 * hourly)} | {dollars(pool.compute_usd)} |",
        f"| requests (on the left two writes and two reads of S3 a call) | {dollars(work.n_calls * each)} | "
        f"{dollars(pool.requests_usd)} |",
        f"| last result after | {duration(launched_s + alone.start_s + work.call_s)} | {duration(pool.makespan_s)} |",
    ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """For people, with two or three digits."""
    for unit_s, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{_short(seconds / unit_s)} {unit}"
    return f"{_short(seconds)} s"


def dollars(usd: float) -> str:
    """To the cent; what is below ten cents with two digits."""
    return f"${usd:,.2f}" if usd >= 0.1 else f"${float(f'{usd:.2g}'):f}".rstrip("0")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


TABLES: dict[str, Callable[[], str]] = {
    "lambda-or-ecs": lambda_or_ecs,
    "rates": rates,
    "at-rest": at_rest,
    "examples": examples,
    "pool-or-task": pool_or_task,
}


def rewritten(text: str) -> str:
    """The page with its tables computed anew. Errors: ValueError if it has none, or one that nobody computes."""

    def table(found: re.Match[str]) -> str:
        if found["name"] not in TABLES:
            raise ValueError(f"nobody computes a table {found['name']!r}; there are {', '.join(TABLES)}")
        return f"{found['begin']}{TABLES[found['name']]()}{found['end']}"

    new, count = TABLE.subn(table, text)
    if not count:
        raise ValueError("the page has no table between '<!-- table: NAME -->' and '<!-- end of table -->'")
    return new


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Write the computed tables of pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is stale")
    parser.add_argument("pages", nargs="*", type=Path)
    given = parser.parse_args()
    pages = given.pages or PAGES
    return max(settle(page, rewritten, check=given.check, by="scripts/tables.py") for page in pages)


if __name__ == "__main__":
    sys.exit(main())
