"""A script that reads MODEL_CONFIG and writes files, unchanged: as a call, and as the command of a container.

    python examples/r/run_script.py [--on local|ecs|lambda]

Needs R with jsonlite (Debian: r-cran-jsonlite). The data ship with R: mtcars (Henderson and Velleman 1981).
Called by: people; tests/examples.   Calls: cloudexec. The script, run_model.R, knows nothing of it.

As a call (`R.file`) it shares workers with other calls, starts at once, and its value and files come back. As a
`Command` it has a container of its own, of any image with R, nothing of cloudexec inside; its output comes back. The
commands here run on ECSExecutor in the pocket AWS, whatever --on says: containers are what ECS has.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from beside import arguments, executor_on, plain_script, tell, verdict

from cloudexec import Command, ECSExecutor, R, RFiles, RObject

SCRIPT = Path(__file__).with_name("run_model.R")
CONFIGS: list[dict[str, Any]] = [
    {"name": "weight", "formula": "mpg ~ wt"},
    {"name": "power", "formula": "mpg ~ wt + hp"},
    {"name": "all", "formula": "mpg ~ ."},
]
SAME_FIT = R("function(a, b) identical(coef(a), coef(b)) && identical(resid(a), resid(b))")


def as_calls(executor: Any) -> list[RFiles]:
    """One call for each configuration; the values, and the files that the script wrote."""
    model = R.file(SCRIPT, outputs=["*.rds", "plots/*.png"])
    futures = [executor.submit(model.with_env(MODEL_CONFIG=json.dumps(config))) for config in CONFIGS]
    return [future.result() for future in futures]


def as_containers() -> list[str]:
    """One container for each configuration; what each printed."""
    from cloudexec.testing import PocketAWS

    # In an image of your own the script has a path of its own, such as /models/run_model.R; the pocket AWS runs
    # commands on this machine's files.
    script = ["Rscript", "--vanilla", str(SCRIPT)]
    commands = [Command(script, env={"MODEL_CONFIG": json.dumps(config)}, image="r-models") for config in CONFIGS]
    with PocketAWS() as aws, aws.activated(), ECSExecutor(max_workers=2) as executor:
        return [future.result().log for future in [executor.submit(command) for command in commands]]


def main() -> int:
    """Run both, compare each; the exit code."""
    given = arguments(__doc__)
    with executor_on(given.on) as executor:
        done = as_calls(executor)
    printed = as_containers()
    same_calls = same_containers = True
    for config, call, log in zip(CONFIGS, done, printed, strict=True):
        with tempfile.TemporaryDirectory() as directory:
            plain = plain_script(SCRIPT, directory, MODEL_CONFIG=json.dumps(config))
            call.save(Path(directory) / "ours")
            fits = [RObject.load(Path(directory, place, f"{config['name']}.rds")) for place in ("", "ours")]
            plots = [Path(directory, place, "plots", f"{config['name']}.png").read_bytes() for place in ("", "ours")]
        tell(config["name"], f"AIC {call.value['aic']:.2f}, R² {call.value['r2']:.3f}; wrote {', '.join(call.files)}")
        same_calls &= SAME_FIT(*fits) and plots[0] == plots[1]
        same_containers &= log == plain
    first = verdict(same_calls, "fits and plots of the calls")
    return verdict(same_containers, "what the containers printed") or first


if __name__ == "__main__":
    raise SystemExit(main())
