"""What R gave and Python does not convert: the bytes, and a look at them.

Called by: users; rds (makes and writes them).   Calls: errors; snippet.py and rpy2 where asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

from cloudexec.errors import RConversionError

_MAGIC = b"X\n"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
_OTHERS = {  # what R writes, too
    b"RD": "save() or save.image() wrote it; write one object with saveRDS()",
    b"A\n": "it is in the format of text; write it with saveRDS(…, ascii = FALSE)",
    b"B\n": "it is in the byte order of the machine; write it with saveRDS()",
}
_HEAD_LINES = 12
_BULKY = 10.0  # bytes that travel, for each byte that R counts


@dataclass(frozen=True, slots=True, kw_only=True)
class RObject:
    """An object of R's, as the RDS bytes that `saveRDS` writes. It needs no R here; pass it to the next call.

    data: RDS, not compressed. r_class: `class(x)`. r_size: bytes in R's memory. head: how R prints it, in short.
    session: versions of R and of the packages that made it.
    """

    data: bytes = field(repr=False)
    r_class: tuple[str, ...] = ()
    r_size: float = 0.0
    head: str = field(default="", compare=False)
    session: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.data[:2] != _MAGIC:
            what = f"{self.data[:8]!r}… is no RDS stream, which begins with {_MAGIC!r}"
            raise RConversionError(what, remedy=_OTHERS.get(self.data[:2], "write it with R's saveRDS()"))

    def __repr__(self) -> str:
        lines = self.head.splitlines()
        shown = "\n".join(["", *(f"  {line}" for line in lines[:_HEAD_LINES]), *(["  …"] * (len(lines) > _HEAD_LINES))])
        # A closure or formula takes its whole environment along, which object.size does not count.
        bulky = f", of which R counts {self.r_size:,.0f}" if len(self.data) > _BULKY * max(self.r_size, 1000.0) else ""
        what = "/".join(self.r_class) or "object"
        return f"<RObject {what}, {len(self.data):,} bytes{bulky}>{shown if lines else ''}"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Apart from the rest of the pickle, the bytes of an object that many calls get are uploaded once.
        data = PickleBuffer(self.data) if protocol >= 5 else self.data
        return _rebuilt, (data, self.r_class, self.r_size, self.head, self.session)

    def to_python(self) -> Any:
        """The value as Python has it. Errors: RConversionError if it is no plain data."""
        from cloudexec.r import rds

        return rds.loads(self.data)

    def to_rpy2(self) -> Any:
        """The object in the R of this process, which rpy2 embeds. Errors: RMissing without rpy2."""
        from cloudexec.r.rpy2 import bridge

        return bridge.to_rpy2(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it for R's `readRDS(path)`."""
        Path(path).write_bytes(self.data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RObject:
        """What R's `saveRDS` wrote; compressed by gzip, bzip2 or xz, or not. Errors: RConversionError, OSError."""
        return cls(data=_expanded(Path(path).read_bytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RFiles:
    """What a call with `outputs=` returned: its value, and the files that it wrote, by path below its directory."""

    value: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(data):,} bytes" for name, data in self.files.items())
        return f"<RFiles {{{sizes}}}, value {type(self.value).__name__}>"

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Write the files below a directory, which is made. Errors: RConversionError for a path that leads out."""
        home = Path(directory).resolve()
        written = []
        for name, data in self.files.items():
            path = (home / name).resolve()
            if not path.is_relative_to(home):
                raise RConversionError(f"the file {name!r} would be written outside {home}", f"files[{name!r}]")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            written.append(path)
        return written


def _rebuilt(data: Any, r_class: tuple[str, ...], r_size: float, head: str, session: str) -> RObject:
    return RObject(data=bytes(data), r_class=r_class, r_size=r_size, head=head, session=session)


def _expanded(data: bytes) -> bytes:
    """The stream inside a file. Errors: RConversionError for a file that is damaged."""
    module = next((module for magic, module in _COMPRESSED.items() if data.startswith(magic)), None)
    if module is None:
        return data
    try:
        expanded: bytes = import_module(module).decompress(data)
    except Exception as error:  # each of them has errors of its own
        raise RConversionError(f"the file is damaged: {error}", remedy="write it again with saveRDS()") from error
    return expanded
