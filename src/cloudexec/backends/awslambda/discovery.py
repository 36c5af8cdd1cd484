"""Find the function, how wide it may be used, and where a run's objects lie.

Called by: executors.   Calls: aws_config.py (environment, file), stack.py, and `ask` (Lambda's control plane).
Order:     arguments, environment, file (`settle`, without network); then the deployed stack, the function's own
           environment, the account's concurrency (`complete`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cloudexec.backends.aws_config import from_arguments, from_environment, from_file
from cloudexec.backends.stack import DEFAULT_STACK, Ask, by_types, choose, resources_of
from cloudexec.errors import AccessDenied, AwsError, FunctionMissing, SettingsError, VersionMismatch, WorkerStartFailed

SHARE_OF_ACCOUNT: Final = 0.8  # of the concurrency that no function has reserved: others of the account live there, too
BUCKET_VARIABLE: Final = "CLOUDEXEC_BUCKET"
PREFIX_VARIABLE: Final = "CLOUDEXEC_PREFIX"
MIB_A_VCPU: Final = 1769
_UNKNOWN_CONCURRENCY: Final = 100  # where nobody lets us look: ten requests a second for each are plenty
_FUNCTION_NAME: Final = re.compile(r"[A-Za-z0-9_:$.-]{1,256}").fullmatch  # or an ARN
_BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9._-]{3,255}").fullmatch  # old ones in us-east-1 break today's rules
_SWITCH_ON: Final = "aws lambda delete-function-concurrency --function-name {} takes it from the account's again"
_KEYS: Final = ("function", "qualifier", "shards", "slots", "bucket", "prefix", "region", "stack", "endpoint_url")


@dataclass(frozen=True, kw_only=True)
class LambdaPlace:
    """Where calls are to run, as far as it is known. shards: more functions with the same code."""

    function: str = ""
    qualifier: str = ""
    shards: tuple[str, ...] = ()
    slots: int = 0  # 0: one for each vCPU
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    stack: str = ""
    endpoint_url: str = ""
    aws_profile: str = ""


@dataclass(frozen=True, kw_only=True)
class FunctionFacts:
    """What Lambda tells of a function. n_concurrent: environments that calls of ours may fill."""

    timeout_s: float
    memory_mib: int
    n_concurrent: int
    event_retries: int | None = None  # None: nobody could look
    event_age_s: float = 21_600.0
    role: str = ""
    name: str = ""  # without account and qualifier
    arch: str = "x86_64"
    log_group: str = ""

    @property
    def n_vcpus(self) -> int:
        """Whole vCPUs of an environment, at least one."""
        return max(1, self.memory_mib // MIB_A_VCPU)


def settle(given: Mapping[str, Any], environ: Mapping[str, str]) -> LambdaPlace:
    """What arguments, environment and file say together; what is None was not given. No network.

    Errors: SettingsError.
    """
    found = {**from_file(environ), **from_environment(environ), **from_arguments(given)}
    if "function" in from_arguments(given):  # it speaks for what belongs to it
        found = {**found, **{name: each for name, each in found.items() if name not in ("qualifier", "shards")}}
        for name in ("qualifier", "shards"):
            if given.get(name) is None:
                found.pop(name, None)
    values = {name: each.value for name, each in found.items() if name in _KEYS or name == "aws_profile"}
    if found.get("slots") is not None and found["slots"].source != "argument":
        values.pop("slots", None)  # the one in a file is that of ECS's containers
    place = LambdaPlace(**values)
    if place.slots < 0 or ("slots" in values and place.slots == 0):
        raise SettingsError(f"slots={place.slots} is not a number of processes", remedy="give 1 or more")
    _check_names(place)
    return place


def _check_names(place: LambdaPlace) -> None:
    """Refuse what AWS would refuse later, in words that name no setting."""
    names = [("function", place.function), *(("shards", name) for name in place.shards)]
    for setting, name in [*names, ("qualifier", place.qualifier)]:
        if name and not _FUNCTION_NAME(name):
            what = f"{setting}={name!r} is not the name of a function" + (" version" if setting == "qualifier" else "")
            raise SettingsError(what, remedy="give a name, an ARN, or as qualifier= a version's number or an alias")
    if place.bucket and not _BUCKET_NAME(place.bucket):
        what = f"bucket={place.bucket!r} is not the name of a bucket"
        raise SettingsError(what, remedy="give its plain name: no s3://, no ARN; a path goes into prefix=")


def complete(place: LambdaPlace, ask: Ask) -> tuple[LambdaPlace, FunctionFacts]:
    """What is missing, and what Lambda says of the function.

    Errors: SettingsError, FunctionMissing, VersionMismatch, WorkerStartFailed, AwsError and its kin.
    """
    if not place.function or place.stack:
        place = _from_stack(place, ask)
    if not place.function:
        where = f"the arguments, CLOUDEXEC_FUNCTION, the configuration file, stack {place.stack or DEFAULT_STACK!r}"
        remedy = "`cloudexec up` makes one; or give function='my-function'"
        raise SettingsError(f"no Lambda function is named: looked in {where}", remedy=remedy)
    said = _configuration(place, place.function, ask)
    for shard in place.shards:
        _configuration(place, shard, ask)
    variables = (said.get("Environment") or {}).get("Variables") or {}
    place = replace(
        place,
        bucket=place.bucket or variables.get(BUCKET_VARIABLE, ""),
        prefix=place.prefix or variables.get(PREFIX_VARIABLE, ""),
    )
    facts = FunctionFacts(
        timeout_s=float(said.get("Timeout", 3)),
        memory_mib=int(said.get("MemorySize", 128)),
        n_concurrent=_concurrency(place, ask),
        role=str(said.get("Role") or ""),
        name=(name := str(said.get("FunctionName") or place.function)),
        arch=str((said.get("Architectures") or ["x86_64"])[0]),
        log_group=str((said.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{name}"),
    )
    return place, facts


def event_facts(place: LambdaPlace, facts: FunctionFacts, ask: Ask) -> FunctionFacts:
    """The same, with how Lambda handles the function's events; only who sends some needs to know. Errors: AwsError."""
    request = {"FunctionName": place.function, **({"Qualifier": place.qualifier} if place.qualifier else {})}
    try:
        said = ask("lambda", "get_function_event_invoke_config", request)
    except AccessDenied:
        return facts
    except AwsError as error:
        if error.code != "ResourceNotFoundException":
            raise
        said = {}
    retries = said.get("MaximumRetryAttempts")
    age_s = said.get("MaximumEventAgeInSeconds")
    return replace(
        facts,
        event_retries=2 if retries is None else int(retries),
        event_age_s=float(age_s) if age_s else facts.event_age_s,
    )


def _from_stack(place: LambdaPlace, ask: Ask) -> LambdaPlace:
    name = place.stack or DEFAULT_STACK
    found = by_types(resources_of(name, ask, is_named=bool(place.stack)))
    functions, buckets = found.get("AWS::Lambda::Function", {}), found.get("AWS::S3::Bucket", {})
    function = place.function or functions.get(choose(name, "function", functions, not place.function), "")
    bucket = place.bucket or buckets.get(choose(name, "bucket", buckets, False), "")
    return replace(place, function=function, bucket=bucket)


def _configuration(place: LambdaPlace, function: str, ask: Ask) -> Mapping[str, Any]:
    """Lambda's description of a function that calls can run in."""
    request = {"FunctionName": function, **({"Qualifier": place.qualifier} if place.qualifier else {})}
    try:
        said = ask("lambda", "get_function_configuration", request)
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            raise FunctionMissing(f"there is no Lambda function {_shown(function, place)}: {error.what}") from error
        if isinstance(error, AccessDenied):
            error.remedy = "allow lambda:GetFunctionConfiguration on the function: its timeout and memory must be known"
        raise
    if said.get("State") == "Failed":
        what = (
            f"function {_shown(function, place)} cannot run: {said.get('StateReason') or said.get('StateReasonCode')}"
        )
        raise WorkerStartFailed(what, remedy="mend its code or image as the reason says, and update the function")
    ours, theirs = "python{}.{}".format(*sys.version_info[:2]), str(said.get("Runtime") or "")
    if theirs.startswith("python") and theirs != ours:
        what = f"function {_shown(function, place)} runs on {theirs}, this client on {ours}"
        remedy = f"give the function the runtime {ours} (`cloudexec up --{ours.replace('python', 'python ')}`), or "
        raise VersionMismatch(what, remedy=f"{remedy}run the client on {theirs}")
    return said


def _concurrency(place: LambdaPlace, ask: Ask) -> int:
    """Environments that calls may fill at once: what is reserved for the functions, else a share of the account's."""
    reserved = 0
    try:
        for function in (place.function, *place.shards):
            said = ask("lambda", "get_function_concurrency", {"FunctionName": function})
            own = said.get("ReservedConcurrentExecutions")
            if own is None:
                break
            if own == 0:  # Lambda would refuse everything, as if it were busy
                what = f"function {_shown(function, place)} is switched off: its reserved concurrency is 0"
                raise WorkerStartFailed(what, remedy=_SWITCH_ON.format(function))
            reserved += int(own)
        else:
            return max(1, reserved)
        limits = ask("lambda", "get_account_settings", {})["AccountLimit"]
        return max(1, int(SHARE_OF_ACCOUNT * int(limits["UnreservedConcurrentExecutions"])))
    except AccessDenied:
        return _UNKNOWN_CONCURRENCY


def _shown(function: str, place: LambdaPlace) -> str:
    qualifier = f":{place.qualifier}" if place.qualifier else ""
    return f"{function!r}{qualifier}" + (f" in {place.region}" if place.region else "")
