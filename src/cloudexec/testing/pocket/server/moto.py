"""moto behind its own requests: the control plane of every service, and what the planes ask of it.

Called by:  front.py, for what no plane answers; the planes, for clusters, task definitions, queues and logs.
Calls:      moto's WSGI application. Two of its internals: the bytes of a function's code, which no request tells, and
            the place where S3 would have moto's own Lambda invoked.
"""

from __future__ import annotations

import io
import json
import threading
from collections import defaultdict
from functools import cached_property
from typing import Any, Final, Protocol
from urllib.parse import quote_plus, unquote_plus, urlencode

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3 import notifications

from cloudexec.testing.pocket.server.requests import Answer, Refusal, Request
from cloudexec.testing.pocket.settings import ACCOUNT_ID

TARGETS: Final = {
    "codebuild": "CodeBuild_20161006",
    "ecs": "AmazonEC2ContainerServiceV20141113",
    "logs": "Logs_20140328",
    "sqs": "AmazonSQS",
}
VERSIONS: Final = {"ec2": "2016-11-15", "iam": "2010-05-08", "sts": "2011-06-15"}
# Answers stay true until one of these passes by.
CHANGES_CLUSTERS: Final = (
    "CreateCluster",
    "DeleteCluster",
    "UpdateCluster",
    "UpdateClusterSettings",
    "PutClusterCapacityProviders",
    "CreateCapacityProvider",
    "DeleteCapacityProvider",
    "DeregisterTaskDefinition",
    "DeleteTaskDefinitions",
    "RegisterTaskDefinition",
    "CreateQueue",
    "DeleteQueue",
    "SetQueueAttributes",
)


class Notified(Protocol):
    """Who hears of bucket notifications to functions."""

    def __call__(self, arn: str, payload: dict[str, Any], region: str) -> None:
        """A bucket wants this function to have this event."""


class Notices(threading.local):
    """What the request of this thread has buckets tell functions; passed on when the request is over.

    Reason: moto tells of a copy twice, first as of a Put, and writes keys with %2F where S3 leaves the slash.
    """

    def __init__(self, listeners: list[Notified]) -> None:
        self._listeners = listeners  # of all threads
        self._taken: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}

    def take(self, account_id: str, event_body: dict[str, Any], fn_arn: str, region_name: str) -> None:
        """What stands for moto's own call of a function."""
        told = event_body["Records"][0]["s3"]["object"]
        told["key"] = quote_plus(unquote_plus(told["key"]), safe="/")
        self._taken[fn_arn, told["key"]] = (event_body, region_name)

    def pass_on(self, *, is_ok: bool) -> None:
        """Tell of what the request has done."""
        taken, self._taken = self._taken, {}
        for (arn, _), (payload, region) in taken.items() if is_ok else ():
            for notified in self._listeners:
                notified(arn, payload, region)


class Moto:
    """moto's application, called in this process."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._app = DomainDispatcherApplication(create_backend_app)
        # moto's dictionaries are not made for two threads: concurrent PUTs of one key end in a 500.
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._kept: dict[tuple[str, ...], dict[str, Any]] = {}
        self.changes = 0  # grows with each change of what others keep
        self._listeners: list[Notified] = []
        self._notices = Notices(self._listeners)

    @cached_property
    def regions(self) -> frozenset[str]:
        """Every region of every partition; moto has read the list already."""
        return frozenset({"aws-global", *get_backend("ec2")[ACCOUNT_ID].regions})

    def answer(self, request: Request) -> Answer:
        """moto's answer to a request."""
        changes_a_function = request.service == "lambda" and request.method != "GET"
        changes_any = changes_a_function or request.service == "ec2"
        if changes_any or request.operation in CHANGES_CLUSTERS:
            try:
                return self._run(request.service, request.environ)
            finally:
                self._forget_kept()
        return self._run(request.service, request.environ)

    def _run(self, service: str, environ: dict[str, Any]) -> Answer:
        told: list[tuple[int, tuple[tuple[str, str], ...]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
            told.append((int(status.split()[0]), tuple(headers)))

        # A long poll on a FIFO queue waits inside moto: nobody may wait for it.
        if service == "sqs":
            chunks = self._app(environ, start_response)
            body = b"".join(chunks)
        else:
            with self._locks[service]:
                chunks = self._app(environ, start_response)
                body = b"".join(chunks)
        if hasattr(chunks, "close"):
            chunks.close()
        status, headers = told[-1]
        if service == "s3":
            self._notices.pass_on(is_ok=status < 400)
        return Answer(status=status, headers=headers, body=body)

    def _forget_kept(self) -> None:
        self.changes += 1
        self._kept.clear()

    # --- inside moto ---------------------------------------------------------------------------

    def function_code(self, name: str, version: str, region: str) -> bytes:
        """The zip of one version of a function."""
        return bytes(get_backend("lambda")[ACCOUNT_ID][region].get_function(name, version).code_bytes)

    def on_notification(self, notified: Notified) -> None:
        """From now on bucket notifications to functions go there, and not to moto's own Lambda."""
        if not hasattr(notifications, "_invoke_awslambda"):
            raise RuntimeError("this moto calls functions from somewhere else; see Moto.on_notification")
        notifications._invoke_awslambda = self._notices.take
        self._listeners.append(notified)

    # --- what the planes ask -------------------------------------------------------------------

    def call(self, service: str, operation: str, parameters: dict[str, Any], *, region: str = "") -> dict[str, Any]:
        """The reply of a service that speaks JSON; an error is raised as a Refusal."""
        headers = {"HTTP_X_AMZ_TARGET": f"{TARGETS[service]}.{operation}"}
        version = "1.0" if service == "sqs" else "1.1"
        kind = f"application/x-amz-json-{version}"
        answer = self.send(service, "POST", "/", json.dumps(parameters).encode(), kind, region=region, **headers)
        if operation in CHANGES_CLUSTERS:
            self._forget_kept()
        reply = json.loads(answer.body or b"{}")
        if not answer.ok:
            code = str(reply.get("__type", "InternalFailure")).rpartition("#")[2]
            raise Refusal(code, str(reply.get("message") or reply.get("Message") or ""), answer.status)
        return dict(reply)

    def rest(self, service: str, method: str, path: str, parameters: dict[str, Any]) -> None:
        """Change something of a service that speaks REST and JSON."""
        answer = self.send(service, method, path, json.dumps(parameters).encode(), "application/json")
        self._forget_kept()
        if not answer.ok:
            raise RuntimeError(f"{method} {path} failed: {answer.body!r}")

    def kept(self, service: str, operation: str, parameters: dict[str, Any], *, region: str = "") -> dict[str, Any]:
        """As `call`, with the answer kept until something changes; for what every request asks again."""
        key = (service, operation, json.dumps(parameters, sort_keys=True), region)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self.call(service, operation, parameters, region=region)
        return found

    def has(self, kind: str, ids: list[str], *, region: str) -> bool:
        """Whether EC2 has all of these subnets or security groups."""
        key = ("ec2", kind, region, *ids)
        if key not in self._kept:
            name = "GroupId" if kind == "SecurityGroup" else "SubnetId"
            reply = self.query(
                "ec2", f"Describe{kind}s", {f"{name}.{n}": i for n, i in enumerate(ids, 1)}, region=region
            )
            if not reply.ok:
                return False
            self._kept[key] = {}
        return True

    def query(self, service: str, operation: str, parameters: dict[str, str], *, region: str = "") -> Answer:
        """The answer of a service that speaks the query protocol."""
        words = {"Action": operation, "Version": VERSIONS[service], **parameters}
        kind = "application/x-www-form-urlencoded"
        return self.send(service, "POST", "/", urlencode(words).encode(), kind, region=region)

    def send(
        self,
        service: str,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "",
        *,
        query: str = "",
        region: str = "",
        **headers: str,
    ) -> Answer:
        """The answer to a request of our own; header names as WSGI writes them."""
        scope = f"20260101/{region or self.region}/{service}/aws4_request"
        signature = f"AWS4-HMAC-SHA256 Credential=pocket/{scope}, SignedHeaders=host, Signature=0"
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "RAW_URI": f"{path}?{query}" if query else path,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_AUTHORIZATION": signature,
            "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **headers,
        }
        return self._run(service, environ)

    def seed(self, number: int) -> None:
        """What moto makes up from now on, ids above all, follows from this number."""
        self.send("moto_api", "POST", "/moto-api/seed", query=f"a={number}")

    def reset(self) -> None:
        """Forget every resource of every service."""
        answer = self.send("moto_api", "POST", "/moto-api/reset")
        self._forget_kept()
        if not answer.ok:
            raise RuntimeError(f"moto did not reset: {answer.body!r}")
