"""Ways to wait for futures: `wait`, `as_completed`, asyncio, callbacks."""

import asyncio
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    as_completed,
    wait,
)
from concurrent.futures import TimeoutError as FuturesTimeoutError  # not the built-in one before Python 3.11

import pytest

from tests.contract import calls
from tests.contract.events import SOON, Gate, eventually


@pytest.fixture
def executor(handed_on):
    """Two workers, which have worked for other tests."""
    return handed_on(2)


@pytest.fixture
def single(handed_on):
    """One worker, which has worked for other tests."""
    return handed_on(1)


@pytest.fixture
def three(executor, gate):
    """A call that is done, one that has failed, and one that stands at the gate."""
    futures = executor.submit(calls.double, 1), executor.submit(calls.fail), executor.submit(gate, "late")
    futures[0].result(SOON)
    futures[1].exception(SOON)
    return futures


# --- result and exception ------------------------------------------------------------------------


def test_result_and_exception_time_out_and_can_be_asked_again(single, gate):
    future = single.submit(gate, "late")
    for ask in (future.result, future.exception):
        with pytest.raises(FuturesTimeoutError):
            ask(timeout=0.01)
    gate.open()
    assert future.result(SOON) == "late"
    assert future.exception(SOON) is None


def test_several_threads_may_wait_for_one_result(single, gate):
    future = single.submit(gate, 7)
    results = []
    threads = [threading.Thread(target=lambda: results.append(future.result(SOON))) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(SOON)
    assert results == [7] * 5


# --- wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("return_when", [FIRST_COMPLETED, FIRST_EXCEPTION])
def test_wait_returns_early_if_asked(three, gate, return_when):
    done, pending = wait(three, SOON, return_when)
    assert (done, pending) == (set(three[:2]), {three[2]})
    gate.open()


def test_wait_for_the_first_completed_wakes_when_one_completes(executor, gate):
    futures = [executor.submit(gate, number) for number in range(2)]
    gate.wait_for(2)
    threading.Timer(0.05, gate.open).start()
    done, _ = wait(futures, SOON, FIRST_COMPLETED)
    assert done


def test_wait_for_the_first_exception_wakes_when_one_fails(executor, gate, tmp_path):
    def fail_at_the_gate():
        gate()
        raise ValueError

    other_gate = Gate(tmp_path / "other")
    failing, standing = executor.submit(fail_at_the_gate), executor.submit(other_gate)
    gate.wait_for(1)
    threading.Timer(0.05, gate.open).start()
    assert wait([failing, standing], SOON, FIRST_EXCEPTION) == ({failing}, {standing})
    other_gate.open()


def test_wait_for_all_waits_for_all(three, gate):
    threading.Timer(0.05, gate.open).start()
    assert wait(three, SOON, ALL_COMPLETED) == (set(three), set())


def test_wait_returns_what_is_done_when_its_time_is_over(three, gate):
    assert wait(three, 0.05) == (set(three[:2]), {three[2]})
    gate.open()


def test_wait_takes_futures_of_two_executors(new_executor):
    futures = [new_executor(1).submit(calls.double, number) for number in range(2)]
    assert wait(futures, SOON).done == set(futures)


@pytest.mark.parametrize("return_when", [FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED])
def test_wait_sees_a_cancelled_future_as_done(single, gate, return_when):
    running, queued = single.submit(gate), single.submit(calls.double, 1)
    gate.wait_for(1)
    threading.Timer(0.05, queued.cancel).start()
    threading.Timer(0.1, gate.open).start()
    assert queued in wait([queued] if return_when == FIRST_COMPLETED else [running, queued], SOON, return_when).done


# --- as_completed ----------------------------------------------------------------------------------


def test_as_completed_yields_each_future_once_in_the_order_of_completion(executor, gate):
    late = executor.submit(gate, "late")
    early = [executor.submit(calls.double, number) for number in range(5)]
    seen = []
    for future in as_completed([late, *early, *early], SOON):
        seen.append(future)
        if len(seen) == 5:
            gate.open()
    assert seen[-1] is late
    assert set(seen) == {late, *early}
    assert len(seen) == 6


def test_as_completed_times_out(single, gate):
    future = single.submit(gate)
    with pytest.raises(FuturesTimeoutError):
        list(as_completed([future], timeout=0.05))
    gate.open()


def test_as_completed_yields_cancelled_futures(single, gate):
    running, queued = single.submit(gate), single.submit(calls.double, 1)
    gate.wait_for(1)
    completed = as_completed([running, queued], SOON)
    queued.cancel()
    assert next(completed) is queued
    gate.open()
    assert next(completed) is running


def test_as_completed_sees_what_cancel_futures_has_cancelled(single, gate):
    running, queued = single.submit(gate), [single.submit(calls.double, number) for number in range(3)]
    gate.wait_for(1)
    single.shutdown(wait=False, cancel_futures=True)
    threading.Timer(0.05, gate.open).start()
    assert set(as_completed([running, *queued], SOON)) == {running, *queued}


# --- asyncio ---------------------------------------------------------------------------------------


def test_a_coroutine_may_run_a_call_in_the_executor(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, calls.double, number) for number in range(10)))

    assert asyncio.run(main()) == list(range(0, 20, 2))


def test_a_coroutine_may_await_a_wrapped_future(executor):
    async def main():
        value = await asyncio.wrap_future(executor.submit(calls.double, 21))
        with pytest.raises(ValueError, match="on purpose"):
            await asyncio.wrap_future(executor.submit(calls.fail))
        return value

    assert asyncio.run(main()) == 42


def test_cancelling_the_asyncio_future_cancels_a_queued_call(single, gate):
    running, queued = single.submit(gate), single.submit(calls.double, 1)
    gate.wait_for(1)

    async def main():
        wrapped = asyncio.wrap_future(queued)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(main())
    assert queued.cancelled()
    gate.open()
    running.result(SOON)


def test_an_asyncio_timeout_cancels_a_queued_call(single, gate):
    running, queued = single.submit(gate), single.submit(calls.double, 1)
    gate.wait_for(1)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(queued), 0.05)

    asyncio.run(main())
    assert queued.cancelled()
    gate.open()
    running.result(SOON)


# --- callbacks ---------------------------------------------------------------------------------------


def test_callbacks_run_in_the_order_in_which_they_were_added(single, gate):
    future = single.submit(gate)
    seen, over = [], threading.Event()
    for number in range(5):
        future.add_done_callback(lambda _, number=number: seen.append(number))
    future.add_done_callback(lambda _: over.set())
    gate.open()
    assert over.wait(SOON)
    assert seen == [0, 1, 2, 3, 4]


def test_a_callback_gets_the_future_in_this_process(single, gate):
    future, seen, over = single.submit(gate, 5), [], threading.Event()
    future.add_done_callback(lambda done: (seen.append((done, done.result())), over.set()))
    gate.open()
    assert over.wait(SOON)
    assert seen == [(future, 5)]


def test_a_callback_added_to_a_future_that_is_done_runs_at_once_on_this_thread(executor):
    future, seen = executor.submit(calls.double, 1), []
    future.result(SOON)
    future.add_done_callback(lambda _: seen.append(threading.current_thread()))
    eventually(lambda: seen)
    assert seen == [threading.current_thread()]


def test_an_exception_of_a_callback_is_logged_and_dropped(single, gate, caplog):
    future, over = single.submit(gate, "fine"), threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: over.set())
    gate.open()
    assert over.wait(SOON)
    assert future.result(SOON) == "fine"
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_callback_that_tries_to_leave_harms_no_other_future(single, gate, caplog, error):
    def leave(_):
        raise error

    future, over = single.submit(gate), threading.Event()
    future.add_done_callback(leave)
    later = single.submit(calls.double, 1)
    later.add_done_callback(lambda _: over.set())
    gate.open()
    assert later.result(SOON) == 2
    assert over.wait(SOON)
    assert [record.exc_info[0] for record in caplog.records] == [error]


def test_callbacks_of_cancelled_futures_run(single, gate):
    running, queued = single.submit(gate), [single.submit(calls.double, number) for number in range(2)]
    gate.wait_for(1)
    seen = []
    for future in queued:
        future.add_done_callback(seen.append)
    queued[0].cancel()
    eventually(lambda: seen == queued[:1])
    single.shutdown(wait=False, cancel_futures=True)
    eventually(lambda: seen == queued)
    gate.open()
    running.result(SOON)


def test_a_callback_may_submit_again_and_again(executor):
    values, over = [], threading.Event()

    def again(future):
        values.append(future.result())
        if len(values) == 20:
            over.set()
        else:
            executor.submit(calls.double, values[-1]).add_done_callback(again)

    executor.submit(calls.identity, 1).add_done_callback(again)
    assert over.wait(SOON)
    assert values == [2**exponent for exponent in range(20)]


def test_a_callback_may_wait_for_another_call(single):
    seen, over = [], threading.Event()

    def ask(future):
        seen.append(single.submit(calls.double, future.result()).result(SOON))
        seen.extend(single.map(calls.double, range(3)))
        over.set()

    single.submit(calls.double, 1).add_done_callback(ask)
    assert over.wait(SOON)
    assert seen == [4, 0, 2, 4]


def test_a_callback_may_cancel_and_stop_others(single, gate):
    running, first = single.submit(gate), single.submit(calls.identity, calls.Unpicklable())
    gate.wait_for(1)
    queued = single.submit(calls.double, 2)
    first.add_done_callback(lambda _: (queued.cancel(), running.stop()))
    assert running.exception(SOON) is not None
    with pytest.raises(CancelledError):
        queued.result(SOON)


def test_shutdown_waits_for_callbacks(single, gate):
    seen = []
    for number in range(5):
        single.submit(gate, number).add_done_callback(lambda future: seen.append(future.result()))
    gate.open()
    single.shutdown(wait=True)
    assert seen == [0, 1, 2, 3, 4]
