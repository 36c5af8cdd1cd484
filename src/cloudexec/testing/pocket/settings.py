"""How a pocket AWS behaves: delays, images, memory limits.

Called by:  pocket.py and __main__.py, which make one; server/, which receives it as JSON.   Calls: nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from cloudexec.errors import SettingsError

ACCOUNT_ID = "123456789012"
CONTAINER_KINDS = ("process", "podman")
# Who signs with which key: executors; whoever runs `cloudexec up`; whoever runs `cloudexec doctor`, with the rights of
# both; tests that prepare things or look.
ACCESS_KEYS = {
    "client": "AKIAPOCKET",
    "setup": "AKIAPOCKETSETUP",
    "doctor": "AKIAPOCKETDOCTOR",
    "tester": "AKIAPOCKETTESTER",
}
RECORD_TO = "CLOUDEXEC_POCKET_RECORD"  # a directory: each server writes there who has asked what


@dataclass(frozen=True, kw_only=True)
class PocketSettings:
    """What one pocket AWS is like; everything else is as AWS has it, on a faster clock."""

    region: str = "us-east-1"
    port: int = 0  # 0: any free one
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)  # image -> the words of its ENTRYPOINT
    containers: str = "process"  # or "podman": run real images
    provisioning_s: float = 0.02  # PROVISIONING lasts this long; on AWS about 10 s
    pulling_s: float = 0.02  # from PENDING to RUNNING; on AWS 5 to 60 s
    deprovisioning_s: float = 0.02  # from the last process's end to STOPPED; on AWS about 10 s
    stop_scale: float = 1.0  # multiplies stopTimeout: 0.1 turns its 30 s into 3 s
    keep_stopped_s: float = 3600.0  # then DescribeTasks answers MISSING
    missing_for_s: float = 0.0  # a new task is MISSING for this long: ECS is eventually consistent
    memory_limits: bool = True  # kill what grows above its container's memory
    lambda_concurrency: int = 1000  # of the account
    lambda_ramp: int = 1000  # new environments per function in 10 s
    lambda_freeze: bool = True  # stop the processes of an environment while nothing is invoked
    lambda_idle_s: float = 60.0  # then an idle environment ends
    lambda_cold_s: float = 0.0  # what a new environment takes besides its own start
    lambda_init_s: float = 10.0  # how long loading the handler may take
    lambda_retry_scale: float = 1.0  # multiplies the delays and ages of events: 0.001 turns 60 s into 60 ms
    ready_made: bool = True  # False: an account with nothing in it but the default VPC
    stack_resource_s: float = 0.02  # how long CloudFormation takes for each resource; on AWS 1 s to minutes
    record_requests: bool = False  # keep the headers of every request, see PocketAWS.requests

    def __post_init__(self) -> None:
        if self.containers not in CONTAINER_KINDS:
            what = f"containers={self.containers!r} is not one of {', '.join(map(repr, CONTAINER_KINDS))}"
            raise SettingsError(what, remedy="give containers='process' or containers='podman'")
        for name in (
            "provisioning_s",
            "pulling_s",
            "deprovisioning_s",
            "stop_scale",
            "keep_stopped_s",
            "missing_for_s",
            "lambda_idle_s",
            "lambda_cold_s",
            "lambda_init_s",
            "lambda_retry_scale",
            "stack_resource_s",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise SettingsError(f"{name}={value!r} is not a number >= 0", remedy=f"give {name} >= 0")
        for name in ("lambda_concurrency", "lambda_ramp"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"{name}={value!r} is not a whole number >= 1", remedy=f"give {name} >= 1")
        for image, words in self.images.items():
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                what = f"images[{image!r}]={words!r} is not a list of words"
                raise SettingsError(what, remedy=f"give images={{{image!r}: ['program', 'argument', …]}}")

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> PocketSettings:
        """The settings that `to_json` wrote."""
        return PocketSettings(**json.loads(text))
