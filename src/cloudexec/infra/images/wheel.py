"""A wheel of the cloudexec that runs here: an image gets the client's own version, from no index and no checkout.

Called by:  cli/image.py; context.py, for zips.   Calls: importlib.metadata.
Form:       PEP 427. The same files give the same bytes: names are sorted, times are the earliest that a zip can hold.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import cloudexec

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_TAG: Final = b"Wheel-Version: 1.0\nGenerator: cloudexec\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def own_wheel() -> tuple[str, bytes]:
    """File name and content."""
    found = metadata.distribution("cloudexec")
    package = Path(cloudexec.__file__).parent
    files = {
        f"cloudexec/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    about = {name: text for name in ("METADATA", "entry_points.txt") if (text := found.read_text(name))}
    return packed("cloudexec", found.version, files, about)


def packed(name: str, version: str, files: Mapping[str, bytes], about: Mapping[str, str]) -> tuple[str, bytes]:
    """A pure wheel of these files. about: what lies in its .dist-info."""
    info = f"{name}-{version}.dist-info"
    content = {path: files[path] for path in sorted(files)}
    content |= {f"{info}/{path}": about[path].encode() for path in sorted(about)}
    content[f"{info}/WHEEL"] = _TAG
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return f"{name}-{version}-py3-none-any.whl", zipped(content)


def zipped(content: Mapping[str, bytes]) -> bytes:
    """A zip whose bytes depend on the content alone."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return target.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
