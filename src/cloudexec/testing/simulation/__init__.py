"""The real ledger against a random cloud, in virtual time: everything follows from one seed.

Called by: tests and benchmarks; `python -m cloudexec.testing.simulation --seed 7` by people.   Calls: ledger.
Files:      plan.py        what is simulated: calls, slots, weather
            cloud.py       workers and slots that may die, hang and retire, and messages that may get lost
            simulation.py  the loop that stands for the engine, and what must hold after every step
"""

from cloudexec.testing.simulation.plan import Plan, Weather
from cloudexec.testing.simulation.simulation import Report, Simulation, SimulationFailure

__all__ = ["Plan", "Report", "Simulation", "SimulationFailure", "Weather"]
