"""What goes wrong around a pulling worker, and what its client learns of it."""

from __future__ import annotations

import os
import signal

import pytest

from cloudexec.errors import WorkerLost
from cloudexec.wire.control import DownCause
from cloudexec.wire.envelope import Seal, new_key
from cloudexec.worker.agent.slots import LATE_S
from tests.contract import calls
from tests.contract.events import eventually
from tests.worker.agent import deeds

# What process 1 of a container is by nature: the one that inherits orphans.
AS_PROCESS_1 = """
import ctypes, sys
from cloudexec.worker.agent.main import pull
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
sys.exit(pull())
"""


def test_a_call_that_kills_its_slot_is_told_and_its_neighbours_run(customer, tmp_path):
    customer.start(n_slots=1)
    before, after = customer.call(calls.double, 1), customer.call(calls.double, 2)
    guilty = customer.call(deeds.run_into_wall, os.fspath(tmp_path / "diary"))
    customer.send(before, guilty, after)
    assert customer.values(before.number, after.number) == [2, 4]
    (stop,) = customer.until(customer.lanes_down)
    assert (stop.why, stop.exitcode) == (DownCause.DIED, -signal.SIGKILL)
    assert (stop.running_call, list(stop.unstarted)) == (guilty.number, [])
    customer.until(lambda: customer.n_messages() == (0, 0))
    assert guilty.number not in customer.outcomes()
    assert len(customer.lanes_up()) == 2


def test_the_end_of_a_slot_is_told_with_the_slot_that_has_its_calls_now(customer, tmp_path):
    customer.start(n_slots=1, tell_after_s=0.1)
    gate = os.fspath(tmp_path / "gate")
    guilty = customer.call(deeds.run_into_wall, os.fspath(tmp_path / "diary"))
    slow, after = customer.call(calls.sleep, 0.5), customer.call(deeds.wait_for, gate)
    customer.send(slow, guilty, after)
    report = customer.until(lambda: next((report for report in customer.reports if report.down), None))
    (numbers,) = report.held.values()
    assert list(numbers) == [after.number]
    assert list(report.held) != [report.down[0].lane]
    (tmp_path / "gate").touch()
    assert customer.values(after.number) == ["seen"]


def test_a_call_that_runs_too_long_is_killed(customer):
    customer.start()
    (number,) = customer.send(customer.call(calls.sleep, 60.0, timeout_s=0.5))
    (stop,) = customer.until(customer.lanes_down)
    assert (stop.why, stop.killed_call) == (DownCause.TIMEOUT, number)


def test_the_end_of_a_slot_is_told_with_the_calls_that_go_back_into_the_queue(customer, flaky):
    customer.start(n_slots=1, beat_every_s=60.0, env={"AWS_ENDPOINT_URL": flaky.url})
    slow = customer.call(calls.sleep, 60.0, timeout_s=LATE_S + 0.5)
    customer.until(customer.lanes_up)
    flaky.late_s["SendMessageBatch"] = 1.0  # the slot ends while the others are on their way
    _, *behind = customer.send(slow, customer.call(calls.double, 1), customer.call(calls.double, 2))
    customer.until(customer.lanes_down)
    assert sorted(number for report in customer.reports for number, _ in report.requeued) == behind


def test_a_running_call_is_stopped_on_order_and_a_waiting_one_dropped(customer, tmp_path):
    customer.control()
    customer.start(n_slots=1)
    diary = tmp_path / "diary"
    running, waiting = (customer.call(deeds.sleep_and_note, os.fspath(diary), 60.0) for _ in range(2))
    last = customer.call(calls.double, 3)
    customer.send(running, waiting, last)
    customer.until(diary.exists)
    customer.control(number=2, stops=[running.number, waiting.number, 999])
    assert customer.values(last.number) == [6]
    (stop,) = customer.lanes_down()
    assert (stop.why, stop.killed_call) == (DownCause.STOPPED, running.number)
    assert [number for report in customer.reports for number in report.dropped] == [waiting.number]
    assert len(diary.read_text().splitlines()) == 1
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_a_call_that_was_stopped_before_it_came_is_not_run(customer, flaky, tmp_path):
    number = 1
    customer.control(stops=[number])
    customer.start(env={"AWS_ENDPOINT_URL": flaky.url}, control_every_s=0.1)
    # It is asked for again when it has been obeyed.
    customer.until(lambda: sum(said.startswith("GET") and "/control" in said for said in flaky.answered) >= 2)
    diary = tmp_path / "diary"
    customer.send(customer.call(deeds.note, os.fspath(diary), "ran"))
    customer.until(lambda: any(number in report.dropped for report in customer.reports))
    assert not diary.exists()


def test_what_a_worker_had_that_was_killed_comes_again_singly(customer, tmp_path):
    customer.control()
    first = customer.start(visibility_s=2)
    diary = tmp_path / "diary"
    slow, other = customer.call(deeds.sleep_and_note, os.fspath(diary), 3.0), customer.call(calls.double, 2)
    customer.send(slow, other)
    customer.until(diary.exists)
    first.process.kill()
    first.ended()
    second = customer.start(visibility_s=30)
    assert customer.values(slow.number, other.number) == [3.0, 4]
    assert "singly" in second.log
    assert sorted(pair for report in customer.reports for pair in report.requeued) == [(1, 1), (2, 1)]
    assert customer.outcomes()[slow.number].attempt == 1
    customer.until(lambda: customer.n_messages() == (0, 0))


@pytest.mark.parametrize("n_failing", [0, 2])
def test_a_message_is_removed_before_any_of_its_calls_is_taken_singly(customer, flaky, n_failing):
    flaky.failing.update(SendMessageBatch=n_failing, DeleteMessageBatch=n_failing)
    numbers = customer.send(customer.call(calls.double, 1), customer.call(calls.double, 2))
    customer.lose_once()
    customer.start(env={"AWS_ENDPOINT_URL": flaky.url})
    assert customer.values(*numbers) == [2, 4]
    customer.until(lambda: customer.n_messages() == (0, 0))
    said = [words.rpartition(" ")[2] for words in flaky.answered]
    moves = [word for word in said if word in ("ReceiveMessage", "DeleteMessageBatch")]
    first, *others = moves[: 3 + n_failing]
    assert (first, others) == ("ReceiveMessage", ["DeleteMessageBatch"] * (1 + n_failing) + ["ReceiveMessage"])


def test_a_slot_s_end_is_told_even_if_the_queue_takes_nothing_back(customer, flaky):
    customer.start(n_slots=1, env={"AWS_ENDPOINT_URL": flaky.url})
    slow = customer.call(calls.sleep, 60.0, timeout_s=LATE_S + 0.5)
    customer.until(customer.lanes_up)
    flaky.failing["SendMessageBatch"] = 1000
    number, *_ = customer.send(slow, customer.call(calls.double, 1))
    (stop,) = customer.until(customer.lanes_down)
    assert (stop.why, stop.killed_call) == (DownCause.TIMEOUT, number)


def test_a_call_that_kills_its_workers_is_given_up_and_its_neighbours_are_not(customer, tmp_path):
    diary = tmp_path / "diary"
    guilty, other = customer.call(deeds.kill_agent, os.fspath(diary)), customer.call(calls.double, 2)
    customer.send(guilty, other)
    workers = [customer.start(visibility_s=2, most_receives=2)]

    def both_are_over():
        if workers[-1].process.poll() is not None:
            workers.append(customer.start(visibility_s=2, most_receives=2))
        return {guilty.number, other.number} <= customer.outcomes().keys()

    customer.until(both_are_over)
    error, value = customer.values(guilty.number, other.number)
    assert value == 4
    assert isinstance(error, WorkerLost)
    assert "never finished" in str(error)
    assert len(diary.read_text().splitlines()) == 3  # once in company, most_receives times alone
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_when_its_supervisor_is_killed_a_worker_tells_and_goes_on(customer, tmp_path):
    worker = customer.start(n_slots=2)
    diary = tmp_path / "diary"
    (lost,) = customer.send(customer.call(deeds.sleep_and_note, os.fspath(diary), 60.0))
    customer.until(diary.exists)
    os.kill(worker.supervisor, signal.SIGKILL)
    customer.until(lambda: len(customer.lanes_down()) == 2)
    assert {(stop.why, stop.running_call) for stop in customer.lanes_down()} == {
        (DownCause.LOST, lost),
        (DownCause.LOST, 0),
    }
    (number,) = customer.send(customer.call(calls.double, 1))
    assert customer.values(number) == [2]
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_a_worker_whose_supervisors_die_again_and_again_leaves(customer, tmp_path):
    worker = customer.start()
    for n in range(1, 4):
        customer.until(lambda n=n: len(customer.lanes_up()) >= n)
        os.kill(worker.supervisor, signal.SIGKILL)
    assert worker.ended() == 6
    customer.until(customer.leaving)
    assert "supervisor" in customer.leaving()


def test_what_is_not_signed_is_never_unpickled_and_removed_in_the_end(customer, tmp_path):
    diary = tmp_path / "diary"
    customer.send(customer.call(deeds.note, os.fspath(diary), "ran"), seal=Seal(new_key()))
    customer.send_text("not even base64!")
    worker = customer.start(visibility_s=2, most_receives=2)
    customer.until(lambda: customer.n_messages() == (0, 0))
    assert not diary.exists()
    assert "not signed" in worker.log
    assert "damaged" in worker.log
    (number,) = customer.send(customer.call(calls.double, 1))
    assert customer.values(number) == [2]


def test_no_call_sees_the_key(customer):
    customer.start()
    (number,) = customer.send(customer.call(deeds.environments))
    (text,) = customer.values(number)
    assert customer.key.hex() not in text
    assert "AWS_ENDPOINT_URL" in text  # there was something to see


def test_slots_have_none_of_their_agent_s_connections(customer):
    worker = customer.start()
    (number,) = customer.send(customer.call(deeds.sockets_of))
    assert customer.values(number) == [[]]
    assert deeds.sockets_of(worker.process.pid)


def test_a_slot_that_writes_rubbish_is_killed_and_others_live(customer):
    customer.start()
    guilty, other = customer.call(deeds.write_rubbish), customer.call(calls.double, 2)
    customer.send(guilty, other)
    assert customer.values(other.number) == [4]
    (stop,) = customer.until(customer.lanes_down)
    assert stop.running_call == guilty.number
    assert "damaged message" in stop.last_words


def test_throttles_cost_time_and_nothing_else(customer, flaky):
    flaky.throttled = 8
    customer.start(n_slots=2, env={"AWS_ENDPOINT_URL": flaky.url})
    numbers = [customer.send(customer.call(calls.double, n))[0] for n in range(6)]
    assert customer.values(*numbers) == [2 * n for n in range(6)]
    assert flaky.throttled == 0
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_lost_answers_lose_no_outcome(customer, flaky):
    flaky.lost = 0.2
    customer.start(n_slots=4, env={"AWS_ENDPOINT_URL": flaky.url}, visibility_s=2)
    numbers = [
        number for n in range(10) for number in customer.send(*[customer.call(calls.double, n) for _ in range(3)])
    ]
    assert customer.values(*numbers) == [2 * n for n in range(10) for _ in range(3)]
    assert flaky.n_lost > 1
    flaky.lost = 0.0
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_a_worker_told_to_end_on_a_slow_and_lossy_line_still_puts_its_calls_back(customer, flaky, tmp_path):
    worker = customer.start(env={"AWS_ENDPOINT_URL": flaky.url})
    diary = tmp_path / "diary"
    (number,) = customer.send(customer.call(deeds.sleep_and_note, os.fspath(diary), 60.0))
    customer.until(diary.exists)
    flaky.throttled = 3
    worker.terminate()
    assert worker.ended() == 0
    customer.until(customer.leaving)
    assert [pair for report in customer.reports for pair in report.requeued] == [(number, 2)]


def test_a_result_is_not_lost_to_a_queue_with_a_lower_limit_for_messages(customer):
    customer.limit_reports(100_000)
    customer.start()
    large = [customer.call(deeds.text_of, 60_000) for _ in range(4)]
    huge = customer.call(deeds.text_of, 120_000)
    customer.send(*large, huge)
    values = customer.values(*[call.number for call in (*large, huge)])
    assert values[:4] == ["x" * 60_000] * 4
    assert "more than a queue carries" in str(values[4])


def test_orphans_of_calls_are_buried_where_the_agent_is_process_1(customer):
    worker = customer.start(code=AS_PROCESS_1)
    (number,) = customer.send(customer.call(deeds.leave_orphan))
    (orphan,) = customer.values(number)
    eventually(lambda: orphan not in worker.children())
    assert len(worker.children()) == 1
