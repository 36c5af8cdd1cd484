"""Drive a pocket AWS by boto3, as any program would. Called by: the tests in this folder."""

from __future__ import annotations

import time

from botocore.config import Config

FARGATE = {"launchType": "FARGATE"}
SPOT = {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}
ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=20)
PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 4}, read_timeout=20)


class Driver:
    """Clients of one pocket AWS, and the few calls that nearly every test makes."""

    def __init__(self, aws):
        self.aws, self.setup, self._session = aws, aws.setup, aws.session()
        self.ecs = self.client("ecs")
        self.sqs = self.client("sqs")
        self.s3 = self.client("s3")

    def client(self, service, config=ONCE):
        """A client that does not repeat anything by itself, unless told so."""
        return self._session.client(service, config=config)

    def request(self, command, *, capacity=FARGATE, environment=(), **more):
        """Arguments of RunTask for the ready-made task definition with this command."""
        override = {"name": "worker", "command": list(command)}
        if environment:
            override["environment"] = [{"name": name, "value": value} for name, value in dict(environment).items()]
        network = {"subnets": self.setup["subnets"], "securityGroups": self.setup["security_groups"]}
        return {
            "cluster": self.setup["cluster"],
            "taskDefinition": self.setup["task_definition"],
            "networkConfiguration": {"awsvpcConfiguration": network},
            "overrides": {"containerOverrides": [override]},
            **capacity,
            **more,
        }

    def run(self, *command, **more):
        """Start one task; its ARN."""
        reply = self.ecs.run_task(**self.request(command, **more))
        assert reply["failures"] == []
        return reply["tasks"][0]["taskArn"]

    def describe(self, arn):
        """One task as DescribeTasks tells it."""
        reply = self.ecs.describe_tasks(cluster=self.setup["cluster"], tasks=[arn], include=["TAGS"])
        assert reply["failures"] == []
        return reply["tasks"][0]

    def until(self, arn, state, within_s=15.0):
        """Wait for a state; the task in it."""
        deadline = time.monotonic() + within_s
        while (task := self.describe(arn))["lastStatus"] != state:
            assert time.monotonic() < deadline, f"{arn} is {task['lastStatus']} and not {state}"
            time.sleep(0.01)
        return task

    def until_logged(self, arn, text, within_s=15.0):
        """Wait until a task has written something."""
        deadline = time.monotonic() + within_s
        while text not in (log := self.aws.task(arn).log):
            assert time.monotonic() < deadline, f"{arn} wrote {log!r} and not {text!r}"
            time.sleep(0.01)

    def stop(self, arn, **more):
        """StopTask."""
        return self.ecs.stop_task(cluster=self.setup["cluster"], task=arn, **more)["task"]

    def register(self, *containers, **more):
        """Register a task definition with these containers; its family and revision."""
        wanted = {
            "family": "family-of-a-test",
            "requiresCompatibilities": ["FARGATE"],
            "networkMode": "awsvpc",
            "cpu": "256",
            "memory": "512",
            "containerDefinitions": [{"image": "an-image", **container} for container in containers],
        }
        made = self.ecs.register_task_definition(**{**wanted, **more})["taskDefinition"]
        return f"{made['family']}:{made['revision']}"

    def queue(self, name="a-queue", **attributes):
        """A new queue's URL."""
        return self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def code_of(error):
    """The error code in what botocore raised."""
    return error.value.response["Error"]["Code"]


def message_of(error):
    """The message in what botocore raised."""
    return error.value.response["Error"]["Message"]


def python(code):
    """A command that runs this code."""
    return ["python", "-uc", code]
