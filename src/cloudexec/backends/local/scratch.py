"""The directories of a run on this machine, and the sweeping up of those whose owner died.

Called by: backend.py, executors.local.
Shared memory first: a file there is written at memory speed, and mapped without a copy.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Final

from cloudexec.errors import SettingsError

_SHARED_MEMORY: Final = "/dev/shm"
_OURS: Final = re.compile(r"cloudexec-(\d+)-r\d{8}-\d{6}-[0-9a-f]+\Z")


def make_roots(run_id: str, store_dir: str | None) -> list[str]:
    """Private directories for a run's blobs, fastest first; made now. Errors: SettingsError."""
    bases = [store_dir] if store_dir else [_SHARED_MEMORY, _temporary_directory()]
    roots = []
    for base in bases:
        sweep(base)
        path = os.path.join(base, f"cloudexec-{os.getpid()}-{run_id}")
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            if store_dir or base != _SHARED_MEMORY:
                what = f"cannot write to {base}: {error.strerror}"
                raise SettingsError(what, remedy="name a directory that exists with store_dir=") from error
            continue
        roots.append(path)
    return roots


def remove_roots(roots: list[str]) -> None:
    """Remove a run's directories with all that is in them."""
    for root in roots:
        _remove(root)


def sweep(base: str) -> None:
    """Remove what runs of dead processes of this user left behind in `base`."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            match = _OURS.match(entry.name)
            if match and _is_abandoned(entry, int(match[1])):
                _remove(entry.path)


def _remove(path: str) -> None:
    import shutil  # 3 ms that a start need not pay

    shutil.rmtree(path, ignore_errors=True)


def _temporary_directory() -> str:
    """What tempfile says, without its 5 ms of imports where the answer is plain."""
    named = os.environ.get("TMPDIR", "/tmp")
    if os.path.isabs(named) and os.access(named, os.W_OK | os.X_OK):
        return named
    import tempfile

    return tempfile.gettempdir()


def _is_abandoned(entry: os.DirEntry[str], owner_pid: int) -> bool:
    with contextlib.suppress(OSError):
        if entry.stat(follow_symlinks=False).st_uid != os.getuid():
            return False
    try:
        os.kill(owner_pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
