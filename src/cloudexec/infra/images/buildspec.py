"""What CodeBuild is told: the buildspec, the arguments of StartBuild; and what it answers. Pure.

Called by:  remote.py; cli/image.py, for the job; tests/images runs the commands with podman in the place of docker.
Calls:      recipe.py, registry.py, tools.py, for names.
Source:     CodeBuild's buildspec reference, version 0.2; API reference, StartBuild and BatchGetBuilds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import SettingsError
from cloudexec.infra.images.recipe import EPOCH_S
from cloudexec.infra.images.registry import TAG_LENGTH
from cloudexec.infra.images.tools import PLATFORMS

EXPORTED: Final = "CLOUDEXEC_IMAGE"
_ENVIRONMENTS: Final = {
    "x86_64": ("LINUX_CONTAINER", "aws/codebuild/amazonlinux-x86_64-standard:5.0"),
    "arm64": ("ARM_CONTAINER", "aws/codebuild/amazonlinux-aarch64-standard:3.0"),
}
# What a build ends with; everything else goes on.
_ENDS: Final = frozenset({"SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One build. repository: its URI; key: the zip of the context in the bucket."""

    project: str
    bucket: str
    key: str
    repository: str
    arch: str = "x86_64"
    build_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase that is over, or has begun (status empty)."""

    name: str
    status: str = ""
    duration_s: int | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at a build."""

    id: str
    status: str
    phases: tuple[Phase, ...] = ()
    log_group: str = ""
    log_stream: str = ""
    image: str = ""  # what it has pushed

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.status in _ENDS

    @property
    def trouble(self) -> str:
        """Why it failed, by the phase that did; empty if none tells."""
        told = [f"{phase.name}: {phase.trouble}" for phase in self.phases if phase.trouble]
        return "; ".join(told)


def buildspec(build_args: Sequence[str] = ()) -> str:
    """Its text. JSON is YAML. Its commands share one shell, so that a variable of one is there for the next."""
    arguments = "".join(f" --build-arg {shlex.quote(one)}" for one in (f"SOURCE_DATE_EPOCH={EPOCH_S}", *build_args))
    build = f'docker build --platform "$CLOUDEXEC_PLATFORM" --tag cloudexec-worker{arguments} .'
    identify = "docker image inspect --format '{{.Id}}' cloudexec-worker"
    cut = f'"$(echo "${{CLOUDEXEC_ID#sha256:}}" | cut -c1-{TAG_LENGTH})"'
    return json.dumps(
        {
            "version": 0.2,
            # Lambda refuses the list of images that an attestation makes of one.
            "env": {"variables": {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}, "exported-variables": [EXPORTED]},
            "phases": {
                "pre_build": {
                    "on-failure": "ABORT",
                    "commands": [
                        "aws ecr get-login-password"
                        ' | docker login --username AWS --password-stdin "${CLOUDEXEC_REPOSITORY%%/*}"'
                    ],
                },
                "build": {"on-failure": "ABORT", "commands": [build]},
                "post_build": {
                    # It runs after a failed build, too, unless that aborts.
                    "on-failure": "ABORT",
                    "commands": [
                        f'CLOUDEXEC_ID="$({identify})"',
                        f'export {EXPORTED}="$CLOUDEXEC_REPOSITORY:"{cut}',
                        f'docker tag cloudexec-worker "${EXPORTED}"',
                        f'docker push "${EXPORTED}"',
                    ],
                },
            },
        },
        indent=1,
    )


def commands_of(spec: str) -> list[str]:
    """All commands, in the order in which CodeBuild runs them."""
    phases = json.loads(spec)["phases"]
    return [command for name in ("pre_build", "build", "post_build") for command in phases[name]["commands"]]


def start_build_request(job: Job) -> dict[str, object]:
    """Arguments for `start_build`: the project brings role, log and time limit, all else is said here."""
    kind, image = _ENVIRONMENTS[job.arch]
    variables = {"CLOUDEXEC_REPOSITORY": job.repository, "CLOUDEXEC_PLATFORM": PLATFORMS[job.arch]}
    return {
        "projectName": job.project,
        "sourceTypeOverride": "S3",
        "sourceLocationOverride": f"{job.bucket}/{job.key}",
        "artifactsOverride": {"type": "NO_ARTIFACTS"},
        "buildspecOverride": buildspec(job.build_args),
        "environmentTypeOverride": kind,
        "imageOverride": image,
        "privilegedModeOverride": True,  # docker needs it
        "environmentVariablesOverride": [
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
        ],
    }


def read_progress(build: Mapping[str, Any]) -> Progress:
    """One build of StartBuild's or BatchGetBuilds' reply."""
    logs = build.get("logs") or {}
    exported = {one.get("name"): one.get("value", "") for one in build.get("exportedEnvironmentVariables") or ()}
    return Progress(
        id=build["id"],
        status=build.get("buildStatus", "IN_PROGRESS"),
        phases=tuple(map(_read_phase, build.get("phases") or ())),
        log_group=logs.get("groupName") or "",
        log_stream=logs.get("streamName") or "",
        image=exported.get(EXPORTED) or "",
    )


def read_builds(reply: Mapping[str, Any], build_id: str) -> Progress:
    """Of BatchGetBuilds' reply. Errors: SettingsError if CodeBuild does not know the build."""
    for build in reply.get("builds") or ():
        if build.get("id") == build_id:
            return read_progress(build)
    raise SettingsError(f"CodeBuild does not know the build {build_id}", remedy="look at the project's history")


def _read_phase(phase: Mapping[str, Any]) -> Phase:
    told = [one.get("message", "").strip() for one in phase.get("contexts") or ()]
    status = phase.get("phaseStatus") or ""
    return Phase(
        name=phase.get("phaseType", "?"),
        status=status,
        duration_s=phase.get("durationInSeconds"),
        trouble="; ".join(one for one in told if one) if status not in ("", "SUCCEEDED") else "",
    )
