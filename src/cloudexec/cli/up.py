"""`cloudexec up`: make or change everything that runs need in the account, as one stack.

Called by: main.py; image.py, with --use.   Calls: infra/stack (deploy), infra/template, infra/settings_file.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from cloudexec.backends.aws_config import FILE_VARIABLE, TABLE_VARIABLE
from cloudexec.backends.stack import DEFAULT_STACK
from cloudexec.cli.common import json_option, place_of, place_options, text_of, yes_option
from cloudexec.cli.main import REFUSED
from cloudexec.cli.show import print_json, say
from cloudexec.cli.stackviews import StackTeller, explained
from cloudexec.errors import SettingsError
from cloudexec.infra import settings_file
from cloudexec.infra.bundle.packages import ARCHITECTURES, PYTHONS
from cloudexec.infra.place import Place
from cloudexec.infra.settings_file import Written
from cloudexec.infra.stack.deploy import Outcome
from cloudexec.infra.stack.deploy import up as deploy
from cloudexec.infra.stack.look import check_name
from cloudexec.infra.stack.network import are_public, read_network
from cloudexec.infra.stack.wish import PARTS, Wish, check_parameters, options_of
from cloudexec.infra.template.build import as_yaml, template

_NO_FILE: Final = "Nothing is written to a configuration file"


@click.command(name="up")
@click.option("--only", type=click.Choice(list(PARTS)), help="Leave the other backend out; `both` brings it back.")
@click.option(
    "--network",
    metavar="default|new|VPC[:SUBNET,…]",
    help="Where tasks of ECS live: the default VPC, a small one of their own, or one that is there.",
)
@click.option("--packages", multiple=True, metavar="'NAME …'", help="Packages for the code, as pip takes them.")
@click.option(
    "--requirements",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A requirements file for the code.",
)
@click.option("--rebuild", is_flag=True, help="Fetch packages anew: newer versions, if there are some.")
@click.option("--arch", type=click.Choice(list(ARCHITECTURES)), help="Of function and workers; x86_64 by default.")
@click.option("--python", type=click.Choice(list(PYTHONS)), help="Of function and workers; by default this one's.")
@click.option("--builds/--no-builds", default=None, help="With CodeBuild, to make images where there is no Docker.")
@click.option(
    "--parameters", multiple=True, metavar="NAME=VALUE|FILE", help="Parameters of the template, or a JSON file of them."
)
@click.option("--print", "prints", is_flag=True, help="Print the template and do nothing; needs no credentials.")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="Of --print.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and do nothing.")
@click.option("--config/--no-config", default=True, help="Write the configuration file of executors, or do not.")
@yes_option
@json_option
@place_options
def up(
    only: str | None,
    network: str | None,
    packages: tuple[str, ...],
    requirements: Path | None,
    rebuild: bool,
    arch: str | None,
    python: str | None,
    builds: bool | None,
    parameters: tuple[str, ...],
    prints: bool,
    form: str,
    dry_run: bool,
    config: bool,
    yes: bool,
    as_json: bool,
    profile: str | None,
    region: str | None,
    stack: str | None,
    endpoint_url: str | None,
) -> int:
    """Make everything that runs need, as one CloudFormation stack; or change it to what is asked for.

    What a stack was made with is kept by a later `up`, unless it is asked for anew. An `up` that was interrupted can
    be repeated, or undone with `cloudexec down`.
    """
    wish = Wish(
        only=only,
        network=read_network(network) if network else None,
        packages=read_packages(packages) if packages else None,
        requirements=text_of(requirements) if requirements else None,
        arch=arch,
        python=python,
        builds=builds,
        parameters=read_parameters(parameters),
        is_rebuilt=rebuild,
    )
    if prints:
        _print(wish, stack or DEFAULT_STACK, form)
        return 0
    environ = environment_before(os.environ)
    with place_of(profile, region, stack, endpoint_url, environ=environ) as place, explained(place):
        teller = StackTeller(yes=yes)
        try:
            with teller.working():
                outcome = deploy(place, wish, teller, is_dry=dry_run)
        except KeyboardInterrupt:
            say("CloudFormation goes on with what has begun. Repeat `cloudexec up`, or undo it with `cloudexec down`.")
            raise
        return _end(place, outcome, config=config, as_json=as_json, profile=profile, endpoint_url=endpoint_url)


def environment_before(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, without what names a file or a table that `up` has still to write."""
    path = settings_file.path_of(environ)
    left_out = {FILE_VARIABLE, TABLE_VARIABLE} if path is not None and not path.exists() else set()
    if path is not None and TABLE_VARIABLE in environ and not settings_file.has_table(path, environ[TABLE_VARIABLE]):
        left_out.add(TABLE_VARIABLE)
    return {name: value for name, value in environ.items() if name not in left_out}


def read_packages(given: Iterable[str]) -> tuple[str, ...]:
    """The words of each, as a shell takes them apart. Errors: SettingsError."""
    words: list[str] = []
    for each in given:
        try:
            words += shlex.split(each)
        except ValueError as error:  # a quotation mark or a backslash at the end that nothing follows
            what = f"--packages {each!r} cannot be taken apart: {error}"
            remedy = "quote each name as a whole, e.g. --packages 'numpy \"pandas<3\"'"
            raise SettingsError(what, remedy=remedy) from None
    return tuple(words)


def read_parameters(given: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE`, or a JSON file: an object, or the list that the AWS CLI takes. Errors: SettingsError."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if equals:
            found[name.strip()] = value
        elif Path(each).is_file():
            found |= _parameters_in(Path(each))
        else:
            raise SettingsError(f"--parameters {each!r} is neither NAME=VALUE nor a JSON file")
    return found


def _parameters_in(path: Path) -> dict[str, str]:
    remedy = 'write {"NAME": "VALUE", …}, or a list as `aws cloudformation deploy` takes it'
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(said, list):
            said = {each["ParameterKey"]: each["ParameterValue"] for each in said}
        return {str(name): str(value) for name, value in said.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(f"{path} does not hold parameters: {error!r}", remedy=remedy) from None


def _print(wish: Wish, stack: str, form: str) -> None:
    check_name(stack)
    document = template(options_of(wish, None))
    check_parameters(wish.parameters, document)
    for name, value in wish.parameters.items():
        document["Parameters"][name]["Default"] = value
    if wish.arch:
        document["Parameters"]["Architecture"]["Default"] = wish.arch
    if form == "json":
        print_json(document)
        return
    click.echo(_HEADER.format(stack=stack) + as_yaml(document), nl=False)


_HEADER: Final = """\
# What `cloudexec up` deploys. Whoever deploys it by hand: the tag makes it known to `cloudexec up` and `down`, and
# without the code's zip (BundleKey) or images (WorkerImage, FunctionImage) neither function nor workers are made;
# `cloudexec up` adds them. For --network default or VPC-ID, VpcId and Subnets are needed, too.
#   aws cloudformation deploy --stack-name {stack} --template-file FILE --capabilities CAPABILITY_IAM \\
#     --tags cloudexec:stack={stack} --parameter-overrides BucketName=NAME VpcId=VPC-ID Subnets=SUBNET,SUBNET
"""


def _end(
    place: Place, outcome: Outcome, *, config: bool, as_json: bool, profile: str | None, endpoint_url: str | None
) -> int:
    """Write the configuration, say what is there and what to do next."""
    if outcome.is_refused:
        say("Nothing was changed.")
        return REFUSED
    if outcome.is_dry:
        say("Nothing was changed: --dry-run.")
        return 0
    state = outcome.state
    say(f"Stack {state.name!r} is ready." if outcome.has_changed else f"Stack {state.name!r} is as it should be.")
    known: dict[str, Any] = {
        "region": place.region,
        "profile": profile or "",
        "endpoint_url": endpoint_url or "",
        "is_public": are_public(place, state.subnets),
    }
    settings = settings_file.settings_of(state, **known)
    written = None
    if config:
        before = settings_file.settings_of(outcome.before, **known) if outcome.before.outputs else {}
        written = settings_file.write(settings, before, state.name, os.environ)
    _say_written(written, settings)
    if as_json:
        print_json(
            {
                "stack": state.name,
                "id": state.id,
                "status": state.status,
                "changed": outcome.has_changed,
                "outputs": dict(state.outputs),
                "settings": settings,
                "config": str(written.path) if written and written.path else None,
            }
        )
    return 0


def _say_written(written: Written | None, settings: Mapping[str, Any]) -> None:
    if written is None or written.path is None:
        why = "--no-config" if written is None else f"{FILE_VARIABLE}={os.devnull}"
        lines = "\n".join(f"  {key} = {json.dumps(value)}" for key, value in settings.items())
        say(f"{_NO_FILE}: {why}. These are the settings of executors:\n{lines}")
        return
    where = f"{written.path}, table [{written.table}]" if written.table else str(written.path)
    if written.removed:
        say(f"Removed {', '.join(written.removed)} from {where}")
    if written.changed:
        say(f"Wrote {', '.join(written.changed)} to {where}")
    if written.table:
        say(f"Executors use this stack where {TABLE_VARIABLE}={written.table} is set.")
    if written.overruled:
        say(f"The environment says otherwise, and it wins: {', '.join(written.overruled)}", "yellow")
    chosen = f"{TABLE_VARIABLE}={written.table} " if written.table else ""
    say(f"Next: `{chosen}cloudexec doctor --run` tries one call on each backend.")
