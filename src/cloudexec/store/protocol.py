"""What a store promises.

Called by: whoever needs a store; the implementations stand beside this file or in backends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

Bytes = bytes | bytearray | memoryview


class Store(Protocol):
    """Byte strings under names such as `blobs/9f3a…` (letters, digits, `-_.`, parts divided by `/`).

    A string is there whole or not at all. Safe to use from several threads and processes.
    """

    def put(self, name: str, pieces: Sequence[Bytes]) -> None:
        """Write the pieces, one after another, under `name`; replaces what was there.

        Errors: StoreFull when there is no room; nothing is left behind then. SettingsError for a bad name.
        """
        ...

    def put_once(self, name: str, pieces: Sequence[Bytes]) -> bool:
        """Write unless the name is taken: then False, and what was there stays. Of many writers one wins."""
        ...

    def get(self, name: str) -> memoryview:
        """The bytes, in a buffer that is the caller's own: writable, and never seen by anybody else.

        Errors: BlobMissing when there is nothing under `name`.
        """
        ...

    def size(self, name: str) -> int | None:
        """How many bytes lie under `name`; None when there is nothing."""
        ...

    def delete(self, name: str) -> None:
        """Remove what is under `name`, if anything."""
        ...

    def names(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Names that start with `prefix` and sort behind `after`, in the order of their code points."""
        ...
