"""Run the checks: first what needs no network, then who asks, then all others side by side.

Called by: cli/doctor.py.   Calls: one module for each subject.
Order:     findings come in the order of CHECKS, whatever is ready first, so that two examinations can be compared.
Time:      a check that has not ended after LIMIT_S is told as such, and the others do not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cloudexec.errors import CloudexecError
from cloudexec.infra.doctor import (
    bucket,
    cluster,
    function,
    identity,
    image,
    network,
    quotas,
    rights,
    roles,
    settings,
    software,
    stack,
)
from cloudexec.infra.doctor.findings import Finding, Level, failed, of_error, ok, unknown
from cloudexec.infra.doctor.scene import Scene, Wanted
from cloudexec.infra.place import Place

LIMIT_S: Final = 20.0  # all of it takes two seconds where AWS is near

Ask = Callable[[Scene], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A subject, how to look at it, and for which backend; "" for all. by_definition: it needs the task definition."""

    subject: str
    ask: Ask
    part: str = ""
    by_definition: bool = False


CHECKS: Final = (
    Check(subject=identity.REGION, ask=identity.check_region),
    Check(subject=stack.SUBJECT, ask=stack.check_stack),
    Check(subject=bucket.SUBJECT, ask=bucket.check_bucket),
    Check(subject=cluster.SUBJECT, ask=cluster.check_cluster, part="ecs"),
    Check(subject=cluster.SUBJECT, ask=cluster.check_definition, part="ecs", by_definition=True),
    Check(subject=image.SUBJECT, ask=image.check_image, part="ecs", by_definition=True),
    Check(subject=network.SUBJECT, ask=network.check_network, part="ecs", by_definition=True),
    Check(subject=function.SUBJECT, ask=function.check_function, part="lambda"),
    Check(subject=roles.SUBJECT, ask=roles.check_roles),
    Check(subject=rights.SUBJECT, ask=rights.check_rights),
    Check(subject=quotas.SUBJECT, ask=quotas.check_fargate, part="ecs", by_definition=True),
    Check(subject=quotas.SUBJECT, ask=quotas.check_lambda, part="lambda"),
)


def examine(
    place: Place, wanted: Wanted, limit_s: float = LIMIT_S, checks: Iterable[Check] = CHECKS
) -> Iterator[Finding]:
    """Everything that can be found out, in order. Raises nothing that a check meets."""
    scene = Scene(place, wanted)
    local = software.judge_software(software.installed()) + settings.check_settings(scene)
    yield from local
    if any(one.level is Level.FAILED and one.subject == settings.SUBJECT for one in local):
        yield unknown("aws", "nothing was asked of AWS, because of the settings above", "correct them first")
        return
    asking = _Begun(Check(subject=identity.SUBJECT, ask=identity.check_identity), scene)
    yield from asking.findings(time.monotonic() + limit_s, limit_s)
    if not place.clients.known_arn:
        yield unknown("aws", "nothing else was asked of AWS, because of what failed above", "correct that first")
        return
    begun = [_Begun(check, scene) for check in checks]
    ends_s = time.monotonic() + limit_s
    told: set[tuple[str, str]] = set()
    for each in begun:
        for finding in each.findings(ends_s, limit_s):
            if (finding.subject, finding.text) not in told:  # two checks may meet the same trouble
                told.add((finding.subject, finding.text))
                yield finding


class _Begun:
    """A check at work, in a thread that nobody need wait for."""

    def __init__(self, check: Check, scene: Scene) -> None:
        self._check = check
        self._scene = scene
        self._found: list[Finding] | None = None
        self._thread = threading.Thread(target=self._work, name=f"doctor-{check.subject}", daemon=True)
        self._thread.start()

    def findings(self, ends_s: float, limit_s: float) -> list[Finding]:
        """What it has found, or that it is still looking."""
        self._thread.join(max(0.0, ends_s - time.monotonic()))
        if self._found is not None:
            return self._found
        text = f"no answer within {limit_s:g} s"
        return [failed(self._check.subject, text, "try again; if it stays, look at network, proxy and firewall")]

    def _work(self) -> None:
        self._found = _look(self._check, self._scene)


def _look(check: Check, scene: Scene) -> list[Finding]:
    """One check, whatever happens in it."""
    try:
        if check.part and (trouble := _of_part(check.part, scene)):
            return [trouble]
        if check.by_definition and (trouble := _of_definition(scene)):
            return [trouble]
        return list(check.ask(scene))
    except CloudexecError as error:
        return [of_error(check.subject, check.subject, error)]
    except Exception as error:  # a mistake of ours in one check must not hide what the others found
        text = f"this check itself failed: {type(error).__name__}: {error}"
        return [failed(check.subject, text, "please report it, with this line")]


_WHERE: Final = {"ecs": "ECS", "lambda": "Lambda"}


def _of_part(part: str, scene: Scene) -> Finding | None:
    """What makes it needless to look at anything else of a backend; all its checks say the same, which is told once."""
    name, has = _WHERE[part], scene.has_ecs if part == "ecs" else scene.has_function
    if not has:
        if scene.has_ecs or scene.has_function:
            return ok(part, f"{name} is not set up here, so it was not looked at")
        text = f"{name} is not set up: neither settings nor a stack {scene.stack} name anything of it"
        return failed(part, text, "cloudexec up")
    try:
        _ = scene.ecs if part == "ecs" else scene.function
    except CloudexecError as error:
        return of_error(part, name, error)
    return None


def _of_definition(scene: Scene) -> Finding | None:
    try:
        _ = scene.definition
    except CloudexecError as error:
        return of_error("ecs", f"task definition {scene.ecs.target.task_definition}", error)
    return None
