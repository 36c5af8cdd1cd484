"""The control plane where moto has none or another one: account settings, concurrency, event invoke configurations.

Called by:  plane.py.   Calls: functions.py, moto.py.
Reason:     moto knows no account settings, reads a second PutFunctionEventInvokeConfig as the first, and takes
            any reserved concurrency.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

from cloudexec.testing.pocket.server.awslambda.functions import Function, Functions, function_arn, parse_reference
from cloudexec.testing.pocket.server.moto import Moto
from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request, json_answer

MOST_RETRIES: Final = 2
MOST_AGE_S: Final = 21600
LEAST_UNRESERVED: Final = 100
ROUTES: Final = re.compile(
    r"/\d{4}-\d{2}-\d{2}/(?:(?P<account>account-settings)/?"
    r"|functions/(?P<name>[^/]+)/(?P<what>concurrency|event-invoke-config|recursion-config)(?P<list>/list)?/?)"
)


class ControlPlane:
    """What is set besides functions."""

    def __init__(self, moto: Moto, functions: Functions, concurrency: int) -> None:
        self._moto, self._functions, self._concurrency = moto, functions, concurrency
        self._lock = threading.Lock()
        self._reserved: dict[str, int | None] = {}  # by ARN; None: taken away
        self._events: dict[tuple[str, str], dict[str, Any]] = {}  # by ARN and qualifier
        self.loops_allowed: set[str] = set()

    # --- what others ask -----------------------------------------------------------------------

    def reserved(self, function: Function) -> int | None:
        """The reserved concurrency of a function."""
        return self._reserved.get(function.arn, function.reserved)

    def unreserved(self) -> int:
        """What functions without a reservation share."""
        return self._concurrency - sum(filter(None, list(self._reserved.values())))

    def event_config(self, function: Function, arn: str) -> dict[str, Any]:
        """How events of a function are treated, for the version or alias it was invoked by; {} for the defaults."""
        qualifier = arn.removeprefix(function.arn).lstrip(":") or "$LATEST"
        return self._events.get((function.arn, qualifier), {})

    def forget(self) -> None:
        """Nothing is set any more."""
        with self._lock:
            self._reserved.clear()
            self._events.clear()
            self.loops_allowed.clear()

    def forget_function(self, arn: str) -> None:
        """A function is gone."""
        with self._lock:
            self._reserved.pop(arn, None)
            self.loops_allowed.discard(arn)
            for key in [key for key in self._events if key[0] == arn]:
                del self._events[key]

    # --- requests ------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer | None:
        """The answer, or None where moto is the one to ask."""
        found = ROUTES.fullmatch(request.path)
        if found is None:
            return None
        if found["account"]:
            return json_answer(self._account())
        qualifier = parse_qs(request.query).get("Qualifier", [""])[0]
        name, qualifier = parse_reference(found["name"], qualifier)
        function = self._functions.find(name, qualifier, request.region)
        verb = "LIST" if found["list"] else request.method
        operations: dict[tuple[str, str], Callable[[], Any]] = {
            ("PUT", "concurrency"): lambda: self._reserve(function, request.json()),
            ("GET", "concurrency"): lambda: self._reservation(function),
            ("DELETE", "concurrency"): lambda: self._release(function),
            ("PUT", "event-invoke-config"): lambda: self.put_events(function, qualifier, request.json()),
            ("POST", "event-invoke-config"): lambda: self._update_events(function, qualifier, request.json()),
            ("GET", "event-invoke-config"): lambda: self._get_events(function, qualifier),
            ("DELETE", "event-invoke-config"): lambda: self._delete_events(function, qualifier),
            ("LIST", "event-invoke-config"): lambda: self._list_events(function),
            ("PUT", "recursion-config"): lambda: self._allow_loops(function, request.json()),
            ("GET", "recursion-config"): lambda: self._loops(function),
        }
        operation = operations.get((verb, found["what"]))
        if operation is None:
            return None
        told = operation()
        return Answer(status=204) if told is None else json_answer(told)

    def add_concurrency(self, answer: Answer, region: str) -> Answer:
        """GetFunction's answer with what is reserved; moto does not tell a reservation of 0."""
        told = json.loads(answer.body)
        reserved = self._reserved.get(function_arn(str(told["Configuration"]["FunctionName"]), region))
        if reserved is not None:
            told["Concurrency"] = {"ReservedConcurrentExecutions": reserved}
        return json_answer(told)

    def _account(self) -> dict[str, Any]:
        limit = {
            "TotalCodeSize": 80530636800,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": self._concurrency,
            "UnreservedConcurrentExecutions": self.unreserved(),
        }
        return {"AccountLimit": limit, "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": 0}}

    # --- concurrency ---------------------------------------------------------------------------

    def _reserve(self, function: Function, wanted: dict[str, Any]) -> dict[str, Any]:
        reserved = int(wanted["ReservedConcurrentExecutions"])
        with self._lock:
            others = sum(n or 0 for arn, n in self._reserved.items() if arn != function.arn)
            least = min(LEAST_UNRESERVED, self._concurrency // 10)
            if reserved and self._concurrency - others - reserved < least:
                what = (
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{least}]."
                )
                raise Refusal("InvalidParameterValueException", what, Type="User")
            self._reserved[function.arn] = reserved
        return {"ReservedConcurrentExecutions": reserved}

    def _reservation(self, function: Function) -> dict[str, Any]:
        reserved = self.reserved(function)
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def _release(self, function: Function) -> None:
        with self._lock:
            self._reserved[function.arn] = None

    # --- events --------------------------------------------------------------------------------

    def put_events(
        self, function: Function, qualifier: str, wanted: dict[str, Any], basis: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set how events are treated; what is not given is as in `basis`."""
        retries, age_s = wanted.get("MaximumRetryAttempts"), wanted.get("MaximumEventAgeInSeconds")
        if retries is not None and not 0 <= retries <= MOST_RETRIES:
            raise _invalid("maximumRetryAttempts", retries, f"between 0 and {MOST_RETRIES}")
        if age_s is not None and not 60 <= age_s <= MOST_AGE_S:
            raise _invalid("maximumEventAgeInSeconds", age_s, f"between 60 and {MOST_AGE_S}")
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        given = {name: wanted[name] for name in names if wanted.get(name) is not None}
        qualifier = qualifier or "$LATEST"
        config = {**(basis or {}), **given, "FunctionArn": f"{function.arn}:{qualifier}", "LastModified": time.time()}
        with self._lock:
            self._events[function.arn, qualifier] = config
        return config

    def _update_events(self, function: Function, qualifier: str, wanted: dict[str, Any]) -> dict[str, Any]:
        return self.put_events(function, qualifier, wanted, self._get_events(function, qualifier))

    def _get_events(self, function: Function, qualifier: str) -> dict[str, Any]:
        found = self._events.get((function.arn, qualifier or "$LATEST"))
        if found is None:
            what = f"The function {function.arn}:{qualifier or '$LATEST'} doesn't have an EventInvokeConfig"
            raise Refusal("ResourceNotFoundException", what, 404, Type="User")
        return found

    def _delete_events(self, function: Function, qualifier: str) -> None:
        self._get_events(function, qualifier)
        with self._lock:
            self._events.pop((function.arn, qualifier or "$LATEST"), None)

    def _list_events(self, function: Function) -> dict[str, Any]:
        found = [config for (arn, _), config in list(self._events.items()) if arn == function.arn]
        return {"FunctionEventInvokeConfigs": found}

    # --- loops ---------------------------------------------------------------------------------

    def _allow_loops(self, function: Function, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted.get("RecursiveLoop") == "Allow":
            self.loops_allowed.add(function.arn)
        else:
            self.loops_allowed.discard(function.arn)
        return self._loops(function)

    def _loops(self, function: Function) -> dict[str, Any]:
        return {"RecursiveLoop": "Allow" if function.arn in self.loops_allowed else "Terminate"}


def _invalid(name: str, value: object, allowed: str) -> Refusal:
    what = f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {allowed}"
    return Refusal("ValidationException", what)
