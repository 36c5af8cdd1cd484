"""Which of the files in a directory says what is in the image."""

from __future__ import annotations

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.images.project import project_of

PYPROJECT = '[project]\nname = "forest"\ndependencies = ["numpy"]\n[project.optional-dependencies]\nplot = ["six"]\n'
TOOLS_ONLY = "[tool.ruff]\nline-length = 99\n"
LOCK = 'version = 1\n[[package]]\nname = "numpy"\nsource = { registry = "https://my/simple" }\n'
ENVIRONMENT = "dependencies: [numpy]"
RENV = '{"R": {"Version": "4.3.1"}}'
ALL = {
    "pyproject.toml": PYPROJECT,
    "requirements.txt": "pandas",
    "uv.lock": LOCK,
    "environment.yml": ENVIRONMENT,
    "renv.lock": RENV,
}


def of(*names, chosen="", extras=(), **replaced):
    files = {name: ALL[name] for name in names} | {name.replace("__", "."): text for name, text in replaced.items()}
    return project_of(files.get, python="3.13", chosen=chosen, extras=extras)


@pytest.mark.parametrize(
    ("names", "kind", "chosen"),
    [
        pytest.param(ALL, "uv", "uv.lock", id="a lock before all"),
        pytest.param(
            ["environment.yml", "requirements.txt", "pyproject.toml"], "conda", "environment.yml", id="then conda"
        ),
        pytest.param(["requirements.txt", "pyproject.toml"], "pip", "requirements.txt", id="then requirements"),
        pytest.param(["pyproject.toml"], "pyproject", "pyproject.toml", id="then the project's wishes"),
        pytest.param(["renv.lock"], "nothing", "", id="R alone"),
        pytest.param([], "nothing", "", id="nothing at all"),
    ],
)
def test_what_is_more_exact_is_taken(names, kind, chosen):
    found = of(*names)
    assert (found.kind, found.chosen) == (kind, chosen)


def test_what_is_taken_is_said_aloud_with_what_is_not():
    assert of("requirements.txt", "pyproject.toml").notes == (
        "packages: requirements.txt, which is more exact than pyproject.toml (--from FILE takes another)",
    )
    assert of("requirements.txt").notes == ("packages: requirements.txt",)
    assert of("requirements.txt", "pyproject.toml", chosen="pyproject.toml").notes == ("packages: pyproject.toml",)
    assert "cloudexec alone" in of().notes[0]


def test_a_pyproject_that_configures_tools_alone_is_no_list_of_packages():
    assert of(pyproject__toml=TOOLS_ONLY).kind == "nothing"
    assert of("requirements.txt", pyproject__toml=TOOLS_ONLY).kind == "pip"


@pytest.mark.parametrize(
    ("names", "files"),
    [
        pytest.param(["pyproject.toml"], {"requirements.txt": "numpy\n"}, id="a project"),
        pytest.param(["requirements.txt"], {"requirements.txt": "pandas\n"}, id="requirements"),
        pytest.param(["uv.lock", "pyproject.toml"], {"uv.lock": LOCK, "pyproject.toml": PYPROJECT}, id="uv needs both"),
        pytest.param(
            ["requirements.txt", "renv.lock"], {"requirements.txt": "pandas\n", "renv.lock": RENV}, id="R, too"
        ),
    ],
)
def test_only_lists_of_packages_go_into_the_build(names, files):
    assert dict(of(*names).files) == files


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [
        pytest.param("dev/requirements-gpu.txt", "pip", id="another list"),
        pytest.param("conda-linux.yaml", "conda", id="another environment"),
        pytest.param("pyproject.toml", "pyproject", id="the project's wishes instead of its lock"),
    ],
)
def test_another_file_can_be_chosen(chosen, kind):
    files = {**ALL, "dev/requirements-gpu.txt": "torch", "conda-linux.yaml": ENVIRONMENT}
    assert project_of(files.get, python="3.13", chosen=chosen).kind == kind


def test_a_lock_may_need_git():
    assert not of("uv.lock", "pyproject.toml").needs_git
    assert of("pyproject.toml", uv__lock=LOCK + 'source = { git = "https://my/x.git" }').needs_git
    assert of(requirements__txt="x @ git+https://my/x.git").needs_git


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(lambda: of(chosen="none.txt"), "there is no such file", id="not there"),
        pytest.param(lambda: of(chosen="setup.py", setup__py=""), "not known how to read", id="a program"),
        pytest.param(lambda: of("requirements.txt", extras=["plot"]), "--extra is for", id="an extra of a list"),
        pytest.param(lambda: of("uv.lock"), "without its pyproject.toml", id="half of a lock"),
        pytest.param(
            lambda: of("uv.lock", pyproject__toml=PYPROJECT + "[tool.uv.workspace]\nmembers=['a']"),
            "that of a workspace",
            id="a workspace",
        ),
    ],
)
def test_what_cannot_be_read_says_what_to_do(wrong, words):
    with pytest.raises(SettingsError, match="Remedy") as caught:
        wrong()
    assert words in caught.value.what


def test_extras_of_a_lock_are_left_to_uv_and_those_of_a_project_are_read_here():
    assert of("uv.lock", "pyproject.toml", extras=["plot"]).extras == ("plot",)
    found = of("pyproject.toml", extras=["plot"])
    assert (found.extras, found.files["requirements.txt"]) == ((), "numpy\nsix\n")


@pytest.mark.parametrize("names", [["pyproject.toml"], ["requirements.txt", "pyproject.toml"], list(ALL)])
def test_each_file_is_read_once(names):
    asked = []

    def read(name):
        asked.append(name)
        return ALL[name] if name in names else None

    project_of(read, python="3.13")
    assert len(asked) == len(set(asked))
