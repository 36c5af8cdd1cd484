"""Play the kernel's OOM killer: the biggest process of a container that grows above its memory is killed.

Called by:  ecs.py, which starts it.   Calls: /proc.
Measure:    anonymous memory of the main process and its descendants; shared pages are counted once (PSS) when the
            quick sum is above the limit. A container that grows faster than LOOK_EVERY_S sees is let go for a moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cloudexec.testing.pocket.server.containers import Container, children_of

LOOK_EVERY_S: Final = 0.1
SHARE: Final = 20  # with many containers: look for no more than a twentieth of the time
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def watch(containers: Callable[[], list[Container]], stop: threading.Event) -> None:
    """Look at all living containers again and again, until `stop`."""
    pause_s = LOOK_EVERY_S
    while not stop.wait(pause_s):
        began_s = time.monotonic()
        for container in containers():
            if container.plan.memory_mib and container.pid is not None:
                enforce(container, container.plan.memory_mib * 1024 * 1024)
        pause_s = max(LOOK_EVERY_S, SHARE * (time.monotonic() - began_s))


def enforce(container: Container, limit_bytes: int) -> None:
    """Kill the biggest process of a container that uses more than it may."""
    assert container.pid is not None
    family = descendants(container.pid)
    sizes = {pid: anonymous_bytes(pid) for pid in family}
    if sum(sizes.values()) <= limit_bytes:
        return
    exact = {pid: proportional_bytes(pid) for pid in family}
    if sum(exact.values()) > limit_bytes and container.is_alive:
        container.count_oom_kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(max(exact, key=lambda pid: exact[pid]), signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """A process and what came from it."""
    found = [pid]
    for parent in found:
        found.extend(children_of(parent))
    return found


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file backs; 0 when it is gone."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE_BYTES


def proportional_bytes(pid: int) -> int:
    """The same, pages shared with relatives divided among them."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return anonymous_bytes(pid)
