"""What CloudFormation says is read: events and their reasons, changes, stacks. Tables; no network."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.stack.changes import Change, costs_at_rest, is_nothing, later, read_changes
from cloudexec.infra.stack.events import Event, early_failures, first_failure, last_failures, plain_reason, remedy_of
from cloudexec.infra.stack.inside import kind_of
from cloudexec.infra.stack.look import StackState, check_name, read_options, read_stack
from cloudexec.infra.stack.network import read_network
from cloudexec.infra.template.build import as_json, as_yaml, template
from cloudexec.infra.template.options import StackOptions

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


# --- names and stacks ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cloudexec", "ab", "alice-2", "x" * 30])
def test_a_stack_may_be_called(name: str):
    check_name(name)


@pytest.mark.parametrize("name", ["", "a", "Alice", "2nd", "a_b", "-a", "a-", "a--b", "x" * 31, "a b", "ab\n"])
def test_buckets_and_repositories_could_not_be_called(name: str):
    with pytest.raises(SettingsError, match="lower-case letters"):
        check_name(name)


def said(status: str, *, tags: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "StackName": "alice",
        "StackId": "arn:alice",
        "StackStatus": status,
        "CreationTime": NOW - timedelta(hours=2),
        "Parameters": [{"ParameterKey": "LogDays", "ParameterValue": "3"}],
        "Outputs": [{"OutputKey": "Bucket", "OutputValue": "b"}],
        "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
    }


def test_a_stack_is_read_with_what_it_was_made_from():
    options = StackOptions(function=False, network="new", builds=True, python="3.12")
    state = read_stack(said("UPDATE_COMPLETE", tags={"cloudexec:stack": "alice"}), as_json(template(options)))
    assert state.options == options
    assert (state.is_ours, state.is_absent, state.is_busy, state.is_broken) == (True, False, False, False)
    assert (state.parameters, state.outputs, state.age_s(NOW)) == ({"LogDays": "3"}, {"Bucket": "b"}, 7200.0)


@pytest.mark.parametrize(
    ("status", "is_absent", "is_busy", "is_broken"),
    [
        ("REVIEW_IN_PROGRESS", True, False, False),
        ("CREATE_IN_PROGRESS", False, True, False),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", False, True, False),
        ("ROLLBACK_COMPLETE", False, False, True),
        ("DELETE_FAILED", False, False, True),
        ("UPDATE_ROLLBACK_COMPLETE", False, False, False),
    ],
)
def test_states(status: str, is_absent: bool, is_busy: bool, is_broken: bool):
    state = read_stack(said(status, tags={"cloudexec:stack": "alice"}))
    assert (state.is_absent, state.is_busy, state.is_broken) == (is_absent, is_busy, is_broken)


@pytest.mark.parametrize("tags", [{}, {"cloudexec:stack": "bob"}, {"cloudexec": "alice"}])
def test_a_stack_without_our_tag_is_somebody_elses(tags: dict[str, str]):
    assert not read_stack(said("CREATE_COMPLETE", tags=tags)).is_ours


def test_options_are_read_from_what_print_gave_too():
    options = StackOptions(ecs=False)
    assert read_options(as_yaml(template(options))) == options
    assert read_options("Resources: !Unknown [") is None
    assert read_options("Resources: {Queue: {Type: !Sub x}}") is None
    with pytest.raises(SettingsError, match="another version"):
        read_options({"Metadata": {"cloudexec": {"Format": 99}}})


# --- events ----------------------------------------------------------------------------------


def event(name: str, status: str, reason: str = "", kind: str = "AWS::S3::Bucket") -> Event:
    said = {"logical_id": name, "physical_id": f"my-{name}", "kind": kind, "status": status, "reason": reason}
    return Event(id=f"{name}-{status}", **said)


STACK = "AWS::CloudFormation::Stack"


def test_the_first_failure_is_the_cause_and_not_what_was_cancelled_because_of_it():
    events = [
        event("Log", "CREATE_COMPLETE"),
        event("Role", "CREATE_FAILED", "Resource creation cancelled"),
        event("Bucket", "CREATE_FAILED", "taken"),
        event("Cluster", "CREATE_FAILED", "also wrong"),
        event("alice", "ROLLBACK_FAILED", "The following resource(s) failed", STACK),
    ]
    found = first_failure(events)
    assert found is not None
    assert found.reason == "taken"
    assert first_failure(events[:2]) is None


def test_what_could_be_removed_at_last_is_no_failure():
    events = [
        event("Bucket", "DELETE_FAILED", "not empty"),
        event("Log", "DELETE_FAILED", "denied"),
        event("Bucket", "DELETE_COMPLETE"),
        event("alice", "DELETE_FAILED", "…", STACK),
    ]
    assert [each.logical_id for each in last_failures(events)] == ["Log"]


def test_a_reason_is_told_without_tokens():
    long = (
        'Resource handler returned message: "Limit for x. (Service: Ecs, Status Code: 400, Request ID: 0a-1)" '
        "(RequestToken: 12, HandlerErrorCode: GeneralServiceException)"
    )
    assert plain_reason(long) == "Limit for x"
    assert plain_reason("my-bucket already exists") == "my-bucket already exists"


DENIED = "User: arn:aws:iam::1:user/x is not authorized to perform: iam:CreateRole on resource: arn:y because no policy"


@pytest.mark.parametrize(
    ("kind", "reason", "remedy"),
    [
        ("AWS::S3::Bucket", "my-b already exists", "another account .* --parameters BucketName"),
        ("AWS::S3::Bucket", "The bucket you tried to delete is not empty", "repeat `cloudexec down`"),
        ("AWS::IAM::Role", DENIED, "allow iam:CreateRole: `cloudexec policy setup`"),
        ("AWS::ECS::Cluster", "Access Denied", "`cloudexec policy setup`"),
        ("AWS::ECS::Cluster", "Unable to assume the service linked role.", "create-service-linked-role"),
        ("AWS::Logs::LogGroup", "/cloudexec/a already exists", "delete-log-group --log-group-name my-name`"),
        ("AWS::ECR::Repository", "already exists in the registry", "--repository-name my-name --force`"),
        ("AWS::Lambda::Function", "cloudexec-worker already exists", "another name with --stack"),
        ("AWS::EC2::VPC", "The maximum number of VPCs has been reached.", "--network default"),
        ("AWS::EC2::InternetGateway", "The maximum number of internet gateways", "Service Quotas"),
        ("AWS::Lambda::Function", "The runtime parameter of python3.9 is no longer supported", "--python"),
        ("AWS::IAM::ManagedPolicy", "Cannot delete a policy attached to entities.", "--policy-arn my-name"),
        ("AWS::EC2::SecurityGroup", "resource sg-1 has a dependent object", "network interface"),
        ("AWS::EC2::Subnet", "something new", "cloudexec doctor"),
    ],
)
def test_each_reason_has_its_remedy(kind: str, reason: str, remedy: str):
    assert re.search(remedy, remedy_of(kind, reason, "my-name"))


# --- changes ---------------------------------------------------------------------------------


def change(action: str, replacement: str = "", **more: Any) -> dict[str, Any]:
    said = {"Action": action, "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket", **more}
    return {"Type": "Resource", "ResourceChange": {**said, **({"Replacement": replacement} if replacement else {})}}


@pytest.mark.parametrize(
    ("given", "action", "is_loss"),
    [
        (change("Add"), "Add", False),
        (change("Modify", "False"), "Modify", False),
        (change("Modify", "True"), "Replace", True),
        (change("Modify", "Conditional"), "Replace?", True),
        (change("Remove"), "Remove", True),
        (change("Modify", "True", ResourceType="AWS::ECS::TaskDefinition"), "Replace", False),  # its next revision
        (change("Remove", ResourceType="AWS::ECS::TaskDefinition"), "Remove", True),
    ],
)
def test_a_change_tells_whether_something_is_lost(given: dict[str, Any], action: str, is_loss: bool):
    (found,) = read_changes([given, {"Type": "Hook"}])
    assert (found.action, found.is_loss) == (action, is_loss)


def test_who_loses_data_is_told_what():
    (found,) = read_changes([change("Remove", PhysicalResourceId="my-bucket")])
    assert found.loses == "Bucket my-bucket is removed, with everything in it"


def test_a_change_names_its_properties():
    details = [{"Target": {"Attribute": "Properties", "Name": "MemorySize"}}, {"Target": {"Attribute": "Tags"}}]
    (found,) = read_changes([change("Modify", "False", Details=details)])
    assert found.what == ("MemorySize", "Tags")


def test_nothing_to_do_is_no_failure():
    assert is_nothing("FAILED", "The submitted information didn't contain changes. Submit different information")
    assert is_nothing("FAILED", "No updates are to be performed.")
    assert not is_nothing("FAILED", "Parameters: [BucketName] must have values")
    assert not is_nothing("CREATE_COMPLETE", "No updates are to be performed.")


@pytest.mark.parametrize("network", ["default", "new", "given"])
def test_no_stack_of_ours_costs_anything_at_rest_but_its_objects(network: str):
    document = template(StackOptions(network=network, builds=True))
    assert costs_at_rest(document, 0) == []
    assert costs_at_rest(document, 50 << 20) == ["50 MB of code in the bucket: less than a cent a month"]


def test_what_would_cost_something_at_rest_is_named():
    document = {"Resources": {"Nat": {"Type": "AWS::EC2::NatGateway", "Properties": {}}}}
    assert costs_at_rest(document, 2 << 30) == ["Nat: $33 a month", "2048 MB of code in the bucket: $0.05 a month"]


def test_the_second_step_is_told_with_the_first():
    document = template(StackOptions())
    now = [
        Change(action="Add", logical_id=name, kind=each["Type"])
        for name, each in document["Resources"].items()
        if "Condition" not in each
    ]
    assert {each.logical_id for each in later(document, now)} == {
        "Worker",
        "Function",
        "FunctionEvents",
        "FunctionPermission",
    }


# --- the rest --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "vpc", "subnets"),
    [
        ("default", "default", "", ()),
        ("new", "new", "", ()),
        ("vpc-12ab", "given", "vpc-12ab", ()),
        ("vpc-12ab:subnet-1,subnet-2", "given", "vpc-12ab", ("subnet-1", "subnet-2")),
    ],
)
def test_a_network(text: str, kind: str, vpc: str, subnets: tuple[str, ...]):
    found = read_network(text)
    assert (found.kind, found.vpc, found.subnets) == (kind, vpc, subnets)


@pytest.mark.parametrize("text", ["", "defualt", "subnet-1", "vpc-1:", "vpc-1:sg-1"])
def test_no_network(text: str):
    with pytest.raises(SettingsError, match="default, new, or a VPC"):
        read_network(text)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("code/ab.zip", "code"),
        ("cloudexec/runs/r-1/control", "runs"),
        ("runs/r-1/run", "runs"),
        ("deep/er/summaries/r-1.json", "summaries"),
        ("cloudexec/jobs/g/one.json", "jobs"),
        ("cloudexec/results/g/one.json", "results"),
        ("builds/x.zip", "builds"),
        ("code", "other objects"),
        ("holiday.jpg", "other objects"),
    ],
)
def test_the_kind_of_an_object(key: str, kind: str):
    assert kind_of(key) == kind


def test_an_absent_stack_belongs_to_nobody():
    assert StackState(name="alice").is_absent
    assert StackState(name="alice").is_ours


def test_warnings_before_the_beginning_are_no_failures():
    """A bucket that is not empty is a warning: `down` empties it."""

    def event(**more: str) -> dict[str, str]:
        return {"EventId": "1", "EventType": "VALIDATION_ERROR", "LogicalResourceId": "Bucket", **more}

    said = [
        event(ValidationFailureMode="WARN", ValidationStatusReason="The bucket 'b' is not empty."),
        event(ValidationFailureMode="FAIL", ValidationStatusReason="Resource with identifier 'mine' already exists."),
        event(EventType="STACK_EVENT"),
    ]
    assert [(one.logical_id, one.physical_id) for one in early_failures(said)] == [("Bucket", "mine")]
