"""The directory of an engine: requests, replies, R's temporary files. And what dead processes left of theirs.

Called by: launching.py, process.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from typing import Final

_PREFIX: Final = "cloudexec-r-"
_LOCK: Final = "lock"
_YOUNG_S: Final = 60.0  # one that is just being made is not locked yet


class Place:
    """A new directory, locked as long as this process uses it: the lock ends with us, however we end."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        self._lock = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.temporary = os.path.join(self.path, "tmp")
        os.mkdir(self.temporary)

    def file(self, name: str) -> str:
        """A path in it."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.forget()

    def forget(self) -> None:
        """It is another process's."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def empty(directory: str, kept: Collection[str] = ()) -> None:
    """Remove what is in a directory, which is made again if it is gone."""
    try:
        found = [entry for entry in os.scandir(directory) if entry.name not in kept]
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)
        return
    except OSError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


def sweep() -> None:
    """Remove directories whose process has gone without a word, e.g. because it was killed."""
    try:
        found = [entry for entry in os.scandir(tempfile.gettempdir()) if entry.name.startswith(_PREFIX)]
    except OSError:
        return
    for entry in found:
        with contextlib.suppress(OSError):
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > _YOUNG_S and _is_free(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_free(directory: str) -> bool:
    fd = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
