"""Cross-validate a support vector machine over a grid of settings: `map` beside the `map` of executors.

    make demo                                 makes its environment and runs this: on three executors, in short
    make demo ARGS="--on lambda"              on one of them, with more work and more to tell: local, ecs, lambda
    python examples/crossval.py --quick       a twentieth of the work; needs cloudexec[testing] and scikit-learn

The data are real and ship with scikit-learn: 1,797 images of handwritten digits (UCI, Alpaydin and Kaynak 1998).
stages.py beside this file makes the executors and tells what happens behind them; crossval_r.py does the like in R.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import sklearn
from crossval_r import show_r
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from stages import STAGES, Stage, say, tell
from threadpoolctl import threadpool_limits

PENALTIES = (0.1, 1.0, 10.0, 100.0)
GAMMAS = (0.003, 0.01, 0.03, 0.1, 0.3)
N_FOLDS = 12


# --- the work: plain Python, nothing in it knows of cloudexec ------------------------------------


def score(images: np.ndarray, digits: np.ndarray, folds: list[Any], C: float, gamma: float, fold: int) -> float:
    """The accuracy on one fold of a machine that was trained on the others."""
    train, test = folds[fold]
    machine = SVC(C=C, gamma=gamma).fit(images[train], digits[train])
    return float(machine.score(images[test], digits[test]))


def use_one_thread() -> None:
    """Hold BLAS and OpenMP to one thread: the plain loop shall not use two CPUs, nor two workers use four."""
    import sklearn.svm  # noqa: F401 - only libraries that are loaded by now can be held

    threadpool_limits(limits=1)


def process_id(pause_s: float) -> int:
    """Who runs this call; the pause leaves time for others to take the next one."""
    time.sleep(pause_s)
    return os.getpid()


# --- what the demonstration shows ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work, and what comes of it without any executor."""

    settings: list[tuple[float, float]]
    calls: list[tuple[float, float, int]]
    work: Any  # gives the score of one call
    plain: list[float]
    plain_s: float


def main(names: list[str], n_folds: int, is_quick: bool) -> int:
    """Run the plain loop, then each stage, and compare; the exit code."""
    is_short = len(names) > 1
    classes = [STAGES[name] for name in names]
    on = " and ".join(", ".join(each.kind.__name__ for each in classes).rsplit(", ", 1))
    say(f"cloudexec: cross-validation, as a plain loop and on {on}\n")
    task = plainly(n_folds, is_quick)
    fine = []
    for number, each in enumerate(classes, start=1):
        if is_short:
            say(f"\n  --- {number} of {len(classes)} " + "-" * 60 + "\n")
        with each() as stage:
            fine.append(show(stage, task, is_short))
    if is_short:
        say("\n  Between the three, one line of the program is another one:\n")
        for each in classes:
            say(f"    {each().line(use_one_thread)}")
        say("        scores = list(executor.map(work, *inputs))\n")
    if "local" in names:
        fine.append(show_r(STAGES["local"]().n_workers, is_quick))
    tell("memory", f"peak {peak_mb():.0f} MB in this process")
    return 0 if all(fine) else 1


def plainly(n_folds: int, is_quick: bool) -> Task:
    """The plain loop."""
    images, digits = load_digits(return_X_y=True)
    images = images / 16
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=1).split(images, digits))
    settings = list(product(PENALTIES[::3] if is_quick else PENALTIES, GAMMAS[::2] if is_quick else GAMMAS))
    calls = [(C, gamma, fold) for C, gamma in settings for fold in range(n_folds)]
    work = partial(score, images, digits, folds)

    tell("data", f"{len(images):,} images of handwritten digits, {images.nbytes / 1e6:.1f} MB")
    tell("calls", f"{len(settings)} settings x {n_folds} folds = {len(calls)} fits of a support vector machine")
    tell("fair", "BLAS and OpenMP are held to one thread on both sides")
    tell("here", f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}")
    warn_of_other_load()
    say("")
    use_one_thread()
    began = time.perf_counter()
    plain = list(progress("plain loop", len(calls), map(work, *zip(*calls, strict=True))))
    return Task(settings=settings, calls=calls, work=work, plain=plain, plain_s=time.perf_counter() - began)


def show(stage: Stage, task: Task, is_short: bool) -> bool:
    """The same on an executor, and what goes wrong there on purpose; whether all is as it should be."""
    inputs = list(zip(*task.calls, strict=True))
    tell("program", stage.line(use_one_thread))
    stage.tell_where()
    say("")
    began = time.perf_counter()
    with stage.executor(use_one_thread) as executor:
        wait_for_workers(executor)
        start_s = time.perf_counter() - began
        began = time.perf_counter()
        scores = list(progress(stage.name, len(task.calls), executor.map(task.work, *inputs)))
        executor_s = time.perf_counter() - began
        facts = executor.run

        say("")
        if not is_short:
            show_table(task.settings, np.reshape(scores, (len(task.settings), -1)).mean(axis=1))
        same = scores == task.plain
        tell("scores", f"{'identical' if same else 'NOT IDENTICAL'} to the plain loop's, all {len(scores)} of them")
        tell("speed-up", f"{task.plain_s / executor_s:.2f} x with max_workers={executor.max_workers}, one for each CPU")
        tell("start", f"{start_s:.1f} s until all workers had imported scikit-learn, not counted")
        tell("messages", f"{facts.batches} batches carried {facts.total} calls; the images were written once")
        stage.tell_workers()
        show_failure(executor, task.work, is_short)
        n_more = max(6, len(task.calls) // 4)
        same &= stage.show_loss(executor, task.work, task.calls[:n_more], task.plain[:n_more])
    return stage.tell_end() and same


def wait_for_workers(executor: Any) -> None:
    """Until every worker has run a call."""
    seen: set[int] = set()
    while len(seen) < executor.max_workers:
        seen.update(executor.map(process_id, [0.1] * executor.max_workers, chunksize=1))


def show_table(settings: list[tuple[float, float]], means: np.ndarray) -> None:
    """Mean accuracies, one row for each C."""
    by_setting = dict(zip(settings, means, strict=True))
    best = max(settings, key=lambda setting: by_setting[setting])
    gammas = sorted({gamma for _, gamma in settings})
    say("  accuracy in %, mean over the folds; * marks the best\n")
    say(f"  {'C':>5} |" + "".join(f"{f'gamma={gamma:g}':>13}" for gamma in gammas))
    say("  " + "-" * 6 + "+" + "-" * 13 * len(gammas))
    for C in sorted({C for C, _ in settings}):
        cells = [f"{100 * by_setting[C, gamma]:.2f}{'*' if (C, gamma) == best else ' '}" for gamma in gammas]
        say(f"  {C:>5g} |" + "".join(f"{cell:>13}" for cell in cells))
    say("")


def show_failure(executor: Any, work: Any, is_short: bool) -> None:
    """One call with a setting that makes no sense, and what its future tells of it."""
    failing = executor.with_options(name="a penalty below zero").submit(work, -1.0, 0.03, 0)
    sound = executor.submit(work, 1.0, 0.03, 0)
    error = failing.exception()
    trace = f"{error.__cause__}".strip().strip('"').strip().splitlines()
    if is_short:
        trace = [*trace[:3], "  ...", trace[-1]]
    say("\n  One call fails on purpose (C=-1). Its future holds the remote traceback:\n")
    say(textwrap.indent("\n".join(trace), "  | ") + "\n")
    tell("error", f"{type(error).__name__}, in call {failing.call_id}")
    tell("ran on", f"slot {failing.stats.worker}")
    tell("others", f"unharmed: the next call scored {100 * sound.result():.2f} % and took {sound.stats.run_s:.2f} s")


def warn_of_other_load() -> None:
    """If other programs keep this machine busy, there is less to gain."""
    if (load := os.getloadavg()[0]) > 0.5:
        tell("", f"(a load of {load:.1f} by other programs will cost speed)")


def peak_mb() -> float:
    """Most memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def progress(title: str, total: int, results: Iterable[float]) -> Iterator[float]:
    """Pass results on and count them: in place on a terminal, as three lines elsewhere."""
    live, width, began = sys.stdout.isatty(), 30, time.perf_counter()
    for done, result in enumerate(results, start=1):
        yield result
        elapsed_s = time.perf_counter() - began
        if live:
            bar = ("#" * (width * done // total)).ljust(width, ".")
            print(f"\r  {title:<14} [{bar}] {done:>3}/{total}  {elapsed_s:5.1f} s", end="", flush=True)
        elif done in (total // 3, 2 * total // 3, total):
            say(f"  {title:<14} {done:>3}/{total}  {elapsed_s:5.1f} s")
    if live:
        say("")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cross-validation, as a plain loop and on executors.")
    parser.add_argument("--on", choices=[*STAGES, "all"], default="all", help="one executor, or all of them in short")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work")
    options = parser.parse_args()
    names = list(STAGES) if options.on == "all" else [options.on]
    n_folds = 2 if options.quick else N_FOLDS if len(names) == 1 else 3
    try:
        sys.exit(main(names, n_folds, options.quick))
    except KeyboardInterrupt:
        say("\n  interrupted; the workers have ended, nothing is left behind")
        sys.exit(130)
