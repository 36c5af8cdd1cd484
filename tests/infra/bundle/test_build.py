"""The bundle: what is in it, that it is the same for the same words, and what is said where it cannot be made.

Packages come from a folder of small wheels, fetched by the real pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.bundle import build
from cloudexec.infra.bundle import packages as wheels_of
from cloudexec.infra.bundle.build import Bundle, Order, check_for_lambda, make_bundle
from cloudexec.infra.bundle.packages import explained, without_ours
from tests.infra.bundle.wheelhouse import make_wheel

HERE = "{}.{}".format(*sys.version_info[:2])
OTHER = "3.12" if HERE != "3.12" else "3.11"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "plain", "1.0", {"plain/__init__.py": "def main(): pass\n", "plain/tests/test_x.py": "1\n"})
    make_wheel(folder, "plain", "2.0", {"plain/__init__.py": "NEW = {'b', 'a', 'c'}\n"})
    make_wheel(folder, "built", "1.0", {"built.so": b"\x7fELF arm"}, tag="cp312-cp312-manylinux_2_17_aarch64")
    make_wheel(folder, "built", "1.0", {"built.so": b"\x7fELF x86"}, tag="cp312-cp312-manylinux2014_x86_64")
    make_wheel(folder, "modern", "1.0", {"modern.so": b"\x7fELF"}, tag="cp312-cp312-manylinux_2_34_x86_64")
    make_wheel(folder, "modern", "1.0", {"modern.so": b"\x7fELF"}, tag="cp311-cp311-manylinux_2_34_x86_64")
    make_wheel(folder, "picky", "1.0", {"picky.py": ""}, needs="plain<2")
    make_wheel(folder, "cloudpickle", "0.1", {"cloudpickle/__init__.py": "OLD = 1\n", "cloudpickle/old.py": ""})
    make_wheel(folder, "greedy", "1.0", {"greedy.py": ""}, needs="cloudpickle")
    (folder / "sourceonly-1.0.tar.gz").write_bytes(b"")
    return folder


def use_index(patch: pytest.MonkeyPatch, wheels: Path) -> None:
    """pip knows this folder alone."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(wheels))


@pytest.fixture(autouse=True)
def index(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_index(monkeypatch, wheels)


def names(bundle: Bundle) -> set[str]:
    with zipfile.ZipFile(bundle.path) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Without packages: no index is asked, and there is none yet."""
    return make_bundle(python=HERE, folder=tmp_path_factory.mktemp("own"))


def test_it_holds_what_workers_need_and_nothing_of_the_client_alone(own: Bundle):
    found = names(own)
    assert {"cloudexec/__init__.py", "cloudexec/worker/__main__.py", "cloudpickle/__init__.py"} <= found
    assert ("tomli/__init__.py" in found) == (sys.version_info < (3, 11))
    assert not [name for name in found if name.startswith(("cloudexec/testing", "cloudexec/cli", "cloudexec/infra"))]
    assert not [name for name in found if name.startswith("boto")]  # Lambda has it, and a worker asks by itself
    assert set(own.contents) - {"tomli"} == {"cloudexec", "cloudpickle"}
    assert own.path.name == f"{own.sha256}.zip"


def test_a_worker_and_a_function_start_from_it_alone(own: Bundle, tmp_path: Path):
    zipfile.ZipFile(own.path).extractall(tmp_path)
    source = str(Path(build.__file__).parents[3])
    code = (
        "import sys, importlib.metadata; "
        f"sys.path = [path for path in sys.path if 'site-packages' not in path and path != {source!r}]; "
        f"sys.path.insert(0, {str(tmp_path)!r}); "
        "import cloudexec.worker.awslambda.entry, cloudexec.worker.agent, cloudexec.worker.supervisor, cloudpickle; "
        f"assert cloudexec.__file__.startswith({str(tmp_path)!r}); print(importlib.metadata.version('cloudexec'))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == own.contents["cloudexec"]


FREEZE = "cloudexec==0.1.0\nplain==1.0  # pinned\ncloudpickle==99\n"


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Bundle:
    """With packages, and with byte code."""
    with pytest.MonkeyPatch.context() as patch:
        use_index(patch, wheels)
        return make_bundle(["greedy"], requirements=FREEZE, python=HERE, folder=tmp_path_factory.mktemp("rich"))


def test_the_same_words_make_the_same_bytes(rich: Bundle, tmp_path: Path):
    again = make_bundle(["greedy"], requirements=FREEZE, python=HERE, folder=tmp_path)
    assert again.path != rich.path
    assert again.path.read_bytes() == rich.path.read_bytes()


def test_nothing_in_it_is_of_this_machine(rich: Bundle):
    with zipfile.ZipFile(rich.path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 & 0o777 for info in archive.infolist()} <= {0o644, 0o755}
        assert archive.namelist() == sorted(archive.namelist())
        assert not [name for name in archive.namelist() if name.endswith(("RECORD", "INSTALLER", "direct_url.json"))]
        assert not [name for name in archive.namelist() if name.startswith("bin/")]
        place = str(rich.path.parent).encode()
        assert not [name for name in archive.namelist() if place in archive.read(name)]


def test_byte_code_is_there_where_this_python_can_make_it(rich: Bundle, tmp_path: Path):
    tag = "cpython-{}{}".format(*sys.version_info[:2])
    assert f"plain/__pycache__/__init__.{tag}.pyc" in names(rich)
    assert not [name for name in names(rich) if name.startswith("plain/tests/__pycache__")]
    there = make_bundle(python=OTHER, folder=tmp_path)
    assert not [name for name in names(there) if name.endswith(".pyc")]


def test_our_own_cloudpickle_wins(rich: Bundle, own: Bundle):
    assert rich.contents["cloudpickle"] == own.contents["cloudpickle"]
    assert "cloudpickle/old.py" not in names(rich)


def test_a_requirements_file_of_pip_freeze_will_do(rich: Bundle):
    assert rich.contents["plain"] == "1.0"


@pytest.mark.parametrize(
    ("arch", "packages", "content"),
    [("x86_64", ["built", "modern"], b"\x7fELF x86"), ("arm64", ["built"], b"\x7fELF arm")],
)
def test_wheels_are_those_of_the_function_and_not_of_this_machine(
    tmp_path: Path, arch: str, packages: list[str], content: bytes
):
    wheels_of.install(packages, None, python="3.12", arch=arch, target=tmp_path)
    assert (tmp_path / "built.so").read_bytes() == content
    assert (tmp_path / "modern.so").exists() == ("modern" in packages)


def test_new_wheels_are_taken_where_lambda_has_a_new_glibc(tmp_path: Path):
    with pytest.raises(SettingsError, match="no wheel of modern"):
        make_bundle(["modern"], python="3.11", folder=tmp_path)
    assert wheels_of.platforms("3.12", "x86_64")[0] == "manylinux_2_34_x86_64"
    assert wheels_of.platforms("3.11", "arm64")[0] == "manylinux_2_26_aarch64"
    assert "manylinux2014_aarch64" in wheels_of.platforms("3.11", "arm64")


@pytest.mark.parametrize(
    ("line", "is_ours"),
    [
        ("cloudexec", True),
        ("cloudexec[cli]>=0.1 ; python_version > '3'", True),
        ("Cloudexec == 1", True),
        ("-e git+https://example.org/x.git@12#egg=cloudexec", True),
        ("cloudexec-plugins==1", False),
        ("mycloudexec", False),
        ("# cloudexec", False),
    ],
)
def test_which_lines_of_requirements_are_ours(line: str, is_ours: bool):
    assert (without_ours(f"a\n{line}\nb\n") == "a\nb\n") == is_ours


@pytest.mark.parametrize(
    ("packages", "match"),
    [
        pytest.param(["nosuchthing"], "no wheel of nosuchthing for Python 3.12 on Linux x86_64", id="no such package"),
        pytest.param(["sourceonly"], "no wheel of sourceonly .*cloudexec image", id="only source"),
        pytest.param(["plain==9"], "no wheel of plain==9", id="no such version"),
        pytest.param(["picky", "plain>=2"], "contradict each other", id="versions that contradict"),
        pytest.param(["not a name!"], "correct --packages", id="no name"),
    ],
)
def test_what_cannot_be_fetched_is_told(tmp_path: Path, packages: list[str], match: str):
    with pytest.raises(SettingsError, match=match):
        make_bundle(packages, python="3.12", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_an_index_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    with pytest.raises(SettingsError, match=r"index cannot be reached.*proxy"):
        make_bundle(["anything"], python="3.12", folder=tmp_path)


def test_uv_is_understood_too():
    text = (
        "  × No solution found when resolving dependencies:\n  ╰─▶ Because there are no versions of x==9 and you "
        "require x==9, we can conclude that your requirements are unsatisfiable.\n"
    )
    assert "contradict" in str(explained(text, "3.12", "x86_64"))
    full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    assert "TMPDIR" in str(explained(full, "3.12", "x86_64"))
    assert "cannot be reached" in str(explained("error: Failed to fetch: `https://…`\n dns error", "3.12", "x86_64"))


@pytest.mark.skipif(shutil.which("uv") is None, reason="there is no uv here")
def test_uv_fetches_where_there_is_no_pip(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    wheels_of.install(["plain"], None, python="3.12", arch="x86_64", target=tmp_path)
    assert (tmp_path / "plain/__init__.py").exists()


def test_elsewhere_than_on_linux_uv_is_preferred_because_it_reads_conditions_for_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = tmp_path / "words"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {words}\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")
    monkeypatch.setattr("sys.platform", "darwin")
    wheels_of.install(["plain"], None, python="3.12", arch="arm64", target=tmp_path / "root")
    said = words.read_text().splitlines()
    assert said[:2] == ["pip", "install"]
    assert said[said.index("--python-platform") + 1] == "aarch64-manylinux_2_28"
    assert said[-1] == "plain"


def test_lambdas_limit_names_the_largest_packages():
    weights = {"torch": 700 << 20, "numpy": 60 << 20, "six.py": 1000}
    bundle = Bundle(path=Path("x"), sha256="", size_bytes=1, unpacked_bytes=760 << 20, contents={}, weights=weights)
    with pytest.raises(SettingsError, match=r"760 MB .* torch 700 MB, numpy 60 MB.*cloudexec image"):
        check_for_lambda(bundle)
    check_for_lambda(Bundle(path=Path("x"), sha256="", size_bytes=1, unpacked_bytes=250 << 20, contents={}, weights={}))


@pytest.mark.parametrize(("python", "arch"), [("3.9", "x86_64"), ("3.13", "sparc"), ("three", "arm64")])
def test_what_lambda_does_not_have_is_refused(python: str, arch: str):
    with pytest.raises(SettingsError, match="unknown"):
        Order(python=python, arch=arch)


def test_an_orders_fingerprint_tells_orders_apart():
    orders = [
        Order(python=HERE),
        Order(python=HERE, arch="arm64"),
        Order(python=HERE, packages=("a",)),
        Order(python=HERE, packages=("a", "b")),
        Order(python=HERE, requirements="a\n"),
        Order(python=OTHER),
    ]
    assert len({order.fingerprint for order in orders}) == len(orders)
    assert Order(python=HERE, packages=("b", "a")).fingerprint == orders[3].fingerprint
