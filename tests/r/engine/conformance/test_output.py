"""What a call says: output as it comes, warnings, random numbers."""

import sys
import time

import pytest

from cloudexec.errors import RCrashed

pytestmark = pytest.mark.r


def test_output_of_r_and_of_its_children_goes_where_pythons_goes(ask, capsys):
    ask("cat('one\\n'); print(2); system('echo three; echo four >&2'); message('five')")
    said = capsys.readouterr()
    assert said.out == "one\n[1] 2\nthree\n"
    assert said.err == "four\nfive\n"


def test_output_comes_while_the_call_runs(ask, monkeypatch):
    class Clock:
        """A stream that notes when it is written to."""

        def __init__(self):
            self.times = {}

        def write(self, text):
            self.times[text] = time.monotonic()

        def flush(self):
            pass

    clock = Clock()
    monkeypatch.setattr(sys, "stdout", clock)
    ask("cat('first'); Sys.sleep(0.6); cat('second')")
    assert clock.times["second"] - clock.times["first"] > 0.4


def test_much_output_is_passed_on_whole(ask, capsys):
    ask("line <- paste(rep('x', 99), collapse = ''); for (i in 1:1000) writeLines(rep(line, 100))")
    assert len(capsys.readouterr().out) == 10_000_000


def test_a_crash_keeps_the_last_words(ask, capsys):
    with pytest.raises(RCrashed) as caught:
        ask("cat('step 1\\n'); cat('step 2\\n'); quit(status = 9)")
    assert caught.value.exit_code == 9
    assert caught.value.output == "step 1\nstep 2\n"
    assert capsys.readouterr().out == "step 1\nstep 2\n"


def test_a_closed_stream_of_pythons_costs_no_result(ask, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert ask("cat('into nothing'); 1").value == 1.0


def test_code_that_reads_its_input_finds_nothing(ask):
    assert list(ask("readLines(file('stdin'))").value) == []
    assert ask("readline('name? ')").value == ""


@pytest.mark.parametrize(
    ("code", "warned"),
    [
        pytest.param("warning('w')", [("w", "")], id="at the top"),
        pytest.param("f <- function() warning('w'); f(); f()", [("w", "f()"), ("w", "f()")], id="in a function, twice"),
        pytest.param("as.integer('x')", [("NAs introduced by coercion", "")], id="R's own"),
        pytest.param("warning('w', call. = FALSE)", [("w", "")], id="without a call"),
        pytest.param("suppressWarnings(warning('w'))", [], id="suppressed"),
        pytest.param("options(warn = -1); warning('w')", [], id="switched off"),
        pytest.param(
            "withCallingHandlers(warning('w'), warning = function(w) invokeRestart('muffleWarning'))", [], id="handled"
        ),
    ],
)
def test_warnings_are_collected(ask, capsys, code, warned):
    reply = ask(f"{code}; 1")
    assert [(each.message, each.call) for each in reply.warnings] == warned
    assert reply.value == 1.0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("runif(1)", True),
        ("sample(3)", True),
        ("1 + 1", False),
        ("set.seed(1); runif(1)", False),
    ],
)
def test_random_numbers_without_a_seed_are_noticed(ask, code, used):
    assert ask(code).used_rng is used


def test_a_stream_of_random_numbers_is_the_calls_generator(ask):
    seed = (10407, 1, 2, 3, 4, 5, 6)
    first, second = ask("list(runif(2), RNGkind()[1])", seed=seed), ask("list(runif(2), RNGkind()[1])", seed=seed)
    assert first.value[0].tolist() == second.value[0].tolist()
    assert first.value[1] == "L'Ecuyer-CMRG"
    assert not first.used_rng
    assert ask("RNGkind()[1]").value == "Mersenne-Twister"
    assert ask("runif(2)").value.tolist() != ask("runif(2)").value.tolist()
