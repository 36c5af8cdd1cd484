# The image of a worker: Python, cloudexec, and nothing that keeps it from starting fast.
#
#   docker build -f docker/python.Dockerfile -t my-worker .
#   docker build -f docker/python.Dockerfile --build-arg PYTHON_VERSION=3.12 --build-arg PACKAGES="numpy pandas" .
#
# For a project's own packages `cloudexec image` writes and builds such a recipe; docker/README.md says what it weighs.
# One image for ECS, EC2 and Lambda. Lambda starts it with other words:
#   EntryPoint ["python", "-m", "awslambdaric"], Command ["cloudexec.worker.awslambda.handler"]
#
# The context is a checkout of cloudexec; or a directory `wheels` with cloudexec and all that it needs, and then
# no package index is asked (scripts/images.sh builds that way). The client's Python minor version must be the same.
# Need more of the system? Begin an image of your own with `FROM my-worker`, `USER root`, and end it with `USER 10001`.

ARG PYTHON_VERSION=3.13
ARG BASE=docker.io/library/python:${PYTHON_VERSION}-slim

FROM ${BASE} AS build
# What the functions import, as pip takes it, e.g. "numpy pandas>=2".
ARG PACKAGES=""
# What Lambda needs beside; 1 MB. `--build-arg LAMBDA_PACKAGES=` leaves it out.
ARG LAMBDA_PACKAGES=awslambdaric
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /source
COPY . .
# Byte code is compiled here, because a worker may not write it later; each start would pay for that. It goes by hash,
# as a layer may change the times of files.
# PACKAGES is a list, with the versions that its author wants.
# hadolint ignore=SC2086,DL3013
RUN if [ -d wheels ]; then set -- --no-index --find-links wheels cloudexec; else set -- .; fi \
    && python -m pip install --no-cache-dir --no-compile --no-warn-script-location --root-user-action ignore \
       --prefix /installed "$@" ${LAMBDA_PACKAGES} ${PACKAGES} \
    && { PYTHONHASHSEED=0 python -m compileall -q -j 0 --invalidation-mode unchecked-hash /installed/lib > /dev/null \
       || echo 'some files are not for this Python; they stay as they are'; }

FROM ${BASE}
LABEL org.opencontainers.image.title="cloudexec worker" \
      org.opencontainers.image.description="Takes calls from the queue of a cloudexec run and sends back their outcomes" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG SOURCE_DATE_EPOCH=315532800
# Lambda runs an image as a user of its own, who must be able to enter the working directory.
# The base's Python comes without byte code of its library, which is half a second of each start.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin worker && chmod 755 /home/worker \
    && { PYTHONHASHSEED=0 python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
         -x '/(test|tests|idlelib|lib2to3|ensurepip|site-packages)/' \
         "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" > /dev/null \
       || echo 'some files are not for this Python; they stay as they are'; }
COPY --from=build /installed /usr/local
# Unbuffered: the last words of a worker that is killed stand in its log.
ENV PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/worker
# The agent puts what it has not finished back into the queue when it is told to end.
STOPSIGNAL SIGTERM
# No ENTRYPOINT: a container command of the user's own replaces this one as a whole.
CMD ["python", "-m", "cloudexec.worker", "--pull"]
