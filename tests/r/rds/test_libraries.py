"""What is installed decides what comes back, and nobody imports what he does not use."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from cloudexec.r import rds
from tests.r.rds.sameness import assert_same


def child(code: str, *hidden: str) -> str:
    """What a Python prints in which some modules are not installed."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
    done = subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_plain_values_import_neither_numpy_nor_pandas() -> None:
    code = (
        "from datetime import datetime\n"
        "from cloudexec.r import rds\n"
        "value = {'a': [1, 2.5, None, 'x'], 'd': datetime(2024, 1, 1), 'b': b'x'}\n"
        "assert rds.loads(rds.dumps(value)) == value\n"
        "rds.check(value)\n"
        "print(sorted({'numpy', 'pandas'} & set(sys.modules)))"
    )
    assert child(code) == "[]"


def test_without_numpy_vectors_are_lists() -> None:
    vectors = {
        "i": np.array([1, None], dtype=object),
        "d": np.array([1.5, 2]),
        "s": np.array(["a", None], dtype=object),
        "b": np.array([True, False]),
        "D": np.array(["2024-01-01", "NaT"], "M8[D]"),
        "t": np.array(["2024-01-01T10", "NaT"], "M8[s]"),
        "z": np.array([1j, 2]),
    }
    code = f"from cloudexec.r import rds; print(rds.loads({rds.dumps(vectors)!r}))"
    assert eval(child(code, "numpy", "pandas"), {"datetime": __import__("datetime")}) == {
        "i": [1, None],
        "d": [1.5, 2.0],
        "s": ["a", None],
        "b": [True, False],
        "D": [date(2024, 1, 1), None],
        "t": [datetime(2024, 1, 1, 10), None],
        "z": [1j, 2],
    }


@pytest.mark.parametrize(
    ("value", "hidden", "says"),
    [
        pytest.param(pd.DataFrame({"x": [1]}), "pandas", "install pandas", id="a data frame needs pandas"),
        pytest.param(pd.Series([1], index=["a"]), "pandas", "install pandas", id="names need pandas"),
        pytest.param(pd.Categorical(["a"]), "pandas", "install pandas", id="a factor needs pandas"),
        pytest.param(np.zeros((2, 2)), "numpy", "install numpy", id="a matrix needs NumPy"),
    ],
)
def test_what_is_missing_is_named(value: object, hidden: str, says: str) -> None:
    code = (
        "from cloudexec.errors import RConversionError\nfrom cloudexec.r import rds\n"
        f"try: rds.loads({rds.dumps(value)!r})\nexcept RConversionError as error: print(error)"
    )
    assert says in child(code, hidden, *(["pandas"] if hidden == "numpy" else []))


def test_integers_with_na_come_without_pandas_as_objects() -> None:
    code = f"from cloudexec.r import rds\nprint(rds.loads({rds.dumps(np.array([1, None], dtype=object))!r}).tolist())"
    assert child(code, "pandas") == "[1, None]"


def test_arithmetic_with_na_does_not_warn() -> None:
    """R's NA is a signalling NaN; warnings are errors here."""
    found = rds.loads(rds.dumps(pd.Series([1.5, None, 2])))
    assert_same(found * 2 + found, np.array([4.5, np.nan, 6]))
    assert rds.dumps(found) == rds.dumps(pd.Series([1.5, None, 2])).replace(
        bytes.fromhex("7ff00000000007a2"), bytes.fromhex("7ff80000000007a2")
    )


@pytest.mark.parametrize(
    ("values", "dtype", "plain"),
    [
        ([1, None], "int32[pyarrow]", pd.array([1, None], "Int64")),
        ([0.5, None], "double[pyarrow]", pd.array([0.5, None], "Float64")),
        ([True, None], "bool[pyarrow]", pd.array([True, None], "boolean")),
        (["a", None], "string[pyarrow]", np.array(["a", None], dtype=object)),
        ([date(2024, 1, 1), None], "date32[pyarrow]", np.array(["2024-01-01", "NaT"], "M8[D]")),
        ([datetime(2024, 1, 1), None], "timestamp[us][pyarrow]", np.array(["2024-01-01", "NaT"], "M8[us]")),
    ],
)
def test_columns_of_arrow_are_written_like_others(values: list[object], dtype: str, plain: object) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert rds.dumps(pd.Series(values, dtype=dtype)) == rds.dumps(plain)
    rds.check(pd.Series(values, dtype=dtype))
