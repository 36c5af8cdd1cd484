"""What the benchmarks have workers do; importable in workers, so that no peer pays for pickling code.

Called by: measures.py.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.uint8]]


def noop(value: int) -> int:
    """Nothing."""
    return value


def length(array: Array) -> int:
    """Look at an argument without working on it."""
    return len(array)


def pick(array: Any, index: int) -> int:
    """Read one element of a large argument."""
    return int(array[index])


def large(fill: int) -> Array:
    """A result of 10 MB."""
    return np.full(10_000_000, fill & 127, dtype=np.uint8)


def sleep(seconds: float) -> float:
    """Take a known time without taking a CPU."""
    time.sleep(seconds)
    return seconds


def wait_for(path: str) -> None:
    """Keep a worker busy until a file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)


class Counted:
    """An array in an object of its own, which counts how often this process reduces it."""

    reductions = 0

    def __init__(self, array: Array) -> None:
        self.array = array

    def __getitem__(self, index: int) -> Any:
        return self.array[index]

    def __reduce__(self) -> tuple[type[Counted], tuple[Array]]:
        Counted.reductions += 1
        return Counted, (self.array,)
