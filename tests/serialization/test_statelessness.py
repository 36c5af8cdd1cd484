"""A worker may call one unpickled copy again and again only if no call can leave anything behind in it."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudexec.serialization.functions import FunctionBook
from cloudexec.serialization.loading import load
from tests.serialization.mains import Script
from tests.serialization.test_functions import divert_nothing


def pack(function):
    return FunctionBook(divert_nothing).pack(function)[0]


@pytest.mark.parametrize(
    "define",
    [
        pytest.param("n = 0\ndef f():\n  global n\n  n += 1\n  return n", id="a global counter"),
        pytest.param("def f():\n  global n\n  n = 1", id="a global is set"),
        pytest.param("n = 1\ndef f():\n  global n\n  del n", id="a global is deleted"),
        pytest.param("n = []\ndef f():\n  n.append(1)\n  return len(n)", id="a global list"),
        pytest.param("def f(n=[]):\n  n.append(1)\n  return len(n)", id="a list as default"),
        pytest.param("def f(*, n=[]):\n  n.append(1)\n  return len(n)", id="a list as keyword default"),
        pytest.param("def f(n=([],)):\n  n[0].append(1)", id="a list in a tuple as default"),
        pytest.param("def f():\n  f.n = getattr(f, 'n', 0) + 1\n  return f.n", id="a function attribute"),
        pytest.param("def f():\n  setattr(f, 'n', 1)", id="setattr"),
        pytest.param("def f():\n  f.__dict__['n'] = 1", id="its __dict__"),
        pytest.param("def f():\n  vars(f)['n'] = 1", id="vars"),
        pytest.param("def f():\n  globals()['n'] = 1", id="globals"),
        pytest.param("def f():\n  exec('global n; n = 1')", id="exec"),
        pytest.param("def f():\n  eval('f.__dict__')['n'] = 1", id="eval"),
        pytest.param("def f():\n  f.__annotations__['n'] = 1", id="its annotations"),
        pytest.param("def g():\n  g.n = 1\ndef f(): g()", id="a helper that leaves traces"),
        pytest.param(
            """
            def make():
                n = 0
                def f():
                    nonlocal n
                    n += 1
                    return n
                return f
            f = make()
            """,
            id="a nonlocal counter",
        ),
        pytest.param("def make(n):\n  return lambda: n.append(1)\nf = make([])", id="a list in a closure"),
        pytest.param("class C:\n  n = 0\ndef f():\n  C.n += 1", id="a class attribute"),
        pytest.param("n = iter(range(9))\ndef f(): return next(n)", id="a global iterator"),
        pytest.param("n = [3, 2, 1]\nf = n.pop", id="a method of a list"),
        pytest.param("n = [3, 2, 1]\npop = n.pop\ndef f(): return pop()", id="a method of a list as global"),
        pytest.param("import random\nf = random.Random(0).random", id="a method of a generator of random numbers"),
        pytest.param("class C:\n  def __call__(self): self.n = 1\nf = C()", id="a callable object"),
        pytest.param("class C:\n  def m(self): self.n = 1\nf = C().m", id="a bound method"),
        pytest.param("from functools import partial\nf = partial(lambda n: n.append(1), [])", id="a partial"),
        pytest.param("import sys\ndef f():\n  sys._getframe().f_globals['n'] = 1", id="through its frame"),
    ],
)
def test_a_function_that_may_remember_is_unpickled_for_each_call(define):
    assert not pack(Script(define).f).traits.stateless


@pytest.mark.parametrize(
    "define",
    [
        pytest.param("def f(): return 1", id="constant"),
        pytest.param("def f(x=1):\n  y = [x]\n  y.append(2)\n  return y", id="its own list"),
        pytest.param("n = 3\ndef f(): return n", id="a global number"),
        pytest.param("import math\ndef f(): return math.pi", id="a module"),
        pytest.param("from math import sqrt\ndef f(): return sqrt(4)", id="a built-in as global"),
        pytest.param("def make(n):\n  return lambda: n\nf = make(3)", id="a closure over a number"),
        pytest.param("def g(): return 1\ndef f(): return g()", id="a pure helper"),
        pytest.param("def f(i=3): return 0 if i == 0 else f(i - 1)", id="recursive"),
        pytest.param("def f():\n  yield 1", id="generator"),
        pytest.param("async def f(): return 1", id="coroutine"),
        pytest.param("f = len", id="a built-in"),
        pytest.param("from textwrap import dedent as f", id="a function of a module"),
        pytest.param("from decimal import Decimal as f", id="a class of a module"),
    ],
)
def test_a_function_that_cannot_remember_is_unpickled_once(define):
    assert pack(Script(define).f).traits.stateless


STATEMENTS = [
    "got += 1",
    "got += n",
    "got += default",
    "got += len(items)",
    "got += cell",
    "local = [got]; local.append(1); got += len(local)",
    "got += sum(i for i in range(3))",
    "got += math.floor(1.5)",
    "got += helper(got)",
    "items.append(got)",
    "seen.append(got); got += len(seen)",
    "global n; n += 1",
    "nonlocal cell; cell += 1",
    "f.count = getattr(f, 'count', 0) + 1; got += f.count",
    "globals()['n'] = 7",
    "push(got)",
    "got += len(pushed())",
    "math.tau",
    "box.n += 1; got += box.n",
    "remember(got)",
]


@settings(max_examples=120)
@given(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=4, unique=True))
def test_one_copy_called_twice_gives_what_two_copies_give_if_it_is_called_stateless(statements):
    head = [s.split(";")[0] for s in statements if s.startswith(("global ", "nonlocal "))]
    body = [s.split("; ", 1)[1] if s.startswith(("global ", "nonlocal ")) else s for s in statements]
    uses_cell = any("cell" in s for s in statements)
    lines = "\n".join(f"        {line}" for line in [*head, "got = 0", *body, "return got"])
    script = Script(
        "import math\nn = 1\nitems = []\nseen = []\npush = seen.append\npushed = seen.copy\n"
        "class Box: n = 0\nbox = Box()\n"
        "def helper(x): return x + n\n"
        "def remember(x): remember.last = x\n"
        f"def make(cell):\n    def f(default=2):\n{textwrap.dedent(lines) and lines}\n    return f\n"
        f"f = make(1)\nuses_cell = {uses_cell}\n"
    )
    packed = pack(script.f)
    if packed.traits.stateless:
        fresh = [load(packed.packed, None)() for _ in range(2)]
        copy = load(packed.packed, None)
        assert [copy(), copy()] == fresh
