"""What all commands share: which account, which region, which stack; how a file that somebody wrote is read.

Called by: all commands.   Calls: backends.clients, backends.aws_config, infra.place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from cloudexec.backends.aws_config import from_environment, from_file
from cloudexec.backends.clients import Clients
from cloudexec.backends.stack import DEFAULT_STACK
from cloudexec.errors import SettingsError
from cloudexec.infra.place import Place

F = TypeVar("F", bound=Callable[..., Any])


def place_options(command: F) -> F:
    """--profile, --region, --stack, --endpoint-url."""
    for option in (
        click.option("--endpoint-url", metavar="URL", help="For emulators: where all services answer."),
        click.option("--stack", metavar="NAME", help=f"The stack, {DEFAULT_STACK!r} by default."),
        click.option("--region", metavar="REGION", help="The AWS region, e.g. eu-west-1."),
        click.option("--profile", metavar="NAME", help="The profile of the AWS configuration."),
    ):
        command = option(command)
    return command


def json_option(command: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def yes_option(command: F) -> F:
    """--yes."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def text_of(path: Path) -> str:
    """A file's text: UTF-8, whatever the locale is. Errors: SettingsError, OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8", remedy="save it as UTF-8") from None


@contextmanager
def place_of(
    profile: str | None,
    region: str | None,
    stack: str | None,
    endpoint_url: str | None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Place]:
    """Where a command acts: options, then environment variables of ours, then the configuration file.

    Errors: SettingsError.
    """
    environ = os.environ if environ is None else environ
    found = {**from_file(environ), **from_environment(environ)}

    def setting(name: str, given: str | None) -> str:
        if given:
            return given
        return str(found[name].value) if name in found else ""

    clients = Clients(
        profile=setting("aws_profile", profile),
        region=setting("region", region),
        endpoint_url=setting("endpoint_url", endpoint_url),
    )
    try:
        yield Place(clients, setting("stack", stack) or DEFAULT_STACK)
    finally:
        clients.close()
