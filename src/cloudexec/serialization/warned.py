"""Warnings that a call issued in its worker, issued again in the client.

Called by: worker.running (collects them), future and executors.mapping (issue them).   Calls: wire, for parts.
A warning travels if its category says so: `travels = True`. The others stay in the call's stderr, as with a
ProcessPoolExecutor. They are the third part of what a call printed, so a call without any pays nothing.
"""

from __future__ import annotations

import pickle
import warnings
from typing import Any, Final

from cloudexec.wire.parts import unpack_parts

_MOST: Final = 50  # of one call, as many as R keeps
_PART: Final = 2


class Collector:
    """Takes down the warnings of this process that travel, from now on. They are shown as before, too."""

    def __init__(self) -> None:
        self._found: list[tuple[type[Warning], str]] = []
        self._show = warnings.showwarning
        warnings.showwarning = self._take_down

    def take(self) -> bytes:
        """Those since the last time, packed; empty if there were none."""
        if not self._found:
            return b""
        found, self._found = self._found[:_MOST], []
        return pickle.dumps(found)

    def _take_down(self, message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if getattr(category, "travels", False):
            self._found.append((category, str(message)))
        self._show(message, category, *where, **more)


def issue(printed: bytes | memoryview, stacklevel: int) -> None:
    """Issue the warnings in what a call printed, if there are any. Errors: they, where warnings are errors."""
    parts = unpack_parts(printed)
    if len(parts) <= _PART:
        return
    part = parts[_PART]
    assert not isinstance(part, tuple)  # blobs were fetched
    for category, text in pickle.loads(part):
        warnings.warn(category(text), stacklevel=stacklevel + 1)
