"""Where this process runs: its id, facts for the client, and its log.

Called by: main.py, and whoever has something to log.   Calls: transport.credentials, for the container's metadata.
"""

from __future__ import annotations

import os
import sys
from typing import Final, NamedTuple

import cloudexec
from cloudexec.errors import CloudexecError
from cloudexec.transport.credentials import container_metadata

_HEAD: Final = ["cloudexec worker: "]


def say_for(run_id: str) -> None:
    """From now on lines have this run's id in front, by which they are found; "" for none."""
    _HEAD[0] = f"{run_id} cloudexec worker: " if run_id else "cloudexec worker: "


def say(text: str) -> None:
    """A line for the container's log; more than one if there are line ends in it."""
    lines = [f"{_HEAD[0]}{line}\n" for line in text.strip().split("\n")]
    print("".join(lines), end="", file=sys.stderr, flush=True)


class Place(NamedTuple):
    """`worker` is the id in all reports; `task_arn` is empty outside ECS."""

    worker: str
    task_arn: str


def find_place() -> Place:
    """Ask the container's metadata endpoint; without one, or without its answer, the id is random."""
    arn = ""
    try:
        arn = str(container_metadata().get("TaskARN", ""))
    except (OSError, ValueError, CloudexecError) as error:
        say(f"the metadata endpoint does not answer: {error}")
    return Place(arn.rpartition("/")[2] or f"w{os.urandom(8).hex()}", arn)


def facts_of(place: Place, started_s: float) -> dict[str, str]:
    """What the client may want to know of the machine; `started_s` is how long the start has taken."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
        "cloudexec": cloudexec.__version__,
        "arch": os.uname().machine,
        "task_arn": place.task_arn,
        "cpus": str(len(affinity(0)) if affinity is not None else os.cpu_count() or 1),
        "start_s": f"{started_s:.3f}",
    }


def age_of_process_s() -> float:
    """How long ago this process was started; 0 where the system does not tell."""
    try:
        with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            return max(0.0, float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0
