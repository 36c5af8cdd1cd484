"""What is simulated: calls, slots and weather, all drawn from one seed.

Called by: simulation.py, cloud.py, tests, benchmarks.   Calls: ledger, for its types.
"""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cloudexec.ledger.calls import Call, CallOptions, Retry
from cloudexec.ledger.ledger import Limits
from cloudexec.ledger.pace import Estimate, Pace


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How the cloud behaves. Times are means in seconds; the rest are chances of each message, call or start."""

    latency_s: float = 0.0005
    jitter: float = 0.0  # part of a latency that is random
    start_s: float = 0.1
    throttled: float = 0.0  # starts that take fifty times as long
    start_failure: float = 0.0
    barren: float = 0.0  # slots that die before their first call
    loss: float = 0.0
    twins: float = 0.0  # messages that come twice
    slot_death: float = 0.0  # with each call
    worker_death: float = 0.0  # with each call
    silence: float = 0.0  # workers that fall silent, with each call
    revival: float = 0.0  # silent workers whose words come after all
    redelivery: float = 0.0  # messages of a queue that two slots get
    leaving: float = 0.0  # workers that are told to end, with each call: they put back what they have not finished


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One simulation. `mode`: "push" hands batches to slots, "pull" has slots take them from a queue.

    durations: constant, lognormal or pareto (1 ms to 1 s, scaled to `mean_s` for the others).
    The chances `error` to `endless` are of calls that fail in this way, the first time or every time.
    """

    seed: int = 0
    n_calls: int = 100
    n_slots: int = 4
    slots_per_worker: int = 4
    mode: str = "push"
    durations: str = "constant"
    mean_s: float = 0.01
    batch: int | None = None
    submit_for_s: float = 0.0  # time over which calls are submitted; 0: all at once
    turn_s: float = 0.0  # the engine looks at events so often, and takes them together
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    error: float = 0.0
    refused: float = 0.0
    crash: float = 0.0
    oom: float = 0.0
    endless: float = 0.0
    cancel: float = 0.0
    stop: float = 0.0
    recall: bool = False  # calls that wait in the queue, or in a worker, are taken back to be cancelled or stopped
    max_tasks: int | None = None
    terminate: float = 0.0  # the chance that the run is terminated in the middle
    weather: Weather = Weather()
    pace: Pace = field(default_factory=Pace)
    checked: bool = True  # look at every invariant; False: at the ends of calls only

    @property
    def reliable(self) -> bool:
        """Whether messages arrive once and in order, as through a pipe; then calls can be taken back."""
        weather = self.weather
        return self.mode == "push" and not (weather.loss or weather.twins or weather.silence)

    def limits(self) -> Limits:
        """The ledger's limits."""
        return Limits(max_lanes=self.n_slots, max_tasks_per_lane=self.max_tasks)

    @classmethod
    def random(cls, seed: int) -> Plan:
        """Anything may be the case."""
        rng = random.Random(seed)

        def chance(most: float, of_any: float = 0.4) -> float:
            return round(rng.uniform(0, most), 4) if rng.random() < of_any else 0.0

        mode = rng.choice(["push", "push", "pull"])
        lossy = mode == "pull" or rng.random() < 0.4
        weather = Weather(
            latency_s=rng.choice([0.0, 0.0005, 0.03]),
            jitter=rng.choice([0.0, 1.0]),
            start_s=rng.choice([0.0, 0.1, 5.0]),
            throttled=chance(0.2),
            start_failure=chance(0.3, 0.2),
            barren=chance(0.3, 0.2),
            loss=chance(0.1) if lossy else 0.0,
            twins=chance(0.1) if lossy else 0.0,
            slot_death=chance(0.05),
            worker_death=chance(0.02),
            silence=chance(0.01) if lossy else 0.0,
            revival=chance(1.0),
            redelivery=chance(0.1) if mode == "pull" else 0.0,
        )
        error, crash, timeout, oom = (rng.choice([0, 0, 1, 3]) for _ in range(4))
        lost, backoff_s = rng.choice([0, 3, 10]), rng.choice([0.0, 0.0, 0.5])
        retry = Retry(error=error, crash=crash, timeout=timeout, oom=oom, lost=lost, backoff_s=backoff_s)
        timeout_s = rng.choice([None, None, 2.0])
        plan = cls(
            seed=seed,
            n_calls=rng.choice([1, 10, 100, 400]),
            n_slots=rng.choice([1, 2, 5, 20]),
            slots_per_worker=rng.choice([1, 2, 4]),
            mode=mode,
            durations=rng.choice(["constant", "lognormal", "pareto"]),
            mean_s=rng.choice([0.0, 1e-5, 0.001, 0.1, 5.0]),
            batch=rng.choice([None, None, None, 1, 7]),
            submit_for_s=rng.choice([0.0, 0.0, 1.0, 60.0]),
            turn_s=rng.choice([0.0, 0.001, 0.05]),
            retry=retry,
            timeout_s=timeout_s,
            error=chance(0.3),
            refused=chance(0.1, 0.2),
            crash=chance(0.1),
            oom=chance(0.05, 0.2),
            endless=chance(0.05) if timeout_s else 0.0,
            cancel=chance(0.2),
            stop=chance(0.05, 0.2),
            max_tasks=rng.choice([None, None, 1, 3, 50]),
            terminate=chance(1.0, 0.1),
            weather=weather,
            pace=Pace(can_recall=not lossy),
        )
        again = random.Random(f"{seed} going back")  # of its own, so that seeds still stand for what they stood for
        if mode == "push" or again.random() < 0.5:
            return plan
        weather = replace(weather, leaving=again.choice([0.0, 0.01, 0.1]))
        return replace(plan, weather=weather, recall=again.random() < 0.7)

    def command(self) -> str:
        """The command line that replays it."""
        return f"python -m cloudexec.testing.simulation {self._arguments()}"

    def _arguments(self) -> str:
        if self == Plan.random(self.seed):
            return f"--seed {self.seed}"
        calm = Plan(seed=self.seed)
        words = [f"--seed {self.seed} --calm"]
        for prefix in ("", "weather.", "retry.", "pace."):
            part, default = (getattr(plan, prefix[:-1]) if prefix else plan for plan in (self, calm))
            words += [f"--set {prefix}{name}={value!r}" for name, value in _differences(part, default)]
        return " ".join(words)

    def altered(self, setting: str) -> Plan:
        """With one figure changed: "n_calls=7" or "weather.loss=0.1". Errors: ValueError, TypeError."""
        name, _, text = setting.partition("=")
        try:
            value = ast.literal_eval(text)
        except ValueError:
            value = text
        part, _, inner = name.rpartition(".")
        if part:
            return replace(self, **{part: replace(getattr(self, part), **{inner: value})})
        return replace(self, **{name: value})


def _differences(one: Any, other: Any) -> list[tuple[str, Any]]:
    parts = ("weather", "retry", "pace", "seed")
    return [
        (f.name, getattr(one, f.name))
        for f in fields(one)
        if f.name not in parts and getattr(one, f.name) != getattr(other, f.name)
    ]


class SimCall(Call):
    """A call that knows its fate: `ends` with each of its runs, the last one for good."""

    __slots__ = ("ends", "runs", "seconds")

    def __init__(
        self, number: int, estimate: Estimate, options: CallOptions, seconds: float, ends: tuple[str, ...]
    ) -> None:
        super().__init__(number, estimate, options, 200)
        self.seconds = seconds
        self.ends = ends
        self.runs = 0

    def next_end(self) -> str:
        """How the run that begins now will end."""
        end = self.ends[min(self.runs, len(self.ends) - 1)]
        self.runs += 1
        return end


def draw_calls(plan: Plan, rng: random.Random) -> list[SimCall]:
    """The calls of a plan."""
    estimate = Estimate()
    options = CallOptions(timeout_s=plan.timeout_s, retry=plan.retry, batch=plan.batch)
    fates = [(f, getattr(plan, f)) for f in ("error", "refused", "crash", "oom", "endless")]
    bad = [(fate, chance) for fate, chance in fates if chance]
    good = ("ok",)
    return [
        SimCall(number, estimate, options, draw_seconds(plan, rng), _fate(bad, rng) if bad else good)
        for number in range(1, plan.n_calls + 1)
    ]


def draw_seconds(plan: Plan, rng: random.Random) -> float:
    """How long a call runs."""
    if plan.durations == "pareto":
        return float(min(1.0, 0.001 * rng.paretovariate(0.8)))
    if plan.durations == "lognormal":
        return float(plan.mean_s * rng.lognormvariate(-0.5, 1.0))
    return plan.mean_s


def _fate(bad: list[tuple[str, float]], rng: random.Random) -> tuple[str, ...]:
    for fate, chance in bad:
        if rng.random() < chance:
            times = rng.choice([1, 1, 2, 5])
            return (fate,) * times + ("ok",) if times < 5 else (fate,)
    return ("ok",)
