"""What a person sees: the command, and the story of a failure that can be replayed."""

import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from cloudexec.ledger.calls import Retry
from cloudexec.ledger.pace import Pace
from cloudexec.testing.simulation import Plan, Simulation, SimulationFailure, Weather
from cloudexec.testing.simulation.__main__ import main


def test_the_command_tells_how_a_run_ended(capsys):
    assert main(["--seed", "1", "--calm", "--calls", "50", "--slots", "2"]) == 0
    assert "seed 1: 50 ok" in capsys.readouterr().out


def test_the_command_runs_as_a_module():
    words = [sys.executable, "-m", "cloudexec.testing.simulation", "--seeds", "0:3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan.random(7), id="a seed's own plan"),
        pytest.param(Plan(seed=7), id="a calm one"),
        pytest.param(
            Plan(
                seed=3,
                mode="pull",
                batch=2,
                retry=Retry(error=2),
                weather=Weather(loss=0.25, start_s=1e-05),
                pace=Pace(can_recall=False),
            ),
            id="one with figures of its own",
        ),
    ],
)
def test_the_command_line_of_a_failure_brings_back_its_plan(plan, monkeypatch):
    seen = []
    monkeypatch.setattr("cloudexec.testing.simulation.__main__._ran", lambda plan: seen.append(plan) or True)
    main(shlex.split(plan.command())[3:])
    assert seen == [plan]


class Forgetful(Simulation):
    """An engine that drops every fifth batch and tells nobody: the books never learn of it."""

    n_placed = 0

    def _carry_out(self, action, now_s):
        if type(action).__name__ == "Place":
            self.n_placed += 1
            if self.n_placed % 5 == 0:
                return
        super()._carry_out(action, now_s)


def test_a_run_that_hangs_is_found_and_told_with_its_last_events_and_a_way_to_replay_it():
    plan = replace(Plan(seed=5), n_calls=50)
    with pytest.raises(SimulationFailure) as caught:
        Forgetful(plan).run()
    story = str(caught.value)
    assert "no call has ended for 3600 s" in story
    assert "Place" in story
    assert f"to see it again: {plan.command()}" in story


class Swapping(Simulation):
    """A cloud that gives a call the value of another."""

    def _take_outcome(self, lane, outcome, now_s):
        super()._take_outcome(lane, outcome, now_s)
        for action in self.ledger._actions:
            if type(action).__name__ == "Resolve":
                self.ledger._actions[self.ledger._actions.index(action)] = action._replace(
                    outcome=outcome._replace(number=outcome.number + 1)
                )


def test_a_call_that_gets_the_value_of_another_is_found():
    with pytest.raises(SimulationFailure, match="got the outcome of call 2"):
        Swapping(Plan(n_calls=1)).run()
