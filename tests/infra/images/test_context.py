"""What a build sees of this machine: cloudexec, lists of packages, and nothing else unless asked for."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile

import pytest

import cloudexec
from cloudexec.errors import SettingsError
from cloudexec.infra.images.context import Context, context_of, source_of, wheels_in
from cloudexec.infra.images.wheel import own_wheel, packed
from tests.infra.images.variants import PYPROJECT, VARIANTS, recipe

WHEEL = packed("cloudexec", "1.2", {"cloudexec/__init__.py": b""}, {"METADATA": "Name: cloudexec\n"})

# --- the wheel -----------------------------------------------------------------------------------


def test_the_wheel_is_the_cloudexec_that_runs_here_and_pip_takes_it(tmp_path):
    name, data = own_wheel()
    (tmp_path / name).write_bytes(data)
    target = str(tmp_path / "site")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*words, "--target", target, str(tmp_path / name)], check=True, timeout=50)
    code = "import cloudexec.worker, importlib.metadata as m; print(cloudexec.__file__, m.version('cloudexec'))"
    words = [sys.executable, "-I", "-B", "-c", f"import sys; sys.path.insert(0, {target!r}); {code}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.startswith(target)
    assert (tmp_path / "site/cloudexec/r/rscript/harness.R").exists(), "what is no Python goes along"
    assert not list((tmp_path / "site/cloudexec").rglob("__pycache__"))


def test_the_record_of_a_wheel_has_the_hash_of_each_file():
    name, data = WHEEL
    assert name == "cloudexec-1.2-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rows = list(csv.reader(io.StringIO(archive.read("cloudexec-1.2.dist-info/RECORD").decode())))
        assert [row[0] for row in rows] == archive.namelist()
        for path, hashed, size in rows[:-1]:
            content = archive.read(path)
            assert hashed == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert int(size) == len(content)


def test_the_same_files_are_the_same_wheel_in_whatever_order():
    files = {"a/x.py": b"1", "a/y.py": b"2"}
    again = dict(reversed(files.items()))
    assert packed("a", "1", files, {}) == packed("a", "1", again, {})


# --- the context ---------------------------------------------------------------------------------


def test_nothing_but_lists_and_wheels_goes_into_a_build():
    context = context_of(recipe(files={"requirements.txt": "six", "secret.py": "x"}), WHEEL, wheels={"a.whl": b"a"})
    assert set(context.files) == {"Dockerfile", "cloudexec/" + WHEEL[0], "requirements.txt", "wheels/a.whl"}


def test_a_dockerfile_of_the_users_own_replaces_ours():
    assert context_of(VARIANTS["pip"], WHEEL, text="FROM mine\n").files["Dockerfile"] == b"FROM mine\n"


def test_the_same_content_has_the_same_digest_and_zip_and_another_has_not():
    one, same = Context({"a": b"1", "b": b"2"}), Context({"b": b"2", "a": b"1"})
    assert (one.sha256, one.zip) == (same.sha256, same.zip)
    assert one.sha256 != Context({"a": b"12", "b": b""}).sha256


def test_on_disk_times_and_modes_are_the_same_for_everybody():
    with Context({"a/b": b"1"}).on_disk() as folder:
        seen = {path.name: (path.stat().st_mtime, oct(path.stat().st_mode)[-3:]) for path in folder.rglob("*")}
        assert seen == {"a": (315532800, "755"), "b": (315532800, "644")}
    assert not folder.exists()


# --- wheels and source ---------------------------------------------------------------------------


def test_wheels_of_a_folder_without_a_cloudexec(tmp_path):
    for name in ("a-1-py3-none-any.whl", "b-1.tar.gz", "notes.txt", "cloudexec-9-py3-none-any.whl"):
        (tmp_path / name).write_bytes(b"")
    assert set(wheels_in(tmp_path)) == {"a-1-py3-none-any.whl", "b-1.tar.gz"}
    with pytest.raises(SettingsError, match="no wheels"):
        wheels_in(tmp_path / "none")


@pytest.fixture
def project(tmp_path):
    for name in ("pyproject.toml", "pkg/a.py", ".env", ".git-credentials", "pkg/__pycache__/a.pyc", "venv/pyvenv.cfg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PYPROJECT)
    return tmp_path


def test_source_is_what_is_neither_hidden_nor_made(project):
    assert set(source_of(project)) == {"pyproject.toml", "pkg/a.py"}


def test_source_of_a_checkout_is_what_git_knows(project):
    (project / "data.csv").write_text("large")
    environment = {"PATH": os.environ["PATH"], "HOME": str(project), "GIT_CONFIG_NOSYSTEM": "1"}
    for words in (["init", "-q"], ["add", "pkg/a.py", ".env"]):
        subprocess.run(["git", *words], cwd=project, env=environment, check=True)
    assert set(source_of(project)) == {"pkg/a.py"}


def test_a_directory_without_files_is_no_source(tmp_path):
    with pytest.raises(SettingsError, match="has no files"):
        source_of(tmp_path)


def test_the_version_in_the_wheels_name_is_that_of_the_package():
    assert own_wheel()[0] == f"cloudexec-{cloudexec.__version__}-py3-none-any.whl"
