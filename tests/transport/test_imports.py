"""What a worker pays for when it imports the transport, and when it first uses it."""

import subprocess
import sys

import pytest

HEAVY = ("ssl", "asyncio", "boto3", "botocore", "http.client", "urllib.parse", "email", "xml", "random", "datetime")


def loaded_by(code):
    code = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import cloudexec.transport.sync", id="the client for threads"),
        pytest.param(
            "import cloudexec.transport.s3, cloudexec.transport.sqs, cloudexec.transport.lambdas", id="operations"
        ),
        pytest.param(
            "from cloudexec.transport.account import Account, open_client; "
            "open_client(Account.from_environment({'AWS_REGION': 'eu-west-1'})).close()",
            id="an open client",
        ),
    ],
)
def test_nothing_heavy_is_loaded_by(code):
    assert loaded_by(code) == []


def test_ssl_is_loaded_by_the_first_https_connection(serve):
    port = serve(lambda connection, request: False).port
    code = f"""
from cloudexec.errors import ConnectionLost
from cloudexec.transport import s3
from cloudexec.transport.account import Account
from cloudexec.transport.credentials import fixed
from cloudexec.transport.sync import SyncClient
from cloudexec.transport.retrying import RetryPolicy
account = Account("eu-west-1", fixed("a", "b"), endpoints={{"s3": "https://127.0.0.1:{port}"}})
try: SyncClient(account, policy=RetryPolicy(attempts=1), connect_timeout_s=0.2).call(s3.get_object("b", "k", owner=""))
except ConnectionLost: pass
"""
    assert "ssl" in loaded_by(f"exec({code!r})")
