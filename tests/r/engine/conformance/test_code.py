"""How code is run: a function with its arguments, a script with its variables, a function of R's by name."""

import numpy
import pytest

from cloudexec.errors import RError

pytestmark = pytest.mark.r


@pytest.mark.parametrize(
    ("code", "args", "kwargs", "value"),
    [
        pytest.param("function(x, k = 1) x + k", (1,), {}, 2.0, id="a function is called"),
        pytest.param("function(x, k = 1) x + k", (1,), {"k": 5}, 6.0, id="by name, too"),
        pytest.param("function(na.rm) na.rm", (), {"na.rm": True}, True, id="names with dots are R's names"),
        pytest.param("function(...) ...length()", ("a", "b", "c"), {}, 3, id="text is not one vector"),
        pytest.param("function(x) is.null(x)", (None,), {}, True, id="NULL is an argument like others"),
        pytest.param(
            "function(arg1, x, snippet) arg1 + x + snippet", (1,), {"x": 10, "snippet": 100}, 111, id="any name"
        ),
        pytest.param("a <- 2\nfunction(x) x * a", (4,), {}, 8.0, id="what stands before it is run"),
        pytest.param("f <- function(x) x\nf", (4,), {}, 4, id="also if the name of a function is the last line"),
        pytest.param("x + y", (), {"x": 1, "y": 2}, 3, id="a script has named arguments as variables"),
        pytest.param("x <- 5\nif (FALSE) x", (), {}, None, id="an invisible NULL"),
        pytest.param("", (), {}, None, id="no code at all"),
    ],
)
def test_code_gives(ask, code, args, kwargs, value):
    assert ask(code, *args, **kwargs).value == value


@pytest.mark.parametrize("name", ["stats::median", "median", "stats:::median.default"])
def test_a_function_is_called_by_name(ask, name):
    assert ask(name, numpy.array([3.0, 1.0, 2.0]), kind="call").value == 2.0


def test_a_script_takes_its_arguments_by_name_only(ask):
    with pytest.raises(RError, match="by name"):
        ask("1 + 1", 5)


def test_a_function_sees_names_for_its_arguments_and_not_their_values(ask):
    """`do.call(lm, list(data = df))` would write the whole table into the fit, and into every traceback."""
    assert ask("function(...) deparse(match.call())", 1.5, k=2).value == "snippet(arg1, k = k)"
    formula = ask("mpg ~ wt").value
    fit = ask("stats::lm", formula, kind="call", data=ask("mtcars").value).value
    assert ask("function(fit) deparse(fit$call)", fit).value == "stats::lm(formula = arg1, data = data)"


def test_arguments_that_are_code_are_not_run(ask):
    text = ask("quote(stop('run'))", returns="object").value
    assert ask("function(x) class(x)", text).value == "call"


def test_packages_are_attached(ask):
    assert ask("exists('randomForest')", packages=("randomForest",)).value is True


def test_text_sorts_the_same_everywhere_whatever_the_language_here_is(ask):
    found = ask("list(utf8 = l10n_info()$`UTF-8`, sorted = sort(c('b', 'A', 'a')))").value
    assert found["utf8"] is True
    assert list(found["sorted"]) == ["a", "A", "b"]


@pytest.mark.parametrize("text", ["naïve café", "日本語", "🦆"])
def test_text_of_every_language_goes_there_and_back(ask, capsys, text):
    assert ask("function(x) { cat(x); paste0(x, x) }", text).value == text + text
    assert capsys.readouterr().out == text


def test_a_call_sees_the_environment_that_python_has_then_and_its_own(ask, monkeypatch):
    monkeypatch.setenv("COLOUR", "red")
    code = "unname(Sys.getenv(c('COLOUR', 'MODEL_CONFIG', 'CLOUDEXEC_R_SCRATCH'), unset = NA))"
    assert list(ask(code, env={"MODEL_CONFIG": '{"k": 1}'}).value) == ["red", '{"k": 1}', None]
    monkeypatch.delenv("COLOUR")
    assert list(ask(code).value) == [None, None, None]


def test_a_call_runs_where_python_is(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("x\n7\n")
    assert ask("read.csv('data.csv')$x").value == 7


def test_files_that_a_call_writes_are_collected(ask):
    code = "dir.create('plots'); cat('1', file = 'plots/a.txt'); cat('2', file = 'b.log'); cat('3', file = 'c.txt'); 5"
    reply = ask(code, outputs=("plots/*", "*.log"))
    assert reply.value == 5.0
    assert reply.files == {"plots/a.txt": b"1", "b.log": b"2"}


def test_a_plot_that_nobody_asked_for_leaves_no_file(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask("plot(1); invisible(NULL)")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_of_r_has_nothing_of_ours(ask):
    assert list(ask("commandArgs(trailingOnly = TRUE)").value) == []
