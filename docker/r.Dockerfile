# The image of a worker for R code: what docker/python.Dockerfile makes, R, and packages of both. One image for ECS, EC2
# and Lambda.
#
#   docker build -f docker/r.Dockerfile -t my-r-worker .
#   docker build -f docker/r.Dockerfile --build-arg PYTHON_VERSION=3.12 --build-arg R_PACKAGES="randomForest lme4" .
#
# R is the base's: Debian 12 has 4.2, Debian 13 has 4.5. R packages come from Debian, which has compiled a thousand of
# them; for other packages or exact versions put a `renv.lock` beside this checkout's README.md.
# On Lambda it is started with other words, as the stack does it (`cloudexec up --parameters FunctionImage=...`):
#   EntryPoint ["python", "-m", "awslambdaric"], Command ["cloudexec.worker.awslambda.handler"]
#
# The context is a checkout of cloudexec; or a directory with this file in `docker`, and `wheels` with cloudexec and all
# that it and PACKAGES need, and then no package index is asked (scripts/images.sh builds that way). The client's Python
# minor version must be the same.

ARG PYTHON_VERSION=3.13
ARG BASE=docker.io/library/python:${PYTHON_VERSION}-slim

# R comes first, because it changes least often: this is the layer that is built once.
FROM ${BASE} AS r
# What the R code loads, by R's names, e.g. "randomForest lme4 data.table".
ARG R_PACKAGES=""
# Other packages of Debian's, e.g. "libgdal32 fonts-noto".
ARG SYSTEM_PACKAGES=""
ARG SOURCE_DATE_EPOCH=315532800
# Left out: what is read by people, translations (LANG decides against them), and headers of R packages unless renv
# will compile against them. /usr/share/R/doc stays, R looks for files there when it starts.
# The index of fonts must be made for the time that a layer keeps of a folder, or every plot makes it anew.
# R_PACKAGES is a list; Debian's releases pin its versions.
# hadolint ignore=SC2086,DL3008
RUN printf 'path-exclude=%s\n' '/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' \
       '/usr/lib/R/library/translations/*' > /etc/dpkg/dpkg.cfg.d/no-documentation \
    && apt-get update -q \
    && set -- r-base-core && unknown="" \
    && for name in ${R_PACKAGES}; do \
         debian=$(python -c 'import sys; print(sys.argv[1].lower())' "$name"); \
         if apt-cache show --no-all-versions "r-cran-$debian" > /dev/null 2>&1; then set -- "$@" "r-cran-$debian"; \
         elif apt-cache show --no-all-versions "r-bioc-$debian" > /dev/null 2>&1; then set -- "$@" "r-bioc-$debian"; \
         else unknown="$unknown $name"; fi; \
       done \
    && if [ -n "$unknown" ]; then \
         echo "R_PACKAGES: Debian has no package for:$unknown (is it in base R, or misspelt? else name it in renv.lock)" >&2; \
         exit 1; \
       fi \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ${SYSTEM_PACKAGES} \
    && find /usr/share/fonts /usr/local/share/fonts -type d -exec touch -d "@$SOURCE_DATE_EPOCH" {} + && fc-cache --force \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/*.log /var/cache/ldconfig/*

# What renv.lock adds is compiled apart, so that the compilers stay behind.
FROM r AS renv
ARG CRAN=https://cloud.r-project.org
# What compiling takes, and the libraries that packages are compiled against, e.g. "r-base-dev libgdal-dev".
ARG R_BUILD_PACKAGES="r-base-dev libcurl4-openssl-dev libssl-dev libxml2-dev"
WORKDIR /lock
# This file goes along because COPY wants one that is there.
COPY docker/r.Dockerfile renv.loc[k] ./
# hadolint ignore=SC2086,DL3008
RUN mkdir -p /usr/local/lib/R/site-library \
    && if [ -f renv.lock ]; then \
         apt-get update -q \
         && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends ${R_BUILD_PACKAGES} \
         && Rscript --vanilla -e "dir.create('/renv'); install.packages('renv', lib = '/renv', repos = '${CRAN}')" \
         && RENV_CONFIG_CACHE_ENABLED=FALSE Rscript --vanilla -e ".libPaths(c('/renv', .libPaths()))" \
              -e "renv::restore(lockfile = 'renv.lock', library = '/usr/local/lib/R/site-library', prompt = FALSE)"; \
       fi

FROM ${BASE} AS build
# What the Python side imports, as pip takes it. numpy and pandas are what R's vectors and data frames become.
ARG PACKAGES="numpy pandas"
ARG SOURCE_DATE_EPOCH=315532800
WORKDIR /source
COPY . .
# Byte code is compiled here, because a worker may not write it later; each start would pay for that. It goes by hash,
# as a layer may change the times of files.
# PACKAGES is a list, with the versions that its author wants.
# hadolint ignore=SC2086,DL3013
RUN if [ -d wheels ]; then set -- --no-index --find-links wheels cloudexec; else set -- .; fi \
    && python -m pip install --no-cache-dir --no-compile --no-warn-script-location --root-user-action ignore \
       --prefix /installed "$@" awslambdaric ${PACKAGES} \
    && { PYTHONHASHSEED=0 python -m compileall -q -j 0 --invalidation-mode unchecked-hash /installed/lib > /dev/null \
       || echo 'some files are not for this Python; they stay as they are'; }

FROM r
LABEL org.opencontainers.image.title="cloudexec worker with R" \
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
COPY --from=renv /usr/local/lib/R/site-library /usr/local/lib/R/site-library
COPY --from=build /installed /usr/local
# Unbuffered: the last words of a worker that is killed stand in its log.
# UTF-8: in the C locale R writes what is not ASCII as <U+00E9>.
ENV PYTHONUNBUFFERED=1 LANG=C.UTF-8
USER 10001
WORKDIR /home/worker
# The agent puts what it has not finished back into the queue when it is told to end.
STOPSIGNAL SIGTERM
# No ENTRYPOINT: a container command of the user's own replaces this one as a whole.
CMD ["python", "-m", "cloudexec.worker", "--pull"]
