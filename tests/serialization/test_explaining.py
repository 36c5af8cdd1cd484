"""`explain` tells what would travel, in words and numbers."""

import re

import pytest

from tests.serialization.shipment import Shipment

PROJECT = {
    "mypkg____init__": "",
    "mypkg__model": "import helper\ndef fit(x): return x",
    "helper": "def f(): pass",
    "unrelated": "",
}
HEAD = """
from cloudexec.serialization.explaining import explain_function
def explain(_fn, *args, **kwargs):
    return explain_function(_packer, _fn, args, kwargs)
"""


@pytest.fixture
def shipment(tmp_path):
    shipment = Shipment(tmp_path)
    shipment.write(**PROJECT)
    return shipment


def test_the_modules_stand_with_files_sizes_and_the_chain_of_imports(shipment):
    script = (
        HEAD
        + """
from mypkg.model import fit
told = explain(fit, 1)
say([[m.name, m.files, m.n_bytes, m.why] for m in told.modules])
say([told.how, told.left_out, told.warnings, told.captured])
"""
    )
    modules, rest = shipment.client(script)
    assert modules == [
        ["mypkg", ["mypkg/__init__.py", "mypkg/model.py"], 34, "the call refers to it"],
        ["helper", ["helper.py"], 13, "mypkg/model.py:1 imports it"],
    ]
    assert rest == ["by name (mypkg.model.fit)", {}, [], []]


def test_the_table_is_for_people(shipment):
    (text,) = shipment.client(HEAD + "from mypkg.model import fit\nsay(str(explain(fit, 1)))")
    text = re.sub(r"zipped \d+", "zipped N", text)  # zlib's business
    lines = [line.split("  ") for line in text.splitlines()]
    assert lines[0] == ["fit"]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines[1:]] == [
        ["function", "by name (mypkg.model.fit), 34 bytes"],
        ["arguments", "20 bytes"],
        ["modules", "mypkg", "2 files", "34 bytes, zipped N bytes", "the call refers to it"],
        ["helper", "1 file", "13 bytes, zipped N bytes", "mypkg/model.py:1 imports it"],
    ]


@pytest.mark.parametrize(
    ("modules", "travel", "stay"),
    [
        pytest.param("None", [], ["helper", "mypkg"], id="nothing travels"),
        pytest.param("['mypkg']", ["mypkg"], ["helper"], id="by hand"),
        pytest.param("'auto'", ["helper", "mypkg"], [], id="found"),
    ],
)
def test_what_is_needed_and_stays_is_told(shipment, modules, travel, stay):
    script = """
from mypkg.model import fit
told = explain(fit, 1)
say([sorted(m.name for m in told.modules), sorted(told.left_out)])
"""
    assert shipment.client(HEAD + script, modules) == [[travel, stay]]


def test_what_a_function_by_value_takes_along_is_measured(shipment):
    script = (
        HEAD
        + """
import helper, threading
table, lock = list(range(500_000)), threading.Lock()
def outer(weight):
    def by_value(x, y=2): return x * weight + len(table), helper.f()
    return by_value
told = explain(outer(3), 1)
say([told.how.partition(" (")[0], [[c.where, c.kind] for c in told.captured], told.warnings])
say(told.blob_bytes[0] > 1_000_000)
def broken(): return lock
say([explain(broken).how, explain(broken).warnings])
say(explain(len, lock).warnings)
"""
    )
    whole, is_large, broken, argument = shipment.client(script)
    (size,) = {text.partition(" adds ")[2].partition(" to ")[0] for text in whole.pop()}
    assert size.endswith(" MB")
    assert whole == [
        "by value",
        [
            ["global helper", "module helper"],
            ["global table", "list"],
            ["closure weight", "int"],
            ["default [0]", "int"],
        ],
    ]
    assert is_large
    assert broken == [
        "cannot travel",
        [
            "the function broken cannot be pickled: cannot pickle '_thread.lock' object",
            "global lock (lock) cannot be pickled: make it inside the function, or in an initializer",
        ],
    ]
    assert argument == ["an argument cannot be pickled: cannot pickle '_thread.lock' object"]


def test_native_code_is_warned_of(shipment):
    shipment.file("mypkg/_fast.so", "")
    (warnings,) = shipment.client(HEAD + "from mypkg.model import fit\nsay(explain(fit).warnings)")
    (text,) = warnings
    assert text.startswith("mypkg/_fast.so: native code, runs where platform and Python are as here (")


def test_a_module_that_cannot_travel_is_a_warning(shipment):
    with open(shipment.file("mypkg/weights.bin", ""), "wb") as file:
        file.truncate(60 << 20)
    (warnings,) = shipment.client(HEAD + "from mypkg.model import fit\nsay(explain(fit).warnings)")
    (text,) = warnings
    assert "mypkg/weights.bin (62.9 MB)" in text


def test_explaining_sends_no_call(shipment):
    shipment.client(HEAD + "from mypkg.model import fit\nexplain(fit, 1)")
    assert shipment.worker() == []
