"""Modules that lie on the client's machine only are there for its calls."""

import importlib
import sys

import pytest

from tests.contract.events import SOON

MODEL = """
from dataclasses import dataclass
from {name} import units

@dataclass
class Model:
    slope: int

    def predict(self, x):
        return units.scale(self.slope * x)

class Diverged(ValueError):
    pass

def fit(x):
    if x < 0:
        raise Diverged(x)
    return Model(x)
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A package of this test's own: `model`, which imports `units` beside it."""
    name = f"package_of_{tmp_path.name}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "units.py").write_text("def scale(x): return 10 * x\n")
    (package / "model.py").write_text(MODEL.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(f"{name}.model")
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name]:
        del sys.modules[loaded]


def test_functions_instances_and_errors_of_a_local_module_travel(executor, model):
    fitted = executor.submit(model.fit, 2)
    assert fitted.result(SOON) == model.Model(2)
    assert list(executor.map(model.Model(3).predict, [1, 2])) == [30, 60]
    assert list(executor.map(lambda each: each.predict(1), [model.Model(4)])) == [40]
    with pytest.raises(model.Diverged):
        executor.submit(model.fit, -1).result(SOON)


def test_an_import_inside_a_function_finds_a_local_module(executor, model):
    name = model.__name__

    def by_name(x):
        return importlib.import_module(name).fit(x).predict(1)

    def late(x):
        return by_name(x), model.fit(x).slope

    assert executor.submit(late, 5).result(SOON) == (50, 5)


def test_explain_tells_the_same_as_what_travels(executor, model):
    told = executor.explain(model.fit, 2)
    assert told.name == "fit"
    assert told.how == f"by name ({model.__name__}.fit)"
    assert [*told.left_out, *(module.name for module in told.modules)] == [model.__name__.partition(".")[0]]
    assert executor.run.pending == executor.run.running == 0
