"""Plain pickle where that is right, cloudpickle where it is needed, and large buffers beside the stream."""

import pickle

import cloudpickle
import numpy as np
import pytest

from cloudexec.serialization.pickling import dumps
from tests.serialization.mains import Script, printed_by


def back(pickled):
    """As a worker reads it: from copies of the buffers."""
    return pickle.loads(pickled.stream, buffers=[bytearray(buffer) for buffer in pickled.buffers])


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1, id="number"),
        pytest.param("text", id="text"),
        pytest.param({"k": [1, (2, None)]}, id="containers"),
        pytest.param(len, id="built-in"),
        pytest.param(pickle.dumps, id="function of a module"),
        pytest.param(np.arange(3), id="small array"),
        pytest.param(ValueError("x"), id="exception"),
    ],
)
def test_what_a_worker_can_import_is_pickled_plainly(value):
    pickled = dumps(value)
    assert pickled.pickler == ""
    assert pickled.stream == pickle.dumps(value, 5)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(lambda: 1, id="lambda"),
        pytest.param(Script("def f(): pass").f, id="function of a script"),
        pytest.param(Script("class C: pass\nf = C()").f, id="object of a script's class"),
        pytest.param([{"k": lambda: 1}], id="lambda deep inside"),
    ],
)
def test_what_a_worker_cannot_import_is_pickled_by_cloudpickle(value):
    assert dumps(value).pickler == cloudpickle.__version__


def test_a_text_that_happens_to_be_main_does_no_harm():
    assert back(dumps("__main__")) == "__main__"


MAIN = """
import pickle, sys
from functools import partial
from cloudexec.serialization.pickling import dumps

class Class:
    def method(self): return "method"
class Error(Exception): pass
def function(): return "function"
def outer():
    class Local: pass
    return Local
things = {
    "function": function, "class": Class, "object": Class(), "method": Class().method, "error": Error("x"),
    "partial": partial(function), "list": [1, Class()], "dict": {"k": function}, "local": outer()(),
    "class as key": {Class: 1}, "deep": [[[[Class]]]],
}
pickled = dumps(things[sys.argv[1]])
assert pickled.pickler, "plain pickle would name it by __main__"
import subprocess
print(subprocess.run([sys.executable, "-c",
    "import pickle, sys; print(type(pickle.load(sys.stdin.buffer)).__name__)"],
    input=pickled.stream, stdout=subprocess.PIPE, check=True).stdout.decode())
"""


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        ("function", "function"),
        ("class", "type"),
        ("object", "Class"),
        ("method", "method"),
        ("error", "Error"),
        ("partial", "partial"),
        ("list", "list"),
        ("dict", "dict"),
        ("local", "Local"),
        ("class as key", "dict"),
        ("deep", "list"),
    ],
)
def test_what_stands_in_main_can_be_read_where_main_is_another(thing, kind):
    assert printed_by(MAIN, thing) == kind


def test_what_main_imported_is_pickled_plainly():
    script = """
    from math import sqrt
    from cloudexec.serialization.pickling import dumps
    print(repr(dumps(sqrt).pickler))
    """
    assert printed_by(script) == "''"


@pytest.mark.parametrize(
    ("n_bytes", "n_buffers"),
    [
        pytest.param(16 * 1024 - 8, 0, id="just below 16 KiB stays inside"),
        pytest.param(16 * 1024, 1, id="16 KiB goes beside the stream"),
    ],
)
def test_a_buffer_goes_beside_the_stream_from(n_bytes, n_buffers):
    array = np.arange(n_bytes // 8)
    pickled = dumps(array)
    assert len(pickled.buffers) == n_buffers
    assert np.array_equal(back(pickled), array)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, lambda: 1)], ids=["plain", "cloudpickle"])
def test_a_large_buffer_is_not_copied(wrap):
    array = np.zeros(10_000)
    (buffer,) = dumps(wrap(array)).buffers
    array[0] = 7
    assert np.frombuffer(buffer)[0] == 7


def test_an_array_of_main_objects_is_pickled_by_cloudpickle():
    array = np.array([Script("class C: n = 5\nf = C()").f], dtype=object)
    assert back(dumps(array))[0].n == 5


def test_what_cannot_be_pickled_raises():
    with pytest.raises((TypeError, pickle.PicklingError)):
        dumps(iter(x for x in [1]))
