"""Event invocations: accepted at once, run soon, tried again, given up; and buckets that send them."""

import json
import time

import pytest

RECORD = "open(e['path'], 'a').write(c.aws_request_id + '\\n')\n"


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_an_event_is_accepted_at_once_and_runs_soon(functions, tmp_path):
    functions.make(f"time.sleep(0.5)\n{RECORD}")
    began = time.monotonic()
    request_id = functions.event(path=str(tmp_path / "ran"))
    assert time.monotonic() - began < 0.4
    functions.until_still()
    assert lines(tmp_path / "ran") == [request_id]
    counts = functions.counts()
    assert (counts.events, counts.n_executed, counts.dropped_events) == (1, 1, 0)


@pytest.mark.parametrize(("retries", "runs"), [(None, 3), (0, 1), (1, 2)])
def test_an_event_that_fails_is_tried_again_with_its_id(functions, tmp_path, retries, runs):
    functions.make(f"{RECORD}raise ValueError")
    if retries is not None:
        functions.client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=retries)
    request_id = functions.event(path=str(tmp_path / "ran"))
    functions.until_still()
    assert lines(tmp_path / "ran") == [request_id] * runs
    assert functions.counts().dropped_events == 1


def test_an_event_that_succeeds_in_the_end_is_not_given_up(functions, tmp_path):
    functions.make(f"{RECORD}os._exit(1) if len(open(e['path']).readlines()) < 2 else None")
    functions.event(path=str(tmp_path / "ran"))
    functions.until_still()
    assert len(lines(tmp_path / "ran")) == 2
    assert functions.counts().dropped_events == 0


def test_throttled_events_wait_for_their_turn(functions, tmp_path):
    functions.make(f"time.sleep(0.05)\n{RECORD}", reserved=1)
    ids = {functions.event(path=str(tmp_path / "ran")) for _ in range(5)}
    functions.until_still()
    assert sorted(lines(tmp_path / "ran")) == sorted(ids)
    assert functions.counts().throttles > 0


def test_an_event_that_grows_too_old_is_given_up(functions, tmp_path):
    functions.make(RECORD, reserved=0)
    functions.client.put_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=60)  # here 60 ms
    functions.event(path=str(tmp_path / "ran"))
    functions.until_still()
    assert lines(tmp_path / "ran") == []
    assert functions.counts().dropped_events == 1


def test_events_can_be_doubled_and_dropped(functions, tmp_path):
    functions.make(RECORD)
    functions.aws.faults.duplicate_events(times=1)
    twice = functions.event(path=str(tmp_path / "ran"))
    functions.until_still()
    functions.aws.faults.drop_events(times=1)
    functions.event(path=str(tmp_path / "ran"))
    functions.until_still()
    assert lines(tmp_path / "ran") == [twice, twice]


def test_what_is_given_up_goes_to_the_destination(functions):
    functions.make("raise ValueError('never')")
    sqs = functions.aws.session().client("sqs")
    sqs.create_queue(QueueName="given-up")
    functions.client.put_function_event_invoke_config(
        FunctionName="f",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:given-up"}},
    )
    request_id = functions.event(a=1)
    functions.until_still()
    ((body,),) = [queue.bodies for queue in functions.aws.queues()]
    record = json.loads(body)
    assert record["requestContext"]["requestId"] == request_id
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestPayload"] == {"a": 1}
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_a_bucket_can_be_the_destination(functions):
    functions.make("raise ValueError('never')")
    bucket = functions.aws.setup["bucket"]
    functions.client.put_function_event_invoke_config(
        FunctionName="f",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bucket}"}},
    )
    request_id = functions.event()
    functions.until_still()
    (key,) = functions.aws.objects()
    assert key.endswith(request_id)


# --- buckets -------------------------------------------------------------------------------------


@pytest.fixture
def notified(functions, tmp_path):
    """A bucket that tells a function of each new `jobs/….json`; what the function was told."""
    arn = functions.make(f"open({str(tmp_path / 'told')!r}, 'a').write(json.dumps(e) + '\\n')")
    s3, bucket = functions.aws.session().client("s3"), functions.aws.setup["bucket"]
    rules = [{"Name": "prefix", "Value": "jobs/"}, {"Name": "suffix", "Value": ".json"}]
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "Id": "jobs",
                    "LambdaFunctionArn": arn,
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": rules}},
                }
            ]
        },
    )

    def told():
        functions.until_still()
        return [json.loads(line)["Records"][0] for line in lines(tmp_path / "told")]

    return s3, bucket, told


def test_a_new_object_invokes_the_function_with_its_record(notified):
    s3, bucket, told = notified
    s3.put_object(Bucket=bucket, Key="jobs/a b+ü.json", Body=b"12345")
    (record,) = told()
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert record["s3"]["bucket"]["name"] == bucket
    assert record["s3"]["object"]["key"] == "jobs/a+b%2B%C3%BC.json"
    assert record["s3"]["object"]["size"] == 5
    assert record["s3"]["configurationId"] == "jobs"


def test_copies_and_multipart_uploads_invoke_too_and_other_keys_do_not(notified):
    s3, bucket, told = notified
    s3.put_object(Bucket=bucket, Key="other/a.json", Body=b"1")
    s3.put_object(Bucket=bucket, Key="jobs/a.txt", Body=b"1")
    s3.copy_object(Bucket=bucket, Key="jobs/copy.json", CopySource={"Bucket": bucket, "Key": "other/a.json"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="jobs/parts.json")["UploadId"]
    which = {"Bucket": bucket, "Key": "jobs/parts.json", "UploadId": upload}
    part = s3.upload_part(**which, PartNumber=1, Body=b"1")
    s3.complete_multipart_upload(**which, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    s3.delete_object(Bucket=bucket, Key="jobs/copy.json")
    assert sorted(record["eventName"] for record in told()) == [
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectCreated:Copy",
    ]


def test_an_object_that_is_refused_invokes_nothing(notified):
    s3, bucket, told = notified
    s3.put_object(Bucket=bucket, Key="jobs/a.json", Body=b"1")
    with pytest.raises(s3.exceptions.ClientError):
        s3.put_object(Bucket=bucket, Key="jobs/a.json", Body=b"2", IfNoneMatch="*")
    assert len(told()) == 1


def test_a_notification_may_come_twice(notified, functions):
    s3, bucket, told = notified
    functions.aws.faults.duplicate_events(times=1)
    s3.put_object(Bucket=bucket, Key="jobs/a.json", Body=b"1")
    assert len(told()) == 2
