"""`cloudexec image write | build | push`: a worker image for this project.

Called by: main.py.   Calls: infra.images, imageviews.py; up.py, with --use.
`build` leaves the image on this machine, `push` brings it to the stack's repository; `build --remote` does both, in the
account.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from cloudexec.cli.common import json_option, place_of, place_options, text_of, yes_option
from cloudexec.cli.imageviews import tell_built, tell_pushed
from cloudexec.cli.show import say
from cloudexec.errors import AccessDenied, SettingsError
from cloudexec.infra.images import registry, remote, tools, weigh
from cloudexec.infra.images.buildspec import Job
from cloudexec.infra.images.context import Context, context_of, source_of, wheels_in
from cloudexec.infra.images.project import Project, project_of
from cloudexec.infra.images.recipe import Recipe
from cloudexec.infra.images.wheel import own_wheel
from cloudexec.infra.place import Place

F = TypeVar("F", bound=Callable[..., Any])
_ARCHES: Final = click.Choice(list(tools.PLATFORMS))
_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_WHERE: Final = ("profile", "region", "stack", "endpoint_url")  # what place_options hand over
_PYTHON: Final = "{}.{}".format(*sys.version_info[:2])


@click.group(name="image")
def image() -> None:
    """Write, build and push a worker image for this project.

    An image is needed for Debian packages, R, conda, and what is too large for a bundle (250 MB); for Python packages
    alone `cloudexec up --packages …` is enough.
    """


def recipe_options(command: F) -> F:
    """What an image is made of: the same options for `write` and `build`."""
    several: dict[str, Any] = {"multiple": True, "metavar": "PKG"}
    for option in (
        click.option("--with-source", is_flag=True, help="Bake the project's own code in; else it travels with calls."),
        click.option("--no-index", is_flag=True, help="Ask no package index: all that is needed is in --wheels."),
        click.option("--wheels", type=_FOLDER, metavar="DIR", help="A folder of wheels that pip looks into, too."),
        click.option("--base", metavar="IMAGE", help="Begin from this image (Debian's kin, with the client's Python)."),
        click.option("--arch", type=_ARCHES, default="x86_64", show_default=True, help="The workers' processor."),
        click.option("--r", "r", help="An R package of Debian's, by R's name; several times.", **several),
        click.option("--pip", help="A Python package beside the project's; several times.", **several),
        click.option("--apt-build", help="A Debian package that building needs, not running.", **several),
        click.option("--apt", help="A Debian package; several times.", **several),
        click.option("--extra", multiple=True, metavar="NAME", help="An extra of the project's; several times."),
        click.option("--from", "chosen", metavar="FILE", help="Take the packages from this file."),
        click.option("--project", type=_FOLDER, default=".", metavar="DIR", help="The project, if not this directory."),
    ):
        command = option(command)
    return command


# --- write ---------------------------------------------------------------------------------------


@image.command(name="write")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of stdout.")
@click.option(
    "--context", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="All that a build needs."
)
@recipe_options
def write(output: Path | None, context: Path | None, **made_of: Any) -> None:
    """Write the Dockerfile, and with --context the whole folder that a build needs, e.g. for CI.

    \b
    cloudexec image write --context build/ && docker build build/
    """
    made = _made(made_of)
    if context is not None:
        if context.exists() and any(context.iterdir()):
            raise SettingsError(f"--context {context} is not empty", remedy="name a folder that is not there yet")
        context.mkdir(parents=True, exist_ok=True)
        made.write_to(context)
        say(f"{context}: {', '.join(sorted(made.files))}")
    text = made.files["Dockerfile"]
    if output is not None:
        output.write_bytes(text)
        say(f"{output} is written; `cloudexec image build --file {output}` builds with it")
    elif context is None:
        click.echo(text.decode(), nl=False)


def _made(made_of: dict[str, Any], file: Path | None = None) -> Context:
    """The files of a build; what was found is said aloud. Errors: SettingsError."""
    folder: Path = made_of["project"]
    project = project_of(_reader(folder), python=_PYTHON, chosen=made_of["chosen"] or "", extras=made_of["extra"])
    for note in project.notes:
        say(note)
    wheels = wheels_in(made_of["wheels"]) if made_of["wheels"] else {}
    if made_of["no_index"] and not wheels:
        raise SettingsError("--no-index without --wheels", remedy="give the folder that has all wheels")
    wheel = own_wheel()
    recipe = _recipe(made_of, project, wheel[0])
    source = source_of(folder) if recipe.has_source else {}
    text = text_of(file) if file else ""
    return context_of(recipe, wheel, wheels=wheels, source=source, text=text)


def _recipe(made_of: dict[str, Any], project: Project, wheel: str) -> Recipe:
    return Recipe(
        python=_PYTHON,
        project=project,
        cloudexec=wheel,
        cloudpickle=metadata.version("cloudpickle"),
        base=made_of["base"] or "",
        apt=made_of["apt"],
        apt_build=made_of["apt_build"],
        pip=made_of["pip"],
        r=made_of["r"],
        has_wheels=made_of["wheels"] is not None,
        no_index=made_of["no_index"],
        has_source=made_of["with_source"],
    )


def _reader(folder: Path) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        path = folder / name
        return text_of(path) if path.is_file() else None

    return read


# --- build ---------------------------------------------------------------------------------------


@image.command(name="build")
@click.option("--tag", metavar="NAME", help="The image's name on this machine.")
@click.option("--tool", type=click.Choice(tools.TOOLS), help="Which one builds; else the first that works.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A Dockerfile of your own.")
@click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="For the Dockerfile's ARG; several times.")
@click.option("--remote", "is_remote", is_flag=True, help="Build in the account, with CodeBuild, and push.")
@click.option("--weigh/--no-weigh", "is_weighed", default=True, help="Whether to look at sizes afterwards.")
@click.option("--use", "is_used", is_flag=True, help="With --remote: have the stack's workers use it.")
@recipe_options
@place_options
@yes_option
@json_option
@click.argument("options", nargs=-1, metavar="[-- TOOL'S OPTIONS]")
def build(
    tag: str | None,
    tool: str | None,
    file: Path | None,
    build_arg: tuple[str, ...],
    is_remote: bool,
    is_weighed: bool,
    is_used: bool,
    yes: bool,
    as_json: bool,
    options: tuple[str, ...],
    **made_of: Any,
) -> int:
    """Build the image, with Docker, Podman or Buildah, or with --remote in the account."""
    where: dict[str, Any] = {name: made_of.pop(name) for name in _WHERE}
    _check_use(is_used=is_used, as_json=as_json)
    wrong = [one for one in build_arg if not re.match(r"[A-Za-z_]\w*(=|$)", one)]
    if wrong:
        raise SettingsError(f"--build-arg {wrong[0]!r} is not NAME=VALUE", remedy="write --build-arg NAME=VALUE")
    arch: str = made_of["arch"]
    if is_remote:
        _check_remote(build_arg, is_for_here=bool(tool or options or tag))
        context = _made(made_of, file)
        with place_of(**where) as place:
            outputs = registry.outputs_of(place)
            pushed = _build_remotely(place, outputs, context, arch, build_arg)
            size = _known_size(place, *pushed.rsplit(":", 1))
        return _used(pushed, size, outputs, arch, is_used=is_used, as_json=as_json, yes=yes, **where)
    if is_used:
        raise SettingsError("--use goes with --remote", remedy="build, then cloudexec image push --use")
    found = tools.find_tool(tool or "")
    for note in found.notes:
        say(note)
    context = _made(made_of, file)
    name = tag or local_name(made_of["project"], arch)
    _build_here(found.tool, name, context, arch, build_arg, options)
    weight = _weight_of(found.tool, name) if is_weighed else None
    tell_built(name, tools.image_id(found.tool, name), weight, as_json=as_json)
    return 0


def _build_here(
    tool: str, name: str, context: Context, arch: str, build_args: tuple[str, ...], options: tuple[str, ...]
) -> None:
    with context.on_disk() as folder:
        wanted = tools.Build(context=str(folder), tag=name, arch=arch, build_args=build_args, more=options)
        say(f"{tool}: building {name}")
        tools.build(tool, wanted, _stderr())


def _weight_of(tool: str, name: str) -> weigh.Weight:
    say("looking at its size")
    with tools.saved(tool, name) as archive:
        return weigh.weigh(archive)


def _check_remote(build_args: Sequence[str], *, is_for_here: bool) -> None:
    """Errors: SettingsError for what only a build on this machine can heed."""
    bare = [one for one in build_args if "=" not in one]
    if bare:
        what = f"--build-arg {bare[0]} takes its value from this machine, which a remote build does not see"
        raise SettingsError(what, remedy="give NAME=VALUE; no password, as the value stands in CodeBuild's records")
    if is_for_here:
        what = "--remote goes without --tool, --tag and options of a tool"
        raise SettingsError(what, remedy="leave them out; the image is named by its content")


def _stderr() -> IO[str] | None:
    """Where a tool tells its progress; None where stderr is no file, as in notebooks."""
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return None
    return sys.stderr


def local_name(project: Path, arch: str) -> str:
    """What the project's image is called on this machine."""
    base = re.sub(r"[^a-z0-9]+", "-", project.resolve().name.lower()).strip("-") or "project"
    return f"localhost/cloudexec-{base}:{_PYTHON}-{arch}"


def _build_remotely(
    place: Place, outputs: registry.Outputs, context: Context, arch: str, build_args: Sequence[str]
) -> str:
    """Its name in the repository."""
    repository = registry.repository_of(outputs)
    bucket = outputs.need("Bucket", "the build's files are uploaded to")
    project = outputs.need("BuildProject", "builds images in the account", "cloudexec up --builds")
    say(f"uploading {weigh.megabytes(sum(map(len, context.files.values())))} to {bucket}")
    key = remote.upload(place, bucket, context)
    job = Job(project=project, bucket=bucket, key=key, repository=repository, arch=arch, build_args=tuple(build_args))
    return remote.build_remotely(place, job, say)


# --- push ----------------------------------------------------------------------------------------


@image.command(name="push")
@click.option("--project", type=_FOLDER, default=".", metavar="DIR")
@click.option("--arch", type=_ARCHES, default="x86_64", show_default=True, help="Which of the project's images.")
@click.option("--tag", "name", metavar="NAME", help="The image that `build --tag` named.")
@click.option("--tool", type=click.Choice(tools.TOOLS), help="Which one has it; else the first that works.")
@click.option("--use", "is_used", is_flag=True, help="Have the stack's workers use it.")
@place_options
@yes_option
@json_option
@click.argument("options", nargs=-1, metavar="[-- TOOL'S OPTIONS]")
def push(
    project: Path,
    arch: str,
    name: str | None,
    tool: str | None,
    is_used: bool,
    yes: bool,
    as_json: bool,
    options: tuple[str, ...],
    **where: Any,
) -> int:
    """Push the image to the stack's repository, named by its content, and say how workers get to use it."""
    _check_use(is_used=is_used, as_json=as_json)
    found = tools.find_tool(tool or "")
    image_name = name or local_name(project, arch)
    tag = registry.tag_of(tools.image_id(found.tool, image_name))
    built_for = tools.image_arch(found.tool, image_name)
    with place_of(**where) as place:
        outputs = registry.outputs_of(place)
        repository = registry.repository_of(outputs)
        target = f"{repository}:{tag}"
        size = _known_size(place, repository, tag)
        if size is not None:
            say(f"{target} is there already")
        else:
            host = repository.partition("/")[0]
            with tools.credentials(found.tool, host, registry.password_of(place), _of_connections(options)) as auth:
                tools.push(found.tool, image_name, target, auth, options, _stderr())
            size = _known_size(place, repository, tag)
    return _used(target, size, outputs, built_for, is_used=is_used, as_json=as_json, yes=yes, **where)


def _of_connections(options: Sequence[str]) -> list[str]:
    """Of the tool's options those that a login takes, too."""
    return [one for one in options if one.startswith(("--tls-verify", "--cert-dir"))]


def _known_size(place: Place, repository: str, tag: str) -> int | None:
    """As registry.compressed_size_of; whoever may push need not be allowed to look."""
    try:
        return registry.compressed_size_of(place, repository, tag)
    except AccessDenied:
        return None


def _check_use(*, is_used: bool, as_json: bool) -> None:
    if is_used and as_json:
        what = "--use and --json are two answers at once"
        raise SettingsError(what, remedy="take --json alone; its `use` is the command that --use would run")


def _used(
    target: str,
    size: int | None,
    outputs: registry.Outputs,
    arch: str,
    *,
    is_used: bool,
    as_json: bool,
    yes: bool,
    **where: str | None,
) -> int:
    """Tell of a pushed image and how workers use it; or have them use it. The exit code."""
    parameters = outputs.parameters_for(target)
    use = ["cloudexec", "up", "--arch", arch]
    use += [word for one in parameters for word in ("--parameters", one)]
    use += [word for name in ("stack", "region", "profile") if (value := where[name]) for word in (f"--{name}", value)]
    tell_pushed(target, size, use, is_used=is_used, as_json=as_json)
    if not is_used:
        return 0
    from cloudexec.cli.up import up

    said = click.get_current_context().invoke(up, arch=arch, parameters=tuple(parameters), yes=yes, **where)
    return said if isinstance(said, int) else 0
