"""What R is told about a task that failed, and how the bytes that all tasks share travel."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from cloudexec.adapters.foreach.outcomes import N_PARTS, SEPARATOR, Outcome, outcome_of
from cloudexec.errors import CallTimeout, RCrashed, RError
from cloudexec.errors.rlang import RFacts, RFrame
from cloudexec.r.robject import RObject
from cloudexec.serialization.pickling import dumps

CONDITION = RObject(data=b"X\ncondition")


def ended(error: BaseException) -> Outcome:
    future: Future[bytes] = Future()
    future.set_exception(error)
    return outcome_of(3, future)


def test_a_value_passes_as_its_bytes() -> None:
    future: Future[bytes] = Future()
    future.set_result(b"X\nvalue")
    assert outcome_of(3, future) == Outcome(number=3, kind="value", value=b"X\nvalue")


def test_an_error_of_rs_is_told_as_its_condition_with_stack_and_warnings() -> None:
    stack = (RFrame(2, "f(x)"), RFrame(None, "g()"))
    facts = RFacts("no", ("simpleError",), "f(x)", stack, ("w1", "w2\nmore"), "", "", CONDITION)
    outcome = ended(RError("no", facts))
    assert (outcome.kind, outcome.value) == ("condition", CONDITION.data)
    assert outcome.traceback == ("f(x) (line 2)", "g()")
    assert outcome.parts()[6] == SEPARATOR.join(["w1", "w2\nmore"])


@pytest.mark.parametrize(
    ("error", "classes"),
    [
        pytest.param(RCrashed("gone"), ("RCrashed", "RError", "CloudexecError"), id="R died, and left no condition"),
        pytest.param(CallTimeout("late", 2.0), ("CallTimeout", "CloudexecError"), id="an error of ours"),
        pytest.param(KeyError("k"), ("KeyError",), id="any other"),
    ],
)
def test_other_failures_are_told_in_words_with_their_classes(error: Exception, classes: tuple[str, ...]) -> None:
    outcome = ended(error)
    assert (outcome.kind, outcome.value, outcome.classes) == ("failure", b"", classes)
    assert outcome.message == str(error)


def test_a_cancelled_task_is_a_failure() -> None:
    future: Future[bytes] = Future()
    future.cancel()
    assert outcome_of(1, future).classes == ("CancelledError",)


def test_texts_have_no_nul_because_rs_have_none() -> None:
    parts = Outcome(number=1, kind="failure", message="a\0b", stdout="\0").parts()
    assert len(parts) == N_PARTS
    assert "ab" in parts
    assert not any("\0" in part for part in parts if isinstance(part, str))


def test_bytes_that_all_tasks_share_stay_outside_the_pickle_so_that_they_are_uploaded_once() -> None:
    data = b"X\n" + bytes(1 << 20)
    common = RObject(data=data)
    first, second = (dumps(((common, RObject(data=b"X\n%d" % i)), {})) for i in range(2))
    assert len(first.stream) < 1000
    assert first.buffers[0].obj is second.buffers[0].obj is data
