"""What needs no AWS: software, settings, and whose fault it is when nobody answers."""

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.backends.aws_config import Found
from cloudexec.backends.clients import Clients
from cloudexec.errors import AccessDenied, AwsError, ConnectionLost, CredentialsExpired, CredentialsMissing
from cloudexec.infra.doctor.findings import Finding, Level, action_of, of_error, shortened
from cloudexec.infra.doctor.identity import (
    Identity,
    judge_clock,
    judge_identity,
    judge_refusal,
    judge_region,
    judge_region_name,
    skew_of,
)
from cloudexec.infra.doctor.reach import Trouble, judge_connection, trouble_of
from cloudexec.infra.doctor.settings import judge_settings, judge_variables
from cloudexec.infra.doctor.software import Software, judge_software, numbers
from cloudexec.infra.place import Place

OK, WARNING, FAILED, UNKNOWN = Level.OK, Level.WARNING, Level.FAILED, Level.UNKNOWN


def levels(findings):
    return [finding.level for finding in findings]


# --- findings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [WARNING, FAILED, UNKNOWN])
def test_what_is_not_well_has_a_remedy(level):
    with pytest.raises(ValueError, match="what to do"):
        Finding(level=level, subject="x", text="something")


@pytest.mark.parametrize(
    ("error", "level"),
    [
        pytest.param(AccessDenied("s3 x: denied", "AccessDenied", 403), UNKNOWN, id="less rights: nobody could look"),
        pytest.param(AwsError("s3 x: broken", "InternalError", 500), FAILED, id="AWS says it does not work"),
        pytest.param(ConnectionLost("s3 x: gone", False), FAILED, id="no connection"),
    ],
)
def test_an_error_becomes(error, level):
    finding = of_error("bucket", "the bucket", error)
    assert finding.level is level
    assert finding.text.startswith("could not look" if level is UNKNOWN else "the bucket")


@pytest.mark.parametrize(
    ("what", "action"),
    [
        pytest.param("iam get_role: AccessDenied (403): no", "iam:GetRole", id="one like all"),
        pytest.param("service-quotas get_service_quota: x", "servicequotas:GetServiceQuota", id="another prefix"),
        pytest.param(
            "service-quotas get_aws_default_service_quota: x", "servicequotas:GetAWSDefaultServiceQuota", id="AWS"
        ),
        pytest.param("s3 head_bucket: 403 (403)", "", id="S3's rights have other names"),
        pytest.param("something else", "", id="no request"),
    ],
)
def test_the_right_that_a_request_needs(what, action):
    assert action_of(what) == action


@given(st.text())
def test_a_page_that_a_proxy_sends_is_told_in_a_few_lines(text):
    said = shortened(text)
    assert len(said) <= 400
    assert "\n" not in said


# --- this Python --------------------------------------------------------------------------------------

PACKAGES = {"cloudexec": "1.0", "cloudpickle": "3.1.2", "boto3": "1.44.5"}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        pytest.param({}, OK, "Python 3.13.1", id="all is there"),
        pytest.param({"packages": PACKAGES | {"cloudpickle": "2.2.1"}}, FAILED, "cloudpickle 2.2.1", id="too old"),
        pytest.param({"packages": PACKAGES | {"boto3": ""}}, FAILED, "not installed", id="not there"),
        pytest.param({"python": (3, 99, 0)}, WARNING, "3.99.0", id="newer than what is tested"),
    ],
)
def test_software(changes, level, words):
    (finding,) = judge_software(Software(**{"python": (3, 13, 1), "packages": PACKAGES, **changes}))
    assert finding.level is level
    assert words in finding.text


def test_versions_are_compared_as_numbers():
    assert numbers("1.100.2") > numbers("1.34") > numbers("1.9")
    assert numbers("3.1.0rc1") == (3, 1)


# --- settings -------------------------------------------------------------------------------------------


def test_each_setting_is_told_with_its_source_and_what_does_not_hold_with_the_reason():
    file = {"cluster": Found("old", "config.toml"), "spot": Found(True, "config.toml")}
    merged = {"cluster": Found("new", "environment variable CLOUDEXEC_CLUSTER"), "bucket": Found("b", "argument")}
    summary, *details = judge_settings(merged, file, "config.toml", file_exists=True)
    assert summary.text == "0 of the file (config.toml), 2 of options and environment variables"
    assert [one.text for one in details] == [
        "bucket = b, from argument",
        "cluster = new, from environment variable CLOUDEXEC_CLUSTER",
        "cluster = old of the file does not hold: environment variable CLOUDEXEC_CLUSTER",
        "spot = True of the file does not hold: what is set elsewhere excludes it",
    ]
    assert all(one.is_detail for one in details)


@pytest.mark.parametrize(
    ("environ", "is_profile_given", "remedies"),
    [
        pytest.param({"CLOUDEXEC_SUBNETS": "x", "PATH": "y"}, False, [], id="a setting"),
        pytest.param({"CLOUDEXEC_SUBNET": "x"}, False, ["did you mean CLOUDEXEC_SUBNETS?"], id="a slip of the finger"),
        pytest.param({"CLOUDEXEC_CONFIG": "x", "CLOUDEXEC_PROFILE": "y"}, False, [], id="about the file"),
        pytest.param(
            {"AWS_PROFILE": "a", "AWS_ACCESS_KEY_ID": "b"},
            False,
            ["unset AWS_ACCESS_KEY_ID, or AWS_PROFILE"],
            id="keys hide the profile",
        ),
        pytest.param({"AWS_PROFILE": "a", "AWS_ACCESS_KEY_ID": "b"}, True, [], id="a profile that is given hides keys"),
    ],
)
def test_variables_that_do_nothing_are_told(environ, is_profile_given, remedies):
    findings = judge_variables(environ, is_profile_given=is_profile_given)
    assert [one.remedy for one in findings] == remedies


# --- who asks -------------------------------------------------------------------------------------------

ROLE = "arn:aws:sts::123456789012:assumed-role/me/session"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({}, [OK], id="a role, nobody knows for how long"),
        pytest.param({"arn": "arn:aws:iam::123456789012:root"}, [WARNING], id="root"),
        pytest.param({"left_s": 7200.0}, [OK, OK], id="two hours left"),
        pytest.param({"left_s": 300.0}, [OK, WARNING], id="five minutes left"),
        pytest.param({"left_s": -1.0}, [OK, WARNING], id="ended just now"),
    ],
)
def test_credentials(changes, found):
    assert levels(judge_identity(Identity(**{"account": "123456789012", "arn": ROLE, **changes}))) == found


@pytest.mark.parametrize(
    ("error", "subject", "words"),
    [
        pytest.param(CredentialsMissing("none found"), "credentials", "AWS_ACCESS_KEY_ID", id="none"),
        pytest.param(CredentialsExpired("over", "ExpiredToken", 403), "credentials", "log in again", id="expired"),
        pytest.param(
            AccessDenied("x", "InvalidClientTokenId", 403), "credentials", "AWS_SESSION_TOKEN", id="no such key"
        ),
        pytest.param(
            AccessDenied("x", "SignatureDoesNotMatch", 403), "credentials", "secret key", id="another key's secret"
        ),
        pytest.param(
            AccessDenied("Signature expired: 1 is now earlier than 2", "SignatureDoesNotMatch", 403),
            "clock",
            "set the clock",
            id="the clock, in STS's words",
        ),
        pytest.param(AwsError("x", "RequestTimeTooSkewed", 403), "clock", "set the clock", id="the clock, in S3's"),
        pytest.param(AccessDenied("x", "OptInRequired", 403), "credentials", "get-caller-identity", id="no account"),
        pytest.param(AwsError("x", "InternalFailure", 500), "credentials", "code", id="anything else"),
    ],
)
def test_refused_credentials(error, subject, words):
    finding = judge_refusal(error, "eu-west-1")
    assert (finding.level, finding.subject) == (FAILED, subject)
    assert words in finding.remedy


@pytest.mark.parametrize(
    ("skew_s", "level", "words"),
    [
        pytest.param(0.0, OK, "agree", id="none"),
        pytest.param(-59.0, OK, "59 s behind", id="a little"),
        pytest.param(61.0, WARNING, "61 s ahead", id="above a minute"),
        pytest.param(-301.0, FAILED, "301 s behind", id="above five minutes"),
    ],
)
def test_the_clock(skew_s, level, words):
    (finding,) = judge_clock(skew_s)
    assert finding.level is level
    assert words in finding.text


@pytest.mark.parametrize(
    ("date", "skew_s"),
    [
        pytest.param("Sat, 21 Nov 2026 12:00:00 GMT", 0.0, id="between question and answer"),
        pytest.param("Sat, 21 Nov 2026 11:59:59 GMT", 0.0, id="of the second before: dates have whole seconds"),
        pytest.param("Sat, 21 Nov 2026 12:10:00 GMT", -598.0, id="we are behind"),
        pytest.param("Sat, 21 Nov 2026 11:50:00 GMT", 599.0, id="we are ahead"),
        pytest.param("yesterday", None, id="no date"),
    ],
)
def test_skew(date, skew_s):
    noon_s = 1795262400.0
    assert skew_of(date, noon_s, noon_s + 2) == skew_s


@pytest.mark.parametrize(
    ("region", "said", "level"),
    [
        pytest.param("eu-west-1", [{"RegionName": "eu-west-1", "OptInStatus": "opt-in-not-required"}], OK, id="old"),
        pytest.param("eu-south-1", [{"RegionName": "eu-south-1", "OptInStatus": "opted-in"}], OK, id="enabled"),
        pytest.param("eu-south-1", [{"RegionName": "eu-south-1", "OptInStatus": "not-opted-in"}], FAILED, id="not"),
        pytest.param("eu-wst-1", [], FAILED, id="there is none"),
    ],
)
def test_region(region, said, level):
    assert levels(judge_region(region, said)) == [level]


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1"])
@pytest.mark.parametrize("service", ["sts", "cloudformation"])
def test_regions_of_all_partitions_are_known(region, service):
    assert judge_region_name(region, Place(Clients(region=region)).known_regions(service)) == []


def test_a_misspelt_region_is_guessed():
    (finding,) = judge_region_name("eu-wst-1", ["eu-west-1", "us-east-1"])
    assert finding.remedy == "did you mean eu-west-1?"
    assert judge_region_name("us-east-1", ["eu-west-1", "us-east-1"]) == []


# --- nobody answers -------------------------------------------------------------------------------------

UNKNOWN_NAME = "Failed to resolve 'sts.x' ([Errno -2] Name or service not known)"


@pytest.mark.parametrize(
    ("trouble", "environ", "words"),
    [
        pytest.param({"kind": "EndpointConnectionError", "text": UNKNOWN_NAME}, {}, "is not known", id="no such name"),
        pytest.param(
            {"kind": "EndpointConnectionError", "text": UNKNOWN_NAME, "has_route": False},
            {},
            "no network",
            id="offline",
        ),
        pytest.param(
            {"kind": "EndpointConnectionError", "text": "Connection refused"}, {}, "nobody answers", id="nobody listens"
        ),
        pytest.param({"kind": "ConnectTimeoutError", "text": "x"}, {}, "in time", id="a firewall"),
        pytest.param({"kind": "ConnectTimeoutError", "text": "x", "has_route": False}, {}, "no network", id="no route"),
        pytest.param(
            {"kind": "ProxyConnectionError", "text": "x"},
            {"HTTPS_PROXY": "http://proxy:3128"},
            "HTTPS_PROXY=http://proxy:3128",
            id="the proxy is away",
        ),
        pytest.param({"kind": "SSLError", "text": "CERTIFICATE_VERIFY_FAILED"}, {}, "certificate", id="TLS inspection"),
        pytest.param({"kind": "ConnectionClosedError", "text": "x"}, {}, "broke", id="it broke"),
    ],
)
def test_nobody_answers(trouble, environ, words):
    finding = judge_connection(Trouble(**trouble), environ)
    assert finding.level is FAILED
    assert words in finding.text


def test_a_proxys_password_is_not_shown():
    environ = {"HTTPS_PROXY": "http://me:secret@proxy:3128"}
    finding = judge_connection(Trouble(kind="ProxyConnectionError", text="x"), environ)
    assert "secret" not in finding.text + finding.remedy
    assert "http://proxy:3128" in finding.text


def test_botocores_own_reason_is_told():
    error = ConnectionLost("sts get_caller_identity: Could not connect", False)
    error.__cause__ = EndpointConnectionError(endpoint_url="https://x", error=OSError("Connection refused"))
    trouble = trouble_of(error)
    assert trouble.kind == "EndpointConnectionError"
    assert "Connection refused" in trouble.text
