"""How a pulling worker ends, and that nothing is lost by it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cloudexec.wire.envelope import Seal, new_key
from cloudexec.wire.mail import KEY_VARIABLE, SETTINGS_VARIABLE
from cloudexec.worker.agent.agent import END_WITHIN_S
from tests.contract import calls
from tests.contract.events import eventually, is_alive
from tests.worker.agent import deeds

SERVE_IMPATIENTLY = "import sys; from cloudexec.worker.agent.main import pull; sys.exit(pull(patience_s=1.0))"


def requeued(customer):
    return sorted(pair for report in customer.reports for pair in report.requeued)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_puts_back_what_is_not_finished_at_once(customer, tmp_path, number):
    worker = customer.start()
    diary, gate = os.fspath(tmp_path / "diary"), os.fspath(tmp_path / "gate")
    done, running = customer.call(calls.double, 1), customer.call(deeds.sleep_and_note, diary, 60.0)
    waiting = customer.call(deeds.wait_for, gate)
    customer.send(done, running, waiting)
    customer.until(lambda: os.path.exists(diary))
    began_s = time.monotonic()
    worker.process.send_signal(number)
    assert worker.ended() == 0
    assert time.monotonic() - began_s < 2.0
    customer.until(customer.leaving)
    assert number.name in customer.leaving()
    assert customer.values(done.number) == [2]
    assert requeued(customer) == [(running.number, 2), (waiting.number, 1)]
    batches = customer.waiting_batches()
    assert [(call.number, call.attempt) for batch in batches for call in batch.calls] == requeued(customer)
    assert customer.n_messages() == (0, len(batches))  # the old message is gone


def test_another_worker_runs_what_was_put_back(customer, tmp_path):
    first = customer.start()
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    interrupted = customer.call(deeds.note_and_wait, os.fspath(diary), os.fspath(gate))
    waiting = customer.call(calls.double, 2)
    customer.send(interrupted, waiting)
    customer.until(diary.exists)
    first.terminate()
    assert first.ended() == 0
    customer.start()
    gate.touch()
    assert customer.values(interrupted.number, waiting.number) == ["seen", 4]
    assert customer.outcomes()[interrupted.number].attempt == 2


def test_a_signal_leaves_no_process(customer, tmp_path):
    worker = customer.start(n_slots=2)
    (number,) = customer.send(customer.call(calls.pid))
    (slot,) = customer.values(number)
    supervisor = worker.supervisor
    customer.send(customer.call(deeds.wait_for, os.fspath(tmp_path / "gate")))
    worker.terminate()
    worker.ended()
    eventually(lambda: not is_alive(slot) and not is_alive(supervisor))
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith("cloudexec-")]  # its cache


def test_a_worker_without_work_ends_by_itself(customer):
    worker = customer.start(idle_s=1.0)
    assert worker.ended() == 0
    customer.until(customer.leaving)
    assert "no work" in customer.leaving()


def test_a_worker_s_life_is_limited_but_what_runs_is_finished(customer):
    worker = customer.start(lifetime_s=1.0)
    (number,) = customer.send(customer.call(calls.sleep, 2.0))
    assert customer.values(number) == [2.0]
    assert worker.ended() == 0
    assert "lifetime" in customer.until(customer.leaving)
    assert customer.n_messages() == (0, 0)


def test_without_a_sign_of_life_of_its_client_a_worker_finishes_what_runs_and_ends(customer):
    customer.control()
    worker = customer.start(stale_s=2.0)
    (number,) = customer.send(customer.call(calls.sleep, 4.0))
    assert customer.values(number) == [4.0]
    assert worker.ended() == 0
    assert "the client is gone" in customer.until(customer.leaving)


def test_where_there_never_was_a_control_object_the_client_is_gone(customer):
    worker = customer.start(stale_s=1.0)
    customer.until(lambda: "the client is gone" in worker.log)


def test_a_client_that_has_detached_is_not_gone(customer):
    customer.control(detached=True)
    worker = customer.start(stale_s=1.0, control_every_s=0.1)
    time.sleep(2.5)
    (number,) = customer.send(customer.call(calls.double, 1))
    assert customer.values(number) == [2]
    assert "the client is gone" not in worker.log


def test_a_control_object_that_is_not_signed_is_no_sign_of_life_and_no_order(customer):
    customer.control(leave=["*"], seal=Seal(new_key()))
    worker = customer.start(stale_s=1.5)
    customer.until(customer.leaving)
    assert "the client is gone" in customer.leaving()
    assert "not obeyed" in worker.log


def test_a_worker_leaves_when_its_client_tells_it_to(customer, tmp_path):
    worker = customer.start()
    diary = os.fspath(tmp_path / "diary")
    (number,) = customer.send(customer.call(deeds.sleep_and_note, diary, 60.0))
    customer.until(lambda: os.path.exists(diary))
    customer.control(leave=["somebody else"])
    time.sleep(0.5)
    assert worker.process.poll() is None
    customer.control(leave=["*"])
    assert worker.ended() == 0
    customer.until(customer.leaving)
    assert requeued(customer) == [(number, 2)]


def test_an_initializer_that_fails_is_told_and_ends_the_worker(customer):
    customer.send(customer.call(calls.double, 1))
    worker = customer.start(n_slots=2, initializer=customer.initializer(deeds.fail_to_start, "no licence"))
    assert worker.ended() == 5
    customer.until(customer.leaving)
    (report,) = [report for report in customer.reports if report.failed_start]
    ((_, outcome),) = report.outcomes
    assert "no licence" in str(customer.value(outcome))


def test_an_initializer_that_is_not_there_is_told_at_once(customer):
    began_s = time.monotonic()
    worker = customer.start(initializer="blobs/" + 64 * "0")
    assert worker.ended() == 5
    assert time.monotonic() - began_s < END_WITHIN_S
    assert "the initializer cannot be read" in customer.until(customer.leaving)


def test_a_temporary_directory_that_is_none_is_told(customer, tmp_path):
    (tmp_path / "file").touch()
    worker = customer.start(env={"TMPDIR": os.fspath(tmp_path / "file")})
    assert worker.ended() == 2
    assert "temporary directory" in customer.until(customer.leaving)


def test_a_second_signal_ends_a_worker_at_once(customer, flaky, tmp_path):
    worker = customer.start(env={"AWS_ENDPOINT_URL": flaky.url})
    diary = tmp_path / "diary"
    customer.send(customer.call(deeds.sleep_and_note, os.fspath(diary), 60.0))
    customer.until(diary.exists)
    flaky.throttled = 10_000
    worker.terminate()
    eventually(lambda: "leaving" in worker.log)
    began_s = time.monotonic()
    worker.terminate()
    assert worker.ended() == 128 + signal.SIGTERM
    assert time.monotonic() - began_s < END_WITHIN_S / 2


def test_where_nobody_answers_a_worker_ends(customer):
    nowhere = "http://127.0.0.1:9"  # the discard port: nothing listens there
    worker = customer.start(code=SERVE_IMPATIENTLY, env={"AWS_ENDPOINT_URL": nowhere})
    assert worker.ended() == 4
    assert "no answer" in worker.log


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "not set", id="nothing"),
        pytest.param("{", "damaged", id="no JSON"),
        pytest.param('{"run_id": "r", "unknown": 1}', "damaged", id="of another version"),
    ],
)
def test_damaged_settings_are_named(customer, text, says):
    worker = customer.start(env={SETTINGS_VARIABLE: text})
    assert worker.ended() == 2
    assert SETTINGS_VARIABLE in worker.log
    assert says in worker.log
    assert "Traceback" not in worker.log


def test_a_number_that_is_none_is_named(customer):
    worker = customer.start(n_slots="many")
    assert worker.ended() == 2
    assert "n_slots" in worker.log


def test_a_damaged_key_is_not_quoted(customer):
    worker = customer.start(env={KEY_VARIABLE: "secret"})
    assert worker.ended() == 2
    assert KEY_VARIABLE in worker.log
    assert "secret" not in worker.log


def test_another_python_than_the_client_s_is_told_by_both_names(customer):
    worker = customer.start(python_version="2.7")
    assert worker.ended() == 3
    customer.until(customer.leaving)
    assert customer.leaving().startswith("VersionMismatch: ")
    assert "2.7" in customer.leaving()
