"""A pulling worker runs what lies in its queue, and tells."""

from __future__ import annotations

import os
import time

import pytest

from cloudexec.wire.messages import Verdict
from tests.contract import calls
from tests.worker.agent import deeds


def test_a_call_in_the_queue_is_run_and_its_message_deleted(customer):
    customer.start()
    (number,) = customer.send(customer.call(calls.double, 21))
    assert customer.values(number) == [42]
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_an_exception_comes_back_with_its_type(customer):
    customer.start()
    (number,) = customer.send(customer.call(calls.fail, "on purpose"))
    (error,) = customer.values(number)
    assert isinstance(error, ValueError)
    assert "on purpose" in str(error)


def test_a_batch_is_split_over_free_slots(customer, tmp_path):
    customer.start(n_slots=3)
    numbers = customer.send(*[customer.call(deeds.meet, os.fspath(tmp_path), str(i), 3) for i in range(3)])
    assert len(set(customer.values(*numbers))) == 3


def test_calls_behind_a_long_one_move_to_a_slot_that_has_nothing_to_do(customer, tmp_path):
    customer.start(n_slots=2)
    gate = tmp_path / "gate"
    long, short = customer.call(deeds.wait_for, os.fspath(gate)), customer.call(deeds.sleep_and_note, os.devnull, 0.2)
    behind, last = (customer.call(calls.double, n) for n in (1, 2))
    customer.send(long, behind, short, last)  # a slot gets the first two, the other one the last two
    assert customer.values(behind.number, short.number, last.number) == [2, 0.2, 4]
    gate.touch()
    assert customer.values(long.number) == ["seen"]


def test_calls_behind_a_long_one_go_back_into_the_queue_for_other_workers(customer, tmp_path):
    customer.start(n_slots=1)
    gate = tmp_path / "gate"
    long, *behind = customer.call(deeds.wait_for, os.fspath(gate)), *(customer.call(calls.double, n) for n in (1, 2))
    customer.send(long, *behind)
    customer.until(lambda: any(report.requeued for report in customer.reports))
    customer.start(n_slots=1)
    assert customer.values(*[call.number for call in behind]) == [2, 4]
    gate.touch()
    assert customer.values(long.number) == ["seen"]
    customer.until(lambda: customer.n_messages() == (0, 0))
    told = [entry for report in customer.reports for entry in report.requeued]
    assert told == [(call.number, 1) for call in behind]  # once, and it costs no attempt
    assert sorted(customer.all_outcomes()) == [1, 2, 3]


def test_more_messages_than_slots_are_done_one_after_another(customer):
    customer.start(n_slots=2)
    numbers = [customer.send(customer.call(calls.double, n))[0] for n in range(12)]
    assert customer.values(*numbers) == [2 * n for n in range(12)]
    customer.until(lambda: customer.n_messages() == (0, 0))


def test_outcomes_of_short_calls_share_reports(customer):
    customer.start(n_slots=2)
    numbers = customer.send(*[customer.call(calls.double, n) for n in range(200)])
    assert customer.values(*numbers) == [2 * n for n in range(200)]
    assert len(customer.reports) < 60
    numbers = [report.number for report in customer.reports]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_a_slot_runs_no_more_calls_than_its_share(customer):
    customer.start(n_slots=1, max_tasks_per_child=2)
    numbers = customer.send(*[customer.call(calls.pid, n) for n in range(5)])
    pids = customer.values(*numbers)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 1]
    assert not customer.lanes_down()


def test_what_is_large_travels_through_the_bucket(customer):
    customer.start()
    argument = os.urandom(3 << 20)
    (number,) = customer.send(customer.call(calls.identity, argument))
    assert customer.values(number) == [argument]
    assert len(list(customer.store.names("blobs/"))) == 2  # under the run's prefix: the argument and the result


def test_a_long_call_is_told_as_held_with_its_message_s_receipt_and_a_short_one_is_not(customer, tmp_path):
    customer.start(n_slots=1, tell_after_s=0.5)
    customer.until(customer.lanes_up)
    (short,) = customer.send(customer.call(calls.double, 1))
    customer.values(short)
    assert all(short not in numbers for report in customer.reports for numbers in (report.held or {}).values())
    gate = tmp_path / "gate"
    sent_s = time.monotonic()
    (long,) = customer.send(customer.call(deeds.wait_for, os.fspath(gate)))
    told = customer.until(lambda: next((r for r in customer.reports if [long] in (r.held or {}).values()), None))
    assert time.monotonic() - sent_s > 0.5
    assert list(told.receipts.values()) == [[long]]
    gate.touch()
    customer.values(long)


def test_a_busy_worker_gives_signs_of_life(customer, tmp_path):
    customer.start(beat_every_s=0.3, tell_after_s=0.1)
    (long,) = customer.send(customer.call(deeds.wait_for, os.fspath(tmp_path / "gate")))
    customer.until(lambda: sum(report.held is not None for report in customer.reports) >= 4)
    (tmp_path / "gate").touch()
    customer.values(long)


def test_a_message_stays_hidden_while_its_call_runs(customer, tmp_path):
    diary = tmp_path / "diary"
    customer.start(n_slots=2, visibility_s=2)
    (number,) = customer.send(customer.call(deeds.sleep_and_note, os.fspath(diary), 5.0))
    assert customer.values(number) == [5.0]
    assert len(diary.read_text().splitlines()) == 1


def test_the_first_report_has_the_machine_s_facts(customer):
    customer.start()
    customer.until(lambda: customer.reports)
    facts = customer.reports[0].facts
    assert {"python", "cloudexec", "arch", "task_arn", "cpus", "start_s"} <= facts.keys()
    assert float(facts["start_s"]) > 0


def test_an_outcome_that_no_message_carries_becomes_one_that_says_so(customer):
    customer.start()
    huge, small = customer.call(deeds.fail_with, 40_000_000), customer.call(calls.double, 2)
    customer.send(huge, small)
    error, value = customer.values(huge.number, small.number)
    assert value == 4
    assert customer.outcomes()[huge.number].verdict is Verdict.REFUSED
    assert "bytes" in str(error)


@pytest.mark.parametrize("n_calls", [1, 12])
def test_an_initializer_runs_before_the_first_call(customer, n_calls):
    customer.start(n_slots=2, initializer=customer.initializer(deeds.warm_up, "warm"))
    numbers = customer.send(*[customer.call(deeds.warmth) for _ in range(n_calls)])
    assert customer.values(*numbers) == [["warm"]] * n_calls


def test_a_task_s_id_is_the_worker_s(customer, metadata_url):
    customer.start(env={"ECS_CONTAINER_METADATA_URI_V4": metadata_url})
    customer.until(lambda: customer.reports)
    assert customer.reports[0].worker == "0123456789abcdef0123456789abcdef"
    assert customer.reports[0].facts["task_arn"].startswith("arn:aws:ecs:")
