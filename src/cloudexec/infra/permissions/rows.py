"""A row of the table of rights: who may do what, on which resources, when, and why.

Called by: grants.py and setup.py, which hold the rows; everybody who reads them.   Calls: nothing; pure data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Who(str, Enum):
    """Who has a right."""

    CLIENT = "client"  # whoever creates executors, and looks at runs
    TASK = "task"  # workers on ECS
    FUNCTION = "function"  # workers on Lambda
    SETUP = "setup"  # whoever runs `cloudexec up`, `down`, `doctor`, `image push`
    EXECUTION = "execution"  # ECS itself: it pulls the image and writes the log
    JOBS = "jobs"  # whoever only puts jobs into the bucket
    BUILD = "build"  # CodeBuild, where it builds images


class Part(str, Enum):
    """For what; a policy may be asked for some of them."""

    COMMON = "common"
    ECS = "ecs"
    LAMBDA = "lambda"
    IMAGES = "images"
    NETWORK = "network"


# What images need of a registry, whoever moves them.
PULLS: Final = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")
PUSHES: Final = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
BY_PROTOCOL: Final = dict.fromkeys(PUSHES, "the registry's own protocol")

Condition = Mapping[str, Mapping[str, "str | tuple[str, ...]"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Some actions on some resources. `on` holds ARNs with names in braces (see names.Names).

    indirect: actions that no request names, because a service asks for them as a part of another one (iam:PassRole),
    or only when something goes wrong; each with its reason. Tests expect to see all others in the recorded requests.
    """

    who: Who
    part: Part
    why: str
    actions: tuple[str, ...]
    on: tuple[str, ...] = ("*",)
    when: Condition = field(default_factory=dict)
    indirect: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False  # without it something is worse, and nothing fails

    def __post_init__(self) -> None:
        assert set(self.indirect) <= set(self.actions), self

    @property
    def needed(self) -> frozenset[str]:
        """The actions that requests name: tests expect to see each of them."""
        return frozenset(self.actions) - frozenset(self.indirect)
