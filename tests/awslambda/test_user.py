"""What a new user meets: wrong settings, a function that is switched off, no bucket, one long call, no network."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from cloudexec import LambdaExecutor, Retry, errors
from tests.awslambda.scene import eventually, left_of, wait_at

AT_ONCE_S = 8.0  # on a busy machine


# --- settings, before anything is asked ---------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"function": "my function"}, "function='my function' is not the name", id="a space"),
        pytest.param({"function": "f/../g"}, "function='f/../g' is not the name", id="a path"),
        pytest.param({"shards": ["g", "h?"]}, "shards='h[?]' is not the name", id="of a shard"),
        pytest.param({"qualifier": "v 1"}, "qualifier='v 1' is not the name of a function version", id="a version"),
        pytest.param({"bucket": "s3://mine/x"}, "bucket='s3://mine/x' .* no s3://", id="a URL for a bucket"),
        pytest.param({"bucket": "arn:aws:s3:::mine"}, "bucket='arn:aws:s3:::mine' .* no ARN", id="an ARN for a bucket"),
        pytest.param({"tuning": 3}, 'tuning=3 .* by name, e.g. {"margin_s": 2}', id="one interval, but which?"),
        pytest.param({"tuning": {"margin_s": True}}, "=True is not a positive number of seconds", id="yes is no time"),
        pytest.param({"tuning": {"margin_s": float("nan")}}, "=nan is not a positive", id="not a number"),
        pytest.param({"session": "default"}, "session='default' is not .* boto3.Session", id="a profile's name"),
    ],
)
def test_a_setting_that_cannot_be_right_is_refused_when_the_executor_is_made(wrong, says):
    with pytest.raises(errors.SettingsError, match=says):
        LambdaExecutor(**{"function": "f", "region": "us-east-1", **wrong})


@pytest.mark.parametrize(
    "function",
    [
        "f",
        "my-function_2:$LATEST",
        "123456789012:function:f:live",
        "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f:3",
    ],
)
def test_every_way_to_name_a_function_is_taken(function):
    LambdaExecutor(function, region="us-east-1", bucket="Old_bucket.name", qualifier="3").shutdown()


# --- what is found out with the first call ------------------------------------------------------


def test_a_function_that_is_switched_off_is_told_at_once_and_not_waited_for(new_executor, new_function):
    function = new_function(reserved=0)
    began_s = time.monotonic()

    with pytest.raises(errors.WorkerStartFailed, match=f"{function}.* is switched off.*delete-function-concurrency"):
        new_executor(function=function).submit(pow, 2, 3).result()

    assert time.monotonic() - began_s < AT_ONCE_S


def test_without_a_bucket_the_error_tells_the_size_of_what_needs_one(new_executor, new_function, monkeypatch):
    monkeypatch.delenv("CLOUDEXEC_BUCKET")
    executor = new_executor(function=new_function(), bucket=None)

    refused = executor.submit(len, bytearray(9_000_000))

    with pytest.raises(errors.SettingsError, match=r"9,000,\d\d\d bytes, .*no bucket.*bucket=.*modules=None"):
        refused.result()
    assert executor.submit(len, bytearray(1_000_000)).result() == 1_000_000


@pytest.mark.parametrize(
    ("sizes", "retries"),
    [
        pytest.param([3_900_000] * 8, Retry(lost=0), id="alike: none is begun that might not fit beside others"),
        pytest.param([39, 3_900_000] * 4, Retry(), id="mixed: what does not fit beside others runs again, alone"),
    ],
)
def test_without_a_bucket_every_result_arrives_that_fits_into_an_answer_of_its_own(
    new_executor, new_function, monkeypatch, sizes, retries
):
    monkeypatch.delenv("CLOUDEXEC_BUCKET")
    executor = new_executor(1, function=new_function(), bucket=None, retries=retries)
    futures = [executor.submit(bytes, size) for size in sizes]
    assert [len(future.result()) for future in futures] == sizes


@pytest.mark.slow
def test_who_waits_for_room_in_lambda_is_told_so_in_the_log(new_executor, aws, caplog):
    """Fifteen minutes of silence look like a hang."""
    rule = aws.faults.invoke_throttle()
    waiting = new_executor(1).submit(pow, 2, 3)

    eventually(lambda: any("no invocation was taken for" in each.message for each in caplog.records), 2 * AT_ONCE_S)
    aws.faults.clear(rule)

    assert waiting.result() == 8
    told = [each.message for each in caplog.records if "no invocation was taken for" in each.message]
    assert len(told) == 1, "not with each refusal"
    assert "throttle_timeout_s=900" in told[0]
    assert "ConcurrentInvocationLimitExceeded" in told[0]


# --- a single long call -------------------------------------------------------------------------


def test_a_client_shows_that_it_lives_also_if_nothing_happens_but_one_long_call(new_executor, aws, tmp_path):
    """Without the object the environment would not notice the client's death, and work until its timeout."""
    executor = new_executor(1, client_timeout_s=30.0)
    waiting = executor.submit(wait_at, str(tmp_path / "gate"), 1)

    eventually(lambda: any(key.endswith("/control") for key in left_of(aws, executor.run.id)), AT_ONCE_S)

    (tmp_path / "gate").touch()
    assert waiting.result() == 1


# --- the network goes away ----------------------------------------------------------------------


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on to another server, until it is closed with all of them."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.ends: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request, client_address) -> None:
        with socket.create_connection((self.url.hostname, self.url.port)) as server:
            self.ends += [request, server]
            back = threading.Thread(target=self.pass_on, args=(server, request), daemon=True)
            back.start()
            self.pass_on(request, server)
            back.join()

    def pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while some := source.recv(65536):
                target.sendall(some)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self.shutdown()
        self.server_close()
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_an_executor_whose_network_is_gone_gives_up_by_name_however_many_lanes_try(new_executor, aws, monkeypatch):
    """Lanes find out one after another; one that still tries is no sign that Lambda has room for it."""
    monkeypatch.delenv("CLOUDEXEC_BUCKET")
    relay = Relay(aws.endpoint_url)
    executor = new_executor(4, endpoint_url=f"http://127.0.0.1:{relay.server_address[1]}", throttle_timeout_s=2)
    assert executor.submit(pow, 2, 3).result() == 8
    relay.cut()

    futures = [executor.submit(pow, x, 2) for x in range(8)]

    errors_met = [future.exception(timeout=30.0) for future in futures]
    assert {type(error) for error in errors_met} == {errors.WorkerStartFailed}
    assert "Lambda cannot be reached" in str(errors_met[0])
    assert "for every invocation" in str(errors_met[0])
