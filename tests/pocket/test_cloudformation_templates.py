"""Templates as CloudFormation reads them: functions, parameters, conditions, references, and what it refuses. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.testing.pocket.server.cloudformation.intrinsics import NO_VALUE, Scope, evaluate_conditions, resolve
from cloudexec.testing.pocket.server.cloudformation.model import levels_of, model_of
from cloudexec.testing.pocket.server.cloudformation.parameters import declared, values_of
from cloudexec.testing.pocket.server.cloudformation.reading import read_template
from cloudexec.testing.pocket.server.cloudformation.resources import KINDS
from cloudexec.testing.pocket.server.cloudformation.template import check_capabilities, parse
from cloudexec.testing.pocket.server.requests import Refusal
from tests.pocket.stacks import BUCKET, of

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012", "AWS::StackName": "a-stack"}
SCOPE = Scope(
    parameters={"Name": "red", "Count": "3", "Zones": ["a", "b", "c"]},
    conditions={"IsRed": True, "IsBlue": False},
    mappings={"Sizes": {"eu-west-1": {"small": "1", "steps": ["x", "y"]}}},
    pseudo=PSEUDO,
    reference=lambda name: f"id-of-{name}",
    attribute=lambda name, attribute: f"{attribute}-of-{name}",
    zones=lambda region: [f"{region}a", f"{region}b"],
)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        pytest.param({"Ref": "Name"}, "red", id="a parameter"),
        pytest.param({"Ref": "Zones"}, ["a", "b", "c"], id="a list"),
        pytest.param({"Ref": "Bucket"}, "id-of-Bucket", id="a resource"),
        pytest.param({"Ref": "AWS::Region"}, "eu-west-1", id="a pseudo parameter"),
        pytest.param({"Fn::GetAtt": ["Bucket", "Arn"]}, "Arn-of-Bucket", id="an attribute"),
        pytest.param({"Fn::GetAtt": "Bucket.Arn"}, "Arn-of-Bucket", id="an attribute as text"),
        pytest.param({"Fn::Sub": "${Name}-${Bucket}-${Bucket.Arn}"}, "red-id-of-Bucket-Arn-of-Bucket", id="Sub"),
        pytest.param({"Fn::Sub": "${!Name} ${AWS::StackName}"}, "${Name} a-stack", id="Sub, with a literal"),
        pytest.param({"Fn::Sub": ["${Name}/${X}", {"X": {"Ref": "Count"}}]}, "red/3", id="Sub with a map"),
        pytest.param({"Fn::Sub": ["${Name}", {"Name": "own"}]}, "own", id="Sub's map comes first"),
        pytest.param({"Fn::Join": ["-", ["a", {"Ref": "Count"}, True, 7]]}, "a-3-true-7", id="Join"),
        pytest.param({"Fn::Join": [",", {"Ref": "Zones"}]}, "a,b,c", id="Join of a list parameter"),
        pytest.param({"Fn::Join": [",", ["a", {"Ref": "AWS::NoValue"}]]}, "a", id="Join without what is no value"),
        pytest.param({"Fn::Select": [1, {"Ref": "Zones"}]}, "b", id="Select"),
        pytest.param({"Fn::Select": ["0", {"Fn::Split": [".", "x.y"]}]}, "x", id="Select of a Split"),
        pytest.param({"Fn::Split": [",", "a,b"]}, ["a", "b"], id="Split"),
        pytest.param({"Fn::GetAZs": ""}, ["eu-west-1a", "eu-west-1b"], id="zones here"),
        pytest.param({"Fn::GetAZs": "us-east-1"}, ["us-east-1a", "us-east-1b"], id="zones there"),
        pytest.param({"Fn::If": ["IsRed", "yes", "no"]}, "yes", id="If"),
        pytest.param({"A": {"Fn::If": ["IsBlue", 1, {"Ref": "AWS::NoValue"}]}, "B": 2}, {"B": 2}, id="no value"),
        pytest.param({"Ref": "AWS::NoValue"}, NO_VALUE, id="no value alone"),
        pytest.param({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "small"]}, "1", id="FindInMap"),
        pytest.param({"Fn::FindInMap": ["Sizes", "eu-west-1", "steps"]}, ["x", "y"], id="FindInMap of a list"),
        pytest.param({"Fn::Base64": "hello"}, "aGVsbG8=", id="Base64"),
        pytest.param({"Fn::Cidr": ["10.0.0.0/16", 2, 8]}, ["10.0.0.0/24", "10.0.1.0/24"], id="Cidr"),
        pytest.param({"Statement": [{"Ref": "Name"}, 1]}, {"Statement": ["red", 1]}, id="inside of data"),
    ],
)
def test_a_function_means(written, means):
    assert resolve(written, SCOPE) == means


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param({"Fn::Select": [3, {"Ref": "Zones"}]}, "cannot select nonexistent value at index 3", id="Select"),
        pytest.param({"Fn::Join": ["-", "abc"]}, "every Fn::Join object requires two parameters", id="Join"),
        pytest.param({"Fn::FindInMap": ["Sizes", "x", "y"]}, "Unable to get mapping for Sizes::x::y", id="FindInMap"),
        pytest.param({"Fn::Sub": "${Na me}"}, "variable names in Fn::Sub syntax", id="Sub"),
        pytest.param({"Fn::Sub": "${Zones}"}, "does not resolve to a string", id="Sub of a list"),
        pytest.param({"Fn::Rot13": "x"}, "Encountered unsupported function: Fn::Rot13", id="unknown"),
        pytest.param({"Fn::GetAtt": ["Bucket"]}, "every Fn::GetAtt object requires two", id="GetAtt"),
        pytest.param({"Fn::If": ["IsGreen", 1, 2]}, "Unresolved condition dependency IsGreen", id="If"),
    ],
)
def test_a_function_is_refused(written, words):
    with pytest.raises(Refusal, match=words) as refused:
        resolve(written, SCOPE)
    assert refused.value.code == "ValidationError"


CONDITIONS = {
    "IsBig": {"Fn::Equals": [{"Ref": "Count"}, "3"]},
    "IsRed": {"Fn::Equals": [{"Ref": "Name"}, {"Fn::Sub": "${Name}"}]},
    "IsSmall": {"Fn::Not": [{"Condition": "IsBig"}]},
    "Both": {"Fn::And": [{"Condition": "IsBig"}, {"Condition": "IsRed"}]},
    "One": {"Fn::Or": [{"Condition": "IsSmall"}, {"Fn::Equals": [1, 1]}]},
}


def test_conditions_are_made_of_parameters_and_of_each_other():
    found = evaluate_conditions(CONDITIONS, SCOPE.parameters, {}, PSEUDO)
    assert found == {"IsBig": True, "IsRed": True, "IsSmall": False, "Both": True, "One": True}


@pytest.mark.parametrize(
    "written",
    [
        pytest.param({"A": {"Condition": "B"}, "B": {"Condition": "A"}}, id="a circle"),
        pytest.param({"A": {"Condition": "C"}}, id="one that is not there"),
        pytest.param({"A": {"Fn::Equals": [{"Ref": "Bucket"}, ""]}}, id="a resource"),
        pytest.param({"A": {"Fn::Join": ["", []]}}, id="not a condition"),
        pytest.param({"A": "true"}, id="a word"),
    ],
)
def test_a_condition_is_refused(written):
    with pytest.raises(Refusal):
        evaluate_conditions(written, {}, {}, PSEUDO)


YAML = """
AWSTemplateFormatVersion: 2010-09-09
Conditions: {C: !Not [!Equals [a, b]]}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !Sub "${A}-x"
      Tags: [{Key: a, Value: !GetAtt Other.Arn}, {Key: b, Value: !If [C, !Ref A, !Select [0, !GetAZs ""]]}]
"""


def test_short_tags_are_functions_and_dates_are_text():
    read = read_template(YAML)
    assert read["AWSTemplateFormatVersion"] == "2010-09-09"
    assert read["Conditions"] == {"C": {"Fn::Not": [{"Fn::Equals": ["a", "b"]}]}}
    properties = read["Resources"]["Bucket"]["Properties"]
    assert properties["BucketName"] == {"Fn::Sub": "${A}-x"}
    assert properties["Tags"][0]["Value"] == {"Fn::GetAtt": ["Other", "Arn"]}
    zones = {"Fn::Select": [0, {"Fn::GetAZs": ""}]}
    assert properties["Tags"][1]["Value"] == {"Fn::If": ["C", {"Ref": "A"}, zones]}


# --- parameters --------------------------------------------------------------------------------------

NUMBER = {"Type": "Number", "MinValue": 2, "MaxValue": 4}


@pytest.mark.parametrize(
    ("said", "given", "previous", "then"),
    [
        pytest.param({"Type": "String", "Default": 5}, [], {}, "5", id="the default"),
        pytest.param({"Type": "String"}, [("P", "x")], {}, "x", id="what is given"),
        pytest.param({"Type": "String", "Default": "d"}, [("P", None)], {"P": "old"}, "old", id="the previous value"),
        pytest.param({"Type": "String", "Default": "d"}, [], {"P": "old"}, "d", id="not named: the default again"),
        pytest.param(NUMBER, [("P", "3")], {}, "3", id="a number"),
        pytest.param({"Type": "List<Number>"}, [("P", "1, 2")], {}, "1, 2", id="numbers"),
        pytest.param({"Type": "AWS::EC2::VPC::Id"}, [("P", "vpc-1")], {}, "vpc-1", id="a VPC"),
        pytest.param({"Type": "String"}, [], {}, r"Parameters: \[P\] must have values", id="missing"),
        pytest.param({"Type": "String"}, [("Q", "x")], {}, r"Parameters: \[Q\] do not exist", id="unknown"),
        pytest.param({"Type": "String"}, [("P", None)], {}, "not in the previous template", id="no previous value"),
        pytest.param({"Type": "String", "AllowedValues": ["a"]}, [("P", "b")], {}, "one of AllowedValues", id="values"),
        pytest.param({"Type": "String", "AllowedPattern": "a+"}, [("P", "ab")], {}, "must match pattern", id="pattern"),
        pytest.param({"Type": "String", "MinLength": 2}, [("P", "b")], {}, "at least 2 characters", id="too short"),
        pytest.param({"Type": "String", "MaxLength": 2}, [("P", "bbb")], {}, "at most 2 characters", id="too long"),
        pytest.param(NUMBER, [("P", "1")], {}, "not less than 2", id="too small"),
        pytest.param(NUMBER, [("P", "5")], {}, "not greater than 4", id="too big"),
        pytest.param(NUMBER, [("P", "many")], {}, "must be a number", id="no number"),
        pytest.param({"Type": "List<Number>"}, [("P", "1,x")], {}, "must be a number", id="no numbers"),
        pytest.param({"Type": "Blob"}, [], {}, "Unrecognized parameter type", id="unknown type"),
        pytest.param({}, [], {}, "must contain a Type member", id="no type"),
    ],
)
def test_a_parameter_has_or_is_refused(said, given, previous, then):
    def found():
        wanted = [
            {"ParameterKey": name, "UsePreviousValue": True}
            if value is None
            else {"ParameterKey": name, "ParameterValue": value}
            for name, value in given
        ]
        return values_of({"P": declared("P", said)}, wanted, previous)["P"]

    if " " in then and then != "1, 2":
        with pytest.raises(Refusal, match=then):
            found()
    else:
        assert found() == then


# --- templates ---------------------------------------------------------------------------------------

ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", r"JSON not well-formed. \(line 1, column 2\)", id="not JSON"),
        pytest.param("a: [", r"YAML not well-formed. \(line 1, column 5\)", id="not YAML"),
        pytest.param("[]", "unsupported structure", id="no map"),
        pytest.param("{}", "At least one Resources member must be defined", id="no resources"),
        pytest.param(of({"A": BUCKET}, Outpust={}), r"Invalid template property or properties \[Outpust\]", id="typo"),
        pytest.param(of({"A-B": BUCKET}), "Resource name A-B is non alphanumeric", id="a resource's name"),
        pytest.param(of({"A": {}}), "Every Resources object must contain a Type member", id="no type"),
        pytest.param(
            of({"A": {"Type": "AWS::Foo::Bar"}}), r"Unrecognized resource types: \[AWS::Foo::Bar\]", id="unknown type"
        ),
        pytest.param(of({"A": {**BUCKET, "Foo": 1}}), "Invalid template resource property 'Foo'", id="unknown member"),
        pytest.param(
            of({"A": {**BUCKET, "Properties": {"BucketName": {"Ref": "B"}}}}),
            r"Unresolved resource dependencies \[B\] in the Resources block of the template",
            id="a reference to nothing",
        ),
        pytest.param(
            of({"A": BUCKET}, Outputs={"O": {"Value": {"Ref": "B"}}}),
            r"Unresolved resource dependencies \[B\] in the Outputs block of the template",
            id="an output of nothing",
        ),
        pytest.param(
            of({"A": {**BUCKET, "DependsOn": "B"}}), r"Unresolved resource dependencies \[B\]", id="depends on nothing"
        ),
        pytest.param(
            of({"A": BUCKET}, Outputs={"O": {"Value": {"Fn::GetAtt": ["B", "Arn"]}}}),
            "Fn::GetAtt references undefined resource B",
            id="an attribute of nothing",
        ),
        pytest.param(
            of({"A": BUCKET}, Outputs={"O": {"Value": {"Fn::Sub": "${A.Size}"}}}),
            "resource A does not support attribute type Size in Fn::GetAtt",
            id="no such attribute",
        ),
        pytest.param(of({"A": {**BUCKET, "Condition": "C"}}), "Unresolved condition dependency C", id="no condition"),
        pytest.param(of({"A": BUCKET}, Transform="X"), "knows no Transform", id="a transform"),
        pytest.param(of({"A": {**BUCKET, "DeletionPolicy": "Keep"}}), "Unrecognized DeletionPolicy Keep", id="policy"),
        pytest.param(of({"A": BUCKET}, Outputs={"O": {}}), "must contain a Value", id="an output without a value"),
    ],
)
def test_a_template_is_refused(text, words):
    with pytest.raises(Refusal, match=words) as refused:
        parse(text, KINDS)
    assert refused.value.code == "ValidationError"


def modelled(text, **parameters):
    template = parse(text, KINDS)
    return model_of(template, parameters, {}, PSEUDO, lambda region: [])


def test_what_another_refers_to_is_made_first():
    resources = {
        "Policy": {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": {}}},
        "Bucket": {**BUCKET, "DependsOn": ["Log"]},
        "Log": {"Type": "AWS::Logs::LogGroup"},
        "Role": {**ROLE, "Properties": {"Description": {"Fn::Sub": "for ${Bucket.Arn}"}}},
    }
    assert modelled(of(resources)).levels == (("Log",), ("Bucket",), ("Policy", "Role"))


def test_a_circle_is_refused():
    with pytest.raises(Refusal, match=r"Circular dependency between resources: \[A, B\]"):
        modelled(of({"A": {**BUCKET, "DependsOn": "B"}, "B": {**BUCKET, "DependsOn": "A"}}))


def test_what_an_unmet_condition_leaves_out_is_neither_made_nor_waited_for():
    text = of(
        {
            "A": {**BUCKET, "Condition": "C"},
            "B": {**BUCKET, "DependsOn": "A", "Properties": {"BucketName": {"Fn::If": ["C", {"Ref": "A"}, "b"]}}},
        },
        Conditions={"C": {"Fn::Equals": ["a", "b"]}},
        Outputs={"A": {"Value": {"Ref": "A"}, "Condition": "C"}, "B": {"Value": {"Ref": "B"}}},
    )
    model = modelled(text)
    assert (list(model.resources), model.depends) == (["B"], {"B": ()})
    assert model.outputs(lambda name: "id", lambda name, attribute: "") == [{"OutputKey": "B", "OutputValue": "id"}]


def test_a_reference_to_what_a_condition_leaves_out_is_refused():
    resources = {"A": {**BUCKET, "Condition": "C"}, "B": {**BUCKET, "Properties": {"BucketName": {"Ref": "A"}}}}
    with pytest.raises(Refusal, match=r"Unresolved resource dependencies \[A\]"):
        modelled(of(resources, Conditions={"C": {"Fn::Equals": ["a", "b"]}}))


@pytest.mark.parametrize(
    ("resource", "given", "is_enough"),
    [
        pytest.param(BUCKET, [], True, id="a bucket needs none"),
        pytest.param(ROLE, [], False, id="a role"),
        pytest.param(ROLE, ["CAPABILITY_IAM"], True, id="a role, allowed"),
        pytest.param(ROLE, ["CAPABILITY_NAMED_IAM"], True, id="more than a role needs"),
        pytest.param({**ROLE, "Properties": {"RoleName": "r"}}, ["CAPABILITY_IAM"], False, id="a role with a name"),
        pytest.param({**ROLE, "Properties": {"RoleName": "r"}}, ["CAPABILITY_NAMED_IAM"], True, id="allowed, too"),
    ],
)
def test_capabilities(resource, given, is_enough):
    assert check_capabilities(parse(of({"A": resource}), KINDS), given) == is_enough


GRAPHS = st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 9)), max_size=10).map(
    lambda graph: {f"N{n}": tuple(f"N{m}" for m in others if m < n and m in graph) for n, others in graph.items()}
)


@given(GRAPHS)
def test_levels_hold_everything_once_and_after_what_it_needs(graph):
    levels = levels_of(graph)
    place = {name: number for number, level in enumerate(levels) for name in level}
    assert sorted(place) == sorted(graph)
    assert sum(map(len, levels)) == len(graph)
    assert all(place[other] < place[name] for name, others in graph.items() for other in others)


SCALARS = st.text(max_size=8) | st.integers() | st.booleans()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_data_without_functions_means_itself(value):
    assert resolve({"Data": value, "More": 1}, SCOPE) == {"Data": value, "More": 1}


@given(st.lists(st.text(alphabet="abc", max_size=4), min_size=1, max_size=6))
def test_what_is_joined_can_be_split(words):
    joined = {"Fn::Join": ["|", words]}
    assert resolve({"Fn::Split": ["|", joined]}, SCOPE) == words
