"""How many connections this process may have: each is a file descriptor.

Called by:  executors and backends that keep hundreds of requests in flight.
Why:        most systems start processes with a soft limit of 1,024 descriptors (macOS: 256), for the sake of programs
            that use `select`, and allow each to raise it. asyncio does not use `select` where this matters.
"""

from __future__ import annotations

from typing import Final

OTHER_DESCRIPTORS: Final = 100  # files, pipes and connections of everybody else in the process


def raise_descriptor_limit(n_connections: int) -> int:
    """Allow the process as many descriptors as so many connections need, and return how many of them it may have.

    Fewer than asked for means that the hard limit is lower: `ulimit -Hn`, or the container's `ulimits`, sets it.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return n_connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n_connections + OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):
            pass  # macOS says that the hard limit is infinite, and means its own maximum
    if soft == resource.RLIM_INFINITY:
        return n_connections
    return max(0, min(n_connections, soft - OTHER_DESCRIPTORS))
