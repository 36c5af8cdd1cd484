"""A command as a value, and as a child process of whoever calls it."""

import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from cloudexec import Command, CommandResult, LocalExecutor
from cloudexec.command import MOST_LOG_BYTES, last_lines
from cloudexec.errors import CallStopped, CommandFailed, SettingsError


def python(code, *args, **settings):
    """A command that runs a piece of Python."""
    return Command([sys.executable, "-c", code, *args], **settings)


def a_result(**changes):
    return replace(CommandResult(exit_code=0, created_s=1.0, started_s=3.5, stopped_s=10.0, log=""), **changes)


# --- the value -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says", "remedy"),
    [
        pytest.param({"args": "python a.py"}, "is one text", "shlex.split", id="a text instead of words"),
        pytest.param({"args": b"python"}, "is one text", "shlex.split", id="bytes instead of words"),
        pytest.param({"args": ["python", 3]}, "the argument 3", "give str", id="a word that is a number"),
        pytest.param({"args": ["a\0b"]}, "is not a text", "give str", id="a word with a zero byte"),
        pytest.param({}, "runs nothing", "give the program", id="nothing to run"),
        pytest.param({"args": ["a"], "env": {"A": 1}}, "env['A']=1 is not text", "str", id="a number in env"),
        pytest.param({"args": ["a"], "env": ["A=1"]}, "is not a mapping", "a dict", id="env as a list"),
        pytest.param({"args": ["a"], "env": {"A=B": "1"}}, "is not a name", "", id="a name with ="),
        pytest.param({"args": ["a"], "env": {"A": "1\0"}}, "zero byte", "", id="a value with a zero byte"),
        pytest.param({"task_definition": "a", "image": "b"}, "both", "give one", id="definition and image"),
        pytest.param({"args": ["a"], "container": "c"}, "container='c'", "add task_def", id="container of nothing"),
        pytest.param({"args": ["a"], "vcpu": 1}, "vcpu=1", "add task_def", id="size of nothing"),
        pytest.param({"args": ["a"], "log_lines": -1}, "log_lines=-1", "0 or more", id="negative number of lines"),
    ],
)
def test_a_command_that_cannot_run_is_refused_with_a_remedy(settings, says, remedy):
    with pytest.raises(SettingsError, match="Remedy") as refusal:
        Command(settings.pop("args", ()), **settings)
    assert says in refusal.value.what
    assert remedy in refusal.value.remedy


def test_a_command_is_a_value():
    words, env = ["python", "script.py", "a,b"], {"A": "1"}
    command = Command(words, env=env, task_definition="model")
    words.append("more")
    env["B"] = "2"
    assert command == Command(("python", "script.py", "a,b"), env={"A": "1"}, task_definition="model")
    assert pickle.loads(pickle.dumps(command)) == command
    assert len({command, pickle.loads(pickle.dumps(command))}) == 1
    with pytest.raises(AttributeError):
        command.image = "other"


@pytest.mark.parametrize(
    ("settings", "has_container"),
    [
        pytest.param({"task_definition": "model"}, True, id="a task definition"),
        pytest.param({"image": "python:3.12"}, True, id="an image"),
        pytest.param({}, False, id="neither"),
    ],
)
def test_a_command_has_a_container_of_its_own_if_it_names_one(settings, has_container):
    assert Command(["python"], **settings).has_container is has_container


def test_unpickling_a_command_in_a_fresh_interpreter_loads_the_standard_library_only():
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); print([m for m in sys.modules if 'cloudexec' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(Command(["true"])),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert eval(done.stdout) == ["cloudexec", "cloudexec.errors", "cloudexec.command"]


def test_durations_follow_from_the_times():
    result = a_result()
    assert (result.start_up_s, result.run_s) == (2.5, 6.5)


@pytest.mark.parametrize(
    ("n_lines", "kept"),
    [
        pytest.param(None, "a\nb\nc", id="all"),
        pytest.param(2, "b\nc", id="the last ones"),
        pytest.param(9, "a\nb\nc", id="more than there are"),
        pytest.param(0, "", id="none"),
    ],
)
def test_the_end_of_a_log(n_lines, kept):
    assert last_lines("a\nb\nc", n_lines) == kept


# --- run here --------------------------------------------------------------------------------


def test_the_result_has_exit_code_output_and_times():
    before = time.time()
    result = python("import sys; print('out', sys.argv[1:]); print('err', file=sys.stderr)", "a,b", "c d")()
    assert result.exit_code == 0
    assert sorted(result.log.splitlines()) == ["err", "out ['a,b', 'c d']"]
    assert before <= result.created_s <= result.started_s <= result.stopped_s <= time.time()
    assert (result.task_arn, result.stop_code, result.attempt) == ("", "", 1)


def test_env_is_added_to_what_is_there(monkeypatch):
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("MODEL_CONFIG", "old")
    code = "import os; print(os.environ['KEPT'], os.environ['MODEL_CONFIG'])"
    assert python(code, env={"MODEL_CONFIG": '{"a": 1}'})().log == 'kept {"a": 1}\n'
    assert os.environ["MODEL_CONFIG"] == "old"


def test_a_failure_carries_exit_code_last_lines_and_result():
    with pytest.raises(CommandFailed) as failure:
        python("print(*range(100), sep='\\n'); raise SystemExit(3)")()
    error = pickle.loads(pickle.dumps(failure.value))
    assert error.exit_code == 3
    assert error.log.splitlines() == [str(number) for number in range(80, 100)]
    assert error.result.log.splitlines() == [str(number) for number in range(100)]
    assert "ended with exit code 3; its last lines:\n80\n" in str(error)


def test_without_check_the_result_says_it():
    assert python("raise SystemExit(3)", check=False)().exit_code == 3


def test_a_signal_is_told_as_containers_tell_it():
    assert python("import os; os.kill(os.getpid(), 9)", check=False)().exit_code == 137


def test_a_program_that_is_not_there_is_a_failure_even_without_check():
    with pytest.raises(CommandFailed, match="cannot be started") as failure:
        Command(["no-such-program"], check=False)()
    assert (failure.value.exit_code, failure.value.log, failure.value.result) == (None, "", None)


def test_only_the_last_lines_are_kept_on_demand():
    assert python("print(*range(9), sep='\\n')", log_lines=2)().log == "7\n8\n"


def test_of_a_long_output_the_last_megabyte_is_kept_in_whole_lines():
    result = python("for i in range(120_000): print(f'{i:09}')")()
    lines = result.log.splitlines()
    assert MOST_LOG_BYTES - 20 < len(result.log) <= MOST_LOG_BYTES
    assert [int(line) for line in lines] == list(range(120_000 - len(lines), 120_000))


def test_output_without_a_line_break_is_kept_too():
    assert python("import sys; sys.stdout.write('x' * 3_000_000)")().log == "x" * MOST_LOG_BYTES


def test_the_program_has_no_input():
    assert python("import sys; print(repr(sys.stdin.read()))")().log == "''\n"


def test_an_image_alone_cannot_run_here():
    with pytest.raises(SettingsError, match="known to the container alone"):
        Command(image="model")()


def test_words_with_an_image_run_here_so_that_they_can_be_tried():
    assert python("print('tried')", image="model")().log == "tried\n"


@pytest.mark.parametrize("sign", ["ECS_CONTAINER_METADATA_URI_V4", "AWS_LAMBDA_FUNCTION_NAME"])
def test_in_the_cloud_a_command_for_another_container_does_not_run_in_this_one(monkeypatch, sign):
    monkeypatch.setenv(sign, "x")
    with pytest.raises(SettingsError, match="submit the command itself"):
        python("print('wrong place')", image="model")()
    assert python("print('right place')")().log == "right place\n"


# --- in an executor --------------------------------------------------------------------------


def test_an_executor_takes_commands_like_any_function():
    with LocalExecutor(2) as executor:
        good = executor.submit(python("import os; print(os.environ['A'], os.environ['B'])", env={"B": "2"}))
        bad = executor.submit(python("print('why'); raise SystemExit(4)"))
        with_env = executor.with_options(env={"A": "1"}).submit(
            python("import os; print(os.environ['A'], os.environ['B'])", env={"B": "2"})
        )
        assert with_env.result().log == "1 2\n"
        assert isinstance(good.exception(), CommandFailed)  # there is no A
        assert (bad.exception().exit_code, bad.exception().log) == (4, "why")


def test_stopping_the_call_kills_the_program(tmp_path):
    started = tmp_path / "pid"
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    with LocalExecutor(1) as executor:
        future = executor.submit(python(code, str(started)))
        deadline = time.monotonic() + 20
        while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        future.stop()
        assert isinstance(future.exception(20), CallStopped)
        while os.path.exists(f"/proc/{started.read_text()}") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not os.path.exists(f"/proc/{started.read_text()}")


def test_an_interrupt_kills_the_program(tmp_path):
    """As Ctrl-C in a program that calls the command itself."""
    started = tmp_path / "pid"
    child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"""
import sys
from cloudexec import Command
Command([sys.executable, "-c", {child!r}, {str(started)!r}])()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    killer = threading.Timer(20, program.kill)
    killer.start()
    try:
        while not (started.exists() and started.read_text()) and program.poll() is None:
            time.sleep(0.01)
        program.send_signal(2)
        assert program.wait() != 0
        assert not os.path.exists(f"/proc/{started.read_text()}")
    finally:
        killer.cancel()
