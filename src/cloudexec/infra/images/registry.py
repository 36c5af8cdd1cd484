"""The stack's repository in ECR: where it is, its password for twelve hours, what is in it.

Called by:  cli/image.py; buildspec.py, for names.   Calls: place.py, stack/look.py.   The readers of replies are pure.
Rights:     cloudformation:DescribeStacks, ecr:GetAuthorizationToken, ecr:DescribeImages, and for the push itself
            ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, PutImage.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloudexec.errors import AwsError, CloudexecError, SettingsError
from cloudexec.infra.place import Place
from cloudexec.infra.stack.look import glance

TAG_LENGTH: Final = 16  # of 64 hexadecimal digits: nobody has so many images that two would meet


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the stack says of itself."""

    values: Mapping[str, str]
    stack: str

    def need(self, name: str, use: str, command: str = "cloudexec up") -> str:
        """Errors: SettingsError if the stack lacks it; `command` adds it."""
        if not self.values.get(name):
            what = f"stack {self.stack!r} has no {name}, which {use}"
            raise SettingsError(what, remedy=f"run `{command}`, which adds what is missing")
        return self.values[name]

    def parameters_for(self, image: str) -> list[str]:
        """What makes workers and function use an image: parameters of the parts that the stack has."""
        parts = (("WorkerImage", "Cluster"), ("FunctionImage", "JobsPolicy"))
        return [f"{parameter}={image}" for parameter, output in parts if output in self.values]


def outputs_of(place: Place) -> Outputs:
    """The stack's outputs. Errors: SettingsError if there is no such stack; AwsError and its kin."""
    state = glance(place)
    if state.is_absent:
        what = f"there is no stack {place.stack!r} in {place.region}"
        raise SettingsError(what, remedy="run `cloudexec up`, or name the stack with --stack")
    return Outputs(state.outputs, state.name)


def repository_of(outputs: Outputs) -> str:
    """The repository's URI. Errors: SettingsError."""
    return outputs.need("Repository", "images are pushed to")


def password_of(place: Place) -> str:
    """ECR's password for the user AWS; valid for twelve hours. Errors: AwsError and its kin, CloudexecError."""
    return read_password(place.ask("ecr", "get_authorization_token"))


def read_password(reply: Mapping[str, Any]) -> str:
    """Of GetAuthorizationToken's reply. Errors: CloudexecError."""
    data = (reply.get("authorizationData") or [{}])[0].get("authorizationToken", "")
    try:
        user, _, password = base64.b64decode(data, validate=True).decode().partition(":")
    except ValueError:
        user = password = ""
    if not user or not password:
        raise CloudexecError("ECR's token is no user and password", remedy="repeat; if it stays so, please report it")
    return password


def describe_images_request(repository: str, tag: str) -> dict[str, object]:
    """Arguments for `describe_images`. repository: its URI, e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/name."""
    host, _, name = repository.partition("/")
    request: dict[str, object] = {"repositoryName": name, "imageIds": [{"imageTag": tag}]}
    account = host.split(".")[0]
    return {"registryId": account, **request} if account.isdigit() and len(account) == 12 else request


def compressed_size_of(place: Place, repository: str, tag: str) -> int | None:
    """Bytes of the image with this tag; None if the repository has none. Errors: AwsError and its kin."""
    try:
        reply = place.ask("ecr", "describe_images", describe_images_request(repository, tag))
    except AwsError as error:
        if error.code == "ImageNotFoundException":
            return None
        if error.code == "RepositoryNotFoundException":
            what = f"there is no repository {repository}, though the stack names it"
            raise SettingsError(what, remedy="somebody removed it; run `cloudexec up` to have it again") from error
        raise
    found = reply.get("imageDetails") or []
    return int(found[0].get("imageSizeInBytes", 0)) if found else None


def tag_of(image_id: str) -> str:
    """A tag that names the content: the same image is pushed once, and no tag changes what it means."""
    return image_id[:TAG_LENGTH]
