"""The roles of workers: there, and taken by the right service.

Called by: examine.py.   Calls: IAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AwsError, CloudexecError, Throttled
from cloudexec.infra.doctor.findings import Finding, detail, failed, of_error, ok
from cloudexec.infra.doctor.scene import Scene

SUBJECT: Final = "roles"
TASKS: Final = "ecs-tasks.amazonaws.com"
FUNCTIONS: Final = "lambda.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class RoleFacts:
    """A role that something needs. document: who may take it; None if there is no such role."""

    arn: str
    purpose: str
    service: str
    document: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Without the path."""
        return self.arn.rpartition("/")[2]


def check_roles(scene: Scene) -> list[Finding]:
    """Those of the task definition, and the function's."""
    findings: list[Finding] = []
    wanted: list[tuple[str, str, str]] = []
    for is_meant, find in ((scene.has_ecs, _of_tasks), (scene.has_function, _of_function)):
        try:
            wanted += find(scene) if is_meant else []
        except CloudexecError:  # the checks of that backend tell it
            continue
    for arn, purpose, service in wanted:
        if not arn:
            findings += judge_no_role(purpose, is_fargate=scene.has_ecs and scene.ecs.target.is_fargate)
            continue
        try:
            findings += judge_role(_facts(scene, str(arn), purpose, service), scene.account)
        except AwsError as error:
            findings.append(of_error(SUBJECT, f"{purpose} {arn}", error))
            if isinstance(error, Throttled):  # it has been repeated for seconds: the next one would be, too
                break
    return summed_up(findings)


def _of_tasks(scene: Scene) -> list[tuple[str, str, str]]:
    task_role, execution_role = scene.roles
    return [(task_role, "task role", TASKS), (execution_role, "execution role", TASKS)]


def _of_function(scene: Scene) -> list[tuple[str, str, str]]:
    return [(scene.function[1].role, "function role", FUNCTIONS)]


def _facts(scene: Scene, arn: str, purpose: str, service: str) -> RoleFacts:
    said = scene.ask_or_none("iam", "get_role", {"RoleName": arn.rpartition("/")[2]}, "NoSuchEntity")
    document = said["Role"].get("AssumeRolePolicyDocument") or {} if said else None
    return RoleFacts(arn=arn, purpose=purpose, service=service, document=document)


def judge_no_role(purpose: str, *, is_fargate: bool) -> list[Finding]:
    """The task definition names none. Pure."""
    if purpose == "task role":
        text = "the task definition has no task role: workers may neither read calls nor write results"
        return [failed(SUBJECT, text, "give it one with the rights of `cloudexec policy task`, or cloudexec up")]
    if purpose == "execution role" and is_fargate:
        text = "the task definition has no execution role: Fargate can pull no private image, and write no log"
        return [failed(SUBJECT, text, "give it one with the rights of `cloudexec policy execution`, or cloudexec up")]
    return []


def judge_role(found: RoleFacts, account: str) -> list[Finding]:
    """Whether the service may take it, for this account. Pure."""
    named = f"{found.purpose} {found.name}"
    if found.document is None:
        text = f"{named} is not there: nothing can start with it"
        return [failed(SUBJECT, text, "cloudexec up makes it again; or name another one", role=found.arn)]
    statements = _listed(found.document.get("Statement"))
    ours = [one for one in statements if one.get("Effect") == "Allow" and found.service in _services(one)]
    if not ours:
        text = f"{named} does not trust {found.service}, which must take it"
        return [failed(SUBJECT, text, "correct its trust policy: sts:AssumeRole for that service", role=found.arn)]
    accounts = set().union(*(_accounts(one) for one in ours))
    if accounts and account not in accounts:
        text = f"{named} is trusted for account {', '.join(sorted(accounts))}, and this is {account}"
        return [failed(SUBJECT, text, "correct aws:SourceAccount in its trust policy", role=found.arn)]
    return [detail(SUBJECT, f"{named} is there, and {found.service} may take it", role=found.arn)]


def _listed(said: Any) -> list[Any]:
    return list(said) if isinstance(said, (list, tuple)) else [said] if said else []


def _services(statement: Mapping[str, Any]) -> list[str]:
    principal = statement.get("Principal") or {}
    return _listed(principal.get("Service")) if isinstance(principal, Mapping) else []


def _accounts(statement: Mapping[str, Any]) -> set[str]:
    conditions = statement.get("Condition") or {}
    return {
        str(account)
        for operator, keys in conditions.items()
        if operator.startswith("String")
        for key, said in keys.items()
        if key.lower() == "aws:sourceaccount"
        for account in _listed(said)
    }


def summed_up(findings: list[Finding]) -> list[Finding]:
    """One line where all are well."""
    if findings and all(one.is_detail for one in findings):
        names = "the role is" if len(findings) == 1 else f"all {len(findings)} roles are"
        return [ok(SUBJECT, f"{names} there, and the right services may take them"), *findings]
    return findings
