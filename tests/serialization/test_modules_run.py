"""Modules that travel, with real executors: the client finds its modules by a hook of its own, and workers cannot."""

import json
import subprocess
import sys
from textwrap import dedent

import pytest

HEAD = """
import json, sys
from importlib.machinery import PathFinder
class Finder:
    find_spec = staticmethod(lambda name, path=None, target=None: PathFinder.find_spec(name, path or [{home!r}]))
sys.meta_path.append(Finder)
from cloudexec import LocalExecutor
def say(value):
    print(json.dumps(value))
"""

MODULES = {
    "shapes.py": """
        from dataclasses import dataclass
        from units import scale
        @dataclass(frozen=True)
        class Square:
            side: int
            def area(self): return scale(self.side ** 2)
        def square(side): return Square(side)
        def area(square): return square.area()
    """,
    "units.py": "FACTOR = 1\ndef scale(x): return FACTOR * x\ndef use(factor): global FACTOR; FACTOR = factor\n",
    "mypkg/__init__.py": "",
    "mypkg/model.py": "from . import __name__ as top\ndef fit(x): return [top, x]",
    "fails.py": "class Wrong(ValueError): pass\ndef f(): raise Wrong('so')",
}


@pytest.fixture
def said_by(tmp_path):
    """What a script with these modules says, a value a line."""
    home = tmp_path / "home"
    for name, text in MODULES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    def run(script):
        path = tmp_path / "client.py"
        path.write_text(HEAD.format(home=str(home)) + dedent(script).replace("HOME", repr(str(home))))
        command = [sys.executable, "-W", "error", str(path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
        assert not done.returncode, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize(
    ("modules", "end"), [("None", "ModuleNotFoundError"), ("'auto'", ["mypkg", 1]), ("['mypkg']", ["mypkg", 1])]
)
def test_the_modules_are_out_of_reach_unless_they_travel(said_by, modules, end):
    script = f"""
        from mypkg.model import fit
        with LocalExecutor(1, modules={modules}) as ex:
            future = ex.submit(fit, 1)
            say(type(future.exception()).__name__ if future.exception() else future.result())
    """
    assert said_by(script) == [end]


def test_instances_of_local_classes_travel_both_ways(said_by):
    script = """
        from shapes import Square, area, square
        with LocalExecutor(2, modules="auto") as ex:
            say([s == Square(n) for n, s in enumerate(ex.map(square, range(3)))])
            say(list(ex.map(area, [Square(2), Square(3)])))
            say(list(ex.map(lambda s: s.side, [Square(2), Square(3)], buffersize=1)))
            say(ex.submit(len, [Square(1)]).result())
    """
    assert said_by(script) == [[True] * 3, [4, 9], [2, 3], 1]


def test_an_initializer_of_a_local_module_sets_what_its_functions_see(said_by):
    script = """
        import units
        from shapes import Square, area
        with LocalExecutor(1, initializer=units.use, initargs=(10,), modules="auto") as ex:
            say([ex.submit(area, Square(2)).result() for _ in range(2)])
    """
    assert said_by(script) == [[40, 40]]


def test_an_exception_of_a_local_class_arrives_as_itself(said_by):
    script = """
        import fails
        with LocalExecutor(1, modules="auto") as ex:
            try:
                ex.submit(fails.f).result()
            except fails.Wrong as error:
                say(str(error))
    """
    assert said_by(script) == ["so"]


def test_a_reload_between_two_calls_reaches_the_worker_that_runs_already(said_by):
    script = """
        import importlib, os, units
        with LocalExecutor(1, modules="auto") as ex:
            say(ex.submit(units.scale, 3).result())
            with open(units.__file__, "a") as file:
                file.write("FACTOR = 7")
            say(ex.submit(units.scale, 3).result())
            importlib.reload(units)
            say(ex.submit(units.scale, 3).result())
            say(ex.submit(os.getpid).result() == ex.submit(os.getpid).result())
    """
    assert said_by(script) == [3, 3, 21, True]


def test_a_fresh_process_for_each_call_finds_the_modules_unpacked(said_by):
    script = """
        from mypkg.model import fit
        with LocalExecutor(1, max_tasks_per_child=1, modules=["mypkg"]) as ex:
            say([ex.submit(fit, n).result()[1] for n in range(3)])
    """
    assert said_by(script) == [[0, 1, 2]]


def test_what_was_unpacked_goes_with_the_run(said_by):
    script = """
        import os, mypkg
        def where():
            return mypkg.__file__
        with LocalExecutor(1, modules="auto") as ex:
            unpacked = ex.submit(where).result()
            say([os.path.exists(unpacked), unpacked.startswith(HOME)])
        say(os.path.exists(unpacked))
    """
    assert said_by(script) == [[True, False], False]
