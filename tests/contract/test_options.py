"""Settings of an executor and options of its calls."""

import pickle

import pytest

import cloudexec
from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON, Gate, eventually

# --- the executor ----------------------------------------------------------------------------------------


def test_it_works_without_arguments(kind):
    with kind.new(None) as executor:
        assert executor.submit(calls.double, 1).result(SOON) == 2
        assert type(executor._max_workers) is int
        assert executor._max_workers == executor.max_workers >= 1


def test_max_workers_is_an_int_that_libraries_may_read(executor):
    assert (executor._max_workers, executor.max_workers) == (2, 2)
    assert type(executor._max_workers) is int
    assert executor.with_options(name="n")._max_workers == 2


def test_it_is_not_callable(executor):
    assert not callable(executor)
    assert not callable(executor.with_options(name="n"))


@pytest.mark.parametrize("max_workers", [0, -1, 1.5, "2"])
def test_a_wrong_number_of_workers_is_refused(new_executor, max_workers):
    with pytest.raises(ValueError, match="max_workers"):
        new_executor(max_workers)


def test_no_more_than_max_workers_calls_run_at_once(executor, gate):
    futures = [executor.submit(gate) for _ in range(6)]
    gate.wait_for(2)
    eventually(lambda: executor.run.running == 2)  # workers elsewhere tell it a moment later
    assert gate.arrivals == 2
    gate.open()
    for future in futures:
        future.result(SOON)


def test_calls_run_at_the_same_time_in_different_processes(executor, gate):
    futures = [executor.submit(gate) for _ in range(2)]
    assert len(set(gate.wait_for(2))) == 2
    gate.open()
    for future in futures:
        future.result(SOON)


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(lambda executor: executor, id="executor"),
        pytest.param(lambda executor: executor.with_options(name="n"), id="view"),
    ],
)
def test_pickling_it_is_a_clear_error(executor, thing):
    with pytest.raises(errors.ExecutorNotPicklable, match="cannot be pickled"):
        pickle.dumps(thing(executor))
    error = executor.submit(calls.identity, thing(executor)).exception(SOON)
    assert "cannot be pickled" in str(error)
    held = thing(executor)
    assert isinstance(executor.submit(lambda: held).exception(SOON), pickle.PicklingError | TypeError)
    assert executor.submit(calls.double, 1).result(SOON) == 2


# --- with_options ----------------------------------------------------------------------------------------


def test_a_view_is_an_executor_with_the_same_workers_and_run(single):
    view = single.with_options(name="n")
    assert view.run.id == single.run.id
    assert view.submit(calls.pid).result(SOON) == single.submit(calls.pid).result(SOON)
    assert list(view.map(calls.double, range(3))) == [0, 2, 4]
    assert single.run.done == 5


def test_options_of_a_view_do_not_reach_the_executor(single):
    view = single.with_options(env={"OPTION": "set"})
    assert view.submit(calls.environment, "OPTION").result(SOON) == "set"
    assert single.submit(calls.environment, "OPTION").result(SOON) is None


def test_views_of_views_add_up(single):
    view = single.with_options(env={"ONE": "1"}, name="n").with_options(env={"TWO": "2"})
    futures = [view.submit(calls.environment, name) for name in ("ONE", "TWO")]
    assert [future.result(SOON) for future in futures] == ["1", "2"]


def test_an_unknown_option_is_refused(executor):
    with pytest.raises(TypeError, match="memory_of_an_elephant"):
        executor.with_options(memory_of_an_elephant=1)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"retries": -1},
        {"env": {"A": 1}},
        {"env": {1: "a"}},
        {"env": {"": "a"}},
        {"env": {"A=B": "a"}},
        {"env": {"A": "a\0b"}},
    ],
    ids=repr,
)
def test_a_wrong_option_is_refused_when_it_is_given(executor, new_executor, options):
    with pytest.raises(ValueError):
        executor.with_options(**options)
    with pytest.raises(ValueError):
        new_executor(1, **options)


@pytest.mark.parametrize("as_setting", [False, True], ids=["with_options", "of the executor"])
class TestOption:
    """Each option works as a setting of the whole executor and as an option of a view."""

    @pytest.fixture
    def using(self, new_executor, as_setting):
        return lambda **options: new_executor(1, **options) if as_setting else new_executor(1).with_options(**options)

    def test_env_adds_environment_variables_to_the_call(self, using, kind, monkeypatch):
        monkeypatch.setenv("INHERITED", "yes")
        executor = using(env={"ADDED": "ü"})
        names = ("ADDED", "INHERITED", "ABSENT", "PATH")
        added, inherited, absent, path = [executor.submit(calls.environment, name).result(SOON) for name in names]
        assert (added, absent) == ("ü", None)
        assert path  # what the worker has besides is kept
        assert inherited == (None if kind.in_containers else "yes")

    def test_name_stands_in_errors_that_the_executor_makes(self, using):
        executor = using(name="nightly", timeout_s=0.2)
        assert "(nightly)" in str(executor.submit(calls.sleep, SOON).exception(SOON))

    def test_timeout_s_kills_a_call_that_runs_too_long_and_harms_no_other(self, using):
        executor = using(timeout_s=2)  # a new process must be able to import the call's module in this time
        slow, quick = executor.submit(calls.sleep, SOON), executor.submit(calls.double, 1)
        error = slow.exception(SOON)
        assert isinstance(error, errors.CallTimeout)
        assert isinstance(error, TimeoutError)
        assert "timeout_s=2" in str(error)
        assert quick.result(SOON) == 2

    def test_timeout_s_does_not_count_the_time_in_the_queue(self, using):
        executor = using(timeout_s=2)
        futures = [executor.submit(calls.sleep, 0.45) for _ in range(5)]
        assert [future.result(SOON) for future in futures] == [0.45] * 5

    def test_retries_repeat_a_call_that_raised(self, using, tmp_path):
        future = using(retries=2).submit(calls.fail_until, str(tmp_path / "tries"), 3)
        assert future.result(SOON) == 3
        assert future.attempts == 3

    def test_retries_end_with_the_last_error(self, using, tmp_path):
        future = using(retries=1).submit(calls.fail_until, str(tmp_path / "tries"), 9)
        with pytest.raises(ValueError, match="attempt 2"):
            future.result(SOON)
        assert future.attempts == 2

    def test_retries_may_be_told_apart_by_cause(self, using, tmp_path):
        executor = using(retries=cloudexec.Retry(timeout=1, error=0), timeout_s=2)
        assert executor.submit(calls.fail_until, str(tmp_path / "tries"), 2).exception(SOON).args == ("attempt 1",)
        gate = Gate(tmp_path / "gate")
        late = executor.submit(gate)
        assert isinstance(late.exception(SOON), errors.CallTimeout)
        assert (late.attempts, gate.arrivals) == (2, 2)


def test_without_retries_an_error_of_the_call_is_not_repeated(executor, tmp_path):
    future = executor.submit(calls.fail_until, str(tmp_path / "tries"), 2)
    assert future.exception(SOON).args == ("attempt 1",)
    assert future.attempts == 1


def test_options_hold_for_the_calls_of_map(single, tmp_path):
    view = single.with_options(env={"OPTION": "set"}, retries=1)
    assert list(view.map(calls.environment, ["OPTION"] * 3)) == ["set"] * 3
    assert list(view.map(calls.fail_until, [str(tmp_path / "tries")], [2])) == [2]
