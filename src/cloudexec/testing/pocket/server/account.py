"""What moto lacks of the account itself: quotas that may be raised, and IAM's simulator.

Called by:  front.py.   Calls: faults.py.
Quotas:     those that were applied are what an account of some age has; RequestServiceQuotaIncrease is granted at once.
Simulator:  everybody may do everything, but for what a fault refuses for good with AccessDenied: so it says what
            requests themselves would meet. Policies are not read.
"""

from __future__ import annotations

import threading
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
# Rights whose name is not that of the operation.
OPERATIONS: Final = {"s3:ListBucket": ("ListObjectsV2", "HeadBucket"), "lambda:InvokeFunction": ("Invoke",)}


class AccountPlane:
    """Answers for Service Quotas, and for one operation of IAM."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._raised: dict[tuple[str, str, str], float] = {}  # by region, service, code
        self._quotas: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
            "GetServiceQuota": self._get,
            "GetAWSDefaultServiceQuota": lambda region, asked: self._told("", asked),
            "RequestServiceQuotaIncrease": self._raise,
        }

    def handles(self, request: Request) -> bool:
        """Whether this request is ours; else it is moto's."""
        if request.service == "servicequotas":
            return request.operation in self._quotas
        return request.service == "iam" and request.operation == "SimulatePrincipalPolicy"

    def answer(self, request: Request) -> Answer:
        """The answer to a request that `handles` accepted."""
        if request.service == "iam":
            return self._simulate(dict(parse_qsl(request.body.decode())))
        return json_answer(self._quotas[request.operation](request.region, request.json()), service="servicequotas")

    def forget(self) -> None:
        """No quota has been raised."""
        with self._lock:
            self._raised.clear()

    # --- quotas ----------------------------------------------------------------------------------

    def _told(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        key = (str(asked.get("ServiceCode")), str(asked.get("QuotaCode")))
        if key not in APPLIED:
            raise Refusal("NoSuchResourceException", "The specified quota does not exist.")
        name, value = APPLIED[key]
        told = {"ServiceCode": key[0], "QuotaCode": key[1], "QuotaName": name, "Unit": "None", "Adjustable": True}
        return {"Quota": {**told, "GlobalQuota": False, "Value": self._raised.get((region, *key), value)}}

    def _get(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        return self._told(region, asked)

    def _raise(self, region: str, asked: dict[str, Any]) -> dict[str, Any]:
        quota, wanted = self._told(region, asked)["Quota"], float(asked["DesiredValue"])
        if wanted <= quota["Value"]:
            raise Refusal("IllegalArgumentException", "You must provide a quota value greater than the current one.")
        with self._lock:
            self._raised[region, quota["ServiceCode"], quota["QuotaCode"]] = wanted
        return {"RequestedQuota": {**quota, "DesiredValue": wanted, "Status": "APPROVED"}}

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
