"""Fetch wheels for another machine: Linux of a given architecture, with a given Python.

Called by: build.py; cli/up.py, for what may be chosen.
Calls:     pip of this interpreter or uv, as a process; their settings (index, proxy) hold.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloudexec.errors import SettingsError

ARCHITECTURES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
PYTHONS: Final = ("3.10", "3.11", "3.12", "3.13", "3.14")
_OURS: Final = ("cloudexec", "cloudpickle")  # they come from this installation
# The glibc that a wheel may ask for: Lambda's Amazon Linux 2 has 2.26, Amazon Linux 2023 has 2.34.
_GLIBC_OLD, _GLIBC_NEW = 26, 34
_FIRST_ON_AL2023: Final = (3, 12)
_TIMEOUT_S: Final = 1800
_IMAGE: Final = "build an image instead, where it can be compiled: `cloudexec image build`"


def check_target(python: str, arch: str) -> None:
    """Errors: SettingsError for what Lambda and the plain worker image do not have."""
    if python not in PYTHONS:
        raise SettingsError(f"python={python!r} is unknown", remedy=f"give one of {', '.join(PYTHONS)}")
    if arch not in ARCHITECTURES:
        raise SettingsError(f"arch={arch!r} is unknown", remedy="give x86_64 or arm64")


def newest_glibc(python: str) -> int:
    """N of glibc 2.N where this Python runs on Lambda; the images on ECS are newer."""
    is_new = tuple(int(part) for part in python.split(".")) >= _FIRST_ON_AL2023
    return _GLIBC_NEW if is_new else _GLIBC_OLD


def platforms(python: str, arch: str) -> list[str]:
    """Platform tags that wheels may have, the best first. pip wants each of them named."""
    machine = ARCHITECTURES[arch]
    tags = []
    for minor in range(newest_glibc(python), 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if older := {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}.get(minor):
            tags.append(f"{older}_{machine}")
    return tags


def without_ours(requirements: str) -> str:
    """The lines of a requirements file, e.g. of `pip freeze`, but for what the bundle has anyway."""
    ours = re.compile(rf"\s*(-e\s.*#egg=)?({'|'.join(_OURS)})\s*(\[|[=<>!~@;]|$)", re.IGNORECASE)
    return "".join(line for line in requirements.splitlines(keepends=True) if not ours.match(line))


def install(packages: Sequence[str], requirements: Path | None, *, python: str, arch: str, target: Path) -> None:
    """Put packages and what they need below `target`. Errors: SettingsError that says why and what to do."""
    if not packages and requirements is None:
        return
    what = [*packages, *(["-r", str(requirements)] if requirements else [])]
    command = [*_tool(python, arch), "--target", str(target), *what]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        remedy = "check the connection to the package index, and repeat"
        raise SettingsError(f"packages were not fetched in {_TIMEOUT_S // 60} minutes", remedy=remedy) from None
    if done.returncode:
        raise explained(done.stderr + done.stdout, python, arch)


def _tool(python: str, arch: str) -> list[str]:
    """The words of pip, else of uv, up to what is to be installed.

    pip picks wheels for the other machine, but reads conditions such as `; sys_platform == "win32"` for its own:
    elsewhere than on Linux, uv is asked first, which reads them for the target.
    """
    uv = shutil.which("uv")
    if importlib.util.find_spec("pip") is not None and (uv is None or sys.platform == "linux"):
        words = [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
        words += ["--no-input", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        for tag in platforms(python, arch):
            words += ["--platform", tag]
        return words
    if uv:
        target = f"{ARCHITECTURES[arch]}-manylinux_2_{28 if newest_glibc(python) > 28 else 17}"
        words = [uv, "pip", "install", "--only-binary", ":all:"]
        return [*words, "--python-version", python, "--python-platform", target]
    what = "packages are fetched by pip or uv, and this Python has neither"
    raise SettingsError(what, remedy=f"{sys.executable} -m ensurepip, or install uv")


_UNREACHABLE: Final = re.compile(
    r"NewConnectionError|ConnectTimeoutError|NameResolutionError|ReadTimeoutError|ProxyError|SSLError|"
    r"error sending request|dns error|Failed to fetch",
    re.IGNORECASE,
)
_CONFLICT: Final = re.compile(r"ResolutionImpossible|conflicting dependencies|requirements are unsatisfiable")
_NONE_FITS: Final = re.compile(r"(?:No matching distribution found for|requirement) (\S[^(\n]*?)\s*(?:\(|$)", re.M)


def explained(output: str, python: str, arch: str) -> SettingsError:
    """What pip or uv complains of, in a sentence."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines
    if _UNREACHABLE.search(output):
        what = "the package index cannot be reached"
        return SettingsError(f"{what}: {_shortened(said)}", remedy="check the connection, the proxy, `pip config list`")
    if "No space left on device" in output:
        remedy = "make room for temporary files, or set TMPDIR to a folder that has some; `pip cache purge` makes some"
        return SettingsError("no space is left on this machine for the packages", remedy=remedy)
    if "No such file or directory" in output or "Invalid requirement" in output or "Could not open" in output:
        return SettingsError(f"packages: {_shortened(said)}", remedy="correct --packages or --requirements")
    if _CONFLICT.search(output) and "from versions" not in output and "no wheels" not in output:
        what = f"the packages contradict each other: {_shortened(said)}"
        return SettingsError(what, remedy="loosen the versions that are named")
    if found := _NONE_FITS.search(output):
        what = f"there is no wheel of {found[1]} for Python {python} on Linux {arch}"
        return SettingsError(what, remedy=f"correct its name or version; if it exists only as source, {_IMAGE}")
    return SettingsError(f"packages cannot be fetched: {_shortened(said)}", remedy=_IMAGE)


def _shortened(lines: Sequence[str]) -> str:
    text = "; ".join(lines[-6:])
    return text if len(text) <= 700 else "…" + text[-700:]
