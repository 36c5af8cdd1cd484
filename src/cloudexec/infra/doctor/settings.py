"""Settings: where each comes from, what contradicts, what is ignored.

Called by: examine.py.   Calls: backends.aws_config and ecs.discovery.merge, as executors do. No network.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from cloudexec.backends.aws_config import (
    FILE_VARIABLE,
    KEYS,
    TABLE_VARIABLE,
    Settings,
    config_path,
    from_arguments,
    from_environment,
    from_file,
    variable_of,
)
from cloudexec.backends.ecs.discovery import merge
from cloudexec.errors import SettingsError
from cloudexec.infra.doctor.findings import Finding, detail, failed, ok, warning
from cloudexec.infra.doctor.scene import Scene

SUBJECT: Final = "settings"
_PREFIX: Final = "CLOUDEXEC_"
_NEAR: Final = 0.85  # closer than this to the name of a setting, and yet none: a slip of the finger
_KEY_VARIABLE: Final = "AWS_ACCESS_KEY_ID"


def check_settings(scene: Scene) -> list[Finding]:
    """What arguments, environment and file say."""
    environ, given = scene.wanted.environ, scene.wanted.given
    try:
        sources = [from_arguments(given), from_environment(environ), from_file(environ)]
        merged = merge(merge(sources[0], sources[1]), sources[2])
        findings = judge_settings(merged, sources[2], f"{config_path(environ)}", config_path(environ).exists())
    except SettingsError as error:
        return [failed(SUBJECT, error.what, error.remedy)]
    findings += judge_variables(environ, is_profile_given=bool(given.get("aws_profile")))
    for settle in (lambda: scene.ecs_settled, lambda: scene.function_settled):
        try:
            settle()
        except SettingsError as error:
            findings.append(failed(SUBJECT, error.what, error.remedy))
    return findings


def judge_settings(merged: Settings, in_file: Settings, path: str, file_exists: bool) -> list[Finding]:
    """What holds, and what in the file does not. Pure."""
    file_words = path if file_exists else f"there is no {path}"
    n_others = sum(1 for name, found in merged.items() if in_file.get(name) != found)
    n_of_file = len(merged) - n_others
    text = f"{n_of_file} of the file ({file_words}), {n_others} of options and environment variables"
    findings = [ok(SUBJECT, text, file=path if file_exists else "")]
    for name, found in sorted(merged.items()):
        findings.append(detail(SUBJECT, f"{name} = {_shown(found.value)}, from {found.source}", **{name: found.value}))
    for name, found in sorted(in_file.items()):
        if name not in merged or merged[name] != found:
            why = merged[name].source if name in merged else "what is set elsewhere excludes it"
            findings.append(detail(SUBJECT, f"{name} = {_shown(found.value)} of the file does not hold: {why}"))
    return findings


def judge_variables(environ: Mapping[str, str], *, is_profile_given: bool) -> list[Finding]:
    """Environment variables that do not do what somebody may believe. Pure."""
    findings = []
    known = {variable_of(key) for key in KEYS} | {FILE_VARIABLE, TABLE_VARIABLE}
    for name in sorted(environ):
        near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR) if name.startswith(_PREFIX) else []
        if near and name not in known:
            text = f"the environment variable {name} is no setting, and is ignored"
            findings.append(warning(SUBJECT, text, f"did you mean {near[0]}?"))
    if environ.get(_KEY_VARIABLE) and environ.get("AWS_PROFILE") and not is_profile_given:
        text = f"AWS_PROFILE={environ['AWS_PROFILE']} is ignored: the keys of {_KEY_VARIABLE} are used"
        findings.append(warning(SUBJECT, text, f"unset {_KEY_VARIABLE}, or AWS_PROFILE"))
    return findings


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
