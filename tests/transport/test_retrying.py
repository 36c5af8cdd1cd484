"""What is repeated, when, and how often: the tables behind every client."""

import pickle
from json import dumps

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.errors import AccessDenied, AwsError, CredentialsExpired, NoSuchKey, PreconditionFailed, Throttled
from cloudexec.transport import s3, sqs
from cloudexec.transport.operation import Reply, Request
from cloudexec.transport.refusals import error_of, read_refusal
from cloudexec.transport.retrying import Kind, RetryBudget, RetryPolicy, draw, kind_of

S3, SQS, LAMBDA = Request("s3", "GET"), Request("sqs", "POST"), Request("lambda", "POST")


def xml(code):
    return f"<Error><Code>{code}</Code><Message>why &amp; how</Message></Error>".encode()


def json(kind):
    return b'{"__type": "%s", "message": "why & how"}' % kind.encode()


@pytest.mark.parametrize(
    ("request_", "status", "body", "code", "kind", "error"),
    [
        pytest.param(S3, 503, xml("SlowDown"), "SlowDown", Kind.THROTTLED, Throttled, id="S3: slow down"),
        pytest.param(S3, 503, b"", "SlowDown", Kind.THROTTLED, Throttled, id="503 without a word"),
        pytest.param(S3, 503, xml("ServiceUnavailable"), "ServiceUnavailable", Kind.FAULT, AwsError, id="S3 is down"),
        pytest.param(S3, 500, xml("InternalError"), "InternalError", Kind.FAULT, AwsError, id="S3 has failed"),
        pytest.param(S3, 400, xml("RequestTimeout"), "RequestTimeout", Kind.FAULT, AwsError, id="S3 waited in vain"),
        pytest.param(S3, 409, xml("OperationAborted"), "OperationAborted", Kind.CONFLICT, AwsError, id="in the way"),
        pytest.param(
            Request("s3", "POST"), 409, xml("ConditionalRequestConflict"), "ConditionalRequestConflict",
            Kind.REFUSED, AwsError, id="an upload in parts that met another has to begin anew",
        ),
        pytest.param(S3, 409, xml("BucketAlreadyExists"), "BucketAlreadyExists", Kind.REFUSED, AwsError, id="taken"),
        pytest.param(
            S3, 412, xml("PreconditionFailed"), "PreconditionFailed", Kind.REFUSED, PreconditionFailed, id="412"
        ),
        pytest.param(S3, 404, xml("NoSuchKey"), "NoSuchKey", Kind.REFUSED, NoSuchKey, id="absent"),
        pytest.param(S3, 403, xml("AccessDenied"), "AccessDenied", Kind.REFUSED, AccessDenied, id="denied"),
        pytest.param(S3, 400, xml("ExpiredToken"), "ExpiredToken", Kind.EXPIRED, CredentialsExpired, id="expired"),
        pytest.param(S3, 403, xml("RequestTimeTooSkewed"), "RequestTimeTooSkewed", Kind.SKEWED, AwsError, id="clock"),
        pytest.param(S3, 301, xml("PermanentRedirect"), "PermanentRedirect", Kind.MOVED, AwsError, id="elsewhere"),
        pytest.param(Request("s3", "HEAD"), 404, b"", "NoSuchKey", Kind.REFUSED, NoSuchKey, id="HEAD: absent"),
        pytest.param(Request("s3", "HEAD"), 403, b"", "AccessDenied", Kind.REFUSED, AccessDenied, id="HEAD: denied"),
        pytest.param(Request("s3", "HEAD"), 400, b"", "400", Kind.EXPIRED, AwsError, id="HEAD cannot say: expired"),
        pytest.param(
            SQS, 400, json("com.amazonaws.sqs#QueueDoesNotExist"), "QueueDoesNotExist", Kind.REFUSED, AwsError,
            id="SQS: no queue",
        ),
        pytest.param(
            SQS, 400, json("com.amazon.coral.availability#ThrottlingException"), "ThrottlingException",
            Kind.THROTTLED, Throttled, id="SQS throttles",
        ),
        pytest.param(SQS, 429, b"", "429", Kind.THROTTLED, Throttled, id="429 by itself"),
        pytest.param(
            SQS, 403, json("ExpiredTokenException:http://x"), "ExpiredTokenException", Kind.EXPIRED,
            CredentialsExpired, id="SQS: expired, with a place behind",
        ),
        pytest.param(
            SQS, 400, b'{"__type": "InvalidSignatureException", "message": "Signature expired: now"}',
            "SignatureExpired", Kind.SKEWED, AwsError, id="SQS: clock",
        ),
        pytest.param(
            SQS, 400, json("InvalidSignatureException"), "InvalidSignatureException", Kind.REFUSED, AccessDenied,
            id="SQS: signature",
        ),
        pytest.param(
            SQS, 400, b'{"__type": "InvalidSignatureException", "message": "Signature not yet current: soon"}',
            "SignatureExpired", Kind.SKEWED, AwsError, id="SQS: clock ahead",
        ),
        pytest.param(LAMBDA, 503, b"", "503", Kind.FAULT, AwsError, id="Lambda: nobody says that it has not run"),
        pytest.param(LAMBDA, 403, b"", "AccessDenied", Kind.REFUSED, AccessDenied, id="Lambda: denied without a word"),
        pytest.param(LAMBDA, 404, b"<html>", "404", Kind.REFUSED, AwsError, id="Lambda: somebody else's 404"),
        pytest.param(SQS, 403, xml("AccessDenied"), "AccessDenied", Kind.REFUSED, AccessDenied, id="XML from JSON"),
        pytest.param(SQS, 400, b"[1]", "400", Kind.REFUSED, AwsError, id="JSON that says nothing"),
    ],
)  # fmt: skip
def test_a_refusal_is_read_and_sorted(request_, status, body, code, kind, error):
    refusal = read_refusal(request_, Reply(status, {"x-amz-request-id": "R1"}, body))
    assert refusal.code == code
    assert kind_of(refusal, request_.method) is kind
    made = error_of("GetObject s3://b/k", refusal)
    assert type(made) is error
    assert (made.code, made.status, made.request_id) == (code, status, "R1")
    if b"why" in body:
        assert "why & how" in str(made)


@pytest.mark.parametrize(
    ("header", "body", "code"),
    [
        pytest.param("ResourceNotFoundException", '{"Type": "User", "Message": "why"}', "ResourceNotFoundException",
                     id="Type is not the code, and Message has either case"),
        pytest.param("InvalidZipFileException:http://internal.amazon.com/coral/x#y", '{"message": "why"}',
                     "InvalidZipFileException", id="a place behind it"),
        pytest.param("com.amazon.coral.service#UnknownOperationException", "", "UnknownOperationException",
                     id="a prefix, and no body"),
        pytest.param("", '{"__type": "com.amazonaws#ServiceException", "message": "why"}', "ServiceException",
                     id="in the body, as emulators do"),
        pytest.param("", '{"code": "AccessDeniedException", "message": "why"}', "AccessDeniedException", id="code"),
    ],
)  # fmt: skip
def test_lambda_names_an_error_in_a_header(header, body, code):
    headers = {"x-amzn-requestid": "R2"} | ({"x-amzn-errortype": header} if header else {})
    refusal = read_refusal(LAMBDA, Reply(400, headers, body.encode()))
    assert (refusal.code, refusal.message, refusal.request_id) == (code, "why" if body else "", "R2")


@pytest.mark.parametrize(
    ("headers", "body", "reason", "retry_after_s"),
    [
        pytest.param({"retry-after": "1"}, {"Reason": "CallerRateLimitExceeded"}, "CallerRateLimitExceeded", 1.0,
                     id="Lambda: a header"),
        pytest.param({}, {"Reason": "X", "retryAfterSeconds": "2.5"}, "X", 2.5, id="Lambda: in the body"),
        pytest.param({"retry-after": "Sat, 21 Nov 2026 03:00:00 GMT"}, {}, "", None, id="a date"),
        pytest.param({}, {}, "", None, id="nothing"),
    ],
)  # fmt: skip
def test_a_throttle_says_which_limit_it_was_and_how_long_to_wait(headers, body, reason, retry_after_s):
    headers = {"x-amzn-errortype": "TooManyRequestsException", **headers}
    refusal = read_refusal(LAMBDA, Reply(429, headers, dumps({"Type": "User", "message": "slow", **body}).encode()))
    made = error_of("Invoke f", refusal)
    again = pickle.loads(pickle.dumps(made))
    for error in (made, again):
        assert type(error) is Throttled
        assert (error.reason, error.retry_after_s, error.code) == (reason, retry_after_s, "TooManyRequestsException")
        assert f"429, {reason})" in str(error) if reason else "(429)" in str(error)


def test_a_throttle_of_four_arguments_has_no_reason():
    old = Throttled("slow down", "ThrottlingException", 400, "R1")
    assert (old.reason, old.retry_after_s, old.request_id) == ("", None, "R1")


@given(st.sampled_from(list(Kind)), st.integers(1, 40), st.floats(0, 1))
def test_a_pause_is_random_and_bounded(kind, tried, chance):
    policy = RetryPolicy()
    pause_s = policy.pause_s(kind, tried, chance)
    assert 0 <= pause_s <= policy.longest_pause_s
    assert pause_s == pytest.approx(chance * policy.pause_s(kind, tried, 1.0))
    assert policy.pause_s(kind, tried + 1, chance) >= pause_s


def test_throttles_are_given_more_time_than_faults():
    policy = RetryPolicy()
    assert policy.pause_s(Kind.THROTTLED, 1, 1.0) > policy.pause_s(Kind.FAULT, 1, 1.0)


def test_a_budget_ends_repeats_when_most_requests_fail():
    budget = RetryBudget(capacity=10, repeat_costs=5, success_earns=1)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(5):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_repeats_that_end_in_success_cost_nothing():
    budget = RetryBudget(capacity=10, repeat_costs=5, success_earns=1)
    for _ in range(100):
        assert budget.spend()
        assert budget.spend()
        budget.earn(repeats=2)


def test_a_draw_is_between_nothing_and_one():
    drawn = [draw() for _ in range(1000)]
    assert all(0 <= one < 1 for one in drawn)
    assert min(drawn) < 0.1 < 0.9 < max(drawn)


def test_only_what_sqs_takes_once_a_minute_is_not_safe_to_repeat():
    queue = "https://q"
    assert not sqs.purge(queue).is_safe
    safe = [
        sqs.send_messages(queue, ["a"]),
        sqs.receive_messages(queue),
        sqs.delete_messages(queue, ["r"]),
        sqs.change_visibility(queue, [("r", 1)]),
        s3.put_object("b", "k", [], owner=""),
        s3.put_object("b", "k", [], owner="", if_none_match=True),
    ]
    assert all(operation.is_safe for operation in safe)


@pytest.mark.parametrize(
    "condition", [pytest.param({"if_none_match": True}, id="absent"), pytest.param({"if_match": "e"}, id="unchanged")]
)
def test_a_conditional_write_can_be_told_from_anothers(condition):
    first, second = (s3.put_object("b", "k", [], owner="", **condition) for _ in range(2))
    assert first.confirm is not None
    writers = [dict(operation.request.headers)[s3.WRITER_HEADER] for operation in (first, second)]
    assert writers[0] != writers[1]


def test_entries_that_an_answer_does_not_mention_have_failed():
    operation = sqs.send_messages("q", ["a", "b", "c"])
    said = b'{"Successful": [{"Id": "1"}], "Failed": [{"Id": "2", "Code": "X", "SenderFault": true}]}'
    failures = operation.read(Reply(200, {}, said))
    assert [(failure.index, failure.code, failure.is_our_fault) for failure in failures] == [
        (0, "Unanswered", False),
        (2, "X", True),
    ]
