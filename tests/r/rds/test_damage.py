"""Bytes that are cut, changed or forged end in an RConversionError or in some value: soon, and in little memory."""

from __future__ import annotations

import struct
import tracemalloc
from datetime import date, datetime, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.errors import RConversionError
from cloudexec.r import rds
from cloudexec.r.rds import codes
from cloudexec.r.robject import RObject

WHOLE = [
    rds.dumps(value)
    for value in (
        {
            "a": [1, 2.5, None, True, "é", b"xyz", 1j],
            "d": date(2024, 1, 1),
            "t": datetime(2024, 1, 1, tzinfo=timezone.utc),
        },
        np.arange(12.0).reshape(3, 4),
        np.array(["a", None, "é"] * 40, dtype=object),
        pd.DataFrame({"x": [1, 2], "f": pd.Categorical(["a", None]), "t": pd.to_datetime(["2024-01-01", None])}),
        pd.Series([1.5, 2], index=["a", "b"]),
        RObject(data=b"X\n" + bytes(40), r_class=("lm",), r_size=1e3, head="a fit", session="R"),
    )
]


def read(data: bytes) -> None:
    """Any value will do, and one kind of error."""
    try:
        rds.loads(data)
    except RConversionError as error:
        assert error.what  # noqa: PT017 -- most examples raise, some do not


@given(st.sampled_from(WHOLE), st.data())
def test_a_part_of_a_stream_is_refused(whole: bytes, data: st.DataObject) -> None:
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(RConversionError):
        rds.loads(part)


@settings(max_examples=200)
@given(st.sampled_from(WHOLE), st.data())
def test_changed_bytes_do_no_harm(whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255) | st.sampled_from([0, 255]))
    read(bytes(changed))


@settings(max_examples=200)
@given(st.sampled_from(WHOLE), st.data())
def test_changed_words_do_no_harm(whole: bytes, data: st.DataObject) -> None:
    types = st.sampled_from([*range(26), 238, 247, 248, 249, 254, 255]) | st.sampled_from([0x202, 0x402, 0x40009])
    word = data.draw(types | st.integers(0, 2**32 - 1))
    at = data.draw(st.integers(0, (len(whole) - 2) // 4 - 1)) * 4 + 2
    read(whole[:at] + struct.pack(">I", word) + whole[at + 4 :])


@given(st.binary(max_size=200))
def test_noise_does_no_harm(noise: bytes) -> None:
    read(codes.HEADER + noise)
    read(noise)


@pytest.mark.parametrize("sexp", [*codes.ITEM_BYTES, codes.CHARACTER, codes.LIST, codes.EXPRESSION])
@pytest.mark.parametrize("length", [(2**31 - 1,), (0xFFFFFFFF, 2**20, 0), (0xFFFFFFFE,)])
def test_a_length_is_not_believed(sexp: int, length: tuple[int, ...]) -> None:
    forged = codes.HEADER + struct.pack(f">I{len(length)}I", sexp, *length) + bytes(16)
    tracemalloc.start()
    try:
        with pytest.raises(RConversionError):
            rds.loads(forged)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_lists_within_lists_end_somewhere() -> None:
    with pytest.raises(RConversionError, match="nested"):
        rds.loads(codes.HEADER + struct.pack(">II", codes.LIST, 1) * 100_000 + struct.pack(">I", codes.NULL))
    value: list[object] = []
    value.append(value)
    with pytest.raises(RConversionError, match="contains itself"):
        rds.dumps(value)


def test_the_deepest_list_that_is_written_is_read() -> None:
    value: list[object] = []
    for _ in range(codes.DEEPEST - 1):
        value = [value]
    assert rds.loads(rds.dumps(value)) == value
    with pytest.raises(RConversionError, match="nested"):
        rds.dumps([value])


def test_bytes_behind_the_object_are_refused() -> None:
    with pytest.raises(RConversionError, match="behind"):
        rds.loads(WHOLE[0] + b"\0")
