"""What is asked for, and what there is, decide together; what is not asked for stays."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from cloudexec.errors import SettingsError
from cloudexec.infra.stack.code import CodeRecord, read_record
from cloudexec.infra.stack.look import StackState
from cloudexec.infra.stack.network import Network
from cloudexec.infra.stack.wish import (
    THIS_PYTHON,
    Wish,
    check_parameters,
    needs_bundle,
    needs_bundle_for_function,
    options_of,
    order_of,
    parameters_of,
    values_of,
)
from cloudexec.infra.template.build import template
from cloudexec.infra.template.options import StackOptions

BEFORE = StackOptions(function=False, network="new", builds=True, python="3.11")
RECORD = CodeRecord(
    key="code/ab.zip", fingerprint="f", packages=("numpy",), requirements="six\n", python="3.11", arch="arm64"
)


def test_a_new_stack_has_everything_for_this_python():
    assert options_of(Wish(), None) == StackOptions(python=THIS_PYTHON)


@pytest.mark.parametrize(
    ("wish", "changed"),
    [
        (Wish(), {}),
        (Wish(only="both"), {"function": True}),
        (Wish(only="lambda"), {"ecs": False, "function": True}),
        (Wish(network=Network(kind="given", vpc="vpc-1")), {"network": "given"}),
        (Wish(builds=False), {"builds": False}),
        (Wish(python="3.13"), {"python": "3.13"}),
    ],
)
def test_what_is_not_asked_for_stays(wish: Wish, changed: dict[str, object]):
    assert options_of(wish, BEFORE) == replace(BEFORE, **changed)  # type: ignore[arg-type]  # of the table


def test_packages_are_remembered_until_others_are_named():
    kept = order_of(Wish(), BEFORE, RECORD, "arm64")
    assert (kept.packages, kept.requirements, kept.python, kept.arch) == (("numpy",), "six\n", "3.11", "arm64")
    assert order_of(Wish(packages=("scipy",)), BEFORE, RECORD, "arm64").packages == ("scipy",)
    assert order_of(Wish(packages=(), requirements=""), BEFORE, RECORD, "arm64").requirements == ""
    assert order_of(Wish(), BEFORE, None, "arm64").packages == ()


def test_parameters_keep_their_values_unless_they_are_given():
    document = template(StackOptions())
    state = StackState(name="a", status="CREATE_COMPLETE", parameters={"LogDays": "3", "RunDays": "9", "Gone": "1"})
    chosen = parameters_of(document, {"RunDays": "5"}, state)
    assert chosen == {"LogDays": None, "RunDays": "5"}  # None: UsePreviousValue
    values = values_of(document, chosen, state)
    assert (values["LogDays"], values["RunDays"], values["SummaryDays"]) == ("3", "5", "90")


def test_a_new_stack_keeps_nothing():
    state = StackState(name="a", status="REVIEW_IN_PROGRESS", parameters={"LogDays": "3"})
    assert parameters_of(template(StackOptions()), {"BucketName": "b"}, state) == {"BucketName": "b"}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("LogDay", "'LogDays'"),
        ("Xyz", "names are .*WorkerMemory"),
        ("Subnets", "give --network"),
        ("BundleKey", "give --packages"),
        ("Architecture", "give --arch"),
    ],
)
def test_a_parameter_that_is_none(name: str, remedy: str):
    with pytest.raises(SettingsError, match=remedy):
        check_parameters({name: "1"}, template(StackOptions()))


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("LogDays", "17", "give one of 1, 3, 5, 7, 14,"),
        ("LogDays", "soon", "give one of"),
        ("LogDays", "14", ""),
        ("FunctionTimeout", "901", "give a number from 1 to 900"),
        ("FunctionTimeout", "", "give a number from 1 to 900"),
        ("FunctionTimeout", "1m", "give a number from 1 to 900"),
        ("FunctionTimeout", "900", ""),
        ("WorkerImage", "anything", ""),
    ],
)
def test_what_a_parameter_does_not_take(name: str, value: str, remedy: str):
    """CloudFormation alone would say no, and not what it takes."""
    refused = pytest.raises(SettingsError, match=f"{name}={value} .*{remedy}")
    with refused if remedy else nullcontext():
        check_parameters({name: value}, template(StackOptions()))


@pytest.mark.parametrize(
    ("options", "images", "is_needed", "for_function"),
    [
        (StackOptions(), {}, True, True),
        (StackOptions(), {"WorkerImage": "w"}, True, True),
        (StackOptions(), {"FunctionImage": "f"}, True, False),
        (StackOptions(), {"WorkerImage": "w", "FunctionImage": "f"}, False, False),
        (StackOptions(ecs=False), {"FunctionImage": "f"}, False, False),
        (StackOptions(function=False), {}, True, False),
    ],
)
def test_who_has_images_needs_no_code(
    options: StackOptions, images: dict[str, str], is_needed: bool, for_function: bool
):
    assert needs_bundle(options, images) == is_needed
    assert needs_bundle_for_function(options, images) == for_function


def test_the_record_of_the_code_comes_back_or_is_ignored():
    assert read_record(RECORD.to_json()) == RECORD
    for text in (b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}', RECORD.to_json().replace(b"packages", b"x")):
        assert read_record(text) is None
