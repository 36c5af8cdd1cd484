"""What has become of a task, as R is told.

Called by: loops.py, server.py.   Calls: errors.
Mirror:    r/cloudexec/R/outcomes.R.
"""

from __future__ import annotations

import warnings
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import CloudexecError, RError, RWarning

SEPARATOR: Final = "\x1e"  # between warnings, which may have several lines
N_PARTS: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One task's end. kind: "value", "condition" (an error of R's, as R has it) or "failure" (all others).

    value: RDS of `list(value, warnings)` or of the condition. classes: of the failure, most special first.
    """

    number: int
    kind: str
    value: bytes = b""
    message: str = ""
    classes: tuple[str, ...] = ()
    traceback: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stdout: str = ""
    stderr: str = ""

    def parts(self) -> list[bytes | str | int]:
        """As N_PARTS parts of a frame. R's texts have no NUL."""
        texts = [
            self.message,
            "\n".join(self.classes),
            "\n".join(line.replace("\n", " ") for line in self.traceback),
            SEPARATOR.join(self.warnings),
            self.stdout,
            self.stderr,
        ]
        return [self.number, self.kind, self.value, *(text.replace("\0", "") for text in texts)]


def outcome_of(number: int, future: Future[Any]) -> Outcome:
    """The outcome of a future that is done."""
    stdout, stderr = getattr(future, "stdout", ""), getattr(future, "stderr", "")
    with warnings.catch_warnings():
        # The task sends its warnings along with the value, as R's own conditions.
        warnings.simplefilter("ignore", RWarning)
        try:
            value = future.result(0)
        except (Exception, CancelledError) as error:
            return failed(number, error, stdout=stdout, stderr=stderr)
    return Outcome(number=number, kind="value", value=bytes(value), stdout=stdout, stderr=stderr)


def failed(number: int, error: BaseException, *, stdout: str = "", stderr: str = "") -> Outcome:
    """How a failure is told: as R's own condition where there is one, else in words."""
    facts = error.facts if isinstance(error, RError) else None
    condition = facts.condition if facts is not None else None
    return Outcome(
        number=number,
        kind="failure" if condition is None else "condition",
        value=b"" if condition is None else condition.data,
        message=str(error) or type(error).__name__,
        classes=classes_of(error),
        traceback=() if facts is None else tuple(_shown(frame) for frame in facts.traceback),
        warnings=() if facts is None else facts.warnings,
        stdout=stdout,
        stderr=stderr,
    )


def classes_of(error: BaseException) -> tuple[str, ...]:
    """Names of the error's classes down to CloudexecError; of any other error, its own."""
    if not isinstance(error, CloudexecError):
        return (type(error).__name__,)
    return tuple(kind.__name__ for kind in type(error).__mro__ if issubclass(kind, CloudexecError))


def _shown(frame: Any) -> str:
    return frame.text if frame.line is None else f"{frame.text} (line {frame.line})"
