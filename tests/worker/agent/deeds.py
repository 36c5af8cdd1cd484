"""What calls do in these tests. Workers import this module by its name, so it is light."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def note(path: str, line: object) -> None:
    """Append a line, in one piece."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def sleep_and_note(path: str, seconds: float) -> float:
    note(path, os.getpid())
    time.sleep(seconds)
    return seconds


def meet(directory: str, name: str, others: int) -> int:
    """Return when `others` calls are here at the same time; the slot's process id."""
    Path(directory, f"here-{name}").touch()
    while len([entry for entry in os.listdir(directory) if entry.startswith("here-")]) < others:
        time.sleep(0.005)
    return os.getpid()


def wait_for(path: str) -> str:
    """Until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return "seen"


def note_and_wait(diary: str, gate: str) -> str:
    note(diary, os.getpid())
    return wait_for(gate)


def run_into_wall(path: str) -> None:
    """Kill this slot."""
    note(path, "wall")
    os.kill(os.getpid(), signal.SIGKILL)


def agent_pid() -> int:
    """The agent is the parent of the supervisor, which is ours."""
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def kill_agent(path: str) -> None:
    """Kill the worker, as an out-of-memory killer might."""
    note(path, "agent")
    os.kill(agent_pid(), signal.SIGKILL)
    time.sleep(30)


def environments() -> str:
    """Whatever this call can read of environments: its own, its supervisor's, the agent's."""
    texts = [repr(sorted(os.environ.items()))]
    for pid in ("self", os.getppid(), agent_pid()):
        texts.append(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace"))
    return "\n".join(texts)


def sockets_of(pid: int | str = "self") -> list[str]:
    """Internet sockets among a process's descriptors, by their inodes."""
    internet = Path("/proc/net/tcp").read_text().split("\n")[1:]
    inodes = {line.split()[9] for line in internet if line.strip()}
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            found.append(target)
    return found


def fail_to_start(text: str) -> None:
    raise RuntimeError(text)


WARM: list[str] = []


def warm_up(text: str) -> None:
    WARM.append(text)


def warmth() -> list[str]:
    return WARM


def text_of(size: int) -> str:
    return "x" * size


def fail_with(size: int) -> None:
    raise ValueError("x" * size)


def write_rubbish() -> None:
    """To every pipe of this process that can be written to: one of them leads to the agent."""
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}") and "pipe" in os.readlink(f"/proc/self/fd/{fd}"):
            try:
                os.write(int(fd), b"rubbish " * 20)
            except OSError:
                continue
    time.sleep(30)


def leave_orphan() -> int:
    """A process that leaves our session, whose parent ends before it does; its id."""
    read, write = os.pipe()
    if not os.fork():
        os.setsid()
        child = os.fork()
        if child:
            os.write(write, str(child).encode())
        else:
            time.sleep(0.3)
        os._exit(0)
    os.wait()
    return int(os.read(read, 100))
