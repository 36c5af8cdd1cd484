"""The rscript engine as processes: what is shared, what dies with whom, what is left."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudexec import LocalExecutor, R
from cloudexec.errors import RCrashed, RError, RMissing, RTimeout
from cloudexec.r import engines
from cloudexec.r.engines import Request
from cloudexec.r.rscript.engine import RscriptEngine
from cloudexec.r.rscript.families import family, has_ended

pytestmark = pytest.mark.r

PARENT = 'as.integer(strsplit(sub(".*\\\\) ", "", readLines("/proc/self/stat")), " ")[[1]][2])'


@pytest.fixture(scope="module")
def fork():
    """One for all tests here: whatever they do to it, it can be used again."""
    engine = RscriptEngine(isolation="fork")
    yield engine
    engine.close()


@pytest.fixture
def process():
    return RscriptEngine(isolation="process")


def value(engine, code, **settings):
    return engine.run(Request(code=code, **settings)).value


def gone_within(pid, limit_s):
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s and not has_ended(pid):
        time.sleep(0.02)
    return has_ended(pid)


@pytest.mark.parametrize(
    "code",
    ["x_from_before <- 1", "library(randomForest)", "options(digits = 3)", "set.seed(1)", "Sys.setenv(LEFT = 'x')"],
)
def test_a_forked_call_changes_nothing_for_the_next(fork, code):
    state = "list(ls(), search(), getOption('digits'), exists('.Random.seed'), Sys.getenv('LEFT'))"
    before = repr(value(fork, state))
    value(fork, code)
    assert repr(value(fork, state)) == before


def test_a_session_keeps_what_a_call_did():
    engine = RscriptEngine(isolation="session")
    try:
        value(engine, "kept <<- 5")
        assert value(engine, "kept") == 5.0
        with pytest.raises(RCrashed):
            value(engine, "quit()")
        assert value(engine, "exists('kept')") is False
    finally:
        engine.close()


def test_forked_calls_come_from_one_r_that_stays(fork):
    first, second = value(fork, f"c(Sys.getpid(), {PARENT})"), value(fork, f"c(Sys.getpid(), {PARENT})")
    assert first[1] == second[1]
    assert first[0] != second[0]


def test_a_process_of_its_own_ends_with_the_call(process):
    pid = value(process, "Sys.getpid()")
    assert gone_within(pid, 0)
    with pytest.raises(RCrashed) as caught:
        value(process, "quit(status = 4)")
    assert caught.value.exit_code == 4
    with pytest.raises(RTimeout):
        value(process, "repeat {}", timeout_s=0.3)
    assert value(process, "1 + 1") == 2.0


def test_packages_that_do_not_survive_a_fork_have_a_process_each(monkeypatch):
    engine = RscriptEngine(isolation="fork", packages=("reticulate",))
    assert engine.isolation == "process"


def test_what_a_call_leaves_running_is_killed(fork, tmp_path):
    assert value(fork, f"system('sleep 100 & echo $! > {tmp_path}/pid'); 1") == 1.0
    assert gone_within(int((tmp_path / "pid").read_text()), 1)


def test_what_c_code_prints_is_not_lost_when_the_child_leaves(fork, capsys):
    """It waits in a buffer of the C library's, which a forked R does not write out by itself."""
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    value(fork, f"dyn.load('{libc}'); invisible(.C('puts', c(charToRaw('from C'), as.raw(0)))); 1")
    assert capsys.readouterr().out == "from C\n"


def test_the_time_limit_kills_what_the_call_has_started(fork, tmp_path):
    with pytest.raises(RTimeout):
        value(fork, f"system('echo $$ > {tmp_path}/pid; exec sleep 100')", timeout_s=1)
    assert gone_within(int((tmp_path / "pid").read_text()), 1)


def test_ctrl_c_kills_the_call_and_not_r(fork, capsys):
    resident = value(fork, PARENT)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        started_s = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            value(fork, "cat('deaf'); tryCatch(repeat {}, interrupt = function(e) repeat {})")
        assert time.monotonic() - started_s < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert value(fork, PARENT) == resident


def test_an_r_that_was_killed_while_it_was_idle_is_replaced(fork):
    pid = value(fork, PARENT)
    os.kill(pid, signal.SIGKILL)
    assert gone_within(pid, 5)
    assert value(fork, "1 + 1") == 2.0


def test_a_call_that_kills_its_r_is_told_so(fork):
    with pytest.raises(RCrashed):
        value(fork, f"tools::pskill({PARENT}, 9); Sys.sleep(100)")
    assert value(fork, "1 + 1") == 2.0


def test_temporary_files_of_a_call_go_with_it(fork):
    path = Path(value(fork, "f <- tempfile(); cat('x', file = f); d <- tempfile('dir'); dir.create(d); f"))
    assert not path.exists()
    assert list(path.parent.iterdir()) == []
    with pytest.raises(RCrashed):  # R removes the directory when it crashes
        value(fork, "tools::pskill(Sys.getpid(), 11)")
    assert value(fork, "f <- tempfile(); cat('x', file = f); readLines(f, warn = FALSE)") == "x"


def test_closing_an_engine_leaves_no_process_and_no_file():
    fork = RscriptEngine(isolation="fork")
    pid, directory = value(fork, PARENT), Path(value(fork, "dirname(dirname(tempdir()))"))
    assert directory.name.startswith("cloudexec-r-")
    fork.close()
    assert gone_within(pid, 0)
    assert not directory.exists()


DEAD_PYTHON = """
import os, sys
from cloudexec.r.engines import Request, run
code = "cat(Sys.getpid(), '\\n', sep = ''); cat(dirname(dirname(tempdir())), '\\n', sep = ''); repeat {}"
run(Request(code=code), isolation=sys.argv[1])
"""


@pytest.mark.parametrize("isolation", ["fork", "session", "process"])
def test_when_python_is_killed_r_ends_with_its_call(isolation):
    with subprocess.Popen([sys.executable, "-c", DEAD_PYTHON, isolation], stdout=subprocess.PIPE, text=True) as python:
        assert python.stdout is not None
        pid, directory = int(python.stdout.readline()), Path(python.stdout.readline().strip())
        descendants = family(python.pid).living
        assert pid in descendants
        python.kill()
        assert all(gone_within(each, 10) for each in descendants)
    assert isolation != "fork" or gone(directory, 5)
    shutil.rmtree(directory, ignore_errors=True)  # else the next process would sweep it, after a minute


def gone(directory, limit_s):
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s and directory.exists():
        time.sleep(0.02)
    return not directory.exists()


def test_each_thread_has_an_r_to_itself():
    barrier = threading.Barrier(2)

    def resident():
        barrier.wait(30)
        return engines.run(Request(code=f"Sys.sleep(0.5); {PARENT}"), engine="rscript", isolation="fork").value

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(resident), threads.submit(resident)
    assert first.result() != second.result()


def test_a_fork_of_python_starts_an_r_of_its_own_and_leaves_ours_alone():
    ask = Request(code=PARENT)
    ours = engines.run(ask, engine="rscript", isolation="fork").value
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, str(engines.run(ask, engine="rscript", isolation="fork").value).encode())
            engines.close()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        theirs = int(pipe.read())
    os.waitpid(child, 0)
    assert theirs != ours
    assert has_ended(theirs)
    assert engines.run(ask, engine="rscript", isolation="fork").value == ours


def test_a_slot_keeps_its_r_from_call_to_call_and_takes_it_along():
    resident = R(PARENT)
    with LocalExecutor(max_workers=1) as executor:
        pids = {executor.submit(resident).result() for _ in range(3)}
    assert len(pids) == 1
    assert gone_within(pids.pop(), 10)


def test_the_time_limit_of_a_call_ends_r_with_its_slot():
    with LocalExecutor(max_workers=1) as executor:
        future = executor.with_options(timeout_s=1).submit(R("repeat {}"))
        with pytest.raises(TimeoutError):
            future.result()
        assert executor.submit(R("1 + 1")).result() == 2.0


@pytest.mark.parametrize(
    ("variables", "absent"),
    [
        pytest.param({"LANG": "C", "LC_ALL": "C"}, (), id="LANG=C"),
        pytest.param({"HOME": "/nonexistent"}, ("HOME",), id="no home"),
        pytest.param({}, ("HOME", "LANG", "TZ", "USER"), id="hardly any environment"),
    ],
)
def test_r_starts_in_poor_surroundings(monkeypatch, capsys, variables, absent):
    for name in absent:
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    engine = RscriptEngine(isolation="fork")
    try:
        assert value(engine, "cat('é'); 'ü'") == "ü"
        assert capsys.readouterr().out == "é"
    finally:
        engine.close()


def test_r_runs_where_it_may_not_write(fork, tmp_path, monkeypatch):
    monkeypatch.chdir("/proc")  # nobody can write there, root neither
    assert value(fork, "plot(1); getwd()") == "/proc"


def test_r_runs_where_the_directory_is_gone(fork, tmp_path, monkeypatch):
    here = tmp_path / "gone"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert value(fork, "1 + 1") == 2.0


def test_without_r_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("CLOUDEXEC_RSCRIPT", "/nonexistent/Rscript")
    with pytest.raises(RMissing, match="CLOUDEXEC_RSCRIPT=/nonexistent/Rscript") as caught:
        engines.run(Request(code="1"), engine="rscript", isolation="fork")
    assert "apt-get install" in str(caught.value)
    monkeypatch.delenv("CLOUDEXEC_RSCRIPT")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("R_HOME", raising=False)
    with pytest.raises(RMissing, match="no Rscript on PATH"):
        engines.run(Request(code="1"), engine="rscript", isolation="fork")


def test_an_r_that_does_not_start_is_quoted(tmp_path):
    broken = tmp_path / "Rscript"
    broken.write_text("#!/bin/sh\necho 'libR.so: cannot open shared object file' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(RMissing, match=r"libR\.so: cannot open shared object file"):
        value(RscriptEngine(isolation="fork", rscript=str(broken)), "1")


def test_a_package_that_does_not_load_is_quoted(tmp_path, monkeypatch):
    package = tmp_path / "brokenpackage"
    (package / "R").mkdir(parents=True)
    (package / "DESCRIPTION").write_text("Package: brokenpackage\nVersion: 1.0\nTitle: T\n")
    monkeypatch.setenv("R_LIBS", str(tmp_path))
    engine = RscriptEngine(isolation="fork", packages=("brokenpackage",))
    with pytest.raises(RError, match="brokenpackage"):
        value(engine, "1", packages=("brokenpackage",))


def test_an_r_may_start_slowly_but_not_for_ever(tmp_path, monkeypatch):
    from cloudexec.r.rscript import launching

    slow = tmp_path / "Rscript"
    slow.write_text("#!/bin/sh\necho 'still loading' >&2\nsleep 100\n")
    slow.chmod(0o755)
    monkeypatch.setattr(launching, "START_S", 0.5)
    with pytest.raises(RMissing, match=r"not ready after 0.5 s; it said: still loading"):
        value(RscriptEngine(isolation="fork", rscript=str(slow)), "1")
