"""Libraries that take any executor take ours. Those that are not installed are skipped, and say so."""

import io
import operator

import numpy as np
import pytest


@pytest.fixture
def dask():
    return pytest.importorskip("dask", reason="dask is not installed")


@pytest.fixture
def optimize():
    return pytest.importorskip("scipy.optimize", reason="scipy is not installed")


def test_dask_runs_a_graph_of_delayed_calls(dask, executor):
    squares = [dask.delayed(pow)(number, 2) for number in range(10)]
    total = dask.delayed(sum)(squares)
    assert total.compute(scheduler=executor) == 285


def test_dask_takes_an_executor_from_its_configuration(dask, executor):
    with dask.config.set(scheduler=executor):
        assert dask.compute(dask.delayed(operator.add)(1, 2), dask.delayed(operator.mul)(3, 4)) == (3, 12)


def test_dask_array_computes_what_numpy_does(dask, executor):
    da = pytest.importorskip("dask.array", reason="dask.array is not installed")
    array = np.arange(10_000.0).reshape(100, 100)
    result = (da.from_array(array, chunks=(50, 50)) ** 2).sum(axis=0).compute(scheduler=executor)
    assert np.allclose(result, (array**2).sum(axis=0))


def test_dask_hands_on_the_error_of_a_call(dask, executor):
    with pytest.raises(ZeroDivisionError):
        dask.delayed(operator.truediv)(1, 0).compute(scheduler=executor)


def distance(x):
    return float(((x - 3) ** 2).sum())


def test_scipy_differential_evolution_finds_the_minimum(optimize, executor):
    found = optimize.differential_evolution(
        distance, [(0, 10)] * 2, maxiter=5, popsize=5, seed=1, updating="deferred", workers=executor.map
    )
    assert found.success or found.nit == 5
    assert np.allclose(found.x, 3, atol=0.1)


def test_scipy_brute_gives_the_same_as_without_an_executor(optimize, executor):
    settings = {"ranges": [slice(0, 6, 0.5)] * 2, "finish": None}
    assert np.array_equal(
        optimize.brute(distance, workers=executor.map, **settings), optimize.brute(distance, **settings)
    )


def test_tqdm_shows_the_progress_of_a_map(executor):
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    shown = io.StringIO()
    assert list(tqdm.tqdm(executor.map(abs, range(-20, 0)), total=20, file=shown)) == list(range(20, 0, -1))
    assert "20/20" in shown.getvalue()
