"""Make and invoke Lambda functions in a pocket AWS. Called by: test_lambda_*.py."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.config import Config

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=20, max_pool_connections=32)


@dataclass(frozen=True)
class Told:
    """What an Invoke has told."""

    payload: Any
    error: str | None
    log: str
    version: str
    request_id: str

    @property
    def kind(self):
        return self.payload["errorType"]

    @property
    def message(self):
        return self.payload["errorMessage"]


class Functions:
    """Functions of one pocket AWS; their handlers stand in the tests as source."""

    def __init__(self, aws):
        self.aws = aws
        self.client = aws.session().client("lambda", config=ONCE)

    def make(self, body, name="f", **more):
        """A function whose handler has this body; `e` is the event and `c` the context."""
        lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
        source = f"import json, os, signal, subprocess, sys, threading, time\nstate = {{}}\ndef handler(e, c):\n{lines}"
        return self.aws.make_function(name, handler="main.handler", files={"main.py": source}, **more)

    def invoke(self, name="f", tail=True, **event):
        """Invoke a function with this event."""
        return self.send(json.dumps(event).encode(), name, tail=tail)

    def send(self, payload, name="f", tail=True, **more):
        """Invoke a function with these bytes."""
        reply = self.client.invoke(FunctionName=name, Payload=payload, LogType="Tail" if tail else "None", **more)
        body = reply["Payload"].read()
        return Told(
            payload=json.loads(body) if body else None,
            error=reply.get("FunctionError"),
            log=base64.b64decode(reply.get("LogResult", "")).decode(),
            version=reply.get("ExecutedVersion", ""),
            request_id=reply["ResponseMetadata"]["RequestId"],
        )

    def event(self, name="f", **event):
        """Invoke by Event; the request id."""
        reply = self.client.invoke(FunctionName=name, Payload=json.dumps(event).encode(), InvocationType="Event")
        assert reply["StatusCode"] == 202
        return reply["ResponseMetadata"]["RequestId"]

    def at_once(self, *events, name="f"):
        """Invoke with all of these events at the same time; results, or what was raised."""

        def one(event):
            try:
                return self.invoke(name, **event)
            except self.client.exceptions.ClientError as error:
                return error

        with ThreadPoolExecutor(len(events)) as threads:
            return list(threads.map(one, events))

    def counts(self, name="f"):
        """What the function has been through."""
        return self.aws.invocations()[name]

    def until(self, true, within_s=10.0):
        """Wait until something is true; its value."""
        deadline = time.monotonic() + within_s
        while not (value := true()):
            assert time.monotonic() < deadline, f"still {value!r}: {self.aws.invocations()} {self.aws.environments()}"
            time.sleep(0.01)
        return value

    def until_still(self):
        """Wait until no event waits or runs."""
        self.until(lambda: self.aws.waiting_events() == 0)
