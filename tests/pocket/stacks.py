"""Drive the pocket's CloudFormation. Called by: the tests of CloudFormation in this folder."""

from __future__ import annotations

import json
import time

from tests.pocket.driving import ONCE

WITHIN_S = 20.0
BUCKET = {"Type": "AWS::S3::Bucket"}
LOG = {"Type": "AWS::Logs::LogGroup"}
CLUSTER = {"Type": "AWS::ECS::Cluster"}


def of(resources, **more):
    """A template with these resources."""
    return json.dumps({"Resources": resources, **more})


def log(days, **more):
    """A log group."""
    return {**LOG, "Properties": {"RetentionInDays": days, **more}}


def bucket(name, **more):
    """A bucket of this name."""
    return {**BUCKET, "Properties": {"BucketName": name}, **more}


class Stacks:
    """One client of CloudFormation, and waiting for what it does."""

    def __init__(self, aws):
        self.aws = aws
        self.client = aws.session().client("cloudformation", config=ONCE)

    def create(self, template, name="s", **more):
        """Create a stack and wait; it as it then is."""
        stack_id = self.client.create_stack(StackName=name, TemplateBody=template, **more)["StackId"]
        return self.wait(stack_id)

    def update(self, template, name="s", **more):
        """Update a stack and wait."""
        self.client.update_stack(StackName=name, TemplateBody=template, **more)
        return self.wait(name)

    def delete(self, name="s", **more):
        """Delete a stack and wait."""
        stack_id = self.client.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        self.client.delete_stack(StackName=name, **more)
        return self.wait(stack_id)

    def change_set(self, template, name="s", kind="CREATE", change_set="c", **more):
        """Create a change set and wait until it is computed; all that is told of it."""
        asked = {"StackName": name, "ChangeSetName": change_set, "ChangeSetType": kind, "TemplateBody": template}
        made = self.client.create_change_set(**asked, **more)
        return self.until(
            lambda: self.client.describe_change_set(ChangeSetName=made["Id"]),
            lambda told: told["Status"] != "CREATE_IN_PROGRESS",
        )

    def execute(self, told, **more):
        """Execute a change set and wait."""
        self.client.execute_change_set(ChangeSetName=told["ChangeSetId"], **more)
        return self.wait(told["StackId"])

    def wait(self, name):
        """The stack when nothing happens to it any more."""
        return self.until(
            lambda: self.client.describe_stacks(StackName=name)["Stacks"][0],
            lambda stack: not stack["StackStatus"].endswith("_IN_PROGRESS"),
        )

    def until(self, look, is_it):
        """What `look` gives, as soon as it is what is wanted."""
        deadline = time.monotonic() + WITHIN_S
        while not is_it(found := look()):
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.01)
        return found

    def events(self, name="s"):
        """(logical id, status) of all events, oldest first."""
        pages = self.client.get_paginator("describe_stack_events").paginate(StackName=name)
        found = [event for page in pages for event in page["StackEvents"]]
        return [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(found)]

    def reason(self, logical_id, status, name="s"):
        """The reason in the newest event of this kind."""
        for event in self.client.describe_stack_events(StackName=name)["StackEvents"]:
            if (event["LogicalResourceId"], event["ResourceStatus"]) == (logical_id, status):
                return event.get("ResourceStatusReason", "")
        raise AssertionError(f"{logical_id} was never {status}")

    def resources(self, name="s"):
        """Physical ids by logical ones, of what is there."""
        found = self.client.describe_stack_resources(StackName=name)["StackResources"]
        there = (one for one in found if one["ResourceStatus"] not in ("DELETE_COMPLETE", "DELETE_SKIPPED"))
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId") for one in there}
