"""This Python and its packages, against what cloudexec needs.

Called by: examine.py.   Calls: nothing of AWS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cloudexec.infra.doctor.findings import Finding, failed, ok, warning

SUBJECT: Final = "python"
LEAST: Final[Mapping[str, tuple[int, ...]]] = {"cloudpickle": (3, 0), "boto3": (1, 34)}  # as pyproject.toml says
NEWEST_TESTED: Final = (3, 13)
_OURS: Final = ("cloudexec", "cloudpickle", "boto3")


@dataclass(frozen=True, kw_only=True)
class Software:
    """python: (3, 13, 1). packages: versions by name, "" for what is not installed."""

    python: tuple[int, int, int]
    packages: Mapping[str, str]


def installed() -> Software:
    """What runs this program."""
    return Software(python=sys.version_info[:3], packages={name: _version(name) for name in _OURS})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def judge_software(found: Software) -> list[Finding]:
    """Whether it is enough. Pure."""
    findings = [
        failed(
            SUBJECT,
            f"{name} {found.packages.get(name) or 'is not installed, or'} is older than cloudexec needs",
            f"pip install '{name}>={'.'.join(map(str, least))}'",
        )
        for name, least in LEAST.items()
        if numbers(found.packages.get(name, "")) < least
    ]
    python = ".".join(map(str, found.python))
    if found.python[:2] > NEWEST_TESTED:
        tested = ".".join(map(str, NEWEST_TESTED))
        text = f"Python {python} is newer than those that cloudexec is tested with; {tested} is the newest of them"
        findings.append(warning(SUBJECT, text, "if something is odd, try that version; workers need the same one"))
    if not findings:
        packages = ", ".join(f"{name} {number or '?'}" for name, number in found.packages.items())
        findings.append(ok(SUBJECT, f"Python {python}, {packages}", python=python, **found.packages))
    return findings


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 3.1.0rc1 is (3, 1)."""
    found: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
