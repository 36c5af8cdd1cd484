"""Put the parts of a template together, and write it for people.

Called by: stack, cli/up.py, tests.   Calls: the parts.   Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final

from cloudexec.infra.names import in_template
from cloudexec.infra.permissions.grants import Part, Who
from cloudexec.infra.permissions.render import in_cloudformation, policy
from cloudexec.infra.template import awslambda, ecs, images, network, storage
from cloudexec.infra.template.options import OPTIONS_KEY, Shape, StackOptions, att, parameter, ref, resource

CAPABILITIES: Final = ("CAPABILITY_IAM",)  # no role has a name of its own


def template(options: StackOptions) -> Shape:
    """The template of CloudFormation, as a dictionary."""
    parameters = {**storage.parameters(options), **_shared_parameters()}
    conditions: Shape = {
        "HasBundle": {"Fn::Not": [{"Fn::Equals": [ref("BundleKey"), ""]}]},
        "HasRoleBoundary": {"Fn::Not": [{"Fn::Equals": [ref("RoleBoundary"), ""]}]},
        "IsArm": {"Fn::Equals": [ref("Architecture"), "arm64"]},
    }
    resources = {**storage.resources(options), **images.resources(options)}
    if options.ecs:
        parameters |= {**ecs.parameters(options), **network.parameters(options)}
        conditions |= ecs.conditions()
        resources |= {**ecs.resources(options), **network.resources(options)}
    if options.function:
        parameters |= awslambda.parameters(options)
        conditions |= awslambda.conditions()
        resources |= awslambda.resources(options)
    resources["ClientPolicy"] = _client_policy(options)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "What cloudexec runs in; it costs nothing while nothing runs",
        "Metadata": {OPTIONS_KEY: options.as_metadata()},
        "Parameters": parameters,
        "Conditions": conditions,
        "Resources": resources,
        "Outputs": _outputs(options),
    }


def _shared_parameters() -> Shape:
    return {
        "BundleKey": parameter(
            "String", "", "The key of the code's zip in the bucket; empty before it has been uploaded"
        ),
        "RoleBoundary": parameter(
            "String", "", "The ARN of the permissions boundary of all roles; empty: they have none"
        ),
        "Architecture": parameter("String", "x86_64", "Of function and workers", AllowedValues=["x86_64", "arm64"]),
    }


def _client_policy(options: StackOptions) -> Shape:
    chosen = [part for part, has in ((Part.ECS, options.ecs), (Part.LAMBDA, options.function)) if has]
    document = in_cloudformation(policy(Who.CLIENT, in_template(), chosen))
    properties = {"Description": "For whoever creates executors", "PolicyDocument": document}
    return resource("AWS::IAM::ManagedPolicy", properties)


def _outputs(options: StackOptions) -> Shape:
    outputs: dict[str, Any] = {
        "Bucket": {"Value": ref("Bucket")},
        "Log": {"Value": ref("Log")},
        "ClientPolicy": {"Value": ref("ClientPolicy"), "Description": "Attach it to whoever creates executors"},
        "Repository": {"Value": att("Repository", "RepositoryUri")},
    }
    if options.ecs:
        outputs |= {
            "Cluster": {"Value": ref("Cluster")},
            "Worker": {"Value": ref("Worker"), "Condition": "HasWorker"},
            "SecurityGroup": {"Value": network.group_id()},
            "Subnets": {"Value": network.subnets(options)},
        }
    if options.function:
        outputs |= {
            "Function": {"Value": ref("Function"), "Condition": "HasFunction"},
            "JobsPolicy": {"Value": ref("JobsPolicy"), "Description": "Attach it to whoever only puts jobs"},
        }
    if options.builds:
        outputs["BuildProject"] = {"Value": ref("BuildProject")}
    return outputs


def as_json(document: Shape) -> str:
    """As CloudFormation takes it, in few bytes: it may have 51,200."""
    return json.dumps(document, separators=(",", ":"))


def as_yaml(document: Shape) -> str:
    """For people; it needs PyYAML, which the extra `cli` brings."""
    import yaml

    class Plain(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML is not typed here
        """Repeats a value instead of pointing at it."""

        def ignore_aliases(self, data: object) -> bool:
            """See yaml."""
            return True

    return str(yaml.dump(document, Dumper=Plain, sort_keys=False, width=110, allow_unicode=True))
