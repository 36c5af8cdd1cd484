#!/usr/bin/env bash
# Build the worker images on this machine, without a Docker daemon and without an image registry.
#
#   images.sh install           podman, buildah, runc and mmdebstrap, by apt, if this is root on Debian; and the registry
#   images.sh build [PYTHON]    the image for that interpreter's version (the newest found); prints its name
#   images.sh build-r [PYTHON]  the one with R (R_PACKAGES in it, with none but R's own if that is not set)
#   images.sh settings          prints NAME=VALUE lines: what podman's environment needs to see the image
#   images.sh base [PYTHON]     the base alone; prints its name, and the folder of all wheels that a worker needs
#   images.sh registry          prints where the program of an image registry lies: Debian's, unpacked and not installed
#
# The base is made here too: a minimal Debian of this machine's release, with the interpreter copied in. An
# interpreter of its own prefix (pyenv, /usr/local) is needed; Debian's own is spread all over /usr.
# Exit status 69: the images cannot be made on this machine; the last line says why.
#
#   CLOUDEXEC_IMAGES    where base, layers and settings lie (~/.cache/cloudexec/images)
# Called by: tests/images, test.sh.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
home=${CLOUDEXEC_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/cloudexec/images}
log=$home/build.log

say() { echo "cloudexec: $*" >&2; }
unavailable() { say "$*"; exit 69; }

EPOCH=315532800  # 1980: the same input shall give the same layers
PACKAGES=(podman buildah runc netavark aardvark-dns conmon uidmap mmdebstrap)

have_tools() { command -v podman buildah runc mmdebstrap >/dev/null; }

apt_install() { apt-get install -y -q --no-install-recommends "${PACKAGES[@]}" </dev/null >"$log" 2>&1; }

install_tools() {
  if have_tools; then return; fi
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    unavailable "no container tools here; run 'sudo apt-get install ${PACKAGES[*]}', then repeat"
  fi
  say "installing podman, buildah, runc and mmdebstrap (once; about a quarter of a minute)"
  # The lists of a fresh machine are empty or old: refresh them, but only if the first try needs it.
  apt_install || { apt-get update -q >/dev/null 2>&1 && apt_install; } ||
    unavailable "apt-get could not install podman: $(tail -n 1 "$log") ($log)"
}

# Two files instead of the system's own, so that nothing else on the machine changes.
#   ulimits   podman's default raises them, which a container without CAP_SYS_RESOURCE may not
#   runc      crun refuses hybrid control groups
#   cgroupfs  there need be no systemd
write_settings() {
  local driver=overlay
  # A layered file system cannot lie on another one: then every layer is a full copy.
  if [[ $(stat --file-system --format=%T "$home") == overlayfs ]]; then driver=vfs; fi
  cat >"$home/containers.conf" <<END
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
  cat >"$home/storage.conf" <<END
[storage]
driver = "$driver"
graphroot = "$home/store"
runroot = "$home/run"
END
}

settings() {
  echo "CONTAINERS_CONF=$home/containers.conf"
  echo "CONTAINERS_STORAGE_CONF=$home/storage.conf"
}

# What the base is made for: `3.13 /prefix 3.13.0`.
PROBE='
import sys, sysconfig
print("%d.%d" % sys.version_info[:2], sys.base_prefix, "%d.%d.%d" % sys.version_info[:3])'

# The shared libraries of an interpreter's extension modules, as Debian packages.
libraries_of() {  # PREFIX MINOR
  local file
  { ldd "$1/bin/python$2"; find "$1/lib/python$2/lib-dynload" -name '*.so' ! -name '_tkinter*' -exec ldd {} +; } |
    awk '$2 == "=>" && $3 ~ "^/(usr/)?lib/" { print $3 }' | sort -u |
    while read -r file; do
      dpkg -S "$file" 2>/dev/null || dpkg -S "/usr$file" 2>/dev/null || true
    done | cut -d: -f1 | sort -u | paste -sd,
}

mirror_of() {  # CODENAME: the mirror that this machine's own packages of that release come from
  apt-get indextargets --format "\$(SITE) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' |
    awk -v release="$1" '$2 == release && $3 == "main" { print $1; exit }'
}

make_debian() {  # CODENAME LIBRARIES FILE
  local mirror
  mirror=$(mirror_of "$1")
  say "making a minimal Debian $1 (once; about half a minute)"
  mmdebstrap --quiet --variant=minbase --include="ca-certificates,$2" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$1" "$3.part.tar" ${mirror:+"$mirror"} >"$log" 2>&1 ||
    unavailable "mmdebstrap could not make Debian $1: $(tail -n 1 "$log") ($log)"
  mv "$3.part.tar" "$3"
}

# What a worker needs of an interpreter: no tests, no windows, and of the installed packages pip alone.
pack_python() {  # PREFIX MINOR FILE
  tar --create --file="$3" --directory="$1" --owner=0 --group=0 \
    --exclude=__pycache__ --exclude="lib/python$2/test" --exclude="lib/python$2/idlelib" --exclude="*tkinter*" \
    --exclude="lib/python$2/turtledemo" --exclude="lib/python$2/config-*" --exclude="*/tests" \
    --exclude="lib/python$2/site-packages/[!p]*" --exclude="lib/python$2/site-packages/p[!i]*" \
    "bin/python$2" "lib/python$2" $(cd "$1" && ls lib/libpython*.so* 2>/dev/null || true)
}

make_base() {  # MINOR PREFIX FULL: the image that python.Dockerfile begins from
  local minor=$1 prefix=$2 full=$3 codename libraries debian context
  # shellcheck disable=SC1091  # it is the machine's own
  codename=$(. /etc/os-release && [[ $ID == debian ]] && echo "$VERSION_CODENAME") ||
    unavailable "the base image is made from Debian, on Debian; elsewhere give docker/python.Dockerfile a BASE"
  if [[ $prefix == /usr ]]; then
    unavailable "Python $full is the system's own, which cannot be copied into an image; use one from pyenv"
  fi
  libraries=$(libraries_of "$prefix" "$minor")
  debian=$home/debian-$codename-$(cksum <<<"$libraries" | cut -d' ' -f1).tar
  if [[ ! -e $debian ]]; then make_debian "$codename" "$libraries" "$debian"; fi
  context=$(mktemp -d "$home/base.XXXX")
  ln "$debian" "$context/debian.tar"
  pack_python "$prefix" "$minor" "$context/python.tar"
  cat >"$context/Dockerfile" <<END
FROM scratch
ADD debian.tar /
ADD python.tar /usr/local/
RUN ldconfig && ln -s python$minor /usr/local/bin/python3 && ln -s python$minor /usr/local/bin/python
END
  run_build "$context" "localhost/cloudexec-base:$full"
  rm -rf "$context"
}

# A recipe's own words stand before buildah's, which come last.
words_of() { grep -m 1 '^R_PACKAGES: ' "$1" || tail -n 1 "$1"; }

run_build() {  # CONTEXT TAG ARGUMENTS…
  buildah bud --quiet --layers=false --isolation chroot --network host --pull-never --tag "$2" "${@:3}" "$1" >"$log" 2>&1 ||
    unavailable "buildah could not make $2: $(words_of "$log") ($log)"
}

# Debian's package would start a service on this machine; one program of it is all that the tests want.
fetch_registry() {
  registry=$home/registry/usr/bin/docker-registry
  if [[ -x $registry ]]; then return; fi
  mkdir -p "$home/registry"
  (cd "$home/registry" && apt-get download -q -o APT::Sandbox::User=root docker-registry >"$log" 2>&1 &&
    dpkg-deb --extract docker-registry_*.deb . && rm docker-registry_*.deb) || {
    registry=""
    return 1
  }
}

# Everything that is installed comes from here, so that building asks no package index.
gather_wheels() {  # PYTHON DIRECTORY REQUIREMENTS…: dependencies are fetched once for each pyproject.toml
  local python=$1 wheels=$2 known
  local wheel=("$python" -m pip wheel --quiet --disable-pip-version-check --no-input --wheel-dir "$wheels" "$root")
  known="$(cksum <"$root/pyproject.toml") ${*:3}"
  if [[ $(cat "$wheels.stamp" 2>/dev/null) != "$known" ]]; then
    rm -rf "$wheels"
    "${wheel[@]}" "${@:3}" >"$log" 2>&1 || unavailable "pip could not gather wheels: $(tail -n 1 "$log") ($log)"
    echo "$known" >"$wheels.stamp"
  else
    rm -f "$wheels"/cloudexec-*.whl
    "${wheel[@]}" --no-deps >"$log" 2>&1 || unavailable "pip could not build cloudexec: $(tail -n 1 "$log") ($log)"
  fi
}

size_of() { podman image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

find_base() {  # PYTHON: sets minor and base; the base is made if need be
  local prefix full
  read -r minor prefix full < <("$1" -c "$PROBE")
  base=localhost/cloudexec-base:$full
  podman info >"$log" 2>&1 || unavailable "podman does not run here: $(tail -n 1 "$log") ($log)"
  if ! podman image exists "$base"; then make_base "$minor" "$prefix" "$full"; fi
}

make_image() {  # IMAGE WHEELS RECIPE ARGUMENTS…: unless it was made from the very same
  local image=$1 wheels=$2 recipe=$3 context made_from
  made_from=$({ cat "$root/docker/$recipe" "$wheels"/*; echo "$base ${*:4}"; } | cksum)
  if [[ $(podman image inspect --format '{{index .Labels "made-from"}}' "$image" 2>/dev/null) != "$made_from" ]]; then
    context=$(mktemp -d "$home/worker.XXXX")
    mkdir "$context/docker"
    cp -r "$wheels" "$context/wheels"
    cp "$root/docker/$recipe" "$context/docker"
    run_build "$context" "$image" --file "$context/docker/$recipe" --label "made-from=$made_from" \
      --timestamp "$EPOCH" --build-arg "SOURCE_DATE_EPOCH=$EPOCH" --build-arg "BASE=$base" "${@:4}"
    rm -rf "$context"
    podman image prune --force >/dev/null 2>&1 || true  # what the image was before
  fi
  say "$image: $(size_of "$image"), of which the base is $(size_of "$base")"
  echo "$image"
}

build() {  # PYTHON
  local minor base
  find_base "$1"
  gather_wheels "$1" "$home/wheels-$minor" awslambdaric
  make_image "localhost/cloudexec-worker:$minor" "$home/wheels-$minor" python.Dockerfile
}

base() {  # PYTHON
  local minor base
  find_base "$1"
  gather_wheels "$1" "$home/wheels-$minor" awslambdaric
  echo "$base $home/wheels-$minor"
}

# The layer with R is kept (--layers): half a minute of apt, once for each R_PACKAGES and recipe.
build_r() {  # PYTHON
  local minor base
  find_base "$1"
  gather_wheels "$1" "$home/wheels-r-$minor" numpy pandas awslambdaric
  make_image "localhost/cloudexec-worker-r:$minor" "$home/wheels-r-$minor" r.Dockerfile \
    --layers --build-arg "R_PACKAGES=${R_PACKAGES:-}"
}

mkdir -p "$home"
exec 9>"$home/lock"
flock 9  # two builds must not make the same thing
rm -rf "$home"/base.???? "$home"/worker.????  # of a build that broke off
write_settings
export CONTAINERS_CONF=$home/containers.conf CONTAINERS_STORAGE_CONF=$home/storage.conf

case ${1:-build} in
  install)
    install_tools 9>&-
    fetch_registry || say "the image registry could not be had: $(tail -n 1 "$log") ($log)"
    ;;
  settings) settings ;;
  registry)
    fetch_registry || unavailable "docker-registry could not be had: $(tail -n 1 "$log") ($log)"
    echo "$registry"
    ;;
  base | build | build-r)
    have_tools || unavailable "no container tools here; run 'scripts/images.sh install' as root, then repeat"
    python=${2:-$("$root/scripts/pythons.sh" | tail -n 1 | cut -d' ' -f2)}
    "${1/-/_}" "$python" 9>&-
    ;;
  *) say "usage: images.sh install | build [PYTHON] | build-r [PYTHON] | base [PYTHON] | settings | registry"; exit 2 ;;
esac
