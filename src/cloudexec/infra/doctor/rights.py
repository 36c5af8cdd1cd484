"""What these credentials may do, action by action, of what clients need.

Called by: examine.py.   Calls: IAM's simulator, where it may be asked; else requests that change nothing.
Source:    permissions/grants.py, the same table that `cloudexec policy client` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cloudexec.errors import AccessDenied, AwsError, CloudexecError
from cloudexec.infra.doctor.findings import Finding, Level, detail, failed, ok, unknown, warning
from cloudexec.infra.doctor.scene import Scene
from cloudexec.infra.names import Names, concrete
from cloudexec.infra.permissions.render import grants_of
from cloudexec.infra.permissions.rows import Grant, Part, Who

SUBJECT: Final = "rights"
REMEDY: Final = "attach the rights of `cloudexec policy client`"
_DENIED_REMEDY: Final = "find the policy that denies it: the role's, its boundary, or one of the organisation"
_EXAMPLE: Final = "doctor"  # stands for `*` in the resource that is asked about
_ALL_OF_THEM: Final = frozenset({"iam:PassRole"})  # needed on each resource; others where they apply


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One action. on: the resource that was asked about."""

    action: str
    on: str
    why: str
    is_allowed: bool
    is_explicit: bool = False  # a policy denies it by name: to allow it elsewhere does not help
    optional: bool = False


def check_rights(scene: Scene) -> list[Finding]:
    """Ask the simulator; without the right to, try what does no harm."""
    identity = str(scene.place.clients.caller["Arn"])
    if identity.endswith(":root"):
        return [ok(SUBJECT, "the root user may do everything")]
    grants = grants_of(Who.CLIENT, _parts(scene))
    names = _names(scene)
    try:
        principal = _principal(scene, identity)
        return judge_rights([verdict for grant in grants for verdict in _simulate(scene, principal, grant, names)])
    except AwsError as error:
        return judge_probes(_probe(scene), error)


def _parts(scene: Scene) -> list[Part]:
    return [part for part, has in ((Part.ECS, scene.has_ecs), (Part.LAMBDA, scene.has_function)) if has]


def _names(scene: Scene) -> Names:
    """What stands for `{cluster}` and so on: what executors would use, as far as it could be found."""
    bucket, prefix = scene.bucket
    names = concrete(
        account=scene.account,
        region=scene.place.region,
        stack=scene.stack,
        partition=scene.place.partition,
        bucket=bucket,
        prefix=prefix or "cloudexec",
    )
    found: dict[str, str] = {}
    for is_meant, find in ((scene.has_ecs, _ecs_names), (scene.has_function, _function_names)):
        try:
            found |= find(scene, names) if is_meant else {}
        except CloudexecError:  # the checks of that backend tell it
            continue
    known: dict[str, Any] = {name: arn for name, arn in found.items() if arn}
    return replace(names, **known)


def _ecs_names(scene: Scene, names: Names) -> dict[str, str]:
    cluster, group = scene.ecs.target.cluster, scene.log_group
    task_role, execution_role = scene.roles
    start = f"arn:{names.partition}:{{}}:{names.region}:{names.account}"
    return {
        "cluster": cluster if cluster.startswith("arn:") else f"{start.format('ecs')}:cluster/{cluster}",
        "task_role": task_role,
        "execution_role": execution_role,
        "log_group": f"{start.format('logs')}:log-group:{group}" if group else "",
    }


def _function_names(scene: Scene, names: Names) -> dict[str, str]:
    arn = str(scene.configuration.get("FunctionArn") or "")
    return {"function": ":".join(arn.split(":")[:7]), "function_role": scene.function[1].role}


def _principal(scene: Scene, identity: str) -> str:
    """The role's own ARN for the one of a session: the simulator knows no sessions, and a session's ARN no path."""
    role = role_of_session(identity)
    return str(scene.ask("iam", "get_role", {"RoleName": role})["Role"]["Arn"]) if role else identity


def role_of_session(arn: str) -> str:
    """The name of the role of `arn:aws:sts::1:assumed-role/NAME/SESSION`; "" for anything else. Pure."""
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    return rest.partition("/")[0] if kind == "assumed-role" else ""


def _simulate(scene: Scene, principal: str, grant: Grant, names: Names) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for resource in resources_of(grant, names, _definition_arn(scene, grant)):
        request = {
            "PolicySourceArn": principal,
            "ActionNames": list(grant.actions),
            "ResourceArns": [resource],
            "ContextEntries": context_of(grant, names),
        }
        said = scene.ask("iam", "simulate_principal_policy", request).get("EvaluationResults") or []
        verdicts += [verdict_of(one, resource, grant) for one in said]
    return combined(verdicts)


def _definition_arn(scene: Scene, grant: Grant) -> str:
    try:
        is_about_it = "ecs:RunTask" in grant.actions
        return str(scene.definition.get("taskDefinitionArn") or "") if is_about_it else ""
    except CloudexecError:
        return ""


def resources_of(grant: Grant, names: Names, definition: str = "") -> list[str]:
    """Concrete ARNs for the table's patterns; `definition` instead of those of task definitions. Pure."""
    if definition:
        return [definition]
    return ["*" if each == "*" else names.put_into(each).replace("*", _EXAMPLE) for each in grant.on]


def context_of(grant: Grant, names: Names) -> list[dict[str, Any]]:
    """The conditions of a right, as the request of an executor would meet them. Pure."""
    entries = []
    for keys in grant.when.values():
        for key, said in keys.items():
            value = said if isinstance(said, str) else said[0]
            text = names.put_into(value).replace("*", _EXAMPLE)
            entries.append({"ContextKeyName": key, "ContextKeyType": "string", "ContextKeyValues": [text]})
    return entries


def verdict_of(said: Mapping[str, Any], resource: str, grant: Grant) -> Verdict:
    """The simulator's word on one action. Pure."""
    decision = str(said.get("EvalDecision") or "")
    return Verdict(
        action=str(said["EvalActionName"]),
        on=resource,
        why=grant.why,
        is_allowed=decision == "allowed",
        is_explicit=decision == "explicitDeny",
        optional=grant.optional,
    )


def combined(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One for each action of a right: resources are of different kinds, and an action applies to one kind. Pure."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        known = found.get(verdict.action)
        needs_all = verdict.action in _ALL_OF_THEM
        if known is None or (known.is_allowed == needs_all and verdict.is_allowed != needs_all):
            found[verdict.action] = verdict
    return list(found.values())


def judge_rights(verdicts: Iterable[Verdict]) -> list[Finding]:
    """What is missing, on what, for what. Pure."""
    findings: list[Finding] = []
    allowed = []
    for one in verdicts:
        if one.is_allowed:
            allowed.append(one.action)
            continue
        how = "is denied by a policy" if one.is_explicit else "is missing"
        text = f"{one.action} {how} on {one.on}; it is for: {one.why}"
        remedy = _DENIED_REMEDY if one.is_explicit else REMEDY
        make = warning if one.optional else failed
        findings.append(make(SUBJECT, text, remedy, action=one.action, resource=one.on))
    if not findings:
        text = f"these credentials may do all {len(set(allowed))} actions that a client needs, says IAM's simulator"
        findings = [ok(SUBJECT, text), detail(SUBJECT, ", ".join(sorted(set(allowed))))]
    return findings


# --- without the simulator ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A request that changes nothing. on: what it asks about; harmless: codes of those who may, and ask about what is
    not there."""

    action: str
    on: str
    why: str
    service: str
    operation: str
    request: Mapping[str, Any]
    harmless: frozenset[str] = frozenset()


def probes(cluster: str) -> list[Probe]:
    """What may be tried of what no other check asks anyway. cluster: "" without ECS. Pure."""
    if not cluster:
        return []
    nothing, queue = "0" * 32, f"cloudexec-{_EXAMPLE}-work"
    return [
        Probe(
            action="sqs:GetQueueUrl",
            on=queue,
            why="the two queues of each run",
            service="sqs",
            operation="get_queue_url",
            request={"QueueName": queue},
            harmless=frozenset({"QueueDoesNotExist"}),
        ),
        Probe(
            action="ecs:ListTasks",
            on=cluster,
            why="to watch workers",
            service="ecs",
            operation="list_tasks",
            request={"cluster": cluster, "startedBy": f"cloudexec-{_EXAMPLE}"},
        ),
        Probe(
            action="ecs:DescribeTasks",
            on=cluster,
            why="to watch workers",
            service="ecs",
            operation="describe_tasks",
            request={"cluster": cluster, "tasks": [nothing]},
        ),
        Probe(
            action="ecs:StopTask",
            on=cluster,
            why="to stop workers",
            service="ecs",
            operation="stop_task",
            request={"cluster": cluster, "task": nothing, "reason": "cloudexec doctor looks whether it may"},
            harmless=frozenset({"InvalidParameterException"}),
        ),
    ]


def _probe(scene: Scene) -> list[Verdict]:
    try:
        cluster = scene.ecs.target.cluster if scene.has_ecs else ""
    except CloudexecError:
        cluster = ""
    verdicts = []
    for one in probes(cluster):
        try:
            scene.ask(one.service, one.operation, one.request)
            is_allowed = True
        except AwsError as error:
            if not isinstance(error, AccessDenied) and error.code not in one.harmless:
                continue  # it says nothing
            is_allowed = not isinstance(error, AccessDenied)
        verdicts.append(Verdict(action=one.action, on=one.on, why=one.why, is_allowed=is_allowed))
    return verdicts


def judge_probes(verdicts: Iterable[Verdict], error: AwsError) -> list[Finding]:
    """What trying has told. error: why the simulator did not. Pure."""
    listed = list(verdicts)
    findings = [one for one in judge_rights(listed) if one.level is Level.FAILED]
    if isinstance(error, AccessDenied):
        why = "iam:SimulatePrincipalPolicy is not allowed"
    else:
        why = f"IAM's simulator did not answer ({error.what})"
    tried = ", ".join(one.action for one in listed if one.is_allowed)
    text = f"{why}, so not every right was looked at" + (f"; these are there: {tried}" if tried else "")
    findings.append(unknown(SUBJECT, text, "--run shows whether the others are there; `cloudexec policy client`"))
    return findings
