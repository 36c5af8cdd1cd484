"""Wheels of a few files, for an index that is a folder."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

ANY = "py3-none-any"


def make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str | bytes], *, tag: str = ANY, needs: str = ""
) -> None:
    """Put a wheel into the folder. needs: one requirement."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {needs}\n" if needs else ""
    inside = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": "",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, content in inside.items():
            archive.writestr(path, content)
