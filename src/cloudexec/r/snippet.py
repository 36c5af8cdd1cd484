"""`R(...)`: R code as a callable value.

Called by: users; a worker, which calls the value that it unpickled.   Calls: engines (runs it), rds (checks arguments),
           streams. Nothing else of cloudexec is needed, so it works in any `concurrent.futures.Executor`.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cloudexec.errors import RWarning, SettingsError
from cloudexec.r.streams import RStream, RStreams

_CHOICES: Final = {
    "returns": ("auto", "object", "plain", "none"),
    "isolation": ("fork", "process", "session"),
    "engine": ("rscript", "rpy2"),
}
_PACKAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
_FUNCTION: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9.]*:::?)?(?:[A-Za-z.][A-Za-z0-9._]*|`[^`]+`)")
_LOOK: Final = """function(packages) {
  versions <- vapply(packages, function(p)
    if (requireNamespace(p, quietly = TRUE)) as.character(utils::packageVersion(p)) else NA_character_, "")
  list(r = as.character(getRversion()), platform = R.version$platform, locale = Sys.getlocale("LC_CTYPE"),
       blas = unname(extSoftVersion()["BLAS"]), packages = as.list(versions), timezone = Sys.timezone())
}"""


@dataclass(frozen=True, slots=True)
class R:
    """R code as a function: `fit = R("function(df, k) …")`, then `fit(df, k=3)` or `executor.submit(fit, df, k=3)`.

    code: R source. If its value is a function, that is called with the arguments; else the code runs as a script, with
    named arguments as its variables, and the value of its last line is the result. packages: attached before. returns:
    "auto" (plain data becomes Python's, the rest an RObject), "object" (always an RObject), "plain" (an error if it is
    not plain data), "none". isolation: "fork" (a copy of a warm R for each call), "process" (a fresh Rscript),
    "session" (none: what a call leaves is there for the next). engine: "rscript", or "rpy2" (needs cloudexec[rpy2]).
    env: environment variables for the call. timeout_s: the call is killed after so many seconds. outputs: globs; the
    call runs in a directory of its own, and the result is an RFiles with what it wrote there. name: for tracebacks.
    Errors: SettingsError.
    """

    code: str
    _: KW_ONLY
    packages: Sequence[str] = ()
    returns: str = "auto"
    isolation: str = "fork"
    engine: str = "rscript"
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    timeout_s: float | None = None
    outputs: Sequence[str] = ()
    name: str = "<R>"
    kind: str = field(default="snippet", repr=False)  # "call": the code is the name of a function

    def __post_init__(self) -> None:
        if not isinstance(self.code, str) or not self.code.strip():
            what = "R code must be text" if self.name == "<R>" else f"{self.name} has no R code: it must be text"
            raise SettingsError(f"{what}, not {self.code!r}", remedy='e.g. R("function(x) x + 1")')
        if "\0" in self.code:
            raise SettingsError(f"the R code has a NUL character at {self.code.index(chr(0))}", remedy="remove it")
        for setting, known in _CHOICES.items():
            if (given := getattr(self, setting)) not in known:
                raise SettingsError(f"{setting}={given!r} is unknown", remedy=f"give one of {', '.join(known)}")
        if self.timeout_s is not None and not _is_positive(self.timeout_s):
            raise SettingsError(f"timeout_s={self.timeout_s!r} is not a positive number of seconds")
        object.__setattr__(self, "packages", _names(self.packages, "packages"))
        object.__setattr__(self, "outputs", _globs(self.outputs))
        object.__setattr__(self, "env", _environment(self.env))

    # --- other ways to make one ------------------------------------------------------------------

    @classmethod
    def file(cls, path: str | os.PathLike[str], **settings: Any) -> R:
        """An R script or function in a file, read now; workers need no file. Errors: SettingsError, OSError."""
        try:
            code = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise SettingsError(f"{os.fspath(path)} is not UTF-8: {error}", remedy="save it as UTF-8") from error
        return cls(code, **{"name": Path(path).name, **settings})

    @classmethod
    def call(cls, function: str, **settings: Any) -> R:
        """A function of R's by name: `R.call("stats::lm")`. Errors: SettingsError."""
        if not isinstance(function, str) or not _FUNCTION.fullmatch(function):
            raise SettingsError(f"{function!r} is no name of an R function", remedy='e.g. R.call("stats::median")')
        return cls(function, **{"name": function, "kind": "call", **settings})

    @staticmethod
    def streams(seed: int) -> RStreams:
        """Random streams, one for each call: `ex.map(boot, xs, R.streams(42))`. See RStreams."""
        return RStreams(seed)

    @classmethod
    def check(cls, executor: Executor | None = None, packages: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
        """What R there is where the executor runs calls (or here): version, BLAS, locale, and versions of packages,
        None for one that is missing. Errors: RMissing, SettingsError."""
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise SettingsError(f"{executor!r} is no executor", remedy='e.g. R.check(executor, ["lme4"])')
        wanted = list(_names(packages, "packages"))
        look = cls(_LOOK, name="R.check", **settings)
        found: dict[str, Any] = look(wanted) if executor is None else executor.submit(look, wanted).result()
        if not wanted:
            found["packages"] = {}
        return found

    def with_env(self, env: Mapping[str, str] | None = None, /, **more: str) -> R:
        """The same code with more environment variables: `script.with_env(MODEL_CONFIG=json.dumps(config))`."""
        return replace(self, env={**self.env, **(env or {}), **more})

    # --- calling it --------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here, in an R process that is kept for the next call.

        An RStream among the arguments becomes the call's random generator. Warnings are issued as RWarning.
        Errors: RError, RCrashed, RTimeout, RPackageMissing, RConversionError, RMissing.
        """
        from cloudexec.r import engines
        from cloudexec.r.robject import RFiles

        args, kwargs = self.__cloudexec_arguments__(args, kwargs)
        seeds = [value for value in (*args, *kwargs.values()) if isinstance(value, RStream)]
        if len(seeds) > 1:
            raise SettingsError(f"{len(seeds)} streams of random numbers were given to one call", remedy="give one")
        request = engines.Request(
            code=self.code,
            name=self.name,
            kind=self.kind,
            args=tuple(value for value in args if not isinstance(value, RStream)),
            kwargs={name: value for name, value in kwargs.items() if not isinstance(value, RStream)},
            packages=tuple(self.packages),
            returns=self.returns,
            seed=seeds[0].seed if seeds else None,
            env=self.env,
            outputs=tuple(self.outputs),
            timeout_s=self.timeout_s,
        )
        reply = engines.run(request, engine=self.engine, isolation=self.isolation)
        for warned in reply.warnings:
            _warn(f"{warned.message} (in {warned.call})" if warned.call else warned.message)
        if reply.used_rng:
            _warn("the R code drew random numbers without a seed, so nobody can repeat it; pass R.streams(seed) to map")
        return RFiles(value=reply.value, files=reply.files) if self.outputs else reply.value

    def __cloudexec_arguments__(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as they travel: checked, and objects of rpy2's as RObjects. See serialization.functions."""
        from cloudexec.r import rds

        if "rpy2.rinterface" in sys.modules:
            from cloudexec.r.rpy2 import bridge

            args = tuple(bridge.portable(value, f"args[{number}]") for number, value in enumerate(args))
            kwargs = {name: bridge.portable(value, f"kwargs[{name!r}]") for name, value in kwargs.items()}
        for number, value in enumerate(args):
            if not isinstance(value, RStream):
                rds.check(value, f"args[{number}]")
        for name, value in kwargs.items():
            if not isinstance(value, RStream):
                rds.check(value, f"kwargs[{name!r}]")
        return args, dict(kwargs)

    def __repr__(self) -> str:
        lines = self.code.strip().splitlines()
        shown = lines[0][:60] + (" …" if len(lines) > 1 or len(lines[0]) > 60 else "")
        return f"<R {shown}>" if self.name == "<R>" else f"<R {self.name}>"

    @property
    def __name__(self) -> str:
        """For logs, progress and errors."""
        return "R" if self.name == "<R>" else self.name


def _warn(text: str) -> None:
    """Issue it each time, as R does, at the line that called; not only the first time that this line warns."""
    frame = sys._getframe(2)  # _warn, __call__, the caller
    warnings.warn_explicit(RWarning(text), None, frame.f_code.co_filename, frame.f_lineno, registry=None)


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
            raise SettingsError(f"{what} has {name!r}, which is no name of an R package")
    return names


def _globs(globs: Sequence[str]) -> tuple[str, ...]:
    globs = (globs,) if isinstance(globs, str) else tuple(globs)
    for each in globs:
        path = PurePosixPath(each)
        if not each or path.is_absolute() or ".." in path.parts:
            what = f"outputs has {each!r}, which is no pattern below the call's directory"
            raise SettingsError(what, remedy='e.g. outputs=["*.rds", "plots/*.png"]')
    return globs


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    if env is None:
        return {}
    for name, value in dict(env).items():
        if not isinstance(name, str) or not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise SettingsError(
                f"env[{name!r}]={value!r} is no environment variable", remedy="give names and texts as str"
            )
    return dict(env)
