"""Write the Dockerfile of a worker image; no I/O happens here.

Called by:  cli/image.py, context.py.   Calls: project.py, for types; template/awslambda.py, for the handler.
Stages:     system (Debian packages, R) · renv (R packages that are compiled) · build (Python's packages) · the image:
            system, what the other two have made, and no compiler.
Layers:     what changes least comes first: Debian's packages, the project's, cloudexec, its source.
Same input, same layers, as far as tools allow: docker/README.md says where they do not.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloudexec.errors import SettingsError
from cloudexec.infra.images.project import CONDA, NOTHING, UV, Project
from cloudexec.infra.template.awslambda import HANDLER

# Amazon's copy of Docker's official images: nobody is refused there after a hundred pulls.
_OFFICIAL: Final = "public.ecr.aws/docker/library"
_MICROMAMBA: Final = "docker.io/mambaorg/micromamba:2"
# Here the packages lie; a folder of its own can be copied as a whole, and `python` on the PATH is the worker's.
HOME: Final = "/opt/worker"
EPOCH_S: Final = 315_532_800  # 1980, the first year that a zip can hold
LAMBDA_ENTRY: Final = ("python", "-m", "awslambdaric")
LAMBDA_COMMAND: Final = (HANDLER,)

_DEBIAN_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*(=[A-Za-z0-9.+~:-]+)?")
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")
_R_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
_COMPILERS_FOR_R: Final = ("r-base-dev", "libcurl4-openssl-dev", "libssl-dev", "libxml2-dev")
_UV: Final = "uv>=0.5,<1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the image shall be made of. Errors: SettingsError for names that are none."""

    python: str  # the client's, `3.13`
    project: Project = field(default_factory=Project)
    cloudexec: str = "cloudexec-0-py3-none-any.whl"  # the wheel's file name, in the context's folder `cloudexec`
    cloudpickle: str = ""  # the client's version: workers refuse pickles of another
    base: str = ""
    apt: tuple[str, ...] = ()
    apt_build: tuple[str, ...] = ()  # needed for building alone
    pip: tuple[str, ...] = ()
    r: tuple[str, ...] = ()
    has_wheels: bool = False  # the context has a folder `wheels`
    no_index: bool = False  # everything is there
    has_source: bool = False  # the context has a folder `source`

    def __post_init__(self) -> None:
        for kind, names, form in (
            ("--apt", (*self.apt, *self.apt_build), _DEBIAN_NAME),
            ("--r", self.r, _R_NAME),
        ):
            wrong = [name for name in names if not form.fullmatch(name)]
            if wrong:
                raise SettingsError(f"{kind} {wrong[0]!r} is not the name of a package", remedy="name one at a time")
        if any("\n" in name for name in self.pip):
            raise SettingsError("--pip has a line break in it", remedy="name one package at a time")

    @property
    def has_r(self) -> bool:
        """Whether the image has R."""
        return bool(self.r or self.project.r_version)

    @property
    def base_image(self) -> str:
        """What the image begins from. A conda environment brings its own Python."""
        official = "debian:13-slim" if self.project.kind == CONDA else f"python:{self.python}-slim"
        return self.base or f"{_OFFICIAL}/{official}"


def dockerfile(recipe: Recipe) -> str:
    """The text."""
    parts = [_head(recipe)]
    if recipe.apt or recipe.has_r:
        parts.append(_system(recipe))
    if recipe.project.r_version:
        parts.append(_renv())
    parts += [_build(recipe), _image(recipe)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(recipe: Recipe) -> list[str]:
    origin = recipe.project.chosen or "no file of packages"
    return [
        f"# A worker image for Python {recipe.python}, the client's, from {origin}; by `cloudexec image write`.",
        "# `cloudexec image build` makes its context: cloudexec as a wheel, the files named below, nothing else.",
        "",
        f"ARG BASE={recipe.base_image}",
    ]


# --- Debian and R --------------------------------------------------------------------------------


def _system(recipe: Recipe) -> list[str]:
    names = [*(["r-base-core"] if recipe.has_r else []), *recipe.apt]
    lines = ["FROM ${BASE} AS system", *_epoch()]
    if recipe.has_r:
        lines += [
            "# R packages come compiled from Debian. What only people read is left out.",
            "# A folder's time must be the one that its layer keeps, or every plot makes the index of fonts anew.",
        ]
    lines.append(f"# hadolint ignore=DL3008{',SC2043' if len(recipe.r) == 1 else ''}")
    steps = ["export DEBIAN_FRONTEND=noninteractive"]
    if recipe.has_r:
        steps.append(
            "printf 'path-exclude=%s\\n' '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*'"
            " '/usr/lib/R/library/translations/*' > /etc/dpkg/dpkg.cfg.d/no-documentation"
        )
    steps.append("apt-get update -q")
    if recipe.r:
        steps += _choice_of_r_packages(recipe.r)
        steps.append(f'apt-get install -y -q --no-install-recommends {_words(names)} "$@"')
    else:
        steps.append(f"apt-get install -y -q --no-install-recommends {_words(names)}")
    if recipe.has_r:
        steps.append(
            'find /usr/share/fonts /usr/local/share/fonts -type d -exec touch -d "@$SOURCE_DATE_EPOCH" {} +'
            " && fc-cache --force"
        )
    return lines + _run([*steps, _APT_IS_GONE])


_APT_IS_GONE: Final = "rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log /var/cache/ldconfig/*"


def _choice_of_r_packages(names: Sequence[str]) -> list[str]:
    """Debian calls them r-cran-NAME or r-bioc-NAME, in small letters. They become the shell's arguments."""
    loop = (
        f"for name in {_words(name.lower() for name in names)}; do"
        ' if apt-cache show --no-all-versions "r-cran-$name" > /dev/null 2>&1; then set -- "$@" "r-cran-$name";'
        ' elif apt-cache show --no-all-versions "r-bioc-$name" > /dev/null 2>&1; then set -- "$@" "r-bioc-$name";'
        ' else unknown="$unknown $name"; fi; done'
    )
    words = "Debian has no package for:$unknown (is it in base R, or misspelt? else name it in renv.lock)"
    refuse = f'if [ -n "$unknown" ]; then echo "--r: {words}" >&2; exit 1; fi'
    return ['set -- && unknown=""', loop, refuse]


def _renv() -> list[str]:
    library = "/usr/local/lib/R/site-library"
    renv = "dir.create('/renv'); install.packages('renv', lib = '/renv', repos = '${CRAN}')"
    restore = f"renv::restore(lockfile = 'renv.lock', library = '{library}', prompt = FALSE)"
    return [
        "# What renv.lock names is compiled apart, so that the compilers stay behind.",
        "FROM system AS renv",
        "ARG CRAN=https://cloud.r-project.org",
        f'ARG R_BUILD_PACKAGES="{" ".join(_COMPILERS_FOR_R)}"',
        "# hadolint ignore=SC2086,DL3008",
        *_run(["apt-get update -q", "apt-get install -y -q --no-install-recommends ${R_BUILD_PACKAGES}"]),
        "WORKDIR /lock",
        "COPY renv.lock ./",
        *_run(
            [
                f"mkdir -p {library}",
                f'Rscript --vanilla -e "{renv}"',
                "RENV_CONFIG_CACHE_ENABLED=FALSE Rscript --vanilla -e \".libPaths(c('/renv', .libPaths()))\""
                f' -e "{restore}"',
            ]
        ),
    ]


# --- Python's packages ---------------------------------------------------------------------------


def _build(recipe: Recipe) -> list[str]:
    project = recipe.project
    is_conda = project.kind == CONDA
    lines = [f"FROM {_MICROMAMBA if is_conda else '${BASE}'} AS build"]
    if is_conda:
        lines += ["# This stage alone; its own user may not write to /opt.", "# hadolint ignore=DL3002", "USER 0"]
    lines += [
        *_epoch(),
        "# An index of your own: --build-arg. What is given so stays in this stage.",
        'ARG PIP_INDEX_URL=""',
        'ARG PIP_EXTRA_INDEX_URL=""',
        *[f'ARG {name}=""' for name in _variables(project)],
        "WORKDIR /context",
    ]
    needed = [*recipe.apt_build, *(["git"] if project.needs_git and not is_conda else [])]
    if needed:
        install = f"apt-get install -y -q --no-install-recommends {_words(needed)}"
        lines += ["# hadolint ignore=DL3008", *_run(["apt-get update -q", install, "rm -rf /var/lib/apt/lists/*"])]
    if recipe.has_wheels:
        lines.append("COPY wheels wheels")
    if is_conda:
        lines += _conda()
    else:
        lines += _run([*_check_of_base(recipe), f"python -m venv --without-pip {HOME}"])
        lines += _from_uv(recipe) if project.kind == UV else _from_pip(recipe)
    return lines + _own_packages(recipe) + _byte_code()


def _variables(project: Project) -> list[str]:
    """What lists of packages take from the environment, as pip does it: `${TOKEN}`."""
    lists = ("requirements.txt", "constraints.txt", "environment.yml")
    found = {one for name in lists for one in _VARIABLE.findall(project.files.get(name, ""))}
    return sorted(found - {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"})


def _check_of_base(recipe: Recipe) -> list[str]:
    """A base that somebody has named may have another Python; then the build ends, and not each call."""
    if not recipe.base:
        return []
    found = "python -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'"
    words = f"the base has Python $found, but the client has {recipe.python}: calls need the same"
    return [f'found="$({found})"', f'if [ "$found" != {recipe.python} ]; then echo "{words}" >&2; exit 1; fi']


def _conda() -> list[str]:
    return [
        "COPY environment.yml ./",
        *_run(
            [
                f"micromamba create --yes --quiet --prefix {HOME} --file environment.yml",
                "micromamba clean --all --yes --quiet",
            ]
        ),
    ]


def _from_pip(recipe: Recipe) -> list[str]:
    files = recipe.project.files
    if recipe.project.kind == NOTHING or not files.get("requirements.txt"):
        return []
    copied = [name for name in ("requirements.txt", "constraints.txt") if name in files]
    words = ["--requirement requirements.txt"]
    words += ["--constraint constraints.txt"] if "constraints.txt" in files else []
    words += ["--require-hashes"] if recipe.project.is_hashed else []
    return [f"COPY {_words(copied)} ./", *_run([_pip_install(recipe, words)])]


def _from_uv(recipe: Recipe) -> list[str]:
    """The lock as it stands: nothing is resolved anew. uv itself stays in this stage."""
    extras = "".join(f" --extra {shlex.quote(extra)}" for extra in recipe.project.extras)
    # cloudexec is the client's own, below, whatever the lock says.
    left_out = "--no-dev --no-emit-project --no-emit-package cloudexec"
    export = f"uv export --frozen {left_out} --no-header --quiet{extras} --output-file requirements.txt"
    return [
        "COPY pyproject.toml uv.lock ./",
        *_run(
            [
                f"python -m pip install {_PIP_WORDS}{_index_words(recipe)} '{_UV}'",
                export,
                _pip_install(recipe, ["--requirement requirements.txt"]),
            ]
        ),
    ]


def _own_packages(recipe: Recipe) -> list[str]:
    """What makes a worker of it, last: a newer cloudexec leaves the layers above as they are."""
    wanted = [f"cloudexec/{recipe.cloudexec}", "awslambdaric", *recipe.pip]
    if recipe.cloudpickle:
        wanted.insert(1, f"cloudpickle=={recipe.cloudpickle}")
    lines = [
        "# The client's own cloudexec and cloudpickle; awslambdaric, so that Lambda can start the image, too.",
        "COPY cloudexec cloudexec",
        "# hadolint ignore=DL3013,SC2102",
        *_run([_pip_install(recipe, [shlex.quote(one) for one in wanted])]),
    ]
    if recipe.has_source and recipe.project.is_package:
        lines += ["COPY source source", *_run([_pip_install(recipe, ["--no-deps", "./source"])])]
    return lines


def _byte_code() -> list[str]:
    return [
        "# Compiled here: workers may not write it, and each start would pay. By hash: layers may change files' times.",
        *_run([_compile(f"{HOME}/bin/python", f"{HOME}/lib")]),
    ]


def _compile(python: str, words: str) -> str:
    compiling = f"PYTHONHASHSEED=0 {python} -m compileall -q -j 0 --invalidation-mode unchecked-hash {words}"
    return f"{{ {compiling} > /dev/null || echo 'some files are not for this Python; they stay as they are'; }}"


_PIP_WORDS: Final = "--no-cache-dir --no-compile --root-user-action ignore --disable-pip-version-check"


def _index_words(recipe: Recipe) -> str:
    return (" --no-index" if recipe.no_index else "") + (" --find-links wheels" if recipe.has_wheels else "")


def _pip_install(recipe: Recipe, words: Iterable[str]) -> str:
    # The environment has no pip of its own: the base's works on it, and stays out of the image. Conda's has one.
    python = f"{HOME}/bin/python -m pip" if recipe.project.kind == CONDA else f"python -m pip --python {HOME}"
    return f"{python} install {_PIP_WORDS}{_index_words(recipe)} {' '.join(words)}"


# --- the image -----------------------------------------------------------------------------------


def _image(recipe: Recipe) -> list[str]:
    is_on_path = recipe.has_source and not recipe.project.is_package
    lines = [
        f"FROM {'system' if recipe.apt or recipe.has_r else '${BASE}'}",
        *_epoch(),
        'LABEL org.opencontainers.image.title="cloudexec worker" \\',
        f'      org.cloudexec.python="{recipe.python}"',
        "# Lambda runs an image as a user of its own, who must be able to enter the working directory.",
        *([] if recipe.project.kind == CONDA else [_WHY_STANDARD]),
        *_run(
            [
                "useradd --uid 10001 --create-home --shell /usr/sbin/nologin worker",
                "chmod 755 /home/worker",
                *([] if recipe.project.kind == CONDA else [_standard_library()]),
            ]
        ),
    ]
    if recipe.project.r_version:
        lines.append("COPY --from=renv /usr/local/lib/R/site-library /usr/local/lib/R/site-library")
    lines.append(f"COPY --from=build {HOME} {HOME}")
    if is_on_path:
        lines.append("COPY source /opt/source")
    lines += [
        "# Unbuffered: the last words of a worker that is killed stand in its log.",
        f"ENV PATH={HOME}/bin:$PATH PYTHONUNBUFFERED=1 LANG=C.UTF-8{' PYTHONPATH=/opt/source' if is_on_path else ''}",
        "USER 10001",
        "WORKDIR /home/worker",
        "# The agent puts what it has not finished back into the queue when it is told to end.",
        "STOPSIGNAL SIGTERM",
        "# No ENTRYPOINT: a container command of the user's own replaces this one as a whole. Lambda starts it with",
        f"#   EntryPoint {json.dumps(LAMBDA_ENTRY)}, Command {json.dumps(LAMBDA_COMMAND)}",
        'CMD ["python", "-m", "cloudexec.worker", "--pull"]',
    ]
    return lines


_WHY_STANDARD: Final = "# The base's Python comes without byte code of its library: half a second of each start."


def _standard_library() -> str:
    where = '"$(python -c \'import sysconfig; print(sysconfig.get_path("stdlib"))\')"'
    return _compile("python", f"-x '/(test|tests|idlelib|lib2to3|ensurepip|site-packages)/' {where}")


def _epoch() -> list[str]:
    """What tools write as a date, where they ask this variable."""
    return [f"ARG SOURCE_DATE_EPOCH={EPOCH_S}"]


def _run(steps: Sequence[str]) -> list[str]:
    """One layer."""
    first, *others = steps
    lines = [f"RUN {first}", *[f"    && {step}" for step in others]]
    return [*[f"{line} \\" for line in lines[:-1]], lines[-1]]


def _words(names: Iterable[str]) -> str:
    return " ".join(names)
