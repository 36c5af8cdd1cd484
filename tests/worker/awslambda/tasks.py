"""What jobs call in these tests."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def total(*numbers: float, start: float = 0) -> float:
    print("adding", len(numbers))
    print("to stderr", file=sys.stderr)
    return sum(numbers, start)


def note(path: str) -> None:
    with open(path, "a") as file:
        file.write("ran\n")


def fail() -> None:
    raise ValueError("on purpose")


def leave(code: int) -> None:
    sys.exit(code)


def die(code: int) -> None:
    print("my last words", file=sys.stderr)
    os._exit(code)


def nap(seconds: float) -> None:
    time.sleep(seconds)


def secrets() -> list[str]:
    return sorted(os.environ)


def unwritable(kind: str) -> Any:
    return {"set": {1}, "nan": float("nan")}[kind]


class Tools:
    @staticmethod
    def double(x: int) -> int:
        return 2 * x
