"""Checks of settings that all executors share.

Called by: local.py, ecs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index

from cloudexec.errors import SettingsError


def positive(name: str, value: int) -> int:
    """A whole number from 1 on. Errors: SettingsError."""
    try:
        number = index(value)  # takes what numpy counts in, too
    except TypeError:
        number = 0
    if number < 1:
        raise SettingsError(f"{name}={value!r} is not a positive whole number", remedy=f"give {name} >= 1")
    return number


def positive_or_none(name: str, value: int | None) -> int | None:
    """The same, where None means that there is no limit."""
    return None if value is None else positive(name, value)


def seconds(name: str, value: float) -> float:
    """A positive number of seconds. Errors: SettingsError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise SettingsError(f"{name}={value!r} is not a positive number of seconds")
    return float(value)


def checked_initializer(initializer: Callable[..., object] | None) -> Callable[..., object] | None:
    """As the standard library checks it. Errors: TypeError."""
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    return initializer
