"""What Lambda's control plane answers beside functions: account settings, concurrency, throttles, event settings."""

import time

import pytest
from botocore.exceptions import ClientError

from cloudexec.testing.pocket.server.awslambda.pool import Ramp
from tests.pocket.driving import code_of

# The pocket of these tests has a concurrency of 20, of which 2 must stay unreserved.


def limits(functions):
    told = functions.client.get_account_settings()["AccountLimit"]
    return told["ConcurrentExecutions"], told["UnreservedConcurrentExecutions"]


def test_the_account_tells_its_concurrency_and_what_is_unreserved(functions):
    assert limits(functions) == (20, 20)
    functions.make("return 1", reserved=5)
    assert limits(functions) == (20, 15)
    functions.client.delete_function_concurrency(FunctionName="f")
    assert limits(functions) == (20, 20)
    functions.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=4)
    functions.client.delete_function(FunctionName="f")
    assert limits(functions) == (20, 20)


def test_reserved_concurrency_is_told_by_those_who_are_asked_for_it(functions):
    functions.make("return 1")
    assert "ReservedConcurrentExecutions" not in functions.client.get_function_concurrency(FunctionName="f")
    assert "Concurrency" not in functions.client.get_function(FunctionName="f")
    for reserved in (3, 0):
        functions.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=reserved)
        assert functions.client.get_function_concurrency(FunctionName="f")["ReservedConcurrentExecutions"] == reserved
        told = functions.client.get_function(FunctionName="f")
        assert told["Concurrency"]["ReservedConcurrentExecutions"] == reserved


def test_not_everything_can_be_reserved(functions):
    functions.make("return 1")
    functions.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=18)
    with pytest.raises(ClientError, match="below its minimum value") as error:
        functions.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=19)
    assert code_of(error) == "InvalidParameterValueException"


def reasons(results):
    return [result.response["Reason"] for result in results if isinstance(result, ClientError)]


def test_a_function_runs_no_more_often_at_once_than_is_reserved_for_it(functions):
    functions.make("time.sleep(0.5)", reserved=2)
    results = functions.at_once({}, {}, {})
    assert reasons(results) == ["ReservedFunctionConcurrentInvocationLimitExceeded"]
    assert functions.counts().throttles == 1
    assert functions.invoke().error is None  # there is room again


def test_a_reservation_of_zero_stops_a_function(functions):
    functions.make("return 1", reserved=0)
    with pytest.raises(ClientError) as error:
        functions.invoke()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert error.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_functions_without_a_reservation_share_what_is_left_of_the_account(functions):
    functions.make("return 1", "reserving", reserved=18)
    functions.make("time.sleep(0.5)")
    functions.make("time.sleep(0.5)", "g")
    assert reasons(functions.at_once({}, {}, {})) == ["ConcurrentInvocationLimitExceeded"]
    assert functions.invoke("reserving").payload == 1


def test_the_ramp_gives_so_many_environments_and_refills_steadily():
    ramp = Ramp(10, 100.0)
    assert [ramp.take(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert [ramp.take(101.0), ramp.take(101.0)] == [True, False]  # 10 in 10 s: one a second
    assert [ramp.take(200.0) for _ in range(11)] == [True] * 10 + [False]  # nothing accrues beyond that


def test_an_event_config_is_the_last_one_that_was_put(functions):
    functions.make("return 1")
    with pytest.raises(ClientError) as error:
        functions.client.get_function_event_invoke_config(FunctionName="f")
    assert code_of(error) == "ResourceNotFoundException"
    put, get = functions.client.put_function_event_invoke_config, functions.client.get_function_event_invoke_config
    put(FunctionName="f", MaximumRetryAttempts=1, MaximumEventAgeInSeconds=60)
    told = put(FunctionName="f", MaximumRetryAttempts=0)
    assert told["FunctionArn"].endswith(":function:f:$LATEST")
    assert time.time() - 60 < told["LastModified"].timestamp() < time.time() + 60
    config = get(FunctionName="f")
    assert config["MaximumRetryAttempts"] == 0
    assert "MaximumEventAgeInSeconds" not in config
    functions.client.update_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=90)
    config = get(FunctionName="f")
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 90)
    (listed,) = functions.client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
    assert listed["MaximumRetryAttempts"] == 0
    functions.client.delete_function_event_invoke_config(FunctionName="f")
    with pytest.raises(ClientError):
        get(FunctionName="f")


@pytest.mark.parametrize("wrong", [{"MaximumRetryAttempts": 3}, {"MaximumEventAgeInSeconds": 21601}])
def test_an_event_config_has_limits(functions, wrong):
    functions.make("return 1")
    with pytest.raises(ClientError) as error:
        functions.client.put_function_event_invoke_config(FunctionName="f", **wrong)
    assert code_of(error) == "ValidationException"


def test_requests_are_counted_by_their_names(functions):
    functions.make("return 1", reserved=1)
    functions.invoke()
    functions.client.get_function_configuration(FunctionName="f")
    requests = functions.aws.requests()
    for operation in ("CreateFunction", "PutFunctionConcurrency", "Invoke", "GetFunctionConfiguration"):
        assert requests["lambda", operation] == 1


def test_the_ready_made_function_is_that_of_the_workers(functions):
    setup = functions.aws.lambda_setup()
    told = functions.client.get_function_configuration(FunctionName=setup["function"])
    assert (told["Handler"], told["MemorySize"], told["Timeout"]) == ("cloudexec.worker.awslambda.handler", 1769, 60)
    assert told["Environment"]["Variables"] == {"CLOUDEXEC_BUCKET": setup["bucket"]}
    config = functions.client.get_function_event_invoke_config(FunctionName=setup["function"])
    assert config["MaximumRetryAttempts"] == 0
