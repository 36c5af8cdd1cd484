"""`python -m cloudexec.worker`: start a worker.

Calls: supervisor.serve, which a client on this machine starts with `--control-fd N`, one end of a Unix socket pair
       (and `--with-bucket`, if it shall import ahead what a bucket asks for; `--log-fd N`, where output of calls may
       go);
       agent.main.pull, which a container starts with `--pull`.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run the command line; the exit code."""
    words = [word for word in arguments if word != "--with-bucket"]
    if words[::2] in (["--control-fd"], ["--control-fd", "--log-fd"]) and len(words) % 2 == 0:
        from cloudexec.worker.supervisor import serve

        log_fd = int(words[3]) if len(words) > 2 else -1
        return serve(int(words[1]), with_bucket=len(words) < len(arguments), log_fd=log_fd)
    if arguments == ["--pull"]:
        from cloudexec.worker.agent.main import pull

        return pull()
    if arguments == ["--check"]:
        from cloudexec.worker import supervisor  # noqa: F401 - importing it is the check

        print(f"cloudexec worker: ready, Python {sys.version.split()[0]} at {sys.executable}")
        return 0
    print("usage: python -m cloudexec.worker --check | --pull | --control-fd N", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
