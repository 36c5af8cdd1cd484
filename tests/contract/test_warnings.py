"""Warnings that travel: a category with `travels = True` is issued again where the result is looked at."""

import warnings

import pytest

from cloudexec.errors import RWarning


def warn_and_return(x):
    print("printed, too")
    warnings.warn(f"about {x}", RWarning, stacklevel=1)
    return x


def warn_as_python_does(x):
    warnings.warn("stays in stderr", UserWarning, stacklevel=1)
    return x


def test_a_warning_of_a_call_is_issued_once_where_its_result_is_looked_at(executor):
    future = executor.submit(warn_and_return, 3)
    with pytest.warns(RWarning, match="about 3") as caught:
        assert future.result(timeout=60) == 3
    assert caught[0].filename == __file__
    assert future.result() == 3
    assert future.stdout == "printed, too\n"
    assert "about 3" in future.stderr


def test_warnings_of_map_are_issued_as_results_are_taken(executor):
    with pytest.warns(RWarning) as caught:
        assert list(executor.map(warn_and_return, range(3))) == [0, 1, 2]
    assert [str(each.message) for each in caught] == ["about 0", "about 1", "about 2"]
    assert {each.filename for each in caught} == {__file__}


def test_where_warnings_are_errors_the_result_can_still_be_had(executor):
    future = executor.submit(warn_and_return, 5)
    with pytest.raises(RWarning, match="about 5"):
        future.result(timeout=60)
    assert future.result() == 5


def test_other_warnings_stay_in_the_calls_stderr(executor):
    future = executor.submit(warn_as_python_does, 1)
    assert future.result(timeout=60) == 1
    assert "stays in stderr" in future.stderr
