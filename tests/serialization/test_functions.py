"""A function is pickled once, but never as it was before it changed."""

import gc
import inspect
import sys
import weakref

import cloudpickle
import pytest

from cloudexec.serialization.functions import FunctionBook, name_of
from cloudexec.serialization.loading import load
from tests.serialization.mains import Script, printed_by, values_elsewhere


def divert_nothing(pickled):
    return [pickled.stream, *pickled.buffers], ()


@pytest.fixture
def book():
    return FunctionBook(divert_nothing)


CHANGES = [
    pytest.param("n = 1\ndef f(): return n", "n = 2", [1, 2], id="a global number is bound anew"),
    pytest.param("n = 1\ndef f(): return n", "n = 1.0", [1, 1.0], id="by an equal value of another type"),
    pytest.param("n = 1\ndef f(): return n", "n = True", [1, True], id="by an equal bool"),
    pytest.param("n = 'a'\ndef f(): return n", "n = 'b'", ["a", "b"], id="a global text"),
    pytest.param("n = [1]\ndef f(): return n", "n.append(2)", [[1], [1, 2]], id="a global list grows"),
    pytest.param("n = {}\ndef f(): return n", "n['k'] = 1", [{}, {"k": 1}], id="a global dict"),
    pytest.param("n = ([],)\ndef f(): return n", "n[0].append(1)", [([],), ([1],)], id="a list in a global tuple"),
    pytest.param("n = bytearray(b'a')\ndef f(): return bytes(n)", "n += b'b'", [b"a", b"ab"], id="a bytearray"),
    pytest.param("def f(): return n", "n = 2", ["NameError", 2], id="a global appears"),
    pytest.param("n = 2\ndef f(): return n", "del n", [2, "NameError"], id="a global disappears"),
    pytest.param("def f(): return len([])", "len = str", [0, "[]"], id="a global hides a built-in"),
    pytest.param(
        "def g(): return 1\ndef f(): return g()", "def g(): return 2", [1, 2], id="a global function is defined anew"
    ),
    pytest.param(
        "n = 1\ndef h(): return n\ndef g(): return h()\ndef f(): return g()",
        "n = 2",
        [1, 2],
        id="a global of a function that a function calls",
    ),
    pytest.param(
        "n = 1\ndef f():\n  def inner(): return [n for _ in 'x']\n  return inner()",
        "n = 2",
        [[1], [2]],
        id="a global that only an inner function uses",
    ),
    pytest.param(
        "n = 1\ndef f(): return (lambda: (lambda: n)())()", "n = 2", [1, 2], id="a lambda in a lambda uses a global"
    ),
    pytest.param(
        """
        def make():
            n = 1
            def f(): return n
            def change():
                nonlocal n
                n = 2
            return f, change
        f, change = make()
        """,
        "change()",
        [1, 2],
        id="a closure's cell is bound anew",
    ),
    pytest.param(
        """
        def make():
            def f(): return n
            def change():
                nonlocal n
                n = 2
            if 0: n = 1
            return f, change
        f, change = make()
        """,
        "change()",
        ["NameError", 2],
        id="an empty cell is filled",
    ),
    pytest.param(
        "def make(n):\n  return lambda: n\nn = [1]\nf = make(n)", "n.append(2)", [[1], [1, 2]], id="a list in a closure"
    ),
    pytest.param(
        "def make(g):\n  return lambda: g()\nn = 1\nf = make(lambda: n)", "n = 2", [1, 2], id="a function in a closure"
    ),
    pytest.param("def f(n=1): return n", "f.__defaults__ = (2,)", [1, 2], id="defaults"),
    pytest.param("def f(n=[]): return n", "f.__defaults__[0].append(1)", [[], [1]], id="a list as default"),
    pytest.param("def f(*, n=1): return n", "f.__kwdefaults__['n'] = 2", [1, 2], id="keyword defaults in place"),
    pytest.param("def f(*, n=1): return n", "f.__kwdefaults__ = {'n': 2}", [1, 2], id="keyword defaults"),
    pytest.param("m = 1\ndef f(g=lambda: m): return g()", "m = 2", [1, 2], id="a function as default"),
    pytest.param("def f(): return 1", "f.__code__ = (lambda: 2).__code__", [1, 2], id="the code itself"),
    pytest.param(
        "def g(): return 1\ndef f(): return g()",
        "g.__code__ = (lambda: 2).__code__",
        [1, 2],
        id="the code of a function it calls",
    ),
    pytest.param("def f(): return f.n\nf.n = 1", "f.n = 2", [1, 2], id="an attribute of the function"),
    pytest.param("def f(): return getattr(f, 'n', 0)", "f.n = 2", [0, 2], id="an attribute appears"),
    pytest.param(
        "def g(): pass\ndef f(): return getattr(g, 'n', 0)", "g.n = 2", [0, 2], id="on a function it refers to"
    ),
    pytest.param("class C: n = 1\ndef f(): return C.n", "C.n = 2", [1, 2], id="an attribute of a class"),
    pytest.param("class C: n = 1\ndef f(): return C.n", "class C: n = 2", [1, 2], id="a class is defined anew"),
    pytest.param(
        "class C:\n  n = 1\n  def m(self): return self.n\nf = C().m", "f.__self__.n = 2", [1, 2], id="a bound method"
    ),
    pytest.param(
        "class C:\n  def __call__(self): return self.n\nf = C(); f.n = 1", "f.n = 2", [1, 2], id="a callable object"
    ),
    pytest.param(
        "from functools import partial\ndef g(n): return n\nn = [1]\nf = partial(g, n)",
        "n.append(2)",
        [[1], [1, 2]],
        id="a partial's argument",
    ),
    pytest.param(
        "from functools import partial\nn = 1\ndef g(): return n\nf = partial(g)", "n = 2", [1, 2], id="under a partial"
    ),
    pytest.param(
        """
        from functools import wraps
        n = 1
        def twice(g):
            @wraps(g)
            def wrapper(): return 2 * g()
            return wrapper
        @twice
        def f(): return n
        """,
        "n = 2",
        [2, 4],
        id="under a decorator",
    ),
    pytest.param(
        "n = 1\ndef f(i=3): return 0 if i == 0 else n + f(i - 1)", "n = 2", [3, 6], id="a function that calls itself"
    ),
    pytest.param(
        "n = 1\ndef f(i=3): return 0 if i == 0 else g(i)\ndef g(i): return n + f(i - 1)",
        "n = 2",
        [3, 6],
        id="functions that call each other",
    ),
    pytest.param("n = 1\ndef f():\n  yield n", "n = 2", [[1], [2]], id="a generator"),
    pytest.param("n = 1\nasync def f(): return n", "n = 2", [1, 2], id="a coroutine"),
    pytest.param("n = [1]\nget = n.copy\ndef f(): return get()", "n.append(2)", [[1], [1, 2]], id="a built-in method"),
    pytest.param("n = [1]\nf = n.copy", "n.append(2)", [[1], [1, 2]], id="a built-in method by itself"),
    pytest.param("import math as m\ndef f(): return m.__name__", "import json as m", ["math", "json"], id="a module"),
    pytest.param(
        "from math import floor as g\ndef f(): return g(1.5)", "from math import ceil as g", [1, 2], id="an import"
    ),
    pytest.param("t = (len,)\ndef f(): return t[0]([])", "t = (str,)", [0, "[]"], id="a tuple of functions"),
    pytest.param(
        "from collections import namedtuple\nP = namedtuple('P', 'n')\np = P([])\ndef f(): return p.n",
        "p.n.append(1)",
        [[], [1]],
        id="a named tuple with a list",
    ),
]


@pytest.mark.parametrize(("define", "change", "values"), CHANGES)
def test_what_a_function_depends_on_is_as_of_each_submit(book, define, change, values):
    script = Script(define)
    first = book.pack(script.f)[0]
    again = book.pack(script.f)[0]
    script.go_on(change)
    second = book.pack(script.f)[0]
    found = values_elsewhere([first.packed, again.packed, second.packed])
    assert found == [values[0], *values]
    assert [type(value) for value in found] == [type(value) for value in [values[0], *values]]
    assert first.digest != second.digest, "workers would take the one for the other"


def test_functions_that_change_back_are_what_they_were(book):
    packed, expected = [], []
    for define, change, values in (param.values for param in CHANGES):
        script, fresh = Script(define), Script(define)
        book.pack(script.f)
        script.go_on(change)
        book.pack(script.f)
        packed.append(book.pack(fresh.f)[0].packed)
        expected.append(values[0])
    assert values_elsewhere(packed) == expected


@pytest.mark.parametrize(
    "define",
    [
        pytest.param("def f(): return 1", id="plain"),
        pytest.param("n = 1\ndef f(): return n", id="with a global"),
        pytest.param("import math\ndef g(x): return math.sqrt(x)\ndef f(): return g(4)", id="with a helper"),
        pytest.param("def make(n):\n  return lambda: n\nf = make('text')", id="closure"),
        pytest.param("def f(i=3): return 0 if i == 0 else f(i - 1)", id="recursive"),
    ],
)
def test_a_function_that_depends_on_nothing_mutable_is_pickled_once(book, define):
    script = Script(define)
    assert book.pack(script.f)[0] is book.pack(script.f)[0]


def test_equal_functions_share_a_digest(book):
    first, second = (Script("def f(): return 1").f for _ in range(2))
    assert first is not second
    assert book.pack(first)[0].digest == book.pack(second)[0].digest


def test_a_function_that_equals_an_earlier_one_is_pickled_once_too(book):
    first, second = (Script("def f(): return 1").f for _ in range(2))
    book.pack(first)
    book.pack(second)
    entered = []
    sys.setprofile(lambda frame, event, arg: entered.append(frame.f_code.co_name))
    try:
        book.pack(second)
    finally:
        sys.setprofile(None)
    assert "pack" in entered, "the profiler works"
    assert not {"dump", "dumps"} & set(entered)


def test_a_function_of_a_module_travels_by_name(book):
    packed = book.pack(inspect.getsource)[0]
    assert len(packed.packed) < 100
    assert packed.pickler == ""


def test_a_function_of_a_script_travels_by_value_and_tells_the_cloudpickle_version(book):
    assert book.pack(Script("def f(): return 1").f)[0].pickler == cloudpickle.__version__


def test_a_module_registered_by_value_later_travels_by_value(book, tmp_path, monkeypatch):
    (tmp_path / "helper_for_test.py").write_text("n = 1\ndef g(): return n\n")
    monkeypatch.syspath_prepend(tmp_path)
    import helper_for_test

    script = Script("import helper_for_test\nfrom helper_for_test import g\ndef f(): return g()")
    book.pack(script.f)
    cloudpickle.register_pickle_by_value(helper_for_test)
    try:
        packed = [book.pack(script.f)[0].packed]
        helper_for_test.n = 2
        packed.append(book.pack(script.f)[0].packed)
    finally:
        cloudpickle.unregister_pickle_by_value(helper_for_test)
    assert values_elsewhere(packed) == [1, 2]


def test_the_book_keeps_no_function_alive(book):
    number = 1
    function = lambda: number  # noqa: E731 - it is to be deleted by name
    book.pack(function)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_a_new_function_at_the_address_of_an_old_one_is_not_taken_for_it(book):
    for number in range(200):
        script = Script(f"def f(): return {number}")
        assert load(book.pack(script.f)[0].packed, None)() == number


def test_the_book_stays_small(book):
    for number in range(2000):
        book.pack(Script(f"def f(): return {number}").f)
    gc.collect()
    assert len(book._by_bytes) <= 512
    assert len(book._by_object) <= 512


@pytest.mark.parametrize(
    ("function", "name"),
    [
        pytest.param(len, "len", id="built-in"),
        pytest.param(Script("def f(): pass").f, "f", id="function"),
        pytest.param(Script("def m():\n  def f(): pass\n  return f\nf = m()").f, "m.f", id="inner function"),
        pytest.param(Script("from functools import partial\nf = partial(len, [])").f, "partial(len)", id="partial"),
        pytest.param(Script("class C:\n  def __call__(self): pass\nf = C()").f, "C", id="callable object"),
    ],
)
def test_a_callable_is_named_in_messages(function, name):
    assert name_of(function) == name


def test_a_cached_function_of_a_script_can_be_read_elsewhere():
    script = """
    from functools import lru_cache
    from cloudexec import LocalExecutor
    @lru_cache
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    if __name__ == "__main__":
        with LocalExecutor(1) as ex:
            print(ex.submit(fib, 20).result(30))
    """
    assert printed_by(script) == "6765"
