"""The Lambda function: it can run, it is cloudexec's, and its events are not repeated by Lambda.

Called by: examine.py.   Calls: Lambda, CloudWatch Logs; cluster.py, for what is said of a log.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cloudexec.backends.awslambda.discovery import BUCKET_VARIABLE
from cloudexec.errors import AccessDenied, AwsError
from cloudexec.infra.doctor.cluster import judge_log_group
from cloudexec.infra.doctor.findings import Finding, Level, detail, failed, of_error, ok, unknown, warning
from cloudexec.infra.doctor.scene import Scene
from cloudexec.infra.template.awslambda import HANDLER

SUBJECT: Final = "lambda"
SHORT_S: Final = 30
SMALL_MIB: Final = 512  # below, Python itself starts slowly: an environment has a share of a vCPU


def check_function(scene: Scene) -> list[Finding]:
    """What Lambda tells of it, and whether these credentials may invoke it."""
    place, facts = scene.function  # tells what executors would raise: no function, another Python, switched off
    request = scene.function_request
    findings = judge_function(scene.configuration, "{}.{}".format(*sys.version_info[:2]), place.bucket)
    findings += _check_events(scene, request)
    findings += _check_log(scene, facts.log_group)
    findings += _check_invoke(scene, request)
    return findings


def judge_function(said: Mapping[str, Any], python: str, bucket: str) -> list[Finding]:
    """Pure. said: GetFunctionConfiguration. bucket: where runs' objects would lie, "" if none is known."""
    name = said["FunctionName"]
    state, update = said.get("State") or "Active", said.get("LastUpdateStatus") or "Successful"
    reason = said.get("StateReason") or said.get("LastUpdateStatusReason") or ""
    if state == "Failed" or update == "Failed":
        text = f"function {name} cannot run as it is: {reason or f'{state}, {update}'}"
        return [failed(SUBJECT, text, "mend its code, image or role as the reason says, or cloudexec up", state=state)]
    findings = []
    if state == "Pending" or update == "InProgress":
        findings.append(warning(SUBJECT, f"function {name} is being changed now", "wait a minute"))
    is_image = said.get("PackageType") == "Image"
    runtime = str(said.get("Runtime") or "")
    if not is_image and runtime != f"python{python}":
        text = f"function {name} runs {runtime}, this client Python {python}: results cannot be unpickled"
        findings.append(failed(SUBJECT, text, f"run `cloudexec up --python {python}`, or use that one here"))
    if not is_image and said.get("Handler") != HANDLER:
        text = f"the handler of function {name} is {said.get('Handler')}, not {HANDLER}"
        remedy = "nothing need be wrong if it calls cloudexec's; otherwise correct function=, or the handler"
        findings.append(warning(SUBJECT, text, remedy))
    if int(said.get("Timeout", 3)) < SHORT_S:
        text = f"function {name} has a timeout of {said.get('Timeout', 3)} s, and calls end before it"
        remedy = f"aws lambda update-function-configuration --function-name {name} --timeout 900"
        findings.append(warning(SUBJECT, text, remedy))
    if int(said.get("MemorySize", 128)) < SMALL_MIB:
        text = f"function {name} has {said.get('MemorySize', 128)} MiB, and so a small part of a vCPU: it starts slowly"
        remedy = f"aws lambda update-function-configuration --function-name {name} --memory-size 1769 is one vCPU"
        findings.append(warning(SUBJECT, text, remedy))
    findings += _judge_bucket(name, said, bucket)
    if not any(one.level is Level.FAILED for one in findings):
        arch = (said.get("Architectures") or ["x86_64"])[0]
        what = "an image (workers compare its Python; --run tries it now)" if is_image else runtime
        text = f"function {name}: {what}, {arch}, {said.get('MemorySize')} MiB, {said.get('Timeout')} s"
        findings.insert(0, ok(SUBJECT, text, function=name, runtime=runtime, arch=arch))
    return findings


def _judge_bucket(name: str, said: Mapping[str, Any], bucket: str) -> list[Finding]:
    has = str(((said.get("Environment") or {}).get("Variables") or {}).get(BUCKET_VARIABLE) or "")
    if has == bucket:
        return []
    remedy = f"give the function {BUCKET_VARIABLE}={bucket}, or leave bucket= away"
    if not has:
        text = f"function {name} has no variable {BUCKET_VARIABLE}: it runs no jobs, and other clients find no bucket"
        return [warning(SUBJECT, text, remedy)]
    text = f"runs would use bucket {bucket}, the function's own is {has}: its role may not reach the other one"
    return [warning(SUBJECT, text, remedy)]


def _check_events(scene: Scene, request: Mapping[str, Any]) -> list[Finding]:
    try:
        said = scene.ask_or_none("lambda", "get_function_event_invoke_config", request, "ResourceNotFoundException")
    except AwsError as error:
        return [of_error(SUBJECT, "how Lambda repeats events", error)]
    return judge_events(str(request["FunctionName"]), said)


def judge_events(name: str, said: Mapping[str, Any] | None) -> list[Finding]:
    """Pure. Calls above five minutes go by Event; the executor repeats by itself what it may."""
    retries = 2 if said is None or said.get("MaximumRetryAttempts") is None else int(said["MaximumRetryAttempts"])
    if retries == 0:
        return [detail(SUBJECT, "Lambda repeats none of its events")]
    text = f"Lambda repeats failed events of function {name} up to {retries} times: long calls may start again unasked"
    remedy = f"aws lambda put-function-event-invoke-config --function-name {name} --maximum-retry-attempts 0"
    return [warning(SUBJECT, text, remedy)]


def _check_log(scene: Scene, group: str) -> list[Finding]:
    try:
        groups = scene.ask("logs", "describe_log_groups", {"logGroupNamePrefix": group}).get("logGroups") or []
    except AwsError as error:
        return [of_error(SUBJECT, f"log group {group}", error)]
    return judge_log(group, groups)


def judge_log(group: str, said: list[Mapping[str, Any]]) -> list[Finding]:
    """Pure. Lambda makes a group of its own name with the first line, if the function's role may."""
    if not any(one["logGroupName"] == group for one in said):
        text = f"log group {group} is not there yet: Lambda makes it, if the function's role has logs:CreateLogGroup"
        return [detail(SUBJECT, text)]
    return [replace(one, subject=SUBJECT) for one in judge_log_group(group, said, is_made_by_task=True)]


def _check_invoke(scene: Scene, request: Mapping[str, Any]) -> list[Finding]:
    try:
        payload = scene.ask("lambda", "invoke", {**request, "InvocationType": "DryRun"})["Payload"]
        payload.read()  # it is empty; a connection whose answer nobody reads is never given back
        payload.close()
    except AwsError as error:
        return [judge_invoke(str(request["FunctionName"]), error)]
    return [detail(SUBJECT, "these credentials may invoke it, says a dry run")]


def judge_invoke(name: str, error: AwsError) -> Finding:
    """Pure."""
    if isinstance(error, AccessDenied):
        text = f"lambda:InvokeFunction is missing on function {name}: {error.what}"
        return failed(SUBJECT, text, "attach the rights of `cloudexec policy client`", code=error.code)
    return unknown(SUBJECT, f"a dry run of function {name} says nothing: {error.what}", "--run invokes it")
