"""Which tasks of commands to start, watch and stop: what happens comes in, actions and news come out; no clock, no I/O.

Called by: backend.py, which carries out the actions and hands back what the service answers.
Calls:     launching.py (how fast), watching.py (whom to look at), stopping.py, stops.py (what a stop means).

    add, take_back, stop, stop_all, tick ──> Containers ──> Start     ──> replied / failed
                                                 │  ──────> Describe  ──> described / describe_failed
                                                 │  ──────> List      ──> listed / list_failed
                                                 │  ──────> StopTask  ──> stop_done / stop_failed
                                                 └───────> news: Ended, once for each job that was not taken back

Each job has a task of its own. One that never came to run, for reasons that may pass, is asked for again until
`start_within_s` after the first time. One that ran is over with its task: whether to try again is the ledger's to say.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final

from cloudexec.backends.ecs.commands.jobs import Action, Ended, Job, Phase, Start, Why, late_stop
from cloudexec.backends.ecs.fleet import NOT_YET_S, is_passing
from cloudexec.backends.ecs.launching import NEVER, Launcher
from cloudexec.backends.ecs.replies import DescribeReply, RunReply, TaskState
from cloudexec.backends.ecs.requests import Launch
from cloudexec.backends.ecs.stopping import WITHIN_S as STOP_WITHIN_S
from cloudexec.backends.ecs.stopping import Stopper
from cloudexec.backends.ecs.stops import StopKind, WorkerStop, stop_for_error, stop_for_reason, stop_of, unstopped
from cloudexec.backends.ecs.stops import vanished as vanished_stop
from cloudexec.backends.ecs.target import Capacity, Fallback
from cloudexec.backends.ecs.tasks import Describe, List, Task
from cloudexec.backends.ecs.watching import Watch
from cloudexec.errors import CloudexecError, Throttled

_MISSES: Final = 2
_LISTS_AT_END_S: Final = (1.0, 6.0)  # twice, because a list may lag behind


class Containers:
    """The tasks of one run's commands."""

    def __init__(self, launcher: Launcher, random: Random, start_within_s: float) -> None:
        self._launcher = launcher
        self._start_within_s = start_within_s
        self._jobs: dict[str, Job] = {}  # by lane, those whose end has not been told
        self._waiting: dict[Capacity, OrderedDict[Job, None]] = {each: OrderedDict() for each in Capacity}
        self._asked: dict[str, Job] = {}  # by the launch's token
        self._in_flight: set[str] = set()  # tokens
        self._by_arn: dict[str, Job] = {}  # by tasks that are not known to be over
        self._strays: dict[str, Task] = {}  # tasks of whose jobs nothing is known
        self._watch = Watch(random)
        self._stopper = Stopper()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._lists_to_come = 0
        self._closing = False
        self._now_s = 0.0
        self._actions: list[Action] = []
        self._news: list[Ended] = []
        self._notices: list[str] = []
        self.n_diverted = 0  # jobs that were to be Spot and are not
        self.n_throttled = 0

    # --- what there is ---

    def is_waiting(self, lane: str) -> bool:
        """Whether a lane's job can still be taken back."""
        job = self._jobs.get(lane)
        return job is not None and job.phase is Phase.WAITING

    @property
    def is_over(self) -> bool:
        """After `stop_all`: whether every task has been told to stop, and no further one can be there."""
        is_quiet = not (self._in_flight or self._lists_to_come or self._watch.is_listing)
        return self._closing and is_quiet and self._stopper.is_idle

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        due_s = self._due[0][0] if self._due else NEVER
        return min(due_s, self._stopper.next_at(self._now_s), self._launch_at_s(), self._watch.next_at_s)

    def take_actions(self) -> list[Action]:
        """What is to be done now."""
        actions, self._actions = self._actions, []
        return actions

    def take_news(self) -> list[Ended]:
        """What the ledger should know."""
        news, self._news = self._news, []
        return news

    def take_notices(self) -> list[str]:
        """What the user should know, each said once."""
        notices, self._notices = self._notices, []
        return notices

    # --- what the engine asks ---

    def add(self, job: Job, now_s: float) -> None:
        """Run this one."""
        self._jobs[job.lane] = job
        self._waiting[job.capacity][job] = None
        self.tick(now_s)

    def take_back(self, lane: str) -> bool:
        """Forget a lane's job, if nothing has been asked for it or everything that was asked has failed."""
        if not self.is_waiting(lane):
            return False
        job = self._jobs.pop(lane)
        job.phase = Phase.OVER
        del self._waiting[job.capacity][job]
        return True

    def stop(self, lane: str, number: int, why: Why, now_s: float) -> None:
        """Stop a lane's job if it is this call; its end is news."""
        job = self._jobs.get(lane)
        if job is not None and job.number == number and job.why is None:
            self._stop(job, why, now_s)
            self.tick(now_s)

    def stop_all(self, now_s: float) -> None:
        """Stop every task, also those that were started and never answered for."""
        self._closing = True
        for job in [*self._jobs.values(), *self._by_arn.values()]:
            if job.why is None:
                self._stop(job, Why.CLOSED, now_s)
        if self._launcher.n_unanswered:
            self._forget_unanswered(now_s)
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        self._now_s = max(self._now_s, now_s)
        while self._due and self._due[0][0] <= now_s:
            heapq.heappop(self._due)[2](now_s)
        self._launch(now_s)
        self._send_stops(now_s)
        self._read(now_s)

    # --- what the service says ---

    def replied(self, launch: Launch, reply: RunReply, now_s: float) -> None:
        """RunTask was answered: with a task or with failures."""
        job = self._answered(launch)
        self._launcher.answered(launch)
        if reply.tasks:
            self._launcher.started(launch.capacity)
            self._there(job, reply.tasks[0].arn, now_s)
        else:
            stops = [stop_for_reason(failure.reason, failure.detail) for failure in reply.failures]
            stop = next((each for each in stops if each.is_permanent), stops[0] if stops else stop_for_reason(""))
            self._did_not_start(job, stop, now_s)
        self.tick(now_s)

    def failed(self, launch: Launch, error: CloudexecError, now_s: float) -> None:
        """RunTask, or the look at the task definition before it, was refused, or the answer was lost."""
        if not is_passing(error):
            job = self._answered(launch)
            self._launcher.answered(launch)
            self._did_not_start(job, stop_for_error(error), now_s, error)
        elif isinstance(error, Throttled):
            self.n_throttled += 1
            job = self._answered(launch)
            self._launcher.throttled(launch, now_s)
            self._wait_again(job, stop_for_error(error), is_first=True)
        else:
            self._answer_lost(launch, error, now_s)
        self.tick(now_s)

    def described(self, reply: DescribeReply, now_s: float) -> None:
        """DescribeTasks was answered."""
        self._watch.looked()
        for state in reply.tasks:
            job = self._by_arn.get(state.arn)
            if job is not None:
                self._seen(job, state, now_s)
        for arn in reply.missing:
            self._missed(arn, now_s)
        self.tick(now_s)

    def describe_failed(self, now_s: float) -> None:
        """DescribeTasks was throttled or lost."""
        self._watch.look_failed(now_s)
        self.tick(now_s)

    def listed(self, arns: list[str], next_token: str, now_s: float) -> None:
        """ListTasks was answered. We ask only at the end: what is not known yet is to stop."""
        self._watch.listed(next_token, now_s)
        for arn in arns:
            if arn not in self._by_arn and arn not in self._strays:
                self._stop_stray(arn, now_s)
        self.tick(now_s)

    def list_failed(self, now_s: float) -> None:
        """ListTasks was throttled or lost."""
        self._watch.list_failed(now_s)
        self.tick(now_s)

    def stop_done(self, arn: str, now_s: float) -> None:
        """StopTask was answered: the task ends soon."""
        self._stopper.answered()
        self.tick(now_s)

    def stop_failed(self, arn: str, error: CloudexecError, now_s: float) -> None:
        """StopTask was throttled, lost or refused."""
        job = self._by_arn.get(arn)
        if is_passing(error):
            self._stopper.unanswered(job.task if job is not None else self._strays.get(arn), now_s)
        else:
            self._stopper.answered()
            self._notices.append(f"task {arn} could not be stopped: {error}")
        self.tick(now_s)

    # --- starting ---

    def _launch(self, now_s: float) -> None:
        while len(self._in_flight) < self._launcher.limits.in_flight:
            start = self._next_start(now_s)
            if start is None:
                return
            self._in_flight.add(start.launch.token)
            self._actions.append(start)

    def _next_start(self, now_s: float) -> Start | None:
        if self._closing:
            return None
        launch = self._launcher.repeat(now_s)
        if launch is not None:
            return Start(self._asked[launch.token], launch)
        for capacity, jobs in self._waiting.items():
            launch = self._launcher.next(capacity, 1, now_s) if jobs else None
            if launch is not None:
                return Start(self._ask_for(next(iter(jobs)), launch, now_s), launch)
        return None

    def _ask_for(self, job: Job, launch: Launch, now_s: float) -> Job:
        del self._waiting[job.capacity][job]
        job.phase = Phase.ASKED
        self._asked[launch.token] = job
        if job.first_try_s is None:
            job.first_try_s = now_s
            self._at(now_s + self._start_within_s, lambda at_s: self._start_late(job, at_s))
        return job

    def _launch_at_s(self) -> float:
        if self._closing or len(self._in_flight) >= self._launcher.limits.in_flight:
            return NEVER
        ready = (self._launcher.ready_at(each, 1, self._now_s) for each, jobs in self._waiting.items() if jobs)
        return min(self._launcher.repeat_at(self._now_s), min(ready, default=NEVER))

    def _answered(self, launch: Launch) -> Job:
        self._in_flight.discard(launch.token)
        return self._asked.pop(launch.token)

    def _answer_lost(self, launch: Launch, error: CloudexecError, now_s: float) -> None:
        self._in_flight.discard(launch.token)
        self._asked[launch.token].last_stop = stop_for_error(error)
        self._launcher.unanswered(launch, now_s)
        if self._closing:
            self._forget_unanswered(now_s)

    def _there(self, job: Job, arn: str, now_s: float) -> None:
        job.task = Task(arn, job.capacity, now_s)
        self._by_arn[arn] = job
        self._watch.soon(arn, now_s)
        if job.phase is not Phase.OVER:
            job.phase = Phase.THERE
        if job.why is not None or self._closing:
            self._stop(job, job.why or Why.CLOSED, now_s)

    def _did_not_start(self, job: Job, stop: WorkerStop, now_s: float, error: CloudexecError | None = None) -> None:
        """Its task did not come to run: try other capacity, wait, or tell."""
        if job.phase is Phase.OVER:
            return
        if job.why is not None or not stop.may_pass:
            self._end(job, Ended(job, stop, error=error))
        elif stop.retry_elsewhere and job.capacity is Capacity.SPOT and self._may_divert(job):
            job.capacity = Capacity.ON_DEMAND
            self._divert(stop)
            self._wait_again(job, stop, is_first=True)
        else:
            self._launcher.no_capacity(job.capacity, now_s)
            self._wait_again(job, stop)

    def _may_divert(self, job: Job) -> bool:
        return job.order.target.fallback is Fallback.ON_DEMAND

    def _divert(self, stop: WorkerStop) -> None:
        if not self.n_diverted:
            self._notices.append(
                f"no Spot capacity for a command, it is started on demand, at the full price ({stop.text}); "
                f"fallback='wait' waits instead"
            )
        self.n_diverted += 1

    def _wait_again(self, job: Job, stop: WorkerStop, is_first: bool = False) -> None:
        if job.phase is Phase.OVER:
            return
        if job.why is not None or self._closing:
            self._end(job, Ended(job, stop))
            return
        job.last_stop = stop
        job.phase = Phase.WAITING
        job.task = None
        self._waiting[job.capacity][job] = None
        if is_first:
            self._waiting[job.capacity].move_to_end(job, last=False)

    def _start_late(self, job: Job, now_s: float) -> None:
        """Its time to start is over."""
        if job.phase is Phase.OVER or job.runs or job.why is not None:
            return
        news = Ended(job, late_stop(job, self._start_within_s))
        if job.phase is Phase.WAITING:
            del self._waiting[job.capacity][job]
        else:
            self._stop(job, Why.LATE, now_s)
        self._end(job, news)

    # --- running, and the end ---

    def _seen(self, job: Job, state: TaskState, now_s: float) -> None:
        task = job.task
        assert task is not None
        task.known, task.misses = state, 0
        if state.started_s is not None and not job.runs:
            job.runs = True
            if job.timeout_s is not None:
                self._at(now_s + job.timeout_s, lambda at_s: self._time_is_over(job, at_s))
        if state.is_stopped:
            self._over(job, stop_of(state), now_s)

    def _time_is_over(self, job: Job, now_s: float) -> None:
        if job.phase is not Phase.OVER and job.why is None:
            self._stop(job, Why.TIMEOUT, now_s)

    def _missed(self, arn: str, now_s: float) -> None:
        job = self._by_arn.get(arn)
        if job is None or job.task is None or now_s < job.task.since_s + NOT_YET_S:
            return
        job.task.misses += 1
        if job.task.misses >= _MISSES:
            self._over(job, vanished_stop(arn), now_s)

    def _over(self, job: Job, stop: WorkerStop, now_s: float) -> None:
        """Its task is no more."""
        task = job.task
        assert task is not None
        task.end = stop
        self._by_arn.pop(task.arn, None)
        self._watch.forget(task.arn)
        never_ran = not job.runs and stop.kind is not StopKind.EXITED
        if never_ran and stop.may_pass:
            self._did_not_start(job, stop, now_s)
        else:
            self._end(job, Ended(job, stop, task.known))

    def _end(self, job: Job, news: Ended) -> None:
        if job.phase is Phase.OVER:
            return
        job.phase = Phase.OVER
        del self._jobs[job.lane]
        self._news.append(news)

    # --- stopping ---

    def _stop(self, job: Job, why: Why, now_s: float) -> None:
        """Let it end: at once if it waits, when its task is known if that is asked for, else by telling its task."""
        job.why = why
        if job.phase is Phase.WAITING:
            self._waiting[job.capacity].pop(job, None)
            self._end(job, Ended(job, job.last_stop or stop_for_reason("", "it had not started")))
        elif job.task is not None and job.task.is_live and not job.task.stop:
            job.task.stop = why.value
            self._stopper.add(job.task)
            self._watch.soon(job.task.arn, now_s)

    def _send_stops(self, now_s: float) -> None:
        for action in self._stopper.take(now_s):
            self._actions.append(action)
            job = self._by_arn.get(action.arn)
            told_s = job.task.stop_sent_s if job is not None and job.task is not None else None
            if job is not None and told_s is not None and now_s >= told_s + STOP_WITHIN_S:
                self._over(job, unstopped(action.arn), now_s)

    def _stop_stray(self, arn: str, now_s: float) -> None:
        """A task that was started by a call whose answer was lost."""
        task = self._strays[arn] = Task(arn, Capacity.OWN, now_s)
        task.stop = Why.CLOSED.value
        self._stopper.add(task)

    def _forget_unanswered(self, now_s: float) -> None:
        """Whatever was started without our knowing is found by the run's name."""
        for launch in self._launcher.forget_unanswered():
            job = self._asked.pop(launch.token)
            self._end(job, Ended(job, job.last_stop or stop_for_reason("", "its start was not answered")))
        self._lists_to_come += len(_LISTS_AT_END_S)
        for after_s in _LISTS_AT_END_S:
            self._at(now_s + after_s, self._list_now)

    def _list_now(self, now_s: float) -> None:
        self._lists_to_come -= 1
        self._watch.list_from(now_s)

    # --- looking ---

    def _at(self, when_s: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (when_s, next(self._order), do))

    def _read(self, now_s: float) -> None:
        if arns := self._watch.look(now_s):
            self._actions.append(Describe(arns))
        token = self._watch.page(now_s)
        if token is not None:
            self._actions.append(List(token))
