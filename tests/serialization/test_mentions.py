"""What a pickle imports, found without reading it."""

import collections
import decimal
import fractions
import io
import pathlib
import pickle
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.serialization.mentions import imported_by, imports_relatively, may_import, mentioned, modules_in
from cloudexec.serialization.pickling import dumps

words = st.sampled_from(["fractions", "decimal", "pathlib", "uuid", "collections", "subimport", "", "x"])
leaves = st.one_of(
    words,
    st.integers(),
    st.binary(max_size=300),
    st.builds(fractions.Fraction, st.integers(0, 9), st.integers(1, 9)),
    st.builds(decimal.Decimal, st.integers(0, 9)),
    st.builds(pathlib.PurePosixPath, words),
    st.builds(uuid.UUID, int=st.integers(0, 9)),
    st.sampled_from([fractions.Fraction, collections.OrderedDict, uuid.uuid4]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(words, inner, max_size=4),
        st.dictionaries(words, inner, max_size=4).map(collections.OrderedDict),
    ),
    max_leaves=12,
)


class Recorder(pickle.Unpickler):
    """Notes what reading really imports."""

    def __init__(self, stream):
        super().__init__(io.BytesIO(stream))
        self.imported = set()

    def find_class(self, module, name):
        self.imported.add(module)
        return super().find_class(module, name)


@given(values)
def test_the_modules_of_a_pickle_are_those_that_reading_it_imports(value):
    stream = dumps(value).stream
    recorder = Recorder(stream)
    recorder.load()
    assert modules_in(stream) == recorder.imported
    assert may_import(stream) or not recorder.imported


@given(values)
def test_what_is_mentioned_is_what_is_imported_however_long_the_pickle_is(value):
    names = ["fractions", "decimal", "uuid"]
    short, long = dumps(value).stream, dumps((value, ["x" * 5000 + str(n) for n in range(20)])).stream
    assert mentioned(short, names) == modules_in(short).intersection(names)
    assert mentioned(long, names) >= modules_in(long).intersection(names)


def inner():
    import json.decoder

    return json


def relative():
    from .somewhere import x  # type: ignore[import-not-found]  # never called

    return x


def by_call(importlib):
    return importlib.import_module("json.decoder"), importlib.import_module("not a name")


@pytest.mark.parametrize(
    ("function", "names"),
    [
        pytest.param(inner, {"json"}, id="an import"),
        pytest.param(lambda: [inner() for _ in range(3)], set(), id="a call of somebody who imports"),
        pytest.param(lambda: (lambda: __import__("uuid"))(), {"uuid"}, id="in a function within"),
        pytest.param(by_call, {"json"}, id="a name handed to import_module"),
        pytest.param(relative, set(), id="a relative import, whose package the code does not know"),
        pytest.param(lambda x: x.json.decoder, set(), id="attributes"),
    ],
)
def test_code_imports(function, names):
    assert imported_by([function.__code__]) == names


def test_code_tells_whether_it_imports_relatively():
    assert imports_relatively([inner.__code__, relative.__code__])
    assert not imports_relatively([inner.__code__, by_call.__code__])
