"""Whatever a frame, an array or a nested list holds: R finds what was meant, and what R returns is what went."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudexec.r import rds
from tests.r.rds import rsource
from tests.r.rds.conftest import Exchange
from tests.r.rds.sameness import assert_same

pytestmark = pytest.mark.r
EXAMPLES = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
ZONE = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1)
MICROSECONDS = st.integers(-(2**50), 2**50)  # 1934 to 2005, exact in doubles of seconds to the microsecond

# For each kind: what R has in its vector. How pandas is given it, and what R's source is, is written below.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**31) + 1, 2**31 - 1),
    "double": st.floats(),
    "character": TEXT,
    "factor": TEXT,
    "logical": st.booleans(),
    "date": st.integers(-700_000, 2_900_000),
    "naive": MICROSECONDS,
    "zoned": MICROSECONDS,
    "duration": MICROSECONDS,
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[int, list[tuple[str, str, list[Any]]]]:
    """A number of rows, and columns of that length: name, kind, values and None."""
    n_rows = draw(st.integers(0, 5))
    names = draw(st.lists(TEXT.filter(bool), unique=True, max_size=4))
    made = []
    for name in names:
        kind = draw(st.sampled_from(sorted(KINDS)))
        values = draw(st.lists(st.none() | KINDS[kind], min_size=n_rows, max_size=n_rows))
        if kind == "date" and not any(value is not None for value in values):
            kind = "double"  # pandas has no type for dates: a column of nothing but None cannot say that it has some
        made.append((name, kind, values))
    return n_rows, made


def in_pandas(kind: str, values: list[Any]) -> Any:
    """The column that a user would have."""
    if kind == "integer":
        return pd.array(values, dtype="Int64") if None in values else np.array(values, dtype="int64")
    if kind == "logical":
        return pd.array(values, dtype="boolean") if None in values else np.array(values, dtype=bool)
    if kind == "double":
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    if kind == "character":
        return pd.Series(values, dtype=pd.Series(["a"]).dtype)
    if kind == "factor":
        levels = pd.Index(sorted({value for value in values if value is not None}), dtype=pd.Series(["a"]).dtype)
        return pd.Categorical(values, categories=levels)
    if kind == "date":
        dates = [None if value is None else date(1970, 1, 1) + timedelta(value) for value in values]
        return pd.Series(dates, dtype=object)
    unit = "timedelta64" if kind == "duration" else "datetime64"
    stamps = np.array(["NaT" if value is None else value for value in values], dtype=f"{unit}[us]")
    default = pd.Series(pd.to_datetime(["2020-01-01"])).dtype.str  # this pandas's own unit
    series = pd.Series(stamps.astype(default.replace("M8", stamps.dtype.str[1:3])))
    return series.dt.tz_localize("UTC").dt.tz_convert("America/New_York") if kind == "zoned" else series


def in_r(kind: str, values: list[Any]) -> str:
    """Its source. pandas has one NaN, which means missing."""
    if kind == "double":
        values = [None if value != value else value for value in values]
    if kind in ("naive", "zoned", "duration"):
        values = [None if value is None else value / 1_000_000 for value in values]
    if kind == "date":
        values = [None if value is None else float(value) for value in values]
    return rsource.vector(kind, values)


@EXAMPLES
@given(columns())
def test_a_frame_is_the_same_on_both_sides(exchange: Exchange, drawn: tuple[int, list[Any]]) -> None:
    n_rows, made = drawn
    frame = pd.DataFrame({name: in_pandas(kind, values) for name, kind, values in made}, index=range(n_rows))
    values = ", ".join(in_r(kind, values) for _, kind, values in made)
    names = rsource.vector("character", [name for name, _, _ in made])
    rows = f"c(NA_integer_, -{n_rows}L)"
    expected = f'structure(list({values}), names = {names}, class = "data.frame", row.names = {rows})'
    exchange.assert_r_reads(rds.dumps(frame), expected)
    assert_same(exchange.returned(frame), frame)


@EXAMPLES
@given(st.data(), st.sampled_from(["integer", "double", "logical", "character"]))
def test_an_array_of_any_shape_keeps_its_order(exchange: Exchange, data: st.DataObject, kind: str) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=4)))
    size = int(np.prod(shape))
    values = data.draw(st.lists(KINDS[kind], min_size=size, max_size=size))
    dtype = {"integer": "i8", "double": "f8", "logical": "bool", "character": object}[kind]
    array = np.array(values, dtype=dtype).reshape(shape, order="F")
    dim = rsource.vector("integer", shape)
    exchange.assert_r_reads(rds.dumps(array), f"array({rsource.vector(kind, values)}, {dim})")
    exchange.assert_r_reads(rds.dumps(np.ascontiguousarray(array)), f"array({rsource.vector(kind, values)}, {dim})")
    assert_same(exchange.returned(array), array)


NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31) + 1, 2**31 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=4)
    | st.dates()
    | st.datetimes(min_value=datetime(1901, 1, 1), max_value=datetime(2200, 1, 1)),
    lambda inner: (
        st.lists(inner, max_size=4).filter(lambda items: not items or not all(isinstance(i, str) for i in items))
        | st.dictionaries(TEXT.filter(bool), inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


@EXAMPLES
@given(NESTED)
def test_nested_plain_data_comes_back(exchange: Exchange, value: object) -> None:
    assert_same(exchange.returned(value), value)


@settings(max_examples=100)
@given(
    st.lists(st.none() | TEXT | st.sampled_from(["a", "\t" * 1024, "x" * 262153, "é"]), max_size=30), st.integers(1, 60)
)
def test_text_survives_however_it_repeats(values: list[Any], times: int) -> None:
    """Lengths and bytes of these look like the flags that strings are split at."""
    wanted = (values * times)[:300]
    found = rds.loads(rds.dumps(np.array(wanted, dtype=object)), simplify=False)
    assert found.tolist() == wanted


@given(st.datetimes(min_value=datetime(1905, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(ZONE)))
def test_a_time_with_a_zone_is_the_same_instant(value: datetime) -> None:
    found = rds.loads(rds.dumps(value))
    assert found.timestamp() == value.timestamp()
    assert found.tzinfo is ZONE
