"""`cloudexec image` as people type it: what goes to stdout, what is said, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cloudexec.cli.main import run
from tests.infra.images.accounts import OUTPUTS, Account
from tests.infra.images.programs import layer, put_podman

PYTHON = "{}.{}".format(*sys.version_info[:2])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty directory called `My Forest`, in which the commands run."""
    folder = tmp_path / "My Forest"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("AWS_PROFILE", "CLOUDEXEC_STACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "eu-west-1")):
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def image(project, capfd):
    """A function that runs `cloudexec image`: exit code, stdout, stderr."""

    def image(*words):
        code = run(["image", *map(str, words)])
        said = capfd.readouterr()
        return code, said.out, said.err

    return image


# --- write ---------------------------------------------------------------------------------------


def test_write_prints_the_recipe_and_says_where_it_is_from(project, image):
    (project / "requirements.txt").write_text("six\n")
    (project / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    code, out, err = image("write")
    assert code == 0
    assert out.startswith(f"# A worker image for Python {PYTHON}, the client's, from requirements.txt")
    assert "which is more exact than pyproject.toml (--from FILE takes another)" in err


def test_write_leaves_a_file_and_a_folder_that_any_tool_can_build(project, image):
    (project / "requirements.txt").write_text("six\n")
    (project / "secret.py").write_text("KEY = 1")
    code, out, _ = image("write", "--output", "Dockerfile", "--context", "made", "--apt", "libgomp1", "--pip", "attrs")
    assert (code, out) == (0, "")
    text = (project / "Dockerfile").read_text()
    assert "libgomp1" in text
    assert (project / "made/Dockerfile").read_text() == text
    assert {path.name for path in (project / "made").iterdir()} == {"Dockerfile", "cloudexec", "requirements.txt"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["write", "--from", "none.txt"], "there is no such file", id="a missing file"),
        pytest.param(["write", "--extra", "x"], "--extra is for", id="an extra of nothing"),
        pytest.param(["write", "--no-index"], "--no-index without --wheels", id="wheels from nowhere"),
        pytest.param(["write", "--context", "."], "is not empty", id="a folder that has something"),
        pytest.param(["build", "--build-arg", "a b"], "is not NAME=VALUE", id="no assignment"),
        pytest.param(["build", "--remote", "--tool", "podman"], "--remote goes without", id="remote and here"),
        pytest.param(
            ["build", "--remote", "--build-arg", "TOKEN"], "a remote build does not see", id="of this machine"
        ),
        pytest.param(["write", "--from", "latin1.txt"], "latin1.txt is not UTF-8", id="another encoding"),
        pytest.param(["build", "--remote", "--file", "latin1.txt"], "latin1.txt is not UTF-8", id="a Dockerfile in it"),
        pytest.param(["build", "--use"], "--use goes with --remote", id="used before it is pushed"),
        pytest.param(["push", "--use", "--json"], "two answers at once", id="two documents"),
    ],
)
def test_wrong_settings_end_with_code_2_and_a_remedy(project, image, words, said):
    (project / "latin1.txt").write_bytes("# Wälder\n".encode("latin1"))
    code, out, err = image(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "what to do:" in err


# --- build and push, with a program in the tool's place ------------------------------------------


@pytest.fixture
def podman(tmp_path, monkeypatch):
    """A podman that notes its words, and nothing else on the PATH. The function returns them."""
    monkeypatch.setenv("PATH", str(put_podman(tmp_path)))
    notes = tmp_path / "notes"
    return lambda: [json.loads(line) for line in notes.read_text().splitlines()]


def test_build_names_the_image_by_the_directory_and_tells_what_it_weighs(image, podman):
    code, out, err = image("build", "--arch", "arm64", "--build-arg", "A=b", "--", "--network", "host")
    name = f"localhost/cloudexec-my-forest:{PYTHON}-arm64"
    assert code == 0, err
    assert out.splitlines()[0] == name
    ((words, _, files),) = podman()
    assert words[words.index("--platform") + 1] == "linux/arm64"
    assert words[-3:-1] == ["--network", "host"]
    assert {"Dockerfile", "cloudexec"} == set(files)
    assert "docker is not installed" in err
    assert "STEP 1" in err, "the tool's own progress"
    assert "compilers (gcc) are left in" in err


def test_an_image_whose_archive_is_none_is_a_sentence(image, podman, tmp_path):
    (tmp_path / "image.tar").write_bytes(b"")
    code, out, err = image("build", "--tag", "mine:1")
    assert (code, out) == (1, "")
    assert "the archive of mine:1 cannot be read: empty file" in err
    assert "--no-weigh" in err


def test_build_for_programs(image, podman):
    code, out, _ = image("build", "--json", "--tag", "mine:1")
    said = json.loads(out)
    assert code == 0
    assert (said["image"], said["id"][:4], said["bytes"]) == ("mine:1", "0123", len(layer()))


def test_a_dockerfile_is_utf_8_whatever_the_locale_is(project, podman):
    (project / "Dockerfile").write_text("# Wälder\nFROM scratch\n", encoding="utf-8")
    words = [sys.executable, "-m", "cloudexec.cli", "image", "build", "--no-weigh", "--file", "Dockerfile"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr


def test_no_tool_at_all_says_that_the_account_can_build(image, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = image("build")
    assert code == 2
    assert "--remote" in err


@pytest.fixture
def account():
    """An account on loopback, and the option that leads there."""
    account = Account()
    with account.served() as url:
        account.option = f"--endpoint-url={url}"
        yield account


TARGET = OUTPUTS["Repository"] + ":0123456789abcdef"


def test_push_names_the_image_by_its_content_and_says_how_to_use_it(image, podman, account):
    code, out, err = image("push", account.option, "--tag", "mine:1", "--", "--quiet")
    assert (code, out.strip()) == (0, TARGET), err
    use = f"cloudexec up --arch arm64 --parameters WorkerImage={TARGET} --parameters FunctionImage={TARGET}"
    assert f"  {use}\n" in err
    (login, password, _), (push, _, _) = podman()
    assert password == "secret"
    assert login[-1] == TARGET.partition("/")[0]
    assert "--quiet" not in login
    assert push[-2:] == ["mine:1", f"docker://{TARGET}"]
    assert "secret" not in " ".join([*login, *push, out, err])


def test_what_is_in_the_repository_already_is_not_pushed_again(image, podman, account, tmp_path):
    account.images["0123456789abcdef"] = 92_000_000
    code, out, err = image("push", account.option, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["compressed_bytes"] == 92_000_000
    assert said["use"][-1] == f"FunctionImage={TARGET}"
    assert "is there already" in err
    assert not (tmp_path / "notes").exists()


def test_a_stack_without_a_repository_is_mended_by_up(image, podman, account):
    del account.outputs["Repository"]
    code, _, err = image("push", account.option)
    assert code == 2
    assert "run `cloudexec up`" in err


def test_only_what_the_stack_has_gets_the_image(image, podman, account):
    del account.outputs["JobsPolicy"]
    _, out, _ = image("push", account.option, "--json", "--stack", "mine")
    said = json.loads(out)
    assert said["use"][2:] == ["--arch", "arm64", "--parameters", f"WorkerImage={TARGET}", "--stack", "mine"]


def test_a_build_in_the_account_needs_its_project(image, account):
    del account.outputs["BuildProject"]
    code, _, err = image("build", "--remote", account.option)
    assert code == 2
    assert "run `cloudexec up --builds`" in err


def test_build_in_the_account_pushes_at_once(image, account):
    exported = [{"name": "CLOUDEXEC_IMAGE", "value": TARGET}]
    account.looks = [{"buildStatus": "SUCCEEDED", "exportedEnvironmentVariables": exported}]
    account.images["0123456789abcdef"] = 400_000_000
    code, out, err = image("build", "--remote", account.option)
    assert (code, out.strip()) == (0, TARGET), err
    assert "400 MB compressed" in err
    assert "a SOCI index" in err
    (started,) = account.of("StartBuild")
    assert started["projectName"] == "cloudexec"


def test_a_build_in_the_account_that_fails_is_a_failure(image, account):
    account.looks = [{"buildStatus": "FAILED"}]
    code, out, err = image("build", "--remote", account.option)
    assert (code, out) == (1, "")
    assert "build cloudexec:1 ended as FAILED" in err
