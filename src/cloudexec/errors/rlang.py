"""What R can do to a call.

Called by: cloudexec.r (raises them); users, under the names `errors.RError` and so on.   Calls: the base classes.
All arguments go to `super().__init__`, so that every error survives pickling; the facts are read from `args`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

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


class RError(CloudexecError):
    """The R code ended with an error (a condition that it did not handle)."""

    remedy = "read .traceback, .warnings and .output; the snippet runs locally too: fit(...) with R installed"

    def __init__(self, what: str, facts: RFacts | None = None, *more: object, remedy: str | None = None) -> None:
        super().__init__(what, *_given(facts, *more), remedy=remedy)

    @property
    def facts(self) -> RFacts:
        """All that is known, in one value."""
        return cast(RFacts, self._argument(1) or RFacts())

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

    def _argument(self, number: int) -> Any:
        return self.args[number] if len(self.args) > number else None


class RCrashed(RError):
    """The process that ran the R code is gone: `quit()`, a signal, or killed for its memory."""

    remedy = "the last lines are in .output; give the worker more memory, or find the crash with isolation='process'"

    def __init__(
        self,
        what: str,
        facts: RFacts | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        *,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, facts, exit_code, signal, remedy=remedy)

    @property
    def exit_code(self) -> int | None:
        """What `quit(status=)` said; None after a signal, or where nobody knows."""
        return cast("int | None", self._argument(2))

    @property
    def signal(self) -> int | None:
        """The signal's number, where it is known."""
        return cast("int | None", self._argument(3))


class RTimeout(RError, TimeoutError):
    """The R code ran longer than its `timeout_s`; it was killed."""

    remedy = "give R(..., timeout_s=) more time, or the code less to do"


class RPackageMissing(RError):
    """R packages are not installed where the call ran. `packages` names them."""

    remedy = "add them to the image (apt: r-cran-<name in lower case>), or install.packages() where the worker runs"

    def __init__(
        self,
        what: str,
        facts: RFacts | None = None,
        packages: tuple[str, ...] | None = None,
        *,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, facts, packages, remedy=remedy)

    @property
    def packages(self) -> tuple[str, ...]:
        """The missing ones."""
        return tuple(self._argument(2) or ())


class RConversionError(CloudexecError, TypeError):
    """A value has no counterpart on the other side. `path` names it, e.g. `args[0]['col']`."""

    remedy = "convert it to plain data (numbers, text, lists, data frames) first, or keep it in R as an RObject"

    def __init__(self, what: str, path: str | None = None, *, remedy: str | None = None) -> None:
        super().__init__(what, *_given(path), remedy=remedy)

    @property
    def path(self) -> str:
        """Where the value stands."""
        return str(self.args[1]) if len(self.args) > 1 else ""


class RMissing(CloudexecError):
    """There is no R where the call ran, or it does not start."""

    remedy = "install R (apt-get install r-base-core), or name it: CLOUDEXEC_RSCRIPT=/path/to/Rscript"


class RWarning(UserWarning):
    """A warning of R's. A worker sends it along with the call's output, see `travels`."""

    travels = True


def _given(*arguments: object) -> tuple[object, ...]:
    """Without those at the end that were not given."""
    n_given = max((number for number, value in enumerate(arguments, start=1) if value is not None), default=0)
    return arguments[:n_given]
