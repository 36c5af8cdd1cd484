"""A check costs little the second time, remembers nothing that is gone, and never lets a wrong stream be written."""

from __future__ import annotations

import gc
import time

import numpy as np
import pandas as pd
import pytest

from cloudexec.errors import RConversionError
from cloudexec.r import rds
from cloudexec.r.rds import scans, strings

N = 200_000


def new_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": np.array([f"row {n}" for n in range(N)], dtype=object),
            "whole": np.arange(N),
            "some": pd.array([None, *range(N - 1)], dtype="Int64"),
        }
    )


@pytest.fixture
def frame() -> pd.DataFrame:
    return new_frame()


def test_the_same_frame_is_not_scanned_again(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = []
    fault = strings.fault
    monkeypatch.setattr(strings, "fault", lambda values: scanned.append(len(values)) or fault(values))
    for _ in range(5):
        rds.check((frame, {"again": frame}), "args")
    assert [size for size in scanned if size == N] == [N]


def test_ten_thousand_checks_of_a_large_frame_take_seconds(frame: pd.DataFrame) -> None:
    rds.check(frame)
    began = time.process_time()
    for _ in range(100):
        rds.check(frame)
    assert time.process_time() - began < 0.5


def test_what_is_gone_is_forgotten() -> None:
    gc.collect()
    before = len(scans._known)
    mine = new_frame()
    rds.check(mine)
    assert len(scans._known) > before
    del mine
    gc.collect()
    assert len(scans._known) == before


def test_an_array_that_changed_after_its_check_is_refused_when_it_is_written() -> None:
    values = np.array(["a"] * 5000, dtype=object)
    rds.check(values)
    values[4321] = {1}
    with pytest.raises(RConversionError, match=r"value\[4321\]"):
        rds.dumps(values)


def test_an_array_that_changed_its_type_after_its_check_is_written_as_it_is() -> None:
    values = np.array(["a"] * 5000, dtype=object)
    rds.check(values)
    values[:] = 1
    assert rds.loads(rds.dumps(values)).dtype == "int64"


def test_two_columns_of_one_block_are_two_questions() -> None:
    frame = pd.DataFrame(np.array([["a", {1}]] * 2000, dtype=object), columns=["good", "bad"])
    rds.check(frame["good"], "x")
    with pytest.raises(RConversionError, match=r"x\[0\]: R has no counterpart of builtins.set"):
        rds.check(frame["bad"], "x")
