"""What a check says: one sentence, and what to do about it.

Called by: all checks, cli/doctor.py.   Calls: errors.   Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from cloudexec.errors import AccessDenied, AwsError, CloudexecError, SettingsError, Throttled

LOOK_REMEDY: Final = "nothing need be wrong; whoever has the rights of `cloudexec policy setup` can look"

MOST_TEXT: Final = 400
_REQUEST: Final = re.compile(r"(?P<service>[a-z0-9-]+) (?P<operation>[a-z0-9]+(_[a-z0-9]+)+): ")
_ACRONYMS: Final = {"aws": "AWS"}


class Level(str, Enum):
    """How a finding is meant. UNKNOWN: nobody could look, or it was not asked for; nothing need be wrong."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line. facts: what it was found from, for programs. is_detail: for people who ask for more."""

    level: Level
    subject: str
    text: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_detail: bool = False

    def __post_init__(self) -> None:
        if self.level is not Level.OK and not self.remedy:
            raise ValueError(f"nobody is told what to do about: {self.text}")

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "level": self.level.value,
            "subject": self.subject,
            "text": self.text,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


def ok(subject: str, text: str, **facts: Any) -> Finding:
    """All is well."""
    return Finding(level=Level.OK, subject=subject, text=text, facts=facts)


def detail(subject: str, text: str, **facts: Any) -> Finding:
    """All is well, and few want to know."""
    return Finding(level=Level.OK, subject=subject, text=text, facts=facts, is_detail=True)


def warning(subject: str, text: str, remedy: str, **facts: Any) -> Finding:
    """Runs will work, with less, slower, or dearer."""
    return Finding(level=Level.WARNING, subject=subject, text=text, remedy=remedy, facts=facts)


def failed(subject: str, text: str, remedy: str, **facts: Any) -> Finding:
    """Runs will not work."""
    return Finding(level=Level.FAILED, subject=subject, text=text, remedy=remedy, facts=facts)


def unknown(subject: str, text: str, remedy: str = LOOK_REMEDY, **facts: Any) -> Finding:
    """Nobody could look."""
    return Finding(level=Level.UNKNOWN, subject=subject, text=text, remedy=remedy, facts=facts)


def of_error(subject: str, what: str, error: CloudexecError) -> Finding:
    """What is said where AWS did not answer a question about `what`."""
    said = shortened(error.what)
    if isinstance(error, AccessDenied):
        action = action_of(error.what)
        why = f"{action} is not allowed" if action else said
        return unknown(subject, f"could not look at {what}: {why}", code=error.code, action=action)
    if isinstance(error, Throttled):
        return unknown(subject, f"could not look at {what}: {said}", "repeat it in a minute", code=error.code)
    text = said if isinstance(error, SettingsError) else f"{what}: {said}"
    return failed(subject, text, error.remedy, error=type(error).__name__)


def is_denial(error: AwsError) -> bool:
    """Whether these credentials may not; what answers HEAD has no body, and so no code but its status."""
    return isinstance(error, AccessDenied) or error.code == "403"


def action_of(what: str) -> str:
    """The right that a refused request needs, `iam:GetRole`; "" if its words do not tell. S3's have other names."""
    found = _REQUEST.match(what)
    if found is None or found["service"] == "s3":
        return ""
    words = (_ACRONYMS.get(word, word.title()) for word in found["operation"].split("_"))
    return f"{found['service'].replace('service-quotas', 'servicequotas')}:{''.join(words)}"


def shortened(text: str) -> str:
    """Some answers are whole pages, of a proxy for instance."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_TEXT else f"{line[: MOST_TEXT - 1]}…"
