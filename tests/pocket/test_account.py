"""Quotas, the simulator of rights, and the time of the pocket AWS."""

from email.utils import parsedate_to_datetime

import pytest

ME = "arn:aws:iam::123456789012:user/me"
VCPUS = {"ServiceCode": "fargate", "QuotaCode": "L-3032A538"}


@pytest.fixture
def ask(drive):
    """One request of a service."""
    made = []

    def go(service, operation, **request):
        client = drive.aws.session().client(service)
        made.append(client)
        return getattr(client, operation)(**request)

    yield go
    for client in made:
        client.close()


def test_a_quota_is_raised_at_once_in_its_region_alone(ask):
    assert ask("service-quotas", "get_service_quota", **VCPUS)["Quota"]["Value"] == 64
    ask("service-quotas", "request_service_quota_increase", **VCPUS, DesiredValue=100)
    assert ask("service-quotas", "get_service_quota", **VCPUS)["Quota"]["Value"] == 100
    assert ask("service-quotas", "get_aws_default_service_quota", **VCPUS)["Quota"]["Value"] == 64


@pytest.mark.parametrize(
    "refused", [("get_service_quota", {}), ("request_service_quota_increase", {"DesiredValue": 5})]
)
def test_quotas_that_there_are_not_and_that_would_shrink_are_refused(ask, refused):
    operation, more = refused
    code = VCPUS["QuotaCode"] if more else "L-0"
    with pytest.raises(Exception, match=r"NoSuchResourceException|IllegalArgumentException"):
        ask("service-quotas", operation, ServiceCode="fargate", QuotaCode=code, **more)


def test_the_simulator_says_what_requests_would_meet(ask, drive):
    def decisions():
        said = ask(
            "iam",
            "simulate_principal_policy",
            PolicySourceArn=ME,
            ActionNames=["s3:ListBucket", "lambda:InvokeFunction", "ecs:RunTask"],
            ResourceArns=["*"],
        )
        return {one["EvalActionName"]: one["EvalDecision"] for one in said["EvaluationResults"]}

    assert set(decisions().values()) == {"allowed"}
    drive.aws.faults.error("AccessDenied", "no", status=403, service="lambda", operation="Invoke")
    drive.aws.faults.error("AccessDenied", "no", status=403, service="ecs", operation="RunTask", times=1)
    assert decisions() == {
        "s3:ListBucket": "allowed",
        "lambda:InvokeFunction": "implicitDeny",
        "ecs:RunTask": "allowed",  # once refused is not denied
    }


def test_a_clock_that_is_off_shows_in_the_date_of_answers(ask, drive):
    def date():
        headers = ask("sts", "get_caller_identity")["ResponseMetadata"]["HTTPHeaders"]
        return parsedate_to_datetime(headers["date"]).timestamp()

    before_s = date()
    drive.aws.faults.clock(3600, service="sts")
    assert date() - before_s == pytest.approx(3600, abs=60)
