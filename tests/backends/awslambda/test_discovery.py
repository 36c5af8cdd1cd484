"""Which function calls run in, and what Lambda says of it. `ask` answers from a table, as AWS does."""

import sys

import pytest

from cloudexec.backends.awslambda.discovery import complete, event_facts, settle
from cloudexec.errors import AccessDenied, AwsError, FunctionMissing, SettingsError, VersionMismatch, WorkerStartFailed

OURS = "python{}.{}".format(*sys.version_info[:2])
NOBODY = {"CLOUDEXEC_CONFIG": "", "HOME": "/nonexistent"}


def account(reserved=None, unreserved=1000, events=None, stack=(), **configuration):
    """An account with one function, `fn`."""

    def ask(service, operation, request):
        if operation == "describe_stack_resources":
            return {"StackResources": stack}
        if operation == "get_account_settings":
            return {"AccountLimit": {"UnreservedConcurrentExecutions": unreserved}}
        if not request["FunctionName"].startswith("fn"):
            raise AwsError("Function not found", "ResourceNotFoundException", 404)
        if operation == "get_function_configuration":
            return {"Timeout": 60, "MemorySize": 1769, "Runtime": OURS, **configuration}
        if operation == "get_function_concurrency":
            return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
        if events is None:
            raise AwsError("no config", "ResourceNotFoundException", 404)
        return events

    return ask


def place(**given):
    return settle({"function": "fn", **given}, NOBODY)


@pytest.mark.parametrize(
    ("reserved", "unreserved", "expected"),
    [
        pytest.param(None, 1000, 800, id="four fifths of what nobody has reserved"),
        pytest.param(50, 1000, 50, id="what is reserved for the function"),
        pytest.param(None, 1, 1, id="at least one"),
    ],
)
def test_the_default_width_is(reserved, unreserved, expected):
    assert complete(place(), account(reserved, unreserved))[1].n_concurrent == expected


def test_shards_add_up_what_is_reserved_for_each():
    assert complete(place(shards=["fn-2", "fn-3"]), account(reserved=10))[1].n_concurrent == 30


def test_who_may_not_look_at_concurrency_gets_a_careful_width():
    def ask(service, operation, request):
        if operation in ("get_function_concurrency", "get_account_settings"):
            raise AccessDenied("no", "AccessDeniedException", 403)
        return account()(service, operation, request)

    assert complete(place(), ask)[1].n_concurrent == 100


def test_memory_and_timeout_are_the_functions():
    _, facts = complete(place(), account(MemorySize=10_240, Timeout=900))
    assert (facts.memory_mib, facts.timeout_s, facts.n_vcpus) == (10_240, 900.0, 5)


def test_the_bucket_may_come_from_the_functions_own_environment():
    ask = account(Environment={"Variables": {"CLOUDEXEC_BUCKET": "theirs", "CLOUDEXEC_PREFIX": "there"}})
    assert complete(place(), ask)[0].bucket == "theirs"
    assert complete(place(), ask)[0].prefix == "there"
    assert complete(place(bucket="mine"), ask)[0].bucket == "mine"


def test_function_and_bucket_may_come_from_the_stack():
    stack = [
        {"ResourceType": "AWS::Lambda::Function", "LogicalResourceId": "Worker", "PhysicalResourceId": "fn"},
        {"ResourceType": "AWS::S3::Bucket", "LogicalResourceId": "Bucket", "PhysicalResourceId": "of-the-stack"},
    ]
    found, _ = complete(settle({}, NOBODY), account(stack=stack))
    assert (found.function, found.bucket) == ("fn", "of-the-stack")


@pytest.mark.parametrize(
    ("given", "configuration", "error", "word"),
    [
        pytest.param({"function": None}, {}, SettingsError, "no Lambda function is named", id="no function"),
        pytest.param({"function": "absent"}, {}, FunctionMissing, "absent", id="no such function"),
        pytest.param({"shards": ["absent"]}, {}, FunctionMissing, "absent", id="no such shard"),
        pytest.param({}, {"Runtime": "python3.9"}, VersionMismatch, "python3.9", id="another Python"),
        pytest.param(
            {}, {"State": "Failed", "StateReason": "image gone"}, WorkerStartFailed, "image gone", id="failed"
        ),
    ],
)
def test_what_cannot_work_is_said_before_a_call_is_sent(given, configuration, error, word):
    with pytest.raises(error, match=word):
        complete(place(**given), account(**configuration))


@pytest.mark.parametrize("slots", [0, -1])
def test_a_number_of_slots_that_is_none_is_refused(slots):
    with pytest.raises(SettingsError, match="slots"):
        place(slots=slots)


def test_a_function_that_is_named_does_not_take_the_qualifier_of_another():
    environ = {**NOBODY, "CLOUDEXEC_FUNCTION": "other", "CLOUDEXEC_QUALIFIER": "live"}
    assert settle({"function": None}, environ).qualifier == "live"
    assert settle({"function": "fn"}, environ).qualifier == ""


@pytest.mark.parametrize(
    ("said", "retries", "age_s"),
    [
        pytest.param(None, 2, 21_600.0, id="not set: Lambda's defaults"),
        pytest.param({"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}, 0, 60.0, id="as set"),
    ],
)
def test_how_lambda_handles_events(said, retries, age_s):
    ask = account(events=said)
    found, facts = complete(place(), ask)
    facts = event_facts(found, facts, ask)
    assert (facts.event_retries, facts.event_age_s) == (retries, age_s)
