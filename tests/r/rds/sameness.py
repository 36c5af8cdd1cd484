"""Whether two Python values are the same: type, dtype, zone and missing ones included."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd


def assert_same(found: object, expected: object) -> None:
    """Fail with the first difference."""
    assert type(found) is type(expected), f"{found!r} instead of {expected!r}"
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected)
    elif isinstance(expected, pd.Categorical):
        pd.testing.assert_series_equal(pd.Series(found), pd.Series(expected))
    elif isinstance(expected, pd.api.extensions.ExtensionArray):
        pd.testing.assert_extension_array_equal(found, expected)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, float):
        assert (math.isnan(found) and math.isnan(expected)) or found == expected
        assert math.copysign(1, found) == math.copysign(1, expected) or math.isnan(expected)
    else:
        assert found == expected
        assert str(getattr(found, "tzinfo", None)) == str(getattr(expected, "tzinfo", None))
