"""Synchronous invocations: what arrives, what comes back, how failures look, what an environment keeps."""

import base64
import json
import os
import select
import signal
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.pocket.driving import code_of, message_of

# --- what comes back -----------------------------------------------------------------------------


def test_a_function_really_runs(functions):
    functions.make("return {'doubled': e['n'] * 2, 'id': c.aws_request_id}")
    told = functions.invoke(n=21)
    assert told.payload == {"doubled": 42, "id": told.request_id}
    assert (told.error, told.version) == (None, "$LATEST")


def test_the_context_tells_name_memory_arn_and_how_much_time_is_left(functions):
    arn = functions.make(
        "return [c.function_name, c.memory_limit_in_mb, c.invoked_function_arn, c.get_remaining_time_in_millis()]",
        memory=256,
        timeout=7,
    )
    name, memory, invoked, left_ms = functions.invoke().payload
    assert (name, memory, invoked) == ("f", "256", arn)
    assert 5000 < left_ms <= 7000


def test_the_client_context_arrives(functions):
    functions.make("return c.client_context.custom")
    context = base64.b64encode(b'{"custom": {"a": "b"}}').decode()
    assert functions.send(b"{}", ClientContext=context).payload == {"a": "b"}


def test_an_exception_of_the_function_is_an_unhandled_error_with_its_type(functions):
    functions.make("raise ValueError('no ' + e['what'])")
    told = functions.invoke(what="way")
    assert (told.error, told.kind, told.message) == ("Unhandled", "ValueError", "no way")
    assert "raise ValueError" in told.payload["stackTrace"][-1]
    assert "[ERROR] ValueError: no way" in told.log


def test_a_big_answer_and_a_big_payload_pass(functions):
    functions.make("return 'x' * len(e['data'])")
    assert len(functions.invoke(data="y" * 5_000_000).payload) == 5_000_000


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        pytest.param("os._exit(7)", "Runtime.ExitError", "Runtime exited with error: exit status 7", id="exit 7"),
        pytest.param("os._exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason", id="exit 0"),
        pytest.param(
            "os.kill(os.getpid(), 9)", "Runtime.ExitError", "Runtime exited with error: signal: killed", id="SIGKILL"
        ),
        pytest.param(
            "os.kill(os.getpid(), 11)",
            "Runtime.ExitError",
            "Runtime exited with error: signal: segmentation fault",
            id="SIGSEGV",
        ),
    ],
)
def test_an_environment_that_ends_in_mid_call(functions, body, kind, words):
    functions.make(body)
    told = functions.invoke()
    assert (told.error, told.kind) == ("Unhandled", kind)
    assert told.message == f"RequestId: {told.request_id} Error: {words}"
    assert functions.aws.environments() == []


def test_a_function_that_takes_too_long_is_killed_with_its_environment(functions):
    functions.make("print('began', flush=True); time.sleep(30)", timeout=1)
    began = time.monotonic()
    told = functions.invoke()
    assert 1 <= time.monotonic() - began < 3
    assert (told.error, told.kind) == ("Unhandled", "Sandbox.Timedout")
    assert told.message == f"RequestId: {told.request_id} Error: Task timed out after 1.00 seconds"
    assert "began\n" in told.log
    assert "Status: timeout" in told.log
    assert functions.aws.environments() == []


def test_an_environment_above_its_memory_is_killed(functions):
    functions.make("x = bytearray(300 << 20); time.sleep(5)", timeout=10)
    told = functions.invoke()
    assert told.kind == "Runtime.ExitError"
    assert told.message.endswith("signal: killed")
    assert "Memory Size: 128 MB\tMax Memory Used: 128 MB" in told.log


def test_memory_counts_all_processes_of_an_environment(functions):
    functions.make(
        "code = 'x = bytearray(80 << 20); import time; time.sleep(5)'\n"
        "subprocess.run([sys.executable, '-c', code]) if e else [subprocess.Popen([sys.executable, '-c', code])"
        " for _ in range(2)] and time.sleep(5)",
        timeout=10,
    )
    assert functions.invoke().message.endswith("signal: killed")


@pytest.mark.parametrize(
    ("files", "handler", "kind", "words"),
    [
        pytest.param(
            {"main.py": "import nothing_like_it"},
            "main.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'main': No module named 'nothing_like_it'",
            id="import error",
        ),
        pytest.param(
            {"main.py": "x = 1"},
            "main.handler",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'main'",
            id="no handler",
        ),
        pytest.param({"main.py": "1 / 0"}, "main.handler", "ZeroDivisionError", "division by zero", id="any error"),
        pytest.param(
            {"main.py": "def ("}, "main.handler", "Runtime.UserCodeSyntaxError", "Syntax error in module", id="syntax"
        ),
    ],
)
def test_a_handler_that_cannot_be_loaded(functions, files, handler, kind, words):
    functions.aws.make_function("f", handler=handler, files=files)
    told = functions.invoke()
    assert (told.error, told.kind) == ("Unhandled", kind)
    assert words in told.message
    assert functions.counts().n_executed == 0
    assert functions.aws.environments() == []


def test_a_module_that_ends_the_process_while_it_is_loaded(functions):
    functions.aws.make_function("f", handler="main.handler", files={"main.py": "import os; os._exit(3)"})
    told = functions.invoke()
    assert told.kind == "Runtime.ExitError"
    assert told.message.endswith("exit status 3")


def test_an_answer_that_is_too_large(functions):
    functions.make("return 'x' * e['n']")
    told = functions.invoke(n=6_291_555)
    assert (told.error, told.kind) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert "exceeded maximum allowed payload size (6291556 bytes)" in told.message
    assert len(functions.invoke(n=6_291_554).payload) == 6_291_554  # with its quotes it just fits


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "code", "status"),
    [
        pytest.param({"FunctionName": "nobody"}, "ResourceNotFoundException", 404, id="no function"),
        pytest.param({"Qualifier": "7"}, "ResourceNotFoundException", 404, id="no version"),
        pytest.param({"Qualifier": "prod"}, "ResourceNotFoundException", 404, id="no alias"),
        pytest.param({"Payload": b"{no json"}, "InvalidRequestContentException", 400, id="no JSON"),
        pytest.param(
            {"Payload": b'"' + b"x" * (6 << 20) + b'"'}, "RequestTooLargeException", 413, id="6 MB synchronously"
        ),
        pytest.param(
            {"Payload": b'"' + b"x" * (1 << 20) + b'"', "InvocationType": "Event"},
            "RequestTooLargeException",
            413,
            id="1 MB by Event",
        ),
    ],
)
def test_what_is_refused(functions, ask, code, status):
    functions.make("return 1")
    with pytest.raises(ClientError) as error:
        functions.client.invoke(**{"FunctionName": "f", **ask})
    assert code_of(error) == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert functions.aws.environments() == []


def test_a_dry_run_runs_nothing(functions):
    functions.make("return 1")
    assert functions.client.invoke(FunctionName="f", InvocationType="DryRun")["StatusCode"] == 204
    assert functions.aws.environments() == []
    with pytest.raises(ClientError):
        functions.client.invoke(FunctionName="nobody", InvocationType="DryRun")


def test_a_runtime_that_is_not_there(functions):
    functions.make("return 1", Runtime="nodejs20.x")
    with pytest.raises(ClientError) as error:
        functions.invoke()
    assert code_of(error) == "InvalidRuntimeException"


def test_a_zip_that_is_none(functions):
    functions.make("return 1", Code={"ZipFile": b"no zip"})
    with pytest.raises(ClientError) as error:
        functions.invoke()
    assert code_of(error) == "InvalidZipFileException"


def test_a_chain_that_comes_back_too_often_is_stopped(functions):
    functions.make("return os.environ['_X_AMZN_TRACE_ID']", env={"CALLS": "itself"})

    def invoke(trace):
        events = functions.aws.session().client("lambda", config=functions.client.meta.config)
        events.meta.events.register("before-send.lambda", lambda request, **_: _put(request, trace))
        return json.loads(events.invoke(FunctionName="f")["Payload"].read())

    trace = ""
    for _ in range(16):
        trace = invoke(trace)
    with pytest.raises(ClientError) as error:
        invoke(trace)
    assert code_of(error) == "RecursiveInvocationException"
    functions.client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    assert invoke(trace).startswith(trace.partition(";")[0])


def _put(request, trace):
    if trace:
        request.headers["X-Amzn-Trace-Id"] = trace


# --- logs ----------------------------------------------------------------------------------------


def test_the_tail_has_the_lines_between_start_and_report(functions):
    functions.make("print('out'); print('err', file=sys.stderr); os.write(1, b'no newline')")
    lines = functions.invoke().log.splitlines()
    request_id = lines[1].split()[2]
    assert lines[0].startswith("INIT_START Runtime Version: python:3.")
    assert lines[1] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[2:5] == ["out", "err", "no newline"]
    assert lines[5] == f"END RequestId: {request_id}"
    names = [field.partition(":")[0] for field in lines[6].strip().split("\t")]
    cold = ["Duration", "Billed Duration", "Memory Size", "Max Memory Used", "Init Duration"]
    assert names == ["REPORT RequestId", *cold]
    assert "Init Duration" not in functions.invoke().log  # warm


def test_the_tail_is_at_most_4_kb_and_only_where_it_is_wanted(functions):
    functions.make("print('x' * 10_000)")
    assert len(functions.invoke().log) == 4096
    assert functions.invoke(tail=False).log == ""


def test_the_whole_log_is_in_cloudwatch_logs(functions):
    functions.make("print('line', e['n'])")
    for n in range(3):
        functions.invoke(n=n)
    logs = functions.aws.session().client("logs")
    events = logs.filter_log_events(logGroupName="/aws/lambda/f", filterPattern='"line"')["events"]
    assert [event["message"].rstrip("\n") for event in events] == ["line 0", "line 1", "line 2"]
    (stream,) = {event["logStreamName"] for event in events}
    assert "[$LATEST]" in stream


# --- environments --------------------------------------------------------------------------------


def test_a_warm_environment_is_used_again_and_keeps_what_it_has(functions):
    functions.make("state['n'] = state.get('n', 0) + 1\nreturn [os.getpid(), state['n']]")
    first, second = functions.invoke().payload, functions.invoke().payload
    assert (first[0], first[1], second[1]) == (second[0], 1, 2)
    assert functions.counts().cold_starts == 1


def test_calls_at_the_same_time_get_environments_of_their_own_and_the_last_one_is_used_first(functions):
    functions.make("time.sleep(e.get('s', 0)); return os.getpid()", timeout=10)
    early, late = functions.at_once({"s": 0.1}, {"s": 0.5})
    assert early.payload != late.payload
    assert functions.invoke().payload == late.payload


def test_a_new_code_and_a_new_configuration_take_new_environments(functions):
    functions.make("return os.environ.get('A', 'unset'), os.getpid()")
    before = functions.invoke().payload
    functions.client.update_function_configuration(FunctionName="f", Environment={"Variables": {"A": "set"}})
    after = functions.invoke().payload
    assert (before[0], after[0]) == ("unset", "set")
    assert before[1] != after[1]
    assert len(functions.aws.environments()) == 1
    from cloudexec.testing.pocket.functions import zip_of

    functions.client.update_function_code(
        FunctionName="f", ZipFile=zip_of({"main.py": "def handler(e, c): return 'new'"})
    )
    assert functions.invoke().payload == "new"


def test_a_version_and_an_alias_run_the_code_of_their_time(functions):
    arn = functions.make("return [c.function_version, c.invoked_function_arn]")
    functions.client.publish_version(FunctionName="f")
    functions.client.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
    from cloudexec.testing.pocket.functions import zip_of

    new = zip_of({"main.py": "def handler(e, c): return 'new'"})
    functions.client.update_function_code(FunctionName="f", ZipFile=new)
    assert functions.send(b"{}", Qualifier="1").payload == ["1", f"{arn}:1"]
    told = functions.send(b"{}", Qualifier="prod")
    assert (told.payload, told.version) == (["1", f"{arn}:prod"], "1")
    assert functions.send(b"{}", f"{arn}:prod").payload == ["1", f"{arn}:prod"]
    assert functions.invoke().payload == "new"


def test_what_a_function_finds_in_its_environment(functions, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_USER", "x")
    functions.make("return dict(os.environ)", env={"OF_THE_FUNCTION": "y"}, memory=256)
    found = functions.invoke().payload
    assert "A_SECRET_OF_THE_USER" not in found
    assert "HOME" not in found
    assert "ECS_CONTAINER_METADATA_URI_V4" not in found
    assert found["OF_THE_FUNCTION"] == "y"
    assert found["AWS_ENDPOINT_URL"] == functions.aws.endpoint_url
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == "f"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert found["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert found["TZ"] == ":UTC"
    assert found["_HANDLER"] == "main.handler"


def test_boto3_in_a_function_talks_to_the_pocket_and_keys_that_expired_are_replaced(functions):
    functions.make(
        "import boto3\nboto3.client('s3').put_object(Bucket=e['bucket'], Key='k', Body=b'12')\n"
        "return os.environ['AWS_ACCESS_KEY_ID']",
        timeout=20,
    )
    bucket = functions.aws.setup["bucket"]
    before = functions.invoke(bucket=bucket).payload
    assert functions.aws.objects() == {"k": 2}
    functions.aws.faults.expire_credentials()
    assert functions.invoke(bucket=bucket).payload != before


def test_tmp_is_warm_and_of_one_environment(functions):
    functions.make(
        "path = os.environ['TMPDIR'] + '/x'\nold = open(path).read() if os.path.exists(path) else ''\n"
        "open(path, 'w').write(old + 'x')\ntime.sleep(e.get('s', 0))\nreturn [old, path]"
    )
    (old, path), _ = functions.invoke().payload, functions.invoke()
    assert old == ""
    assert Path(path).read_text() == "xx"
    assert {told.payload[0] for told in functions.at_once({"s": 0.2}, {"s": 0.2})} == {"xx", ""}
    functions.client.delete_function(FunctionName="f")
    assert not Path(path).exists()


def test_nothing_in_an_environment_runs_between_invocations(functions):
    functions.make(
        "def tick():\n    while True: state['n'] += 1; time.sleep(0.005)\n"
        "if not state:\n    state['n'] = 0; threading.Thread(target=tick, daemon=True).start()\nreturn state['n']"
    )
    functions.invoke()
    (environment,) = functions.aws.environments()
    functions.until(lambda: functions.aws.environments()[0].state == "frozen")
    functions.until(lambda: _state(environment.pid) == "T")  # one that waits for a processor stops when it gets one
    time.sleep(0.5)
    assert functions.invoke().payload < 50  # 100 ticks if it had run; it waited for the next invocation meanwhile
    assert functions.counts().cold_starts == 1


def test_children_in_sessions_of_their_own_are_frozen_too(functions):
    functions.make(
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "return child.pid"
    )
    child = functions.invoke().payload
    functions.until(lambda: _state(child) == "T")
    functions.aws.reset()
    assert not os.path.exists(f"/proc/{child}")


def _state(pid):
    """As /proc has it: T is stopped, Z is dead; "" is gone."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rpartition(")")[2].split()[0] if stat.exists() else ""


def _is_dead(pid):
    """Whether all of its threads have ended; while one has not, its first may be a zombie already."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], 0)[0])
    finally:
        os.close(watch)


def test_what_dies_while_it_is_idle_costs_nobody_an_invocation(functions):
    functions.make("return os.getpid()")
    pid = functions.invoke().payload
    os.kill(pid, signal.SIGKILL)
    functions.until(lambda: _is_dead(pid))
    told = functions.invoke()
    assert told.error is None
    assert told.payload != pid


def test_a_deleted_function_leaves_no_environment(functions):
    functions.make("return 1")
    functions.invoke()
    functions.client.delete_function(FunctionName="f")
    assert functions.aws.environments() == []
    with pytest.raises(ClientError, match="Function not found") as error:
        functions.invoke()
    assert "f" in message_of(error)


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "executed", "fails"),
    [
        pytest.param("before", 0, True, id="before: the function never ran"),
        pytest.param("mid-call", 1, True, id="in mid-call"),
        pytest.param("after", 1, True, id="after its end: it ran, and only its answer is lost"),
        pytest.param("idle", 1, False, id="idle: it answered, and is gone for the next one"),
    ],
)
def test_an_environment_can_be_killed_at_any_moment(functions, when, executed, fails):
    functions.make("return os.getpid()")
    functions.aws.faults.kill_environment(when=when, times=1)
    told = functions.invoke()
    assert functions.counts().n_executed == executed
    if fails:
        assert (told.kind, told.message.rpartition(": ")[2]) == ("Runtime.ExitError", "killed")
    assert [event["request_id"] for event in functions.aws.faults.fired("kill_environment")] == [told.request_id]
    assert functions.invoke().payload != told.payload
    assert functions.counts().cold_starts == 2


def test_a_killed_environment_has_done_what_it_did_before_the_delay(functions, tmp_path):
    functions.make("open(e['path'], 'w').close(); time.sleep(20)", timeout=30)
    functions.aws.faults.kill_environment(when="mid-call", delay_s=0.3, times=1)
    began = time.monotonic()
    assert functions.invoke(path=str(tmp_path / "done")).kind == "Runtime.ExitError"
    assert time.monotonic() - began < 5
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_broken_before_or_after_the_function_ran(functions, after):
    from botocore.exceptions import ConnectionClosedError

    functions.make("return 1")
    functions.aws.faults.reset("lambda", "Invoke", after=after, times=1)
    with pytest.raises(ConnectionClosedError):
        functions.invoke()
    counts = functions.aws.invocations().get("f")
    assert (counts.n_executed if counts else 0) == (1 if after else 0)


def test_troubles_with_kms_can_be_asked_for(functions):
    functions.make("return 1")
    functions.aws.faults.error(
        "KMSAccessDeniedException", "Lambda was unable to decrypt", status=502, service="lambda", operation="Invoke"
    )
    with pytest.raises(ClientError) as error:
        functions.invoke()
    assert code_of(error) == "KMSAccessDeniedException"
    assert functions.aws.environments() == []


def test_a_throttle_tells_its_reason_and_when_to_come_back(functions):
    functions.make("return 1")
    functions.aws.faults.invoke_throttle(reason="CallerRateLimitExceeded", retry_after_s=2, times=1)
    with pytest.raises(ClientError) as error:
        functions.invoke()
    reply = error.value.response
    assert (code_of(error), reply["Reason"], reply["retryAfterSeconds"]) == (
        "TooManyRequestsException",
        "CallerRateLimitExceeded",
        "2",
    )
    assert reply["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "2"
    assert functions.invoke().payload == 1
