"""The pocket AWS as users hold it: start the server, point programs at it, look into it.

Called by:  users, plugin.py, `python -m cloudexec.testing`.   Calls: server/serve.py, as a process of its own.
Reason:     in a process of its own the server neither waits for the user's interpreter nor ends when a test kills it
            on purpose; it ends when its parent does.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from cloudexec.errors import CloudexecError, SettingsError
from cloudexec.testing.pocket.faults import Faults
from cloudexec.testing.pocket.functions import EnvironmentView, FunctionCounts, create_arguments
from cloudexec.testing.pocket.server.containers import import_path
from cloudexec.testing.pocket.settings import ACCESS_KEYS, RECORD_TO, PocketSettings

if TYPE_CHECKING:
    import boto3

START_S: Final = 60.0
END_S: Final = 15.0
ECS_SETTINGS: Final = (
    "cluster",
    "task_definition",
    "bucket",
    "subnets",
    "security_groups",
    "region",
    "endpoint_url",
)
LAMBDA_SETTINGS: Final = ("function", "bucket", "region", "endpoint_url")


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """One task as it stands: what ECS tells, and what only the pocket knows of its first essential container."""

    arn: str
    state: str
    desired: str
    stop_code: str | None
    stopped_reason: str | None
    exit_code: int | None
    pid: int | None
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log: str = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)  # all of it, as DescribeTasks and more

    @staticmethod
    def of(facts: dict[str, Any]) -> TaskView:
        """The view of what the server told."""
        first = facts["containers"][0] if facts["containers"] else {}
        return TaskView(
            arn=facts["taskArn"],
            state=facts["lastStatus"],
            desired=facts["desiredStatus"],
            stop_code=facts.get("stopCode"),
            stopped_reason=facts.get("stoppedReason"),
            exit_code=first.get("exitCode"),
            pid=first.get("pid"),
            command=tuple(first.get("command", ())),
            env=first.get("environment", {}),
            log=first.get("log", ""),
            facts=facts,
        )


@dataclass(frozen=True, kw_only=True)
class QueueView:
    """One queue as it stands."""

    name: str
    visible: int
    in_flight: int
    delayed: int
    bodies: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ResourceView:
    """One resource of a stack."""

    type: str
    id: str  # its physical id; "" if it was never made
    status: str


@dataclass(frozen=True, kw_only=True)
class StackView:
    """One stack as it stands."""

    id: str
    name: str
    region: str
    status: str
    reason: str
    outputs: Mapping[str, str]
    resources: Mapping[str, ResourceView]  # by logical id


class PocketAWS:
    """An AWS on 127.0.0.1 that really runs its tasks; a context manager.

    Keyword arguments are those of `PocketSettings`.
    """

    def __init__(self, settings: PocketSettings | None = None, **changes: Any) -> None:
        if settings is not None and changes:
            raise SettingsError("settings and single settings contradict each other", remedy="give one of the two")
        try:
            self.settings = settings or PocketSettings(**changes)
        except TypeError as error:
            raise SettingsError(str(error), remedy="see cloudexec.testing.PocketSettings for the names") from error
        self.faults = Faults(self._ask)
        self._server: subprocess.Popen[str] | None = None
        self._told: dict[str, Any] = {}
        self._before: dict[str, str] | None = None

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> PocketAWS:
        """Start the server; returns when it answers."""
        if self._server is not None:
            raise CloudexecError("the pocket AWS is running already", remedy="use one object for each pocket AWS")
        need_moto()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "cloudexec.testing.pocket.server.serve"],
            env=server_environment(os.environ),
            cwd="/",  # Python looks for modules there first
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the user's program, which then ends the server
        )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(self.settings.to_json() + "\n")
            self._server.stdin.flush()
            self._told = json.loads(self._server.stdout.readline() or '{"error": "it ended, see its error output"}')
        except BaseException:
            self.close()
            raise
        if "error" in self._told:
            self.close()
            what = f"the pocket AWS did not start: {self._told['error']}"
            raise CloudexecError(what, remedy="if the port is taken, choose another one or port=0")
        return self

    def close(self) -> None:
        """End the server and everything that it started; nothing happens the second time."""
        self.deactivate()
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.close()
        except BrokenPipeError:
            pass  # it has ended by itself
        try:
            server.wait(END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()

    def __enter__(self) -> PocketAWS:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def reset(self) -> None:
        """Back to the start: no tasks, messages, objects or faults; the ready-made resources are there again."""
        self._told["setup"] = self._ask("reset")
        if self._before is not None:
            os.environ.update(self.env)  # the names of what is ready are new

    @property
    def pid(self) -> int:
        """The server's process."""
        return int(self._told["pid"])

    # --- pointing programs at it ---------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """Where it listens, for all services."""
        if not self._told:
            raise CloudexecError("the pocket AWS is not running", remedy="use it in a `with` block, or call start()")
        return str(self._told["endpoint_url"])

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that make any AWS client talk to it, and `ECSExecutor()` find what is ready."""
        found = self.setup
        ready = {
            "CLOUDEXEC_CLUSTER": found["cluster"],
            "CLOUDEXEC_TASK_DEFINITION": found["task_definition"],
            "CLOUDEXEC_BUCKET": found["bucket"],
            "CLOUDEXEC_FUNCTION": found["function"],
            "CLOUDEXEC_SUBNETS": ",".join(found["subnets"]),
            "CLOUDEXEC_SECURITY_GROUPS": ",".join(found["security_groups"]),
        }
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEYS["client"],
            "AWS_SECRET_ACCESS_KEY": "pocket",
            "AWS_REGION": self.settings.region,
            "AWS_DEFAULT_REGION": self.settings.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CLOUDEXEC_CONFIG": os.devnull,  # this user's file speaks of an account
            **{name: value for name, value in ready.items() if value},
        }

    def env_of(self, who: str) -> dict[str, str]:
        """`env` with the credentials of somebody else: client, setup, doctor or tester.

        `setup` runs `cloudexec up`, `doctor` has the rights of client and setup, `tester` prepares things and looks.
        Everybody may do everything here; the journal tells them apart.
        """
        return {**self.env, "AWS_ACCESS_KEY_ID": _access_key(who)}

    def activate(self) -> PocketAWS:
        """Put `env` into os.environ, and other AWS_ and CLOUDEXEC_ variables out of it, until `deactivate`."""
        if self._before is None:
            self._before = {name: os.environ.pop(name) for name in _settings_in_environ()}
            os.environ.update(self.env)
            _forget_default_session()
        return self

    def deactivate(self) -> None:
        """Give os.environ its AWS_ and CLOUDEXEC_ variables back."""
        if self._before is not None:
            for name in _settings_in_environ():
                del os.environ[name]
            os.environ.update(self._before)
            self._before = None
            _forget_default_session()

    @contextmanager
    def activated(self) -> Iterator[PocketAWS]:
        """`activate` for the length of a block."""
        was_active = self._before is not None
        self.activate()
        try:
            yield self
        finally:
            if not was_active:
                self.deactivate()

    def session(self, who: str = "tester") -> boto3.Session:
        """A boto3 session whose clients talk to it, whatever os.environ says. who: as in `env_of`."""
        import boto3

        endpoint_url = self.endpoint_url

        class PocketSession(boto3.Session):  # type: ignore[misc]  # boto3 is not typed here
            def client(self, *args: Any, **kwargs: Any) -> Any:
                return super().client(*args, **{"endpoint_url": endpoint_url, **kwargs})

            def resource(self, *args: Any, **kwargs: Any) -> Any:
                return super().resource(*args, **{"endpoint_url": endpoint_url, **kwargs})

        return PocketSession(
            aws_access_key_id=_access_key(who), aws_secret_access_key="pocket", region_name=self.settings.region
        )

    @property
    def setup(self) -> dict[str, Any]:
        """The names of the ready-made resources: cluster, task definition, container, bucket, subnets, …"""
        return dict(self._told["setup"])

    def ecs_setup(self) -> dict[str, Any]:
        """The ready-made resources as keyword arguments of `ECSExecutor`."""
        setup = self.setup
        return {name: setup[name] for name in ECS_SETTINGS}

    def lambda_setup(self) -> dict[str, Any]:
        """The ready-made resources as keyword arguments of `LambdaExecutor`."""
        setup = self.setup
        return {name: setup[name] for name in LAMBDA_SETTINGS}

    def make_function(
        self,
        name: str,
        *,
        handler: str = "",
        files: Mapping[str, str | bytes] | None = None,
        image: str = "",
        memory: int = 128,
        timeout: int = 3,
        env: Mapping[str, str] | None = None,
        reserved: int | None = None,
        **more: Any,
    ) -> str:
        """Create a function, from the files of its zip (path -> text) or from an image; its ARN.

        memory in MB, timeout in seconds; `more` are other parameters of CreateFunction.
        """
        wanted = create_arguments(
            name, handler=handler, files=files, image=image, memory=memory, timeout=timeout, env=env
        )
        client = self.session().client("lambda")
        arn = str(client.create_function(**{"Role": self.setup["function_role"], **wanted, **more})["FunctionArn"])
        if reserved is not None:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
        return arn

    # --- looking -------------------------------------------------------------------------------

    def tasks(self) -> list[TaskView]:
        """All tasks that are still on record, oldest first."""
        return [TaskView.of(facts) for facts in self._ask("tasks")]

    def task(self, arn: str) -> TaskView:
        """The task of this ARN or id."""
        found = [task for task in self.tasks() if arn in (task.arn, task.arn.rpartition("/")[2])]
        if not found:
            raise LookupError(f"no task {arn} is on record")
        return found[0]

    def stacks(self) -> list[StackView]:
        """All stacks, oldest first; deleted ones too, with the status DELETE_COMPLETE."""
        found = []
        for facts in self._ask("stacks"):
            resources = {name: ResourceView(**each) for name, each in facts["resources"].items()}
            found.append(StackView(**{**facts, "resources": resources}))
        return found

    def queues(self) -> list[QueueView]:
        """All queues with their messages."""
        return [QueueView(**{**queue, "bodies": tuple(queue["bodies"])}) for queue in self._ask("queues")]

    def environments(self) -> list[EnvironmentView]:
        """All execution environments of Lambda functions, oldest first."""
        return [EnvironmentView(**facts) for facts in self._ask("environments")]

    def invocations(self) -> dict[str, FunctionCounts]:
        """What was really executed since the start or `reset`, by the function's name."""
        told = self._ask("invocations")["functions"]
        return {name: FunctionCounts.of(facts) for name, facts in told.items()}

    def waiting_events(self) -> int:
        """How many Event invocations wait or run."""
        return int(self._ask("invocations")["waiting"])

    def objects(self, bucket: str | None = None) -> dict[str, int]:
        """The keys in a bucket, the ready-made one by default, and their sizes in bytes."""
        found = self._ask("objects", bucket=bucket or self.setup["bucket"])
        return {item["key"]: item["size"] for item in found}

    def requests(self) -> Counter[tuple[str, str]]:
        """How often each (service, operation) was asked since the start, `reset` or `forget_requests`."""
        return Counter({(service, operation): count for service, operation, count in self._ask("requests")["counts"]})

    def record_requests(self, on: bool = True) -> None:
        """Keep every request with its headers from now on, for `recorded_requests`."""
        self._ask("requests/record", on=on)

    def recorded_requests(self) -> list[dict[str, Any]]:
        """The requests kept: service, operation, principal, method, path, query, headers (in lower case), at_s."""
        return list(self._ask("requests")["records"])

    def forget_requests(self) -> None:
        """Count from zero."""
        self._ask("requests/clear")

    def leftovers(self) -> list[str]:
        """What a program has left behind: tasks that nobody has told to stop, queues, objects; [] if it cleaned up."""
        tasks = [f"task {task.arn} is {task.state}" for task in self.tasks() if task.desired != "STOPPED"]
        queues = [f"queue {queue.name} with {len(queue.bodies)} messages" for queue in self.queues()]
        objects = [f"object s3://{name}/{key}" for name in self._ask("buckets") for key in self.objects(name)]
        return [*tasks, *queues, *objects]

    def _ask(self, name: str, /, **asked: Any) -> Any:
        where = self.endpoint_url.removeprefix("http://")
        connection = http.client.HTTPConnection(where, timeout=60)
        try:
            connection.request("POST", f"/_pocket/{name}", json.dumps(asked))
            reply = connection.getresponse()
            told = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError(f"the pocket AWS refuses {name}: {told['error']}")
        return told


def need_moto() -> None:
    """Refuse with a remedy where the extra is not installed."""
    missing = [name for name in ("moto", "flask", "werkzeug", "awslambdaric") if importlib.util.find_spec(name) is None]
    if missing:
        what = f"the pocket AWS needs {' and '.join(missing)}, which this Python does not have"
        raise SettingsError(what, remedy="pip install 'cloudexec[testing]'")


def server_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: nothing in it leads to a real account or to another pocket."""
    of_others = ("AWS_", "CLOUDEXEC_", "MOTO_", "PYTHONWARNINGS")
    kept = {name: value for name, value in own.items() if name == RECORD_TO or not name.startswith(of_others)}
    paths: Sequence[str] = [*import_path().values(), *filter(None, [own.get("PYTHONPATH")])]
    return {**kept, **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}


def _access_key(who: str) -> str:
    if who not in ACCESS_KEYS:
        raise SettingsError(f"nobody is called {who!r} here", remedy=f"give one of {', '.join(ACCESS_KEYS)}")
    return ACCESS_KEYS[who]


def _settings_in_environ() -> list[str]:
    return [name for name in os.environ if name.startswith(("AWS_", "CLOUDEXEC_")) and name != RECORD_TO]


def _forget_default_session() -> None:
    """boto3 keeps its first session, with the credentials and endpoints of that moment."""
    boto3 = sys.modules.get("boto3")
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]  # a module variable of boto3
