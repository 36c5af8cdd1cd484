"""What moto knows of a function, asked once and kept until something changes.

Called by:  plane.py, invoke.py, events.py.   Calls: moto.py.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Refusal
from cloudexec.testing.pocket.settings import ACCOUNT_ID

PATH: Final = "/2015-03-31/functions/"
ARN: Final = re.compile(r"(?:arn:aws[\w-]*:lambda:(?P<region>[\w-]+):)?(?:\d{12}:)?(?:function:)?(?P<rest>.+)")
# A change of one of these takes new environments.
MAKES_AN_ENVIRONMENT: Final = (
    "CodeSha256",
    "Handler",
    "Runtime",
    "MemorySize",
    "Timeout",
    "Environment",
    "ImageConfigResponse",
    "LoggingConfig",
    "Role",
)


@dataclass(frozen=True, kw_only=True)
class Function:
    """One version of a function."""

    name: str
    arn: str  # without version or alias
    region: str
    version: str  # "$LATEST" or a number
    revision: str  # what its environments are made from, hashed
    runtime: str
    handler: str
    timeout_s: float
    memory_mb: int
    has_role: bool
    variables: dict[str, str] = field(repr=False, default_factory=dict)
    image: str = ""  # empty: a zip
    image_config: dict[str, Any] = field(repr=False, default_factory=dict)
    architecture: str = "x86_64"
    code_hash: str = ""
    reserved: int | None = None
    log_group: str = ""  # where its lines go


def parse_reference(name: str, qualifier: str) -> tuple[str, str]:
    """Name and qualifier from a name, NAME:QUALIFIER, ACCOUNT:function:NAME or an ARN; "" is no qualifier."""
    found = ARN.fullmatch(name)
    short, _, inner = (found["rest"] if found else name).partition(":")
    if inner and qualifier and inner != qualifier:
        what = "The derived qualifier from the function name does not match the specified qualifier."
        raise Refusal("InvalidParameterValueException", what, Type="User")
    return short, inner or qualifier


def function_arn(name: str, region: str) -> str:
    """The ARN without version or alias."""
    return f"arn:aws:lambda:{region}:{ACCOUNT_ID}:function:{name}"


class Functions:
    """All functions, as moto has them."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], Function] = {}
        self._as_of = -1
        self._logging: dict[str, dict[str, Any]] = {}  # LoggingConfig by ARN; moto knows none

    def log_to(self, arn: str, config: dict[str, Any] | None) -> None:
        """Set where a function's lines go; None: it is gone."""
        with self._lock:
            self._kept.clear()
            if config is None:
                self._logging.pop(arn, None)
            else:
                self._logging[arn] = config

    def logging_of(self, name: str, region: str) -> dict[str, Any]:
        """`LoggingConfig` of a function."""
        usual = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}
        return {**usual, **self._logging.get(function_arn(name, region), {})}

    def forget(self) -> None:
        """Nothing is set any more."""
        with self._lock:
            self._logging.clear()

    def find(self, name: str, qualifier: str, region: str) -> Function:
        """The version that a reference means; a Refusal if there is none."""
        key, changes = (name, qualifier, region), self._moto.changes
        with self._lock:
            if changes != self._as_of:
                self._kept.clear()
                self._as_of = changes
            found = self._kept.get(key)
        if found is None:
            found = self._ask(name, qualifier, region)
            with self._lock:
                if self._as_of == changes == self._moto.changes:
                    self._kept[key] = found
        return found

    def _ask(self, name: str, qualifier: str, region: str) -> Function:
        query = f"Qualifier={quote(qualifier, safe='')}" if qualifier else ""
        answer = self._moto.send("lambda", "GET", f"{PATH}{name}", query=query, region=region)
        if not answer.ok:
            arn = function_arn(name, region) + (f":{qualifier}" if qualifier else "")
            raise Refusal("ResourceNotFoundException", f"Function not found: {arn}", 404, Type="User")
        told = json.loads(answer.body)
        facts = told["Configuration"]
        facts["LoggingConfig"] = self.logging_of(str(facts["FunctionName"]), region)
        return function_of(told, region)

    def code(self, function: Function) -> bytes:
        """The zip of a function."""
        return self._moto.function_code(function.name, function.version, function.region)


def function_of(told: dict[str, Any], region: str) -> Function:
    """The function that GetFunction tells of."""
    facts = told["Configuration"]
    basis = json.dumps([facts.get(name) for name in MAKES_AN_ENVIRONMENT], sort_keys=True)
    name = str(facts["FunctionName"])
    return Function(
        name=name,
        arn=function_arn(name, region),
        region=region,
        version=str(facts["Version"]),
        revision=hashlib.sha256(basis.encode()).hexdigest()[:16],
        runtime=str(facts.get("Runtime") or ""),
        handler=str(facts.get("Handler") or ""),
        timeout_s=float(facts["Timeout"]),
        memory_mb=int(facts["MemorySize"]),
        has_role=bool(facts.get("Role")),
        variables={str(k): str(v) for k, v in (facts.get("Environment") or {}).get("Variables", {}).items()},
        image=str((told.get("Code") or {}).get("ImageUri") or "") if facts.get("PackageType") == "Image" else "",
        image_config=(facts.get("ImageConfigResponse") or {}).get("ImageConfig") or {},
        architecture=(facts.get("Architectures") or ["x86_64"])[0],
        code_hash=str(facts.get("CodeSha256") or ""),
        log_group=str(facts["LoggingConfig"]["LogGroup"]),
        reserved=(told.get("Concurrency") or {}).get("ReservedConcurrentExecutions"),
    )
