"""What is special about the rpy2 engine; all else are the sentences of tests/r/engine/conformance, which it keeps."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cloudexec
from cloudexec import R
from cloudexec.errors import RCrashed, RMissing, RTimeout
from cloudexec.r import engines
from cloudexec.r.engines import Request
from cloudexec.r.rpy2.engine import Rpy2Engine, command_of
from cloudexec.r.rscript.families import family, has_ended

pytestmark = pytest.mark.r("rpy2")

PARENT = 'as.integer(strsplit(sub(".*\\\\) ", "", readLines("/proc/self/stat")), " ")[[1]][2])'
SOURCES = str(Path(cloudexec.__file__).parents[1])


@pytest.fixture(scope="module")
def fork():
    """One for all tests here: whatever they do to it, it can be used again."""
    engine = Rpy2Engine(isolation="fork")
    yield engine
    engine.close()


def value(engine, code, **settings):
    return engine.run(Request(code=code, **settings)).value


def gone_within(pid, limit_s):
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s and not has_ended(pid):
        time.sleep(0.02)
    return has_ended(pid)


def told_by(*words):
    """What a Python of its own prints."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, timeout=50).stdout


def test_forked_calls_come_from_one_python_that_embeds_r(fork):
    first, second = value(fork, f"c(Sys.getpid(), {PARENT})"), value(fork, f"c(Sys.getpid(), {PARENT})")
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert b"python" in Path(f"/proc/{second[1]}/cmdline").read_bytes()


CODES = [
    "interactive()",
    "list(Sys.getlocale('LC_COLLATE'), sort(c('b', 'A', 'a', 'é')), nchar('é'))",
    "set.seed(1); rnorm(3)",
    "as.POSIXct('2024-03-31 02:30:00')",
    ".libPaths()",
    "search()",
    "getOption('warn')",
    "unlist(options('encoding', 'OutDec', 'scipen', 'digits', 'stringsAsFactors', 'menu.graphics'))",
    "names(Sys.getenv())",
    "R.home()",
    "basename(tempdir()) == list.files(dirname(tempdir()))",
    "summary(lm(mpg ~ wt, mtcars))$coefficients",
    "loadedNamespaces() |> sort()",
    "capture.output(str(mtcars))",
]


@pytest.mark.parametrize("code", CODES)
def test_the_code_cannot_tell_which_engine_runs_it(code):
    ours = engines.run(Request(code=code), engine="rpy2", isolation="fork").value
    theirs = engines.run(Request(code=code), engine="rscript", isolation="fork").value
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_the_signal_that_ended_a_forked_call_is_told(fork, number):
    with pytest.raises(RCrashed) as caught:
        value(fork, f"tools::pskill(Sys.getpid(), {int(number)}); Sys.sleep(10)")
    assert (caught.value.exit_code, caught.value.signal) == (None, number)
    assert value(fork, "1 + 1") == 2.0


def test_a_process_of_its_own_ends_with_the_call():
    process = Rpy2Engine(isolation="process")
    assert gone_within(value(process, "Sys.getpid()"), 0)
    with pytest.raises(RCrashed) as caught:
        value(process, "quit(status = 4)")
    assert caught.value.exit_code == 4
    with pytest.raises(RTimeout):
        value(process, "repeat {}", timeout_s=0.3)


def test_an_r_that_was_killed_while_it_was_idle_is_replaced(fork):
    pid = value(fork, PARENT)
    os.kill(pid, signal.SIGKILL)
    assert gone_within(pid, 5)
    assert value(fork, "1 + 1") == 2.0


def test_ctrl_c_reaches_r_too_and_changes_nothing(fork):
    resident = value(fork, PARENT)
    os.kill(resident, signal.SIGINT)
    assert value(fork, "tools::pskill(Sys.getpid(), 2); Sys.sleep(0.05); system('sleep 0.05')") == 0
    assert value(fork, PARENT) == resident


def test_a_program_that_writes_into_a_closed_pipe_ends(fork):
    assert value(fork, "system('yes | head -1', intern = TRUE)") == "y"


DEAD_PYTHON = """
from cloudexec.r.engines import Request, run
run(Request(code="cat(Sys.getpid(), '\\n', sep = ''); repeat {}"), engine="rpy2", isolation="fork")
"""


def test_when_python_is_killed_r_ends_with_its_call():
    with subprocess.Popen([sys.executable, "-c", DEAD_PYTHON], stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout is not None
        pid = int(python.stdout.readline())
        descendants = family(python.pid).living
        assert pid in descendants
        python.kill()
        assert all(gone_within(each, 10) for each in descendants)


LOADED = """
import sys
from cloudexec import R
f = R("function(x) x + 1", engine="rpy2")
print(f(1), R("function(x) x + 1")(2), [name for name in sys.modules if name.split(".")[0] == "rpy2"])
"""


def test_rpy2_is_never_loaded_into_the_process_that_calls():
    assert told_by("-c", LOADED) == "2.0 3.0 []\n"


WITHOUT = """
import sys
sys.path.insert(0, sys.argv[1])
from cloudexec import R
from cloudexec.errors import RMissing
from cloudexec.r import RObject
for act in (R("1", engine="rpy2"), RObject(data=b"X\\n").to_rpy2):
    try:
        act()
    except RMissing as error:
        print(error)
"""


def test_without_rpy2_the_error_says_how_to_install_it():
    told = told_by("-I", "-S", "-c", WITHOUT, SOURCES).splitlines()
    assert len(told) == 2
    assert all("rpy2 is not installed here" in line for line in told)
    assert all("pip install 'cloudexec[rpy2]'" in line for line in told)


def test_an_rpy2_that_this_r_cannot_load_is_told_with_the_version_that_it_can(tmp_path, monkeypatch):
    package = tmp_path / "rpy2" / "rinterface"
    package.mkdir(parents=True)
    (tmp_path / "rpy2" / "__init__.py").touch()
    (package / "__init__.py").write_text("raise ImportError('libR.so: undefined symbol: R_getVar')")
    monkeypatch.syspath_prepend(str(tmp_path))
    version = tuple(engines.run(Request(code="as.integer(unlist(getRversion()))")).value)
    pin = "rpy2-rinterface==3.6.5" if version < (4, 5) else "--upgrade"
    with pytest.raises(RMissing, match=f"undefined symbol: R_getVar.*{pin}"):
        value(Rpy2Engine(isolation="fork"), "1")


def test_without_r_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDEXEC_RSCRIPT", "/nonexistent/Rscript")
    with pytest.raises(RMissing, match="CLOUDEXEC_RSCRIPT=/nonexistent/Rscript"):
        R("1", engine="rpy2")()
    with pytest.raises(RMissing, match="no R beside"):
        command_of(str(tmp_path / "Rscript"))
