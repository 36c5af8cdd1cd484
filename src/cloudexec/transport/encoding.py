"""Percent-encoding and dates, as AWS writes them, without the modules that would cost a worker its start.

Called by: s3.py, credentials.py, refusals.py, endpoints.py.
Why own:   urllib.parse and email.utils take longer to import than the whole transport.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_UNRESERVED: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_VALUE_TABLE: Final = [chr(n) if chr(n) in _UNRESERVED else f"%{n:02X}" for n in range(256)]
_PATH_TABLE: Final = ["/" if n == 0x2F else piece for n, piece in enumerate(_VALUE_TABLE)]
_PLAIN_VALUE: Final = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._~/-]*").fullmatch
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_ENTITY: Final = re.compile(r"&(#x[0-9A-Fa-f]{1,8}|#[0-9]{1,9}|amp|lt|gt|quot|apos);")
_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE: Final = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
_ISO_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d+)?(?:Z|\+00:?00)")


def encode_path(text: str) -> str:
    """`text` as a canonical path: all but unreserved characters and slashes as %XX of their UTF-8."""
    return text if _PLAIN_PATH(text) else "".join([_PATH_TABLE[byte] for byte in text.encode()])


def encode_value(text: str) -> str:
    """`text` as a value in a canonical query."""
    return text if _PLAIN_VALUE(text) else "".join([_VALUE_TABLE[byte] for byte in text.encode()])


def encode_query(pairs: dict[str, str]) -> str:
    """Names and values as a canonical query: encoded, then sorted."""
    return "&".join(sorted([f"{encode_value(name)}={encode_value(value)}" for name, value in pairs.items()]))


def decode_form(text: str) -> str:
    """The text behind `encoding-type=url`: plus signs are blanks there."""
    if "%" not in text and "+" not in text:
        return text
    plain = text.replace("+", " ").encode()
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), plain).decode()


def _character(found: re.Match[str]) -> str:
    name = found[1]
    if not name.startswith("#"):
        return _ENTITIES[name]
    number = int(name[2:], 16) if name[1] == "x" else int(name[1:])
    return chr(number) if number <= 0x10FFFF else found[0]


def unescape(text: str) -> str:
    """XML character data with its entities resolved."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def escape(text: str) -> str:
    """`text` as XML character data; line ends as references, because a reader would change them."""
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;"), ("\n", "&#10;")):
        text = text.replace(plain, escaped)
    return text


def _epoch_s(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds since 1970, counting years from March so that leap days come last."""
    year -= month <= 2
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719468
    return ((days * 24 + hour) * 60 + minute) * 60 + second


@lru_cache(maxsize=64)  # a service's Date is the same text for a whole second
def read_http_date(text: str) -> float | None:
    """`Sat, 21 Nov 2026 03:00:00 GMT` in seconds since 1970; None if it is no such date."""
    found = _HTTP_DATE.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[n]) for n in (1, 3, 4, 5, 6))
    return float(_epoch_s(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second))


def read_iso_date(text: str) -> float | None:
    """`2026-11-21T03:00:00.000Z` in seconds since 1970; None if it is no such date."""
    found = _ISO_DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
    return _epoch_s(year, month, day, hour, minute, second) + float(found[7] or 0)
