"""Directories for a run's blobs and modules, and what the blobs of ended runs are still good for.

Called by: environment.py.   Read by: store.cached, in slots.

    BASE/RANDOM/   of the run that is served: blobs/, modules/
    BASE/attic/    blobs of runs that have ended. Their calls may have changed them: each is compared with its hash
                   before it is used again (see CachedStore).

Lambda does not empty /tmp when the runtime starts anew in an environment: what lies there then goes into the attic.
Together they are held below half of what was free at the start; the other half is the calls'.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

_ATTIC: Final = "attic"
_PRIVATE: Final = 0o700


class Caches:
    """Everything below `base`, made on first need."""

    def __init__(self, base: str | None = None) -> None:
        self._base = base or os.path.join(os.environ.get("TMPDIR", "/tmp"), "cloudexec-lambda")
        self._is_ready = False
        self.most_bytes = 0

    @property
    def attic(self) -> str:
        """Where blobs of ended runs lie."""
        return os.path.join(self._base, _ATTIC)

    def new_root(self) -> str:
        """A directory for a run. Errors: OSError."""
        if not self._is_ready:
            self._make_ready()
        root = os.path.join(self._base, os.urandom(8).hex())
        os.mkdir(root, _PRIVATE)
        return root

    def retire(self, root: str) -> None:
        """A run has ended: keep its blobs, and nothing else."""
        import shutil

        blobs = os.path.join(self.attic, "blobs")
        with contextlib.suppress(OSError):
            for entry in os.scandir(os.path.join(root, "blobs")):
                if entry.is_file(follow_symlinks=False):
                    os.replace(entry.path, os.path.join(blobs, entry.name))
        shutil.rmtree(root, ignore_errors=True)

    def _make_ready(self) -> None:
        self._base = _own_directory(self._base)
        os.makedirs(os.path.join(self.attic, "blobs"), _PRIVATE, exist_ok=True)
        for entry in list(os.scandir(self._base)):
            if entry.name != _ATTIC:
                self.retire(entry.path)
        disk = os.statvfs(self._base)
        kept = sum(entry.stat().st_size for entry in os.scandir(os.path.join(self.attic, "blobs")))
        self.most_bytes = (disk.f_bavail * disk.f_frsize + kept) // 2
        self._is_ready = True


def _own_directory(path: str) -> str:
    """That directory, if it is ours alone; else another one."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, _PRIVATE)
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == _PRIVATE:
        return path
    other = f"{path}-{os.urandom(8).hex()}"
    os.mkdir(other, _PRIVATE)
    return other
