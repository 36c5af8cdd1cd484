"""What is said of a run, and what of it may be removed, by its signs: tables."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.runs.cleaning import Traces, why_kept
from cloudexec.infra.runs.costs import cost_of, cost_of_view
from cloudexec.infra.runs.home import begun_s, is_run_id
from cloudexec.infra.runs.listing import RunView
from cloudexec.infra.runs.logs import LogLine, Wanted
from cloudexec.infra.runs.signs import DETACHED_S, Signs, shown_state
from cloudexec.observe.prices import US_EAST_1
from cloudexec.observe.summary import Counts, Invocations, RunSummary, Sums, Where, Worker

RUN = "r20261121-120000-abcdef"
WEEK_S = 7 * 86_400.0
ecs = RunSummary(run_id=RUN, backend="ecs", begun_s=1000.0, updated_s=1000.0)
on_lambda = replace(ecs, backend="lambda")
detached = replace(ecs, state="detached")
over = replace(ecs, state="done", ended_s=2000.0)


@pytest.mark.parametrize(
    ("summary", "signs", "state"),
    [
        pytest.param(ecs, Signs(5.0, 5.0, 2), "running", id="a fresh heartbeat"),
        pytest.param(ecs, Signs(85.0, 9999.0, 0), "running", id="three beats late, no worker yet"),
        pytest.param(ecs, Signs(300.0, 300.0, 2), "silent", id="no heartbeat, workers go on"),
        pytest.param(ecs, Signs(300.0, 300.0, None), "silent", id="no heartbeat, nobody may look at tasks"),
        pytest.param(ecs, Signs(300.0, 300.0, 0), "abandoned", id="no heartbeat, no workers"),
        pytest.param(ecs, Signs(1.0, 1.0, 1, is_dead=True), "silent", id="its process on this machine is gone"),
        pytest.param(ecs, Signs(None, 10.0, 0), "running", id="it has just begun"),
        pytest.param(ecs, Signs(None, 100.0, 0), "abandoned", id="its objects were removed"),
        pytest.param(on_lambda, Signs(None, 500.0, 0), "running", id="Lambda: short calls only, a summary of lately"),
        pytest.param(on_lambda, Signs(None, 700.0, 0), "abandoned", id="Lambda: not even a summary"),
        pytest.param(on_lambda, Signs(300.0, 10.0, 0), "abandoned", id="Lambda: long calls, no heartbeat"),
        pytest.param(detached, Signs(9999.0, 9999.0, 3), "detached", id="left by intention, workers go on"),
        pytest.param(detached, Signs(9999.0, 9999.0, 0), "detached", id="left by intention, all is done"),
        pytest.param(detached, Signs(None, 9999.0, 0), "abandoned", id="left, and its objects are gone"),
        pytest.param(over, Signs(None, 0.0, None), "done", id="over"),
    ],
)
def test_the_state_of_a_run_is(summary: RunSummary, signs: Signs, state: str) -> None:
    assert shown_state(summary, signs) == state


@pytest.mark.parametrize(
    ("traces", "older_than_s", "kept"),
    [
        pytest.param(Traces(summary=ecs, control_s=20.0, newest_s=20.0), 0.0, "was there", id="its client lives"),
        pytest.param(Traces(summary=None, control_s=20.0, newest_s=20.0), 0.0, "was there", id="no summary, it lives"),
        pytest.param(Traces(summary=ecs, control_s=5.0, newest_s=5.0, is_dead_here=True), 0.0, "", id="it died here"),
        pytest.param(Traces(summary=over, control_s=5.0, newest_s=5.0), 0.0, "", id="it says that it is over"),
        pytest.param(Traces(summary=ecs, control_s=200.0, newest_s=200.0), 0.0, "", id="silent, and asked for"),
        pytest.param(
            Traces(summary=ecs, control_s=200.0, newest_s=200.0), WEEK_S, "days old", id="silent, not for long"
        ),
        pytest.param(Traces(summary=ecs, control_s=WEEK_S, newest_s=WEEK_S), WEEK_S, "", id="silent for a week"),
        pytest.param(
            Traces(summary=detached, control_s=DETACHED_S - 1, newest_s=DETACHED_S),
            0.0,
            "detached",
            id="can be attached to",
        ),
        pytest.param(
            Traces(summary=detached, control_s=DETACHED_S + 1, newest_s=DETACHED_S),
            0.0,
            "",
            id="its results have expired",
        ),
        pytest.param(
            Traces(summary=on_lambda, control_s=None, newest_s=300.0),
            0.0,
            "wrote its summary",
            id="Lambda, short calls",
        ),
        pytest.param(Traces(summary=None, control_s=None, newest_s=WEEK_S - 1), WEEK_S, "days old", id="young objects"),
        pytest.param(Traces(summary=None, control_s=None, newest_s=WEEK_S), WEEK_S, "", id="old objects of nobody"),
    ],
)
def test_what_is_left_of_a_run_is_kept_because(traces: Traces, older_than_s: float, kept: str) -> None:
    why = why_kept(traces, older_than_s)
    assert kept in why if kept else why == ""


def test_an_id_tells_when_its_run_began() -> None:
    assert begun_s("r20261121-120000-abcdef") == 1795262400.0


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        pytest.param(RUN, True, id="a run's"),
        pytest.param("r20260229-120000-abcdef", False, id="no such day"),
        pytest.param("r20269999-999999-abcdef", False, id="no such month"),
        pytest.param("r20261121-120000-ABCDEF", False, id="other digits"),
        pytest.param(f"{RUN}\n", False, id="more"),
    ],
)
def test_only_what_tells_a_moment_is_an_id(text: str, is_one: bool) -> None:
    assert is_run_id(text) is is_one


# --- lines -------------------------------------------------------------------------------------

LOGGED = replace(ecs, where=Where(log_group="/ecs/x", log_stream_prefix="p/worker/"))


@pytest.mark.parametrize(
    ("wanted", "request_has"),
    [
        pytest.param(Wanted(), {"filterPattern": f'"{RUN}"', "logStreamNamePrefix": "p/worker/"}, id="a run"),
        pytest.param(Wanted(call=7), {"filterPattern": f'"{RUN}/7"', "logStreamNamePrefix": "p/worker/"}, id="a call"),
        pytest.param(Wanted(worker="w"), {"logStreamNames": ["p/worker/w"]}, id="all that a worker's container wrote"),
        pytest.param(
            Wanted(worker="w", call=7),
            {"logStreamNames": ["p/worker/w"], "filterPattern": f'"{RUN}/7"'},
            id="a call in a worker",
        ),
    ],
)
def test_lines_are_asked_for_by(wanted: Wanted, request_has: dict[str, object]) -> None:
    assert wanted.request(LOGGED) == {"logGroupName": "/ecs/x", **request_has}


@pytest.mark.parametrize(
    ("wanted", "text", "taken"),
    [
        (Wanted(call=1), f"{RUN}/1 out| x", True),
        (Wanted(call=1), f"{RUN}/17 out| x", False),
        (Wanted(call=1), f"{RUN}/2 out| {RUN}/1 out| x", False),
        (Wanted(), f"{RUN}/17 err| x", True),
        (Wanted(), f"{RUN} cloudexec worker: x", True),
        (Wanted(), f"somebody speaks of {RUN}", False),
        (Wanted(worker="w"), "ModuleNotFoundError", True),
        (Wanted(worker="v"), "ModuleNotFoundError", False),
    ],
)
def test_of_what_is_found_only_the_run_s_own_lines_are_shown(wanted: Wanted, text: str, taken: bool) -> None:
    assert wanted.takes(LOGGED, LogLine(at_s=0.0, stream="p/worker/w", text=text, id="1")) is taken


def test_a_run_without_a_log_says_so() -> None:
    with pytest.raises(SettingsError, match="awslogs"):
        Wanted().request(ecs)


# --- costs -------------------------------------------------------------------------------------


def bill(summary: RunSummary, now_s: float = 5000.0) -> dict[str, float]:
    return {item.what: item.usd for item in cost_of(summary, now_s=now_s).items}


def worker(**changes: object) -> Worker:
    usual = {
        "id": "w",
        "capacity": "on-demand",
        "vcpu": 2.0,
        "memory_mib": 4096,
        "started_s": 1000.0,
        "stopped_s": 4600.0,
    }
    return Worker(**{**usual, **changes})  # type: ignore[arg-type]  # a table


def test_tasks_are_billed_by_size_time_and_capacity() -> None:
    hour = 2 * US_EAST_1.fargate_vcpu_h["x86_64"] + 4 * US_EAST_1.fargate_gb_h["x86_64"]
    of = lambda *workers: bill(replace(over, workers=workers, n_workers=len(workers), ended_s=4600.0))  # noqa: E731
    assert of(worker())["Fargate, on-demand"] == pytest.approx(hour)
    assert of(worker(capacity="spot"))["Fargate, spot"] == pytest.approx(hour * (1 - US_EAST_1.spot_discount))
    assert of(worker(stopped_s=1001.0))["Fargate, on-demand"] == pytest.approx(hour / 60), "a minute at least"
    assert of(worker(stopped_s=None))["Fargate, on-demand"] == pytest.approx(hour), "until the end of the run"
    assert of(worker(capacity="own"))["own capacity"] == 0.0


def test_workers_that_are_not_named_cost_as_much_as_the_others() -> None:
    one = replace(over, workers=(worker(),), n_workers=1, ended_s=4600.0)
    assert bill(replace(one, n_workers=3))["Fargate, on-demand"] == pytest.approx(3 * bill(one)["Fargate, on-demand"])


def test_invocations_are_billed_by_memory_and_time() -> None:
    used = Invocations(n=1000, billed_s=500.0)
    summary = replace(on_lambda, where=Where(memory_mib=2048, arch="arm64", region="us-east-1"), invocations=used)
    found = bill(summary)
    assert found["Lambda compute"] == pytest.approx(1000 * US_EAST_1.lambda_gb_s["arm64"])
    assert found["Lambda requests"] == pytest.approx(1000 * US_EAST_1.lambda_request)


def test_requests_grow_with_calls_and_with_time() -> None:
    calls = replace(over, counts=Counts(done=1_000_000), sums=Sums(run_s=1e6), ended_s=4600.0)
    assert bill(calls)["SQS requests"] == pytest.approx((1.32e6 + 1e6 / 15 + 180) * US_EAST_1.sqs_request)
    assert bill(calls)["S3 requests"] < 0.03


def test_another_region_is_told_and_a_run_that_goes_on_is_counted_until_now() -> None:
    abroad = replace(ecs, where=Where(region="eu-west-1"), workers=(worker(stopped_s=None),), n_workers=1)
    cost = cost_of(abroad, now_s=8200.0)
    assert "eu-west-1" in cost.notes[0]
    assert cost.items[0].quantity == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("state", "n_tasks", "hours"),
    [
        pytest.param("abandoned", 0, 0.5, id="client and workers are gone"),
        pytest.param("silent", None, 0.5, id="the client is gone, and nobody may look at tasks"),
        pytest.param("detached", 0, 0.5, id="its workers have ended"),
        pytest.param("silent", 1, None, id="the client is gone, a worker is there"),
        pytest.param("detached", 1, None, id="a worker is there"),
        pytest.param("running", 0, None, id="the client is there"),
    ],
)
def test_a_worker_of_unknown_end_is_billed_until_the_last_word_of_a_run_that_was_left_and_else_until_now(
    state: str, n_tasks: int | None, hours: float | None
) -> None:
    begun_s = time.time() - WEEK_S
    on = worker(started_s=begun_s, stopped_s=None)
    summary = replace(ecs, begun_s=begun_s, updated_s=begun_s + 1800.0, workers=(on,), n_workers=1)
    cost = cost_of_view(RunView(run_id=RUN, state=state, summary=summary, signs=Signs(WEEK_S, WEEK_S, n_tasks)))
    assert cost.items[0].quantity == pytest.approx(hours or WEEK_S / 3600, rel=1e-3)
    assert any("last word of its client" in note for note in cost.notes) is (hours is not None)
