"""The sizes in which Fargate rents tasks; no I/O happens here.

Called by: target.py, executors that retry on a larger size.
Source:    ECS developer guide, "Task CPU and memory" for Linux, read in 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from cloudexec.errors import SettingsError

CPU_UNITS_PER_VCPU: Final = 1024
MIB_PER_GIB: Final = 1024


class Size(NamedTuple):
    """What one task is given."""

    vcpu: float
    memory_mib: int

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.vcpu:g} vCPU and {self.memory_mib} MiB"


def _gib(least: int, most: int, step: int) -> tuple[int, ...]:
    return tuple(gib * MIB_PER_GIB for gib in range(least, most + 1, step))


FARGATE_MEMORY_MIB: Final[dict[float, tuple[int, ...]]] = {
    0.25: (512, 1024, 2048),
    0.5: _gib(1, 4, 1),
    1: _gib(2, 8, 1),
    2: _gib(4, 16, 1),
    4: _gib(8, 30, 1),
    8: _gib(16, 60, 4),
    16: _gib(32, 120, 8),
    32: (60 * MIB_PER_GIB, 120 * MIB_PER_GIB, 244 * MIB_PER_GIB),
}
FARGATE_SIZES: Final = tuple(
    chain.from_iterable((Size(vcpu, mib) for mib in memory) for vcpu, memory in FARGATE_MEMORY_MIB.items())
)


def next_size(vcpu: float, memory_mib: int) -> Size | None:
    """The smallest size that has at least both; None if Fargate has none."""
    return next((size for size in FARGATE_SIZES if size.vcpu >= vcpu and size.memory_mib >= memory_mib), None)


def check_fargate_size(vcpu: float, memory_mib: int) -> None:
    """Errors: SettingsError, which names the next size that there is."""
    if Size(vcpu, memory_mib) in FARGATE_SIZES:
        return
    if vcpu in FARGATE_MEMORY_MIB:
        steps = FARGATE_MEMORY_MIB[vcpu]
        why = f"with {vcpu:g} vCPU there are {steps[0]} to {steps[-1]} MiB, in steps"
    else:
        why = f"it has {', '.join(f'{each:g}' for each in FARGATE_MEMORY_MIB)} vCPU"
    size = next_size(vcpu, memory_mib)
    if size is None:
        remedy = "take the largest, vcpu=32, memory_mib=249856, or capacity of your own (launch_type='EC2')"
    else:
        remedy = f"take the next size: vcpu={size.vcpu:g}, memory_mib={size.memory_mib}"
    raise SettingsError(f"Fargate has no size vcpu={vcpu:g}, memory_mib={memory_mib}: {why}", remedy=remedy)


def check_growing(first: Size | None, sizes: Sequence[Size], *, on_fargate: bool) -> None:
    """Sizes in which a call is tried one after the other; `first`: that of the workers, None if it is not known.

    Errors: SettingsError, if one is not larger than the one before, or not to be had.
    """
    before = first
    for size in sizes:
        if on_fargate:
            check_fargate_size(*size)
        if before is not None and (size.memory_mib <= before.memory_mib or size.vcpu < before.vcpu):
            raise SettingsError(
                f"oom_sizes: {size.shown} is not larger than {before.shown}, which is tried before it",
                remedy="begin with more memory than the workers have, and let each size have more than the last",
            )
        before = size
