"""What an image weighs, and what of it makes each start slower than it need be.

Called by:  cli/image.py, with the stream of `docker save`; cli/imageviews.py, for advice.   Calls: nothing.
Why:        Fargate pulls and unpacks the whole image for every task, and keeps nothing for the next. A stream is read
            once, on the way, because an image may be larger than the memory, or the disk's free space.
Source:     facts on zstd and SOCI: AWS, Fargate's documentation of lazy loading; SOCI does not read zstd layers.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

LAZY_FROM_BYTES: Final = 250_000_000  # compressed
_ZSTD_FROM_BYTES: Final = 150_000_000  # below, unpacking is no large part of a start
LAMBDA_MOST_BYTES: Final = 10 * 1024**3  # unpacked
_HEAVY_FROM_BYTES: Final = 20_000_000
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LEAST_TAR_BYTES: Final = 1024
_PIECE_BYTES: Final = 1 << 18
_EVERY: Final = 4  # gzip takes half a minute for a gigabyte
_WHOLE_BYTES: Final = 16_000_000
_LEVEL: Final = 6  # what docker and podman push with
_PACKAGE: Final = re.compile(r"(?:^|/)site-packages/([A-Za-z0-9_]+)(?:[/.-]|$)")
_COMPILER: Final = re.compile(r"^usr/bin/(?:[a-z0-9_]+-linux-gnu-)?(?:gcc|g\+\+|gfortran|clang|rustc)(?:-\d+)?$")
_CUDA: Final = re.compile(r"libtorch_cuda|/nvidia/|libcudnn|libcublas")
_OURS: Final = ("botocore",)  # cloudexec needs it; nobody can leave it out
_INTERACTIVE: Final = ("jupyterlab", "notebook", "jupyter_server", "nbconvert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. made_by: the recipe's line, as far as the image knows."""

    unpacked: int  # bytes
    compressed: int
    made_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Sizes in bytes; packages by what lies in their folders."""

    layers: tuple[Layer, ...]
    packages: dict[str, int] = field(default_factory=dict)
    compilers: tuple[str, ...] = ()
    cuda: int = 0

    @property
    def unpacked(self) -> int:
        """On disk."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def compressed(self) -> int:
        """What a worker pulls."""
        return sum(layer.compressed for layer in self.layers)

    def largest(self, count: int = 5) -> Sequence[Layer]:
        """The largest layers first."""
        return sorted(self.layers, key=lambda layer: -layer.compressed)[:count]


# --- reading -------------------------------------------------------------------------------------


def weigh(archive: IO[bytes]) -> Weight:
    """Read `docker save`'s archive, of any of its generations, to its end."""
    layers: dict[str, tuple[int, int]] = {}
    papers: dict[str, Any] = {}
    contents = _Contents()
    with tarfile.open(fileobj=archive, mode="r|") as outer:
        for entry in outer:
            stream = outer.extractfile(entry) if entry.isreg() else None
            if stream is None:
                continue  # a layer that another one equals is a link
            begin = stream.read(4)
            if begin[:1] in (b"{", b"["):
                papers[entry.name] = _json_of(begin + stream.read())
            elif begin[:2] == _GZIP or begin == _ZSTD or entry.size >= _LEAST_TAR_BYTES:  # else a file such as VERSION
                layers[entry.name] = _read_layer(_Joined(begin, stream), begin, entry.size, contents)
    return Weight(
        layers=tuple(_named(layers, papers)),
        packages=dict(contents.packages),
        compilers=tuple(sorted(contents.compilers)),
        cuda=contents.cuda,
    )


class _Contents:
    """What is in the layers, by the names of their files."""

    def __init__(self) -> None:
        self.packages: Counter[str] = Counter()
        self.compilers: set[str] = set()
        self.cuda = 0

    def saw(self, path: str, size: int) -> None:
        path = path.removeprefix("./")
        found = _PACKAGE.search(path)
        if found:
            self.packages[found[1].lower()] += size
            if _CUDA.search(path):
                self.cuda += size
        if _COMPILER.match(path):
            self.compilers.add(path.rpartition("/")[2])


class _Joined(io.RawIOBase):
    """A stream whose first bytes have been looked at."""

    def __init__(self, begin: bytes, stream: IO[bytes]) -> None:
        self._begin, self._stream = begin, stream

    def read(self, size: int = -1) -> bytes:
        if not self._begin:
            return self._stream.read(size)
        begin, self._begin = self._begin, b""
        return begin + self._stream.read(size - len(begin) if size > len(begin) else 0 if size >= 0 else -1)


class _Squeezed:
    """Counts what is read through it, and compresses a piece out of `every` (0: none): an estimate for large layers."""

    def __init__(self, stream: IO[bytes] | _Joined, every: int) -> None:
        self._stream = stream
        self._every = every
        self._squeeze = zlib.compressobj(_LEVEL)
        self._tried = self._packed = 0
        self.unpacked = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if self._every and (self.unpacked // _PIECE_BYTES) % self._every == 0:
            self._tried += len(data)
            self._packed += len(self._squeeze.compress(data))
        self.unpacked += len(data)
        return data

    def finish(self) -> None:
        while self.read(1 << 16):
            pass
        self._packed += len(self._squeeze.flush())

    @property
    def compressed(self) -> int:
        return round(self._packed * self.unpacked / self._tried) if self._tried else 0


def _read_layer(stream: _Joined, begin: bytes, size: int, contents: _Contents) -> tuple[int, int]:
    """Bytes unpacked and compressed. A layer that is stored compressed keeps its size, whatever compressed it."""
    if begin[:2] == _GZIP:
        counted = _Squeezed(_Unpacked(stream), 0)
        _look_through(counted, contents)
        return counted.unpacked, size
    if begin == _ZSTD:  # which this Python may not read
        return size, size
    counted = _Squeezed(stream, _EVERY if size > _WHOLE_BYTES else 1)
    _look_through(counted, contents)
    return counted.unpacked, counted.compressed


class _Unpacked(_Joined):
    """A gzip stream's content."""

    def __init__(self, stream: _Joined) -> None:
        self._packed = stream
        self._gunzip = zlib.decompressobj(wbits=31)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and not self._gunzip.eof and (data := self._packed.read(1 << 16)):
            self._rest += self._gunzip.decompress(data)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _look_through(counted: _Squeezed, contents: _Contents) -> None:
    with tarfile.open(fileobj=counted, mode="r|") as inner:  # type: ignore[call-overload]  # it needs read() alone
        for file in inner:
            if not file.isdir():
                contents.saw(file.name, file.size if file.isreg() else 0)
            inner.members = []  # a hundred thousand files need not be remembered
    counted.finish()


def _json_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _named(layers: dict[str, tuple[int, int]], papers: dict[str, Any]) -> Iterator[Layer]:
    """In the image's order, with the lines that made them."""
    manifest = papers.get("manifest.json") or []
    order = manifest[0]["Layers"] if manifest else list(layers)
    config = papers.get(manifest[0]["Config"]) if manifest else None
    history = [one for one in (config or {}).get("history") or [] if not one.get("empty_layer")]
    lines = [_short(one.get("created_by", "")) for one in history]
    if len(lines) != len(order):
        lines = [""] * len(order)
    for name, line in zip(order, lines, strict=True):
        if name in layers:
            unpacked, compressed = layers[name]
            yield Layer(unpacked=unpacked, compressed=compressed, made_by=line)


def _short(line: str) -> str:
    line = re.sub(r"^(/bin/sh -c )?(#\(nop\)\s*)?|^\|\d+ .*?/bin/sh -c ", "", line.replace("\n", " "))
    line = re.sub(r"\b(dir|file|multi):[0-9a-f]{64}( in)?", "", line)
    return re.sub(r"\s+", " ", line).strip()[:70]


# --- judging -------------------------------------------------------------------------------------


def advice(weight: Weight) -> list[str]:
    """What slows a cold start, and what to do; sentences for people."""
    said = []
    if weight.unpacked > LAMBDA_MOST_BYTES:
        said.append(f"unpacked it is larger than Lambda takes (10 GB): {megabytes(weight.unpacked)}")
    said += advice_on_size(weight.compressed)
    if weight.cuda:
        said.append(
            f"{megabytes(weight.cuda)} of CUDA libraries: Fargate and Lambda have no GPU; take the CPU build "
            "(for torch: --extra-index-url https://download.pytorch.org/whl/cpu)"
        )
    interactive = [name for name in _INTERACTIVE if name in weight.packages]
    if interactive:
        said.append(f"{', '.join(interactive)}: workers have no use for it; keep it in an extra or group of its own")
    if weight.compilers:
        names = ", ".join(weight.compilers[:3])
        said.append(f"compilers ({names}) are left in; what only building needs belongs to --apt-build")
    heavy = [one for one in weight.packages.items() if one[1] >= _HEAVY_FROM_BYTES and one[0] not in _OURS]
    if heavy:
        largest = sorted(heavy, key=lambda one: -one[1])[:5]
        said.append("the largest packages: " + ", ".join(f"{name} {megabytes(size)}" for name, size in largest))
    return said


def advice_on_size(compressed: int) -> list[str]:
    """What the size alone tells. compressed: bytes, as workers pull them."""
    if compressed <= _ZSTD_FROM_BYTES:
        return []
    if compressed <= LAZY_FROM_BYTES:
        return [
            f"{megabytes(compressed)} compressed: for workers of ECS, layers of zstd unpack faster "
            "(cloudexec image push -- --compression-format zstd, with Podman)"
        ]
    return [
        f"{megabytes(compressed)} compressed: each task on Fargate pulls all of it before it starts; "
        "a SOCI index lets it start while it pulls (it does not go with zstd layers)"
    ]


def megabytes(size: int) -> str:
    """As people read it: `241 MB`."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
