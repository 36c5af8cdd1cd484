"""What projects write down about their packages, and what an image makes of it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import SettingsError
from cloudexec.infra.images.formats import (
    allows_python,
    read_environment,
    read_pyproject,
    read_requirements,
    renv_version,
)


def reader(**files):
    """Files by name; `__` stands for the dot, `___` for the slash."""
    named = {name.replace("___", "/").replace("__", "."): text for name, text in files.items()}
    return named.get


# --- pip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("numpy\npandas>=2\n", ("numpy", "pandas>=2"), id="as they stand"),
        pytest.param("# why\nnumpy  # fast\n\n", ("numpy",), id="comments and empty lines go"),
        pytest.param("numpy==2 \\\n  --hash=sha256:ab\n", ("numpy==2 --hash=sha256:ab",), id="a line goes on"),
        pytest.param("--index-url https://my/simple\nnumpy", ("--index-url https://my/simple", "numpy"), id="an index"),
        pytest.param("a @ https://my/a.whl#sha256=ab", ("a @ https://my/a.whl#sha256=ab",), id="a # within an address"),
        pytest.param("-e git+https://my/a.git", ("-e git+https://my/a.git",), id="an editable repository"),
        pytest.param("-r more.txt\nnumpy", ("six", "numpy"), id="an included file takes its line's place"),
        pytest.param("-r sub/deep.txt", ("six", "attrs"), id="a file names another, relative to itself"),
        pytest.param('x; python_version < "3.11"', ('x; python_version < "3.11"',), id="a marker"),
    ],
)
def test_a_requirements_file_becomes(text, lines):
    read = {"r.txt": text, "more.txt": "six", "sub/deep.txt": "-r ../more.txt\nattrs"}.get
    assert read_requirements("r.txt", read).lines == lines


def test_constraints_stay_constraints_with_all_that_they_include():
    read = {"r.txt": "numpy\n-c c.txt", "c.txt": "numpy<3\n-r d.txt", "d.txt": "six<2"}.get
    found = read_requirements("r.txt", read)
    assert (found.lines, found.constraints) == (("numpy",), ("numpy<3", "six<2"))
    assert found.constraints_text == "numpy<3\nsix<2\n"


@pytest.mark.parametrize("line", ["-e .", "-e .[plot]", ".", "--editable=.", "./"])
def test_the_project_itself_is_left_out_because_its_code_travels(line):
    found = read_requirements("r.txt", reader(r__txt=f"numpy\n{line}\n"))
    assert (found.lines, found.has_itself) == (("numpy",), True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("-e ../lib", "names a local path", id="editable"),
        pytest.param("./lib", "names a local path", id="a folder"),
        pytest.param("lib @ file:///home/me/lib", "names a local path", id="a file's address"),
        pytest.param("wheels/a-1-py3-none-any.whl", "names a local path", id="a wheel"),
        pytest.param("--index-url https://me:secret@my/simple", "has a password in it", id="a password"),
        pytest.param("-r none.txt", "none.txt is not there; r.txt names it", id="a missing file"),
        pytest.param("-r r.txt", "r.txt includes itself", id="a circle"),
    ],
)
def test_what_an_image_cannot_have_is_refused(text, words):
    with pytest.raises(SettingsError) as caught:
        read_requirements("r.txt", reader(r__txt=text))
    assert words in caught.value.what
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_password_that_the_environment_holds_is_none():
    line = "--index-url https://me:${TOKEN}@my/simple"
    assert read_requirements("r.txt", reader(r__txt=line)).lines == (line,)


@given(st.lists(st.from_regex(r"[a-z]{1,8}(==[0-9]{1,3})?", fullmatch=True), max_size=8), st.randoms())
def test_wherever_a_file_is_cut_in_two_the_packages_are_the_same(names, random):
    cut = random.randint(0, len(names))
    files = {"r.txt": "\n".join([*names[:cut], "-r s.txt"]), "s.txt": "\n".join(names[cut:])}
    assert list(read_requirements("r.txt", files.get).lines) == names


# --- pyproject.toml ------------------------------------------------------------------------------

PROJECT = """
[project]
name = "My.Forest"
dependencies = ["numpy>=2"]
[project.optional-dependencies]
plot = ["matplotlib"]
fit = ["scikit-learn"]
all = ["my-forest[plot,fit]"]
"""


@pytest.mark.parametrize(
    ("extras", "lines"),
    [
        pytest.param([], ("numpy>=2",), id="none"),
        pytest.param(["plot"], ("numpy>=2", "matplotlib"), id="one"),
        pytest.param(["Plot", "plot"], ("numpy>=2", "matplotlib"), id="the same, written otherwise"),
        pytest.param(["all"], ("numpy>=2", "matplotlib", "scikit-learn"), id="one that names the project's others"),
    ],
)
def test_the_dependencies_of_a_project_with_extras(extras, lines):
    assert read_pyproject(reader(pyproject__toml=PROJECT), extras).lines == lines


@pytest.mark.parametrize(
    ("text", "extras", "words"),
    [
        pytest.param(PROJECT, ["polt"], "has no extra 'polt'", id="an unknown extra"),
        pytest.param("[tool.poetry]\nname = 'a'", [], "has no [project] table", id="another tool's"),
        pytest.param("[project]\ndynamic = ['dependencies']", [], "made by its build tool", id="dynamic"),
        pytest.param("[project", [], "cannot be read", id="no TOML"),
        pytest.param("[project]\ndependencies=['a @ file:///a']", [], "names a local path", id="a local path"),
    ],
)
def test_a_project_that_cannot_be_read_says_why(text, extras, words):
    with pytest.raises(SettingsError, match="Remedy") as caught:
        read_pyproject(reader(pyproject__toml=text), extras)
    assert words in caught.value.what


# --- conda ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "python", "is_allowed"),
    [
        pytest.param("python", "3.13", True, id="any"),
        pytest.param("python=3.13", "3.13", True, id="the same"),
        pytest.param("python=3.1", "3.13", False, id="3.1 is no prefix of 3.13"),
        pytest.param("python==3.13.2", "3.13", True, id="a patch version"),
        pytest.param("python 3.13.*", "3.13", True, id="a star, a space"),
        pytest.param("python=3", "3.13", True, id="major only"),
        pytest.param("python=3.12", "3.13", False, id="another"),
        pytest.param("python>=3.10,<3.13", "3.13", False, id="below"),
        pytest.param("python>=3.10,<3.14", "3.13", True, id="in between"),
        pytest.param("python>3.12", "3.13", True, id="above"),
        pytest.param("python<3.13.5", "3.13", True, id="an early patch version"),
        pytest.param("python!=3.13", "3.13", False, id="not this one"),
        pytest.param("python 3.10|3.13", "3.13", True, id="either"),
        pytest.param("conda-forge::python=3.12", "3.13", False, id="of a channel"),
    ],
)
def test_condas_words_for_python(spec, python, is_allowed):
    assert allows_python(spec, python) is is_allowed


def environment(text, python="3.13"):
    made, has_itself = read_environment("environment.yml", reader(environment__yml=text), python)
    return yaml.safe_load(made), has_itself


def test_an_environment_gets_the_clients_python_and_pip_and_loses_its_name():
    made, _ = environment("name: mine\nprefix: /home/me\nchannels: [bioconda]\ndependencies: [python, numpy=2, pip]")
    assert made == {"channels": ["bioconda"], "dependencies": ["python=3.13.*", "numpy=2", "pip"]}


def test_the_pip_part_of_an_environment_is_read_as_pip_would():
    made, has_itself = environment("dependencies:\n- numpy\n- pip:\n  - six\n  - -e .\n")
    assert made["dependencies"] == ["python=3.13.*", "numpy", "pip", {"pip": ["six"]}]
    assert has_itself


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("dependencies: [python=3.11]", "asks for python=3.11, but this is Python 3.13", id="python"),
        pytest.param("name: x", "no list of dependencies", id="nothing"),
        pytest.param("a: [", "cannot be read", id="no YAML"),
        pytest.param("dependencies: [pip: [./lib]]", "names a local path", id="a path for pip"),
    ],
)
def test_an_environment_that_cannot_be_had_says_why(text, words):
    with pytest.raises(SettingsError, match="Remedy") as caught:
        environment(text)
    assert words in caught.value.what


# --- R -------------------------------------------------------------------------------------------


def test_the_version_of_r_in_a_lock():
    assert renv_version('{"R": {"Version": "4.3.1"}, "Packages": {}}') == "4.3.1"
    with pytest.raises(SettingsError, match=r"renv\.lock cannot be read"):
        renv_version("{}")
