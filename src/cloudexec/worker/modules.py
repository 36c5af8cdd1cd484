"""The user's own modules, put where `import` finds them.

Called by: running.py, before anything of a call is unpickled.   Calls: a `fetch` for blobs.
Each bundle is unpacked once a worker, into a directory that is named by its hash; of several slots that do it at
the same time one wins, and the others take what it made. The slot has that directory in front of sys.path.
Versions:  when a call brings another version of a module, everything that ever came in a bundle is forgotten and
           imported anew, so that no function of the new version meets a class of the old one. What was state in
           the old modules is gone with them. Native libraries of an old version stay in memory, unused: the new
           one lies at another path, so Python loads it beside them.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from cloudexec.errors import SignatureError, StoreFull, WireError
from cloudexec.ids import BlobRef
from cloudexec.wire.messages import ShippedModule

if TYPE_CHECKING:
    from io import BytesIO
    from zipfile import ZipFile, ZipInfo

_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ModuleShelf:
    """What one slot has in place. root: a directory that all slots of the worker share; made on first need."""

    def __init__(self, root: str, fetch: Callable[[BlobRef], memoryview]) -> None:
        self._root = root
        self._fetch = fetch
        self._placed: dict[str, tuple[bytes, str]] = {}  # by module: its bundle's digest, and its directory

    def provide(self, modules: Iterable[ShippedModule]) -> bool:
        """Put these modules into place; whether there was anything to do. If so, sys.path has changed, and what was
        unpickled before must not be used again.

        Errors: SignatureError, WireError, StoreFull, BlobMissing.
        """
        placed = self._placed
        new = [m for m in modules if m.name not in placed or placed[m.name][0] != m.bundle.digest]
        if not new:
            return False
        folders = [self._folder_of(module) for module in new]  # first: an error must leave all as it was
        if any(module.name in placed or module.name in sys.modules for module in new):
            _forget({*placed, *(module.name for module in new)})
        for module, folder in zip(new, folders, strict=True):
            _, old = placed.get(module.name, (b"", ""))
            if old in sys.path:
                sys.path.remove(old)
            sys.path.insert(0, folder)
            placed[module.name] = module.bundle.digest, folder
        importlib.invalidate_caches()
        return True

    def _folder_of(self, module: ShippedModule) -> str:
        folder = os.path.join(self._root, module.bundle.digest.hex())
        if not os.path.isdir(folder):
            try:
                self._unpack(module, folder)
            except OSError as error:
                if error.errno in _FULL:
                    raise StoreFull(f"no room for the module {module.name} in {self._root}") from error
                raise
        return folder

    def _unpack(self, module: ShippedModule, folder: str) -> None:
        import shutil
        import zipfile

        content = _checked(module, self._fetch(module.bundle))
        part = os.path.join(self._root, f".part-{os.urandom(8).hex()}")
        os.makedirs(part, mode=0o700)
        try:
            with zipfile.ZipFile(content) as bundle:
                _extract(bundle, module.name, part)
            os.rename(part, folder)
        except zipfile.BadZipFile as error:
            raise WireError(f"the bundle of the module {module.name} is damaged: {error}") from None
        except OSError as error:
            if error.errno not in _TAKEN:  # taken: another slot was quicker, with the same files
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _checked(module: ShippedModule, content: memoryview) -> BytesIO:
    """The bytes of a bundle, if they are those that the client has signed for."""
    import hashlib
    import io

    if hashlib.sha256(content).digest() != module.bundle.digest:
        what = f"the bundle of the module {module.name} in the store is not the one that was sent"
        raise SignatureError(f"{what} ({len(content):,} bytes)")
    return io.BytesIO(content)


def _extract(bundle: ZipFile, name: str, folder: str) -> None:
    for info in bundle.infolist():
        if not _belongs(info, name):
            raise WireError(f"the bundle of the module {name} holds {info.filename!r}, which is not part of it")
        path = os.path.join(folder, *info.filename.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(bundle.read(info))
        if info.external_attr >> 16 & stat.S_IXUSR:
            os.chmod(path, 0o755)


def _belongs(info: ZipInfo, name: str) -> bool:
    """Whether it is a plain file below the module's own name."""
    first, *rest = parts = info.filename.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        return False
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return False
    return first == name if rest else first.startswith(f"{name}.")


def _forget(names: set[str]) -> None:
    """Have these top-level modules imported anew, with all that is below them."""
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]
