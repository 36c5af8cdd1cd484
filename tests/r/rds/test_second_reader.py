"""The rdata package, which knows nothing of us, reads what we write."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from cloudexec.r import rds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies
    rdata = pytest.importorskip("rdata", reason="rdata is not installed")


def read(value: object) -> object:
    return rdata.conversion.convert(rdata.parser.parse_data(rds.dumps(value), extension=".rds"))


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.inf, -0.0]),
        np.array([1, -5, 2**31 - 1]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.arange(6.0).reshape(2, 3),
    ],
    ids=repr,
)
def test_arrays(values: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(read(values)), values)


def test_lists_and_text() -> None:
    found = read({"a": ["x", "é"], "b": [None, 1.5]})
    assert list(found["a"]) == ["x", "é"]
    assert found["b"][0] is None
    assert list(found["b"][1]) == [1.5]


def test_frames() -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [0.5, np.nan], "f": pd.Categorical(["a", None])})
    found = read(frame)
    assert list(found.columns) == ["x", "y", "f"]
    assert found["x"].tolist() == [1, 2]
    assert found["y"].isna().tolist() == [False, True]
    assert found["f"].tolist()[0] == "a"
    assert found["f"].isna().tolist() == [False, True]
