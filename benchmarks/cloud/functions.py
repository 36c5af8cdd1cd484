"""Lambda's face: functions that exist under any name, so many environments, and what is told about them.

Called by: emulator.py.   Calls: environments.py and lithops_worker.py, which stand for what runs in an environment.
A synchronous invocation that finds no environment free gets a 429, an event waits for one. Environments are warm: what
a cold one costs is measured elsewhere (worker_start.py).
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cloud.backstage import Backstage
from cloud.door import Answer, Request
from cloud.environments import Environment, Misfit
from cloud.lithops_worker import LithopsWorker
from cloud.s3 import S3
from cloudexec.errors import CloudexecError

START_S: Final = 0.030  # an environment that is there gets its event
MEMORY_MIB: Final = 1769
TIMEOUT_S: Final = 900
_REGION: Final = "us-east-1"
_ACCOUNT: Final = "123456789012"
_JSON: Final = "Content-Type: application/json\r\n"
_LOG: Final = "".join(
    f"{line}\n"
    for line in (
        "START RequestId: 00000000-0000-4000-8000-000000000000 Version: $LATEST",
        "END RequestId: 00000000-0000-4000-8000-000000000000",
        "REPORT RequestId: 00000000-0000-4000-8000-000000000000\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\t"
        f"Memory Size: {MEMORY_MIB} MB\tMax Memory Used: 60 MB\t",
    )
)
_DONE: Final = f"{_JSON}X-Amz-Executed-Version: $LATEST\r\n"
_DONE_WITH_LOG: Final = f"{_DONE}X-Amz-Log-Result: {b64encode(_LOG.encode()).decode()}\r\n"

Reply = Callable[[Answer], object]


class Functions:
    """All functions of the account; they share `concurrency` environments."""

    def __init__(self, backstage: Backstage, s3: S3, concurrency: int) -> None:
        self._backstage = backstage
        self._s3 = s3
        self._concurrency = concurrency
        self._idle: list[Environment] = []  # the last one to end is the first to get work, as on Lambda
        self._n_environments = 0
        self._n_busy = self._most_busy = 0
        self._n_done = self._n_throttled = 0
        self._waiting: deque[dict[str, Any]] = deque()

    def act(self, operation: str, request: Request, reply: Reply) -> None:
        """Do what was asked; `reply` may be called much later."""
        if operation != "Invoke":
            reply(_told(operation, _name(request.path), self._concurrency))
            return
        try:
            payload = json.loads(request.body or b"{}")
            if request.headers.get("x-amz-invocation-type") == "Event":
                reply(self._accept(payload))
            else:
                self._invoke(payload, "x-amz-log-type" in request.headers, reply)
        except (ValueError, KeyError, CloudexecError, Misfit) as error:
            reply(_refusal("400 Bad Request", "InvalidRequestContentException", str(error)))

    def to_json(self) -> dict[str, int]:
        """What goes on, and the most that ever went on at once. done: synchronous invocations."""
        return {
            "busy": self._n_busy,
            "most_busy": self._most_busy,
            "done": self._n_done,
            "throttled": self._n_throttled,
            "environments": self._n_environments,
        }

    # --- synchronous ---

    def _invoke(self, payload: dict[str, Any], wants_log: bool, reply: Reply) -> None:
        if self._n_busy >= self._concurrency:
            self._n_throttled += 1
            said = {"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User"}
            reply(_refusal("429 Too Many Requests", "TooManyRequestsException", "Rate Exceeded.", said))
            return
        environment = self._idle.pop() if self._idle else self._new_environment()
        try:
            run_s, finish = environment.begin(payload)
        except Exception:  # whatever it was, the environment is free again; `act` says what can be said
            self._idle.append(environment)
            raise
        self._begin()
        self._backstage.clock.after(run_s, self._end, environment, finish, wants_log, reply)

    def _end(self, environment: Environment, finish: Callable[[], bytes], wants_log: bool, reply: Reply) -> None:
        reply(Answer("200 OK", finish(), _DONE_WITH_LOG if wants_log else _DONE))
        self._n_done += 1
        self._idle.append(environment)
        self._over()

    def _new_environment(self) -> Environment:
        self._n_environments += 1
        return Environment(f"environment-{self._n_environments:04}")

    # --- events ---

    def _accept(self, payload: dict[str, Any]) -> Answer:
        if "call_ids" not in payload:
            raise Misfit("only events of Lithops are understood")
        self._waiting.append(payload)
        self._go_on()
        return Answer("202 Accepted")

    def _go_on(self) -> None:
        while self._waiting and self._n_busy < self._concurrency:
            self._begin()
            job = LithopsWorker(self._backstage, self._s3, self._waiting.popleft(), self._over)
            self._backstage.clock.after(START_S, job.run)

    def _begin(self) -> None:
        self._n_busy += 1
        self._most_busy = max(self._most_busy, self._n_busy)

    def _over(self) -> None:
        self._n_busy -= 1
        self._go_on()


# --- what is told about functions ---


def operation_of(method: str, path: str) -> str:
    """The operation's name, by method and path."""
    last = path.rstrip("/").rsplit("/", 1)[-1]
    return _OPERATIONS.get((method, last), f"{method} {path}")


_OPERATIONS: Final = {
    ("POST", "invocations"): "Invoke",
    ("GET", "configuration"): "GetFunctionConfiguration",
    ("GET", "account-settings"): "GetAccountSettings",
    ("GET", "concurrency"): "GetFunctionConcurrency",
    ("GET", "event-invoke-config"): "GetFunctionEventInvokeConfig",
}


def _name(path: str) -> str:
    _, _, rest = path.partition("/functions/")
    return rest.partition("/")[0]


def _told(operation: str, name: str, concurrency: int) -> Answer:
    tell = _TELL.get(operation)
    if tell is None:
        return _refusal("400 Bad Request", "InvalidParameterValueException", f"{operation} is not there")
    return Answer("200 OK", json.dumps(tell(name, concurrency)).encode(), _JSON)


def _configuration(name: str, _concurrency: int) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:{name}",
        "Runtime": "python{}.{}".format(*sys.version_info[:2]),
        "Role": f"arn:aws:iam::{_ACCOUNT}:role/bench",
        "Handler": "cloudexec.worker.awslambda.handler",
        "CodeSize": 1_000_000,
        "CodeSha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "Timeout": TIMEOUT_S,
        "MemorySize": MEMORY_MIB,
        "Version": "$LATEST",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "State": "Active",
        "LastUpdateStatus": "Successful",
    }


def _account(_name: str, concurrency: int) -> dict[str, Any]:
    limits = {"ConcurrentExecutions": concurrency, "UnreservedConcurrentExecutions": concurrency}
    return {"AccountLimit": limits, "AccountUsage": {"TotalCodeSize": 1_000_000, "FunctionCount": 1}}


def _event_config(name: str, _concurrency: int) -> dict[str, Any]:
    arn = f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:{name}:$LATEST"
    return {"FunctionArn": arn, "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 21600}


_TELL: Final[dict[str, Callable[[str, int], dict[str, Any]]]] = {
    "GetFunctionConfiguration": _configuration,
    "GetAccountSettings": _account,
    "GetFunctionConcurrency": lambda _name, _concurrency: {},  # nothing is reserved
    "GetFunctionEventInvokeConfig": _event_config,
}


def _refusal(status: str, code: str, text: str, said: dict[str, str] | None = None) -> Answer:
    body = json.dumps({"message": text, **(said or {"Type": "User"})}).encode()
    return Answer(status, body, f"{_JSON}x-amzn-ErrorType: {code}\r\n")
