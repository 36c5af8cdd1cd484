"""Clients of boto3: made once, with settings of ours; their errors are ours, and the original stays the cause."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from botocore.exceptions import ClientError

from cloudexec.backends.clients import Clients
from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, CredentialsExpired, SettingsError, Throttled
from tests.backends.ecs.conftest import session_in


class Refusing(HTTPServer):
    """Answers every request with an error, and counts them."""

    def __init__(self, status, code):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.code, self.n_requests = status, code, 0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.n_requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": self.server.code, "message": "not today"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", "req-1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def refusing(request):
    server = Refusing(*request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    clients = Clients(session=session_in("eu-west-1"), endpoint_url=f"http://127.0.0.1:{server.server_port}")
    yield server, clients
    clients.close()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("refusing", "kind"),
    [
        pytest.param((400, "AccessDeniedException"), AccessDenied, id="denied"),
        pytest.param((400, "ThrottlingException"), Throttled, id="throttled"),
        pytest.param((400, "ExpiredTokenException"), CredentialsExpired, id="expired"),
        pytest.param((400, "ClusterNotFoundException"), AwsError, id="no such cluster"),
        pytest.param((500, "ServerException"), AwsError, id="their fault"),
    ],
    indirect=["refusing"],
)
def test_a_refusal_becomes_an_error_of_ours(refusing, kind):
    server, clients = refusing
    with pytest.raises(AwsError) as caught:
        clients.ask("ecs", "describe_tasks", {"cluster": "c", "tasks": ["t"]})
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status) == (server.code, server.status)
    assert "not today" in caught.value.what
    assert isinstance(caught.value.__cause__, ClientError)
    assert server.n_requests == 1  # the fleet repeats it, at its own pace


@pytest.mark.parametrize("refusing", [pytest.param((500, "ServerException"), id="fault")], indirect=True)
def test_what_nobody_else_repeats_is_repeated(refusing):
    server, clients = refusing
    with pytest.raises(AwsError):
        clients.ask("ecs", "describe_task_definition", {"taskDefinition": "t"})
    assert server.n_requests == 5


def test_without_a_server_there_is_a_connection_error_that_is_not_ambiguous():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets this port
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        clients = Clients(session=session_in("eu-west-1"), endpoint_url=url)
        with pytest.raises(ConnectionLost) as caught:
            clients.ask("ecs", "run_task", {"taskDefinition": "t"})
    assert not caught.value.ambiguous


def test_an_endpoint_that_is_no_url_is_a_wrong_setting():
    clients = Clients(session=session_in("eu-west-1"), endpoint_url="nonsense")
    with pytest.raises(SettingsError, match=r"nonsense.*Remedy: correct endpoint_url="):
        clients.ask("ecs", "describe_clusters", {})


@pytest.mark.parametrize("refusing", [pytest.param((400, "ClusterNotFoundException"), id="cluster")], indirect=True)
def test_the_setting_that_names_nothing_is_told(refusing):
    with pytest.raises(AwsError, match=r"\(cluster='c', eu-west-1\)\. Remedy: correct cluster="):
        refusing[1].ask("ecs", "describe_tasks", {"cluster": "c", "tasks": ["t"]})


@pytest.mark.parametrize("refusing", [pytest.param((400, "ClientException"), id="absent")], indirect=True)
def test_so_is_a_task_definition(refusing):
    with pytest.raises(AwsError, match=r"\(task_definition='t', eu-west-1\)\. Remedy: correct task_definition="):
        refusing[1].ask("ecs", "describe_task_definition", {"taskDefinition": "t"})


@pytest.mark.parametrize("refusing", [pytest.param((200, "x"), id="json instead of xml")], indirect=True)
def test_what_answers_in_another_language_is_not_aws(refusing):
    with pytest.raises(AwsError, match="check endpoint_url"):
        refusing[1].ask("ec2", "describe_subnets", {})


def test_a_request_that_the_service_does_not_know_is_a_settings_error(clients):
    with pytest.raises(SettingsError, match="nonsense"):
        clients.ask("ecs", "run_task", {"taskDefinition": "t", "nonsense": 1})


def test_a_client_is_made_once_with_settings_of_ours(clients):
    client = clients.client("ecs")
    assert client is clients.client("ecs")
    assert client.meta.config.retries["mode"] == "standard"
    assert client.meta.config.connect_timeout == 5
    assert client.meta.config.tcp_keepalive


def test_the_account_is_asked_for_once(clients):
    assert clients.account_id == clients.account_id == "123456789012"


def test_threads_get_the_same_client(clients):
    got = []
    threads = [threading.Thread(target=lambda: got.append(clients.client("sqs"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_endpoints_may_differ_by_service():
    clients = Clients(session=session_in("eu-west-1"), endpoint_url={"ecs": "http://127.0.0.1:1"})
    assert (clients.endpoint_of("ecs"), clients.endpoint_of("sqs")) == ("http://127.0.0.1:1", "")


def test_a_profile_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="nobody"):
        _ = Clients(profile="nobody").region
    with pytest.raises(SettingsError, match="nobody"):
        Clients(profile="nobody", region="eu-west-1").ask("ecs", "list_clusters", {})


def test_a_session_has_its_profile():
    with pytest.raises(SettingsError, match="both session and profile"):
        Clients(session=session_in("eu-west-1"), profile="me")


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        pytest.param({"AWS_REGION": "eu-west-1"}, "eu-west-1", id="what the remedy says"),
        pytest.param({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2", id="what botocore knows"),
        pytest.param({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1", id="both"),
    ],
)
def test_the_region_of_the_environment(monkeypatch, environment, region):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Clients().region == region


def test_no_region_is_an_error_with_a_remedy():
    with pytest.raises(SettingsError, match="AWS_REGION"):
        _ = Clients(session=_WithoutRegion()).region


class _WithoutRegion:
    region_name = None


def test_a_request_without_a_region_speaks_of_the_region():
    with pytest.raises(SettingsError, match="no AWS region") as caught:
        Clients(session=_WithoutRegion()).ask("ecs", "list_clusters", {})
    assert "AWS_REGION" in caught.value.remedy
