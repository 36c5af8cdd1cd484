"""Stacks of the pocket AWS live as those of CloudFormation do: states, refusals, change sets, failures, roll-backs."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.pocket.driving import code_of, message_of
from tests.pocket.stacks import CLUSTER, LOG, bucket, log, of

NO_UPDATE = "is in {} state and can not be updated"
UNTIL_CLEARED_S = 120.0  # of a rule that holds requests up: longer than anything that is to happen meanwhile


def refused(act, *arguments, **named):
    """Code and message of what is refused."""
    with pytest.raises(ClientError) as error:
        act(*arguments, **named)
    return code_of(error), message_of(error)


# --- a life that goes well ---------------------------------------------------------------------------


def test_a_stack_is_made_told_of_updated_and_deleted(stacks):
    parameters = {"Days": {"Type": "Number", "Default": 7}, "Secret": {"Type": "String", "NoEcho": True}}
    template = of(
        {"Log": log({"Ref": "Days"}), "Cluster": {**CLUSTER, "DependsOn": "Log"}},
        Parameters=parameters,
        Description="what it is",
        Outputs={"Group": {"Value": {"Ref": "Log"}}, "Arn": {"Value": {"Fn::GetAtt": ["Cluster", "Arn"]}}},
    )
    secret = [{"ParameterKey": "Secret", "ParameterValue": "x"}]
    made = stacks.create(template, Parameters=secret, Tags=[{"Key": "owner", "Value": "us"}])
    assert (made["StackStatus"], made["Description"]) == ("CREATE_COMPLETE", "what it is")
    assert made["Tags"] == [{"Key": "owner", "Value": "us"}]
    given = {one["ParameterKey"]: one["ParameterValue"] for one in made["Parameters"]}
    assert given == {"Days": "7", "Secret": "****"}
    there = stacks.resources()
    outputs = {one["OutputKey"]: one["OutputValue"] for one in made["Outputs"]}
    assert outputs["Group"] == there["Log"]
    assert outputs["Arn"].endswith(f":cluster/{there['Cluster']}")
    assert there["Log"].startswith("s-Log-")
    assert stacks.events() == [
        ("s", "CREATE_IN_PROGRESS"),
        ("Log", "CREATE_IN_PROGRESS"),
        ("Log", "CREATE_IN_PROGRESS"),  # Resource creation Initiated
        ("Log", "CREATE_COMPLETE"),
        ("Cluster", "CREATE_IN_PROGRESS"),
        ("Cluster", "CREATE_IN_PROGRESS"),
        ("Cluster", "CREATE_COMPLETE"),
        ("s", "CREATE_COMPLETE"),
    ]

    days = {"ParameterKey": "Days", "ParameterValue": "14"}
    previous = {"ParameterKey": "Secret", "UsePreviousValue": True}
    stacks.client.update_stack(StackName="s", UsePreviousTemplate=True, Parameters=[days, previous])
    assert stacks.wait("s")["StackStatus"] == "UPDATE_COMPLETE"
    assert stacks.events()[8:] == [
        ("s", "UPDATE_IN_PROGRESS"),
        ("Log", "UPDATE_IN_PROGRESS"),
        ("Log", "UPDATE_COMPLETE"),
        ("s", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
        ("s", "UPDATE_COMPLETE"),
    ]
    groups = stacks.aws.session().client("logs").describe_log_groups(logGroupNamePrefix="s-Log")["logGroups"]
    assert [(group["logGroupName"], group["retentionInDays"]) for group in groups] == [(there["Log"], 14)]

    gone = stacks.delete()
    assert gone["StackStatus"] == "DELETE_COMPLETE"  # told by its id
    names = [name for name, status in stacks.events(made["StackId"]) if status == "DELETE_COMPLETE"]
    assert names == ["Cluster", "Log", "s"]
    assert refused(stacks.client.describe_stacks, StackName="s")[1] == "Stack with id s does not exist"
    assert [(stack.name, stack.status) for stack in stacks.aws.stacks()] == [("s", "DELETE_COMPLETE")]


def test_templates_are_told_back(stacks):
    template = of({"Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}}}, Description="d")
    for told in (
        stacks.client.validate_template(TemplateBody=template),
        stacks.client.get_template_summary(TemplateBody=template),
    ):
        assert (told["Description"], told["Capabilities"]) == ("d", ["CAPABILITY_IAM"])
        assert told["CapabilitiesReason"].endswith("[AWS::IAM::Role]")
    stacks.create(of({"Log": LOG}))
    assert stacks.client.get_template(StackName="s")["TemplateBody"] == {"Resources": {"Log": LOG}}
    summaries = stacks.client.list_stack_resources(StackName="s")["StackResourceSummaries"]
    assert [(one["LogicalResourceId"], one["ResourceStatus"]) for one in summaries] == [("Log", "CREATE_COMPLETE")]
    listed = stacks.client.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"]
    assert [one["StackName"] for one in listed] == ["s"]


def test_a_template_may_lie_in_a_bucket(stacks):
    s3 = stacks.aws.session().client("s3")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key="a template.json", Body=of({"Log": LOG}))
    url = "https://templates.s3.us-east-1.amazonaws.com/a%20template.json"
    stack_id = stacks.client.create_stack(StackName="s", TemplateURL=url)["StackId"]
    assert stacks.wait(stack_id)["StackStatus"] == "CREATE_COMPLETE"


def test_requests_are_those_of_who_asked_or_of_the_stacks_role(stacks):
    stacks.aws.record_requests()
    stacks.create(of({"Log": LOG}))
    stacks.create(of({"Log": LOG}), "t", RoleARN="arn:aws:iam::123456789012:role/for-stacks")
    stacks.aws.record_requests(on=False)
    keys = {
        record["operation"]: record["headers"]["authorization"].partition("Credential=")[2].partition("/")[0]
        for record in stacks.aws.recorded_requests()
        if record["operation"] in ("CreateLogGroup", "CreateStack")
    }
    assert keys["CreateLogGroup"].startswith("ASIA")  # the second's; the role has keys of its own
    assert keys["CreateStack"] == stacks.aws.env["AWS_ACCESS_KEY_ID"] or keys["CreateStack"].startswith("AKIA")


# --- what is refused ---------------------------------------------------------------------------------


def test_what_is_not_there(stacks):
    client = stacks.client
    assert refused(client.describe_stacks, StackName="s") == ("ValidationError", "Stack with id s does not exist")
    assert refused(client.describe_stack_resources, StackName="s")[0] == "ValidationError"
    assert refused(client.describe_stack_events, StackName="s") == ("ValidationError", "Stack [s] does not exist")
    assert refused(client.update_stack, StackName="s", TemplateBody="{}")[1] == "Stack [s] does not exist"
    assert refused(client.detect_stack_drift, StackName="s")[0] == "InvalidAction"
    client.delete_stack(StackName="s")  # nothing to do
    stacks.change_set(of({"Log": LOG}))
    assert refused(client.describe_change_set, StackName="s", ChangeSetName="d")[0] == "ChangeSetNotFound"


def test_a_stack_that_cannot_begin_is_none(stacks):
    client, role = stacks.client, {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}}
    asked = {"StackName": "s", "TemplateBody": of({"Role": role})}
    wanted = ("InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]")
    assert refused(client.create_stack, **asked) == wanted
    assert refused(client.create_change_set, ChangeSetName="c", ChangeSetType="CREATE", **asked) == wanted
    assert "'stackName'" in refused(client.create_stack, StackName="a_b", TemplateBody=of({"Log": LOG}))[1]
    large = of({"Log": log(7, LogGroupName="x" * 60_000)})
    assert "'templateBody'" in refused(client.create_stack, StackName="s", TemplateBody=large)[1]
    vpc = of({"Log": LOG}, Parameters={"V": {"Type": "AWS::EC2::VPC::Id", "Default": "vpc-00000000"}})
    assert "parameter value vpc-00000000 for" in refused(client.create_stack, StackName="s", TemplateBody=vpc)[1]
    assert client.describe_stacks()["Stacks"] == []


def test_while_a_stack_is_being_made(stacks):
    client, template = stacks.client, of({"Log": LOG})
    rule = stacks.aws.faults.latency("logs", UNTIL_CLEARED_S, operation="CreateLogGroup")
    asked = {"StackName": "s", "TemplateBody": template}
    stack_id = client.create_stack(**asked, ClientRequestToken="t")["StackId"]
    assert client.create_stack(**asked, ClientRequestToken="t")["StackId"] == stack_id
    assert refused(client.create_stack, **asked) == ("AlreadyExistsException", "Stack [s] already exists")
    assert NO_UPDATE.format("CREATE_IN_PROGRESS") in refused(client.update_stack, **asked)[1]
    assert NO_UPDATE.format("CREATE_IN_PROGRESS") in refused(client.create_change_set, **asked, ChangeSetName="c")[1]
    assert (
        "cannot be created again"
        in refused(client.create_change_set, **asked, ChangeSetName="c", ChangeSetType="CREATE")[1]
    )
    assert "CancelUpdateStack" in refused(client.cancel_update_stack, StackName="s")[1]
    client.delete_stack(StackName="s")  # this is allowed: what is made is stopped, then removed
    stacks.aws.faults.clear(rule)
    assert stacks.wait(stack_id)["StackStatus"] == "DELETE_COMPLETE"
    assert stacks.resources(stack_id) == {}
    assert "CREATE_COMPLETE" not in [status for name, status in stacks.events(stack_id) if name == "s"]


def test_while_a_stack_is_being_updated_it_is_not_deleted_but_the_update_can_be_cancelled(stacks):
    stacks.create(of({"Log": log(7)}))
    rule = stacks.aws.faults.latency("logs", UNTIL_CLEARED_S, operation="PutRetentionPolicy", times=1)
    later = {"Other": {**LOG, "DependsOn": "Log"}}
    stacks.client.update_stack(StackName="s", TemplateBody=of({"Log": log(14), **later}))
    assert (
        "cannot be deleted while in status UPDATE_IN_PROGRESS" in refused(stacks.client.delete_stack, StackName="s")[1]
    )
    stacks.client.cancel_update_stack(StackName="s")
    stacks.aws.faults.clear(rule)
    assert stacks.wait("s")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert list(stacks.resources()) == ["Log"]


def test_a_stack_that_stands_still(stacks):
    client = stacks.client
    stacks.aws.faults.fail_resource("Log", stack="failed")
    failed = stacks.create(of({"Log": LOG}), "failed")
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    for act in (client.update_stack, lambda **asked: client.create_change_set(ChangeSetName="c", **asked)):
        code, message = refused(act, StackName="failed", TemplateBody=of({"Log": LOG}))
        assert (code, message) == (
            "ValidationError",
            f"Stack:{failed['StackId']} is in ROLLBACK_COMPLETE state and can not be updated.",
        )
    stacks.create(of({"Log": LOG}))
    assert refused(client.update_stack, StackName="s", TemplateBody=of({"Log": LOG})) == (
        "ValidationError",
        "No updates are to be performed.",
    )
    assert "not permitted" in refused(client.update_stack, StackName="s", TemplateBody=of({"Log": CLUSTER}))[1]
    assert "can not continue" in refused(client.continue_update_rollback, StackName="s")[1]
    assert "DELETE_FAILED" in refused(client.delete_stack, StackName="s", RetainResources=["Log"])[1]
    client.update_termination_protection(StackName="s", EnableTerminationProtection=True)
    assert "TerminationProtection" in refused(client.delete_stack, StackName="s")[1]


# --- change sets -------------------------------------------------------------------------------------


def test_a_change_set_makes_a_stack_and_another_one_changes_it(stacks):
    first = stacks.change_set(of({"Log": log(7), "Old": LOG, "Cluster": CLUSTER}))
    assert (first["Status"], first["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert {change["ResourceChange"]["Action"] for change in first["Changes"]} == {"Add"}
    review = stacks.client.describe_stacks(StackName="s")["Stacks"][0]
    assert (review["StackStatus"], stacks.events()) == ("REVIEW_IN_PROGRESS", [("s", "REVIEW_IN_PROGRESS")])
    assert stacks.execute(first)["StackStatus"] == "CREATE_COMPLETE"

    nothing = stacks.change_set(of({"Log": log(7), "Old": LOG, "Cluster": CLUSTER}), kind="UPDATE", change_set="n")
    assert (nothing["Status"], nothing["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert nothing["StatusReason"].startswith("The submitted information didn't contain changes.")
    assert (
        refused(stacks.client.execute_change_set, ChangeSetName=nothing["ChangeSetId"])[0] == "InvalidChangeSetStatus"
    )

    wanted = {
        "Log": log(14),
        "Cluster": {**CLUSTER, "Properties": {"ClusterName": "a-name"}},
        "New": log(7, Tags=[{"Key": "of", "Value": {"Ref": "Cluster"}}]),
    }
    second = stacks.change_set(of(wanted), kind="UPDATE", change_set="d")
    told = {}
    for change in (one["ResourceChange"] for one in second["Changes"]):
        told[change["LogicalResourceId"]] = (change["Action"], change.get("Replacement"), change["ResourceType"])
    assert told == {
        "Log": ("Modify", "False", "AWS::Logs::LogGroup"),
        "Cluster": ("Modify", "True", "AWS::ECS::Cluster"),
        "New": ("Add", None, "AWS::Logs::LogGroup"),
        "Old": ("Remove", None, "AWS::Logs::LogGroup"),
    }
    (detail,) = next(
        one["ResourceChange"]["Details"]
        for one in second["Changes"]
        if one["ResourceChange"]["LogicalResourceId"] == "Log"
    )
    assert detail["Target"] == {"Attribute": "Properties", "Name": "RetentionInDays", "RequiresRecreation": "Never"}
    assert stacks.execute(second)["StackStatus"] == "UPDATE_COMPLETE"
    assert stacks.resources()["Cluster"] == "a-name"
    assert set(stacks.resources()) == {"Log", "Cluster", "New"}
    again = stacks.client.describe_change_set(ChangeSetName=second["ChangeSetId"])
    assert again["ExecutionStatus"] == "EXECUTE_COMPLETE"
    assert len(stacks.client.list_change_sets(StackName="s")["Summaries"]) == 1  # others have become pointless


def test_what_depends_on_a_replaced_resource_changes_too(stacks):
    def template(name):
        policy = {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": {"Version": "2012-10-17", "Statement": []}}
        return of({"Bucket": bucket(name), "Policy": {"Type": "AWS::S3::BucketPolicy", "Properties": policy}})

    stacks.create(template("one-of-mine"))
    told = stacks.change_set(template("two-of-mine"), kind="UPDATE")
    found = [
        (one["ResourceChange"]["LogicalResourceId"], one["ResourceChange"]["Replacement"]) for one in told["Changes"]
    ]
    assert found == [("Bucket", "True"), ("Policy", "Conditional")]
    assert stacks.execute(told)["StackStatus"] == "UPDATE_COMPLETE"
    assert stacks.resources() == {"Bucket": "two-of-mine", "Policy": "two-of-mine"}


def test_a_change_set_can_be_deleted_and_its_stack_too(stacks):
    told = stacks.change_set(of({"Log": LOG}))
    stacks.client.delete_change_set(ChangeSetName="c", StackName="s")
    assert refused(stacks.client.execute_change_set, ChangeSetName=told["ChangeSetId"])[0] == "ChangeSetNotFound"
    assert stacks.delete()["StackStatus"] == "DELETE_COMPLETE"


def test_an_update_makes_change_sets_void_that_were_computed_before(stacks):
    stacks.create(of({"Log": log(7)}))
    told = stacks.change_set(of({"Log": log(14)}), kind="UPDATE")
    stacks.update(of({"Log": log(30)}))
    again = stacks.client.describe_change_set(ChangeSetName=told["ChangeSetId"])
    assert again["ExecutionStatus"] == "OBSOLETE"
    code, message = refused(stacks.client.execute_change_set, ChangeSetName=told["ChangeSetId"])
    assert (code, message.endswith("[OBSOLETE]")) == ("InvalidChangeSetStatus", True)


def test_a_stack_that_rolls_back_can_be_deleted_meanwhile(stacks):
    stacks.aws.faults.fail_resource("Cluster")
    rule = stacks.aws.faults.latency("logs", UNTIL_CLEARED_S, operation="DeleteLogGroup")
    template = of({"Log": LOG, "Cluster": {**CLUSTER, "DependsOn": "Log"}})
    stack_id = stacks.client.create_stack(StackName="s", TemplateBody=template)["StackId"]
    stacks.until(
        lambda: stacks.client.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"],
        lambda status: status == "ROLLBACK_IN_PROGRESS",
    )
    stacks.client.delete_stack(StackName="s")
    stacks.aws.faults.clear(rule)
    assert stacks.wait(stack_id)["StackStatus"] == "DELETE_COMPLETE"
    own = [status for name, status in stacks.events(stack_id) if name == "s"]
    assert own[-2:] == ["DELETE_IN_PROGRESS", "DELETE_COMPLETE"]


def test_many_changes_come_in_pages(stacks):
    template = of({f"Log{n}": LOG for n in range(130)})
    asked = {"StackName": "s", "ChangeSetName": "c", "ChangeSetType": "CREATE", "TemplateBody": template}
    stacks.client.create_change_set(**asked)
    first = stacks.client.describe_change_set(StackName="s", ChangeSetName="c")
    more = stacks.client.describe_change_set(StackName="s", ChangeSetName="c", NextToken=first["NextToken"])
    assert (len(first["Changes"]), len(more["Changes"]), "NextToken" in more) == (100, 30, False)


# --- failures ----------------------------------------------------------------------------------------


def test_a_resource_that_fails_takes_its_stack_back(stacks):
    stacks.aws.faults.fail_resource("Cluster", reason="no luck")
    resources = {"Log": LOG, "Cluster": {**CLUSTER, "DependsOn": "Log"}, "Late": {**LOG, "DependsOn": "Log"}}
    made = stacks.create(of(resources))
    assert made["StackStatus"] == "ROLLBACK_COMPLETE"
    assert stacks.reason("Cluster", "CREATE_FAILED") == "no luck"
    assert stacks.reason("Late", "CREATE_FAILED") == "Resource creation cancelled"
    reason = stacks.reason("s", "ROLLBACK_IN_PROGRESS")
    assert reason.startswith("The following resource(s) failed to create: [Cluster, Late]. ")
    assert stacks.events()[-3:] == [
        ("Log", "DELETE_IN_PROGRESS"),
        ("Log", "DELETE_COMPLETE"),
        ("s", "ROLLBACK_COMPLETE"),
    ]
    assert stacks.resources() == {}
    assert stacks.aws.faults.fired("fail_resource")[0]["logical_id"] == "Cluster"
    assert stacks.delete()["StackStatus"] == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("how", "then", "left"),
    [
        pytest.param({"OnFailure": "DO_NOTHING"}, "CREATE_FAILED", ["Log"], id="kept"),
        pytest.param({"DisableRollback": True}, "CREATE_FAILED", ["Log"], id="kept, in other words"),
        pytest.param({"OnFailure": "DELETE"}, "DELETE_COMPLETE", [], id="deleted"),
    ],
)
def test_what_becomes_of_a_stack_that_fails_can_be_chosen(stacks, how, then, left):
    stacks.aws.faults.fail_resource("Cluster")
    made = stacks.create(of({"Log": LOG, "Cluster": {**CLUSTER, "DependsOn": "Log"}}), **how)
    assert made["StackStatus"] == then
    there = {name for name, physical_id in stacks.resources(made["StackId"]).items() if physical_id}
    assert sorted(there) == left
    if left:
        stacks.client.rollback_stack(StackName="s")
        assert stacks.wait("s")["StackStatus"] == "ROLLBACK_COMPLETE"


def test_a_change_set_says_what_becomes_of_its_stack(stacks):
    stacks.aws.faults.fail_resource("Log")
    told = stacks.change_set(of({"Log": LOG}), OnStackFailure="DELETE")
    assert told["OnStackFailure"] == "DELETE"
    assert stacks.execute(told)["StackStatus"] == "DELETE_COMPLETE"


def test_what_a_service_refuses_is_the_reason(stacks):
    s3 = stacks.aws.session().client("s3")
    s3.create_bucket(Bucket="taken")
    stacks.aws.faults.foreign_bucket("of-others")
    container = {"Name": "c", "Image": "i"}
    odd = {"RequiresCompatibilities": ["FARGATE"], "NetworkMode": "awsvpc", "Cpu": "3", "Memory": "5"}
    for resource, words in (
        (bucket("taken"), ("already exists", "HandlerErrorCode: AlreadyExists)")),
        (bucket("of-others"), ("The requested bucket name is not available", "HandlerErrorCode: AlreadyExists)")),
        (
            {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [container], **odd}},
            ("No Fargate configuration exists", "(Service: Ecs, Status Code: 400", "HandlerErrorCode: InvalidRequest)"),
        ),
        ({**LOG, "Properties": {"Retention": 1}}, ("extraneous key [Retention] is not permitted",)),
        ({"Type": "AWS::S3::BucketPolicy"}, ("required key [Bucket] not found",)),
        (
            {"Type": "AWS::ECS::TaskDefinition", "Properties": {"ContainerDefinitions": [{"Nmae": "c"}]}},
            ("#/ContainerDefinitions/0: extraneous key [Nmae]",),
        ),
    ):
        assert stacks.create(of({"Thing": resource}))["StackStatus"] == "ROLLBACK_COMPLETE"
        reason = stacks.reason("Thing", "CREATE_FAILED")
        assert all(word in reason for word in words), reason
        if "HandlerErrorCode" in words[-1]:
            assert reason.startswith('Resource handler returned message: "')
        stacks.delete()


def test_a_bucket_of_somebody_else_is_closed(stacks):
    s3 = stacks.aws.session().client("s3")
    rule = stacks.aws.faults.foreign_bucket("of-others")
    for act in (s3.head_bucket, s3.list_objects_v2, s3.get_bucket_policy, s3.delete_bucket):
        with pytest.raises(ClientError) as error:
            act(Bucket="of-others", ExpectedBucketOwner="123456789012")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert refused(s3.get_object, Bucket="of-others", Key="k")[0] == "AccessDenied"
    assert refused(s3.create_bucket, Bucket="of-others")[0] == "BucketAlreadyExists"
    stacks.aws.faults.clear(rule)
    s3.create_bucket(Bucket="of-others")


def test_what_was_half_made_goes_with_the_roll_back(stacks):
    stacks.aws.faults.error("InvalidParameterException", "no", service="logs", operation="PutRetentionPolicy")
    assert stacks.create(of({"Log": log(7, LogGroupName="half")}))["StackStatus"] == "ROLLBACK_COMPLETE"
    groups = stacks.aws.session().client("logs").describe_log_groups(logGroupNamePrefix="half")["logGroups"]
    assert groups == []


def test_an_update_that_fails_brings_everything_back(stacks):
    stacks.create(of({"Log": log(7), "Cluster": CLUSTER}))
    before = stacks.resources()
    stacks.aws.faults.fail_resource("New", reason="no luck")
    wanted = {
        "Log": log(14),
        "Cluster": {**CLUSTER, "Properties": {"ClusterName": "other"}},
        "New": {**LOG, "DependsOn": ["Log", "Cluster"]},
    }
    assert stacks.update(of(wanted))["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert stacks.resources() == before
    groups = stacks.aws.session().client("logs").describe_log_groups(logGroupNamePrefix="s-Log")["logGroups"]
    assert groups[0]["retentionInDays"] == 7
    clusters = stacks.aws.session().client("ecs").describe_clusters(clusters=["other", before["Cluster"]])["clusters"]
    assert {one["clusterName"]: one["status"] for one in clusters if one["status"] == "ACTIVE"} == {
        before["Cluster"]: "ACTIVE"
    }
    own = [status for name, status in stacks.events() if name == "s"]
    assert own[2:] == [
        "UPDATE_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
    ]
    assert stacks.update(of(wanted))["StackStatus"] == "UPDATE_COMPLETE"  # the second time nothing fails


def test_a_roll_back_that_fails_can_be_continued(stacks):
    stacks.create(of({"Log": log(7)}))
    stacks.aws.faults.fail_resource("New")
    rule = stacks.aws.faults.fail_resource("Log", on="update", times=2)
    failed = stacks.update(of({"Log": log(14), "New": {**LOG, "DependsOn": "Log"}}))
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_FAILED"
    assert (
        NO_UPDATE.format("UPDATE_ROLLBACK_FAILED")
        in refused(stacks.client.update_stack, StackName="s", TemplateBody=of({"Log": LOG}))[1]
    )
    stacks.aws.faults.clear(rule)
    stacks.client.continue_update_rollback(StackName="s")
    assert stacks.wait("s")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert list(stacks.resources()) == ["Log"]


def test_an_update_that_fails_may_be_kept_and_rolled_back_later(stacks):
    stacks.create(of({"Log": log(7)}))
    stacks.aws.faults.fail_resource("New")
    wanted = of({"Log": log(14), "New": {**LOG, "DependsOn": "Log"}})
    assert stacks.update(wanted, DisableRollback=True)["StackStatus"] == "UPDATE_FAILED"
    stacks.client.rollback_stack(StackName="s")
    assert stacks.wait("s")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    groups = stacks.aws.session().client("logs").describe_log_groups(logGroupNamePrefix="s-Log")["logGroups"]
    assert groups[0]["retentionInDays"] == 7
    stacks.aws.faults.fail_resource("New")
    assert stacks.update(wanted, DisableRollback=True)["StackStatus"] == "UPDATE_FAILED"
    assert stacks.update(wanted)["StackStatus"] == "UPDATE_COMPLETE"  # or tried again


def test_what_has_a_name_of_its_own_is_not_replaced(stacks):
    stacks.create(of({"Log": log(7, LogGroupName="named")}))
    made = stacks.update(of({"Log": log(7, LogGroupName="named", LogGroupClass="INFREQUENT_ACCESS")}))
    assert made["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "Rename named and update the stack again" in stacks.reason("Log", "UPDATE_FAILED")


# --- deletion ----------------------------------------------------------------------------------------


def test_a_bucket_that_holds_something_stays_and_what_it_needs_too(stacks):
    s3 = stacks.aws.session().client("s3")
    stacks.create(of({"Bucket": bucket("full", DependsOn="Log"), "Log": LOG, "Cluster": CLUSTER}))
    s3.put_object(Bucket="full", Key="k", Body=b"")
    failed = stacks.delete()
    assert failed["StackStatus"] == "DELETE_FAILED"
    assert failed["StackStatusReason"] == "The following resource(s) failed to delete: [Bucket]. "
    assert "The bucket you tried to delete is not empty" in stacks.reason("Bucket", "DELETE_FAILED")
    assert set(stacks.resources()) == {"Bucket", "Log"}
    assert (
        NO_UPDATE.format("DELETE_FAILED")
        in refused(stacks.client.update_stack, StackName="s", TemplateBody=of({"Log": LOG}))[1]
    )
    assert stacks.delete(RetainResources=["Bucket"])["StackStatus"] == "DELETE_COMPLETE"
    assert s3.head_bucket(Bucket="full")


def test_what_is_to_be_retained_stays(stacks):
    s3 = stacks.aws.session().client("s3")
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    stacks.create(of({"Bucket": bucket("kept-one", **kept), "Log": LOG}))
    assert stacks.update(of({"Bucket": bucket("kept-two", **kept), "Log": LOG}))["StackStatus"] == "UPDATE_COMPLETE"
    made = stacks.delete()
    assert made["StackStatus"] == "DELETE_COMPLETE"
    assert [name for name, status in stacks.events(made["StackId"]) if status == "DELETE_SKIPPED"] == ["Bucket"] * 2
    assert s3.head_bucket(Bucket="kept-one")
    assert s3.head_bucket(Bucket="kept-two")


def test_what_somebody_else_has_removed_is_no_trouble(stacks):
    stacks.create(of({"Bucket": bucket("gone")}))
    stacks.aws.session().client("s3").delete_bucket(Bucket="gone")
    assert stacks.delete()["StackStatus"] == "DELETE_COMPLETE"


def test_reset_forgets_stacks_even_those_at_work(stacks):
    pocket = stacks.aws
    pocket.faults.latency("logs", 0.2, operation="CreateLogGroup")
    later = {f"Log{n}": {**LOG, "DependsOn": f"Log{n - 1}"} for n in range(1, 9)}
    stacks.client.create_stack(StackName="s", TemplateBody=of({"Log0": LOG, **later}))
    pocket.reset()
    assert pocket.stacks() == []
    groups = pocket.session().client("logs").describe_log_groups(logGroupNamePrefix="s-Log")["logGroups"]
    assert groups == []


def test_a_template_of_json_may_be_given_as_yaml(stacks):
    text = "Resources:\n  Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: !Sub '${AWS::StackName}-b'}}\n"
    assert stacks.create(text)["StackStatus"] == "CREATE_COMPLETE"
    assert stacks.resources() == {"Bucket": "s-b"}
