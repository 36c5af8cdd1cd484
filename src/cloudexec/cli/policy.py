"""`cloudexec policy WHO`: the rights that somebody needs, to hand to whoever gives rights.

Called by: main.py.   Calls: permissions, names; STS and the stack, unless the account is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from cloudexec.backends.stack import by_types, resources_of
from cloudexec.cli.common import place_of, place_options
from cloudexec.cli.show import say
from cloudexec.errors import SettingsError
from cloudexec.infra.names import PREFIX, Names, as_deployed, concrete
from cloudexec.infra.permissions import render
from cloudexec.infra.permissions.boundary import bounded
from cloudexec.infra.permissions.grants import Part, Who
from cloudexec.infra.permissions.render import Document, as_json, as_terraform, grants_of, statement
from cloudexec.infra.place import Place

_PATTERNS: Final = "the ends of the roles' names are known once it is there: a * stands for them"


@click.command(name="policy")
@click.argument("who", type=click.Choice([each.value for each in Who]))
@click.option("--only", type=click.Choice(["ecs", "lambda"]), help="Leave out what the other one needs.")
@click.option("--format", "form", type=click.Choice(["json", "terraform"]), default="json", show_default=True)
@click.option("--document", type=click.IntRange(min=1), metavar="N", help="Print the Nth of several documents alone.")
@click.option("--boundary", metavar="ARN", help="Of setup: make no role without this permissions boundary.")
@click.option("--explain", is_flag=True, help="For people instead: why, which actions, on what, on which conditions.")
@click.option("--account", metavar="ID", help="The account; then nothing is asked of AWS.")
@click.option("--bucket", metavar="NAME", help="Another bucket than the stack's.")
@click.option("--prefix", default=PREFIX, show_default=True, metavar="PREFIX", help="Of keys in the bucket.")
@place_options
def policy(
    who: str,
    only: str | None,
    form: str,
    document: int | None,
    boundary: str | None,
    explain: bool,
    account: str | None,
    bucket: str | None,
    prefix: str,
    profile: str | None,
    region: str | None,
    stack: str | None,
    endpoint_url: str | None,
) -> None:
    """Print the rights that WHO needs.

    \b
    client     whoever creates executors             task       workers on ECS
    setup      whoever runs `cloudexec up`, `down`   function   workers on Lambda
    jobs       whoever only puts jobs                execution  ECS, to start workers
                                                     build      CodeBuild, to make images
    """
    principal, parts = Who(who), _parts(Who(who), only)
    with place_of(profile, region, stack, endpoint_url) as place:
        names = _names(place, account, bucket or "", prefix)
    if boundary and (principal is not Who.SETUP or explain):
        raise SettingsError("--boundary is for the policy of setup", remedy="leave it away, or ask for setup's policy")
    if explain:
        _explain(principal, names, parts)
        return
    whole = render.policy(principal, names, parts)
    found = render.cut(bounded(whole, boundary) if boundary else whole)
    if not found:
        raise SettingsError(f"{who} needs no rights for {only}", remedy="leave --only away")
    if document and document > len(found):
        raise SettingsError(f"there is no document {document}, only {len(found)}", remedy="give a smaller number")
    if len(found) > 1 and not document:
        say(f"IAM's limit makes this {len(found)} policies: print one with --document 1, and attach them all.")
    for number, each in enumerate(found, 1):
        if document in (None, number):
            click.echo(_written(each, form, f"{names.stack}-{who}" + (f"-{number}" if len(found) > 1 else "")))


def _parts(who: Who, only: str | None) -> Sequence[Part]:
    """Which rows; each stack has a repository for images, and --only does not speak of it."""
    if only is None:
        return tuple(Part)
    more = {"ecs": [Part.ECS, Part.NETWORK], "lambda": [Part.LAMBDA]}[only]
    return [*more, Part.IMAGES] if who in (Who.SETUP, Who.BUILD) else more


def _names(place: Place, account: str | None, bucket: str, prefix: str) -> Names:
    """The account's and the stack's names. Errors: SettingsError, AwsError and its kin, unless the account is given."""
    names = concrete(
        account=account or place.account_id,
        region=place.region,
        stack=place.stack,
        partition=place.partition,
        bucket=bucket,
        prefix=prefix,
    )
    if account:
        say(f"Nothing was asked of AWS. This is for a stack {place.stack!r}: {_PATTERNS}.")
        return names
    ids = _ids(place)
    if not ids:
        say(f"No stack {place.stack!r} can be seen in {place.region}: {_PATTERNS}.")
    return as_deployed(names, {**ids, **({"Bucket": bucket} if bucket else {})})


def _ids(place: Place) -> dict[str, str]:
    resources = resources_of(place.stack, place.ask, is_named=False)
    return {logical: physical for each in by_types(resources).values() for logical, physical in each.items()}


def _written(document: Document, form: str, name: str) -> str:
    return as_json(document) if form == "json" else as_terraform(document, name)


def _explain(who: Who, names: Names, parts: Sequence[Part]) -> None:
    """Row by row: four columns would fold every ARN."""
    for grant in grants_of(who, parts):
        made = statement(grant, names)
        click.echo(grant.why + (" (can be left out)" if grant.optional else ""))
        for heading, lines in (
            ("may", grant.actions),
            ("on", _lines(made["Resource"])),
            ("if", _conditions(made.get("Condition", {}))),
        ):
            for number, line in enumerate(lines):
                click.echo(f"  {'' if number else heading:<4} {line}")
        click.echo()


def _lines(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _conditions(said: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{key} {operator} {' or '.join(_lines(value))}"
        for operator, keys in said.items()
        for key, value in keys.items()
    ]
