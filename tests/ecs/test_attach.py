"""A run outlives its client: detached by intention, or killed in the middle."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from cloudexec import ECSExecutor, errors
from cloudexec.executors import runkeys
from tests.contract.events import eventually


def double(x):
    return 2 * x


def count_run(path, x):
    """Leaves a trace of each time that it runs."""
    with open(path, "a") as trace:
        trace.write(f"{x}\n")
    return x


def wait_for(path, x):
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    return x


def fail(text):
    raise ValueError(text)


def start_client(settings, code):
    """A client in a process of its own, with an executor called `ex`."""
    script = "from cloudexec import ECSExecutor\nimport sys, time\nsys.path.insert(0, '.')\n"
    script += f"ex = ECSExecutor(max_workers=2, **{settings!r})\n" + dedent(code)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())


def test_a_detached_run_goes_on_and_another_executor_gets_all_results(new_executor, aws, tmp_path):
    first = new_executor(1)
    futures = [first.submit(wait_for, str(tmp_path / "gate"), 0), *(first.submit(double, x) for x in range(1, 30))]
    run_id = first.detach()
    for future in futures[1:]:
        assert isinstance(future.exception(timeout=5), errors.RunDetached)
    with pytest.raises(errors.RunDetached):
        first.submit(double, 1)
    (tmp_path / "gate").touch()
    with ECSExecutor.attach(run_id) as second:
        assert [future.result(timeout=20) for future in second.futures] == [0, *(2 * x for x in range(1, 30))]
        assert second.submit(double, 100).result(timeout=20) == 200
    eventually(lambda: not [queue for queue in aws.queues() if run_id in queue.name])
    assert not [key for key in aws.objects() if f"runs/{run_id}" in key]


def test_results_that_had_arrived_before_are_there_at_once(new_executor):
    first = new_executor(1)
    futures = [first.submit(double, x) for x in range(5)] + [first.submit(fail, "no")]
    assert [future.result(timeout=20) for future in futures[:5]] == [0, 2, 4, 6, 8]
    assert isinstance(futures[5].exception(timeout=20), ValueError)
    run_id = first.detach()
    with ECSExecutor.attach(run_id) as second:
        assert [future.result(timeout=20) for future in second.futures[:5]] == [0, 2, 4, 6, 8]
        assert str(second.futures[5].exception(timeout=20)) == "no"
        assert [future.call_id for future in second.futures] == [future.call_id for future in futures]


@pytest.mark.timeout(90)
def test_a_client_that_was_killed_in_the_middle_loses_nothing(settings, tmp_path):
    trace = tmp_path / "trace"
    client = start_client(
        settings,
        f"""
        from tests.ecs.test_attach import count_run
        futures = [ex.submit(count_run, {str(trace)!r}, x) for x in range(200)]
        for future in futures[:20]:
            future.result()
        time.sleep(1.5)
        print(ex.run.id, flush=True)
        time.sleep(60)
        """,
    )
    run_id = client.stdout.readline().strip()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    with ECSExecutor.attach(run_id) as executor:
        futures = executor.futures
        assert [future.result(timeout=40) for future in futures] == list(range(200))
        assert len({id(future) for future in futures}) == 200


def test_a_run_whose_client_lives_is_refused_unless_it_is_taken_over(settings):
    client = start_client(
        settings,
        """
        from tests.ecs.test_attach import double
        print(ex.submit(double, 4).result(), ex.run.id, flush=True)
        late = ex.submit(time.sleep, 100)
        try:
            late.result()
        except Exception as error:
            print(type(error).__name__, flush=True)
        """,
    )
    try:
        value, run_id = client.stdout.readline().split()
        assert value == "8"
        with pytest.raises(errors.RunBusy, match=run_id):
            ECSExecutor.attach(run_id)
        time.sleep(1.2)  # the journal is written once a second
        executor = ECSExecutor.attach(run_id, take_over=True)
        assert executor.futures[0].result(timeout=20) == 8
        executor.terminate_workers()
        executor.shutdown(wait=True)
        assert client.stdout.readline().strip() == "RunTakenOver"
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


def test_cancelled_and_failed_calls_stay_so(new_executor):
    first = new_executor(1)
    running = first.submit(time.sleep, 30)
    eventually(running.running)
    cancelled = first.submit(double, 1)
    assert cancelled.cancel()
    running.stop()
    assert isinstance(running.exception(timeout=20), errors.CallStopped)
    run_id = first.detach()
    with ECSExecutor.attach(run_id) as second:
        assert isinstance(second.futures[0].exception(timeout=10), errors.CallStopped)
        assert second.futures[1].cancelled()


def test_the_runs_key_is_this_users_alone_and_goes_with_the_run(new_executor, aws):
    executor = new_executor(1)
    executor.submit(double, 1).result(timeout=20)
    path = Path(runkeys.directory()) / f"{executor.run.id}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    key = executor.run_key
    assert not any(key in str(item) for item in aws.objects())
    executor.shutdown()
    assert not path.exists()


@pytest.mark.parametrize("run_id", ["r20200101-000000-abcdef", "nonsense", "../../etc/passwd"])
def test_a_run_that_is_not_there_is_named(run_id, aws):
    with pytest.raises(errors.RunMissing) as caught:
        ECSExecutor.attach(run_id)
    assert run_id in str(caught.value)


def test_another_runs_key_is_refused(new_executor, settings):
    first = new_executor(1)
    first.submit(double, 1).result(timeout=20)
    run_id = first.detach()
    with pytest.raises(errors.SignatureError):
        ECSExecutor.attach(run_id, key="00" * 32, bucket=settings["bucket"], endpoint_url=settings["endpoint_url"])
    ECSExecutor.attach(run_id).shutdown()
