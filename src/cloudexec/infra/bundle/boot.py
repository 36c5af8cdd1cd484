"""Fetch the bundle from S3 into a bare Python container, and become the command that follows.

Run as:  python -c TEXT COMMAND...   (the entry point of a task definition; nothing of cloudexec is there yet)
Reads:   CLOUDEXEC_BUNDLE=s3://bucket/code/SHA256.zip, CLOUDEXEC_BUNDLE_OWNER, the role's credentials, AWS_REGION.
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

ATTEMPTS = 6
EMPTY = hashlib.sha256(b"").hexdigest()


def credentials() -> tuple[str, str, str]:
    env = os.environ
    if env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        url = env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        url = url or "http://169.254.170.2" + env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
        token = env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        request = urllib.request.Request(url, headers={"Authorization": token} if token else {})
        with urllib.request.urlopen(request, timeout=5) as reply:
            said = json.load(reply)
        return said["AccessKeyId"], said["SecretAccessKey"], said.get("Token", "")
    return env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN", "")


def address(bucket: str, key: str, region: str) -> tuple[str, str]:
    path = "/" + urllib.parse.quote(key)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return endpoint.rstrip("/"), "/" + bucket + path
    domain = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}.get(region.split("-")[0], "amazonaws.com")
    return f"https://{bucket}.s3.{region}.{domain}", path


def signed(bucket: str, key: str, region: str) -> urllib.request.Request:
    base, path = address(bucket, key, region)
    access, secret, token = credentials()
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": urllib.parse.urlsplit(base).netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if os.environ.get("CLOUDEXEC_BUNDLE_OWNER"):
        headers["x-amz-expected-bucket-owner"] = os.environ["CLOUDEXEC_BUNDLE_OWNER"]
    if token:
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(f"GET\n{path}\n\n{lines}\n{names}\n{EMPTY}".encode()).hexdigest()
    signing = ("AWS4" + secret).encode()
    for word in scope.split("/"):
        signing = hmac.digest(signing, word.encode(), "sha256")
    signature = hmac.digest(signing, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    del headers["host"]
    return urllib.request.Request(base + path, headers=headers)


def fetch(bucket: str, key: str, region: str, archive: str) -> str:
    """One attempt; the hash of what came."""
    said = hashlib.sha256()
    with urllib.request.urlopen(signed(bucket, key, region), timeout=60) as reply, open(archive, "wb") as file:
        while block := reply.read(1 << 20):
            said.update(block)
            file.write(block)
    return said.hexdigest()


def fetch_or_leave(bucket: str, key: str, region: str, archive: str) -> None:
    wanted = key.rpartition("/")[2].partition(".")[0]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if fetch(bucket, key, region, archive) == wanted:
                return
            what = "its hash is not the one in its name"
        except urllib.error.HTTPError as error:
            what = f"S3 answers {error.code}: {error.read(300).decode('utf-8', 'replace')}"
            # A role that was just made is refused for seconds, so 403 is tried again; what is not there stays away.
            if error.code == 404:
                attempt = ATTEMPTS
        except (OSError, KeyError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
        if attempt == ATTEMPTS:
            sys.exit(
                f"cloudexec: the code of this worker, s3://{bucket}/{key}, cannot be fetched: {what}. Does the subnet "
                "have a way to S3, and may the task role read it? `cloudexec doctor` looks; `cloudexec up` uploads it."
            )
        time.sleep(min(8.0, float(os.environ.get("CLOUDEXEC_BUNDLE_PAUSE_S") or 0.25) * 2**attempt))


def unpack(archive: str, home: str) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            path = zipped.extract(member, home)
            if member.external_attr >> 16 & 0o100:  # a program, which zipfile forgets
                os.chmod(path, 0o755)


def main() -> None:
    bucket, _, key = os.environ["CLOUDEXEC_BUNDLE"].partition("s3://")[2].partition("/")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    home = os.path.join(os.environ.get("TMPDIR", "/tmp"), "cloudexec-" + key.rpartition("/")[2][:16])
    ready = os.path.join(home, ".ready")
    if not os.path.exists(ready):
        os.makedirs(home, exist_ok=True)
        archive = os.path.join(home, f".bundle-{os.getpid()}.zip")
        fetch_or_leave(bucket, key, region, archive)
        unpack(archive, home)
        os.remove(archive)
        open(ready, "w").close()
    paths = [home, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # Of a user without a name, HOME is /, where nobody may write; and packages ask for the name.
    if not os.access(os.environ.get("HOME", ""), os.W_OK):
        os.environ["HOME"] = home
    os.environ.setdefault("USER", "worker")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
