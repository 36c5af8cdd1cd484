"""What R can do to a call.

Called by: cloudexec.r (raises them); users, under the names `errors.RError` and so on.   Calls: the base classes.
All arguments go to `super().__init__`, so that every error survives pickling; the facts are read from `args`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cloudexec.errors import CloudexecError


class RFrame(NamedTuple):
    """One call on R's stack; `line` of the snippet, None where R does not tell."""

    line: int | None
    text: str


class RFacts(NamedTuple):
    """What is known of a failed call of R. `condition` is an RObject where there is one."""

    message: str = ""
    classes: tuple[str, ...] = ()
    call: str = ""
    traceback: tuple[RFrame, ...] = ()
    warnings: tuple[str, ...] = ()
    output: str = ""
    session: str = ""
    condition: Any = None


NOTHING: Final = RFacts()


class RError(CloudexecError):
    """The R code ended with an error (a condition that it did not handle)."""

    remedy = "read .traceback, .warnings and .output; the snippet runs locally too: fit(...) with R installed"

    def __init__(self, what: str, facts: RFacts = NOTHING, *more: object, remedy: str | None = None) -> None:
        super().__init__(what, facts, *more, remedy=remedy)

    @property
    def facts(self) -> RFacts:
        """All that is known, in one value."""
        facts: RFacts = self.args[1]  # type: ignore[assignment] -- what __init__ was given
        return facts

    @property
    def message(self) -> str:
        """R's own words."""
        return self.facts.message

    @property
    def classes(self) -> tuple[str, ...]:
        """The condition's classes, most special first."""
        return self.facts.classes

    @property
    def call(self) -> str:
        """The call that R blames; empty where it blames none."""
        return self.facts.call

    @property
    def traceback(self) -> tuple[RFrame, ...]:
        """R's stack, outermost first, with lines of the snippet."""
        return self.facts.traceback

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings before the error."""
        return self.facts.warnings

    @property
    def output(self) -> str:
        """The last lines that the call wrote."""
        return self.facts.output

    @property
    def session(self) -> str:
        """R's version and those of the packages that were loaded."""
        return self.facts.session

    @property
    def condition(self) -> Any:
        """The condition itself, an RObject; None where the call did not live to send it."""
        return self.facts.condition


class RCrashed(RError):
    """The process that ran the R code is gone: `quit()`, a signal, or killed for its memory."""

    remedy = "the last lines are in .output; give the worker more memory, or find the crash with isolation='process'"

    def __init__(
        self,
        what: str,
        facts: RFacts = NOTHING,
        exit_code: int | None = None,
        signal: int | None = None,
        *,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, facts, exit_code, signal, remedy=remedy)

    @property
    def exit_code(self) -> int | None:
        """What `quit(status=)` said; None after a signal, or where nobody knows."""
        return self.args[2]  # type: ignore[no-any-return] -- what __init__ was given

    @property
    def signal(self) -> int | None:
        """The signal's number, where it is known."""
        return self.args[3]  # type: ignore[no-any-return] -- what __init__ was given


class RTimeout(RError, TimeoutError):
    """The R code ran longer than its `timeout_s`; it was killed."""

    remedy = "give R(..., timeout_s=) more time, or the code less to do"


class RPackageMissing(RError):
    """R packages are not installed where the call ran. `packages` names them."""

    remedy = "add them to the image (apt: r-cran-<name in lower case>), or install.packages() where the worker runs"

    def __init__(
        self,
        what: str,
        facts: RFacts = NOTHING,
        packages: Sequence[str] = (),
        *,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, facts, tuple(packages), remedy=remedy)

    @property
    def packages(self) -> tuple[str, ...]:
        """The missing ones."""
        return self.args[2]  # type: ignore[no-any-return] -- what __init__ was given


class RConversionError(CloudexecError, TypeError):
    """A value has no counterpart on the other side. `path` names it, e.g. `args[0]['col']`."""

    remedy = "convert it to plain data (numbers, text, lists, data frames) first, or keep it in R as an RObject"

    def __init__(self, what: str, path: str = "", *, remedy: str | None = None) -> None:
        super().__init__(what, path, remedy=remedy)

    @property
    def path(self) -> str:
        """Where the value stands."""
        return str(self.args[1])


class RMissing(CloudexecError):
    """There is no R where the call ran, or it does not start."""

    remedy = "install R (apt-get install r-base-core), or name it: CLOUDEXEC_RSCRIPT=/path/to/Rscript"


class RWarning(UserWarning):
    """A warning of R's. A worker sends it along with the call's output, see `travels`."""

    travels = True
