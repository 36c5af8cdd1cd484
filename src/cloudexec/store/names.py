"""Which names a store takes.

Called by: the stores.
"""

from __future__ import annotations

import re
from typing import Final

from cloudexec.errors import SettingsError

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*\Z")


def checked(name: str) -> str:
    """The name itself. Errors: SettingsError for one that a directory, a URL or a shell could misread."""
    if not _NAME.match(name):
        raise SettingsError(f"{name!r} is not a store name", remedy="use letters, digits, '-_.' and '/'")
    return name
