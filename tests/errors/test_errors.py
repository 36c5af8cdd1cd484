"""What holds for every error class, and for each of them."""

import concurrent.futures
import pickle
import re
from pathlib import Path

import pytest

from cloudexec import errors
from cloudexec.errors import CloudexecError

CLASSES = [getattr(errors, name) for name in errors.__all__]
TROUBLESHOOTING = Path(__file__).parents[2] / "docs" / "troubleshooting.md"

each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def subclasses_of(kind):
    return {kind}.union(*map(subclasses_of, kind.__subclasses__()))


def test_every_error_class_of_the_library_is_listed():
    """What commands alone tell each other, in cloudexec.infra, no program meets; it is there if those ran before."""
    defined_by_us = {kind for kind in subclasses_of(CloudexecError) if kind.__module__.startswith("cloudexec.")}
    assert {kind for kind in defined_by_us if not kind.__module__.startswith("cloudexec.infra.")} == set(CLASSES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchError"):
        _ = errors.NoSuchError


@each_class
def test_an_error_has_a_docstring_and_a_remedy(kind):
    assert "__doc__" in vars(kind)
    assert kind.__doc__
    assert kind.remedy


@each_class
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("call r1/17 did this",), id="what happened"),
        pytest.param(("call r1/17 did this", 3), id="one more argument"),
        pytest.param(("100 % of {this} is\nü",), id="text that formatting might touch"),
    ],
)
def test_an_error_survives_pickling(kind, arguments):
    before = kind(*arguments, remedy="try this")
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is kind
    assert after.args == before.args == arguments
    assert after.remedy == "try this"
    assert str(after) == str(before)


def test_the_error_with_the_most_arguments_survives_pickling():
    before = errors.RemoteError("m.Kind: text", "m.Kind", "text")
    assert pickle.loads(pickle.dumps(before)).args == ("m.Kind: text", "m.Kind", "text")


@each_class
def test_an_error_without_its_own_remedy_shows_that_of_its_class_after_pickling(kind):
    after = pickle.loads(pickle.dumps(kind("what")))
    assert after.remedy == kind.remedy
    assert after.what == "what"


@each_class
def test_notes_and_attributes_survive_pickling(kind):
    error = kind("what")
    error.__dict__["__notes__"] = ["a note"]  # add_note came with Python 3.11
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["a note"]


@pytest.mark.parametrize("kind", sorted(set(CLASSES) - {errors.ExecutorClosed, errors.RemoteTraceback}, key=str))
def test_the_text_says_what_happened_and_what_to_try(kind):
    assert str(kind("the disk is full", remedy="make room")) == "the disk is full. Remedy: make room"


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        pytest.param("SettingsError", ValueError, id="a bad setting is a ValueError"),
        pytest.param("UnpicklableArgument", pickle.PicklingError, id="as pickle itself would say"),
        pytest.param("UnpicklableResult", pickle.PicklingError, id="as pickle itself would say of a result"),
        pytest.param("ExecutorClosed", RuntimeError, id="submit after shutdown raises RuntimeError by contract"),
        pytest.param("ExecutorForked", RuntimeError, id="so does submit in a forked child"),
        pytest.param("ExecutorNotPicklable", TypeError, id="what cannot be pickled is a TypeError"),
        pytest.param("CallTimeout", TimeoutError, id="a call that took too long"),
        pytest.param("OutOfMemory", errors.CallCrashed, id="out of memory is a kind of crash"),
        pytest.param("StoreFull", OSError, id="a full store, as open().write() would say"),
        pytest.param("BlobMissing", LookupError, id="a missing blob"),
        pytest.param("SignatureError", errors.WireError, id="a wrong signature is a kind of damage"),
        pytest.param("InitializerFailed", concurrent.futures.BrokenExecutor, id="initializer: broken by contract"),
        pytest.param("WorkerStartFailed", concurrent.futures.BrokenExecutor, id="no worker: broken"),
        pytest.param("CapacityUnavailable", errors.WorkerStartFailed, id="no room is a failed start"),
        pytest.param("ImagePullFailed", errors.WorkerStartFailed, id="no image is a failed start"),
        pytest.param("TaskStopped", errors.WorkerLost, id="a stopped container is a lost worker"),
        pytest.param("EngineFailed", concurrent.futures.BrokenExecutor, id="engine dead: broken"),
        pytest.param("FunctionTimeout", TimeoutError, id="a call that outlasts its Lambda function"),
        pytest.param("EnvironmentLost", errors.WorkerLost, id="a lost environment is a lost worker"),
        pytest.param("EventDropped", errors.WorkerLost, id="so is a dropped event"),
        pytest.param("FunctionMissing", errors.WorkerStartFailed, id="no function: no worker can start"),
        pytest.param("InvocationThrottled", errors.WorkerStartFailed, id="refused for too long: broken"),
    ],
)
def test_an_error_is_also_what_callers_catch(kind, base):
    assert issubclass(getattr(errors, kind), base)
    assert issubclass(getattr(errors, kind), CloudexecError)


def test_only_what_ends_the_executor_is_a_broken_executor():
    broken = {kind.__name__ for kind in CLASSES if issubclass(kind, concurrent.futures.BrokenExecutor)}
    starts = {kind.__name__ for kind in CLASSES if issubclass(kind, errors.WorkerStartFailed)}
    assert broken == {"InitializerFailed", "EngineFailed", "RunDetached", "RunTakenOver"} | starts


@pytest.mark.parametrize(
    ("error", "fact", "value"),
    [
        pytest.param(errors.CallExited("it left", 3), "code", 3, id="exit code"),
        pytest.param(errors.CallExited("it left"), "code", None, id="no exit code"),
        pytest.param(errors.CallCrashed("it died", -11), "exitcode", -11, id="signal"),
        pytest.param(errors.CallCrashed("it died"), "exitcode", None, id="nobody knows"),
        pytest.param(errors.OutOfMemory("it died", -9), "exitcode", -9, id="inherited"),
        pytest.param(errors.RemoteError("x", "m.Kind", "text"), "type_name", "m.Kind", id="type of the original"),
        pytest.param(errors.RemoteError("x"), "type_name", "?", id="type unknown"),
    ],
)
def test_an_error_tells_facts_also_after_pickling(error, fact, value):
    assert getattr(error, fact) == value
    assert getattr(pickle.loads(pickle.dumps(error)), fact) == value


def test_the_sentence_of_a_closed_executor_is_the_standard_librarys():
    assert str(errors.ExecutorClosed("cannot schedule new futures after shutdown")) == (
        "cannot schedule new futures after shutdown"
    )


def test_the_troubleshooting_page_has_one_heading_for_each_error_class_and_no_other():
    headings = re.findall(r"^#+\s+`?([A-Z]\w+)`?\s*$", TROUBLESHOOTING.read_text(), re.MULTILINE)
    named = [heading for heading in headings if heading in errors.__all__ or heading.endswith("Error")]
    assert sorted(named) == sorted(errors.__all__)
