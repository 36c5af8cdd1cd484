"""`cloudexec down`: remove the stack and everything in it.

Called by: main.py.   Calls: infra/stack (remove), infra/settings_file.
"""

from __future__ import annotations

import os

import click

from cloudexec.backends.aws_config import config_path
from cloudexec.cli.common import place_of, place_options, yes_option
from cloudexec.cli.main import REFUSED
from cloudexec.cli.show import say, say_error
from cloudexec.cli.stackviews import StackTeller, explained
from cloudexec.errors import CloudexecError
from cloudexec.infra import settings_file
from cloudexec.infra.place import Place
from cloudexec.infra.stack.look import StackState
from cloudexec.infra.stack.network import are_public
from cloudexec.infra.stack.remove import StillAlive
from cloudexec.infra.stack.remove import down as remove


@click.command(name="down")
@click.option("--force", is_flag=True, help="Also while runs are alive: their workers are stopped.")
@click.option("--keep-bucket", is_flag=True, help="Keep the bucket and what is in it.")
@yes_option
@place_options
def down(
    force: bool,
    keep_bucket: bool,
    yes: bool,
    profile: str | None,
    region: str | None,
    stack: str | None,
    endpoint_url: str | None,
) -> int:
    """Remove the stack and everything in it: objects, images, logs, what runs have left behind.

    What the stack did not make is never touched. A `down` that was interrupted, or has failed, can be repeated.
    """
    with place_of(profile, region, stack, endpoint_url) as place, explained(place):
        teller = StackTeller(yes=yes, begins=lambda state: _forget(place, state))
        try:
            with teller.working():
                removal = remove(place, teller, force=force, keep_bucket=keep_bucket)
        except StillAlive as error:
            say_error(error)
            return REFUSED
        except KeyboardInterrupt:
            say("CloudFormation goes on with what has begun. Repeat `cloudexec down` to see it through.")
            raise
        if removal.is_refused:
            say("Nothing was removed.")
            return REFUSED
        if not removal.is_done:
            where = f"in account {place.account_id}, {place.region}"
            say(f"There is no stack {place.stack!r} {where}: nothing to remove. If it is elsewhere, give --region.")
            return 0
        say(f"Stack {place.stack!r} is removed.")
        for line in removal.kept:
            say(f"Kept: {line}", "yellow")
        return 0


def _forget(place: Place, state: StackState) -> None:
    """Take the stack's settings out of the configuration file, before it is half gone."""
    if not state.outputs:
        return
    settings = settings_file.settings_of(state, region=place.region, is_public=are_public(place, state.subnets))
    try:
        written = settings_file.remove(settings, state.name, os.environ)
    except CloudexecError as error:  # the stack goes all the same
        say(f"{config_path(os.environ)} still names it: {error.what}", "yellow")
        return
    if written.removed:
        say(f"Removed {', '.join(written.removed)} from {written.path}")
