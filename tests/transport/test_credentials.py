"""Where credentials come from, and how they are renewed; the metadata services are real HTTP servers here."""

import contextlib
import json
import threading
import time

import pytest

from cloudexec.errors import CredentialsMissing
from cloudexec.transport.credentials import (
    AHEAD_S,
    RenewedCredentials,
    container_metadata,
    find_credentials,
)
from cloudexec.transport.sigv4 import Credentials
from tests.transport.scripted import answer, hang_up

FULL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
RELATIVE = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
OFF = {"AWS_EC2_METADATA_DISABLED": "true"}
SAID = {
    "AccessKeyId": "ASIA",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2026-11-21T06:00:00Z",
}
FOUND = Credentials("ASIA", "secret", "token", 1795240800.0)
GIVEN = answer(200, json.dumps(SAID).encode())


def url_of(server, path=""):
    return f"http://127.0.0.1:{server.port}{path}"


# --- where from ------------------------------------------------------------------------------


def test_the_environment_goes_first():
    environ = {"AWS_ACCESS_KEY_ID": " AKID\n", "AWS_SECRET_ACCESS_KEY": "secret", FULL: "http://127.0.0.1:1/never"}
    assert find_credentials(environ) == Credentials("AKID", "secret", "", None)
    assert find_credentials(environ | {"AWS_SESSION_TOKEN": "token"}).token == "token"


def test_a_container_asks_its_endpoint(serve):
    server = serve(GIVEN)
    assert find_credentials({FULL: url_of(server, "/v2/credentials?id=1")}) == FOUND
    (request,) = server.requests
    assert request.line == "GET /v2/credentials?id=1 HTTP/1.1"
    assert "authorization" not in request.headers


def test_a_container_shows_its_token(serve, tmp_path):
    server = serve(GIVEN)
    environ = {FULL: url_of(server), "AWS_CONTAINER_AUTHORIZATION_TOKEN": "from the environment"}
    find_credentials(environ)
    (tmp_path / "token").write_text("from the file")
    find_credentials(environ | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")})
    assert [request.headers["authorization"] for request in server.requests] == [
        "from the environment",
        "from the file",
    ]


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        pytest.param({FULL: "http://metadata.example/x"}, "neither https nor local", id="plain HTTP to a stranger"),
        pytest.param({FULL: "http://169.254.170.1/x"}, "neither https nor local", id="another link-local host"),
        pytest.param({FULL: "http://127.example.com/x"}, "neither https nor local", id="a name like an address"),
        pytest.param({FULL: "http://127.0.0.1.example.com/"}, "neither https nor local", id="one that begins with it"),
        pytest.param({RELATIVE: ".example.com/x"}, "neither https nor local", id="a relative path that goes on a host"),
        pytest.param({FULL: "http://127.0.0.1:1/?a\r\nHost:b"}, "control character", id="a query with a line end"),
        pytest.param(
            {FULL: "http://127.0.0.1:1/", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a\r\nb: c"}, "line end",
            id="a token that would be two headers",
        ),
        pytest.param(
            {FULL: "http://127.0.0.1:1/", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nonexistent"}, "No such file",
            id="a token file that is not there",
        ),
        pytest.param({FULL: "http://127.0.0.1:1/"}, "refused", id="nobody at the port"),
        pytest.param({"AWS_ACCESS_KEY_ID": "half"}, "not both set", id="half of a pair"),
    ],
)  # fmt: skip
def test_without_credentials_the_error_names_what_was_tried(environ, reason):
    with pytest.raises(CredentialsMissing, match=reason) as caught:
        find_credentials(OFF | environ)
    assert "instance metadata is disabled" in str(caught.value)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        pytest.param(answer(403, b"no role"), "answered 403 no role", id="refused"),
        pytest.param(answer(200, b"{}"), "answered without keys", id="an empty answer"),
        pytest.param(answer(200, b'{"Code": "AssumeRoleUnauthorizedAccess"}'), "AssumeRoleUna", id="a role it may not"),
        pytest.param(answer(200, b"<html>"), "JSONDecodeError", id="no JSON"),
    ],
)
def test_an_endpoint_that_gives_none_is_named_with_its_words(serve, action, reason):
    with pytest.raises(CredentialsMissing, match=reason):
        find_credentials(OFF | {FULL: url_of(serve(action))})


@pytest.mark.parametrize("first", [answer(500, b"busy"), answer(429), hang_up])
def test_a_busy_endpoint_is_asked_again(serve, first):
    server = serve(first, GIVEN)
    assert find_credentials(OFF | {FULL: url_of(server)}) == FOUND
    assert len(server.requests) == 2


def test_an_instance_asks_its_metadata_in_version_2_only(serve):
    server = serve(answer(200, b"session-token"), answer(200, b"my-role\n"), GIVEN)
    assert find_credentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url_of(server, "/")}) == FOUND
    token, role, keys = server.requests
    assert token.line == "PUT /latest/api/token HTTP/1.1"
    assert token.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
    assert role.line == "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1"
    assert keys.line == "GET /latest/meta-data/iam/security-credentials/my-role HTTP/1.1"
    assert role.headers["x-aws-ec2-metadata-token"] == keys.headers["x-aws-ec2-metadata-token"] == "session-token"


@pytest.mark.parametrize(
    "actions",
    [
        pytest.param([answer(403)], id="metadata without version 2"),
        pytest.param([answer(200, b"token"), answer(404)], id="an instance without a role"),
    ],
)
def test_an_instance_without_a_role_says_so(serve, actions):
    with pytest.raises(CredentialsMissing, match="instance metadata has no role"):
        find_credentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url_of(serve(*actions))})


def test_a_task_knows_itself(serve):
    server = serve(answer(200, b'{"TaskARN": "arn:aws:ecs:x", "Family": "worker"}'))
    environ = {"ECS_CONTAINER_METADATA_URI_V4": url_of(server, "/v4/abc")}
    assert container_metadata(environ)["TaskARN"] == "arn:aws:ecs:x"
    assert server.requests[0].line == "GET /v4/abc/task HTTP/1.1"
    assert container_metadata({}) == {}


# --- renewal ---------------------------------------------------------------------------------


class Source:
    """Hands out numbered credentials that live so long; counts, and can be told to fail."""

    def __init__(self, lives_s=3600.0):
        self.now_s, self.lives_s, self.asked, self.is_down = 1000.0, lives_s, 0, False

    def __call__(self):
        self.asked += 1
        if self.is_down:
            raise CredentialsMissing("down")
        expires_s = None if self.lives_s is None else self.now_s + self.lives_s
        return Credentials(f"KEY{self.asked}", "secret", "", expires_s)

    def renewed(self, **more):
        return RenewedCredentials(self, clock=lambda: self.now_s, **more)


def test_credentials_are_kept_until_they_near_their_end():
    source = Source()
    credentials = source.renewed()
    assert credentials.current() is None
    first = credentials.renew()
    source.now_s += 3600 - AHEAD_S - 1
    assert credentials.current() is credentials.renew() is first
    source.now_s += 2
    assert credentials.current() is None
    assert credentials.renew().access_key == "KEY2"
    assert source.asked == 2


def test_a_failed_renewal_is_no_error_while_the_old_ones_hold():
    source = Source()
    credentials = source.renewed()
    first = credentials.renew()
    source.now_s += 3600 - AHEAD_S + 1
    source.is_down = True
    assert credentials.renew() is first
    assert credentials.current() is first  # and nobody is asked again for a while
    source.now_s += AHEAD_S
    with pytest.raises(CredentialsMissing):
        credentials.renew()


def test_refused_credentials_are_replaced_at_once_but_only_once():
    source = Source(lives_s=None)
    credentials = source.renewed()
    first = credentials.renew()
    assert credentials.renew() is first
    second = credentials.renew(first)
    assert credentials.renew(first) is second  # another thread's complaint about the same ones
    assert source.asked == 2


def test_a_source_that_renews_by_itself_is_asked_now_and_then():
    source = Source(lives_s=None)
    credentials = source.renewed(ask_every_s=30)
    credentials.renew()
    source.now_s += 29
    assert credentials.current() is not None
    source.now_s += 2
    assert credentials.current() is None


def test_a_source_that_gives_out_what_is_about_to_end_is_not_asked_for_each_request():
    source = Source(lives_s=60)
    credentials = source.renewed()
    credentials.renew()
    assert credentials.current() is not None


def test_many_threads_ask_once():
    asked = []

    def slow():
        asked.append(1)
        time.sleep(0.05)
        return Credentials("A", "S")

    credentials = RenewedCredentials(slow)
    threads = [threading.Thread(target=credentials.renew) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1


def test_while_one_thread_renews_the_others_go_on_with_what_still_holds():
    source = Source()
    is_asked, may_answer = threading.Event(), threading.Event()

    def fetch():
        if source.asked:
            is_asked.set()
            may_answer.wait(10)
        return source()

    credentials = RenewedCredentials(fetch, clock=lambda: source.now_s)
    first = credentials.renew()
    source.now_s += 3600 - AHEAD_S + 1
    thread = threading.Thread(target=credentials.renew)
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(may_answer.set)
        thread.start()
        assert is_asked.wait(10)
        assert credentials.renew() is first
    assert credentials.current().access_key == "KEY2"
