"""A request as the bytes that harness.R reads; its reply as a Reply, or as the error that it tells of.

Called by: engine.py; the rpy2 engine.   Calls: rds, errors. No I/O, but for the files that a call wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from cloudexec.errors import RConversionError, RCrashed, RError, RPackageMissing
from cloudexec.errors.rlang import RFacts, RFrame
from cloudexec.r import rds
from cloudexec.r.engines import Reply, Request, RWarned

_ARGUMENT: Final = re.compile(r"\['(args|kwargs)'\]")


def packed(request: Request, directory: str, env: Mapping[str, str], unset: Sequence[str] = ()) -> bytes:
    """The RDS stream of a request. directory: where the call runs. Errors: RConversionError."""
    fields = {
        "code": request.code,
        "name": request.name,
        "kind": request.kind,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "packages": list(request.packages),
        "returns": request.returns,
        "seed": None if request.seed is None else list(request.seed),
        "env": {**env, **request.env},
        "unset": [name for name in unset if name not in request.env],
        "dir": directory,
    }
    try:
        return rds.dumps(fields, path="")
    except RConversionError as error:
        raise RConversionError(error.what, _ARGUMENT.sub(r"\1", error.path, count=1), remedy=error.remedy) from error


def reply(data: bytes, request: Request, output: str, files: Mapping[str, bytes]) -> Reply:
    """What a call returned. output: the last that it printed. Errors: RError and its kin, RConversionError."""
    try:
        fields = rds.loads(data, path="")
    except RConversionError as error:
        if not error.path.startswith("['value']"):
            raise RCrashed(f"{request.name} left no readable reply: {error}", RFacts(output=output)) from error
        path = error.path.removeprefix("['value']")
        raise RConversionError(error.what, f"value{path}", remedy=error.remedy) from error
    warned = tuple(RWarned(message=each["message"], call=each["call"]) for each in fields["warnings"] or ())
    if fields["status"] != "value":
        _raise(fields, request, warned, output)
    return Reply(value=fields["value"], warnings=warned, used_rng=fields["used_rng"], files=files)


def collected(directory: Path, globs: Sequence[str]) -> dict[str, bytes]:
    """Files below a directory that match, by their path in it. Links that lead out of it are left."""
    home = directory.resolve()
    found = {path for each in globs for path in home.glob(each)}
    inside = sorted(path for path in found if path.is_file() and path.resolve().is_relative_to(home))
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in inside}


def _raise(fields: Mapping[str, Any], request: Request, warned: Sequence[RWarned], output: str) -> NoReturn:
    if fields["status"] == "conversion":
        raise RConversionError(fields["message"], fields["path"])
    told = fields["error"]
    message = told["message"] or ""
    facts = RFacts(
        message=message,
        classes=_texts(told["classes"]),
        call=told["call"] or "",
        traceback=_frames(told["lines"], told["frames"]),
        warnings=tuple(f"{each.message} (in {each.call})" if each.call else each.message for each in warned),
        output=output,
        session=fields["session"] or "",
        condition=told["condition"],
    )
    if fields["status"] == "package":
        names = _texts(fields["packages"])
        raise RPackageMissing(f"R packages are not installed here: {', '.join(names)}", facts, names)
    raise RError(_summary(facts, request.name), facts)


def _summary(facts: RFacts, name: str) -> str:
    """R's words, the call that they blame, and the innermost line of the snippet that is known."""
    blamed = f" (in {facts.call})" if facts.call else ""
    lines = [frame.line for frame in facts.traceback if frame.line is not None]
    place = f"{name}, line {lines[-1]}" if lines else name
    return f"{facts.message or 'an error without words'}{blamed}, at {place}"


def _frames(lines: object, texts: object) -> tuple[RFrame, ...]:
    numbers = [int(text) for text in _texts(lines)]
    return tuple(RFrame(number or None, text) for number, text in zip(numbers, _texts(texts), strict=True))


def _texts(values: Any) -> tuple[str, ...]:
    """Texts of a vector, which comes as a scalar if it has one element."""
    if values is None:
        return ()
    if isinstance(values, (str, int)):
        return (str(values),)
    return tuple(str(value) for value in values if value is not None)
