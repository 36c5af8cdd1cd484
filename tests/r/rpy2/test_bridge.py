"""Objects of rpy2's as arguments, and back. The R that it embeds lives in a slot of a LocalExecutor, not in pytest."""

import subprocess
import sys

import pytest

from cloudexec import LocalExecutor, R
from cloudexec.errors import RConversionError
from cloudexec.r import RObject
from cloudexec.r.rpy2 import bridge

pytestmark = pytest.mark.r("rpy2")


@pytest.fixture(scope="module")
def there():
    """Run a function in one process, the same for all tests here."""
    with LocalExecutor(max_workers=1) as executor:

        def run(function, *args):
            return executor.submit(function, *args).result()

        run(start)
        yield run


def start():
    RObject(data=b"X\n\0\0\0\x02\0\4\2\2\0\2\3\0\0\0\0\xfe").to_rpy2()  # R's NULL


def in_r(code):
    from rpy2 import robjects

    return robjects.r(code)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("c(1.5, NA, NaN, Inf)", id="numbers"),
        pytest.param("c(1L, NA)", id="integers, one missing"),
        pytest.param("c(TRUE, NA)", id="logical"),
        pytest.param("c('é', NA)", id="text"),
        pytest.param("as.raw(0:255)", id="bytes"),
        pytest.param("c(a = 1, b = 2)", id="names"),
        pytest.param("matrix(1:6, 2, dimnames = list(NULL, letters[1:3]))", id="a matrix"),
        pytest.param("factor(c('b', NA, 'a'))", id="a factor"),
        pytest.param("as.Date('2024-02-29')", id="a date"),
        pytest.param("as.POSIXct('2024-02-29', tz = 'Europe/Rome')", id="a time"),
        pytest.param("data.frame(x = 1:2, y = c('a', NA))", id="a data frame"),
        pytest.param("list(a = 1, b = list(2L, NULL))", id="a list"),
        pytest.param("quote(f(x, y = 1))", id="a call"),
        pytest.param("as.name('letters')", id="a name"),
        pytest.param("quote(stop('evaluated'))", id="a call that must not be evaluated"),
        pytest.param("expression(x, 1)", id="an expression"),
        pytest.param("y ~ x | z", id="a formula"),
        pytest.param("function(x, ...) x + 1", id="a function"),
        pytest.param("lm(mpg ~ wt, mtcars)$coefficients", id="a part of a model"),
        pytest.param("{ setClass('P', representation(x = 'numeric'), where = globalenv()); new('P', x = 1) }", id="S4"),
    ],
)
def test_an_object_arrives_as_it_is_and_comes_back(there, code):
    def send():
        found = bridge.portable(in_r(code))
        assert type(found) is RObject
        assert bridge.portable(found.to_rpy2()) == found
        return found

    identical = R(f"""function(x) {{
      expected <- eval(quote({code}), globalenv())
      identical(x, expected, ignore.srcref = TRUE, ignore.bytecode = TRUE)
    }}""")
    assert identical(there(send)) is True


def test_a_model_keeps_its_class_and_works_where_it_arrives(there):
    model = there(lambda: bridge.portable(in_r("lm(mpg ~ wt, mtcars)")))
    assert model.r_class == ("lm",)
    assert "wt" in model.head
    assert R("function(m) predict(m, data.frame(wt = 3))[[1]]")(model) == pytest.approx(21.25, abs=0.01)


def test_objects_are_found_at_any_depth_and_all_else_stays_what_it_is(there):
    def send():
        from rpy2 import rinterface

        vector = in_r("1:2")
        given = {"a": [vector, (vector, rinterface.NULL)], "b": "text", "c": [1, None]}
        found = bridge.portable(given)
        assert given["a"][0] is vector
        assert found["c"] is given["c"]
        assert list(found) == ["a", "b", "c"]
        first, (second, nothing) = found["a"]
        return first.to_python().tolist(), second == first, nothing, found["b"], type(found["a"][1]) is tuple

    assert there(send) == ([1, 2], True, None, "text", True)


def test_a_value_without_objects_of_rpy2_is_the_same_value(there):
    def send():
        loop = [1]
        loop.append(loop)
        deep = []
        for _ in range(5000):
            deep = [deep]
        values = [1, "x", None, [1, (2, {"a": 3})], {"a": object}, loop, deep, {1, 2}, 1 + 2j]
        return [bridge.portable(each) is each for each in values]

    assert all(there(send))


@pytest.mark.parametrize("name", ["Integer", "Logical", "Real", "Complex", "Character"])
def test_what_is_missing_in_rpy2_is_missing_in_r(there, name):
    def send():
        from rpy2 import rinterface

        return bridge.portable(getattr(rinterface, f"NA_{name}"))

    kinds = {"Real": "double"}
    found = there(send)
    assert R("function(x) list(typeof(x), is.na(x))")(found) == [kinds.get(name, name.lower()), True]


def test_an_argument_that_is_dead_elsewhere_is_refused_by_name(there):
    def send():
        call = R("function(x, k) 1")
        with pytest.raises(RConversionError, match="external pointer") as caught:
            call.__cloudexec_arguments__((1,), {"k": [in_r("xml2::read_xml('<a/>')")]})
        return caught.value.path

    assert there(send) == "kwargs['k'][0]"


def test_a_call_takes_them_in_the_process_where_they_are(there):
    def send():
        return R("function(f, x) f(x)")(in_r("function(x) sum(x)"), x=in_r("c(1, 2.5)"))

    assert there(send) == 3.5


def test_large_data_goes_both_ways_quickly(there):
    def send():
        import time

        vector = in_r("as.numeric(1:1e6)")
        began_s = time.process_time()
        found = bridge.portable(vector)
        back = found.to_rpy2()
        return time.process_time() - began_s, len(found.data) > 8e6, back[999_999]

    took_s, is_whole, last = there(send)
    assert (is_whole, last) == (True, 1e6)
    assert took_s < 3  # an element at a time it would be minutes


def test_threads_may_send_objects_too(there):
    def send():
        from concurrent.futures import ThreadPoolExecutor

        vector = in_r("1:3")
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(bridge.portable, [vector] * 20))
            back = list(threads.map(RObject.to_rpy2, found))
        return len({each.data for each in found}), {type(each).__name__ for each in back}

    assert there(send) == (1, {"IntVector"})


def test_to_rpy2_gives_what_robjects_has_for_it(there):
    def kinds(objects):
        return [type(each.to_rpy2()).__name__ for each in objects]

    codes = ["1:2", "c(a = 'x')", "mtcars", "factor('a')", "function(x) x", "y ~ x", "globalenv()", "matrix(1)"]
    objects = [R(f"function() {code}", returns="object")() for code in codes]
    assert there(kinds, objects) == [
        "IntVector", "StrVector", "DataFrame", "FactorVector", "SignatureTranslatedFunction", "Formula", "Environment",
        "FloatMatrix",
    ]  # fmt: skip


def test_bytes_that_are_no_object_are_refused(there):
    def send():
        with pytest.raises(RConversionError, match="R cannot read"):
            RObject(data=b"X\n\0\0\0\x02damaged").to_rpy2()

    there(send)


def test_endless_recursion_in_that_r_is_an_error_and_python_lives(there):
    def send():
        with pytest.raises(Exception, match=r"stack usage|infinite recursion"):
            in_r("f <- function() f(); f()")
        return in_r("1 + 1")[0]

    assert there(send) == 2.0


WHOLE = """
import signal, sys
def mine(*_): pass
signal.signal(signal.SIGINT, mine)
from cloudexec import LocalExecutor, R
fit = R("lm(mpg ~ wt, mtcars)")()
model = fit.to_rpy2()
assert signal.getsignal(signal.SIGINT) is mine
from rpy2 import robjects
with LocalExecutor(max_workers=1) as executor:
    future = executor.submit(R("function(m, x) predict(m, x)[[1]]"), model, x=robjects.r("data.frame(wt = 3)"))
    print(round(future.result(), 2))
"""


def test_an_executor_takes_them_and_ctrl_c_stays_the_users_own():
    done = subprocess.run([sys.executable, "-c", WHOLE], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.splitlines()[-1:] == ["21.25"], done.stderr
