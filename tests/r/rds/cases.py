"""What becomes what between Python and R: the specification of cloudexec.r.rds, as source texts of both languages.

Read by: test_conversions.py, which runs every row against R itself; scripts/conversions.py, which prints the rows.
Names in Python sources: `np`, `pd`, and those of `datetime` (`date`, `datetime`, `timedelta`, `timezone`), `ZoneInfo`,
`RObject`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from cloudexec.r.robject import RObject


class Color(str, Enum):
    """An enumeration that is text, too."""

    RED = "red"


class Custom:
    """A class of a user's."""


NAMES = {
    "np": np,
    "pd": pd,
    "date": date,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
    "ZoneInfo": ZoneInfo,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "PurePosixPath": PurePosixPath,
    "RObject": RObject,
    "Color": Color,
    "Custom": Custom,
}


def evaluated(source: str) -> object:
    """The value of a Python source."""
    return eval(source, dict(NAMES))


@dataclass(frozen=True, kw_only=True)
class There:
    """Python → R → Python. back: what returns if R returns it; empty: the same as went."""

    python: str
    r: str
    back: str = ""
    listed: bool = True  # in the documentation


@dataclass(frozen=True, kw_only=True)
class Here:
    """R → Python, for what Python does not make itself."""

    r: str
    python: str
    listed: bool = True


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What has no counterpart. at: the path behind the argument's name. says, remedy: parts of the error's."""

    python: str
    says: str
    remedy: str = ""
    at: str = ""
    listed: bool = True


_ZONED = 'as.POSIXct("2024-07-01 12:30", tz = "Europe/Berlin")'

THERE = (
    # Scalars
    There(python="None", r="NULL"),
    There(python="True", r="TRUE"),
    There(python="7", r="7L"),
    There(python="2**31 - 1", r="2147483647L", listed=False),
    There(python="-(2**31)", r="-2147483648", back="-2147483648.0", listed=False),
    There(python="2**40", r="2^40", back="2.0**40"),
    There(python="2**53", r="2^53", back="2.0**53", listed=False),
    There(python="0.5", r="0.5"),
    There(python="float('nan')", r="NaN"),
    There(python="float('-inf')", r="-Inf", listed=False),
    There(python="-0.0", r="-0", listed=False),
    There(python="1 + 2j", r="1+2i"),
    There(python="'é'", r='"\\u00e9"'),
    There(python="''", r='""', listed=False),
    There(python="b'\\x00\\xff'", r="as.raw(c(0, 255))"),
    There(python="bytearray(b'ab')", r="as.raw(c(97, 98))", back="b'ab'", listed=False),
    There(python="memoryview(b'abcd')[::2]", r="as.raw(c(97, 99))", back="b'ac'", listed=False),
    There(python="b''", r="raw(0)", listed=False),
    There(python="pd.NA", r="NA", back="None"),
    There(python="date(2024, 2, 29)", r='as.Date("2024-02-29")'),
    There(python="date(1, 1, 1)", r="structure(-719162, class = 'Date')", listed=False),
    There(
        python="datetime(2024, 7, 1, 12, 30)",
        r='structure(as.POSIXct("2024-07-01 12:30", tz = "UTC"), cloudexec_naive = TRUE)',
    ),
    There(
        python="datetime(2024, 7, 1, 12, 30, tzinfo=timezone.utc)",
        r='as.POSIXct("2024-07-01 12:30", tz = "UTC")',
    ),
    There(python="datetime(2024, 7, 1, 12, 30, tzinfo=ZoneInfo('Europe/Berlin'))", r=_ZONED),
    There(
        python="datetime(2024, 7, 1, 12, 30, 0, 123456, timezone(timedelta(hours=-5)))",
        r='as.POSIXct(1719855000.123456, origin = "1970-01-01", tz = "Etc/GMT+5")',
        back="datetime(2024, 7, 1, 12, 30, 0, 123456, ZoneInfo('Etc/GMT+5'))",
        listed=False,
    ),
    There(python="timedelta(minutes=1, microseconds=500000)", r='as.difftime(60.5, units = "secs")'),
    There(
        python="pd.Timestamp('2024-07-01 12:30', tz='Europe/Berlin')",
        r=_ZONED,
        back="datetime(2024, 7, 1, 12, 30, tzinfo=ZoneInfo('Europe/Berlin'))",
        listed=False,
    ),
    There(
        python="pd.NaT",
        r='structure(NA_real_, class = c("POSIXct", "POSIXt"), tzone = "UTC", cloudexec_naive = TRUE)',
        back="None",
        listed=False,
    ),
    There(python="pd.Timedelta('1s')", r='as.difftime(1, units = "secs")', back="timedelta(seconds=1)", listed=False),
    There(python="np.float64(0.5)", r="0.5", back="0.5", listed=False),
    There(python="np.int64(7)", r="7L", back="7", listed=False),
    There(python="np.bool_(True)", r="TRUE", back="True", listed=False),
    There(python="np.str_('a')", r='"a"', back="'a'", listed=False),
    There(python="np.datetime64('2024-02-29')", r='as.Date("2024-02-29")', back="date(2024, 2, 29)", listed=False),
    # Lists
    There(python="[1, 'a', None]", r='list(1L, "a", NULL)'),
    There(python="['a', 'b']", r='c("a", "b")', back="np.array(['a', 'b'], dtype=object)"),
    There(python="['a']", r='"a"', back="'a'", listed=False),
    There(python="[1.5, 2.5]", r="list(1.5, 2.5)"),
    There(python="[1, 2]", r="list(1L, 2L)", listed=False),
    There(python="(1, [2])", r="list(1L, list(2L))", back="[1, [2]]"),
    There(python="[]", r="list()"),
    There(python="{'a': 1, 'na.rm': [True]}", r="list(a = 1L, na.rm = list(TRUE))"),
    There(python="{}", r="structure(list(), names = character(0))", back="[]", listed=False),
    There(python="{'x': {'y': {'é': None}}}", r='list(x = list(y = list("\\u00e9" = NULL)))', listed=False),
    # Arrays
    There(python="np.array([True, False])", r="c(TRUE, FALSE)"),
    There(python="np.array([1, 2])", r="c(1L, 2L)"),
    There(python="np.array([1, 2**40])", r="c(1, 2^40)", back="np.array([1.0, 2.0**40])"),
    There(python="np.array([1, -(2**31)])", r="c(1, -2147483648)", back="np.array([1.0, -(2.0**31)])", listed=False),
    There(python="np.array([1, 200], 'uint8')", r="c(1L, 200L)", back="np.array([1, 200])", listed=False),
    There(python="np.array([1, 2], '>i2')", r="c(1L, 2L)", back="np.array([1, 2])", listed=False),
    There(python="np.array([2**53, 0], 'uint64')", r="c(2^53, 0)", back="np.array([2.0**53, 0])", listed=False),
    There(python="np.array([0.5, np.nan])", r="c(0.5, NaN)"),
    There(python="np.array([0.5, 1], 'float32')", r="c(0.5, 1)", back="np.array([0.5, 1])", listed=False),
    There(python="np.array([0.5, 1])[::-1]", r="c(1, 0.5)", listed=False),
    There(python="np.array([1j, 2])", r="c(1i, 2+0i)", listed=False),
    There(python="np.array([], 'f8')", r="numeric(0)", listed=False),
    There(python="np.array([], 'i8')", r="integer(0)", listed=False),
    There(python="np.array([], 'bool')", r="logical(0)", listed=False),
    There(python="np.array([], 'complex')", r="complex(0)", listed=False),
    There(python="np.array([], object)", r="character(0)", listed=False),
    There(python="np.array([], 'M8[D]')", r="structure(numeric(0), class = 'Date')", listed=False),
    There(python="np.array(3.5)", r="3.5", back="3.5", listed=False),
    There(python="np.array(['a', None], dtype=object)", r='c("a", NA)'),
    There(python="np.array([None, None], dtype=object)", r="c(NA_character_, NA)", listed=False),
    There(
        python="np.array(['a', 'é'])", r='c("a", "\\u00e9")', back="np.array(['a', 'é'], dtype=object)", listed=False
    ),
    There(python="np.array([1, None], dtype=object)", r="c(1L, NA)", back="pd.array([1, None], dtype='Int64')"),
    There(
        python="np.array([True, None], dtype=object)", r="c(TRUE, NA)", back="pd.array([True, None], dtype='boolean')"
    ),
    There(
        python="np.array([1, 2.5, None], dtype=object)",
        r="c(1, 2.5, NA)",
        back="np.array([1, 2.5, np.nan])",
        listed=False,
    ),
    There(
        python="np.array([2**40, None], dtype=object)",
        r="c(2^40, NA)",
        back="np.array([2.0**40, np.nan])",
        listed=False,
    ),
    There(python="np.array([1j, None], dtype=object)", r="c(1i, NA)", back="np.array([1j, np.nan])", listed=False),
    There(python="np.array(['2024-02-29', 'NaT'], 'M8[D]')", r='as.Date(c("2024-02-29", NA))'),
    There(
        python="np.array([date(2024, 2, 29), None], dtype=object)",
        r='as.Date(c("2024-02-29", NA))',
        back="np.array(['2024-02-29', 'NaT'], 'M8[D]')",
        listed=False,
    ),
    There(
        python="np.array(['2024-01-01T00:00:00.123456', 'NaT'], 'M8[us]')",
        r='structure(c(1704067200.123456, NA), class = c("POSIXct", "POSIXt"), tzone = "UTC", cloudexec_naive = TRUE)',
    ),
    *(
        There(
            python=f"np.array(['2024-01-01T10', 'NaT'], 'M8[{unit}]')",
            r='structure(c(1704103200, NA), class = c("POSIXct", "POSIXt"), tzone = "UTC", cloudexec_naive = TRUE)',
            back="np.array(['2024-01-01T10', 'NaT'], 'M8[us]')",
            listed=False,
        )
        for unit in ("h", "m", "s", "ms", "ns", "30m")
    ),
    There(
        python="np.array([90, 'NaT'], 'm8[s]')",
        r='as.difftime(c(90, NA), units = "secs")',
        back="np.array([90, 'NaT'], 'm8[s]').astype('m8[us]')",
    ),
    There(python="np.array([2], 'm8[D]')", r='as.difftime(2, units = "days")', back="timedelta(days=2)", listed=False),
    There(python="np.array([[1, 2, 3], [4, 5, 6]])", r="rbind(1:3, 4:6)"),
    There(python="np.array([[1.5, 2], [4, 5]], order='F')", r="rbind(c(1.5, 2), c(4, 5))", listed=False),
    There(python="np.array([[True, False]])", r="matrix(c(TRUE, FALSE), 1)", listed=False),
    There(
        python="np.array([['a', None], ['b', 'c']], dtype=object)",
        r='rbind(c("a", NA), c("b", "c"))',
        listed=False,
    ),
    There(python="np.arange(24.).reshape(2, 3, 4)", r="aperm(array(as.numeric(0:23), 4:2), 3:1)"),
    There(python="np.empty((0, 3))", r="matrix(0, 0, 3)", listed=False),
    # pandas
    There(python="pd.Series([1.5, np.nan])", r="c(1.5, NA)", back="np.array([1.5, np.nan])"),
    There(python="pd.Series([1.5, 2], index=['a', 'b'])", r="c(a = 1.5, b = 2)"),
    There(python="pd.Series([1, None], index=['a', 'b'], dtype='Int64')", r="c(a = 1L, b = NA)", listed=False),
    There(python="pd.Series(['x', None], index=['a', 'é'])", r='c(a = "x", "\\u00e9" = NA)', listed=False),
    There(python="pd.array([1, None], dtype='Int64')", r="c(1L, NA)"),
    There(python="pd.array([1, 2], dtype='UInt8')", r="c(1L, 2L)", back="np.array([1, 2])", listed=False),
    There(
        python="pd.array([2**40, None], dtype='Int64')",
        r="c(2^40, NA)",
        back="np.array([2.0**40, np.nan])",
        listed=False,
    ),
    There(python="pd.array([True, None], dtype='boolean')", r="c(TRUE, NA)"),
    There(python="pd.array([0.5, None], dtype='Float64')", r="c(0.5, NA)", back="np.array([0.5, np.nan])"),
    There(python="pd.array(['a', None], dtype='string')", r='c("a", NA)', back="np.array(['a', None], dtype=object)"),
    There(
        python="pd.DataFrame({'s': pd.array([None, None], dtype='string')})",
        r="data.frame(s = c(NA_character_, NA))",
        back="pd.DataFrame({'s': pd.array([None, None], dtype=pd.Series(['a']).dtype)})",
        listed=False,
    ),
    There(python="pd.Index([3, 4])", r="c(3L, 4L)", back="np.array([3, 4])", listed=False),
    There(
        python="pd.Series(pd.to_datetime(['2024-07-01 12:30', None])).dt.tz_localize('Europe/Berlin')",
        r='as.POSIXct(c("2024-07-01 12:30", NA), tz = "Europe/Berlin")',
    ),
    There(
        python="pd.Series([datetime(2024, 7, 1, tzinfo=timezone.utc)] * 2)",
        r='as.POSIXct(c("2024-07-01", "2024-07-01"), tz = "UTC")',
        listed=False,
    ),
    There(python="pd.Categorical(['a', None, 'b'])", r='factor(c("a", NA, "b"))'),
    There(
        python="pd.Categorical(['lo', 'hi'], categories=['lo', 'mid', 'hi'], ordered=True)",
        r='factor(c("lo", "hi"), levels = c("lo", "mid", "hi"), ordered = TRUE)',
    ),
    There(python="pd.Categorical([], categories=['a'])", r='factor(character(0), levels = "a")', listed=False),
    There(
        python="pd.Categorical([f'{n:03}' for n in range(200)] + [None])",
        r='factor(c(sprintf("%03d", 0:199), NA))',
        listed=False,
    ),
    There(
        python="pd.DataFrame({'x': [1, 2], 'y': [0.5, np.nan], 's': ['a', None]})",
        r='data.frame(x = 1:2, y = c(0.5, NA), s = c("a", NA))',
    ),
    There(python="pd.DataFrame({'x': [1, 2]}, index=['a', 'b'])", r='data.frame(x = 1:2, row.names = c("a", "b"))'),
    There(
        python="pd.DataFrame({'x': [1, 2, 3]})[lambda d: d.x > 1]",
        r="data.frame(x = 2:3)",
        back="pd.DataFrame({'x': [2, 3]})",
    ),
    There(
        python="pd.DataFrame({'d': [date(2024, 2, 29), None]})",
        r='data.frame(d = as.Date(c("2024-02-29", NA)))',
    ),
    There(
        python="pd.DataFrame({'i': pd.array([1, None], 'Int64'), 'b': pd.array([None, True], 'boolean')})",
        r="data.frame(i = c(1L, NA), b = c(NA, TRUE))",
    ),
    There(
        python="pd.DataFrame({'f': pd.Categorical(['a', None])})", r='data.frame(f = factor(c("a", NA)))', listed=False
    ),
    There(
        python="pd.DataFrame({'t': pd.to_timedelta(['90s', None])})",
        r='data.frame(t = as.difftime(c(90, NA), units = "secs"))',
        listed=False,
    ),
    There(python="pd.DataFrame(index=range(3))", r="data.frame(row.names = 1:3)", listed=False),
    There(python="pd.DataFrame({'x': np.array([], 'f8')})", r="data.frame(x = numeric(0))", listed=False),
    There(
        python="pd.DataFrame({'x': [1.5], 'y y': [True]})",
        r="data.frame(x = 1.5, `y y` = TRUE, check.names = FALSE)",
        listed=False,
    ),
)

HERE = (
    Here(r="NA", python="None"),
    Here(r="NA_integer_", python="None", listed=False),
    Here(r="NA_character_", python="None", listed=False),
    Here(r="NA_real_", python="float('nan')"),
    Here(r="as.Date(NA)", python="None", listed=False),
    Here(r='as.POSIXct(NA, tz = "UTC")', python="None", listed=False),
    Here(r="c(1L, NA)", python="pd.array([1, None], dtype='Int64')"),
    Here(r="c(TRUE, NA)", python="pd.array([True, None], dtype='boolean')"),
    Here(r="c(0.5, NA, NaN)", python="np.array([0.5, np.nan, np.nan])"),
    Here(r="1:3 + 0L", python="np.array([1, 2, 3])", listed=False),
    Here(r="matrix(c(1L, NA, 3L, 4L), 2)", python="np.array([[1, 3], [np.nan, 4]])"),
    Here(r="matrix(c(TRUE, NA), 1)", python="np.array([[True, None]], dtype=object)", listed=False),
    Here(
        r='matrix(c(1, 2, 3, 4), 2, dimnames = list(c("a", "b"), c("x", "y")))',
        python="pd.DataFrame({'x': [1.0, 2.0], 'y': [3.0, 4.0]}, index=['a', 'b'])",
    ),
    Here(
        r='matrix(c(1L, NA), 1, dimnames = list(NULL, c("x", "y")))',
        python="pd.DataFrame({'x': pd.array([1], 'Int64'), 'y': pd.array([None], 'Int64')})",
        listed=False,
    ),
    Here(
        r='matrix(c("a", "b"), 1, dimnames = list("r", NULL))',
        python="pd.DataFrame([['a', 'b']], index=['r'])",
        listed=False,
    ),
    Here(r='array(1:2, 2, list(c("a", "b")))', python="pd.Series([1, 2], index=['a', 'b'])", listed=False),
    Here(r="c(a = 1)", python="pd.Series([1.0], index=['a'])"),
    Here(r="list(1, a = NULL)[0]", python="[]", listed=False),
    Here(r='list(list(a = 1, b = "x"))', python="[{'a': 1.0, 'b': 'x'}]", listed=False),
    Here(r='as.Date(c("2024-02-29", NA))', python="np.array(['2024-02-29', 'NaT'], 'M8[D]')", listed=False),
    Here(
        r='seq(as.Date("2024-02-28"), by = 1L, length.out = 2)',
        python="np.array(['2024-02-28', '2024-02-29'], 'M8[D]')",
        listed=False,
    ),
    Here(r="structure(c(1L, NA), class = 'Date')", python="np.array([1, 'NaT'], 'M8[D]')", listed=False),
    Here(r="structure(-0.5, class = 'Date')", python="date(1969, 12, 31)", listed=False),
    Here(r="structure(c(Inf, 0), class = 'Date')", python="np.array(['NaT', 0], 'M8[D]')", listed=False),
    Here(
        r='as.POSIXct("2024-07-01 12:30", tz = "")',
        python="datetime(2024, 7, 1, 12, 30, tzinfo=timezone.utc)",
        listed=False,
    ),
    Here(
        r='as.POSIXct("2024-07-01 12:30", tz = "UTC")[c(1, 1)]',
        python="pd.Series([datetime(2024, 7, 1, 12, 30, tzinfo=timezone.utc)] * 2)",
        listed=False,
    ),
    Here(r='as.difftime(c(1.5, NA), units = "hours")', python="np.array([5400, 'NaT'], 'm8[s]').astype('m8[us]')"),
    Here(r='as.difftime(2, units = "weeks")', python="timedelta(days=14)", listed=False),
    Here(r='factor(c("b", "a"))', python="pd.Categorical(['b', 'a'])", listed=False),
    Here(r='addNA(factor(c("a", NA)))', python="pd.Categorical(['a', None])", listed=False),
    Here(r='factor("a")', python="pd.Categorical(['a'])", listed=False),
    Here(r='setNames(factor("a"), "n")', python="pd.Series(pd.Categorical(['a']), index=['n'])", listed=False),
    Here(r="bit64::as.integer64(2)^60L", python="2**60"),
    Here(r="bit64::as.integer64(c(-5, NA))", python="pd.array([-5, None], dtype='Int64')"),
    Here(r="bit64::as.integer64(c(-5, 6))", python="np.array([-5, 6])", listed=False),
    Here(r='I("a")', python="'a'", listed=False),
    Here(r="data.frame(x = 1:4)[c(2, 4), , drop = FALSE]", python="pd.DataFrame({'x': [2, 4]})"),
    Here(
        r='data.frame(a = 1, a = "x", check.names = FALSE)',
        python="pd.DataFrame([[1.0, 'x']], columns=['a', 'a'])",
        listed=False,
    ),
    Here(
        r="data.frame(x = I(list(1, NULL, letters[1:2])))",
        python="pd.DataFrame({'x': [1.0, None, np.array(['a', 'b'], dtype=object)]})",
    ),
    Here(r='tibble::tibble(x = c(1, NA), s = "a")', python="pd.DataFrame({'x': [1.0, np.nan], 's': ['a', 'a']})"),
    Here(
        r='data.table::data.table(x = 1:2, k = c("a", "b"), key = "k")',
        python="pd.DataFrame({'x': [1, 2], 'k': ['a', 'b']})",
    ),
    Here(r="data.frame(x = as.Date(integer(0)))", python="pd.DataFrame({'x': np.array([], object)})", listed=False),
    Here(
        r="data.frame(z = complex(real = c(1, NA), imaginary = 0))",
        python="pd.DataFrame({'z': np.array([1, complex(np.nan, 0)])})",
        listed=False,
    ),
    Here(r="na.omit(c(1, NA, 2))", python="np.array([1.0, 2.0])", listed=False),
    Here(r='iconv("\\u00e9", "UTF-8", "latin1")', python="'é'", listed=False),
    Here(r='{ x <- "\\xff"; Encoding(x) <- "bytes"; x }', python="r'\\xff'", listed=False),
    Here(
        r='rep(c(NA, "a", "\\u00e9", ""), 100)',
        python="np.array([None, 'a', 'é', ''] * 100, dtype=object)",
        listed=False,
    ),
    Here(
        r="lapply(1:300, function(i) structure(i, names = 'n'))",
        python="[pd.Series([i], index=['n']) for i in range(1, 301)]",
        listed=False,
    ),
)

REFUSED = (
    Refused(python="{1, 2}", says="set", remedy="sorted"),
    Refused(python="{'a': [0, {1}]}", says="set", at="['a'][1]", listed=False),
    Refused(python="{1: 'a'}", says="key 1", remedy="str(key)"),
    Refused(python="Custom()", says="Custom"),
    Refused(python="range(3)", says="range", remedy="list(…)"),
    Refused(python="Decimal('1.5')", says="Decimal", remedy="float(…)"),
    Refused(python="Fraction(1, 2)", says="Fraction", remedy="float(…)", listed=False),
    Refused(python="Color.RED", says="Color", remedy=".value"),
    Refused(python="[Color.RED]", says="Color", at="[0]", listed=False),
    Refused(python="{Color.RED: 1}", says="key", listed=False),
    Refused(python="PurePosixPath('a')", says="PurePosixPath", remedy="str(…)", listed=False),
    Refused(python="len", says="builtin_function", listed=False),
    Refused(python="2**53 + 1", says="9007199254740993", remedy="float(…)"),
    Refused(python="np.array([0, 2**60])", says="1152921504606846976", listed=False),
    Refused(python="np.array([0, -(2**60)], dtype=object)", says="-1152921504606846976", at="[1]", listed=False),
    Refused(python="'a\\0b'", says="NUL"),
    Refused(python="['a', 'b\\0']", says="NUL", at="[1]", listed=False),
    Refused(python="'\\ud800'", says="surrogate", listed=False),
    Refused(python="datetime(2024, 1, 1, tzinfo=timezone(timedelta(minutes=90)))", says="time zone", remedy="UTC"),
    Refused(
        python="np.array([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc)])",
        says="several zones",
        at="[1]",
        listed=False,
    ),
    Refused(python="np.array([1, 'a'], dtype=object)", says="str among integer", at="[1]"),
    Refused(python="np.array([[1, 2], ['a', 3]], dtype=object)", says="among", at="[1, 0]", listed=False),
    Refused(python="np.array([None, {1}], dtype=object)", says="set", at="[1]", listed=False),
    Refused(python="np.array([True, 1], dtype=object)", says="int among logical", at="[1]", listed=False),
    Refused(python="np.array([b'a'])", says="dtype |S1", listed=False),
    Refused(python="np.zeros(2, 'f8,i4')", says="dtype", remedy="DataFrame", listed=False),
    Refused(python="np.ma.masked_array([1, 2], [True, False])", says="masked", remedy=".filled"),
    Refused(python="np.array([1], 'm8[M]')", says="no fixed length", listed=False),
    Refused(python="pd.DataFrame({'col': [1, 'a']})", says="str among integer", at="['col'][1]"),
    Refused(python="pd.DataFrame({'col': [None, {1}]})", says="set", at="['col'][1]", listed=False),
    Refused(python="pd.DataFrame([[1, 2]])", says="column names", remedy="rename(columns=str)", at=".columns"),
    Refused(python="pd.DataFrame([[1, 2]], columns=['a', 'a'])", says="'a'", at=".columns"),
    Refused(
        python="pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([('a', 'b')]))",
        says="levels",
        remedy="join",
        at=".columns",
    ),
    Refused(
        python="pd.DataFrame({'x': [1]}, index=pd.MultiIndex.from_tuples([('a', 'b')]))",
        says="levels",
        remedy="reset_index",
        at=".index",
        listed=False,
    ),
    Refused(
        python="pd.DataFrame({'x': [1]}, index=pd.to_datetime(['2024-01-01']))",
        says="would be lost",
        remedy="reset_index",
        at=".index",
    ),
    Refused(
        python="pd.DataFrame({'x': [1, 2]}, index=pd.Index([7, 8], name='id'))",
        says="'id'",
        remedy="reset_index",
        at=".index",
        listed=False,
    ),
    Refused(
        python="pd.DataFrame({'x': [1, 2]}, index=['a', 'a'])",
        says="unique",
        remedy="reset_index",
        at=".index",
        listed=False,
    ),
    Refused(python="pd.Categorical([1, 2])", says="levels", remedy="rename_categories"),
    Refused(python="pd.array([1, 0], dtype=pd.SparseDtype(int))", says="sparse", remedy="to_dense"),
    Refused(python="pd.period_range('2024', periods=2)", says="period", remedy="to_timestamp"),
    Refused(python="pd.Series(pd.interval_range(0, 2))", says="interval", remedy=".left", listed=False),
    Refused(python="pd.Period('2024')", says="Period", remedy="to_timestamp", listed=False),
)
