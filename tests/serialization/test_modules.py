"""What is the user's own travels with the call, and nothing else does."""

import hashlib
import io
import os
import sys
import sysconfig
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudexec.errors import SettingsError, SignatureError, WireError
from cloudexec.ids import BlobRef
from cloudexec.serialization.shipping import chosen
from cloudexec.wire.messages import ShippedModule
from cloudexec.worker.modules import ModuleShelf
from tests.serialization.shipment import Shipment


@pytest.fixture
def shipment(tmp_path):
    return Shipment(tmp_path)


# --- what travels -----------------------------------------------------------------------------


def test_a_function_of_a_submodule_brings_its_package(shipment):
    shipment.write(
        mypkg____init__="VERSION = 3",
        mypkg__model="""
            from . import helpers
            from .deep.inner import offset
            def fit(x):
                return helpers.double(x) + offset()
        """,
        mypkg__helpers="def double(x): return 2 * x",
        mypkg__deep____init__="",
        mypkg__deep__inner="""
            from .. import VERSION
            def offset(): return VERSION
        """,
    )
    assert shipment.sole("from mypkg.model import fit; ship(fit, 20)") == 43


SINGLE_FILE = {"helper": "def triple(x): return 3 * x"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("from helper import triple; ship(triple, 5)", id="by name"),
        pytest.param("import helper\ndef f(x): return helper.triple(x)\nship(f, 5)", id="a global of a script"),
        pytest.param("from helper import triple\nship(lambda x: triple(x), 5)", id="a function a lambda refers to"),
        pytest.param(
            "def f(x):\n    from helper import triple\n    return triple(x)\nship(f, 5)",
            id="an import inside, not loaded",
        ),
        pytest.param(
            "def f(x):\n def g():\n  import helper\n  return helper.triple(x)\n return g()\nship(f, 5)",
            id="an import inside an inner function",
        ),
        pytest.param(
            "import importlib\ndef f(x): return importlib.import_module('helper').triple(x)\nship(f, 5)",
            id="a name handed to import_module",
        ),
        pytest.param("import functools, helper\nship(functools.partial(helper.triple, 5))", id="a partial"),
        pytest.param("from helper import triple\ndef call(f, x): return f(x)\nship(call, triple, 5)", id="an argument"),
        pytest.param(
            "from helper import triple\ndef call(fs, x): return fs[0](x)\nship(call, [lambda x: triple(x)], 5)",
            id="a lambda among the arguments",
        ),
    ],
)
def test_a_module_travels_if_a_call_needs_it_as(shipment, script):
    shipment.write(**SINGLE_FILE)
    assert shipment.sole(script) == 15


def test_what_shipped_modules_import_travels_too(shipment):
    shipment.write(
        first="import second\ndef f(): return second.g()",
        second="""
            def g():
                import importlib
                return importlib.import_module("third").VALUE
        """,
        third="from fourth.part import VALUE",
        fourth____init__="",
        fourth__part="VALUE = 'from afar'",
        bystander="raise RuntimeError('nobody needs this')",
    )
    assert shipment.client("import first; say(ship(first.f))") == [["first", "fourth", "second", "third"]]
    assert shipment.worker() == ["from afar"]


def test_a_namespace_package_travels_in_all_its_parts(shipment):
    shipment.write(space__one="from space.two import VALUE\ndef f(): return VALUE")
    elsewhere = shipment.base / "elsewhere" / "space"
    elsewhere.mkdir(parents=True)
    (elsewhere / "two.py").write_text("VALUE = 2")
    script = f"import sys; sys.path.append({str(elsewhere.parent)!r})\nfrom space.one import f; ship(f)"
    assert shipment.sole(script) == 2


def test_data_files_and_an_init_with_effects_travel(shipment):
    shipment.write(
        mypkg____init__="STARTED = ['yes']",
        mypkg__data____init__="",
        mypkg__read="""
            from importlib.resources import files
            from mypkg import STARTED
            def f():
                return [STARTED, (files("mypkg.data") / "table.csv").read_text()]
        """,
    )
    shipment.file("mypkg/data/table.csv", "a,b\n1,2\n")
    assert shipment.sole("from mypkg.read import f; ship(f)") == [["yes"], "a,b\n1,2\n"]


def test_what_pip_installs_in_place_travels(shipment):
    """Its source lies outside of every site-packages; a finder of its own leads there, and not sys.path."""
    shipment.file("src/elsewhere/__init__.py", "def f(): return 'in place'")
    script = f"""
        import sys
        from importlib.util import spec_from_file_location
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                home = {str(shipment.project / "src/elsewhere")!r}
                if name == "elsewhere":
                    return spec_from_file_location(name, home + "/__init__.py", submodule_search_locations=[home])
        sys.meta_path.append(Finder)
        def call():
            import elsewhere
            return elsewhere.f()
        ship(call)
    """
    assert shipment.sole(script) == "in place"


def test_a_module_that_was_loaded_from_a_file_of_another_name_arrives_under_its_own(shipment):
    path = shipment.file("odd-name.py", "def f(): return __name__")
    script = f"""
        import sys
        from importlib.util import module_from_spec, spec_from_file_location
        spec = spec_from_file_location("proper", {str(path)!r})
        sys.modules["proper"] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
        ship(module.f)
    """
    assert shipment.sole(script) == "proper"


def test_instances_of_local_classes_travel_as_arguments(shipment):
    shipment.write(
        shapes="""
            from dataclasses import dataclass
            @dataclass
            class Square:
                side: int
                def area(self): return self.side ** 2
        """
    )
    script = """
        from shapes import Square
        def area(shape): return shape.area()
        ship(area, Square(4))
        ship(Square.area, Square(5))
        ship(Square(6).area)
    """
    shipment.client(script)
    assert shipment.worker() == [16, 25, 36]


@pytest.fixture
def native():
    """A native module: the standard library's own, which may lie in any package."""
    path = Path(sysconfig.get_config_var("DESTSHARED"), f"_bisect{sysconfig.get_config_var('EXT_SUFFIX')}")
    if not path.exists():
        pytest.skip("this Python has none as a file")
    return path


def test_a_native_module_travels_as_a_file_of_its_package(shipment, native):
    shipment.write(fast____init__="from fast._bisect import bisect_left\ndef f(): return bisect_left([1, 3], 2)")
    (shipment.project / "fast" / native.name).write_bytes(native.read_bytes())
    assert shipment.sole("import fast; ship(fast.f)") == 1


def test_a_relative_import_inside_a_script_that_runs_as_part_of_a_package_finds_it(shipment):
    shipment.write(mypkg____init__="", mypkg__sub="VALUE = 7")
    script = """
        import mypkg
        __package__ = "mypkg"  # as `python -m mypkg.job` sets it
        def f():
            from .sub import VALUE
            return VALUE
        ship(f)
    """
    assert shipment.sole(script) == 7


def test_a_relative_import_inside_a_local_function_of_a_package_finds_it(shipment):
    shipment.write(
        mypkg____init__="",
        mypkg__deep____init__="",
        mypkg__deep__make="""
            def make():
                def f():
                    from ..sub import VALUE
                    return VALUE
                return f
        """,
        mypkg__sub="VALUE = 7",
    )
    assert shipment.sole("from mypkg.deep.make import make; ship(make())") == 7


# --- what does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("import math; say(ship(math.sqrt, 4))", id="built in"),
        pytest.param("import json; say(ship(json.dumps, [1]))", id="the standard library"),
        pytest.param("import numpy; say(ship(numpy.sum, [1]))", id="site-packages"),
        pytest.param("from cloudexec.ids import new_run_id; say(ship(new_run_id))", id="cloudexec itself"),
        pytest.param("import data; say(ship(len, {'data': 1}))", id="a word like a module's name"),
        pytest.param(
            "import data, fractions; say(ship(len, {'data': fractions.Fraction(1, 2)}))", id="a word beside a class"
        ),
        pytest.param("import data\ndef f(x): return x.data\nsay(ship(f, 1))", id="an attribute like a module's name"),
        pytest.param(
            "import data, types; m = types.ModuleType('made'); import sys; sys.modules['made'] = m\n"
            "def f(): return 1\nsay(ship(f))",
            id="a module without a file",
        ),
    ],
)
def test_nothing_travels_with(shipment, script):
    shipment.write(data="RAW = 1")
    assert shipment.client(script) == [[]]


def test_what_pip_has_put_into_a_folder_of_its_own_does_not_travel(shipment):
    shipment.file("target/vendored/__init__.py", "def f(): pass")
    shipment.file("target/vendored-1.0.dist-info/RECORD", "")
    script = (
        f"import sys; sys.path.insert(0, {str(shipment.project / 'target')!r})\nimport vendored; say(ship(vendored.f))"
    )
    assert shipment.client(script) == [[]]


def test_a_module_registered_to_be_pickled_by_value_does_not_travel(shipment):
    shipment.write(helper="def f(): return __name__")
    script = "import cloudpickle, helper; cloudpickle.register_pickle_by_value(helper); say(ship(helper.f))"
    assert shipment.client(script) == [[]]
    assert shipment.worker() == ["helper"]


def test_caches_version_control_and_environments_stay(shipment):
    shipment.write(
        mypkg____init__="",
        mypkg__names="""
            import os
            def f():
                return sorted(os.listdir(os.path.dirname(__file__)))
        """,
    )
    for name in (".git/config", "node_modules/a.js", "env/pyvenv.cfg", "old.pyc", "tests/test_it.py", "x.txt"):
        shipment.file(f"mypkg/{name}", "")
    arrived = shipment.sole("from mypkg.names import f; ship(f)")
    assert sorted(set(arrived) - {"__pycache__"}) == ["__init__.py", "names.py", "tests", "x.txt"]


def test_a_link_that_leads_back_up_ends(shipment):
    shipment.write(mypkg____init__="def f(): return 1")
    (shipment.project / "mypkg" / "again").symlink_to(shipment.project / "mypkg")
    assert shipment.sole("from mypkg import f; ship(f)") == 1


# --- by hand ----------------------------------------------------------------------------------

PLUGIN = {"plugin": "VALUE = 5", "loader": "import other\ndef f(name): return __import__(name).VALUE", "other": ""}
LOAD = "def f(name): return __import__(name).VALUE\nsay(ship(f, 'plu' + 'gin'))"


@pytest.mark.parametrize(
    ("modules", "shipped"),
    [
        pytest.param("None", [], id="None: nothing"),
        pytest.param("()", [], id="an empty list: nothing"),
        pytest.param("'auto'", [], id="auto: a name that is made up in the call is not seen"),
        pytest.param("['plugin']", ["plugin"], id="a name"),
        pytest.param("[{project!r} + '/plugin.py']", ["plugin"], id="a file"),
        pytest.param("['loader']", ["loader"], id="what a named module imports stays"),
        pytest.param("['loader', 'auto']", ["loader", "other"], id="unless auto is in the list"),
    ],
)
def test_a_setting_decides_what_travels(shipment, modules, shipped):
    shipment.write(**PLUGIN)
    assert shipment.client(LOAD, modules.format(project=str(shipment.project))) == [shipped]
    assert (shipment.worker() == [5]) == ("plugin" in shipped)


def test_a_directory_travels_by_hand_though_python_does_not_know_it(shipment):
    shipment.file("off/the/path/kit/__init__.py", "VALUE = 6")
    script = "def f():\n    import kit\n    return kit.VALUE\nship(f)"
    assert shipment.sole(script, f"[{str(shipment.project / 'off/the/path/kit')!r}]") == 6


@pytest.mark.parametrize(
    ("modules", "text"),
    [
        pytest.param("all", "modules='all' is unknown", id="an unknown word"),
        pytest.param(7, "modules=7 is unknown", id="a number"),
        pytest.param(["no_such_module"], "'no_such_module' is not a module that can travel", id="an unknown module"),
        pytest.param(["json"], "'json' is not a module that can travel", id="the standard library"),
        pytest.param(["/no/such/dir"], "/no/such/dir is neither a directory nor a .py file", id="an unknown path"),
        pytest.param([7], "7 is neither a name nor a path", id="a number in the list"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_the_remedy(modules, text):
    with pytest.raises(SettingsError) as caught:
        chosen(modules)
    assert text in str(caught.value)


# --- versions ---------------------------------------------------------------------------------

EDIT = """
def edit(module, text):
    import os
    with open(module.__file__, "w") as file:
        file.write(text)
    os.utime(module.__file__, ns=(0, len(text) * 10**9))  # not within the same tick of the clock
"""


def test_a_module_that_was_edited_and_loaded_again_travels_anew_while_open_calls_keep_theirs(shipment):
    shipment.write(mod="def f(): return 'old'")
    shipment.client(
        EDIT
        + """
import importlib, mod
def by_value(): return mod.f()
ship(mod.f); ship(by_value)
edit(mod, "def f(): return 'newer'")
importlib.reload(mod)
ship(mod.f); ship(by_value)
"""
    )
    assert shipment.worker() == ["old", "old", "newer", "newer"]


def test_an_edit_that_was_not_loaded_does_not_change_a_run(shipment):
    shipment.write(mod="def f(): return 'old'\ndef g(): return 'old'")
    shipment.client(EDIT + "import mod\nship(mod.f)\nedit(mod, 'def f(): return 1')\nship(mod.f); ship(mod.g)")
    assert shipment.worker() == ["old"] * 3


def test_a_part_that_is_written_after_the_first_call_travels(shipment):
    shipment.write(mypkg____init__="", mypkg__one="def f(): return 1")
    script = f"""
        import importlib
        from mypkg.one import f
        ship(f)
        with open({str(shipment.project / "mypkg/two.py")!r}, "w") as file:
            file.write("def g(): return 2")
        importlib.invalidate_caches()
        from mypkg.two import g
        ship(g)
    """
    shipment.client(script)
    assert shipment.worker() == [1, 2]


def test_a_module_that_is_written_after_a_call_has_failed_for_want_of_it_travels(shipment):
    script = f"""
        def f():
            import late
            return late.VALUE
        ship(f)
        with open({str(shipment.project / "late.py")!r}, "w") as file:
            file.write("VALUE = 1")
        import importlib; importlib.invalidate_caches()
        ship(f)
    """
    shipment.client(script)
    failed, worked = shipment.worker()
    assert failed[:2] == ["RAISED", "ModuleNotFoundError"]
    assert worked == 1


def test_a_reload_of_what_a_function_uses_takes_the_new_sources_along(shipment):
    """Notebooks with autoreload keep the function object, too."""
    shipment.write(
        mypkg____init__="",
        mypkg__low="def g(): return 'old'",
        mypkg__top="from . import low\ndef f(): return low.g()",
    )
    shipment.client(
        EDIT
        + """
import importlib
from mypkg import low
from mypkg.top import f
ship(f)
edit(low, "def g(): return 'newer'")
importlib.reload(low)
ship(f)
"""
    )
    assert shipment.worker() == ["old", "newer"]


def test_two_versions_in_turn_do_not_mix(tmp_path):
    """`user` is the same in both and keeps a class of the other module: it must be imported anew with it."""
    user = "import mod\nfrom mod import Thing as Kept\ndef f(): return [mod.Thing.version, mod.Thing is Kept]"
    versions = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        versions.append(Shipment(tmp_path / str(number)))
        versions[-1].write(mod=f"class Thing: version = {number}", user=user)
        versions[-1].client("import user; ship(user.f)")
    worker = Shipment(tmp_path)
    for number in (0, 1, 0, 1):
        worker.take_calls_of(versions[number])
    assert worker.worker() == [[1, True], [2, True], [1, True], [2, True]]


def test_a_native_module_of_another_version_is_loaded_beside_the_old_one(tmp_path, native):
    versions = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        versions.append(Shipment(tmp_path / str(number)))
        versions[-1].write(
            fast____init__=f"from fast._bisect import bisect_left as b\ndef f(): return {number}, b([1], 2)"
        )
        (versions[-1].project / "fast" / native.name).write_bytes(native.read_bytes())
        versions[-1].client("import fast; ship(fast.f)")
    worker = Shipment(tmp_path)
    for number in (0, 1, 0):
        worker.take_calls_of(versions[number])
    assert worker.worker() == [[1, 1], [2, 1], [1, 1]]


def test_the_same_sources_make_the_same_bundle_whatever_their_times(shipment):
    shipment.write(mypkg____init__="", mypkg__a="def f(): pass", mypkg__b="B = 1")
    shipment.client("import mypkg.a; ship(mypkg.a.f)")
    for path in (shipment.project / "mypkg").glob("*.py"):
        os.utime(path, (1, 1))
    shipment.client("import mypkg.b, mypkg.a; ship(mypkg.a.f)")
    assert len(list((shipment.store / "blobs").iterdir())) == 1


# --- what is refused --------------------------------------------------------------------------


def test_a_module_that_is_too_large_is_refused_with_its_largest_files(shipment):
    shipment.write(mypkg____init__="def f(): return 1")
    with open(shipment.file("mypkg/weights.bin", ""), "wb") as file:
        file.truncate(51 << 20)
    script = """
        import mypkg
        from cloudexec.errors import ModuleNotShippable
        try:
            ship(mypkg.f)
        except ModuleNotShippable as error:
            say(str(error))
    """
    (text,) = shipment.client(script)
    assert "mypkg/weights.bin (53.5 MB)" in text
    assert "more than the 52.4 MB that may travel" in text
    assert "modules=[...]" in text


def bundle_with(name, content=b"", mode=0o100644):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        bundle.writestr(info, content)
    return out.getvalue()


class Shelf:
    """A shelf in a child process would be no different here: nothing is imported before it is refused."""

    def __init__(self, tmp_path, content):
        self.root = tmp_path / "shelf"
        ref = BlobRef(hashlib.sha256(content).digest(), len(content))
        self.module = ShippedModule("mypkg_on_a_shelf", ref)
        self.content = content
        self.shelf = ModuleShelf(str(self.root), lambda _ref: memoryview(self.content))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param("../evil.py", 0o100644, id="a way up"),
        pytest.param("mypkg_on_a_shelf/../../evil.py", 0o100644, id="a way up from inside"),
        pytest.param("/etc/evil.py", 0o100644, id="an absolute path"),
        pytest.param("mypkg_on_a_shelf//evil.py", 0o100644, id="an empty step"),
        pytest.param("mypkg_on_a_shelf\\evil.py/x", 0o100644, id="a backslash"),
        pytest.param("os.py", 0o100644, id="another module"),
        pytest.param("mypkg_on_a_shelf", 0o100644, id="a file without an ending"),
        pytest.param("mypkg_on_a_shelf/link.py", 0o120777, id="a link"),
    ],
)
def test_a_bundle_that_reaches_out_of_its_place_is_refused_whole(tmp_path, name, mode):
    shelf = Shelf(tmp_path, bundle_with(name, b"x", mode))
    before = list(sys.path)
    with pytest.raises(WireError, match="which is not part of it"):
        shelf.shelf.provide([shelf.module])
    assert sys.path == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bundle_that_was_tampered_with_is_refused(tmp_path):
    shelf = Shelf(tmp_path, bundle_with("mypkg_on_a_shelf.py"))
    shelf.content = bundle_with("mypkg_on_a_shelf.py", b"import os")
    with pytest.raises(SignatureError, match="is not the one that was sent"):
        shelf.shelf.provide([shelf.module])
    assert not shelf.root.exists()


def test_a_bundle_that_is_no_zip_file_is_refused(tmp_path):
    shelf = Shelf(tmp_path, b"not a zip file")
    with pytest.raises(WireError, match="is damaged"):
        shelf.shelf.provide([shelf.module])


def test_a_call_whose_bundle_was_tampered_with_is_refused_and_the_next_one_runs(shipment):
    shipment.write(helper="def f(): return 1")
    shipment.client("import helper; ship(helper.f); ship(len, 'four')")
    (blob,) = (shipment.store / "blobs").iterdir()
    blob.chmod(0o600)
    blob.write_bytes(bundle_with("helper.py", b"def f(): return 'evil'"))
    refused, after = shipment.worker()
    assert refused[:2] == ["REFUSED", "SignatureError"]
    assert after == 4


# --- one worker, several slots ----------------------------------------------------------------


def test_slots_that_unpack_at_the_same_time_share_one_directory(shipment):
    shipment.write(helper="def f(): return __file__")
    shipment.client("import helper; ship(helper.f)")
    with ThreadPoolExecutor(4) as slots:
        told = list(slots.map(shipment.worker, map(str, range(4))))
    assert told == [told[0]] * 4
    assert len(list((shipment.base / "shelf").iterdir())) == 1
