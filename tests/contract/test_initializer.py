"""`initializer`, `initargs` and `max_tasks_per_child`: the life of a worker's process."""

from collections import Counter
from concurrent.futures import BrokenExecutor

import pytest

from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON


def test_the_initializer_runs_in_each_process_before_its_first_call(new_executor, gate):
    executor = new_executor(2, initializer=calls.remember, initargs=("model", {"weights": [1, 2]}))
    at_the_gate = [executor.submit(gate) for _ in range(2)]
    gate.wait_for(2)  # both processes are up
    gate.open()
    for future in at_the_gate:
        future.result(SOON)
    assert list(executor.map(calls.recall, ["model"] * 20)) == [{"weights": [1, 2]}] * 20


def test_the_initializer_runs_once_in_a_process(new_executor, tmp_path):
    log = tmp_path / "log"
    executor = new_executor(1, initializer=calls.append_line, initargs=(str(log), "initialized"))
    list(executor.map(calls.double, range(50)))
    assert log.read_text().splitlines() == ["initialized"]


def test_the_initializer_may_be_a_lambda(new_executor):
    executor = new_executor(1, initializer=lambda value: calls.remember("key", value), initargs=(5,))
    assert executor.submit(calls.recall, "key").result(SOON) == 5


def test_what_the_initializer_prints_belongs_to_no_call(new_executor):
    executor = new_executor(1, initializer=print, initargs=("hello",))
    future = executor.submit(calls.double, 1)
    future.result(SOON)
    assert future.stdout == ""


def test_what_the_initializer_sets_up_stays_in_the_process(new_executor):
    def set_up():
        import os

        os.environ["SET"] = "up"

    executor = new_executor(1, initializer=set_up)
    assert [executor.submit(calls.environment, "SET").result(SOON) for _ in range(3)] == ["up"] * 3


@pytest.mark.parametrize("declared", ["", "model = None", "model = 'the client\\'s own'"], ids=repr)
def test_a_global_set_by_the_initializer_of_a_script_is_seen_by_its_functions(run_script, declared):
    printed = run_script(f"""
        {declared}

        def load(value):
            global model
            model = [value]

        def predict(x):
            return model, x

        def indirectly(x):
            return predict(x)

        with NewExecutor(1, initializer=load, initargs=("loaded",)) as ex:
            print(list(ex.map(predict, range(3))))
            print(ex.submit(indirectly, 1).result(), ex.submit(lambda: predict(2)).result())
            model = "changed by the client later"
            print(ex.submit(predict, 3).result())
    """)
    assert printed.splitlines() == [
        "[(['loaded'], 0), (['loaded'], 1), (['loaded'], 2)]",
        "(['loaded'], 1) (['loaded'], 2)",
        "(['loaded'], 3)",
    ]


def test_what_an_initializer_loaded_is_one_object_for_all_calls_of_a_process(run_script):
    printed = run_script("""
        model = None

        def load():
            global model
            model = object()

        def which(_):
            return id(model)

        with NewExecutor(1, initializer=load) as ex:
            print(len(set(ex.map(which, range(10)))))
    """)
    assert printed == "1"


def test_an_initializer_that_fails_breaks_the_executor_and_its_own_error_is_the_cause(new_executor):
    executor = new_executor(2, initializer=calls.fail, initargs=("no such model",))
    futures = [executor.submit(calls.double, number) for number in range(5)]
    for future in futures:
        error = future.exception(SOON)
        assert isinstance(error, BrokenExecutor)
        assert isinstance(error, errors.InitializerFailed)
        assert type(error.__cause__) is ValueError
        assert error.__cause__.args == ("no such model",)
    assert len({id(future.exception()) for future in futures}) == 5


def test_after_a_failed_initializer_every_use_says_so(new_executor):
    executor = new_executor(1, initializer=calls.fail)
    executor.submit(calls.double, 1).exception(SOON)
    for use in (lambda: executor.submit(calls.double, 1), lambda: list(executor.map(calls.double, [1]))):
        with pytest.raises(BrokenExecutor) as caught:
            use()
        assert type(caught.value.__cause__) is ValueError
    executor.shutdown()


def test_a_map_whose_initializer_fails_raises_on_its_first_turn(new_executor):
    results = new_executor(1, initializer=calls.fail).map(calls.double, range(5))
    with pytest.raises(BrokenExecutor):
        next(results)


@pytest.mark.parametrize("leave", [lambda: exit(3), lambda: __import__("os")._exit(3)], ids=["sys.exit", "os._exit"])
def test_an_initializer_that_leaves_the_process_breaks_the_executor(new_executor, leave):
    future = new_executor(1, initializer=leave).submit(calls.double, 1)
    assert isinstance(future.exception(SOON), BrokenExecutor)


def test_with_a_broken_executor_with_ends_at_once_and_passes_the_body_s_error_on(new_executor):
    with pytest.raises(BrokenExecutor), new_executor(1, initializer=calls.fail) as executor:
        executor.submit(calls.double, 1).result(SOON)


def test_an_initializer_that_cannot_be_called_is_refused(new_executor):
    with pytest.raises(TypeError, match="initializer"):
        new_executor(1, initializer=5)


def test_an_initializer_that_cannot_be_pickled_is_refused(new_executor):
    with pytest.raises(errors.UnpicklableArgument):
        new_executor(1, initializer=calls.remember, initargs=(calls.Unpicklable(), 1))


# --- max_tasks_per_child -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tasks", [1, 3])
def test_a_process_runs_no_more_calls_than_allowed(new_executor, max_tasks):
    executor = new_executor(2, max_tasks_per_child=max_tasks)
    pids = [future.result(SOON) for future in [executor.submit(calls.pid) for _ in range(12)]]
    assert max(Counter(pids).values()) <= max_tasks


def test_a_process_runs_no_more_calls_of_a_map_than_allowed(new_executor):
    executor = new_executor(2, max_tasks_per_child=5)
    pids = list(executor.map(calls.pid, range(40)))
    assert max(Counter(pids).values()) <= 5


def test_a_process_serves_many_calls_by_default(single):
    assert len(set(single.map(calls.pid, range(40)))) == 1


def test_the_initializer_runs_in_each_replacement(new_executor):
    executor = new_executor(1, max_tasks_per_child=1, initializer=calls.remember, initargs=("key", "value"))
    assert list(executor.map(calls.recall, ["key"] * 4)) == ["value"] * 4


@pytest.mark.parametrize("max_tasks", [0, -1, 1.5])
def test_a_wrong_number_of_calls_is_refused(new_executor, max_tasks):
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        new_executor(1, max_tasks_per_child=max_tasks)
