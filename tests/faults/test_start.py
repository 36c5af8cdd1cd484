"""Workers and slots that do not come up, or not twice."""

import os

import pytest

from cloudexec import errors
from tests.contract.events import SOON
from tests.faults import deeds
from tests.faults.scene import run_script


@pytest.mark.parametrize(
    ("initializer", "args", "exitcode"),
    [
        pytest.param(deeds.exit_at_once, (7,), "exit code 7", id="os._exit"),
        pytest.param(deeds.exit_at_once, (0,), "exit code 0", id="os._exit, as if all were well"),
        pytest.param(deeds.exit_at_once, (90,), "exit code 90", id="os._exit, with the code of a slot that is done"),
        pytest.param(deeds.exit_at_once, (91,), "exit code 91", id="os._exit, with our own code for it"),
        pytest.param(deeds.read_address_zero, (), "SIGSEGV", id="segmentation fault"),
    ],
)
def test_an_initializer_that_crashes_breaks_the_executor_after_a_few_starts(
    new_executor, kind, tmp_path, initializer, args, exitcode
):
    marks = tmp_path / "marks"
    executor = new_executor(2, initializer=deeds.note, initargs=(str(marks), "start", initializer, *args))
    futures = [executor.submit(deeds.identity, number) for number in range(10)]
    for future in futures:
        error = future.exception(SOON)
        assert type(error) is errors.WorkerStartFailed
        assert exitcode in str(error)
        assert "Remedy:" in str(error)
    with pytest.raises(errors.WorkerStartFailed):
        executor.submit(deeds.identity, 1)
    # A container goes on by itself while the client waits, longer each time, before it counts the next failure. Of
    # Lambda's environments each tries seven times, with one slot more on its way; three say so while a fourth tries.
    most = 32 if kind.answers_once else 25 if kind.in_containers else 8
    assert 1 <= len(marks.read_text().splitlines()) <= most


def test_an_initializer_that_raises_breaks_the_executor_with_its_own_error(new_executor):
    executor = new_executor(2, initializer=deeds.refuse, initargs=("not today",))
    futures = [executor.submit(deeds.identity, number) for number in range(10)]
    for future in futures:
        error = future.exception(SOON)
        assert type(error) is errors.InitializerFailed
        assert type(error.__cause__) is RuntimeError
        assert error.__cause__.args == ("not today",)
    with pytest.raises(errors.InitializerFailed):
        executor.submit(deeds.identity, 1)


@pytest.mark.parametrize("name", ["TwoArguments", "NothingWorks", "Frozen"])
def test_an_initializer_whose_error_is_strange_breaks_the_executor_too(new_executor, name):
    args = ("left", "right") if name == "TwoArguments" else ("text",)
    executor = new_executor(1, initializer=deeds.raise_error, initargs=(name, *args))
    assert type(executor.submit(deeds.identity, 1).exception(SOON)) is errors.InitializerFailed


def test_an_initializer_that_leaves_python_breaks_the_executor(new_executor):
    executor = new_executor(1, initializer=deeds.leave, initargs=(3,))
    error = executor.submit(deeds.identity, 1).exception(SOON)
    assert type(error) is errors.InitializerFailed
    assert type(error.__cause__) is errors.CallExited


def test_an_initializer_that_does_not_unpickle_breaks_the_executor(new_executor):
    executor = new_executor(
        1, initializer=deeds.swallow, initargs=(deeds.Trap(deeds.refuse_outside, os.getpid(), "no"),)
    )
    assert type(executor.submit(deeds.identity, 1).exception(SOON)) is errors.InitializerFailed


def test_a_slot_that_crashes_later_is_initialized_again_and_work_goes_on(new_executor, tmp_path):
    marks = tmp_path / "marks"
    executor = new_executor(1, initializer=deeds.note, initargs=(str(marks), "start"))
    for _ in range(5):
        assert type(executor.submit(deeds.exit_at_once, 1).exception(SOON)) is errors.CallCrashed
    assert executor.submit(deeds.identity, "usable").result(SOON) == "usable"
    assert len(marks.read_text().splitlines()) == 6


# --- no worker at all --------------------------------------------------------------------------


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize(
    ("executable", "content", "words"),
    [
        pytest.param("nowhere/python", None, "No such file or directory", id="no such file"),
        pytest.param("python", "#!/bin/sh\necho these are my last words >&2\nexit 5\n", "my last words", id="it fails"),
        pytest.param("python", "#!/bin/sh\nexit 5\n", "exit code 5", id="it fails without a word"),
        pytest.param("python", "#!/bin/sh\nkill -9 $$\n", "SIGKILL", id="it is killed"),
    ],
)
def test_a_broken_interpreter_is_an_error_that_shows_its_last_words(kind, tmp_path, executable, content, words):
    path = tmp_path / executable
    if content is not None:
        path.write_text(content)
        path.chmod(0o755)
    printed = run_script(
        kind,
        f"""
        import sys
        sys.executable = {str(path)!r}
        executor = NewExecutor(2)
        futures = [executor.submit(abs, -1) for _ in range(5)]
        for future in futures:
            print(type(future.exception(30)).__name__, future.exception(0))
        try:
            executor.submit(abs, -1)
        except Exception as error:
            print(type(error).__name__)
        executor.shutdown()
        """,
    )
    assert printed.count("WorkerStartFailed") == 6
    assert words in printed
    assert "Remedy:" in printed


@pytest.mark.usefixtures("local")
def test_when_no_descriptor_is_left_the_error_says_so(kind):
    printed = run_script(
        kind,
        """
        import os, resource
        executor = NewExecutor(2)
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        hoard = []
        try:
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        error = executor.submit(abs, -1).exception(30)
        for fd in hoard:
            os.close(fd)
        print(type(error).__name__, error)
        executor.shutdown()
        """,
    )
    assert printed.startswith("WorkerStartFailed")
    assert "Too many open files" in printed
