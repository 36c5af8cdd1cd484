"""Where requests go: AWS's rules as botocore knows them, custom endpoints, and proxies."""

import botocore.session
import pytest

from cloudexec.errors import SettingsError
from cloudexec.transport.account import Account, choose_transport
from cloudexec.transport.credentials import fixed
from cloudexec.transport.endpoints import endpoints_in, proxy_for, read_url, target_of


def all_regions():
    session = botocore.session.Session()
    partitions = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")
    return sorted({region for partition in partitions for region in session.get_available_regions("sqs", partition)})


@pytest.fixture(scope="module")
def rules():
    """botocore's own rules for a service: parameters in, URL out."""
    from botocore.endpoint_provider import EndpointProvider

    loader = botocore.session.Session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    providers = {
        service: EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
        for service in ("s3", "sqs", "lambda")
    }
    return lambda service, **parameters: providers[service].resolve_endpoint(**parameters).url


@pytest.mark.parametrize("region", all_regions())
def test_a_region_has_the_hosts_that_botocore_gives_it(region, rules):
    for service in ("sqs", "lambda"):
        assert f"https://{target_of(service, region, '', '').authority}" == rules(service, Region=region)
    for bucket in ("plain-bucket", "bucket.with.dots", "my"):
        target = target_of("s3", region, bucket, "")
        assert f"https://{target.authority}{target.base}" == rules("s3", Region=region, Bucket=bucket)
        assert (target.port, target.is_tls, target.region) == (443, True, region)


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls", "authority", "base"),
    [
        pytest.param("http://127.0.0.1:4566", "127.0.0.1", 4566, False, "127.0.0.1:4566", "/b", id="a port"),
        pytest.param("https://minio.example/", "minio.example", 443, True, "minio.example", "/b", id="no port"),
        pytest.param("https://h:443", "h", 443, True, "h", "/b", id="the port that it has anyway"),
        pytest.param("http://h/s3/x/", "h", 80, False, "h", "/s3/x/b", id="a path"),
        pytest.param("http://[::1]:9", "::1", 9, False, "[::1]:9", "/b", id="IPv6"),
    ],
)
def test_at_a_custom_endpoint_the_bucket_is_in_the_path(url, host, port, is_tls, authority, base):
    target = target_of("s3", "eu-west-1", "b", url)
    assert target[:5] == (host, port, is_tls, authority, base)
    assert target_of("sqs", "eu-west-1", "", url).base + "/b" == base


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://h", "http://", "http://h:port", "http://user@h", "http://h ?"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(SettingsError, match="is not a URL"):
        read_url(url)


@pytest.mark.parametrize(
    "bucket",
    ["arn:aws:s3:eu-west-1:123456789012:accesspoint/name", "name--euw1-az1--x-s3", "name.mrap"],
)
def test_an_access_point_is_refused_with_what_to_use_instead(bucket):
    with pytest.raises(SettingsError, match="general purpose bucket"):
        target_of("s3", "eu-west-1", bucket, "")


@pytest.mark.parametrize("region", ["", "eu west 1", "eu-west-1.evil.example/", "EU-WEST-1", "-"])
def test_what_is_no_region_never_becomes_a_host(region):
    with pytest.raises(SettingsError, match="region"):
        Account(region, fixed("a", "b"))


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        pytest.param({}, {}, id="AWS's own"),
        pytest.param(
            {"AWS_ENDPOINT_URL": "http://a"},
            {"s3": "http://a", "sqs": "http://a", "lambda": "http://a"},
            id="one for all",
        ),
        pytest.param({"AWS_ENDPOINT_URL_S3": "http://s"}, {"s3": "http://s"}, id="one for a service"),
        pytest.param({"AWS_ENDPOINT_URL_LAMBDA": "http://l"}, {"lambda": "http://l"}, id="one for Lambda"),
        pytest.param(
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SQS": "http://q"},
            {"s3": "http://a", "sqs": "http://q", "lambda": "http://a"},
            id="the service's goes first",
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {},
            id="told to ignore them",
        ),
    ],
)
def test_the_environment_sets_endpoints(environ, found):
    assert endpoints_in(environ) == found


PROXY = {"https_proxy": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("environ", "is_proxied"),
    [
        pytest.param({}, False, id="no proxy"),
        pytest.param(PROXY, True, id="lower case"),
        pytest.param({"HTTPS_PROXY": "http://proxy:3128"}, True, id="upper case"),
        pytest.param({"http_proxy": "http://proxy:3128"}, False, id="for another scheme"),
        pytest.param(PROXY | {"no_proxy": "*"}, False, id="exempt: everything"),
        pytest.param(PROXY | {"NO_PROXY": "localhost, .amazonaws.com"}, False, id="exempt: the domain"),
        pytest.param(PROXY | {"no_proxy": "eu-west-1.amazonaws.com"}, False, id="exempt: a part of the domain"),
        pytest.param(PROXY | {"no_proxy": "zonaws.com"}, True, id="not a whole label"),
        pytest.param(PROXY | {"no_proxy": "sqs.eu-west-1.amazonaws.com:443"}, False, id="exempt: with the port"),
        pytest.param(PROXY | {"no_proxy": ""}, True, id="nothing exempt"),
    ],
)
def test_a_proxy_is_seen_as_curl_sees_it(environ, is_proxied):
    assert bool(proxy_for(target_of("sqs", "eu-west-1", "", ""), environ)) is is_proxied


@pytest.mark.parametrize(
    ("environ", "chosen"),
    [
        pytest.param({}, "lean", id="the usual case"),
        pytest.param(PROXY, "boto3", id="a proxy"),
        pytest.param(PROXY | {"no_proxy": "amazonaws.com"}, "lean", id="a proxy for others"),
        pytest.param({"AWS_USE_FIPS_ENDPOINT": "true"}, "boto3", id="FIPS"),
        pytest.param({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "boto3", id="dual-stack"),
        pytest.param({"AWS_CA_BUNDLE": "/x.pem"}, "lean", id="authorities of its own"),
    ],
)
def test_the_transport_is_chosen_by_what_the_environment_asks_for(environ, chosen):
    assert choose_transport(Account("eu-west-1", fixed("a", "b")), "auto", environ) == chosen


def test_only_the_services_that_are_talked_to_matter():
    account, environ = Account("eu-west-1", fixed("a", "b")), PROXY | {"no_proxy": "s3.eu-west-1.amazonaws.com"}
    assert choose_transport(account, "auto", environ, services=("s3",)) == "lean"
    assert choose_transport(account, "auto", environ, services=("s3", "lambda")) == "boto3"


def test_the_transport_can_be_named():
    account = Account("eu-west-1", fixed("a", "b"))
    assert choose_transport(account, "lean", PROXY) == "lean"
    assert choose_transport(account, "boto3", {}) == "boto3"
    with pytest.raises(SettingsError, match="transport='fast'"):
        choose_transport(account, "fast", {})


def test_a_workers_account_comes_from_its_environment():
    environ = {
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_CA_BUNDLE": "/bundle.pem",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    account = Account.from_environment(environ, owner="123456789012")
    assert (account.region, account.owner, account.ca_bundle) == ("eu-central-1", "123456789012", "/bundle.pem")
    assert account.target("s3", "b").port == 1
    assert account.target("sqs").host == "sqs.eu-central-1.amazonaws.com"
    assert account.credentials.renew().access_key == "AKID"
    with pytest.raises(SettingsError, match="no AWS region"):
        Account.from_environment({})


@pytest.mark.parametrize("bucket", ["b HTTP/1.1\r\nx: y", "b?acl", "b#", "b%2F..", "b\n", "ü"])
@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9000"])
def test_a_bucket_that_would_change_the_request_is_refused(bucket, endpoint):
    with pytest.raises(SettingsError, match="bucket"):
        target_of("s3", "eu-west-1", bucket, endpoint)
