"""Where and as what a run's tasks start: valid from its construction on, complete after discovery.

Called by: executors (construct), discovery.py (completes), requests.py, fleet.py.   Calls: sizes.py.
No I/O happens here, so that contradictory settings are refused where they are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cloudexec.backends.ecs.sizes import Size, check_fargate_size, check_growing
from cloudexec.errors import SettingsError

DEFAULT_SIZE: Final = Size(1, 2048)  # of a task definition that we register
DEFAULT_CONTAINER: Final = "worker"
MOST_TAGS: Final = 46  # ECS takes 50; four are ours
_ARCHS: Final = {"x86_64": "X86_64", "amd64": "X86_64", "arm64": "ARM64", "aarch64": "ARM64"}
_LAUNCH_TYPES: Final = ("FARGATE", "EC2", "EXTERNAL", "MANAGED_INSTANCES")
_FARGATE: Final = frozenset({"FARGATE", "FARGATE_SPOT"})
_TAG_TEXT: Final = re.compile(r"[\w\s.:/=+\-@]*")


class Capacity(str, Enum):
    """What kind of capacity a launch asks for; the launch limits of each are separate."""

    ON_DEMAND = "on-demand"  # Fargate
    SPOT = "spot"  # Fargate Spot: cheaper, may be taken away, may not be there
    OWN = "own"  # what `launch_type` or `capacity_provider_strategy` name


class Fallback(str, Enum):
    """What to do where there is no Spot capacity."""

    ON_DEMAND = "on_demand"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderShare:
    """One entry of a capacity provider strategy: `base` tasks at least, then by `weight`."""

    provider: str
    weight: int = 1  # the service's own default, 0, would start nothing
    base: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1000 or not 0 <= self.base <= 100_000:
            what = f"capacity provider {self.provider!r}: weight={self.weight}, base={self.base} is out of range"
            raise SettingsError(what, remedy="give a weight of 0 to 1000 and a base of 0 to 100000")

    @property
    def is_fargate(self) -> bool:
        """Whether AWS owns the machines."""
        return self.provider in _FARGATE


@dataclass(frozen=True, slots=True, kw_only=True)
class EcsTarget:
    """Settings of all tasks of a run. What is empty is for discovery to find; `missing` tells what still is.

    task_definition: family, family:revision or ARN of one that is there; or `image`, for one that we register.
    vcpu, memory_mib: None keeps what the task definition says. slots: calls at once in a container, None for one per
    vCPU. oom_sizes: where a call is tried again that ran out of memory. container: the one that runs the worker, "" for
    the definition's own or "worker".
    """

    cluster: str = ""
    task_definition: str = ""
    image: str = ""
    container: str = ""
    vcpu: float | None = None
    memory_mib: int | None = None
    slots: int | None = None
    oom_sizes: tuple[Size, ...] = ()
    arch: str = ""
    launch_type: str = ""
    capacity_provider_strategy: tuple[ProviderShare, ...] = ()
    spot: bool = False
    on_demand_base: int = 0
    fallback: Fallback = Fallback.ON_DEMAND
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: bool | None = None
    task_role: str = ""
    execution_role: str = ""
    log_group: str = ""
    log_prefix: str = "cloudexec"
    ephemeral_gib: int | None = None
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_definition()
        self._check_size()
        self._check_capacity()
        self._check_tags()

    # --- what follows from the settings ---

    @property
    def is_fargate(self) -> bool:
        """Whether AWS owns the machines."""
        if self.capacity_provider_strategy:
            return self.capacity_provider_strategy[0].is_fargate
        return self.launch_type in ("", "FARGATE")

    @property
    def capacity(self) -> Capacity:
        """Where tasks beyond `on_demand_base` are to run."""
        if self.spot:
            return Capacity.SPOT
        is_plain = self.is_fargate and not self.capacity_provider_strategy
        return Capacity.ON_DEMAND if is_plain else Capacity.OWN

    @property
    def size(self) -> Size:
        """What a task has; for a task definition of unknown size, what we would register."""
        return Size(self.vcpu or DEFAULT_SIZE.vcpu, self.memory_mib or DEFAULT_SIZE.memory_mib)

    @property
    def known_size(self) -> Size | None:
        """What a task has; None if only its task definition says that."""
        is_known = self.image or (self.vcpu is not None and self.memory_mib is not None)
        return self.size if is_known else None

    @property
    def n_slots(self) -> int:
        """Calls at once in a container."""
        return self.slots if self.slots is not None else max(1, int(self.size.vcpu))

    @property
    def container_name(self) -> str:
        """The container that runs the worker."""
        return self.container or DEFAULT_CONTAINER

    @property
    def architecture(self) -> str:
        """In the service's words; "" for the task definition's own."""
        return _ARCHS.get(self.arch, "")

    @property
    def missing(self) -> tuple[str, ...]:
        """Settings without which nothing can be started."""
        is_needed = {
            "cluster": True,
            "task_definition": not self.image,
            "subnets": self.is_fargate or bool(self.image),  # the definitions that we register are for awsvpc
            "execution_role": bool(self.image) and self.is_fargate,
        }
        return tuple(name for name, needed in is_needed.items() if needed and not getattr(self, name))

    # --- what contradicts ---

    def _check_definition(self) -> None:
        if self.task_definition and self.image:
            what = f"both task_definition={self.task_definition!r} and image={self.image!r} are given"
            raise SettingsError(what, remedy="give one: a task definition names its image itself")
        if self.task_definition and (self.task_role or self.execution_role):
            what = "task_role and execution_role belong to the task definition that is given"
            raise SettingsError(what, remedy="leave them out, or give image= so that a definition is registered")
        if self.arch and self.arch not in _ARCHS:
            raise SettingsError(f"arch={self.arch!r} is unknown", remedy="give 'x86_64' or 'arm64'")
        if self.slots is not None and (not isinstance(self.slots, int) or self.slots < 1):
            raise SettingsError(f"slots={self.slots!r} is not a positive whole number", remedy="give slots >= 1")
        if self.ephemeral_gib is not None and not 21 <= self.ephemeral_gib <= 200:
            what = f"ephemeral_gib={self.ephemeral_gib} is not in 21…200"
            raise SettingsError(what, remedy="20 GiB are free and need no setting; otherwise give 21 to 200")

    def _check_size(self) -> None:
        check_growing(self.known_size, self.oom_sizes, on_fargate=self.is_fargate)
        if self.vcpu is not None and not self.vcpu > 0:
            raise SettingsError(f"vcpu={self.vcpu!r} is not positive", remedy="give e.g. vcpu=1")
        if self.memory_mib is not None and not self.memory_mib > 0:
            raise SettingsError(f"memory_mib={self.memory_mib!r} is not positive", remedy="give e.g. memory_mib=2048")
        if not self.is_fargate:
            return
        if self.image:
            check_fargate_size(*self.size)
        elif self.vcpu is not None and self.memory_mib is not None:
            check_fargate_size(self.vcpu, self.memory_mib)
        elif self.vcpu is not None or self.memory_mib is not None:
            raise SettingsError(
                "only one of vcpu and memory_mib is given, and the other one is the task definition's",
                remedy="give both, or neither",
            )

    def _check_capacity(self) -> None:
        strategy = self.capacity_provider_strategy
        if self.launch_type and self.launch_type not in _LAUNCH_TYPES:
            what = f"launch_type={self.launch_type!r} is unknown"
            raise SettingsError(what, remedy=f"give one of {', '.join(_LAUNCH_TYPES)}")
        if self.launch_type and strategy:
            what = "launch_type and capacity_provider_strategy exclude each other"
            raise SettingsError(what, remedy="give one of them")
        if self.spot and (self.launch_type or strategy):
            other = "launch_type" if self.launch_type else "capacity_provider_strategy"
            raise SettingsError(
                f"spot=True means Fargate Spot, and contradicts {other}",
                remedy=f"leave {other} out, or name FARGATE_SPOT in capacity_provider_strategy instead of spot=True",
            )
        if self.on_demand_base < 0:
            raise SettingsError(f"on_demand_base={self.on_demand_base} is negative", remedy="give 0 or more")
        if self.on_demand_base and not self.spot:
            what = f"on_demand_base={self.on_demand_base} says nothing without spot=True"
            raise SettingsError(what, remedy="add spot=True, or leave on_demand_base out")
        if strategy:
            self._check_strategy(strategy)

    def _check_strategy(self, strategy: tuple[ProviderShare, ...]) -> None:
        if len(strategy) > 20:
            raise SettingsError(f"a strategy of {len(strategy)} providers", remedy="ECS takes 20 at most")
        if len({share.is_fargate for share in strategy}) > 1:
            what = f"a strategy mixes Fargate with other providers: {', '.join(share.provider for share in strategy)}"
            raise SettingsError(what, remedy="use FARGATE and FARGATE_SPOT, or providers of your own, not both")
        if not any(share.weight or share.base for share in strategy):
            raise SettingsError("all weights of the strategy are 0", remedy="give one provider a weight of 1")
        if sum(share.base > 0 for share in strategy) > 1:
            raise SettingsError("several providers of the strategy have a base", remedy="give one of them a base")

    def _check_tags(self) -> None:
        if len(self.tags) > MOST_TAGS:
            raise SettingsError(f"{len(self.tags)} tags are given", remedy=f"give {MOST_TAGS} at most")
        for key, value in self.tags.items():
            is_valid = 0 < len(key) <= 128 and len(value) <= 256 and _TAG_TEXT.fullmatch(key + value)
            if not is_valid or key.lower().startswith(("aws:", "cloudexec:")):
                what = f"tag {key!r}={value!r} is not valid"
                remedy = "1…128 and 0…256 letters, digits, spaces or .:/=+-@_, not starting with aws: or cloudexec:"
                raise SettingsError(what, remedy=remedy)
