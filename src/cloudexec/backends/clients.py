"""Clients of boto3 for the control plane, with settings of our own, and its errors in our words.

Called by: executors, which hand `ask` to ecs/discovery.py and ecs/driver.py.
Retries:   what the fleet repeats by itself, at its own pace, is tried once; everything else five times, and these, too,
           for who has no fleet (`patient`). The mode is named here because botocore's default has changed between its
           versions.
Imports:   boto3 takes 0.3 s to load, so it is loaded when the first client is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, Final

from cloudexec.errors import AwsError, ConnectionLost, CredentialsExpired, CredentialsMissing, SettingsError
from cloudexec.transport.refusals import Refusal, error_of

_CONNECT_S: Final = 5
_READ_S: Final = 30
_CONNECTIONS: Final = 16  # more than the driver's threads
_ATTEMPTS: Final = 5
_PROFILE_REMEDY: Final = "correct the profile's name; `aws configure list-profiles` shows them"
# Codes for a setting that names nothing: the setting, and where the request has its value.
_WRONG_SETTINGS: Final = {
    "ClusterNotFoundException": ("cluster", "cluster"),
    "InvalidGroup.NotFound": ("security_groups", "GroupIds"),
    "InvalidSubnetID.NotFound": ("subnets", "SubnetIds"),
}
_REPEATED_BY_FLEET: Final = frozenset({"run_task", "describe_tasks", "list_tasks", "stop_task"})


@cache
def _shared_loader() -> Any:
    """Reads the descriptions of services, each once a process: half a second for EC2's."""
    from botocore.loaders import create_loader

    return create_loader()


class Clients:
    """One identity in one region. `endpoint_url` is for emulators: one for all services, or by service."""

    def __init__(
        self,
        *,
        session: Any = None,
        region: str = "",
        profile: str = "",
        endpoint_url: str | Mapping[str, str] = "",
    ) -> None:
        if session is not None and profile:
            raise SettingsError("both session and profile are given", remedy="give one: a session has its profile")
        self._given = session
        self._region = region
        self._profile = profile
        self._endpoint_url = endpoint_url
        self._clients: dict[tuple[str, int], Any] = {}
        self._making = threading.RLock()
        self._is_closed = False

    @cached_property
    def session(self) -> Any:
        """The boto3 session. Errors: SettingsError (no such profile)."""
        if self._given is not None:
            return self._given
        import boto3
        import botocore.session
        from botocore.exceptions import ProfileNotFound

        try:
            core = botocore.session.Session(profile=self._profile or None)
            core.register_component("data_loader", _shared_loader())
            # botocore knows AWS_DEFAULT_REGION alone; everything else of AWS's reads AWS_REGION, and ours does.
            region = self._region or os.environ.get("AWS_REGION") or None
            session = boto3.Session(botocore_session=core, region_name=region)
            core.get_scoped_config()  # reads the profile, also that of AWS_PROFILE
        except ProfileNotFound as error:
            raise SettingsError(str(error), remedy=_PROFILE_REMEDY) from None
        paths = _shared_loader().search_paths  # boto3 has added its own, once more
        paths[:] = dict.fromkeys(paths)
        return session

    @property
    def region(self) -> str:
        """Errors: SettingsError if there is none."""
        region = self._region or self.session.region_name
        if not region:
            raise SettingsError(
                "no AWS region is set", remedy="set AWS_REGION, e.g. eu-west-1, or give region= (--region)"
            )
        return str(region)

    @cached_property
    def caller(self) -> Mapping[str, Any]:
        """What STS says of the credentials: Account, Arn, UserId; it is asked once. Errors: AwsError and its kin."""
        return self.ask("sts", "get_caller_identity", {})

    @property
    def account_id(self) -> str:
        """The account that the credentials belong to: the only owner whose buckets are used. Errors: AwsError."""
        return str(self.caller["Account"])

    @property
    def known_arn(self) -> str:
        """Whose credentials these are, if somebody has asked already; "" without a request."""
        return str(self.caller.get("Arn") or "") if "caller" in self.__dict__ else ""

    def endpoint_of(self, service: str) -> str:
        """The endpoint that was given for a service, "" for its own."""
        given = self._endpoint_url
        return given if isinstance(given, str) else given.get(service, "")

    def client(self, service: str, attempts: int = _ATTEMPTS) -> Any:
        """A client of boto3, made once; threads may share it. Errors: SettingsError, ConnectionLost after `close`."""
        with self._making:  # a session's own making of clients is not safe with threads
            if self._is_closed:
                raise ConnectionLost(f"{service}: the clients were closed", False)
            if (service, attempts) not in self._clients:
                self._clients[service, attempts] = self._make(service, attempts)
            return self._clients[service, attempts]

    def ask(self, service: str, operation: str, request: Mapping[str, Any], *, patient: bool = False) -> dict[str, Any]:
        """One request. patient: nobody repeats it but we, whatever it is.

        Errors: AwsError and its kin, SettingsError for arguments that the service does not know.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        attempts = 1 if operation in _REPEATED_BY_FLEET and not patient else _ATTEMPTS
        try:
            reply: dict[str, Any] = getattr(self.client(service, attempts), operation)(**request)
            return reply
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            raise self._explained(translated(f"{service} {operation}", error), operation, request) from error

    def close(self) -> None:
        """Close the connections; there are no new ones."""
        with self._making:
            self._is_closed = True
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _explained(
        self, error: AwsError | SettingsError, operation: str, request: Mapping[str, Any]
    ) -> AwsError | SettingsError:
        """With the setting that is at fault, where the service's code tells which."""
        code = error.code if isinstance(error, AwsError) else ""
        if operation == "describe_task_definition" and code in ("ClientException", "InvalidParameterException"):
            setting, key = "task_definition", "taskDefinition"
        elif code in _WRONG_SETTINGS:
            setting, key = _WRONG_SETTINGS[code]
        else:
            return error
        error.args = (f"{error.what.rstrip('.')} ({setting}={request.get(key)!r}, {self.region})", *error.args[1:])
        error.remedy = f"correct {setting}=, or region="
        return error

    def _make(self, service: str, attempts: int) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
            max_pool_connections=_CONNECTIONS,
            tcp_keepalive=True,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        session, region = self.session, self.region  # what they raise says more than a word on endpoints
        endpoint_url = self.endpoint_of(service) or None
        try:
            return session.client(service, region_name=region, endpoint_url=endpoint_url, config=config)
        except ValueError as error:  # an endpoint that is no URL, also one of AWS_ENDPOINT_URL or a profile
            remedy = "correct endpoint_url= (--endpoint-url) or AWS_ENDPOINT_URL; it is like http://127.0.0.1:5000"
            raise SettingsError(str(error), remedy=remedy) from None


def translated(what: str, error: Exception) -> AwsError | SettingsError:
    """An error of botocore as ours. `what` was tried."""
    from botocore import exceptions, parsers

    if isinstance(error, exceptions.ClientError):
        return error_of(what, _refusal(error.response or {}))
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return CredentialsMissing(f"{what}: {error}")
    if isinstance(error, (exceptions.TokenRetrievalError, exceptions.SSOError)):
        return CredentialsExpired(f"{what}: {error}")
    if isinstance(error, exceptions.ParamValidationError):
        return SettingsError(f"{what}: {error}", remedy="correct the setting that is named")
    if isinstance(error, exceptions.ProfileNotFound):
        return SettingsError(f"{what}: {error}", remedy=_PROFILE_REMEDY)
    if isinstance(error, parsers.ResponseParserError):
        said = str(error).partition("\n")[0]
        remedy = "check endpoint_url and the proxy: what answered does not speak as AWS does"
        return AwsError(f"{what}: {said}", type(error).__name__, remedy=remedy)
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        # Those of the first kind had no connection, so nothing can have happened. `response` exists, and is None.
        return ConnectionLost(f"{what}: {error}", not isinstance(error, exceptions.ConnectionError))
    return AwsError(f"{what}: {error}", type(error).__name__)


def _refusal(response: Mapping[str, Any]) -> Refusal:
    about, said = response.get("ResponseMetadata") or {}, response.get("Error") or {}
    return Refusal(
        about.get("HTTPStatusCode") or 0,
        said.get("Code") or "",
        said.get("Message") or "",
        about.get("RequestId") or "",
    )
