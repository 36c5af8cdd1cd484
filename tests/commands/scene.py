"""An ECS made of a heap of events: carries out what Containers want, with faults by chance, and keeps the books.

Used by: test_containers.py. Time is simulated; Containers and Launcher are the real ones.
"""

import heapq
import random
from itertools import count

from cloudexec import Command
from cloudexec.backends.ecs.commands.containers import Containers
from cloudexec.backends.ecs.commands.jobs import Job, Start
from cloudexec.backends.ecs.commands.orders import base_of, order_of
from cloudexec.backends.ecs.launching import Launcher, LaunchLimits
from cloudexec.backends.ecs.replies import read_describe, read_run_task
from cloudexec.backends.ecs.requests import OUR_STOP, Outfit
from cloudexec.backends.ecs.target import EcsTarget
from cloudexec.backends.ecs.tasks import Describe, List
from cloudexec.errors import AwsError, ConnectionLost, Throttled

PLAIN = EcsTarget(cluster="c", subnets=("subnet-1",))
SPOT = EcsTarget(cluster="c", subnets=("subnet-1",), spot=True)
THROTTLE = Throttled("run_task: ThrottlingException (400): Rate exceeded", "ThrottlingException", 400)
LOST = ConnectionLost("run_task: connection reset", True)
FAULT = AwsError("run_task: ServerException (500): try again", "ServerException", 500)
DENIED = AwsError("run_task: AccessDeniedException (400): no", "AccessDeniedException", 400)
UNAVAILABLE = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}


class Machine:
    """A task as it really is."""

    def __init__(self, arn, token, born_s):
        self.arn, self.token, self.born_s = arn, token, born_s
        self.status, self.started_s, self.told_s = "PROVISIONING", None, None
        self.end = {}

    def shown(self):
        """As DescribeTasks shows it."""
        shown = {"taskArn": self.arn, "lastStatus": self.status, "createdAt": self.born_s, **self.end}
        return shown | ({"startedAt": self.started_s} if self.started_s is not None else {})


class Weather:
    """How probable what is. `refuse`: what the next RunTask calls meet, None for nothing."""

    def __init__(self, **more):
        self.throttle = self.lose_before = self.lose_after = self.fault = self.no_spot = self.no_capacity = 0.0
        self.read_error = self.stop_error = self.early_death = self.spot_death = 0.0
        self.start_s, self.run_s = (1.0, 5.0), (0.5, 20.0)
        self.known_after_s = 0.0  # DescribeTasks does not know a younger task
        self.early_reason = "CannotPullContainerError: manifest unknown"
        self.refuse = []
        for name, value in more.items():
            assert hasattr(self, name)
            setattr(self, name, value)


class Scene:
    """Containers and their cloud."""

    def __init__(self, target=PLAIN, *, seed=1, start_within_s=300.0, limits=None, **weather):
        self.chance, self.weather, self.target = random.Random(seed), Weather(**weather), target
        self.now_s = 1000.0
        launcher = Launcher("r1", "me", random.Random(seed), limits or LaunchLimits())
        self.containers = Containers(launcher, random.Random(seed), start_within_s)
        self.tasks, self.by_token, self.ended, self.jobs = {}, {}, [], {}
        self.runs_s, self.looks_s, self.lists_s, self.stops_s, self.notices = [], [], [], [], []
        self._heap, self._order, self._numbers = [], count(), count(1)

    # --- what a test does ---

    def add(self, n_jobs=1, timeout_s=None):
        """New jobs; the last one of them."""
        for _ in range(n_jobs):
            number = next(self._numbers)
            order = order_of(Command(["x"], task_definition="td"), base_of(self.target), Outfit(run_id="r1"), None, "")
            job = self.jobs[number] = Job(f"c{number}", number, 1, order, timeout_s)
            self.containers.add(job, self.now_s)
        self._serve()
        return job

    def run(self, seconds):
        """Let time pass."""
        until_s = self.now_s + seconds
        while True:
            at_s = min(self._heap[0][0] if self._heap else until_s, max(self.containers.next_deadline, self.now_s))
            if at_s >= until_s:
                break
            self.now_s = at_s
            if self._heap and self._heap[0][0] <= at_s:
                heapq.heappop(self._heap)[2]()
            else:
                self.containers.tick(at_s)
            self._serve()
        self.now_s = until_s

    def later(self, seconds, do):
        """Something happens."""
        heapq.heappush(self._heap, (self.now_s + seconds, next(self._order), do))

    def stop(self, job, why):
        """The engine wants a job to end."""
        self.containers.stop(job.lane, job.number, why, self.now_s)
        self._serve()

    def stop_all(self):
        """The engine ends."""
        self.containers.stop_all(self.now_s)
        self._serve()

    @property
    def live(self):
        """Tasks that run, and have not been told to stop."""
        return [task for task in self.tasks.values() if task.status != "STOPPED" and task.told_s is None]

    def kinds(self):
        """How the jobs ended, by their numbers."""
        return {ended.job.number: ended.stop.kind for ended in self.ended}

    # --- the cloud ---

    def _serve(self):
        self.ended += self.containers.take_news()
        self.notices += self.containers.take_notices()
        for action in self.containers.take_actions():
            self.later(self.chance.uniform(0.02, 0.3), lambda action=action: self._do(action))
            if isinstance(action, Start):
                self.runs_s.append(self.now_s)
            elif isinstance(action, Describe):
                self.looks_s.append(self.now_s)
            elif isinstance(action, List):
                self.lists_s.append(self.now_s)

    def _do(self, action):
        if isinstance(action, Start):
            self._run_task(action.launch)
        elif isinstance(action, Describe):
            self._describe(action.arns)
        elif isinstance(action, List):
            self._list()
        else:
            self._stop_task(action)

    def _strikes(self, name):
        return self.chance.random() < getattr(self.weather, name)

    def _run_task(self, launch):
        failed = self.containers.failed
        error = self.weather.refuse.pop(0) if self.weather.refuse else None
        for name, trouble in (("throttle", THROTTLE), ("lose_before", LOST), ("fault", FAULT)):
            error = error or (trouble if self._strikes(name) else None)
        if error is not None:
            failed(launch, error, self.now_s)
            return
        lack = "no_spot" if launch.capacity.value == "spot" else "no_capacity"
        if launch.token not in self.by_token and self._strikes(lack):
            reply = read_run_task({"tasks": [], "failures": [UNAVAILABLE]}, 1)
        else:
            reply = read_run_task({"tasks": [self._born(launch).shown()], "failures": []}, 1)
        if self._strikes("lose_after"):
            failed(launch, LOST, self.now_s)
        else:
            self.containers.replied(launch, reply, self.now_s)

    def _born(self, launch):
        if launch.token not in self.by_token:
            task = Machine(f"arn:task/c/{len(self.tasks) + 1:04}", launch.token, self.now_s)
            self.tasks[task.arn] = self.by_token[launch.token] = task
            self.later(self.chance.uniform(*self.weather.start_s), lambda: self._begin(task))
        return self.by_token[launch.token]

    def _begin(self, task):
        if task.status == "STOPPED":
            return
        if self._strikes("early_death"):
            self.end(task, stopCode="TaskFailedToStart", stoppedReason=self.weather.early_reason)
            return
        task.status, task.started_s = "RUNNING", self.now_s
        if self._strikes("spot_death"):
            spot = {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}
            self.later(0.7, lambda: self.end(task, **spot))
        else:
            self.later(self.chance.uniform(*self.weather.run_s), lambda: self.exits(task))

    def exits(self, task, code=0):
        """Its program ends."""
        containers = [{"name": "main", "exitCode": code}]
        self.end(task, stopCode="EssentialContainerExited", stoppedReason="Essential…", containers=containers)

    def end(self, task, **facts):
        """A task is over."""
        if task.status != "STOPPED":
            task.status, task.end = "STOPPED", {"stoppedAt": self.now_s, **facts}

    def _describe(self, arns):
        if self._strikes("read_error"):
            self.containers.describe_failed(self.now_s)
            return
        known = [self.tasks[arn] for arn in arns if arn in self.tasks]
        shown = [task.shown() for task in known if task.born_s + self.weather.known_after_s <= self.now_s]
        self.containers.described(read_describe({"tasks": shown}, arns), self.now_s)

    def _list(self):
        if self._strikes("read_error"):
            self.containers.list_failed(self.now_s)
        else:
            self.containers.listed([task.arn for task in self.live], "", self.now_s)

    def _stop_task(self, action):
        self.stops_s.append(self.now_s)
        if self._strikes("stop_error"):
            self.containers.stop_failed(action.arn, THROTTLE, self.now_s)
            return
        task = self.tasks[action.arn]
        if task.told_s is None:
            task.told_s = self.now_s
            facts = {"stopCode": "UserInitiated", "stoppedReason": OUR_STOP + action.reason}
            self.later(2.0, lambda: self.end(task, **facts))
        self.containers.stop_done(action.arn, self.now_s)
