"""Lambda functions as users of a pocket AWS see them: what to create, which environments there are, what was executed.

Called by:  pocket.py.   Calls: nothing.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudexec.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class EnvironmentView:
    """One execution environment as it stands."""

    id: str
    function: str
    version: str
    pid: int | None
    state: str  # cold: it starts; busy; idle; frozen: its processes are stopped
    n_invocations: int


@dataclass(frozen=True, kw_only=True)
class FunctionCounts:
    """What a function has been through."""

    executed: Mapping[str, int] = field(repr=False)  # request id -> how often the function was handed it
    cold_starts: int = 0
    throttles: int = 0
    errors: int = 0  # invocations that ended with a function error
    events: int = 0  # accepted
    dropped_events: int = 0  # given up after all retries, or too old

    @property
    def n_executed(self) -> int:
        """How often the function was handed an invocation; an event's retries count."""
        return sum(self.executed.values())

    @staticmethod
    def of(facts: dict[str, Any]) -> FunctionCounts:
        """The view of what the server told."""
        return FunctionCounts(executed=Counter(facts["executed"]), **facts["counts"])


def create_arguments(
    name: str,
    *,
    handler: str,
    files: Mapping[str, str | bytes] | None,
    image: str,
    memory: int,
    timeout: int,
    env: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Arguments of CreateFunction."""
    if bool(files) == bool(image):
        raise SettingsError("a function has either files or an image", remedy="give one of files= and image=")
    common: dict[str, Any] = {"FunctionName": name, "MemorySize": memory, "Timeout": timeout}
    if env:
        common["Environment"] = {"Variables": dict(env)}
    if image:
        return {**common, "PackageType": "Image", "Code": {"ImageUri": image}}
    if not handler:
        raise SettingsError("a function from files needs a handler", remedy="give handler='module.function'")
    runtime = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return {**common, "Runtime": runtime, "Handler": handler, "Code": {"ZipFile": zip_of(files or {})}}


def zip_of(files: Mapping[str, str | bytes]) -> bytes:
    """A zip with these files; the same files give the same bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for path, content in sorted(files.items()):
            info = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            written.writestr(info, content)
    return archive.getvalue()
