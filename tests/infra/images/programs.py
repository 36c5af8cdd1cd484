"""A program in podman's place: it has an image, notes what it is told, and does nothing."""

from __future__ import annotations

import io
import sys
import tarfile


def layer():
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("usr/bin/gcc")
        entry.size = 3000
        archive.addfile(entry, io.BytesIO(bytes(3000)))
    return target.getvalue()


IMAGE_ID = "sha256:" + "0123456789abcdef" * 4
PODMAN = """#!{python}
import json, os, sys
words = sys.argv[1:]
if words[0] == "info": print("5.0")
elif words[0] == "save": sys.stdout.buffer.write(open({archive!r}, "rb").read())
elif words[:2] == ["image", "inspect"]: print("arm64" if "{{{{.Architecture}}}}" in words else {image_id!r})
else:
    stdin = sys.stdin.read() if "--password-stdin" in words else ""
    files = sorted(os.listdir(words[-1])) if words[0] == "build" else []
    with open({notes!r}, "a") as file: print(json.dumps([words, stdin, files]), file=file)
    print("STEP 1", file=sys.stderr)
"""


def put_podman(folder):
    """Put it into a folder of its own below this one, which is returned. Beside it lies what it notes: `notes`."""
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as outer:
        entry = tarfile.TarInfo("1.tar")
        entry.size = len(layer())
        outer.addfile(entry, io.BytesIO(layer()))
    programs = folder / "bin"
    programs.mkdir()
    names = {"python": sys.executable, "archive": str(archive), "notes": str(folder / "notes"), "image_id": IMAGE_ID}
    (programs / "podman").write_text(PODMAN.format(**names))
    (programs / "podman").chmod(0o755)
    return programs
