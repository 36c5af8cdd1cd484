"""Functions for the tests to submit. Workers import this module by its name, so it is light."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Any


def double(x: Any) -> Any:
    return 2 * x


@functools.lru_cache
def cached_double(x: Any) -> Any:
    return 2 * x


def add(a: Any, b: Any) -> Any:
    return a + b


def identity(x: Any) -> Any:
    return x


def fail(message: str = "on purpose") -> None:
    raise ValueError(message)


def fail_if_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def pid(_: object = None) -> int:
    return os.getpid()


def parent_pid(_: object = None) -> int:
    return os.getppid()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def touch(path: str) -> None:
    Path(path).touch()


def append_line(path: str, line: object) -> None:
    with open(path, "a") as file:
        file.write(f"{line}\n")


def fail_until(path: str, attempts: int) -> int:
    """Raises in the first attempts; they leave a line each in the file. Returns the attempt that succeeded."""
    append_line(path, "tried")
    attempt = len(Path(path).read_text().splitlines())
    if attempt < attempts:
        raise ValueError(f"attempt {attempt}")
    return attempt


def environment(name: str) -> str | None:
    return os.environ.get(name)


def overwrite(array: Any) -> float:
    """The sum of an array's items before it is filled with sevens in place."""
    total = float(array.sum())
    array[:] = 7
    return total


class Counter:
    """A callable object with state and methods of all kinds."""

    step = 1

    def __init__(self, start: int) -> None:
        self.value = start

    def __call__(self, by: int) -> int:
        return self.value + by

    def plus(self, by: int) -> int:
        return self.value + by

    @classmethod
    def stepped(cls, by: int) -> int:
        return cls.step + by

    @staticmethod
    def same(by: int) -> int:
        return by


class Unpicklable:
    """Refuses to be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("this object stays here")


STATE: dict[str, Any] = {}


def remember(key: str, value: Any) -> None:
    STATE[key] = value


def recall(key: str) -> Any:
    return STATE.get(key)
