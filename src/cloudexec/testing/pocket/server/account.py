"""What moto lacks of the account itself: quotas that may be raised, IAM's simulator, the role of ECS itself.

Called by:  front.py, for requests; control.py, for resetting.   Calls: faults.py.
Quotas:     those that were applied are what an account of some age has; RequestServiceQuotaIncrease is granted at once.
Simulator:  everybody may do everything, but for what a fault refuses for good with AccessDenied: so it says what
            requests themselves would meet. Policies are not read.
ECS's role: it is there, as in an account that has had a cluster, until somebody deletes it. Without it a cluster with
            capacity providers is refused, and the role made: it takes a moment until ECS can use it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from cloudexec.testing.pocket.server.faults import FaultBook
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, json_answer, xml_answer
from cloudexec.testing.pocket.settings import ACCOUNT_ID

APPLIED: Final[dict[tuple[str, str], tuple[str, float]]] = {
    ("fargate", "L-3032A538"): ("Fargate On-Demand vCPU resource count", 64.0),
    ("fargate", "L-36FBB829"): ("Fargate Spot vCPU resource count", 64.0),
    ("fargate", "L-551A4E9D"): ("Task launch rate", 20.0),
    ("lambda", "L-B99A9384"): ("Concurrent executions", 1000.0),
}
_ECS: Final = "ecs.amazonaws.com"
_ECS_ROLE: Final = "AWSServiceRoleForECS"
_USABLE_AFTER_S: Final = 0.2  # on AWS some 5 to 15 s
_IAM: Final = ("SimulatePrincipalPolicy", "CreateServiceLinkedRole", "DeleteServiceLinkedRole")
# Rights whose name is not that of the operation.
OPERATIONS: Final = {"s3:ListBucket": ("ListObjectsV2", "HeadBucket"), "lambda:InvokeFunction": ("Invoke",)}


class AccountPlane:
    """Answers for Service Quotas, some operations of IAM, and clusters that ECS's role is lacking for."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._raised: dict[tuple[str, str, str], float] = {}  # by region, service, code
        self._ecs_role_s: float | None = 0.0  # when ECS can use its role; None without one
        self._quotas: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
            "GetServiceQuota": self._told,
            "GetAWSDefaultServiceQuota": lambda region, asked: self._told("", asked),
            "RequestServiceQuotaIncrease": self._raise,
        }

    def handles(self, request: Request) -> bool:
        """Whether this request is ours; else it is moto's."""
        if request.service == "servicequotas":
            return request.operation in self._quotas
        if request.service == "ecs" and request.operation == "CreateCluster":
            return bool(request.json().get("capacityProviders")) and not self._can_ecs_use_its_role()
        return request.service == "iam" and request.operation in _IAM

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        if request.service == "ecs":
            return self._refuse_cluster()
        if request.service == "iam":
            asked = dict(parse_qsl(request.body.decode()))
            if request.operation == "SimulatePrincipalPolicy":
                return self._simulate(asked)
            return self._link(asked) if request.operation == "CreateServiceLinkedRole" else self._unlink(asked)
        return json_answer(self._quotas[request.operation](request.region, request.json()), service="servicequotas")

    def forget(self) -> None:
        """No quota has been raised, and ECS has its role."""
        with self._lock:
            self._raised.clear()
            self._ecs_role_s = 0.0

    # --- quotas ----------------------------------------------------------------------------------

    def _told(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        key = (str(asked.get("ServiceCode")), str(asked.get("QuotaCode")))
        if key not in APPLIED:
            raise Refusal("NoSuchResourceException", "The specified quota does not exist.")
        name, value = APPLIED[key]
        told = {"ServiceCode": key[0], "QuotaCode": key[1], "QuotaName": name, "Unit": "None", "Adjustable": True}
        return {"Quota": {**told, "GlobalQuota": False, "Value": self._raised.get((region, *key), value)}}

    def _raise(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        quota, wanted = self._told(region, asked)["Quota"], float(asked["DesiredValue"])
        if wanted <= quota["Value"]:
            raise Refusal("IllegalArgumentException", "You must provide a quota value greater than the current one.")
        with self._lock:
            self._raised[region, quota["ServiceCode"], quota["QuotaCode"]] = wanted
        return {"RequestedQuota": {**quota, "DesiredValue": wanted, "Status": "APPROVED"}}

    # --- the role of ECS -------------------------------------------------------------------------

    def _can_ecs_use_its_role(self) -> bool:
        with self._lock:
            return self._ecs_role_s is not None and time.monotonic() >= self._ecs_role_s

    def _refuse_cluster(self) -> Answer:
        with self._lock:
            if self._ecs_role_s is None:
                self._ecs_role_s = time.monotonic() + _USABLE_AFTER_S
        what = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
        raise Refusal("InvalidParameterException", what)

    def _link(self, asked: dict[str, str]) -> Answer:
        if asked.get("AWSServiceName") != _ECS:
            raise Refusal("InvalidInput", f"The pocket AWS has no role of {asked.get('AWSServiceName')}.")
        with self._lock:
            if self._ecs_role_s is not None:
                what = f"Service role name {_ECS_ROLE} has been taken in this account, please try a different suffix."
                raise Refusal("InvalidInput", what)
            self._ecs_role_s = time.monotonic() + _USABLE_AFTER_S
        path = f"/aws-service-role/{_ECS}/"
        return xml_answer(
            '<CreateServiceLinkedRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<CreateServiceLinkedRoleResult><Role><Path>{path}</Path><RoleName>{_ECS_ROLE}</RoleName>"
            f"<RoleId>AROAPOCKETOFECS000000</RoleId><Arn>arn:aws:iam::{ACCOUNT_ID}:role{path}{_ECS_ROLE}</Arn>"
            "<CreateDate>2020-01-01T00:00:00Z</CreateDate></Role></CreateServiceLinkedRoleResult>"
            "</CreateServiceLinkedRoleResponse>"
        )

    def _unlink(self, asked: dict[str, str]) -> Answer:
        with self._lock:
            if asked.get("RoleName") != _ECS_ROLE or self._ecs_role_s is None:
                raise Refusal("NoSuchEntity", f"The role with name {asked.get('RoleName')} cannot be found.", 404)
            self._ecs_role_s = None
        return xml_answer(
            '<DeleteServiceLinkedRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<DeleteServiceLinkedRoleResult><DeletionTaskId>task/aws-service-role/{_ECS}/{_ECS_ROLE}/1"
            "</DeletionTaskId></DeleteServiceLinkedRoleResult></DeleteServiceLinkedRoleResponse>"
        )

    # --- the simulator -----------------------------------------------------------------------------

    def _simulate(self, asked: dict[str, str]) -> Answer:
        if f"::{ACCOUNT_ID}:" not in asked.get("PolicySourceArn", ""):
            raise Refusal("InvalidInput", f"Invalid Entity Arn: {asked.get('PolicySourceArn')}")
        actions = [value for name, value in asked.items() if name.startswith("ActionNames.member.")]
        resources = [value for name, value in asked.items() if name.startswith("ResourceArns.member.")] or ["*"]
        results = "".join(self._result(action, resource) for action in actions for resource in resources)
        return xml_answer(
            '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{results}"
            "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        )

    def _result(self, action: str, resource: str) -> str:
        service, _, name = action.partition(":")
        is_refused = any(self._faults.refuses(service, one) for one in OPERATIONS.get(action, (name,)))
        decision = "implicitDeny" if is_refused else "allowed"
        return (
            f"<member><EvalActionName>{escape(action)}</EvalActionName>"
            f"<EvalResourceName>{escape(resource)}</EvalResourceName><EvalDecision>{decision}</EvalDecision>"
            "<MatchedStatements/><MissingContextValues/></member>"
        )
