"""A store in one or more local directories: shared memory first, then the disk.

Called by: the local backend and its workers.   Implements: protocol.Store.
Why mmap:  a private mapping gives each reader bytes of its own (copy-on-write) at no cost until it writes;
           a 100 MB array is read by 200 calls without a single copy.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from cloudexec.errors import BlobMissing, SettingsError, StoreFull
from cloudexec.ids import BlobRef
from cloudexec.store.memory import equals_file
from cloudexec.store.names import checked
from cloudexec.store.protocol import Bytes

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_MAP_FROM_BYTES: Final = 64 * 1024  # below that a read is cheaper than a mapping
_TEMPORARY: Final = ".part-"
_HASH_ASIDE_FROM_BYTES: Final = 4 << 20
_WRITE_BYTES: Final = 1 << 30  # Linux writes at most 2 GiB at once


class DirectoryStore:
    """Files below `roots`; a later root takes what an earlier one has no room for."""

    def __init__(self, roots: Sequence[str | os.PathLike[str]]) -> None:
        if not roots:
            raise SettingsError("a directory store needs at least one directory")
        self._roots = tuple(os.fspath(root) for root in roots)

    @property
    def roots(self) -> tuple[str, ...]:
        """The directories, fastest first."""
        return self._roots

    def put(self, name: str, pieces: Sequence[Bytes]) -> None:
        """See Store.put."""
        self._put(name, pieces, once=False)

    def put_once(self, name: str, pieces: Sequence[Bytes]) -> bool:
        """See Store.put_once."""
        if self.size(name) is not None:
            return False
        return self._put(name, pieces, once=True)

    def put_blob(self, content: memoryview) -> BlobRef:
        """Write `content` under its hash, if it is not there yet; a large one is hashed while it is written.

        Errors: StoreFull.
        """
        if content.nbytes < _HASH_ASIDE_FROM_BYTES:
            ref = BlobRef(hashlib.sha256(content).digest(), content.nbytes)
            self.put_once(ref.name, [content])
            return ref
        with _HashAside(content) as hashing:
            part = f"blobs/{_unique()}"
            self.put(part, [content])
        ref = BlobRef(hashing.digest, content.nbytes)
        self._rename(part, ref.name)
        return ref

    def is_same(self, name: str, content: memoryview) -> bool:
        """Whether exactly these bytes lie under `name`; reads them through a small window of memory."""
        for root in self._roots:
            with contextlib.suppress(*_ABSENT):
                fd = os.open(_path(root, name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    return _size(os.fstat(fd)) == content.nbytes and equals_file(content, fd)
                finally:
                    os.close(fd)
        return False

    def get(self, name: str) -> memoryview:
        """See Store.get."""
        for root in self._roots:
            with contextlib.suppress(*_ABSENT):
                fd = os.open(_path(root, name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    return _read(fd)
                finally:
                    os.close(fd)
        raise BlobMissing(f"{name} is not in {self._roots[0]}")

    def size(self, name: str) -> int | None:
        """See Store.size."""
        for root in self._roots:
            with contextlib.suppress(*_ABSENT):
                return _size(os.stat(_path(root, name)))
        return None

    def delete(self, name: str) -> None:
        """See Store.delete."""
        for root in self._roots:
            with contextlib.suppress(*_ABSENT):
                os.unlink(_path(root, name))

    def names(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See Store.names."""
        found = {name for root in self._roots for name in _walk(root) if name.startswith(prefix)}
        yield from sorted(name for name in found if name > after)

    def _put(self, name: str, pieces: Sequence[Bytes], *, once: bool) -> bool:
        reasons = []
        for root in self._roots:
            try:
                done = self._write(_path(root, name), pieces, once=once)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                reasons.append(f"{root}: {error.strerror}")
                continue
            self._forget_elsewhere(root, name)
            return done
        size = sum(len(piece) for piece in pieces)
        raise StoreFull(f"no room for {size:,} bytes of {name} ({'; '.join(reasons)})")

    def _rename(self, old: str, new: str) -> None:
        for root in self._roots:
            with contextlib.suppress(*_ABSENT):
                os.replace(_path(root, old), _path(root, new))

    def _forget_elsewhere(self, home: str, name: str) -> None:
        for root in self._roots:
            if root != home:
                with contextlib.suppress(*_ABSENT):
                    os.unlink(_path(root, name))

    def _write(self, path: str, pieces: Sequence[Bytes], *, once: bool) -> bool:
        part = _part_beside(path)
        try:
            fd = _create(part)
            try:
                for piece in pieces:
                    _write_all(fd, memoryview(piece).cast("B"))
            finally:
                os.close(fd)
            return _publish(part, path, once=once)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def _path(root: str, name: str) -> str:
    return f"{root}/{checked(name)}"


def _part_beside(path: str) -> str:
    return f"{os.path.dirname(path)}/{_TEMPORARY}{_unique()}"


def _unique() -> str:
    return os.urandom(8).hex()


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_all(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view[:_WRITE_BYTES]) :]


def _publish(part: str, path: str, *, once: bool) -> bool:
    if not once:
        os.replace(part, path)
        return True
    try:
        os.link(part, path)  # unlike a rename, a link fails when the name is taken
    except FileExistsError:
        return False
    return True


def _size(status: os.stat_result) -> int:
    if stat.S_ISDIR(status.st_mode):  # the beginning of other names
        raise IsADirectoryError
    return status.st_size


def _read(fd: int) -> memoryview:
    size = _size(os.fstat(fd))
    if size >= _MAP_FROM_BYTES:
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = os.readv(fd, [view])
        if not got:
            raise BlobMissing(f"a file of {size} bytes was cut short while it was read")
        view = view[got:]
    return memoryview(data)


class _HashAside:
    """Hashes in a second thread; hashing and writing both let go of the interpreter lock."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._thread = threading.Thread(target=self._hash, name="cloudexec-hash")
        self.digest = b""

    def _hash(self) -> None:
        self.digest = hashlib.sha256(self._content).digest()

    def __enter__(self) -> _HashAside:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join()


def _walk(root: str) -> Iterator[str]:
    for folder, _folders, files in os.walk(root):
        for file in files:
            if not file.startswith(_TEMPORARY):
                yield os.path.relpath(os.path.join(folder, file), root)
