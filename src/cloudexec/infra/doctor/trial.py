"""`--run`: what one call has told, end to end.

Called by: cli/doctor.py, which makes the executor; only entry points may.   Calls: nothing of AWS.   Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import CloudexecError
from cloudexec.infra.doctor.findings import Finding, detail, failed, ok, warning
from cloudexec.infra.doctor.software import numbers
from cloudexec.observe.estimates import FargateShape

SUBJECTS: Final = {"ecs": "run on ecs", "lambda": "run on lambda"}
LEAST_SHOWN_USD: Final = 0.0001
LEAST_S: Final = {"ecs": FargateShape().least_s, "lambda": 0.0}  # what is billed at least


def make_witness() -> Callable[[], dict[str, Any]]:
    """The function that is called over there. It travels as code: a worker may have another cloudexec."""

    def witness() -> dict[str, Any]:
        import os
        import platform
        import sys
        from importlib.metadata import PackageNotFoundError, version

        def version_of(name: str) -> str:
            try:
                return version(name)
            except PackageNotFoundError:
                return ""

        return {
            "python": ".".join(map(str, sys.version_info[:3])),
            "cloudexec": version_of("cloudexec"),
            "cloudpickle": version_of("cloudpickle"),
            "arch": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        }

    return witness


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One call, and one more when the worker was up. there, here: what the witness says of worker and client."""

    backend: str
    first_s: float
    second_s: float
    there: Mapping[str, Any]
    here: Mapping[str, Any]
    usd: float


def cost_of(backend: str, width: Mapping[str, Any], lasted_s: float) -> float:
    """Dollars of a trial, at most. width: the facts of the finding that tells how wide runs may be. Pure."""
    one_h = width["usd_h"] / max(1, width["fit"])
    return float(one_h * max(LEAST_S[backend], lasted_s) / 3600)


def judge_trial(found: Trial) -> list[Finding]:
    """Pure."""
    subject = SUBJECTS[found.backend]
    there, here = found.there, found.here
    facts = {"first_s": round(found.first_s, 2), "second_s": round(found.second_s, 3), "usd": found.usd, **there}
    text = (
        f"the first result came after {found.first_s:.1f} s, the next after {_shown(found.second_s)}; "
        f"it cost {f'about ${found.usd:.4f}' if found.usd >= LEAST_SHOWN_USD else 'less than $0.0001'}"
    )
    packages = ", ".join(f"{name} {there[name] or '?'}" for name in ("cloudexec", "cloudpickle"))
    machine = f"{there['arch']}, {there['cpus']} CPUs, {there['memory_mib']} MiB"
    findings = [
        ok(subject, text, **facts),
        detail(subject, f"the worker has Python {there['python']}, {packages}, {machine}"),
    ]
    for name in ("cloudexec", "cloudpickle"):
        if there[name] and here[name] and there[name] != here[name]:
            what = f"the worker has {name} {there[name]}, this client {here[name]}"
            findings.append(warning(subject, what, "run `cloudexec up` or build the image again, to have the same"))
    if numbers(there["python"])[:2] != numbers(here["python"])[:2]:
        what = f"the worker has Python {there['python']}, this client {here['python']}"
        findings.append(failed(subject, what, "use the same minor version on both sides"))
    return findings


def judge_failure(backend: str, error: BaseException) -> list[Finding]:
    """What an executor said itself. Pure."""
    if isinstance(error, CloudexecError):
        return [failed(SUBJECTS[backend], f"{type(error).__name__}: {error.what}", error.remedy)]
    text = f"{type(error).__name__}: {error}"
    return [failed(SUBJECTS[backend], text, "see docs/troubleshooting.md; `cloudexec logs` has the worker's lines")]


def _shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
