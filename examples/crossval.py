"""Cross-validate a support vector machine over a grid of settings: `map` beside `LocalExecutor().map`.

    make demo                            makes its environment and runs this
    python examples/crossval.py          needs cloudexec and scikit-learn
    python examples/crossval.py --quick  a tenth of the work

The data are real and ship with scikit-learn: 1,797 images of handwritten digits (UCI, Alpaydin and Kaynak 1998).
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
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from cloudexec import LocalExecutor

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


# --- what the demonstration shows ---------------------------------------------------------------


def main(quick: bool) -> int:
    """Run both ways, compare; the exit code."""
    images, digits = load_digits(return_X_y=True)
    images = images / 16
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=1).split(images, digits))
    settings = list(product(PENALTIES[::3] if quick else PENALTIES, GAMMAS[::2] if quick else GAMMAS))
    calls = [(C, gamma, fold) for C, gamma in settings for fold in range(N_FOLDS // 3 if quick else N_FOLDS)]
    work, inputs = partial(score, images, digits, folds), list(zip(*calls, strict=True))

    say("cloudexec: cross-validation of a support vector machine, as a plain loop and on LocalExecutor\n")
    tell("data", f"{len(images):,} images of handwritten digits, {images.nbytes / 1e6:.1f} MB; ships with scikit-learn")
    tell("calls", f"{len(settings)} settings x {len(calls) // len(settings)} folds = {len(calls)} fits")
    tell("fair", "BLAS and OpenMP are held to one thread on both sides")
    tell("here", f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}{other_load()}\n")

    use_one_thread()
    began = time.perf_counter()
    plain = list(progress("plain loop", len(calls), map(work, *inputs)))
    plain_s = time.perf_counter() - began

    began = time.perf_counter()
    with LocalExecutor(initializer=use_one_thread) as executor:
        list(executor.map(time.sleep, [0.01] * executor.max_workers))  # one call for each worker, which starts it
        start_s = time.perf_counter() - began
        began = time.perf_counter()
        scores = list(progress("LocalExecutor", len(calls), executor.map(work, *inputs)))
        executor_s = time.perf_counter() - began
        facts = executor.run

        say("")
        show_table(settings, np.reshape(scores, (len(settings), -1)).mean(axis=1))
        same = scores == plain
        tell("scores", f"{'identical' if same else 'NOT IDENTICAL'} to the plain loop's, all {len(scores)} of them")
        tell("speed-up", f"{plain_s / executor_s:.2f} x with max_workers={executor.max_workers}, a worker for each CPU")
        tell("start", f"{start_s:.1f} s until the workers had imported scikit-learn; not in the speed-up")
        tell("messages", f"{facts.batches} batches carried {facts.total} calls; the images were written once")
        show_failure(executor, work)

    client_mb, worker_mb = peak_mb(resource.RUSAGE_SELF), peak_mb(resource.RUSAGE_CHILDREN)
    tell("memory", f"peak {client_mb:.0f} MB here, {worker_mb:.0f} MB in the largest worker process")
    return 0 if same else 1


def show_table(settings: list[tuple[float, float]], means: np.ndarray) -> None:
    """Mean accuracies, one row for each C."""
    by_setting = dict(zip(settings, means, strict=True))
    best = max(settings, key=lambda setting: by_setting[setting])
    gammas = sorted({gamma for _, gamma in settings})
    say("  accuracy in %, mean over the folds; * marks the best\n")
    say(f"  {'C':>7} |" + "".join(f"{f'gamma={gamma:g}':>13}" for gamma in gammas))
    say("  " + "-" * 8 + "+" + "-" * 13 * len(gammas))
    for C in sorted({C for C, _ in settings}):
        cells = [f"{100 * by_setting[C, gamma]:.2f}{'*' if (C, gamma) == best else ' '}" for gamma in gammas]
        say(f"  {C:>7g} |" + "".join(f"{cell:>13}" for cell in cells))
    say("")


def show_failure(executor: LocalExecutor, work: Any) -> None:
    """One call with a setting that makes no sense, and what its future tells of it."""
    failing = executor.with_options(name="a penalty below zero").submit(work, -1.0, 0.03, 0)
    sound = executor.submit(work, 1.0, 0.03, 0)
    error = failing.exception()
    say("\n  One call fails on purpose (C=-1). Its future holds the error, and the traceback from the worker:\n")
    say(textwrap.indent(f"{error.__cause__}".strip().strip('"').strip(), "  | ") + "\n")
    tell("error", f"{type(error).__name__}, in call {failing.call_id}, on slot {failing.stats.worker}")
    tell("others", f"unharmed: the next call scored {100 * sound.result():.2f} % and took {sound.stats.run_s:.2f} s")


def other_load() -> str:
    """A warning if other programs keep this machine busy: then there is less to gain."""
    load = os.getloadavg()[0]
    return f"; a load of {load:.1f} by other programs will cost speed" if load > 0.5 else ""


def peak_mb(whose: int) -> float:
    """Most memory that one process has used: this one, or the largest among those that it waited for."""
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


# --- printing -----------------------------------------------------------------------------------


def progress(title: str, total: int, results: Iterable[float]) -> Iterator[float]:
    """Pass results on and count them: in place on a terminal, as three lines elsewhere."""
    live, width, began = sys.stdout.isatty(), 30, time.perf_counter()
    for done, result in enumerate(results, start=1):
        yield result
        elapsed_s = time.perf_counter() - began
        if live:
            bar = ("#" * (width * done // total)).ljust(width, ".")
            print(f"\r  {title:<13} [{bar}] {done:>3}/{total}  {elapsed_s:5.1f} s", end="", flush=True)
        elif done in (total // 3, 2 * total // 3, total):
            say(f"  {title:<13} {done:>3}/{total}  {elapsed_s:5.1f} s")
    if live:
        say("")


def tell(what: str, text: str) -> None:
    """One fact."""
    say(f"  {what:<9} {text}")


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Cross-validation, as a plain loop and on LocalExecutor.")
    options.add_argument("--quick", action="store_true", help="a tenth of the work")
    try:
        sys.exit(main(options.parse_args().quick))
    except KeyboardInterrupt:
        say("\n  interrupted; the workers have ended, nothing is left behind")
        sys.exit(130)
