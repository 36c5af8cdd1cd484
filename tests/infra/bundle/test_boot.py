"""The program that fetches a worker's code, run as a container runs it: `python -c TEXT COMMAND…`, S3 on loopback."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from cloudexec.infra.bundle.words import ENTRY_POINT
from cloudexec.testing import PocketAWS

PRINTS = ["python", "-c", "import greeting, sys; print(greeting.__file__, sys.argv[1:])", "one", "two three"]


def zipped() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("greeting.py", "HELLO = 1\n")
        program = zipfile.ZipInfo("tools/say")
        program.external_attr = 0o100755 << 16
        written.writestr(program, "#!/bin/sh\necho said\n")
    return archive.getvalue()


CODE = zipped()
KEY = f"code/{hashlib.sha256(CODE).hexdigest()}.zip"


@pytest.fixture(scope="module")
def aws() -> Iterator[PocketAWS]:
    with PocketAWS() as aws:
        s3 = aws.session().client("s3")
        s3.put_object(Bucket=aws.setup["bucket"], Key=KEY, Body=CODE)
        s3.put_object(Bucket=aws.setup["bucket"], Key="code/other.zip", Body=CODE)
        yield aws


def boot(aws: PocketAWS, folder: Path, *command: str, key: str = KEY, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "TMPDIR": str(folder),
        **{name: value for name, value in aws.env.items() if name.startswith("AWS_")},
        "CLOUDEXEC_BUNDLE": f"s3://{aws.setup['bucket']}/{key}",
        "CLOUDEXEC_BUNDLE_OWNER": "123456789012",
        **more,
    }
    words = [sys.executable, *ENTRY_POINT[1:], *command]
    return subprocess.run(
        words,
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        check=False,
    )


def home_of(aws: PocketAWS, folder: Path, said: str) -> Path:
    done = boot(aws, folder, "sh", "-c", 'echo "$HOME"', HOME=said)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_it_becomes_the_command_with_the_code_on_its_path(aws: PocketAWS, tmp_path: Path):
    done = boot(aws, tmp_path, *PRINTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "['one', 'two three']" in done.stdout
    again = boot(aws, tmp_path, *PRINTS, AWS_ENDPOINT_URL="http://127.0.0.1:1")  # what is there is not fetched again
    assert again.returncode == 0


def test_programs_in_packages_can_be_run(aws: PocketAWS, tmp_path: Path):
    done = boot(aws, tmp_path, "sh", "-c", "exec $PYTHONPATH/tools/say")
    assert (done.returncode, done.stdout) == (0, "said\n")


def test_the_commands_exit_code_is_the_containers(aws: PocketAWS, tmp_path: Path):
    assert boot(aws, tmp_path, "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"key": f"code/{'0' * 64}.zip"}, "S3 answers 404", id="it is not there"),
        pytest.param({"AWS_ACCESS_KEY_ID": ""}, "KeyError: 'AWS_ACCESS_KEY_ID'", id="no credentials"),
        pytest.param({"key": "code/other.zip"}, "its hash is not the one in its name", id="another's code"),
        pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Connection refused", id="no way to S3"),
    ],
)
def test_what_cannot_be_had_is_told_in_the_last_line_of_the_log(
    aws: PocketAWS, tmp_path: Path, changes: dict[str, str], match: str
):
    quick = {**changes, "CLOUDEXEC_BUNDLE_PAUSE_S": "0.01"}
    done = boot(aws, tmp_path, *PRINTS, **quick)
    assert done.returncode == 1
    assert match in done.stderr
    assert "cloudexec doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_bucket_of_another_account_is_refused(aws: PocketAWS, tmp_path: Path):
    rule = aws.faults.foreign_bucket(aws.setup["bucket"])
    done = boot(aws, tmp_path, *PRINTS, CLOUDEXEC_BUNDLE_PAUSE_S="0.01")
    aws.faults.clear(rule)
    assert done.returncode == 1
    assert "S3 answers 403" in done.stderr


def test_a_role_that_iam_has_not_spread_yet_is_waited_for(aws: PocketAWS, tmp_path: Path):
    rule = aws.faults.error("AccessDenied", status=403, service="s3", operation="GetObject", times=2)
    done = boot(aws, tmp_path, *PRINTS, CLOUDEXEC_BUNDLE_PAUSE_S="0.01")
    aws.faults.clear(rule)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1"])
def test_it_goes_where_everybody_else_goes(region: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    program: dict[str, Any] = {}
    exec(ENTRY_POINT[2].removesuffix("main()\n"), program)  # our own text, as a container runs it
    base, path = program["address"]("bucket-1", "code/a.zip", region)
    client = botocore.session.Session().create_client(
        "s3",
        region,
        config=Config(s3={"addressing_style": "virtual"}),
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket-1", "Key": "code/a.zip"})
    client.close()
    assert url.partition("?")[0] == base + path


@pytest.mark.parametrize("said", ["", "/nowhere/at/all"])
def test_a_user_without_a_home_gets_one(aws: PocketAWS, tmp_path: Path, said: str):
    assert home_of(aws, tmp_path, said).parent == tmp_path


def test_a_home_that_can_be_written_to_stays(aws: PocketAWS, tmp_path: Path):
    assert home_of(aws, tmp_path, str(tmp_path)) == tmp_path


def test_it_waits_where_s3_asks_for_patience(aws: PocketAWS, tmp_path: Path):
    rule = aws.faults.throttle("s3", "GetObject", times=2)
    began_s = time.monotonic()
    done = boot(aws, tmp_path, *PRINTS, CLOUDEXEC_BUNDLE_PAUSE_S="0.1")
    aws.faults.clear(rule)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began_s > 0.5  # 0.2 and 0.4 s
    assert len(aws.faults.fired("throttle")) == 2
