"""What can go wrong, each with an error of its own; the next call is unharmed."""

import contextlib
import os
import pickle

import pytest

from cloudexec.errors import RConversionError, RCrashed, RError, RPackageMissing, RTimeout
from cloudexec.r import RObject

pytestmark = pytest.mark.r

CODE = """helper <- function(k) {
  if (k < 0) {
    stop("k must not be negative")
  }
  k
}
function(k) {
  warning("be careful")
  helper(k)
}
"""

FAULTS = {
    "an error": ("stop('no')", RError, "no"),
    "a condition of one's own": (
        "stop(structure(class = c('mine', 'error', 'condition'), list(message = 'm', call = NULL)))",
        RError,
        "m",
    ),
    "a syntax error": ("x <- (1 +\n\n", RError, "unexpected end of input"),
    "a warning made an error": ("options(warn = 2); as.integer('x')", RError, "converted from warning"),
    "infinite recursion": ("f <- function() f(); f()", RError, "stack usage|infinite recursion"),
    "too much memory at once": ("numeric(1e15)", RError, "cannot allocate"),
    "quit": ("cat('bye'); quit(status = 3)", RCrashed, r"quit\(status = 3\)"),
    "q": ("q('no')", RCrashed, r"quit\(status = 0\)"),
    "a crash": ("tools::pskill(Sys.getpid(), 11)", RCrashed, "SIGSEGV"),
    "killed": ("tools::pskill(Sys.getpid(), 9)", RCrashed, "memory"),
    "a missing package": ("library(nosuchpackage)", RPackageMissing, "nosuchpackage"),
    "a missing namespace": ("nosuchpackage::f()", RPackageMissing, "nosuchpackage"),
    "a dead pointer": ("xml2::read_xml('<a/>')", RConversionError, "external pointer"),
}


@pytest.mark.parametrize(("code", "error", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_and_the_next_call_is_unharmed(ask, code, error, words):
    with pytest.raises(error, match=words) as caught:
        ask(code)
    assert type(caught.value) is error
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert ask("1 + 1").value == 2.0


@pytest.mark.parametrize(
    "code",
    ["repeat {}", "Sys.sleep(100)", "system('sleep 100')", "tryCatch(repeat {}, finally = repeat {})"],
)
def test_what_does_not_end_is_ended(ask, code):
    with pytest.raises(RTimeout, match=r"timeout_s=0.3"):
        ask(f"cat('begun'); {code}", timeout_s=0.3)
    assert ask("1 + 1", timeout_s=30).value == 2.0


@pytest.mark.parametrize(
    "leftover",
    [
        "options(warn = 2)",
        "sink(tempfile())",
        "sink(file(tempfile(), 'w'), type = 'message')",
        "setwd(tempdir())",
        "closeAllConnections()",
        "on.exit(stop('late'))",
        "pdf(NULL)",
        "Sys.setenv(MINE = 1)",
        "trace('sum', quote(1), print = FALSE)",
    ],
)
def test_what_a_call_leaves_behind_does_not_break_the_next(ask, capfd, leftover):
    with contextlib.suppress(RError):  # one of them fails itself
        ask(f"{leftover}; 1")
    reply = ask("cat('out'); message('err'); as.integer('x'); getwd()")
    assert [each.message for each in reply.warnings] == ["NAs introduced by coercion"]
    assert capfd.readouterr().out.endswith("out")
    assert reply.value == os.getcwd()


def test_an_error_has_everything_that_r_knows(ask):
    with pytest.raises(RError) as caught:
        ask(f"cat('so far'); 1\n{CODE}", k=-1, name="model.R")
    error = caught.value
    assert error.message == "k must not be negative"
    assert error.classes == ("simpleError", "error", "condition")
    assert error.call == "helper(k)"
    assert [(frame.line, frame.text) for frame in error.traceback] == [
        (8, "snippet(k = k)"),
        (10, "helper(k)"),
        (4, 'stop("k must not be negative")'),
    ]
    assert error.warnings == ("be careful (in snippet(k = k))",)
    assert error.output == "so far"
    assert "R version" in error.session
    assert isinstance(error.condition, RObject)
    assert error.condition.r_class == error.classes
    assert str(error).startswith("k must not be negative (in helper(k)), at model.R, line 4")


def test_a_condition_of_ones_own_can_be_looked_at_by_another_call(ask):
    code = "stop(structure(class = c('mine', 'error', 'condition'), list(message = 'm', call = NULL, extra = 42)))"
    with pytest.raises(RError) as caught:
        ask(code)
    assert caught.value.classes == ("mine", "error", "condition")
    assert ask("function(e) e$extra", caught.value.condition).value == 42.0


@pytest.mark.parametrize(
    ("code", "line", "text"),
    [
        pytest.param("x <- 1\n\nstop('here')", 3, 'stop("here")', id="at the top of a script"),
        pytest.param("x <- 1\nlog(-1 +)\n", 2, "log(-1 +)", id="a syntax error"),
        pytest.param("f <- function(x) stop('deep')\n\nf(1)", 1, 'stop("deep")', id="in a function of one line"),
        pytest.param(
            "sapply(1:2, function(i) {\n  stop('each')\n})", 2, 'stop("each")', id="in a function given to sapply"
        ),
        pytest.param("library(nosuchpackage)", None, None, id="inside R itself"),
    ],
)
def test_an_error_names_its_line(ask, code, line, text):
    with pytest.raises(RError) as caught:
        ask(code)
    last = caught.value.traceback[-1]
    assert last.line == line
    assert text is None or last.text == text


def test_the_stack_of_endless_recursion_is_cut_or_gone_but_says_where_it_began(ask):
    with pytest.raises(RError) as caught:
        ask("f <- function(n) f(n + 1)\n\nf(1)")
    assert caught.value.traceback[0].line == 3
    assert len(caught.value.traceback) < 100


def test_all_packages_that_are_missing_are_named(ask):
    with pytest.raises(RPackageMissing) as caught:
        ask("1", packages=("nosuchpackage", "stats", "neitherthis"))
    assert caught.value.packages == ("nosuchpackage", "neitherthis")
    with pytest.raises(RPackageMissing) as caught:
        ask("library(nosuchpackage)")
    assert caught.value.packages == ("nosuchpackage",)


def test_an_error_that_the_code_handles_is_no_error(ask):
    assert ask("tryCatch(stop('x'), error = function(e) 'handled')").value == "handled"
    assert ask("try(stop('x'), silent = TRUE); 5").value == 5.0


def test_an_argument_that_is_large_does_not_make_the_error_large(ask):
    with pytest.raises(RError) as caught:
        ask("function(x) do.call(sqrt, list(list(x)))", list(range(50_000)))
    assert all(len(frame.text) < 200 for frame in caught.value.traceback)
    assert len(str(caught.value)) < 3000
