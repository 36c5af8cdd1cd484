"""Docker, Podman, Buildah: their words, which one works, and that no password stays."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile

import pytest

from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.infra.images import tools
from cloudexec.infra.images.weigh import weigh

BUILD = tools.Build(context="ctx", tag="t:1", arch="arm64", build_args=("A=b",), more=("--network", "host"))
TAIL = ["--build-arg", "A=b", "--network", "host", "ctx"]
FRONT = ["--platform", "linux/arm64", "--tag", "t:1", "--build-arg", "SOURCE_DATE_EPOCH=7"]


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("docker", ["docker", "build", *FRONT, *TAIL]),
        ("podman", ["podman", "build", *FRONT, "--timestamp", "7", "--layers", *TAIL]),
        ("buildah", ["buildah", "bud", *FRONT, "--timestamp", "7", "--layers", *TAIL]),
    ],
)
def test_the_command_that_builds(tool, words):
    assert tools.build_words(tool, BUILD, epoch_s=7) == words


@pytest.mark.parametrize("tool", tools.TOOLS)
def test_a_password_is_no_word_of_a_command(tool):
    words = tools.login_words(tool, "host", "place", ["--tls-verify=false"])
    assert "--password-stdin" in words
    assert words[-2:] == ["--tls-verify=false", "host"]


@pytest.mark.parametrize(
    ("tool", "commands"),
    [
        ("docker", [["docker", "tag", "a", "h/r:1"], ["docker", "--config", "auth", "push", "-q", "h/r:1"]]),
        ("podman", [["podman", "push", "--authfile", "auth", "-q", "a", "docker://h/r:1"]]),
        ("buildah", [["buildah", "push", "--authfile", "auth", "-q", "a", "docker://h/r:1"]]),
    ],
)
def test_the_commands_that_push(tool, commands):
    assert tools.push_words(tool, "a", "h/r:1", "auth", ["-q"]) == commands


# --- programs in the tools' place ----------------------------------------------------------------

# Notes what it is told, and where it finds what; then does what it was made for.
PROGRAM = """#!{python}
import json, os, sys
with open({notes!r}, "a") as file:
    auth = next((b for a, b in zip(sys.argv, sys.argv[1:]) if a in ("--authfile", "--config")), "")
    stdin = sys.stdin.read() if "--password-stdin" in sys.argv else ""
    print(json.dumps([sys.argv[1:], stdin, auth, os.environ.get("DOCKER_HOST", "")]), file=file)
{body}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a program on the PATH; nothing else is there. It returns what the program has noted."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    notes = tmp_path / "notes"

    def install(tool, body="print('1.0')"):
        program = tmp_path / tool
        program.write_text(PROGRAM.format(python=sys.executable, notes=str(notes), body=body))
        program.chmod(0o755)
        return lambda: [json.loads(line) for line in notes.read_text().splitlines()]

    return install


DEAD_DOCKER = "print('Cannot connect to the daemon', file=sys.stderr); sys.exit(1)"


def test_a_docker_without_its_daemon_gives_way_to_podman(install):
    install("docker", DEAD_DOCKER)
    install("podman")
    found = tools.find_tool()
    assert found.tool == "podman"
    assert found.notes == ("docker is here, but does not work: Cannot connect to the daemon",)


def test_the_first_that_works_is_taken_and_another_can_be_named(install):
    install("docker")
    install("buildah")
    assert tools.find_tool() == tools.Found("docker")
    assert tools.find_tool("buildah") == tools.Found("buildah")


def test_without_a_tool_the_account_can_build(install):
    install("docker", DEAD_DOCKER)
    with pytest.raises(SettingsError, match="--remote") as caught:
        tools.find_tool()
    assert "podman is not installed; buildah is not installed" in caught.value.what
    with pytest.raises(SettingsError, match="podman is not installed"):
        tools.find_tool("podman")


@pytest.mark.parametrize("tool", tools.TOOLS)
def test_credentials_go_through_stdin_and_are_gone_afterwards(install, tool):
    body = "open(os.path.join(auth, 'config.json') if os.path.isdir(auth) else auth, 'w').write(stdin)"
    noted = install(tool, body)
    with tools.credentials(tool, "host", "secret") as auth:
        assert os.path.exists(auth)
        (words, stdin, place, _) = noted()[-1]
        assert oct(os.stat(auth if os.path.isdir(auth) else os.path.dirname(auth)).st_mode)[-3:] == "700"
    assert (stdin, place) == ("secret", auth)
    assert "secret" not in words
    assert not os.path.exists(auth)


def test_credentials_are_gone_after_a_push_that_failed(install):
    install("podman", "if 'push' in sys.argv: sys.exit(3)")
    failure = pytest.raises(CloudexecError, match="podman push ended with exit status 3")
    with failure, tools.credentials("podman", "host", "secret") as auth:
        tools.push("podman", "a", "b", auth)
    assert not os.path.exists(auth)


def test_a_login_that_is_refused_says_so_without_the_password(install):
    install("podman", "print('Error: unauthorized', file=sys.stderr); sys.exit(125)")
    refusal = pytest.raises(CloudexecError, match="could not log in to host: Error: unauthorized")
    with refusal as caught, tools.credentials("podman", "host", "secret"):
        pass
    assert "secret" not in str(caught.value)


def test_docker_keeps_its_daemon_when_it_gets_another_configuration(install):
    noted = install("docker", "print('unix:///of/my/context' if 'context' in sys.argv else '')")
    with tools.credentials("docker", "host", "secret") as auth:
        tools.push("docker", "a", "b", auth)
    hosts = {tuple(words)[2]: host for words, _, _, host in noted() if words[0] == "--config"}
    assert hosts == {"login": "unix:///of/my/context", "push": "unix:///of/my/context"}


def test_a_build_that_fails_names_the_tool(install):
    install("podman", "sys.exit(125)")
    with pytest.raises(CloudexecError, match="podman build ended with exit status 125"):
        tools.build("podman", BUILD)


@pytest.mark.parametrize("tool", tools.TOOLS)
def test_the_id_of_an_image_is_told_without_its_kind(install, tool):
    install(tool, "print('sha256:abc')")
    assert tools.image_id(tool, "a") == "abc"


@pytest.mark.parametrize(("said", "arch"), [("amd64", "x86_64"), ("arm64", "arm64")])
def test_processors_have_awss_names(install, said, arch):
    install("podman", f"print({said!r})")
    assert tools.image_arch("podman", "a") == arch


def test_a_processor_that_workers_do_not_have(install):
    install("docker", "print('s390x')")
    with pytest.raises(CloudexecError, match="for the processor s390x, which workers do not have"):
        tools.image_arch("docker", "a")


def test_an_image_that_is_not_there(install):
    install("podman", "sys.exit(1)")
    with pytest.raises(SettingsError, match="cloudexec image build"):
        tools.image_id("podman", "a")


@pytest.mark.parametrize("tool", tools.TOOLS)
def test_an_image_is_read_as_a_stream(install, tool):
    to_file = "open(sys.argv[-1].removeprefix('docker-archive:'), 'w').write('archive')"
    install(tool, to_file if tool == "buildah" else "print('archive', end='')")
    with tools.saved(tool, "a") as stream:
        assert stream.read() == b"archive"


def test_an_image_that_cannot_be_read_to_its_end_is_an_error(install):
    install("podman", "print('half'); sys.exit(2)")
    failure = pytest.raises(CloudexecError, match="save a ended with exit status 2")
    with failure, tools.saved("podman", "a") as stream:
        stream.read()


@pytest.mark.parametrize(
    ("tool", "body", "said"),
    [
        pytest.param(
            "docker",
            "print('first\\nno space left', file=sys.stderr); sys.exit(1)",
            "docker save a ended with exit status 1: no space left",
            id="nothing, and why",
        ),
        pytest.param("podman", "sys.exit(2)", "podman save a ended with exit status 2", id="nothing, in silence"),
        pytest.param("podman", "pass", "the archive of a cannot be read: empty file", id="nothing, without an error"),
        pytest.param(
            "podman",
            "sys.stderr.write('~' * 200_000); sys.stdout.write('~' * 2_000_000)",
            "the archive of a cannot be read: ",
            id="no archive, more than a pipe holds",
        ),
        pytest.param(
            "buildah",
            "open(sys.argv[-1].removeprefix('docker-archive:'), 'w').close()",
            "the archive of a cannot be read: empty file",
            id="an empty file",
        ),
    ],
)
def test_an_image_that_cannot_be_weighed_says_so_with_the_tools_words(install, tool, body, said):
    install(tool, body)
    with pytest.raises(CloudexecError) as caught, tools.saved(tool, "a") as stream:
        weigh(stream)
    assert caught.value.what.startswith(said)
    assert "--no-weigh" in caught.value.remedy


def test_layers_that_cannot_be_unpacked_are_no_archive_either(install, tmp_path):
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        entry = tarfile.TarInfo("layer")
        entry.size = 4000
        archive.addfile(entry, io.BytesIO(b"\x1f\x8b" + b"~" * 4000))
    install("podman", f"sys.stdout.buffer.write(open({str(tmp_path / 'image.tar')!r}, 'rb').read())")
    failure = pytest.raises(CloudexecError, match=r"the archive of a cannot be read: .*while decompressing")
    with failure, tools.saved("podman", "a") as stream:
        weigh(stream)
