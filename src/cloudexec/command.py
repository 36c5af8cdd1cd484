"""A program to run instead of a function, and what became of it.

Called by: users (make them); executors.commands and backends.ecs.commands, which run one in a container of its own.
Calls:     errors. Standard library only: a worker that unpickles a command imports this file and nothing else.

Called as a function, a command runs where it is called, as a child process; so it works in every executor. Only
ECSExecutor gives one that names a task definition or an image a container of its own.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import IO, Final

from cloudexec.errors import CommandFailed, SettingsError

MOST_LOG_BYTES: Final = 1_000_000
TAIL_LINES: Final = 20  # of the log, in errors
_READ_BYTES: Final = 1 << 16
# Where one of these is set, we are inside a container or function of the cloud already.
_CLOUD_SIGNS: Final = ("ECS_CONTAINER_METADATA_URI_V4", "AWS_LAMBDA_FUNCTION_NAME")


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments and environment.

    args: the program and its arguments; () keeps what the image or the task definition says. env: is added to the
    environment that is there. task_definition (family, family:revision or ARN) or image: in which container it runs,
    if it is to have one of its own; container: which one of the task definition's, by default its first essential
    one. vcpu, memory_mib: of the container's task; both or neither. check: whether an exit code other than 0 is an
    error, CommandFailed. log_lines: how many of the last lines are kept; by default all, up to one MB.
    Errors: SettingsError.
    """

    args: Sequence[str] = ()
    _: KW_ONLY
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    task_definition: str = ""
    image: str = ""
    container: str = ""
    vcpu: float | None = None
    memory_mib: int | None = None
    check: bool = True
    log_lines: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", _checked_args(self.args))
        object.__setattr__(self, "env", _checked_env(self.env))
        if self.task_definition and self.image:
            what = f"both task_definition={self.task_definition!r} and image={self.image!r} are given"
            raise SettingsError(what, remedy="give one: a task definition names its image itself")
        if not self.args and not self.has_container:
            what = "a command without arguments, task definition and image runs nothing"
            raise SettingsError(
                what, remedy='give the program and its arguments, e.g. Command(["python", "script.py"])'
            )
        about_container = {"container": self.container, "vcpu": self.vcpu, "memory_mib": self.memory_mib}
        said = [name for name, value in about_container.items() if value]
        if said and not self.has_container:
            what = f"{said[0]}={about_container[said[0]]!r} says nothing without a container"
            raise SettingsError(what, remedy=f"add task_definition= or image=, or leave {said[0]} out")
        if self.log_lines is not None and (not isinstance(self.log_lines, int) or self.log_lines < 0):
            raise SettingsError(f"log_lines={self.log_lines!r} is not a number of lines", remedy="give 0 or more")

    @property
    def has_container(self) -> bool:
        """Whether it is to run in a container of its own."""
        return bool(self.task_definition or self.image)

    @property
    def text(self) -> str:
        """For people: the words, else where they come from."""
        return " ".join(self.args) or f"the command of {self.task_definition or self.image}"

    def __call__(self) -> CommandResult:
        """Run it here, as a child process.

        Errors: CommandFailed if it cannot be started, or, with `check`, for an exit code other than 0; SettingsError
        if it has nothing to run here, or is called inside the cloud and wants another container.
        """
        self._check_can_run_here()
        created_s = time.time()
        environment = {**os.environ, **self.env}
        try:
            process = subprocess.Popen(
                self.args, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise CommandFailed(f"{self.text} cannot be started: {error}", None, "") from error
        started_s = time.time()
        with process:
            try:
                assert process.stdout is not None
                written = _last_bytes(process.stdout)
            except BaseException:
                process.kill()
                raise
        code = process.returncode
        result = CommandResult(
            exit_code=128 - code if code < 0 else code,  # as a container says it
            created_s=created_s,
            started_s=started_s,
            stopped_s=time.time(),
            log=last_lines(written.decode(errors="replace"), self.log_lines),
        )
        return self.checked(result)

    def checked(self, result: CommandResult, remedy: str | None = None) -> CommandResult:
        """The result, if it counts as one. Errors: CommandFailed."""
        if result.exit_code == 0 or not self.check:
            return result
        where = f" (task {result.task_arn})" if result.task_arn else ""
        said = f"; its last lines:\n{result.tail()}\n" if result.log else ""
        what = f"{self.text}{where} ended with exit code {result.exit_code}{said}"
        raise CommandFailed(what, result.exit_code, result.tail(), result, remedy=remedy)

    def _check_can_run_here(self) -> None:
        if self.has_container and any(sign in os.environ for sign in _CLOUD_SIGNS):
            what = f"{self.text} names a container of its own, and was called inside another one"
            raise SettingsError(what, remedy="submit the command itself to an ECSExecutor: executor.submit(command)")
        if not self.args:
            what = f"{self.text} is known to the container alone"
            raise SettingsError(what, remedy="give the command's args, so that it can run elsewhere, too")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended. Times are seconds since the epoch; where it ran in a container, by the service's clock.

    exit_code: 128 + n for a process that signal n has ended. stop_code, stopped_reason: what ECS says; empty
    elsewhere. log: what it wrote to standard output and error. provider: what kind of capacity it ran on.
    """

    exit_code: int
    stop_code: str = ""
    stopped_reason: str = ""
    created_s: float
    started_s: float
    stopped_s: float
    log: str = field(repr=False)
    task_arn: str = ""
    provider: str = ""
    attempt: int = 1

    @property
    def start_up_s(self) -> float:
        """How long it took to place the container, to pull its image and to start it."""
        return self.started_s - self.created_s

    @property
    def run_s(self) -> float:
        """How long it ran."""
        return self.stopped_s - self.started_s

    def tail(self, n_lines: int = TAIL_LINES) -> str:
        """The last lines of the log."""
        return last_lines(self.log, n_lines).rstrip("\n")


def last_lines(text: str, n_lines: int | None) -> str:
    """The end of a text; None keeps all of it."""
    if n_lines is None:
        return text
    lines = text.splitlines(keepends=True)
    return "".join(lines[max(0, len(lines) - n_lines) :])


def _last_bytes(source: IO[bytes]) -> bytes:
    """Read to the end and keep what came last, from a whole line on: a program may write more than memory holds."""
    pieces: deque[bytes] = deque()
    size, is_cut = 0, False
    while piece := os.read(source.fileno(), _READ_BYTES):
        pieces.append(piece)
        size += len(piece)
        while size - len(pieces[0]) >= MOST_LOG_BYTES:
            size -= len(pieces.popleft())
            is_cut = True
    written = b"".join(pieces)
    if not is_cut and len(written) <= MOST_LOG_BYTES:
        return written
    return written[-MOST_LOG_BYTES:].partition(b"\n")[2] or written[-MOST_LOG_BYTES:]


def _checked_args(args: Sequence[str]) -> tuple[str, ...]:
    if isinstance(args, (str, bytes)):
        what = f"args={args!r} is one text, not a list of words"
        raise SettingsError(what, remedy="give a list, or shlex.split(text) if the text is written for a shell")
    words = tuple(args)
    wrong = next((word for word in words if not isinstance(word, str) or "\0" in word), None)
    if wrong is not None:
        raise SettingsError(f"the argument {wrong!r} is not a text that a program can be given", remedy="give str")
    return words


def _checked_env(env: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise SettingsError(f"env={env!r} is not a mapping", remedy="give a dict of names and values")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            what = f"env[{name!r}]={value!r} is not text"
            raise SettingsError(what, remedy="give names and values as str, e.g. json.dumps(config)")
        if not name or "=" in name or "\0" in name + value:
            raise SettingsError(f"{name!r} is not a name of an environment variable, or its value has a zero byte")
    return dict(env)
