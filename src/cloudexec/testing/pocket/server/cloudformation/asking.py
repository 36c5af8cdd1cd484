"""Requests to the pocket's own services, for whoever asked for a stack.

Called by:  plane.py; desk.py and steps.py, as `Tools.ask`.   Calls: the pocket's front, over HTTP as everybody does.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import botocore.session
from botocore.config import Config

# What a service throttles is tried again, as CloudFormation does.
PATIENT = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    read_timeout=30,
    s3={"addressing_style": "path"},
    parameter_validation=True,
)


class Asker:
    """Clients by access key, region and service; each is made when it is first needed."""

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._session = botocore.session.Session()
        for name in ("config_file", "credentials_file"):
            self._session.set_config_variable(name, os.devnull)  # this user's files speak of an account
        self._clients: dict[tuple[str, str, str], Any] = {}

    def ask(self, access_key: str, region: str, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """The reply; botocore's ClientError for a refusal. operation: as boto3 has it, e.g. `create_bucket`."""
        reply = dict(getattr(self._client(access_key, region, service), operation)(**request))
        reply.pop("ResponseMetadata", None)
        return reply

    def _client(self, access_key: str, region: str, service: str) -> Any:
        key = (access_key, region, service)
        with self._lock:  # a session is not made for two threads
            if key not in self._clients:
                self._clients[key] = self._session.create_client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    aws_access_key_id=access_key or "unsigned",
                    aws_secret_access_key="pocket",
                    config=PATIENT,
                )
            return self._clients[key]

    def operation(self, service: str, operation: str) -> Any:
        """botocore's model of an operation, e.g. `CreateBucket`."""
        with self._lock:
            return self._session.get_service_model(service).operation_model(operation)

    def input_shape(self, service: str, operation: str) -> Any:
        """botocore's model of its request."""
        return self.operation(service, operation).input_shape
