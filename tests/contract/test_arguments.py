"""Arguments: a call gets what they were at the moment of `submit`, as objects of its own."""

import threading
import weakref

import numpy as np
import pandas as pd
import pytest

from tests.contract import calls
from tests.contract.events import SOON, eventually

BIG = 100_000_000 // 8  # items of an array of 100 MB
BIG_IN_S3 = 40_000_000 // 8  # in many parts each way; the emulated S3 takes a second of CPU for 100 MB


def total(array):
    return float(array.sum())


@pytest.fixture
def executor(handed_on):
    """Two workers, which have worked for other tests."""
    return handed_on(2)


@pytest.fixture
def single(handed_on):
    """One worker, which has worked for other tests: what they have left behind must not be seen."""
    return handed_on(1)


@pytest.fixture
def queued(single, gate):
    """An executor whose only worker is busy until the gate is opened."""
    single.submit(gate)
    gate.wait_for(1)
    return single


def test_a_list_changed_after_submit_arrives_as_it_was(queued, gate):
    values = [1]
    future = queued.submit(calls.identity, values)
    values.append(2)
    gate.open()
    assert future.result(SOON) == [1]


@pytest.mark.parametrize("items", [10, 10_000, 1_000_000, pytest.param(BIG, id="big")])
def test_an_array_changed_after_submit_arrives_as_it_was(queued, gate, kind, items):
    items = min(items, BIG_IN_S3) if kind.in_containers else items
    array = np.zeros(items)
    first = queued.submit(total, array)
    array[:] = 1
    second = queued.submit(total, array)
    array[-1] = 5
    gate.open()
    assert (first.result(SOON), second.result(SOON)) == (0, items)


def test_an_array_changed_between_two_inputs_of_a_map_arrives_as_it_was(executor):
    array = np.zeros(1_000_000)

    def inputs():
        for value in range(4):
            array[:] = value
            yield array

    assert list(executor.map(total, inputs())) == [0, 1e6, 2e6, 3e6]


def test_an_array_changed_between_two_maps_arrives_as_it_was(executor):
    array = np.zeros(1_000_000)
    first = executor.map(total, [array] * 3)
    array[:] = 1
    second = executor.map(total, [array] * 3)
    assert (list(first), list(second)) == ([0] * 3, [1e6] * 3)


def test_an_array_changed_while_another_thread_maps_arrives_as_it_was(executor):
    inside, proceed = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self):
            inside.set()
            proceed.wait(SOON)
            return int, ()

    mapper = threading.Thread(target=lambda: list(executor.map(calls.identity, [Slow()])))
    mapper.start()
    inside.wait(SOON)
    array = np.zeros(1_000_000)
    futures = []
    for value in range(3):
        array[:] = value
        futures.append(executor.submit(total, array))
    proceed.set()
    mapper.join(SOON)
    assert [future.result(SOON) for future in futures] == [0, 1e6, 2e6]


@pytest.mark.parametrize("items", [10, 10_000, 1_000_000])
def test_an_array_changed_in_place_by_one_call_is_not_seen_by_another(single, items):
    array = np.ones(items)
    assert [single.submit(calls.overwrite, array).result(SOON) for _ in range(3)] == [items] * 3
    assert list(single.map(calls.overwrite, [array] * 3)) == [items] * 3
    assert array.sum() == items


@pytest.mark.parametrize("items", [10, 10_000, 1_000_000])
def test_an_array_that_a_function_closes_over_is_never_changed_for_another_call(single, items):
    array = np.ones(items)
    overwrite = lambda _: calls.overwrite(array)  # noqa: E731 - the closure is the point
    assert list(single.map(overwrite, range(3))) == [items] * 3
    assert single.submit(overwrite, None).result(SOON) == items


@pytest.mark.parametrize("items", [1, 10_000, 1_000_000])
def test_arrays_arrive_writable_and_aligned(executor, items):
    flags = executor.submit(lambda array: (array.flags.writeable, array.flags.aligned), np.ones(items)).result(SOON)
    assert flags == (True, True)


@pytest.mark.parametrize("items", [1, 10_000, 1_000_000])
def test_an_array_in_a_result_is_writable_in_the_client(executor, items):
    result = executor.submit(np.ones, items).result(SOON)
    result += 1
    assert result.sum() == 2 * items


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.asfortranarray(np.arange(1_000_000.0).reshape(1000, 1000)), id="column-major"),
        pytest.param(np.arange(1_000_000)[::2], id="with gaps"),
        pytest.param(np.array([{"a": 1}, None, "text"], dtype=object), id="of objects"),
        pytest.param(np.zeros((0, 3)), id="empty"),
        pytest.param(np.array(5), id="without dimensions"),
    ],
)
def test_an_array_arrives_and_returns_equal(executor, array):
    result = executor.submit(calls.identity, array).result(SOON)
    assert np.array_equal(result, array)
    assert result.dtype == array.dtype


def test_a_data_frame_arrives_and_returns_equal(executor):
    frame = pd.DataFrame({"x": np.arange(200_000), "y": "text"})
    assert executor.submit(calls.identity, frame).result(SOON).equals(frame)


def test_one_object_given_twice_to_a_call_is_one_object_there(executor):
    array = np.ones(1_000_000)
    assert executor.submit(lambda a, b: a is b, array, array).result(SOON)


def test_an_argument_is_freed_once_its_call_is_over(executor):
    array = np.ones(10)
    reference = weakref.ref(array)
    future = executor.submit(total, array)
    future.result(SOON)
    del array
    eventually(lambda: reference() is None)


def test_a_result_is_freed_with_its_future(executor):
    future = executor.submit(np.ones, 10)
    reference = weakref.ref(future.result(SOON))
    del future
    eventually(lambda: reference() is None)
