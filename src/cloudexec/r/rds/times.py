"""Dates and times: R counts days and seconds since 1970-01-01 UTC, in doubles; a time's zone is a name.

Called by: scans.py, arrays.py, frames.py (writing), values.py, vectors.py, tables.py (reading).
Calls:     the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any, Final, TypeVar

T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1)
EPOCH_UTC: Final = EPOCH.replace(tzinfo=timezone.utc)
_EPOCH_DAY: Final = EPOCH.toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1)
UNIT_S: Final = {"secs": 1, "mins": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


# --- writing -----------------------------------------------------------------------------------


def days(value: date) -> float:
    """Since 1970-01-01."""
    return float(value.toordinal() - _EPOCH_DAY)


def seconds(value: datetime) -> float:
    """Since 1970-01-01 UTC; a time without a zone counts as if it were UTC."""
    since = value - (EPOCH_UTC if value.tzinfo else EPOCH)
    return duration_s(since)


def duration_s(value: timedelta) -> float:
    """The double next to the exact value."""
    return (value // _MICROSECOND) / 1_000_000 + getattr(value, "nanoseconds", 0) / 1_000_000_000


def zone_name(zone: Any) -> str | None:
    """The name by which R knows a zone; None if it has none. Fixed offsets of whole hours have one."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)  # zoneinfo's, pytz's
    if isinstance(name, str):
        return name
    offset = zone.utcoffset(None)
    if offset is None or offset % _HOUR:
        return None
    hours = offset // _HOUR
    if not hours:
        return "UTC"
    return f"Etc/GMT{-hours:+d}" if -12 <= hours <= 14 else None  # the sign of these names is that of POSIX


# --- reading -----------------------------------------------------------------------------------


def date_from(since: float) -> date | None:
    """None for NA. Errors: ValueError outside the years 1 to 9999."""
    if not math.isfinite(since):
        return None
    what = f"a date {since:g} days from 1970"
    return _within(lambda: date.fromordinal(math.floor(since) + _EPOCH_DAY), what)


def datetime_from(since_s: float, zone: tzinfo | None) -> datetime | None:
    """None for NA; zone None: a time without a zone. Errors: ValueError outside the years 1 to 9999."""
    if not math.isfinite(since_s):
        return None

    def moment() -> datetime:
        exact = timedelta(microseconds=microseconds(since_s))
        return EPOCH + exact if zone is None else (EPOCH_UTC + exact).astimezone(zone)

    return _within(moment, f"a time {since_s:g} s from 1970")


def timedelta_from(value: float, units: str) -> timedelta | None:
    """None for NA. Errors: ValueError where Python has no such duration."""
    if not math.isfinite(value):
        return None
    return _within(
        lambda: timedelta(microseconds=microseconds(value * UNIT_S[units])), f"a duration of {value:g} {units}"
    )


def microseconds(value_s: float) -> int:
    """Rounded; whole seconds stay exact where a double times a million would not."""
    whole = math.floor(value_s)
    return whole * 1_000_000 + round((value_s - whole) * 1_000_000)


def zone_of(name: str) -> tzinfo:
    """R's zone in Python; the same instants in UTC where Python does not know the name."""
    if name in ("UTC", ""):
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return timezone.utc


def _within(make: Callable[[], T], what: str) -> T:
    try:
        return make()
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{what} is beyond Python's range") from error
