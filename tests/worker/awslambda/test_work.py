"""What an invocation does with its calls, and what it answers."""

from __future__ import annotations

import os
import platform
import time

import pytest

from cloudexec.errors import PayloadTooLarge
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Kind, Seal, new_key
from tests.contract import calls
from tests.worker.agent import deeds


def test_calls_run_and_their_outcomes_stand_in_the_answer(caller):
    batch = [caller.call(calls.double, n) for n in range(5)]
    report = caller.run(*batch, caller.call(calls.fail, "on purpose"))
    *values, error = caller.values(report).values()
    assert values == [0, 2, 4, 6, 8]
    assert repr(error) == "ValueError('on purpose')"


def test_an_environment_tells_its_facts_once_and_counts_its_invocations(caller):
    first, second = caller.run(caller.call(calls.double, 1)), caller.run(caller.call(calls.double, 2))
    assert first.worker == second.worker == "0123456789abcdef0123456789abcdef"
    assert (first.number, second.number) == (1, 2)
    assert first.facts["python"] == platform.python_version()
    assert first.facts["memory_mb"] == "1769"
    assert first.facts["cold"] == "true"
    assert not second.facts


def test_slots_stay_warm_from_one_invocation_to_the_next(caller):
    pids = {caller.value(caller.run(caller.call(os.getpid)).outcomes[0][1]) for _ in range(3)}
    assert len(pids) == 1


def test_another_run_gets_slots_of_its_own(caller):
    def slot() -> int:
        return caller.value(caller.run(caller.call(os.getpid)).outcomes[0][1])

    first = slot()
    caller.another_run()
    assert slot() != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_other_settings_of_the_same_run_get_other_slots(caller):
    first, second = (caller.run(caller.call(os.getpid), max_tasks_per_child=limit) for limit in (0, 9))
    assert caller.values(first).popitem()[1] != caller.values(second).popitem()[1]


def test_several_slots_share_a_batch(caller, tmp_path):
    batch = [caller.call(deeds.meet, os.fspath(tmp_path), str(n), 3) for n in range(3)]
    report = caller.run(*batch, n_slots=3)
    assert len(set(caller.values(report).values())) == 3


def test_what_waits_behind_a_long_call_goes_to_an_idle_slot(caller, tmp_path):
    gate = tmp_path / "gate"
    batch = [caller.call(deeds.wait_for, os.fspath(gate)), caller.call(calls.double, 1)]
    batch += [caller.call(calls.double, 2), caller.call(calls.double, 3), caller.call(os.mknod, os.fspath(gate))]
    report = caller.run(*batch, n_slots=2)
    assert caller.values(report)[batch[0].number] == "seen"


def test_a_call_that_kills_its_slot_is_named_and_its_neighbours_run(caller, tmp_path):
    before, after = caller.call(calls.double, 1), caller.call(calls.double, 2)
    guilty = caller.call(deeds.run_into_wall, os.fspath(tmp_path / "diary"))
    report = caller.run(before, guilty, after)
    assert caller.values(report) == {before.number: 2, after.number: 4}
    (stop,) = report.down
    assert (stop.why, stop.exitcode, stop.running_call) == (DownCause.DIED, -9, guilty.number)
    assert not report.leaving


def test_a_call_that_exits_is_named(caller):
    (stop,) = caller.run(caller.call(os._exit, 7)).down
    assert (stop.why, stop.exitcode) == (DownCause.DIED, 7)
    assert caller.values(caller.run(caller.call(calls.double, 1))) == {2: 2}


def test_a_call_that_runs_too_long_is_killed(caller):
    call = caller.call(calls.sleep, 60.0, timeout_s=0.2)
    (stop,) = caller.run(call).down
    assert (stop.why, stop.killed_call) == (DownCause.TIMEOUT, call.number)


def test_a_supervisor_that_dies_is_replaced(caller):
    first = caller.call(kill_supervisor)
    report = caller.run(first, caller.call(calls.double, 4))
    assert [stop.why for stop in report.down] == [DownCause.LOST]
    assert caller.values(report) == {2: 8}


def kill_supervisor() -> None:
    os.kill(os.getppid(), 9)
    time.sleep(30)


def test_a_slot_that_dies_between_two_invocations_is_replaced(caller):
    pid = caller.value(caller.run(caller.call(os.getpid)).outcomes[0][1])
    os.kill(pid, 9)
    report = caller.run(caller.call(os.getpid))
    assert not report.down
    assert caller.value(report.outcomes[0][1]) != pid


def test_max_tasks_per_child_gives_each_call_a_fresh_slot(caller):
    report = caller.run(*(caller.call(os.getpid) for _ in range(3)), max_tasks_per_child=1)
    assert len(set(caller.values(report).values())) == 3
    assert not report.down


def test_a_call_that_ran_before_the_answer_is_not_charged_for_a_slot_that_retires(caller):
    for _ in range(2):
        report = caller.run(caller.call(calls.double, 1), max_tasks_per_child=1)
        assert (list(caller.values(report).values()), report.down) == ([2], [])


def test_the_output_of_a_call_travels_with_its_outcome(caller):
    ((_, outcome),) = caller.run(caller.call(print, "hello")).outcomes
    assert b"hello\n" in bytes(outcome.out)


def test_an_initializer_runs_once_in_each_slot(caller):
    import base64

    packed = base64.b64encode(caller.initializer(deeds.warm_up, "text")).decode()
    for _ in range(2):
        report = caller.run(caller.call(deeds.warmth), initializer=packed)
        assert list(caller.values(report).values()) == [["text"]]


def test_an_initializer_that_raises_is_told_by_itself(caller):
    import base64

    packed = base64.b64encode(caller.initializer(deeds.fail_to_start, "no luck")).decode()
    call = caller.call(calls.double, 1)
    report = caller.run(call, initializer=packed)
    assert report.failed_start
    assert report.broken
    assert report.requeued == [(call.number, 1)]
    assert repr(caller.value(report.outcomes[0][1])) == "RuntimeError('no luck')"
    assert caller.values(caller.run(caller.call(calls.double, 2))) == {2: 4}, "other settings work"


def test_slots_that_die_again_and_again_are_given_up(caller):
    import base64

    packed = base64.b64encode(caller.initializer(os._exit, 3)).decode()
    call = caller.call(calls.double, 1)
    report = caller.run(call, initializer=packed)
    assert report.broken
    assert "exit code 3" in report.leaving
    assert report.requeued == [(call.number, 1)]


# --- the function's own time ---


def test_near_the_function_s_timeout_running_calls_are_killed_and_waiting_ones_given_back(caller):
    caller.run(caller.call(calls.double, 0))
    done, runs, waits = caller.call(calls.double, 1), caller.call(print_and_sleep), caller.call(calls.double, 2)
    began_s = time.monotonic()
    report = caller.run(done, runs, waits, seconds=1.5)
    assert 0.4 < time.monotonic() - began_s < 1.4
    assert caller.values(report) == {done.number: 2}
    (stop,) = report.down
    assert (stop.why, stop.killed_call) == (DownCause.DEADLINE, runs.number)
    assert "the function's own timeout was near" in stop.last_words
    assert "these were my words" in stop.last_words
    assert report.requeued == [(waits.number, 1)]
    assert not report.leaving
    assert caller.values(caller.run(caller.call(calls.double, 3))) == {5: 6}


def print_and_sleep() -> None:
    import sys

    print("these were my words", file=sys.stderr, flush=True)
    time.sleep(60)


def test_a_supervisor_that_hangs_does_not_cost_the_answer(caller):
    call = caller.call(stop_supervisor)
    (stop,) = caller.run(call, seconds=2.0).down
    assert (stop.why, stop.killed_call) == (DownCause.DEADLINE, call.number)
    assert caller.values(caller.run(caller.call(calls.double, 3))) == {2: 6}


def stop_supervisor() -> None:
    os.kill(os.getppid(), 19)
    time.sleep(60)


def test_an_initializer_that_takes_for_ever_is_told_after_some_invocations(caller):
    import base64

    packed = base64.b64encode(caller.initializer(time.sleep, 60)).decode()
    reports = [caller.run(caller.call(calls.double, 1), seconds=0.4, initializer=packed) for _ in range(3)]
    assert all(report.requeued for report in reports)
    assert [report.broken for report in reports] == [False, False, True]
    assert "initializer" in reports[-1].leaving


# --- what is refused ---


def refusal(caller, event):
    answer = caller.answer_in(caller.invoke(event))
    return answer.refused_error, answer.refused_what


def test_another_python_is_refused_by_name(caller):
    error, what = refusal(caller, caller.event(caller.call(calls.double, 1), python_version="3.9"))
    assert error == "VersionMismatch"
    assert "3.9" in what
    assert ".".join(platform.python_version_tuple()[:2]) in what


def test_a_batch_with_another_signature_is_refused_and_not_read(caller):
    error, _ = refusal(caller, caller.event(caller.call(calls.double, 1), seal=Seal(new_key())))
    assert error == "SignatureError"


def test_a_message_of_another_kind_is_no_batch(caller):
    error, _ = refusal(caller, caller.event_around(caller.seal.close(Kind.CONTROL, b"{}")))
    assert error == "SignatureError"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"key1": "value1"}, id="a test event of the console"),
        pytest.param({"cloudexec": 99, "key": "00" * 32}, id="another format"),
        pytest.param({"cloudexec": 1, "key": "secret-secret", "settings": {}}, id="a damaged key"),
        pytest.param([], id="not even an object"),
    ],
)
def test_what_is_no_invocation_is_refused_without_quoting_it(caller, event, capfd):
    error, what = refusal(caller, event)
    assert error == "WireError"
    assert "secret" not in what + capfd.readouterr().err


def test_a_stored_batch_needs_a_bucket(caller):
    event = {**caller.event(), "stored": "batches/1"}
    assert refusal(caller, event)[0] == "WireError"


# --- sizes ---


def test_without_a_bucket_a_large_result_lies_in_the_answer(caller):
    report = caller.run(caller.call(deeds.text_of, 3_000_000))
    assert len(caller.values(report)[1]) == 3_000_000


def test_without_a_bucket_a_result_above_the_answer_s_limit_is_refused_and_its_neighbours_arrive(caller):
    report = caller.run(
        caller.call(calls.double, 1), caller.call(deeds.text_of, 7_000_000), caller.call(calls.double, 2)
    )
    values = caller.values(report)
    assert (values[1], values[3]) == (2, 4)
    assert isinstance(values[2], PayloadTooLarge)
    assert "bucket=" in values[2].remedy


def test_without_a_bucket_calls_whose_results_might_not_fit_beside_the_others_are_not_begun(caller):
    batch = [caller.call(deeds.text_of, size) for size in (2_000_000, 2_500_000, 1_500_000)]
    report = caller.run(*batch)
    assert [len(value) for value in caller.values(report).values()] == [2_000_000, 2_500_000]
    assert report.requeued == [(batch[2].number, 1)]


def test_without_a_bucket_many_small_results_do_not_make_a_large_one_fail(caller):
    sizes = [100] * 20 + [3_900_000] * 3
    calls_left, n_invocations = {caller.call(deeds.text_of, size).number: size for size in sizes}, 0
    while calls_left:
        batch = [caller.call(deeds.text_of, size) for size in calls_left.values()]
        numbers = dict(zip([call.number for call in batch], calls_left, strict=True))
        report = caller.run(*batch)
        n_invocations += 1
        for number, value in caller.values(report).items():
            assert len(value) == calls_left.pop(numbers[number])
        assert {stop.why for stop in report.down} <= {DownCause.CROWDED}
    assert n_invocations <= 4


def test_of_results_that_came_together_and_do_not_fit_together_one_is_told_as_lost(caller, tmp_path):
    batch = [caller.call(meet_and_return, os.fspath(tmp_path), str(n), 3_000_000) for n in range(2)]
    report = caller.run(*batch, n_slots=2)
    (value,) = caller.values(report).values()
    (stop,) = report.down
    assert (len(value), stop.why) == (3_000_000, DownCause.CROWDED)
    assert "3,000," in stop.last_words
    again = caller.run(*(caller.call(deeds.text_of, 3_000_000) for _ in range(2)), n_slots=2)
    assert (len(again.outcomes), len(again.requeued)) == (1, 1), "now the environment knows"


def meet_and_return(directory: str, name: str, size: int) -> str:
    deeds.meet(directory, name, 2)
    return "x" * size


# --- what calls see ---


def test_calls_see_the_trace_of_their_own_invocation(caller, monkeypatch):
    for trace in ("Root=1-a;Lineage=1:x:0", "Root=1-b;Lineage=2:x:0"):
        monkeypatch.setenv("_X_AMZN_TRACE_ID", trace)
        report = caller.run(caller.call(os.getenv, "_X_AMZN_TRACE_ID"), caller.call(os.getenv, "MINE", MINE="1"))
        assert list(caller.values(report).values()) == [trace, "1"]


def test_calls_see_neither_the_key_nor_the_way_to_the_next_event(caller, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    text = caller.values(caller.run(caller.call(deeds.environments)))[1]
    own, supervisor = text.split("\n")[:2], text.split("\n")[2]
    assert caller.key.hex() not in text
    assert "AWS_LAMBDA_RUNTIME_API" not in "".join([*own, supervisor])


def test_nothing_secret_is_logged(caller, capfd):
    caller.run(caller.call(calls.double, "argument"))
    caller.run(caller.call(os._exit, 3))
    assert caller.key.hex() not in capfd.readouterr().err
