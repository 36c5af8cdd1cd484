"""`submit`: what it takes, what it returns, and what becomes of a call that fails."""

import concurrent.futures
import traceback

import pytest

from cloudexec import errors
from tests.contract import calls
from tests.contract.events import SOON


@pytest.fixture
def executor(handed_on):
    """Two workers, which have worked for other tests."""
    return handed_on(2)


def test_it_is_an_executor_of_the_standard_library(executor):
    assert isinstance(executor, concurrent.futures.Executor)


def test_a_future_is_one_of_the_standard_library(executor):
    assert isinstance(executor.submit(calls.double, 1), concurrent.futures.Future)


def test_positional_and_keyword_arguments_arrive(executor):
    future = executor.submit(calls.arguments, 1, "two", [3], four=4, five=None)
    assert future.result(SOON) == ((1, "two", [3]), {"four": 4, "five": None})


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("fn", id="the name of submit's first parameter"),
        pytest.param("self", id="the name of the executor's own parameter"),
        *["timeout", "timeout_s", "retries", "env", "name", "chunksize", "args", "kwargs", "options", "function"],
    ],
)
def test_any_keyword_belongs_to_the_call(executor, name):
    assert executor.submit(calls.arguments, **{name: 1}).result(SOON) == ((), {name: 1})


def test_all_the_tempting_keywords_at_once_belong_to_the_call(executor):
    keywords = {"fn": 1, "self": 2, "timeout_s": 3, "env": 4, "name": 5, "retries": 6}
    assert executor.submit(dict, **keywords).result(SOON) == keywords


def test_submit_without_a_callable_is_an_error_at_once(executor):
    with pytest.raises(TypeError):
        executor.submit()
    with pytest.raises(TypeError):
        executor.submit(fn=calls.double)


def test_what_cannot_be_called_fails_in_its_future(executor):
    with pytest.raises(TypeError, match="not callable"):
        executor.submit(3).result(SOON)


def test_an_exception_keeps_its_type_and_arguments(executor):
    error = executor.submit(calls.fail, "a message").exception(SOON)
    assert type(error) is ValueError
    assert error.args == ("a message",)


def test_the_remote_traceback_is_the_cause(executor):
    error = executor.submit(calls.fail).exception(SOON)
    shown = "".join(traceback.format_exception(type(error), error, None))
    assert isinstance(error.__cause__, errors.RemoteTraceback)
    assert "in fail" in shown
    assert "calls.py" in shown


def test_the_remote_traceback_shows_the_user_s_frames_only(executor):
    error = executor.submit(calls.fail).exception(SOON)
    assert "cloudexec/worker" not in str(error.__cause__)


def test_each_future_has_an_exception_object_of_its_own(executor):
    first, second = (executor.submit(calls.fail).exception(SOON) for _ in range(2))
    assert first is not second


def test_an_exception_raised_from_another_shows_both(executor):
    def chained():
        try:
            calls.fail("the root")
        except ValueError as error:
            raise LookupError("the surface") from error

    error = executor.submit(chained).exception(SOON)
    assert type(error) is LookupError
    assert "the root" in str(error.__cause__)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        pytest.param(calls.identity, (calls.Unpicklable(),), id="argument"),
        pytest.param(calls.identity, ([1, {"deep": calls.Unpicklable()}],), id="argument, deep inside"),
        pytest.param(calls.Unpicklable(), (), id="function"),
        pytest.param((lambda it: lambda: it)(calls.Unpicklable()), (), id="closure"),
    ],
)
def test_what_cannot_be_pickled_is_the_exception_of_its_future_alone(executor, function, args):
    before, bad, after = executor.submit(calls.double, 1), executor.submit(function, *args), executor.submit(len, "ab")
    assert isinstance(bad.exception(SOON), errors.UnpicklableArgument)
    assert "this object stays here" in str(bad.exception())
    assert (before.result(SOON), after.result(SOON)) == (2, 2)


def test_the_unpicklable_argument_is_named(executor):
    future = executor.submit(calls.arguments, 1, key={"deep": calls.Unpicklable()})
    assert "key['deep']" in str(future.exception(SOON))


def test_an_exception_that_cannot_travel_is_described_and_no_other_call_is_harmed(executor):
    class Picky(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def raise_it():
        raise Picky("this", "that")

    before, bad, after = executor.submit(calls.double, 1), executor.submit(raise_it), executor.submit(calls.double, 2)
    assert isinstance(bad.exception(SOON), errors.RemoteError)
    assert "this and that" in str(bad.exception())
    assert bad.exception().type_name.endswith("Picky")
    assert (before.result(SOON), after.result(SOON)) == (2, 4)


def test_sys_exit_in_a_call_is_that_call_s_error_and_does_not_end_the_client(executor):
    def leave():
        raise SystemExit(3)

    error = executor.submit(leave).exception(SOON)
    assert isinstance(error, errors.CallExited)
    assert error.code == 3


def test_a_call_may_return_an_exception(executor):
    result = executor.submit(calls.identity, KeyError("k")).result(SOON)
    assert type(result) is KeyError


@pytest.mark.parametrize("value", [None, 0, "", b"", [], {}, float("inf"), (1, (2, (3,))), {1, 2}, "ü" * 70_000])
def test_a_result_comes_back_as_it_was(executor, value):
    assert executor.submit(calls.identity, value).result(SOON) == value
