"""The text of a Dockerfile, by what a project wants."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.images.recipe import dockerfile
from tests.infra.images.variants import PYPROJECT, RENV, VARIANTS, recipe


def text_of(*args, **settings):
    return dockerfile(recipe(*args, **settings))


def instructions(text):
    """One line each, without comments."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [line for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines() if line]


def stages(text):
    return [line.removeprefix("FROM ") for line in instructions(text) if line.startswith("FROM ")]


# --- what holds for each -------------------------------------------------------------------------


@pytest.mark.parametrize("text", [pytest.param(dockerfile(one), id=name) for name, one in VARIANTS.items()])
def test_every_image(text):
    last = instructions(text)[instructions(text).index(f"FROM {stages(text)[-1]}") :]
    assert last[-1] == 'CMD ["python", "-m", "cloudexec.worker", "--pull"]', "one entry, and it is a worker"
    assert "USER 10001" in last, "it does not run as root"
    assert "chmod 755 /home/worker" in "".join(last), "Lambda's user may enter the working directory"
    assert "PYTHONUNBUFFERED=1" in "".join(last)
    assert not any(line.startswith("ENTRYPOINT") for line in last), "a user's command replaces ours as a whole"
    assert not any("COPY" in line and "context" in line for line in last), "what was built with stays behind"
    assert " awslambdaric" in text, "it can be a function, too"
    assert "--invalidation-mode unchecked-hash /opt/worker/lib" in text, "byte code, whatever a layer does to times"
    assert stages(text)[-1] in ("${BASE}", "system")
    assert re.search(r"\n\n\n|[ \t]\n", text) is None


@pytest.mark.parametrize("python", ["3.10", "3.13"])
def test_the_base_is_the_clients_python(python):
    assert f"ARG BASE=public.ecr.aws/docker/library/python:{python}-slim\n" in text_of(python)
    assert "ARG BASE=my/base:1\n" in text_of(python, base="my/base:1")


def test_a_base_that_somebody_has_named_is_asked_for_its_python():
    assert "the base has Python $found, but the client has 3.13" in text_of(base="my/base:1")
    assert "$found" not in text_of()


@pytest.mark.parametrize(("python", "is_theirs"), [("{}.{}".format(*sys.version_info[:2]), True), ("3.9", False)])
def test_a_base_with_another_python_ends_the_build(tmp_path, python, is_theirs):
    (tmp_path / "python").symlink_to(sys.executable)
    (line,) = [line for line in instructions(text_of(python, base="my/base:1")) if "$found" in line]
    check = line.removeprefix("RUN ").partition(" && python -m venv")[0]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", check], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if is_theirs else 1)
    assert ("but the client has 3.9: calls need the same" in done.stderr) is not is_theirs


def test_the_clients_cloudexec_and_cloudpickle_come_last():
    text = text_of(cloudexec="cloudexec-1.2-py3-none-any.whl", cloudpickle="3.1.2")
    assert " cloudexec/cloudexec-1.2-py3-none-any.whl cloudpickle==3.1.2 awslambdaric\n" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", ["${BASE} AS build", "${BASE}"]),
        ("pip", ["${BASE} AS build", "${BASE}"]),
        ("uv", ["${BASE} AS build", "${BASE}"]),
        ("conda", ["docker.io/mambaorg/micromamba:2 AS build", "${BASE}"]),
        ("R", ["${BASE} AS system", "${BASE} AS build", "system"]),
        ("renv", ["${BASE} AS system", "system AS renv", "${BASE} AS build", "system"]),
        (
            "conda and R",
            ["${BASE} AS system", "system AS renv", "docker.io/mambaorg/micromamba:2 AS build", "system"],
        ),
    ],
)
def test_the_stages(name, expected):
    assert stages(dockerfile(VARIANTS[name])) == expected


# --- packages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "copied", "installed"),
    [
        pytest.param(
            {"requirements.txt": "six"}, "COPY requirements.txt ./", "--requirement requirements.txt", id="pip"
        ),
        pytest.param(
            {"requirements.txt": "six\n-c c.txt", "c.txt": "six<2"},
            "COPY requirements.txt constraints.txt ./",
            "--requirement requirements.txt --constraint constraints.txt",
            id="constraints",
        ),
        pytest.param(
            {"requirements.txt": "six==1 --hash=sha256:ab"},
            "COPY requirements.txt ./",
            "--requirement requirements.txt --require-hashes",
            id="hashes are checked, of all",
        ),
        pytest.param(
            {"pyproject.toml": PYPROJECT}, "COPY requirements.txt ./", "--requirement requirements.txt", id="pyproject"
        ),
        pytest.param(
            {"pyproject.toml": PYPROJECT, "uv.lock": ""},
            "COPY pyproject.toml uv.lock ./",
            "uv export --frozen",
            id="uv",
        ),
        pytest.param(
            {"environment.yml": "dependencies: [numpy]"},
            "COPY environment.yml ./",
            "micromamba create --yes --quiet --prefix /opt/worker --file environment.yml",
            id="conda",
        ),
    ],
)
def test_the_projects_packages_are_a_layer_below_cloudexec(files, copied, installed):
    text = text_of(files=files)
    lines = instructions(text)
    assert copied in lines
    (number,) = (number for number, line in enumerate(lines) if installed in line)
    assert lines.index(copied) < number < lines.index("COPY cloudexec cloudexec")


def test_a_project_without_packages_copies_no_empty_list():
    text = text_of(files={"requirements.txt": "# none\n"})
    assert "requirements.txt" not in "".join(instructions(text))


def test_extras_of_a_lock_go_to_uv_one_by_one():
    assert "--extra plot --extra 'x y'" in dockerfile(VARIANTS["uv"])


def test_what_is_named_beside_cannot_be_more_than_one_word_of_the_shell():
    text = text_of(pip=("a>=1; touch /x", "$(b)"))
    assert " 'a>=1; touch /x' '$(b)'\n" in text


def test_what_a_list_takes_from_the_environment_can_be_given_to_the_build_stage():
    text = text_of(files={"requirements.txt": "--index-url https://me:${TOKEN}@${HOST}/simple\nsix"})
    build, image = text.split("\nFROM ")[1:]
    assert build.index('ARG HOST=""\nARG TOKEN=""') < build.index("--requirement")
    assert "TOKEN" not in image


def test_git_is_there_where_a_package_comes_out_of_a_repository():
    assert "no-install-recommends git" in text_of(files={"requirements.txt": "x @ git+https://my/x.git"})
    assert " git" not in "".join(instructions(text_of(files={"requirements.txt": "x"})))


def test_what_building_needs_stays_in_the_stage_that_builds():
    text = text_of(apt_build=("gcc",), apt=("libgomp1",))
    system, build, image = text.split("\nFROM ")[1:]
    assert "libgomp1" in system
    assert "gcc" not in system
    assert "gcc" in build
    assert "gcc" not in image


def test_without_an_index_pip_looks_into_the_wheels_alone():
    lines = [line for line in instructions(dockerfile(VARIANTS["no index"])) if "pip --python" in line]
    assert len(lines) == 2
    assert all("--no-index --find-links wheels" in line for line in lines)
    assert "--find-links" not in text_of()


# --- source --------------------------------------------------------------------------------------


def test_source_stays_out_unless_asked_for():
    assert "source" not in "".join(instructions(text_of(files={"pyproject.toml": PYPROJECT}))).lower().replace(
        "source_date_epoch", ""
    )


def test_source_of_a_package_is_installed_and_other_source_lies_on_the_path():
    package = text_of(files={"pyproject.toml": PYPROJECT}, has_source=True)
    assert "--no-deps ./source" in package
    assert "PYTHONPATH" not in package
    scripts = text_of(has_source=True)
    assert "COPY source /opt/source" in scripts
    assert "PYTHONPATH=/opt/source" in scripts


# --- R -------------------------------------------------------------------------------------------


def test_r_packages_are_looked_for_in_debian_by_their_small_letters():
    text = text_of(r=("randomForest", "lme4"))
    assert "for name in randomforest lme4; do" in text
    assert "r-base-core" in text


def test_a_renv_lock_is_compiled_apart():
    text = text_of(files={"renv.lock": RENV})
    assert "r-base-dev" in text.split("AS renv")[1].split("AS build")[0]
    assert "r-base-dev" not in text.split("\nFROM ")[-1]
    assert "COPY --from=renv /usr/local/lib/R/site-library /usr/local/lib/R/site-library" in text


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"apt": ("a b",)}, id="two names in one"),
        pytest.param({"apt": ("a; rm -rf /",)}, id="a command"),
        pytest.param({"apt_build": ("--force",)}, id="an option"),
        pytest.param({"r": ("lme4'",)}, id="a quote"),
        pytest.param({"r": ("ggplot2$(x)",)}, id="a substitution"),
        pytest.param({"pip": ("a\nb",)}, id="a line break"),
    ],
)
def test_names_that_are_none(settings):
    with pytest.raises(SettingsError, match="Remedy"):
        recipe(**settings)
