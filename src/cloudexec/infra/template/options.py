"""What may be chosen of the stack, and the words of a template.

Called by: all of template, stack, doctor.   Calls: nothing; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import SettingsError

Shape = dict[str, Any]

STACK_TAG: Final = "cloudexec:stack"
OPTIONS_KEY: Final = "cloudexec"  # in the template's Metadata: what it was made from
FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """Which parts a stack has. network: `default` (the account's default VPC), `new`, or `given` (a VPC by its id).

    builds: CodeBuild, to make images where there is no Docker. python: the runtime, `3.13`.
    """

    ecs: bool = True
    function: bool = True
    network: str = "default"
    builds: bool = False
    python: str = "3.13"

    def __post_init__(self) -> None:
        if not (self.ecs or self.function):
            raise SettingsError("a stack with neither ECS nor Lambda is empty", remedy="leave --only away")
        if self.network not in ("default", "new", "given"):
            raise SettingsError(f"network={self.network!r} is unknown", remedy="give default, new or given")

    def as_metadata(self) -> Shape:
        """What a later `up` reads, to keep what is not asked for anew."""
        return {
            "Format": FORMAT,
            "Parts": [name for name, has in (("ecs", self.ecs), ("lambda", self.function)) if has],
            "Network": self.network,
            "Builds": self.builds,
            "Python": self.python,
        }

    @staticmethod
    def from_metadata(said: Mapping[str, Any]) -> StackOptions:
        """What `as_metadata` wrote. Errors: SettingsError for a newer format."""
        if said.get("Format") != FORMAT:
            what = f"the stack was made by another version of cloudexec (format {said.get('Format')!r})"
            raise SettingsError(what, remedy="use that version, or a newer one")
        parts = said["Parts"]
        return StackOptions(
            ecs="ecs" in parts,
            function="lambda" in parts,
            network=said["Network"],
            builds=bool(said["Builds"]),
            python=said["Python"],
        )


def ref(name: str) -> Shape:
    """`!Ref name`."""
    return {"Ref": name}


def att(name: str, attribute: str = "Arn") -> Shape:
    """`!GetAtt name.attribute`."""
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str) -> Shape:
    """`!Sub text`."""
    return {"Fn::Sub": text}


def resource(kind: str, properties: Shape | None = None, **more: Any) -> Shape:
    """A resource; `more`: Condition, DependsOn, DeletionPolicy."""
    return {"Type": kind, **({"Properties": properties} if properties else {}), **more}


def parameter(kind: str, default: object, description: str, **more: Any) -> Shape:
    """A parameter with a default."""
    return {"Type": kind, "Default": default, "Description": description, **more}


def role(service: str, policies: Shape, trust: Shape | None = None, **more: Any) -> Shape:
    """A role of one AWS service, with a policy of its own. trust: conditions on who may take it."""
    statement: Shape = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if trust:
        statement["Condition"] = trust
    properties = {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "PermissionsBoundary": {"Fn::If": ["HasRoleBoundary", ref("RoleBoundary"), ref("AWS::NoValue")]},
        "Policies": [{"PolicyName": name, "PolicyDocument": document} for name, document in policies.items()],
    }
    return resource("AWS::IAM::Role", properties, **more)
