"""An account with nothing in it, and the command line in front of it, as somebody at a shell has them.

Called by: tests of `up`, `down`, and of what runs in the stack.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudexec.cli.main import run
from cloudexec.infra.names import bucket_name
from cloudexec.infra.stack.wish import THIS_PYTHON
from cloudexec.testing import PocketAWS

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = bucket_name("cloudexec", ACCOUNT, REGION)
# Where nothing is to run: code for another Python has no byte code, and is made in a tenth of the time.
OTHER_PYTHON = "3.12" if THIS_PYTHON != "3.12" else "3.11"
SMALL = ("--only", "lambda", "--python", OTHER_PYTHON)


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything, on one line: what is printed is broken where a terminal would break it."""
        return " ".join((self.out + self.err).split())


class Scene:
    """One account, and one home directory."""

    def __init__(self, aws: PocketAWS, home: Path, clients: dict[str, Any]) -> None:
        self.aws, self.home, self.clients = aws, home, clients

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.home / "cloudexec" / "config.toml"

    def environment(self, who: str = "setup", **changes: str | None) -> dict[str, str]:
        """Of a shell in which nothing of cloudexec is set; None takes a variable out."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CLOUDEXEC_"))}
        own = {name: value for name, value in self.aws.env_of(who).items() if name.startswith("AWS_")}
        merged = {**others, **own, "XDG_CONFIG_HOME": str(self.home), "XDG_STATE_HOME": str(self.home), **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def run(self, *words: str, **changes: str | None) -> Said:
        """`cloudexec WORDS`, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with self.as_shell(**changes), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
        return Said(code, out.getvalue(), err.getvalue())

    def start(self, *words: str, stdin: int = subprocess.DEVNULL, **changes: str | None) -> subprocess.Popen[str]:
        """The same as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cloudexec.cli", *words],
            env=self.environment(**changes),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextlib.contextmanager
    def as_shell(self, who: str = "setup", **changes: str | None) -> Iterator[None]:
        """This process as one that was started in that shell."""
        with pytest.MonkeyPatch.context() as patch:
            wanted = self.environment(who, **changes)
            for name in set(os.environ) - set(wanted):
                patch.delenv(name)
            for name, value in wanted.items():
                patch.setenv(name, value)
            yield

    def client(self, service: str) -> Any:
        """A client of boto3 for looking and preparing; made once, which takes a tenth of a second."""
        if service not in self.clients:
            self.clients[service] = self.aws.session().client(service)
        return self.clients[service]

    def status(self, stack: str = "cloudexec") -> str:
        """The stack's; empty if there is none."""
        found = [
            each
            for each in self.client("cloudformation").list_stacks()["StackSummaries"]
            if not each.get("DeletionTime")
        ]
        return next((each["StackStatus"] for each in found if each["StackName"] == stack), "")

    def resources(self, stack: str = "cloudexec") -> dict[str, str]:
        """Physical ids by logical ones."""
        found = self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found if one.get("PhysicalResourceId")}

    def inventory(self) -> set[str]:
        """Everything in the account that a stack could have made."""
        ecs, ec2 = self.client("ecs"), self.client("ec2")
        found = [f"bucket {each['Name']}" for each in self.client("s3").list_buckets()["Buckets"]]
        found += [f"log {each['logGroupName']}" for each in self.client("logs").describe_log_groups()["logGroups"]]
        found += [f"role {each['RoleName']}" for each in self.client("iam").list_roles()["Roles"]]
        found += [f"policy {each['Arn']}" for each in self.client("iam").list_policies(Scope="Local")["Policies"]]
        found += [f"function {each['FunctionName']}" for each in self.client("lambda").list_functions()["Functions"]]
        clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        found += [f"cluster {each['clusterArn']}" for each in clusters if each["status"] == "ACTIVE"]
        found += [f"definition {each}" for each in ecs.list_task_definitions()["taskDefinitionArns"]]
        found += [
            f"repository {each['repositoryName']}"
            for each in self.client("ecr").describe_repositories()["repositories"]
        ]
        found += [f"queue {each}" for each in self.client("sqs").list_queues().get("QueueUrls", [])]
        found += [f"group {each['GroupId']}" for each in ec2.describe_security_groups()["SecurityGroups"]]
        found += [f"vpc {each['VpcId']}" for each in ec2.describe_vpcs()["Vpcs"]]
        found += [f"subnet {each['SubnetId']}" for each in ec2.describe_subnets()["Subnets"]]
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        return {*found, *(f"stack {each['StackName']}" for each in stacks)}


def up(scene: Scene, *words: str) -> None:
    """An `up` that must work."""
    said = scene.run("up", "--yes", *words)
    assert said.code == 0, said.err
