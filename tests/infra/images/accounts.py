"""An account on loopback that builds images as it is told to: as much of five services as a build asks for.

Real HTTP, so that botocore's parsers and our errors are in between; moto's CodeBuild succeeds at once and has no log.
"""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from cloudexec.backends.clients import Clients
from cloudexec.infra.place import Place

ACCOUNT_ID = "123456789012"
STACK = """<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><DescribeStacksResult>
<Stacks><member><StackName>cloudexec</StackName><CreationTime>2026-01-01T00:00:00Z</CreationTime>
<StackId>arn:aws:cloudformation:eu-west-1:123456789012:stack/cloudexec/1</StackId>
<StackStatus>CREATE_COMPLETE</StackStatus><Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult>
</DescribeStacksResponse>"""
ERROR = """<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><Error><Type>Sender</Type>
<Code>{}</Code><Message>{}</Message></Error><RequestId>1</RequestId></ErrorResponse>"""
OUTPUT = "<member><OutputKey>{}</OutputKey><OutputValue>{}</OutputValue></member>"
CALLER = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Account>{ACCOUNT_ID}</Account><Arn>arn:aws:iam::{ACCOUNT_ID}:user/me</Arn><UserId>me</UserId>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""
OUTPUTS = {
    "Bucket": "bucket",
    "BuildProject": "cloudexec",
    "Cluster": "cloudexec",
    "JobsPolicy": "arn:aws:iam::123456789012:policy/jobs",
    "Repository": f"{ACCOUNT_ID}.dkr.ecr.eu-west-1.amazonaws.com/cloudexec",
}


class Account:
    """What it answers, and what it was asked."""

    def __init__(self):
        self.asked = []  # (operation, request)
        self.objects = {}
        self.outputs = dict(OUTPUTS)
        self.looks = [{"buildStatus": "SUCCEEDED"}]  # one for each look; the last stays
        self.log = []  # lists of lines: what is new at each look; None: a page that has none, before one that may
        self.refused = {}  # operation: (status, code), of CloudFormation also the message
        self.images = {}  # tag: bytes
        self.on_look = lambda: None
        self._pages = 0

    def of(self, operation):
        """All requests of one operation."""
        return [request for name, request in self.asked if name == operation]

    def answer(self, operation, request):
        """The body of a JSON service's answer."""
        return getattr(self, operation)(request)

    def StartBuild(self, request):
        return {"build": {"id": "cloudexec:1", "buildStatus": "IN_PROGRESS"}}

    def StopBuild(self, request):
        return {"build": {"id": "cloudexec:1", "buildStatus": "STOPPED"}}

    def BatchGetBuilds(self, request):
        self.on_look()
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"builds": [{"id": "cloudexec:1", **look}]}

    def GetLogEvents(self, request):
        lines = self.log.pop(0) if self.log else []
        self._pages += lines != []
        events = [{"timestamp": 1, "ingestionTime": 1, "message": line} for line in lines or ()]
        return {"events": events, "nextForwardToken": f"f/{self._pages}"}

    def GetAuthorizationToken(self, request):
        return {"authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:secret").decode()}]}

    def DescribeImages(self, request):
        tag = request["imageIds"][0]["imageTag"]
        if tag not in self.images:
            return 400, "ImageNotFoundException"
        return {"imageDetails": [{"imageTags": [tag], "imageSizeInBytes": self.images[tag]}]}

    @contextmanager
    def served(self):
        """Where it answers."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _handler_of(account):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            """Tests are quiet."""

        def send(self, status, body, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self):
            if "100-continue" in self.headers.get("Expect", ""):
                pass  # the standard library has answered it
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def do_PUT(self):
            account.asked.append(("PutObject", {"Owner": self.headers["x-amz-expected-bucket-owner"]}))
            account.objects[self.path.partition("?")[0]] = self.body()
            self.send(200, b"", "application/xml")

        def do_DELETE(self):
            account.asked.append(("DeleteObject", {"Owner": self.headers["x-amz-expected-bucket-owner"]}))
            account.objects.pop(self.path.partition("?")[0], None)
            self.send(204, b"", "application/xml")

        def do_POST(self):
            body = self.body()
            target = self.headers.get("X-Amz-Target", "")
            if not target:
                operation = parse_qs(body.decode())["Action"][0]
                account.asked.append((operation, {}))
                if operation in account.refused:
                    status, *said = account.refused[operation]
                    return self.send(status, ERROR.format(*said).encode(), "text/xml")
                outputs = "".join(OUTPUT.format(*one) for one in account.outputs.items())
                text = CALLER if operation == "GetCallerIdentity" else STACK.format(outputs=outputs)
                return self.send(200, text.encode(), "text/xml")
            operation = target.rpartition(".")[2]
            request = json.loads(body)
            account.asked.append((operation, request))
            answer = account.refused.get(operation) or account.answer(operation, request)
            status, answer = (200, answer) if isinstance(answer, dict) else (answer[0], {"__type": answer[1]})
            return self.send(status, json.dumps(answer).encode(), "application/x-amz-json-1.1")

    return Handler


@contextmanager
def place_in(account):
    """Where commands act, in the account."""
    import boto3

    session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="eu-west-1")
    with account.served() as url:
        clients = Clients(session=session, endpoint_url=url)
        try:
            yield Place(clients)
        finally:
            clients.close()
