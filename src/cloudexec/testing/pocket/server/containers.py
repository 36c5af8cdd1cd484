"""One container: a process in a session of its own with a clean environment, or a real one by podman.

Called by:  tasks.py.   Calls: the operating system.
Image:      its ENTRYPOINT comes from `images`; `python` is the interpreter that runs the pocket, with its packages.
End:        when the main process ends, whatever it started is killed, as in a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "ECS_CONTAINER_METADATA_URI_V4"  # in each container's environment, with a value of its own
LAMBDA_MARK: Final = "CLOUDEXEC_POCKET_ENVIRONMENT"  # the same for what runs in Lambda
EVENTS_VARIABLE: Final = "CLOUDEXEC_MEMORY_EVENTS"  # names a file like a control group's memory.events
EVENTS_SUFFIX: Final = ".memory.events"
LOG_CHARACTERS: Final = 1_000_000  # what `PocketAWS.tasks` shows of a container's output
PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>
SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a container runs."""

    name: str
    image: str
    argv: tuple[str, ...]  # without the image's entrypoint
    entry_point: tuple[str, ...] | None
    environment: dict[str, str]
    directory: Path
    memory_mib: int | None
    essential: bool
    stop_timeout_s: float


class Container:
    """A container of a task, from its start to its last process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.reason: str | None = None
        self.n_oom_kills = 0
        self._log: list[str] = []
        self._log_size = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, argv: list[str], ended: Callable[[], None], wrote: Callable[[str], None]) -> None:
        """Start the main process; `wrote` gets each line, `ended` is called when all is over."""
        environment = None if argv[0] == "podman" else self.plan.environment
        self._process = subprocess.Popen(
            argv,
            env=environment,
            cwd=self.plan.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._process.pid
        pump = threading.Thread(target=self._pump, args=(wrote,), name=f"log-{self.plan.name}", daemon=True)
        pump.start()
        watch = threading.Thread(target=self._watch, args=(pump, ended), name=f"end-{self.plan.name}", daemon=True)
        watch.start()

    def _pump(self, wrote: Callable[[str], None]) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for raw in output:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                self._log_size += len(line) + 1
                if self._log_size < LOG_CHARACTERS:
                    self._log.append(line)
                wrote(line)

    def _watch(self, pump: threading.Thread, ended: Callable[[], None]) -> None:
        assert self._process is not None
        status = self._process.wait()
        self.kill_rest()
        pump.join(5.0)
        if self.n_oom_kills:
            self.reason = "OutOfMemoryError: container killed due to memory usage"
        self.exit_code = 128 - status if status < 0 else status
        ended()

    def count_oom_kill(self) -> None:
        """Memory is about to cost a process its life: workers look at the count as at the kernel's."""
        self.n_oom_kills += 1
        events = self.plan.directory / f"{self.plan.name}{EVENTS_SUFFIX}"
        written = events.with_suffix(".new")
        written.write_text(f"oom_kill {self.n_oom_kills}\n")
        written.replace(events)

    @property
    def is_alive(self) -> bool:
        """Whether it has started and not ended."""
        return self.pid is not None and self.exit_code is None

    @property
    def log(self) -> str:
        """What it wrote, stdout and stderr."""
        return "".join(f"{line}\n" for line in self._log)

    def terminate(self) -> None:
        """SIGTERM to the main process alone, as Docker does it."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the main process; the others follow when it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.is_alive or self._process is None:
            return
        if self._process.args[0] == "podman":  # type: ignore[index]  # a list, as `start` gave it
            self._podman("kill", "--signal", str(int(number)), podman_name(self.plan))
        else:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill_rest(self) -> None:
        """Kill what the main process has left behind, in whatever session."""
        assert self._process is not None
        if self._process.args[0] == "podman":  # type: ignore[index]  # a list, as `start` gave it
            self._podman("rm", "--force", "--ignore", podman_name(self.plan))
            return
        kill_marked(self.plan.environment[MARK])
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self._process.pid, 0):  # adopted, see `adopt_orphans`
                pass

    def _podman(self, *words: str) -> None:
        subprocess.run(["podman", *words], capture_output=True, check=False)


def podman_name(plan: Plan) -> str:
    """A container's name for podman; its metadata address is unique."""
    return "pocket-" + plan.environment[MARK].rstrip("/").replace("/", "-").rpartition("v4-")[2]


def local_argv(plan: Plan, images: dict[str, list[str]]) -> list[str]:
    """The words of the main process of a container that is a process."""
    entry = images.get(plan.image, []) if plan.entry_point is None else list(plan.entry_point)
    argv = [*entry, *plan.argv]
    if not argv:
        raise OSError(f"no command specified, and image {plan.image!r} has no entrypoint here")
    program = shutil.which(argv[0], path=plan.environment["PATH"])
    if program is None:
        raise OSError(f'exec: "{argv[0]}": executable file not found in $PATH')
    return [program, *argv[1:]]


def podman_argv(plan: Plan, pocket: str) -> list[str]:
    """The words that run a real image."""
    words = ["podman", "run", "--rm", "--network", "host", "--name", podman_name(plan), "--label", f"pocket={pocket}"]
    if plan.memory_mib:
        words += ["--memory", f"{plan.memory_mib}m"]
    if plan.entry_point is not None:
        words += ["--entrypoint", json.dumps(list(plan.entry_point))]
    for name, value in plan.environment.items():
        words += ["--env", f"{name}={value}"]
    return [*words, plan.image, *plan.argv]


def kill_marked(mark: str) -> int:
    """Kill every process that carries this mark, or one below it if it ends with a slash; how many there were."""
    killed = 0
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid != os.getpid() and _is_marked(pid, mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
                os.waitpid(pid, 0)  # where it has been adopted
    return killed


def _is_marked(pid: int, mark: str) -> bool:
    """Whether a process carries this mark, or one below it if it ends with a slash."""
    wanted = tuple(f"{name}={mark}".encode() for name in (MARK, LAMBDA_MARK))
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return False
    if mark.endswith("/"):
        return any(variable.startswith(wanted) for variable in variables)
    return any(variable in wanted for variable in variables)


def children_of(pid: int) -> list[int]:
    """A process's own children; [] when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.extend(int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def orphans_marked(mark: str, leader: int) -> list[int]:
    """Processes with this mark that this one has adopted; not the leader, whose parent it is from the start."""
    return [pid for pid in children_of(os.getpid()) if pid != leader and _is_marked(pid, mark)]


def adopt_orphans() -> None:
    """Become the parent of what containers leave behind, so that nothing of it outlives its container as a zombie."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def make_python_links(directory: Path) -> None:
    """`python` and `python3` that are this interpreter: a link would not find a virtual environment's packages."""
    directory.mkdir()
    for name in ("python", "python3"):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        script.chmod(0o755)


def import_path() -> dict[str, str]:
    """PYTHONPATH to where cloudexec lies, if it is not installed into the interpreter."""
    home = Path(__file__).resolve().parents[4]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return {} if home in installed else {"PYTHONPATH": str(home)}


def process_environment(directory: Path, links: Path) -> dict[str, str]:
    """What a container has in its environment before the task definition adds to it."""
    temporary = directory / "tmp"
    temporary.mkdir()
    own = {"PATH": f"{links}:{SYSTEM_PATH}", "HOME": str(directory), "TMPDIR": str(temporary), "LANG": "C.UTF-8"}
    return {**own, "HOSTNAME": "pocket", **import_path()}
