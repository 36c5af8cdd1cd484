"""What calls of these tests do: the ordinary ones, and those that go wrong.

Called by: the tests here. Workers import this module by its name, so it is light.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TRACE = "_X_AMZN_TRACE_ID"  # Lambda gives each invocation one of its own


def note(diary: str, line: str, deed: Callable[..., Any] | None = None, *args: Any) -> Any:
    """Write a line in one piece; then do the deed, or return the line."""
    fd = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
    return line if deed is None else deed(*args)


def identity(x: Any) -> Any:
    return x


def swallow(_x: Any) -> str:
    return "arrived"


def pids() -> tuple[int, int]:
    """Of the slot and of its supervisor."""
    return os.getpid(), os.getppid()


def say(text: str) -> str:
    print(text)
    return text


# --- ends of the process -----------------------------------------------------------------------


def exit_at_once(code: int) -> None:
    os._exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def read_address_zero() -> None:
    ctypes.string_at(0)


def fault() -> None:
    faulthandler._sigsegv()


def abort() -> None:
    os.abort()


def complain_and_crash(text: str) -> None:
    os.write(2, text.encode())
    os._exit(3)


def kill_supervisor() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def kill_supervisor_after(gate: Any) -> None:
    """As soon as a call has come to the gate."""
    gate.wait_for(1)
    kill_supervisor()


def kill_supervisor_beside(gate: Any) -> None:
    """As soon as a neighbour runs in the same worker, which has come to the gate in each of its attempts."""
    supervisor = os.getppid()
    while not any(_parent(pid) == supervisor for pid in gate.wait_for(1)):
        time.sleep(0.005)
    kill_supervisor()


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]  # anything may be handed to it


def interrupt() -> None:
    raise KeyboardInterrupt


def crash_until(marks: str, n_crashes: int) -> int:
    """Crash in the first attempts, which leave one byte each in the file; the number of the attempt that lives."""
    with open(marks, "ab", buffering=0) as file:
        file.write(b"x")
        attempt = os.fstat(file.fileno()).st_size
    if attempt <= n_crashes:
        os._exit(9)
    return attempt


def misbehave(marks: str, how: str) -> None:
    """One byte for each attempt, then fail in a certain way."""
    with open(marks, "ab", buffering=0) as file:
        file.write(b"x")
    if how == "error":
        raise ValueError("on purpose")
    if how == "crash":
        os._exit(9)
    if how == "lost":
        kill_supervisor()
    time.sleep(120)


# --- stack and memory --------------------------------------------------------------------------


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def recurse_through_c() -> None:
    list(map(lambda _: recurse_through_c(), [0]))  # noqa: C417 - map calls it from C, which a comprehension does not


def overflow_with_a_raised_limit() -> None:
    sys.setrecursionlimit(10**6)
    recurse_through_c()


def overflow_a_small_stack() -> None:
    """A thread whose C stack ends long before any limit of the interpreter."""
    sys.setrecursionlimit(10**6)
    threading.stack_size(64 * 1024)
    thread = threading.Thread(target=recurse_through_c)
    thread.start()
    thread.join()


def allocate(n_bytes: int) -> int:
    return len(bytearray(n_bytes))


def allocate_beyond_a_limit() -> None:
    """What a container's `ulimit -v` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), hard))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(8 << 20))
    finally:
        hoard = []
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def big_bytes(n_bytes: int) -> bytes:
    return b"\x07" * n_bytes


def big_array(n_bytes: int) -> Any:
    import numpy

    return numpy.ones(n_bytes, dtype="u1")


# --- pickling ----------------------------------------------------------------------------------


def make_lock() -> Any:
    return threading.Lock()


def make_generator() -> Any:
    return (x for x in range(3))


class TwoArguments(Exception):
    """Hands on one of the two arguments that its constructor asks for: unpickling it is an error."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


class PicklesOnly(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ("it does not unpickle",)


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduction")


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class NothingWorks(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduction")

    __str__ = __repr__ = __reduce__


class HoldsALock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Frozen(Exception):
    """Its attributes cannot be set: not even `__cause__`, nor `__traceback__`."""

    text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return Frozen, (self.text,)


class UnpicklesAsAnother(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("another",)


class ExitsWhenUnpickled(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (5,)


def raise_error(name: str, *args: Any) -> None:
    raise globals()[name](*args)


def raise_from_unpicklable() -> None:
    try:
        raise HoldsALock("the cause")
    except HoldsALock as cause:
        raise ValueError("the error") from cause


def refuse(text: str) -> None:
    raise RuntimeError(text)


def refuse_in(pid: int, text: str) -> str:
    if os.getpid() == pid:
        raise RuntimeError(text)
    return text


def refuse_outside(pid: int, text: str) -> str:
    if os.getpid() != pid:
        raise RuntimeError(text)
    return text


def leave_in(pid: int) -> str:
    if os.getpid() == pid:
        sys.exit(6)
    return "stayed"


def exit_outside(pid: int) -> None:
    if os.getpid() != pid:
        os._exit(7)


def raise_in(pid: int, name: str, *args: Any) -> str:
    if os.getpid() == pid:
        raise_error(name, *args)
    return "nothing"


class Trap:
    """Unpickles as the outcome of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def make_trap(function: Callable[..., Any], *args: Any) -> Trap:
    return Trap(function, *args)


class ErrorTrap(Exception):
    """An exception that unpickles in one process and not in another."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_error_trap, (self.pid,)


def rebuild_error_trap(pid: int) -> ErrorTrap:
    refuse_in(pid, "not in the client")
    return ErrorTrap(pid)


class ExitTrap(ErrorTrap):
    """The same, and it leaves Python."""

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exit_trap, (self.pid,)


def rebuild_exit_trap(pid: int) -> ExitTrap:
    leave_in(pid)
    return ExitTrap(pid)


# --- descriptors, output -----------------------------------------------------------------------


def print_without_newline(n_bytes: int) -> None:
    sys.stdout.write("x" * n_bytes)


def print_and_return(n_bytes: int, result: str) -> str:
    sys.stdout.write("x" * n_bytes)
    return result


def print_from_everywhere() -> None:
    """Python, C's stdio, a descriptor, a child process."""
    print("python")
    ctypes.CDLL(None).puts(b"stdio")
    os.write(1, b"descriptor\n")
    subprocess.run(["echo", "child"], check=True)
    print("warning", file=sys.stderr)


def close_standard_descriptors() -> str:
    for fd in (0, 1, 2):
        os.close(fd)
    return "closed"


def close_streams() -> str:
    sys.stdin.close()
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


def redirect_output(path: str) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    print("into the file")
    return "redirected"


def write_bytes(data: bytes) -> int:
    return os.write(1, data)


def delete_streams() -> str:
    del sys.stdout, sys.stderr
    return "deleted"


def silence_streams() -> str:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]  # as pythonw does
    return "silenced"


def replace_streams() -> str:
    import io

    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    print("into nowhere")
    return "replaced"


def read_input() -> str:
    return sys.stdin.read()


def write_to_pipes(data: bytes) -> int:
    """Write to every pipe that the process holds open for writing, as a stray pointer or a wrong number would."""
    return sum(_write_to(fd, data) for fd in _open_pipes())


def _open_pipes() -> list[int]:
    fds = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                fds.append(int(name))
        except FileNotFoundError:
            pass
    return fds


def _write_to(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except OSError:
        return 0


def close_all_descriptors() -> str:
    os.closerange(3, 4096)
    return "closed"


# --- state of the process ----------------------------------------------------------------------


def state() -> dict[str, Any]:
    """What one call could see of another one in the same process."""
    return {
        "directory": os.getcwd(),
        "environment": sorted(item for item in os.environ.items() if item[0] != TRACE),
        "path": list(sys.path),
        "handlers": [repr(signal.getsignal(number)) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM)],
        "recursion limit": sys.getrecursionlimit(),
        "streams": (sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout is sys.__stdout__),
        "alarm": signal.getitimer(signal.ITIMER_REAL),
    }


def change(what: str, folder: str = "") -> int:
    """Change one part of the state; the process id."""
    if what == "directory":
        os.chdir("/")
    elif what == "directory, and remove it":
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
        os.rmdir(folder)
    elif what == "environment":
        os.environ["LEFT_BEHIND"] = "1"
        os.environ.pop("PATH")
    elif what == "environment, cleared":
        os.environ.clear()
    elif what == "environment, assigned":
        os.environ = {}  # type: ignore[assignment]  # noqa: B003 - some programs do
    elif what == "path":
        sys.path.insert(0, "/nowhere")
    elif what == "path, assigned":
        sys.path = ["/nowhere"]
    elif what == "handlers":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
    elif what == "recursion limit":
        sys.setrecursionlimit(5000)
    elif what == "streams":
        replace_streams()
    elif what == "streams, and descriptors":
        close_standard_descriptors()
    elif what == "alarm":
        signal.alarm(1)
    elif what == "alarm, repeated":
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    return os.getpid()


def change_and_fail(what: str) -> None:
    change(what)
    raise ValueError("on purpose")


def variable(name: str) -> str | None:
    return os.environ.get(name)


def has_default_handler(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_DFL


def state_and_pid() -> tuple[dict[str, Any], int]:
    return state(), os.getpid()


# --- what a call leaves behind -----------------------------------------------------------------


def leave_thread() -> int:
    """A thread that prints for ever."""

    def chatter() -> None:
        while True:
            print("chatter", flush=True)
            time.sleep(0.001)

    threading.Thread(target=chatter, daemon=True).start()
    return os.getpid()


def leave_blocked_thread() -> int:
    """A thread that is no daemon and never ends."""
    threading.Thread(target=threading.Event().wait).start()
    return os.getpid()


def leave_child(text: str) -> int:
    """A child process that prints for ever; its id."""
    code = f"while :; do echo {text}; echo {text} >&2; sleep 0.01; done"
    return subprocess.Popen(["/bin/sh", "-c", code]).pid


def leave_child_that_removes(folder: str) -> int:
    """A child process that removes what is in a folder, for ever; its id."""
    return subprocess.Popen(["/bin/sh", "-c", f"while :; do rm -rf {folder}/*; done"]).pid


def leave_exit_function(name: str, *args: Any) -> int:
    """Something of this module is to be done when the process ends."""
    atexit.register(globals()[name], *args)
    return os.getpid()


def fork_and(what: str) -> int:
    """Fork; the child returns from the function, raises, leaves, or runs on. The parent returns the child's id."""
    pid = os.fork()
    if pid:
        if what != "run on":
            os.waitpid(pid, 0)
        return pid
    if what == "raise":
        raise RuntimeError("in the child")
    if what == "sys.exit":
        sys.exit(0)
    if what == "os._exit":
        os._exit(0)
    if what == "run on":
        while True:
            time.sleep(0.01)
            os.write(1, b"child\n")
    return -1


# --- time --------------------------------------------------------------------------------------


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def sleep_and_say(seconds: float, text: str) -> None:
    time.sleep(seconds)
    print(text)


def spin() -> None:
    while True:
        pass


def hold_the_interpreter_lock() -> None:
    """Sleep in C without letting go of it."""
    ctypes.PyDLL(None).sleep(120)


def ignore_signals_and_sleep() -> None:
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(120)


# --- nested ------------------------------------------------------------------------------------


def run_nested(n_calls: int) -> list[int]:
    from cloudexec import LocalExecutor

    with LocalExecutor(2) as executor:
        return list(executor.map(identity, range(n_calls)))


def hold_nested(path: str) -> None:
    """Write the ids of the nested worker's processes, and keep it alive."""
    from cloudexec import LocalExecutor

    with LocalExecutor(1) as executor:
        slot, supervisor = executor.submit(pids).result()
        executor.submit(sleep, 120)
        with open(f"{path}.part", "w") as file:
            file.write(f"{slot} {supervisor}")
        os.rename(f"{path}.part", path)
        time.sleep(120)


def nest_deep(depth: int) -> int:
    from cloudexec import LocalExecutor

    if not depth:
        return 0
    with LocalExecutor(1) as executor:
        return 1 + executor.submit(nest_deep, depth - 1).result()
