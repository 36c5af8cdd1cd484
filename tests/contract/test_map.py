"""`map`: order, eager and lazy inputs, errors on their turn, and what happens to the rest."""

import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import TimeoutError as FuturesTimeoutError  # not the built-in one before Python 3.11

import numpy as np
import pytest

from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON, eventually


class Inputs:
    """Yields numbers and counts how many were taken; ends, or raises, after `stop` of them."""

    def __init__(self, stop=None, error=None):
        self.taken = 0
        self._stop = stop
        self._error = error

    def __iter__(self):
        for number in itertools.count():
            if number == self._stop:
                if self._error is not None:
                    raise self._error
                return
            self.taken += 1
            yield number


@pytest.fixture
def executor(handed_on):
    """Two workers, which have worked for other tests."""
    return handed_on(2)


# --- results ---------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_inputs(executor):
    naps = [0.2, 0, 0.1, 0]
    assert list(executor.map(calls.sleep, naps)) == naps


def test_several_inputs_are_zipped_up_to_the_shortest(executor):
    assert list(executor.map(calls.add, [1, 2, 3], (10, 20))) == [11, 22]


def test_an_infinite_input_beside_a_finite_one_is_fine(executor):
    assert list(executor.map(calls.add, itertools.count(), [10, 20])) == [10, 21]


@pytest.mark.parametrize("inputs", [[[]], [[], [1]], [()], [range(0)], ["", itertools.count()], []], ids=repr)
def test_no_inputs_give_no_results(executor, inputs):
    assert list(executor.map(calls.add, *inputs)) == []


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_the_chunksize_does_not_change_results(executor, chunksize):
    assert list(executor.map(calls.double, range(100), chunksize=chunksize)) == list(range(0, 200, 2))


@pytest.mark.parametrize("buffersize", [1, 3, 1000])
def test_the_buffersize_does_not_change_results(executor, buffersize):
    assert list(executor.map(calls.double, range(100), buffersize=buffersize)) == list(range(0, 200, 2))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": -1}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": -1}, ValueError),
        ({"buffersize": "10"}, TypeError),
        ({"buffersize": 1.5}, TypeError),
    ],
    ids=repr,
)
def test_wrong_settings_are_refused_before_any_input_is_read(executor, settings, error):
    inputs = Inputs(5)
    with pytest.raises(error):
        executor.map(calls.double, inputs, **settings)
    assert inputs.taken == 0


def test_what_is_not_iterable_is_refused_at_once(executor):
    with pytest.raises(TypeError):
        executor.map(calls.double, 3)


def test_the_result_is_an_iterator(executor):
    results = executor.map(calls.double, [1])
    assert iter(results) is results
    assert next(results) == 2
    with pytest.raises(StopIteration):
        next(results)


# --- when calls start ------------------------------------------------------------------------


def test_all_calls_are_submitted_before_the_first_result_is_asked_for(executor, tmp_path):
    results = executor.map(calls.touch, [str(tmp_path / name) for name in "abc"])
    eventually(lambda: len(list(tmp_path.iterdir())) == 3)
    assert list(results) == [None] * 3


def test_a_call_starts_while_the_input_has_yet_to_bring_the_next_one(executor, tmp_path):
    def inputs():
        for name in "abc":
            yield str(tmp_path / name)
            eventually(lambda: (tmp_path / name).exists())  # noqa: B023 - used before the next turn

    assert list(executor.map(calls.touch, inputs())) == [None] * 3


@pytest.mark.parametrize("buffersize", [1, 2, 10])
def test_with_a_buffersize_no_more_inputs_are_read_than_needed(executor, buffersize):
    inputs = Inputs()
    results = executor.map(calls.double, inputs, buffersize=buffersize)
    assert inputs.taken == buffersize
    for n_results in range(1, 6):
        next(results)
        assert inputs.taken == buffersize + n_results


def test_the_next_call_is_submitted_before_the_oldest_result_is_yielded(executor, tmp_path):
    paths = (str(tmp_path / str(number)) for number in itertools.count())
    results = executor.map(calls.touch, paths, buffersize=2)
    next(results)
    eventually(lambda: len(list(tmp_path.iterdir())) == 3)


def test_a_buffer_larger_than_the_input_reads_it_once(executor):
    inputs = Inputs(3)
    assert list(executor.map(calls.double, inputs, buffersize=100)) == [0, 2, 4]
    assert inputs.taken == 3


def test_an_endless_input_can_be_left_at_any_time(executor):
    results = executor.map(calls.double, itertools.count(), buffersize=4)
    assert list(itertools.islice(results, 50)) == list(range(0, 100, 2))
    results.close()
    assert executor.submit(calls.double, 1).result(SOON) == 2


# --- timeout ---------------------------------------------------------------------------------


def test_the_timeout_counts_from_the_call_of_map_not_from_each_result(single):
    results = single.map(calls.sleep, [0.2] * 5, timeout=0.5)
    with pytest.raises(FuturesTimeoutError):
        list(results)


def test_a_result_that_has_arrived_is_given_even_after_the_timeout(new_executor):
    executor = new_executor(2)
    results = executor.map(calls.double, [1], timeout=0.05)
    eventually(lambda: executor.run.done)
    time.sleep(0.05)
    assert list(results) == [2]


def test_after_a_timeout_the_rest_is_cancelled(single, gate):
    results = single.map(gate, range(10), timeout=0.05)
    with pytest.raises(FuturesTimeoutError):
        next(results)
    eventually(lambda: single.run.cancelled >= 8)
    gate.open()


# --- errors ----------------------------------------------------------------------------------


def test_the_first_exception_is_raised_on_its_turn(executor):
    results = executor.map(calls.fail_if_odd, [0, 2, 3, 4])
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ValueError, match="3 is odd"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_an_exception_cancels_what_has_not_started(single, gate):
    def fail_at_the_gate(x):
        gate()
        raise ValueError(x)

    results = single.map(fail_at_the_gate, range(20))
    gate.wait_for(1)
    gate_opener = threading.Timer(0.05, gate.open)
    gate_opener.start()
    with pytest.raises(ValueError):
        next(results)
    gate_opener.join()
    eventually(lambda: single.run.failed + single.run.cancelled == 20)


@pytest.mark.parametrize("settings", [{}, {"buffersize": 2}, {"chunksize": 4}], ids=repr)
@pytest.mark.parametrize("lazy", [False, True], ids=["list", "generator"])
def test_an_unpicklable_input_is_the_error_of_that_turn(executor, settings, lazy):
    inputs = [1, 2, calls.Unpicklable(), 4]
    results = executor.map(calls.identity, iter(inputs) if lazy else inputs, **settings)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(errors.UnpicklableArgument, match="this object stays here"):
        next(results)


def test_an_unpicklable_function_is_the_error_of_the_first_turn(executor):
    results = executor.map(calls.Unpicklable(), [1, 2])
    with pytest.raises(errors.UnpicklableArgument):
        next(results)


def test_an_unpicklable_function_with_no_inputs_is_no_error(executor):
    assert list(executor.map(calls.Unpicklable(), [])) == []


def test_an_input_that_raises_makes_map_raise_and_nothing_of_it_stays_queued(single, gate):
    with pytest.raises(LookupError, match="in the middle"):
        single.map(gate, Inputs(10, LookupError("in the middle")))
    gate.open()
    eventually(lambda: single.run.running == 0 and single.run.pending == 0)
    assert single.run.done <= 2
    assert single.submit(calls.double, 1).result(SOON) == 2


def test_an_input_that_raises_behind_the_buffer_raises_when_it_is_read(single):
    results = single.map(calls.double, Inputs(3, LookupError("in the middle")), buffersize=2)
    assert next(results) == 0
    with pytest.raises(LookupError, match="in the middle"):
        next(results)


# --- the end ---------------------------------------------------------------------------------


def test_closing_the_iterator_cancels_what_has_not_started(single, gate):
    results = single.map(gate, range(10))
    gate.wait_for(1)
    gate.open()
    next(results)
    results.close()
    eventually(lambda: single.run.done + single.run.cancelled == 10)


def test_closing_an_iterator_that_was_never_advanced_cancels_too(single, gate):
    blocker = single.submit(gate)
    gate.wait_for(1)
    results = single.map(calls.double, range(10))
    results.close()
    eventually(lambda: single.run.cancelled == 10)
    gate.open()
    blocker.result(SOON)


@pytest.mark.parametrize("advanced", [False, True], ids=["never advanced", "advanced"])
def test_an_iterator_that_is_collected_as_garbage_cancels_what_has_not_started(single, gate, advanced):
    first = single.map(calls.double, range(1))
    blocker = single.submit(gate)
    gate.wait_for(1)
    results = itertools.chain(first, single.map(calls.double, range(10)))
    if advanced:
        assert next(results) == 0
    del first, results
    gc.collect()
    eventually(lambda: single.run.cancelled == 10)
    gate.open()
    blocker.result(SOON)


def test_no_reference_is_kept_to_a_result_that_was_yielded(executor):
    for array in executor.map(np.zeros, [10] * 5):
        reference = weakref.ref(array)
        del array
        eventually(lambda: reference() is None)  # noqa: B023 - used before the next turn


def test_no_reference_is_kept_to_inputs_that_were_sent(executor):
    class Input:
        pass

    def inputs():
        for _ in range(5):
            value = Input()
            references.append(weakref.ref(value))
            yield value

    references = []
    results = executor.map(lambda _: None, inputs())
    assert list(results) == [None] * 5
    eventually(lambda: all(reference() is None for reference in references))


def test_an_iterator_outlives_the_shutdown_of_its_executor(new_executor):
    executor = new_executor(2)
    results = executor.map(calls.double, range(5))
    executor.shutdown()
    assert list(results) == [0, 2, 4, 6, 8]


def test_a_windowed_iterator_never_ends_short_after_shutdown(new_executor):
    executor = new_executor(2)
    results = executor.map(calls.double, range(5), buffersize=2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        list(results)


def test_cancel_futures_reaches_the_calls_of_map(single, gate):
    results = single.map(gate, range(5))
    gate.wait_for(1)
    single.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert next(results) == 0
    with pytest.raises(BaseException) as caught:
        list(results)
    assert type(caught.value).__name__ == "CancelledError"


@pytest.mark.parametrize("settings", [{}, {"buffersize": 2}], ids=repr)
def test_the_iterator_of_an_executor_that_nobody_holds_gives_all_results(kind, settings):
    results = kind.new(1).map(calls.double, range(5), **settings)
    assert list(results) == [0, 2, 4, 6, 8]


def test_several_maps_run_beside_each_other(executor):
    first, second = executor.map(calls.double, range(50)), executor.map(calls.identity, range(50))
    assert list(zip(first, second, strict=True)) == [(2 * x, x) for x in range(50)]
