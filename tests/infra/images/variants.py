"""Recipes of every kind; test_recipe.py reads their text, tests/images hands it to hadolint."""

from cloudexec.infra.images.project import project_of
from cloudexec.infra.images.recipe import Recipe

PYPROJECT = '[project]\nname = "forest"\ndependencies = ["numpy"]\n'
RENV = '{"R": {"Version": "4.3.1"}}'


def recipe(python="3.13", extras=(), files=None, **settings):
    """A recipe for a directory with these files."""
    return Recipe(python=python, project=project_of((files or {}).get, python=python, extras=extras), **settings)


VARIANTS = {
    "nothing": recipe(),
    "pip": recipe(files={"requirements.txt": "numpy\n-c c.txt", "c.txt": "numpy<3"}, pip=("pandas>=2", "a[b]")),
    "hashes": recipe(files={"requirements.txt": "numpy==2 --hash=sha256:ab"}),
    "pyproject": recipe(files={"pyproject.toml": PYPROJECT}, has_source=True, cloudpickle="3.1.2"),
    "uv": recipe(files={"pyproject.toml": PYPROJECT, "uv.lock": "version = 1"}, extras=("plot", "x y")),
    "conda": recipe(files={"environment.yml": "dependencies: [numpy]"}, apt_build=("gcc",)),
    "renv": recipe(files={"renv.lock": RENV, "requirements.txt": "pandas"}),
    "R": recipe(r=("randomForest", "lme4"), apt=("libgdal32",)),
    "conda and R": recipe(files={"environment.yml": "dependencies: [numpy]", "renv.lock": RENV}, r=("lme4",)),
    "all by hand": recipe(
        apt=("libgomp1=12.2.0-14",), apt_build=("gcc", "libpq-dev"), pip=("x @ git+https://my/x.git",), has_source=True
    ),
    "no index": recipe(files={"requirements.txt": "six"}, has_wheels=True, no_index=True, base="localhost/base:1"),
}
