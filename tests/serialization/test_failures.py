"""Exceptions on their way from the worker to the future."""

import pickle
import sys
import traceback

import pytest

from cloudexec.errors import CallExited, RemoteError, RemoteTraceback, ResultUnreadable
from cloudexec.serialization.failures import load_failure, pack_failure
from cloudexec.serialization.pickling import dumps
from cloudexec.wire.parts import pack_parts


def raised(error, cause=None):
    """The exception with a traceback, as a worker catches it."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def sent(error):
    """How it arrives."""
    return load_failure(pack_failure(error), None)


def shown(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class ReduceRaises(Exception):
    def __reduce__(self):
        raise ZeroDivisionError


class ReducesToAnother(Exception):
    def __reduce__(self):
        return ValueError, ("another",)


class StrRaises(Exception):
    def __str__(self):
        raise ZeroDivisionError

    def __repr__(self):
        raise ZeroDivisionError


class ReduceExits(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class Slotted(Exception):
    __slots__ = ("extra",)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("text", 2), id="with arguments"),
        pytest.param(KeyError("key"), id="KeyError"),
        pytest.param(OSError(2, "No such file", "name"), id="OSError"),
        pytest.param(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), id="UnicodeDecodeError"),
        pytest.param(StopIteration(3), id="StopIteration"),
        pytest.param(MemoryError(), id="MemoryError"),
        pytest.param(Slotted("x"), id="with slots"),
        pytest.param(CallExited("nested", 3), id="one of our own"),
    ],
)
def test_an_exception_arrives_as_it_left(error):
    arrived = sent(raised(error))
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)


def test_attributes_and_notes_arrive():
    error = ValueError("x")
    error.status = 404
    error.__dict__["__notes__"] = ["a note"]  # add_note came with Python 3.11
    arrived = sent(raised(error))
    assert arrived.status == 404
    assert arrived.__notes__ == ["a note"]


def test_the_remote_traceback_is_the_cause_and_is_shown():
    def deep_inside():
        raise ValueError("x")

    try:
        deep_inside()
    except ValueError as caught:
        arrived = sent(caught)
    assert isinstance(arrived.__cause__, RemoteTraceback)
    assert "in deep_inside" in str(arrived.__cause__)
    assert "in deep_inside" in shown(arrived)
    assert shown(arrived).rstrip().endswith("ValueError: x")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(raised(ValueError("x"), KeyError("why")), ["KeyError: 'why'", "direct cause"], id="its cause"),
        pytest.param(raised(TwoArguments(1, 2), KeyError("why")), ["KeyError: 'why'"], id="even if it cannot travel"),
    ],
)
def test_the_remote_traceback_shows(error, words):
    text = str(sent(error).__cause__)
    assert all(word in text for word in words)


def test_the_remote_traceback_shows_the_context():
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904 - the context is what is tested
    except ValueError as caught:
        text = str(sent(caught).__cause__)
    assert "During handling" in text
    assert "KeyError: 'first'" in text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="add_note came with Python 3.11")
def test_the_remote_traceback_shows_notes():
    error = ValueError("x")
    error.add_note("in row 17")
    assert "in row 17" in str(sent(raised(error)).__cause__)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_an_exception_group_arrives_with_its_members():
    group = ExceptionGroup("both", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])  # noqa: F821 - 3.11
    arrived = sent(raised(group))
    assert type(arrived) is type(group)
    assert arrived.message == "both"
    assert [type(member) for member in arrived.exceptions] == [ValueError, type(group)]
    assert "KeyError: 'b'" in str(arrived.__cause__)


def test_frames_of_ours_are_left_out():
    def ours(function):
        function()

    def users():
        raise ValueError

    try:
        ours(users)
    except ValueError as caught:
        text = str(load_failure(pack_failure(caught, own_frames=2), None).__cause__)
    assert "in users" in text
    assert "in ours" not in text
    assert "test_frames_of_ours" not in text


def test_a_traceback_with_fewer_frames_than_ours_is_no_problem():
    assert isinstance(load_failure(pack_failure(ValueError("never raised"), own_frames=5), None), ValueError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(SystemExit(3), 3, id="sys.exit(3)"),
        pytest.param(SystemExit(), None, id="sys.exit()"),
        pytest.param(SystemExit("message"), "message", id="sys.exit('message')"),
        pytest.param(SystemExit([1, {}]), "[1, {}]", id="sys.exit of something else"),
        pytest.param(KeyboardInterrupt(), None, id="KeyboardInterrupt"),
        pytest.param(GeneratorExit(), None, id="GeneratorExit"),
    ],
)
def test_what_would_end_the_client_arrives_as_call_exited(error, code):
    arrived = sent(raised(error))
    assert type(arrived) is CallExited
    assert arrived.code == code
    assert type(error).__name__ in str(arrived)
    assert type(error).__name__ in str(arrived.__cause__)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TwoArguments("a", "b"), id="pickles, but does not unpickle"),
        pytest.param(ReduceRaises("a and b"), id="its __reduce__ raises"),
        pytest.param(ReduceExits("a and b"), id="its __reduce__ leaves Python"),
        pytest.param(ReducesToAnother("a and b"), id="unpickles as something else"),
        pytest.param(ValueError(iter(x for x in "a and b")), id="carries what cannot be pickled"),
        pytest.param(StrRaises("a and b"), id="cannot be shown"),
    ],
)
def test_what_would_not_arrive_as_it_left_is_described(error):
    arrived = sent(raised(error))
    assert type(arrived) is RemoteError
    assert arrived.type_name.endswith(type(error).__qualname__)
    assert type(error).__qualname__ in str(arrived)
    assert type(error).__qualname__ in str(arrived.__cause__)
    pickle.loads(pickle.dumps(arrived))


def test_a_traceback_of_any_length_travels_with_its_beginning_and_end():
    arrived = sent(raised(ValueError("begin " + "x" * 1_000_000 + " end")))
    text = str(arrived.__cause__)
    assert len(text) < 70_000
    assert "Traceback" in text
    assert " end" in text


def test_a_deep_recursion_arrives():
    def forever():
        forever()

    try:
        forever()
    except RecursionError as caught:
        arrived = sent(caught)
    assert type(arrived) is RecursionError
    assert len(str(arrived.__cause__)) < 70_000


def test_a_local_exception_class_arrives():
    class Local(Exception):
        pass

    assert type(sent(raised(Local("x")))).__name__ == "Local"


def test_two_arrivals_are_two_objects():
    packed = pack_failure(raised(ValueError("x")))
    assert load_failure(packed, None) is not load_failure(packed, None)


def test_an_exception_that_cannot_be_read_here_is_result_unreadable():
    arrived = load_failure(pack_parts([b"no pickle"]), None)
    assert type(arrived) is ResultUnreadable
    assert arrived.__cause__ is not None


def test_what_is_no_exception_here_is_result_unreadable():
    assert type(load_failure(pack_parts([dumps(("text", "traceback")).stream]), None)) is ResultUnreadable
