"""Make task definitions and look at tasks in a pocket AWS. Called by: test_on_ecs.py."""

from __future__ import annotations

import time

from cloudexec import Command, ECSExecutor

LOGS = {
    "logDriver": "awslogs",
    "options": {
        "awslogs-group": "/ecs/cloudexec",
        "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "theirs",
    },
}
LAST_WORDS = "import time; print('ready', flush=True); time.sleep(60)"


class Driver:
    """A pocket AWS with somebody else's task definitions in it; none of them has cloudexec inside."""

    def __init__(self, aws):
        self.aws = aws
        self.ecs = aws.session().client("ecs")

    def define(self, *containers, family="model-definition", memory="512"):
        """Register a task definition; "main", which writes a log, is its container unless others are given."""
        self.ecs.register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory=memory,
            executionRoleArn="arn:aws:iam::123456789012:role/theirs",
            containerDefinitions=list(containers) or [container("main")],
        )
        return family

    def executor(self, **settings):
        """An executor that knows a cluster and a network, and neither bucket nor task definition."""
        setup = self.aws.ecs_setup()
        known = {name: setup[name] for name in ("cluster", "subnets", "security_groups", "region", "endpoint_url")}
        return ECSExecutor(**known, **settings)

    def until(self, ready, within_s=20.0):
        """Wait for something; what it gave."""
        deadline = time.monotonic() + within_s
        while not (found := ready()):
            assert time.monotonic() < deadline, "it has not happened"
            time.sleep(0.01)
        return found

    def until_runs(self, n_tasks=1):
        """Wait until so many tasks have written their first line."""
        return self.until(lambda: len(ready := [t for t in self.aws.tasks() if "ready" in t.log]) >= n_tasks and ready)


def container(name, **more):
    """A container definition."""
    return {"name": name, "image": "model", "essential": True, "command": ["pass"], "logConfiguration": LOGS, **more}


def python(code, **settings):
    """A command in the container of a model: its image starts Python, and takes the code as first word."""
    return Command([code], **{"task_definition": "model-definition", **settings})
