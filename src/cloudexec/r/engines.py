"""What an engine is asked and answers, and the engines of this process.

Called by: snippet.py.   Calls: rscript, rpy2 (the engines), on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of R code. code: R source, or with kind "call" a function's name. name: the source's, for tracebacks.

    returns: "auto", "object", "plain" or "none". seed: seven integers of `.Random.seed`. outputs: globs of files.
    """

    code: str
    name: str = "<R>"
    kind: str = "snippet"
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    returns: str = "auto"
    seed: tuple[int, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RWarned:
    """A warning: R's words, and the call that it blames (or empty)."""

    message: str
    call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of it. used_rng: random numbers were drawn without a seed."""

    value: Any = None
    warnings: tuple[RWarned, ...] = ()
    used_rng: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)


class Engine(Protocol):
    """An R that runs one request at a time, and can be used again whatever came of the last."""

    def run(self, request: Request) -> Reply:
        """Run it. Errors: RError and its kin, RConversionError, RMissing."""

    def close(self) -> None:
        """End it and everything that it started."""


def run(request: Request, *, engine: str, isolation: str) -> Reply:
    """Run a request on an engine of this process; engines are kept for the next ones.

    engine: "rscript" or "rpy2". isolation: "fork", "process" or "session". Errors: those of Engine.run.
    """
    raise NotImplementedError
