"""An ECS made of a heap of events: carries out what a fleet wants, with faults by chance, and keeps the books.

Used by: test_fleet.py, with faults placed by hand, and test_fleet_in_weather.py, with random ones. Time is simulated;
the fleet is the real one.
"""

import heapq
import random
from collections import Counter
from itertools import count

from cloudexec.backends.ecs.fleet import Describe, Fleet, List, RunTask, StopTask
from cloudexec.backends.ecs.launching import Launcher, LaunchLimits
from cloudexec.backends.ecs.replies import read_describe, read_list, read_run_task
from cloudexec.backends.ecs.requests import OUR_STOP
from cloudexec.backends.ecs.target import Capacity, EcsTarget
from cloudexec.backends.pull.fleet import NotStarted, WorkerEnded
from cloudexec.errors import AwsError, ConnectionLost, Throttled

PLAIN = EcsTarget(cluster="c", task_definition="td", subnets=("subnet-1",))
SPOT = EcsTarget(cluster="c", task_definition="td", subnets=("subnet-1",), spot=True)
THROTTLE = Throttled("run_task: ThrottlingException (400): Rate exceeded", "ThrottlingException", 400)
LOST = ConnectionLost("run_task: connection reset", True)
FAULT = AwsError("run_task: ServerException (500): try again", "ServerException", 500)
DENIED = AwsError("run_task: AccessDeniedException (400): no", "AccessDeniedException", 400)
UNKNOWN = AwsError(
    "stop_task: InvalidParameterException (400): The referenced task was not found.", "InvalidParameterException", 400
)
UNAVAILABLE = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}


class Machine:
    """A task as it really is."""

    def __init__(self, arn, capacity, born_s):
        self.arn, self.capacity, self.born_s = arn, capacity, born_s
        self.worker = arn.rsplit("/", 1)[-1]
        self.status = "PROVISIONING"
        self.started = False
        self.said_hello = False
        self.left = False
        self.told_to_stop = False
        self.stop_code, self.reason, self.containers = "", "", [{"name": "worker"}]

    def shown(self):
        """As DescribeTasks shows it."""
        shown = {
            "taskArn": self.arn,
            "lastStatus": self.status,
            "containers": self.containers,
            "createdAt": self.born_s,
        }
        if self.started:
            shown["startedAt"] = self.born_s + 1
        if self.status == "STOPPED":
            shown |= {"stopCode": self.stop_code, "stoppedReason": self.reason, "stoppedAt": self.born_s + 2}
        return shown


class Weather:
    """How probable what is. `refuse` may also be a list: what the next RunTask calls meet, None for nothing."""

    def __init__(self, **more):
        self.throttle = self.lose_before = self.lose_after = self.fault = 0.0
        self.read_error = self.stop_error = 0.0
        self.no_spot = self.no_on_demand = 0.0  # per task
        self.dies_early = self.dies_later = self.silent = self.leaves = 0.0  # per task
        self.start_s = (5.0, 40.0)
        self.known_after_s = 0.0  # DescribeTasks does not know a younger task
        self.latency_s = (0.05, 0.4)
        self.refuse = []
        for name, value in more.items():
            assert hasattr(self, name)
            setattr(self, name, value)


class Scene:
    """A fleet and its cloud."""

    def __init__(self, target=PLAIN, *, seed=1, limits=None, start_within_s=300.0, **weather):
        self.chance = random.Random(seed)
        self.weather = Weather(**weather)
        self.limits = limits or LaunchLimits()
        launcher = Launcher("r1", "me", random.Random(seed + 1), self.limits)
        self.fleet = Fleet(target, launcher, random.Random(seed + 2), start_within_s)
        self.now_s = 1000.0
        self.machines = {}
        self.by_token = {}
        self.lost_tokens = set()
        self.shown = set()  # names of tasks that the fleet has been told
        self.reads, self.calls, self.starts, self.stops = [], [], [], []
        self.asked = []  # launches, in their order
        self.news, self.notices = [], []
        self.most_wanted = 0
        self.most_alive = 0
        self._events, self._order, self._names = [], count(), count(1)

    # --- what the test says ---

    def want(self, n_workers):
        self.most_wanted = max(self.most_wanted, n_workers)
        self.fleet.want(n_workers, self.now_s)
        self.settle()

    def stop_all(self):
        self.fleet.stop_all("shutdown", self.now_s)
        self.settle()

    def run(self, seconds):
        """Let time pass, with everything that happens in it."""
        until_s = self.now_s + seconds
        self.settle()
        for _ in range(500_000):
            next_s = min(self._events[0][0] if self._events else until_s, self.fleet.next_deadline, until_s)
            if next_s >= until_s:
                self.now_s = until_s
                return
            self.now_s = max(self.now_s, next_s)
            while self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[2]()
            self.fleet.tick(self.now_s)
            self.settle()
            assert self.fleet.next_deadline > self.now_s, "it asks to be called again at once"
        raise AssertionError("too many steps")

    def after(self, seconds, do):
        heapq.heappush(self._events, (self.now_s + seconds, next(self._order), do))

    def hello(self, machine):
        if machine.status == "RUNNING" and not machine.left:
            machine.said_hello = True
            self.fleet.heard(machine.worker, self.now_s)

    def leave(self, machine):
        """It says that it leaves, and ends."""
        if machine.status == "RUNNING":
            machine.left = machine.said_hello = True
            self.fleet.left(machine.worker, self.now_s)
            self.after(2.0, lambda: self.end(machine, "EssentialContainerExited", "Essential container exited", 0))

    def end(self, machine, code, reason, exit_code=None, container_reason=""):
        if machine.status != "STOPPED":
            machine.status, machine.stop_code, machine.reason = "STOPPED", code, reason
            if exit_code is not None:
                machine.containers = [{"name": "worker", "exitCode": exit_code, "reason": container_reason}]

    # --- what is there ---

    @property
    def running(self):
        return [machine for machine in self.machines.values() if machine.status != "STOPPED"]

    @property
    def alive(self):
        """Tasks that run and that nobody expects to end."""
        return [machine for machine in self.running if not (machine.left or machine.told_to_stop)]

    def ended(self):
        return {news.worker: news.end for news in self.news if isinstance(news, WorkerEnded)}

    def not_started(self):
        return [news.end for news in self.news if isinstance(news, NotStarted)]

    def capacities(self):
        return Counter(machine.capacity for machine in self.machines.values())

    # --- carrying out ---

    def settle(self):
        for action in self.fleet.take_actions():
            self._carry_out(action)
        self.news += self.fleet.take_news()
        self.notices += self.fleet.take_notices()
        self.most_alive = max(self.most_alive, len(self.alive))

    def _carry_out(self, action):
        latency_s = self.chance.uniform(*self.weather.latency_s)
        if isinstance(action, RunTask):
            launch = action.launch
            self.calls.append(self.now_s)
            self.asked.append(launch)
            answer = self._run_task(launch)
        elif isinstance(action, Describe):
            assert 1 <= len(action.arns) == len(set(action.arns)) <= 100
            self.reads.append(self.now_s)
            answer = self._describe(action.arns)
        elif isinstance(action, List):
            self.reads.append(self.now_s)
            answer = self._list()
        else:
            assert isinstance(action, StopTask)
            self.stops.append(self.now_s)
            answer = self._stop_task(action)
        self.after(latency_s, lambda: answer(self.now_s))

    def _run_task(self, launch):
        fleet, weather = self.fleet, self.weather
        fault = weather.refuse.pop(0) if weather.refuse else self._bad_luck()
        if fault is not None and not fault[1]:
            return lambda now_s: fleet.failed(launch, fault[0], now_s)
        reply = self._start(launch)
        if fault is not None:
            self.lost_tokens.add(launch.token)
            return lambda now_s: fleet.failed(launch, fault[0], now_s)
        self.shown.update(task["taskArn"] for task in reply["tasks"])
        return lambda now_s: fleet.replied(launch, read_run_task(reply, launch.count), now_s)

    def _bad_luck(self):
        """(error, whether the service acted), or None."""
        weather, drawn = self.weather, self.chance.random()
        for chance, fault in (
            (weather.throttle, (THROTTLE, False)),
            (weather.lose_before, (LOST, False)),
            (weather.lose_after, (LOST, True)),
            (weather.fault, (FAULT, True)),
        ):
            if drawn < chance:
                return fault
            drawn -= chance
        return None

    def _start(self, launch):
        """As the service does it: a token that was seen is answered with its first tasks."""
        known = self.by_token.get(launch.token)
        if known is not None:
            assert known[:2] == (launch.count, launch.capacity), "a repeat must not say anything else"
            return known[2]
        tasks, failures = [], []
        for _ in range(launch.count):
            lack = {Capacity.SPOT: self.weather.no_spot}.get(launch.capacity, self.weather.no_on_demand)
            if self.chance.random() < lack:
                failures.append(UNAVAILABLE)
            else:
                tasks.append(self._give_birth(launch.capacity))
        reply = {"tasks": [machine.shown() for machine in tasks], "failures": failures}
        self.by_token[launch.token] = (launch.count, launch.capacity, reply)
        self.starts += [(self.now_s, launch.capacity)] * launch.count
        return reply

    def _give_birth(self, capacity):
        machine = Machine(f"arn:aws:ecs:eu-west-1:1:task/c/{next(self._names):06}", capacity, self.now_s)
        self.machines[machine.arn] = machine
        weather, chance = self.weather, self.chance
        start_s = chance.uniform(*weather.start_s)
        if chance.random() < weather.dies_early:
            self.after(start_s, lambda: self.end(machine, "TaskFailedToStart", UNAVAILABLE["reason"]))
            return machine
        self.after(start_s, lambda: self._begin(machine))
        if chance.random() >= weather.silent:
            self.after(start_s + chance.uniform(0.1, 2), lambda: self.hello(machine))
        later_s = start_s + chance.uniform(3, 60)
        if chance.random() < weather.dies_later:
            self.after(later_s, lambda: self.end(machine, "SpotInterruption", "Your Spot Task was interrupted."))
        elif chance.random() < weather.leaves:
            self.after(later_s, lambda: self.leave(machine))
        return machine

    def _begin(self, machine):
        if machine.status == "PROVISIONING":
            machine.status, machine.started = "RUNNING", True

    def _describe(self, arns):
        fleet = self.fleet
        if self.chance.random() < self.weather.read_error:
            return fleet.describe_failed
        known = [self.machines[arn] for arn in arns if self._is_known(arn)]
        reply = {
            "tasks": [machine.shown() for machine in known],
            "failures": [{"arn": arn, "reason": "MISSING"} for arn in arns if not self._is_known(arn)],
        }
        return lambda now_s: fleet.described(read_describe(reply, arns), now_s)

    def _is_known(self, arn):
        machine = self.machines.get(arn)
        return machine is not None and self.now_s >= machine.born_s + self.weather.known_after_s

    def _list(self):
        if self.chance.random() < self.weather.read_error:
            return self.fleet.list_failed
        reply = {"taskArns": [machine.arn for machine in self.running]}
        self.shown.update(reply["taskArns"])
        return lambda now_s: self.fleet.listed(*read_list(reply), now_s)

    def _stop_task(self, action):
        machine = self.machines.get(action.arn)
        if machine is None:
            return lambda now_s: self.fleet.stop_failed(action.arn, UNKNOWN, now_s)
        if self.chance.random() < self.weather.stop_error:
            return lambda now_s: self.fleet.stop_failed(action.arn, THROTTLE, now_s)
        machine.told_to_stop = True
        reason = OUR_STOP + action.reason
        self.after(self.chance.uniform(0.5, 20), lambda: self.end(machine, "UserInitiated", reason, 143))
        return lambda now_s: self.fleet.stop_done(action.arn, now_s)
