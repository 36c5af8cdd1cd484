"""Docker, Podman and Buildah on this machine: which of them works, and the words of their command lines.

Called by:  cli/image.py; buildspec.py, for names.   Calls: the tools.
They see: a folder as context, `SOURCE_DATE_EPOCH`, and a file of credentials that is gone after a push.
Every `…_words` is pure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.infra.images.recipe import EPOCH_S

DOCKER, PODMAN, BUILDAH = "docker", "podman", "buildah"
TOOLS: Final = (DOCKER, PODMAN, BUILDAH)
PLATFORMS: Final = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
# What only answers where building would: a docker client without its daemon has a version, too.
_PROBES: Final = {
    DOCKER: ("docker", "version", "--format", "{{.Server.Version}}"),
    PODMAN: ("podman", "info", "--format", "{{.Version.Version}}"),
    BUILDAH: ("buildah", "info"),
}
_PROBE_S: Final = 20
_UNREADABLE: Final = (tarfile.TarError, EOFError, zlib.error)  # what a reader of archives says
_UNWEIGHED: Final = "the image is there; --no-weigh leaves out the look at its size"
_NO_TOOL: Final = "install one (e.g. apt-get install podman), start Docker, or build in the account: --remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What one build is told."""

    context: str
    tag: str
    arch: str = "x86_64"
    build_args: tuple[str, ...] = ()  # NAME=VALUE
    more: tuple[str, ...] = ()  # options of the tool's own


# --- words ---------------------------------------------------------------------------------------


def build_words(tool: str, build: Build, epoch_s: int = EPOCH_S) -> list[str]:
    """The command that builds. BuildKit takes the time from an argument, the others from an option."""
    words = [tool, "bud" if tool == BUILDAH else "build", "--platform", PLATFORMS[build.arch], "--tag", build.tag]
    words += ["--build-arg", f"SOURCE_DATE_EPOCH={epoch_s}"]
    if tool != DOCKER:
        words += ["--timestamp", str(epoch_s), "--layers"]
    for one in build.build_args:
        words += ["--build-arg", one]
    return [*words, *build.more, build.context]


def id_words(tool: str, image: str) -> list[str]:
    """The command that prints an image's id."""
    if tool == BUILDAH:
        return [tool, "inspect", "--type", "image", "--format", "{{.FromImageID}}", image]
    return [tool, "image", "inspect", "--format", "{{.Id}}", image]


def arch_words(tool: str, image: str) -> list[str]:
    """The command that prints what processor an image is for, in Docker's words."""
    if tool == BUILDAH:
        return [tool, "inspect", "--type", "image", "--format", "{{.OCIv1.Architecture}}", image]
    return [tool, "image", "inspect", "--format", "{{.Architecture}}", image]


def login_words(tool: str, host: str, auth: str, more: Sequence[str] = ()) -> list[str]:
    """The command that reads a password from its stdin and keeps it in `auth`: a folder for docker, else a file."""
    words = [tool, "--config", auth, "login"] if tool == DOCKER else [tool, "login", "--authfile", auth]
    return [*words, "--username", "AWS", "--password-stdin", *more, host]


def push_words(tool: str, image: str, target: str, auth: str, more: Sequence[str] = ()) -> list[list[str]]:
    """The commands that push. Docker pushes what has the target's name."""
    if tool == DOCKER:
        return [[tool, "tag", image, target], [tool, "--config", auth, "push", *more, target]]
    return [[tool, "push", "--authfile", auth, *more, image, f"docker://{target}"]]


def save_words(tool: str, image: str, path: str) -> list[str]:
    """The command that writes an image as an archive: to its stdout, or with buildah to `path`."""
    if tool == BUILDAH:
        return [tool, "push", "--quiet", image, f"docker-archive:{path}"]
    return [tool, "save", image]


# --- running them --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The tool that is used, and why not another."""

    tool: str
    notes: tuple[str, ...] = ()


def find_tool(wanted: str = "") -> Found:
    """The first that works, or the one that is wanted. Errors: SettingsError if none does."""
    notes: list[str] = []
    for tool in [wanted] if wanted else TOOLS:
        trouble = _trouble_of(tool)
        if not trouble:
            return Found(tool, tuple(notes))
        notes.append(trouble)
    raise SettingsError("no tool here can build images: " + "; ".join(notes), remedy=_NO_TOOL)


def _trouble_of(tool: str) -> str:
    """Why it does not work; empty if it does."""
    if shutil.which(tool) is None:
        return f"{tool} is not installed"
    try:
        done = subprocess.run(
            _PROBES[tool], capture_output=True, text=True, timeout=_PROBE_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"{tool} is here, but did not answer in {_PROBE_S} s"
    if done.returncode == 0 and done.stdout.strip():
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return f"{tool} is here, but does not work: {said[-1] if said else f'exit status {done.returncode}'}"


def build(tool: str, what: Build, output: IO[str] | None = None) -> None:
    """Build it; the tool tells its progress itself, on `output`. Errors: CloudexecError."""
    epoch_s = int(os.environ.get("SOURCE_DATE_EPOCH") or EPOCH_S)
    # A list of images for several platforms, which is what an attestation makes of one, is refused by Lambda.
    _run(build_words(tool, what, epoch_s), {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}, output)


def image_id(tool: str, image: str) -> str:
    """Its id, without `sha256:`. Errors: SettingsError if there is none."""
    done = subprocess.run(id_words(tool, image), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SettingsError(f"{tool} has no image {image}", remedy="build it first: cloudexec image build")
    return done.stdout.strip().removeprefix("sha256:")


def image_arch(tool: str, image: str) -> str:
    """What processor it is for, in AWS's words. Errors: CloudexecError if that is none of theirs."""
    said = subprocess.run(arch_words(tool, image), capture_output=True, text=True, check=False).stdout.strip()
    found = [arch for arch, platform in PLATFORMS.items() if platform == f"linux/{said}"]
    if not found:
        what = f"{image} is for the processor {said or 'that it does not name'}, which workers do not have"
        raise CloudexecError(what, remedy=f"build it with --arch {' or '.join(PLATFORMS)}")
    return found[0]


@contextmanager
def credentials(tool: str, host: str, password: str, more: Sequence[str] = ()) -> Iterator[str]:
    """A place where the tool finds the registry's password, as long as this lasts. Errors: CloudexecError."""
    with tempfile.TemporaryDirectory(prefix="cloudexec-auth-") as folder:  # of mode 0700
        auth = folder if tool == DOCKER else str(Path(folder, "auth.json"))
        words = login_words(tool, host, auth, more)
        done = subprocess.run(
            words, input=password, capture_output=True, text=True, check=False, env=_environment(tool)
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            what = f"{tool} could not log in to {host}: {' '.join(said)}"
            raise CloudexecError(
                what, remedy="check the network, and that the repository is in this account and region"
            )
        yield auth


def push(
    tool: str, image: str, target: str, auth: str, more: Sequence[str] = (), output: IO[str] | None = None
) -> None:
    """Push it; the tool tells its progress on `output`. Errors: CloudexecError."""
    environment = _environment(tool)
    for words in push_words(tool, image, target, auth, more):
        _run(words, environment, output)


@contextmanager
def saved(tool: str, image: str) -> Iterator[IO[bytes]]:
    """The image as a stream, an archive of `docker save`.

    Errors: CloudexecError, also for what a reader of archives raises while this lasts.
    """
    with tempfile.TemporaryDirectory(prefix="cloudexec-saved-") as folder:
        path = Path(folder, "image.tar")
        words = save_words(tool, image, str(path))
        if tool == BUILDAH:
            _run(words, {}, None)
            with path.open("rb") as stream, _archive_errors(image):
                yield stream
            return
        with _archive_errors(image), Path(folder, "stderr").open("w+b") as told:
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=told) as process:
                assert process.stdout is not None
                try:
                    yield process.stdout
                except _UNREADABLE:
                    _read_out(process.stdout)
                    _check_saved(process.wait(), tool, image, told)  # half an archive is the smaller trouble
                    raise
                _read_out(process.stdout)  # padding, which no reader of archives takes
            _check_saved(process.returncode, tool, image, told)


@contextmanager
def _archive_errors(image: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        what = f"the archive of {image} cannot be read: {error}"
        raise CloudexecError(what, remedy=_UNWEIGHED) from error


def _read_out(stream: IO[bytes]) -> None:
    """To its end: a tool whose pipe is closed would fail for that."""
    while stream.read(1 << 20):
        pass


def _check_saved(status: int, tool: str, image: str, told: IO[bytes]) -> None:
    if status == 0:
        return
    told.seek(0)
    last = told.read().decode(errors="replace").strip().splitlines()[-1:]
    what = f"{tool} save {image} ended with exit status {status}"
    raise CloudexecError(": ".join([what, *last]), remedy=_UNWEIGHED)


def _environment(tool: str) -> Mapping[str, str]:
    """Docker's configuration names its daemon, too: with another one, the daemon must be named."""
    if tool != DOCKER or os.environ.get("DOCKER_HOST"):
        return os.environ
    words = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (
        {**os.environ, "DOCKER_HOST": done.stdout.strip()}
        if done.returncode == 0 and done.stdout.strip()
        else os.environ
    )


def _run(words: Sequence[str], environment: Mapping[str, str], output: IO[str] | None) -> None:
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        stdout=output if output is not None else subprocess.DEVNULL,
        stderr=output if output is not None else None,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        what = f"{' '.join(words[:2])} ended with exit status {done.returncode}"
        raise CloudexecError(what, remedy="its own last lines above say why")
