"""The template, in every combination of options: valid, small, with the rights of the table and no others."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.names import in_template
from cloudexec.infra.permissions.grants import Part, Who
from cloudexec.infra.permissions.render import grants_of, in_cloudformation, policy
from cloudexec.infra.stack.holders import OWN
from cloudexec.infra.template.build import as_json, as_yaml, template
from cloudexec.infra.template.options import StackOptions

PARTS = [(True, True), (True, False), (False, True)]
ALL = [
    StackOptions(ecs=ecs, function=function, network=network, builds=builds, python="3.13")
    for (ecs, function), network, builds in itertools.product(PARTS, ["default", "new", "given"], [False, True])
]
MOST_BYTES = 51_200  # of a template in a request
# Where a policy of somebody stands: the logical id, the type.
PLACES = {
    Who.CLIENT: "ClientPolicy",
    Who.TASK: "TaskRole",
    Who.FUNCTION: "FunctionRole",
    Who.EXECUTION: "ExecutionRole",
    Who.JOBS: "JobsPolicy",
    Who.BUILD: "BuildRole",
}
EVERYTHING = StackOptions(builds=True, network="new")
# E3005: DependsOn of a resource with a condition is void where that is not made, as is meant.
# W1030: BundleKey is empty before the code is there, and so is not used then.
MEANT = {("E3005", "'FunctionPermission' will not exist"), ("W1030", "BundleKey")}


def named(options: StackOptions) -> str:
    parts = "+".join(name for name, has in (("ecs", options.ecs), ("lambda", options.function)) if has)
    return f"{parts} {options.network}{' builds' if options.builds else ''}"


# `given` makes the same as `default`, and without ECS there is no network.
LINTED = [each for each in ALL if each.network != "given" and (each.ecs or each.network == "default")]


def test_a_network_that_is_given_needs_nothing_else_than_the_default_one():
    one, other = (template(StackOptions(network=network)) for network in ("default", "given"))
    assert {**one, "Metadata": None} == {**other, "Metadata": None}


@pytest.mark.parametrize("options", LINTED, ids=named)
def test_cfn_lint_has_nothing_to_say(options: StackOptions):
    from cfnlint.api import lint
    from cfnlint.config import ManualArgs

    found = lint(as_json(template(options)), config=ManualArgs(regions=["us-east-1"]))
    said = [(each.rule.id, each.message) for each in found]
    assert [each for each in said if not any(each[0] == rule and word in each[1] for rule, word in MEANT)] == []


@pytest.mark.parametrize("options", ALL, ids=named)
def test_it_fits_into_a_request_and_refers_to_what_is_in_it(options: StackOptions):
    document = template(options)
    text = as_json(document)
    assert len(text.encode()) < MOST_BYTES
    known = {*document["Resources"], *document["Parameters"]}
    said = {name for name in re.findall(r'"Ref":"([^"]+)"|\$\{(\w+)[}.]|"GetAtt":\["(\w+)"', text) for name in name}
    assert {name for name in said if name and not name.startswith("AWS::")} <= known
    assert set(re.findall(r'"Condition":"(\w+)"', text)) <= set(document["Conditions"])
    assert set(document["Parameters"]) == {
        name
        for name in document["Parameters"]
        if f'"{name}"' in text.replace(f'"{name}":{{', "", 1) or f"${{{name}}}" in text
    }


@pytest.mark.parametrize("options", ALL, ids=named)
def test_options_come_back_from_it(options: StackOptions):
    assert StackOptions.from_metadata(template(options)["Metadata"]["cloudexec"]) == options


def test_the_written_forms_say_the_same():
    import yaml

    document = template(EVERYTHING)
    assert yaml.safe_load(as_yaml(document)) == json.loads(as_json(document)) == document
    assert "&id" not in as_yaml(document)  # nothing that only a parser can follow


def statements(document: dict[str, Any], logical_id: str) -> list[dict[str, Any]]:
    properties = document["Resources"][logical_id]["Properties"]
    if "PolicyDocument" in properties:
        return list(properties["PolicyDocument"]["Statement"])
    return [each for one in properties["Policies"] for each in one["PolicyDocument"]["Statement"]]


@pytest.mark.parametrize("who", PLACES, ids=lambda who: who.value)
def test_everybodys_rights_are_those_of_the_table(who: Who):
    document = template(EVERYTHING)
    parts = [Part.ECS, Part.LAMBDA] if who is Who.CLIENT else tuple(Part)
    wanted = in_cloudformation(policy(who, in_template(), parts))["Statement"]
    assert wanted
    assert statements(document, PLACES[who]) == wanted
    assert len(wanted) == len(grants_of(who, parts))


def test_no_other_rights_are_given():
    document = template(EVERYTHING)
    with_rights = {
        name
        for name, each in document["Resources"].items()
        if each["Type"] in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
    }
    assert with_rights == set(PLACES.values())
    for name in with_rights:
        assert "ManagedPolicyArns" not in document["Resources"][name]["Properties"]


def actions(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])


def all_statements(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in PLACES.values():
        for statement in statements(document, name):
            yield name, statement


def test_no_right_is_a_wildcard():
    for name, statement in all_statements(template(EVERYTHING)):
        assert statement["Effect"] == "Allow", name
        assert not [each for each in actions(statement) if "*" in each], name
        assert "NotAction" not in statement
        assert "NotResource" not in statement


def test_what_changes_something_names_what():
    """Everything with `*` as its resource only looks, hands out a login, or has a condition."""
    looks = re.compile(r"\w+:(Describe|List|Get)\w+")
    for name, statement in all_statements(template(EVERYTHING)):
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if "*" in resources and not statement.get("Condition"):
            # ECS cannot restrict the making of a definition; what it may hold, iam:PassRole does.
            changing = [each for each in actions(statement) if not looks.fullmatch(each)]
            assert set(changing) <= {"ecs:RegisterTaskDefinition"}, name


@pytest.mark.parametrize(
    ("role", "service", "is_of_this_account"),
    [
        ("TaskRole", "ecs-tasks.amazonaws.com", True),
        ("ExecutionRole", "ecs-tasks.amazonaws.com", True),
        ("BuildRole", "codebuild.amazonaws.com", True),
        # Lambda's own documentation has no condition here: the function names its role, and iam:PassRole guards that.
        ("FunctionRole", "lambda.amazonaws.com", False),
    ],
)
def test_a_role_is_taken_by_its_service_alone(role: str, service: str, is_of_this_account: bool):
    (statement,) = template(EVERYTHING)["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": service}
    assert statement["Action"] == "sts:AssumeRole"
    assert ("Condition" in statement) == is_of_this_account


def test_images_are_pulled_by_functions_of_the_stack_alone():
    """By the key that Lambda writes itself where a repository has no policy; it is not known to send another one."""
    (statement,) = template(EVERYTHING)["Resources"]["Repository"]["Properties"]["RepositoryPolicyText"]["Statement"]
    functions = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-*"
    assert statement["Condition"] == {"StringLike": {"aws:SourceArn": {"Fn::Sub": functions}}}


def test_down_knows_which_policies_roles_have_by_themselves():
    properties = [each["Properties"] for each in template(EVERYTHING)["Resources"].values() if "Properties" in each]
    assert {each["PolicyName"] for one in properties for each in one.get("Policies", [])} == OWN


@pytest.mark.parametrize(
    ("name", "is_fine"), [("mine-123456789012-eu-west-1", True), ("my.bucket", False), ("Mine", False), ("-x-", False)]
)
def test_a_buckets_name_fits_into_the_certificate_of_s3(name: str, is_fine: bool):
    pattern = template(EVERYTHING)["Parameters"]["BucketName"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, name)) == is_fine


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        ("ClientPolicy", "Description", "For whoever creates executors"),
        ("JobsPolicy", "Description", "For whoever only puts jobs into the bucket, in any language"),
        ("SecurityGroup", "GroupDescription", "Workers of cloudexec: nothing comes in"),
    ],
)
def test_texts_whose_change_would_make_another_resource_stay(name: str, key: str, text: str):
    """Of these types a description cannot be changed: others have the policy attached, and tasks are in the group."""
    assert template(EVERYTHING)["Resources"][name]["Properties"][key] == text


def test_the_bucket_is_closed():
    resources = template(EVERYTHING)["Resources"]
    properties = resources["Bucket"]["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert properties["BucketEncryption"]
    (only,) = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (only["Effect"], only["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_code_is_never_expired_and_what_runs_leave_behind_is():
    rules = template(EVERYTHING)["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    below = [rule["Prefix"] for rule in rules if "ExpirationInDays" in rule]
    assert not [prefix for prefix in below if "code/".startswith(prefix) or prefix.startswith("code/")]
    assert {"cloudexec/runs/", "cloudexec/summaries/"} <= set(below)


def test_no_secret_is_in_it():
    document = template(EVERYTHING)
    worker = document["Resources"]["Worker"]["Properties"]["ContainerDefinitions"][0]
    assert worker["EntryPoint"]["Fn::If"][2][:2] == ["python", "-c"]
    worker["EntryPoint"] = []  # a program that reads its role's credentials: it names the variables
    assert not re.search(r"AKIA|secret|password|BEGIN [A-Z ]*KEY|NoEcho", as_json(document), re.IGNORECASE)


def test_nobody_is_let_in_from_the_network():
    group = template(EVERYTHING)["Resources"]["SecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group


@pytest.mark.parametrize("options", ALL, ids=named)
def test_nothing_outlives_the_stack(options: StackOptions):
    resources = template(options)["Resources"]
    assert not [name for name, each in resources.items() if "DeletionPolicy" in each or "UpdateReplacePolicy" in each]
    assert resources["Repository"]["Properties"]["EmptyOnDelete"] is True


def test_a_stack_of_nothing_is_refused():
    with pytest.raises(SettingsError, match="--only"):
        StackOptions(ecs=False, function=False)
    with pytest.raises(SettingsError, match="default, new or given"):
        StackOptions(network="vpc-1")
