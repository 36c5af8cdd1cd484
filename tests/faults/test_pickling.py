"""Arguments, results and exceptions that do not travel."""

import os
import threading

import pytest

from cloudexec import errors
from tests.contract.events import SOON
from tests.faults import deeds
from tests.faults.deeds import Trap
from tests.faults.scene import assert_explains

# --- arguments ---------------------------------------------------------------------------------


class ReduceRaises:
    def __reduce__(self):
        raise ZeroDivisionError("in __reduce__")


@pytest.mark.parametrize(
    ("argument", "blamed"),
    [
        pytest.param(threading.Lock(), "args[0]", id="a lock"),
        pytest.param((x for x in "abc"), "args[0]", id="a generator"),
        pytest.param({"deep": [1, threading.Lock()]}, "args[0]['deep'][1]", id="a lock, deep inside"),
        pytest.param(ReduceRaises(), "args[0]", id="its __reduce__ raises"),
    ],
)
def test_an_argument_that_does_not_pickle_is_named_by_its_own_future(scene, argument, blamed):
    future = scene.executor.submit(deeds.swallow, argument)
    error = future.exception(SOON)
    assert type(error) is errors.UnpicklableArgument
    assert blamed in str(error)
    assert "Remedy:" in str(error)
    scene.play(deeds.identity, 1)
    scene.assert_unharmed()


def test_a_keyword_argument_that_does_not_pickle_is_named(executor):
    error = executor.submit(deeds.swallow, _x=threading.Lock()).exception(SOON)
    assert type(error) is errors.UnpicklableArgument
    assert "_x (lock)" in str(error)


def test_a_function_that_does_not_pickle_fails_its_own_future(executor):
    lock = threading.Lock()
    error = executor.submit(lambda: lock.locked()).exception(SOON)
    assert type(error) is errors.UnpicklableArgument
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"


def test_an_argument_that_does_not_pickle_stops_map_where_it_stands(executor):
    with pytest.raises(errors.UnpicklableArgument):
        list(executor.map(deeds.identity, [1, 2, threading.Lock(), 4]))
    assert list(executor.map(deeds.identity, range(4))) == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whoever_leaves_while_an_argument_is_pickled_leaves_submit(executor, error):
    class Leaves:
        def __reduce__(self):
            raise error

    with pytest.raises(error):
        executor.submit(deeds.swallow, Leaves())
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"


def test_an_argument_that_raises_while_it_is_unpickled_fails_its_call_with_that_error(scene):
    victim = scene.play(deeds.swallow, Trap(deeds.refuse_outside, os.getpid(), "not in the worker"))
    error = victim.exception(0)
    assert type(error) is RuntimeError
    assert error.args == ("not in the worker",)
    assert "refuse_outside" in str(error.__cause__), "the remote traceback shows where"
    assert scene.runs_of_victim() == 0
    scene.assert_unharmed()


def test_an_argument_that_exits_while_it_is_unpickled_fails_its_call(scene):
    victim = scene.play(deeds.swallow, Trap(deeds.exit_outside, os.getpid()))
    assert type(victim.exception(0)) is errors.CallCrashed
    assert_explains(victim)
    scene.assert_unharmed()


def test_a_call_whose_arguments_do_not_unpickle_is_not_tried_again(executor):
    view = executor.with_options(retries=5)
    future = view.submit(deeds.swallow, Trap(deeds.refuse_outside, os.getpid(), "never"))
    assert type(future.exception(SOON)) is RuntimeError
    assert future.attempts == 1


# --- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "args", "type_name"),
    [
        pytest.param(deeds.make_lock, (), "lock", id="a lock"),
        pytest.param(deeds.make_generator, (), "generator", id="a generator"),
        pytest.param(deeds.make_trap, (deeds.refuse, "never"), "Trap", id="raises while it is unpickled"),
        pytest.param(deeds.make_trap, (deeds.leave, 3), "Trap", id="exits while it is unpickled"),
    ],
)
def test_a_result_that_does_not_come_back_is_a_described_error(scene, deed, args, type_name):
    victim = scene.play(deed, *args)
    error = victim.exception(0)
    assert type(error) is errors.UnpicklableResult
    assert type_name in str(error)
    assert "Remedy:" in str(error)
    assert scene.runs_of_victim() == 1
    scene.assert_unharmed()


def test_a_result_that_raises_while_it_is_unpickled_in_this_process_only(scene):
    victim = scene.play(deeds.make_trap, deeds.refuse_in, os.getpid(), "not in the client")
    error = victim.exception(0)
    assert type(error) is errors.ResultUnreadable
    assert "not in the client" in str(error)
    assert type(error.__cause__) is RuntimeError
    assert_explains(victim)
    scene.assert_unharmed()


def test_a_result_that_exits_while_it_is_unpickled_in_this_process_only(executor):
    future = executor.submit(deeds.make_trap, deeds.leave_in, os.getpid())
    assert type(future.exception(SOON)) is errors.ResultUnreadable
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"


# --- exceptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        pytest.param("TwoArguments", ("left", "right"), "left and right", id="its __init__ takes two arguments"),
        pytest.param("PicklesOnly", ("text",), "text", id="it pickles, and does not unpickle"),
        pytest.param("ReduceRaises", ("text",), "text", id="its __reduce__ raises"),
        pytest.param("StrRaises", ("text",), "StrRaises('text')", id="its __str__ raises"),
        pytest.param("NothingWorks", ("text",), "", id="its __reduce__, __str__ and __repr__ raise"),
        pytest.param("HoldsALock", ("text",), "text", id="it holds a lock"),
        pytest.param("UnpicklesAsAnother", ("text",), "text", id="it unpickles as another class"),
        pytest.param("ExitsWhenUnpickled", ("text",), "text", id="unpickling it leaves Python"),
    ],
)
def test_an_exception_that_does_not_travel_arrives_described(scene, name, args, message):
    victim = scene.play(deeds.raise_error, name, *args)
    error = victim.exception(0)
    assert type(error) is errors.RemoteError
    assert error.type_name == f"tests.faults.deeds.{name}"
    assert message in str(error)
    assert "Remedy:" in str(error)
    assert "raise_error" in str(error.__cause__), "the remote traceback shows where"
    assert scene.runs_of_victim() == 1
    scene.assert_unharmed()


def test_an_exception_whose_repr_raises_travels_as_itself(scene):
    victim = scene.play(deeds.raise_error, "ReprRaises", "text")
    error = victim.exception(0)
    assert type(error) is deeds.ReprRaises
    assert error.args == ("text",)
    scene.assert_unharmed()


def test_an_exception_whose_attributes_cannot_be_set_travels_as_itself(scene):
    victim = scene.play(deeds.raise_error, "Frozen", "text")
    error = victim.exception(0)
    assert type(error) is deeds.Frozen
    assert error.text == "text"
    assert "raise_error" in str(error.__cause__)
    scene.assert_unharmed()


def test_an_argument_that_raises_such_an_exception_while_it_is_unpickled(scene):
    victim = scene.play(deeds.swallow, Trap(deeds.raise_error, "Frozen", "text"))
    assert type(victim.exception(0)) is deeds.Frozen
    scene.assert_unharmed()


@pytest.mark.parametrize("name", ["NothingWorks", "ReprRaises", "StrRaises", "Frozen"])
def test_a_result_whose_unpickling_raises_what_cannot_be_shown(scene, name):
    victim = scene.play(deeds.make_trap, deeds.raise_error, name, "text")
    assert type(victim.exception(0)) is errors.UnpicklableResult
    unreadable = scene.executor.submit(deeds.make_trap, deeds.raise_in, os.getpid(), name, "text")
    assert type(unreadable.exception(SOON)) is errors.ResultUnreadable
    scene.assert_unharmed()


def test_an_exception_with_a_cause_that_does_not_pickle_travels_without_it(scene):
    victim = scene.play(deeds.raise_from_unpicklable)
    error = victim.exception(0)
    assert type(error) is ValueError
    assert "HoldsALock: the cause" in str(error.__cause__), "the remote traceback tells of it"
    scene.assert_unharmed()


def test_an_exception_that_unpickles_in_the_worker_only_arrives_described(scene):
    victim = scene.play(deeds.raise_error, "ErrorTrap", os.getpid())
    error = victim.exception(0)
    assert type(error) is errors.ResultUnreadable
    assert "not in the client" in str(error)
    scene.assert_unharmed()


def test_an_exception_that_leaves_python_while_it_is_unpickled_in_this_process_only(executor):
    future = executor.submit(deeds.raise_error, "ExitTrap", os.getpid())
    assert type(future.exception(SOON)) is errors.ResultUnreadable
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"
