"""What can be submitted: whatever can be called, as it is at the moment of `submit`."""

import functools
import operator
import subprocess
import sys

import numpy as np
import pytest

from tests.contract import calls
from tests.contract.events import SOON


class Described:
    """A class of the test's own module, with a method that calls another."""

    def __init__(self, word):
        self.word = word

    def twice(self):
        return self.once() * 2

    def once(self):
        return self.word


def add_to(base):
    def add(x):
        return base + x

    return add


def local_class():
    class Adder:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return self.by + x

        def method(self, x):
            return self(x)

    return Adder


def itself_minus(number):
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    return lambda n: factorial(n) - number


CALLABLES = {
    "function": (calls.double, (21,)),
    "lambda": (lambda x: 2 * x, (21,)),
    "closure": (add_to(40), (2,)),
    "closure in a closure": ((lambda f: lambda x: f(x))(add_to(40)), (2,)),
    "callable object": (calls.Counter(40), (2,)),
    "bound method": (calls.Counter(40).plus, (2,)),
    "class method": (calls.Counter.stepped, (41,)),
    "static method": (calls.Counter.same, (42,)),
    "object of a local class": (local_class()(40), (2,)),
    "method of a local class": (local_class()(40).method, (2,)),
    "partial": (functools.partial(calls.add, 40), (2,)),
    "partial of a lambda": (functools.partial(lambda a, b: a + b, 40), (2,)),
    "partial of a partial": (functools.partial(functools.partial(calls.add, 40)), (2,)),
    "cached function": (calls.cached_double, (21,)),
    "builtin": (sum, ([40, 2],)),
    "method of a builtin object": ([0, 42].__getitem__, (1,)),
    "method of a builtin type": (int.__add__, (40, 2)),
    "type": (int, ("42",)),
    "operator": (operator.itemgetter(1), ([0, 42],)),
    "ufunc": (np.add, (40, 2)),
    "recursive local function": (itself_minus(78), (5,)),
}


@pytest.fixture
def executor(handed_on):
    """Two workers, which have worked for other tests."""
    return handed_on(2)


@pytest.fixture
def single(handed_on):
    """One worker, which has worked for other tests: what they have left behind must not be seen."""
    return handed_on(1)


@pytest.mark.parametrize("name", CALLABLES)
def test_it_runs_a(executor, name):
    function, args = CALLABLES[name]
    assert executor.submit(function, *args).result(SOON) == 42


def test_it_maps_a_lambda_over_inputs(executor):
    assert list(executor.map(lambda x, y: x * y, [1, 2, 3], [4, 5, 6])) == [4, 10, 18]


def test_a_class_of_the_test_s_module_travels(executor):
    assert executor.submit(Described("ab").twice).result(SOON) == "abab"


def test_an_object_of_a_local_class_comes_back_as_an_object_of_that_class(executor):
    adder_class = local_class()
    result = executor.submit(calls.identity, adder_class(1)).result(SOON)
    assert type(result) is adder_class


def test_a_local_exception_class_can_be_caught_by_its_name(executor):
    class MyError(Exception):
        pass

    def raise_it():
        raise MyError("mine")

    with pytest.raises(MyError, match="mine"):
        executor.submit(raise_it).result(SOON)


# --- what changes between two submits ----------------------------------------------------------


def test_a_changed_closure_is_seen(executor):
    value = 1

    def read():
        return value

    first = executor.submit(read)
    value = 2
    second = executor.submit(read)
    assert (first.result(SOON), second.result(SOON)) == (1, 2)


def test_a_changed_list_in_a_closure_is_seen(executor):
    values = [1]
    read = lambda: list(values)  # noqa: E731 - the closure is the point
    first = executor.submit(read)
    values.append(2)
    second = executor.submit(read)
    assert (first.result(SOON), second.result(SOON)) == ([1], [1, 2])


def test_a_changed_function_in_a_closure_is_seen(executor):
    def helper():
        return "old"

    def outer():
        return helper()

    first = executor.submit(outer)

    def helper():  # noqa: F811 - the redefinition is the point
        return "new"

    second = executor.submit(outer)
    assert (first.result(SOON), second.result(SOON)) == ("old", "new")


def change_default(function):
    function.__defaults__ = ("new",)


def change_keyword_default(function):
    function.__kwdefaults__ = {"keyword": "new"}


def change_code(function):
    def other(default="", *, keyword=""):
        return default, keyword, function and "new"

    function.__code__ = other.__code__


def change_attribute(function):
    function.attribute = "new"


@pytest.mark.parametrize("change", [change_default, change_keyword_default, change_code, change_attribute])
def test_of_a_function_itself_is_seen(executor, change):
    def read(default="old", *, keyword="old"):
        return default, keyword, getattr(read, "attribute", "old")

    first = executor.submit(read)
    before = read()
    change(read)
    second = executor.submit(read)
    after = read()
    assert before != after
    assert (first.result(SOON), second.result(SOON)) == (before, after)


def test_a_changed_local_class_is_seen(executor):
    class Settings:
        word = "old"

    def read():
        return Settings.word

    first = executor.submit(read)
    first.result(SOON)
    Settings.word = "new"
    second = executor.submit(read)
    assert (first.result(SOON), second.result(SOON)) == ("old", "new")


def test_a_changed_callable_object_is_seen(executor):
    counter = calls.Counter(1)
    first = executor.submit(counter, 0)
    counter.value = 2
    second = executor.submit(counter, 0)
    assert (first.result(SOON), second.result(SOON)) == (1, 2)


def test_a_call_s_changes_to_its_closure_are_not_seen_by_the_next_call(single):
    seen = []

    def note():
        seen.append(1)
        return len(seen)

    assert [single.submit(note).result(SOON) for _ in range(3)] == [1, 1, 1]
    assert seen == []


def test_a_call_s_changes_to_a_counter_in_its_closure_are_not_seen_by_the_next_call(single):
    count = 0

    def increase():
        nonlocal count
        count += 1
        return count

    assert [single.submit(increase).result(SOON) for _ in range(3)] == [1, 1, 1]


def test_a_call_s_changes_to_a_default_argument_are_not_seen_by_the_next_call(single):
    def note(seen=[]):  # noqa: B006 - the mutable default is the point
        seen.append(1)
        return len(seen)

    assert [single.submit(note).result(SOON) for _ in range(3)] == [1, 1, 1]
    assert list(single.map(lambda _, note=note: note(), range(3))) == [1, 1, 1]


# --- functions of a script ---------------------------------------------------------------------


def test_a_script_s_functions_classes_and_globals_travel(run_script):
    printed = run_script("""
        import dataclasses, enum, math

        FACTOR = 3
        TABLE = {"a": 1}

        @dataclasses.dataclass
        class Point:
            x: int

        class Color(enum.Enum):
            RED = 1

        class MyError(Exception):
            pass

        def helper(x): return FACTOR * x
        def work(x): return helper(x) + math.floor(0.5) + TABLE["a"]
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def is_even(n): return True if n == 0 else is_odd(n - 1)
        def is_odd(n): return False if n == 0 else is_even(n - 1)
        def moved(point): return Point(point.x + 1)
        def fail(): raise MyError("mine")

        with NewExecutor(2) as ex:
            print(list(ex.map(work, range(3))))
            print(ex.submit(factorial, 10).result(), ex.submit(is_even, 10).result())
            point = ex.submit(moved, Point(1)).result()
            print(point == Point(2), type(point) is Point)
            print(ex.submit(lambda color: color, Color.RED).result() is Color.RED)
            try:
                ex.submit(fail).result()
            except MyError as error:
                print("caught", error)
    """)
    assert printed.splitlines() == ["[1, 4, 7]", "3628800 True", "True True", "True", "caught mine"]


def test_what_a_script_changes_between_submits_is_seen(run_script):
    printed = run_script("""
        word, words = "old", ["old"]
        def helper(): return "old"
        def read(): return word, words, helper(), late() if "late" in globals() else "no late"

        class Settings:
            word = "old"
        def read_class(): return Settings.word

        with NewExecutor(1) as ex:
            print(*ex.submit(read).result(), ex.submit(read_class).result())
            word = "new"
            print(*ex.submit(read).result())
            words.append("new")
            def helper(): return "new"
            def late(): return "late"
            Settings.word = "new"
            print(*ex.submit(read).result(), ex.submit(read_class).result())
    """)
    assert printed.splitlines() == [
        "old ['old'] old no late old",
        "new ['old'] old no late",
        "new ['old', 'new'] new late new",
    ]


def test_a_call_s_changes_to_a_script_s_globals_are_not_seen_by_the_next_call(run_script):
    printed = run_script("""
        count, seen = 0, []
        def increase():
            global count
            count += 1
            seen.append(count)
            return count, len(seen)

        with NewExecutor(1) as ex:
            print([ex.submit(increase).result() for _ in range(3)], list(ex.map(lambda _: increase(), range(2))))
        print(count, seen)
    """)
    assert printed.splitlines() == ["[(1, 1), (1, 1), (1, 1)] [(1, 1), (1, 1)]", "0 []"]


def test_a_script_needs_no_main_guard(run_script):
    assert run_script("print(list(NewExecutor(2).map(lambda x: x + 1, [1, 2])))") == "[2, 3]"


def test_a_script_may_import_modules_that_lie_beside_it(run_script, tmp_path):
    (tmp_path / "neighbour.py").write_text("def greet(name): return f'hello {name}'")
    assert run_script("import neighbour; print(NewExecutor(1).submit(neighbour.greet, 'you').result())") == "hello you"


def test_code_from_standard_input_works(kind):
    code = kind.preamble + "def f(x): return x + 1\nprint(NewExecutor(1).submit(f, 1).result())"
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=SOON, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_call_may_open_an_executor_of_its_own(kind, executor):
    def nested(n):
        with kind.new(1) as inner:
            return sum(inner.map(calls.double, range(n)))

    assert executor.submit(nested, 4).result(SOON) == 12
