"""Which tasks to start, watch and stop: what happens comes in, actions and news come out; no clock, no I/O.

Called by: backend.py, which carries out the actions and hands back what the service answers.
Calls:     launching.py (how fast), places.py (where), watching.py (whom to look at), stopping.py, stops.py.

    want, heard, left, suspect, drop ──> Fleet ──> RunTask   ──> replied / failed
    adopt, stop_all, tick                  │  ───> Describe  ──> described / describe_failed
                                           │  ───> List      ──> listed / list_failed
                                           │  ───> StopTask  ──> stop_done / stop_failed
                                           └────> news: WorkerEnded, NotStarted; notices: sentences for the log

A task fills a place of the wanted fleet from its start until it ends, leaves or is told to stop. Places that become
free are filled again only if somebody wants more workers, except where a task never ran for lack of capacity: that is
nobody's failure, and other capacity is tried. Without any worker that lasts until `start_within_s`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Final

from cloudexec.backends.ecs.launching import NEVER, Launcher
from cloudexec.backends.ecs.places import Places
from cloudexec.backends.ecs.replies import DescribeReply, RunReply, worker_of
from cloudexec.backends.ecs.requests import Launch
from cloudexec.backends.ecs.stopping import WITHIN_S as STOP_WITHIN_S
from cloudexec.backends.ecs.stopping import Stopper
from cloudexec.backends.ecs.stops import (
    WorkerStop,
    late_start,
    stop_for_error,
    stop_for_reason,
    stop_of,
    unstopped,
    vanished,
)
from cloudexec.backends.ecs.target import Capacity, EcsTarget, Fallback
from cloudexec.backends.ecs.tasks import Action, Describe, List, RunTask, StopTask, Task
from cloudexec.backends.ecs.watching import ROUND_S, Watch
from cloudexec.backends.pull.fleet import NotStarted, WorkerEnded
from cloudexec.errors import AwsError, CloudexecError, ConnectionLost, Throttled

__all__ = ["Action", "Describe", "Fleet", "List", "News", "RunTask", "StopTask"]

START_WITHIN_S: Final = 300.0
GRACE_S: Final = 3.0  # a worker's last reports and the service's word of its end race each other
SLOW_START_S: Final = 60.0  # most tasks run earlier; who waits longer is told what is known
NOT_YET_S: Final = 60.0  # a task that has just been started may not be known everywhere
_MISSES: Final = 2
_LEAVE_WITHIN_S: Final = 150.0  # longer than the longest stop timeout
_LISTS_AT_END_S: Final = (1.0, 6.0)  # twice, because a list may lag behind


News = WorkerEnded | NotStarted


class Fleet:
    """The tasks of one run."""

    def __init__(
        self,
        target: EcsTarget,
        launcher: Launcher,
        random: Random,
        start_within_s: float = START_WITHIN_S,
        round_s: float = ROUND_S,
    ) -> None:
        self._target = target
        self._launcher = launcher
        self._start_within_s = start_within_s
        self._wanted = 0
        self._tasks: dict[str, Task] = {}
        self._by_worker: dict[str, Task] = {}
        self._arns: dict[str, str] = {}  # of all workers that were ever known
        self._places = Places(target)
        self._in_flight: dict[str, Launch] = {}
        self._doubtful: set[str] = set()  # tokens of launches whose answer was lost once: they may have started tasks
        self._gone: set[str] = set()
        self._strangers: dict[str, bool] = {}  # workers that reported before we knew their tasks; whether they left
        self._watch = Watch(random, round_s)
        self._stopper = Stopper()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._short_since_s: float | None = None  # since then they are too few, and none has come
        self._last_stop: WorkerStop | None = None
        self._is_adopting = False  # an earlier client's tasks are not known yet
        self._lists_to_come = 0
        self._closing = ""
        self._now_s = 0.0
        self._actions: list[Action] = []
        self._news: list[News] = []
        self._notices: list[str] = []
        self._changed: dict[str, Task] = {}  # tasks of which something new is known
        self.n_diverted = 0  # tasks that were to be Spot and are not, ever
        self.n_throttled = 0

    # --- what there is ---

    @property
    def n_workers(self) -> int:
        """Workers that are up or on their way."""
        return self._places.n_filled

    def arn_of(self, worker: str) -> str:
        """The task that a worker is, or was; "" if that is not known."""
        return self._arns.get(worker, "")

    @property
    def is_over(self) -> bool:
        """After `stop_all`: whether every task has been told to stop, and no further one can be there."""
        is_quiet = not (self._in_flight or self._lists_to_come or self._watch.is_listing)
        return bool(self._closing) and is_quiet and self._stopper.is_idle

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        due_s = self._due[0][0] if self._due else NEVER
        stop_s = self._stopper.next_at(self._now_s)
        return min(due_s, stop_s, self._give_up_at_s, self._launch_at_s(), self._watch.next_at_s)

    def take_actions(self) -> list[Action]:
        """What is to be done now."""
        actions, self._actions = self._actions, []
        return actions

    def take_news(self) -> list[News]:
        """What the ledger should know."""
        news, self._news = self._news, []
        return news

    def take_notices(self) -> list[str]:
        """What the user should know, each said once."""
        notices, self._notices = self._notices, []
        return notices

    def take_changed(self) -> list[Task]:
        """Tasks that are new, or that the service has told something new of; for whoever keeps a record."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    # --- what the engine asks ---

    def want(self, n_workers: int, now_s: float) -> None:
        """Have this many workers in all. Nobody is stopped when there are more: idle workers end by themselves."""
        if not self._closing:
            self._wanted = n_workers
            self.tick(now_s)

    def heard(self, worker: str, now_s: float) -> None:
        """A worker has reported."""
        task = self._by_worker.get(worker)
        if task is None:  # another client started it, or the answer to our call is not here yet
            if worker not in self._gone and worker not in self._strangers:
                self._strangers[worker] = False
                self._watch.list_from(now_s)
        elif task.end is None and not task.left:
            self._is_up(task, now_s)
            if not task.stop:
                self._watch.calmly(task.arn, now_s)
        elif task.end is not None:
            self._is_up(task, now_s)  # its hello came after the service's word of its end

    def left(self, worker: str, now_s: float) -> None:
        """A worker has said that it leaves, and everything else that it had to say."""
        task = self._by_worker.get(worker)
        if task is None:
            if worker not in self._gone:
                self._strangers[worker] = True
            return
        if task.left:
            return
        self._is_up(task, now_s)
        task.left = True
        self._vacate(task)
        if task.end is not None:
            self._forget(task)
        elif not task.stop:
            self._watch.calmly(task.arn, now_s)
            self._at(now_s + _LEAVE_WITHIN_S, lambda at_s: self._stop(task, "it said it leaves, and stayed", at_s))

    def suspect(self, worker: str, now_s: float) -> None:
        """A worker is silent: look at it soon."""
        task = self._by_worker.get(worker)
        if task is not None and task.end is None:
            self._watch.soon(task.arn, now_s)

    def drop(self, worker: str, reason: str, now_s: float) -> None:
        """Stop a worker; its end is news."""
        task = self._by_worker.get(worker)
        if task is not None:
            self._vacate(task)
            self._stop(task, reason, now_s)
        elif worker not in self._gone:  # it reported, and no list has shown its task
            self._gone.add(worker)
            self._strangers.pop(worker, None)
            self._news.append(WorkerEnded(worker, vanished(worker).as_end(worker)))

    def adopt(self, now_s: float) -> None:
        """Find the tasks that an earlier client of this run has started, before others are."""
        self._is_adopting = True
        self._watch.list_from(now_s)
        self.tick(now_s)

    def stop_all(self, reason: str, now_s: float) -> None:
        """Stop every task of the run, also those that were started and never answered for."""
        self._closing = reason
        self._wanted = 0
        self._short_since_s = None
        for task in list(self._tasks.values()):
            if not task.left:
                self._stop(task, reason, now_s)
        if self._launcher.n_unanswered:
            self._drop_unanswered(now_s)
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        self._now_s = max(self._now_s, now_s)
        while self._due and self._due[0][0] <= now_s:
            heapq.heappop(self._due)[2](now_s)
        self._give_up_places(now_s)
        self._launch(now_s)
        self._send_stops(now_s)
        self._read(now_s)

    # --- what the service says ---

    def replied(self, launch: Launch, reply: RunReply, now_s: float) -> None:
        """RunTask was answered: with tasks, failures or both."""
        self._no_longer_coming(launch)
        self._doubtful.discard(launch.token)
        self._launcher.answered(launch)
        for state in reply.tasks:
            self._add(state.arn, launch.capacity, now_s)
        if reply.n_missing:
            stops = [stop_for_reason(failure.reason, failure.detail) for failure in reply.failures]
            stop = next((each for each in stops if each.is_permanent), stops[0])
            self._not_started(launch.capacity, reply.n_missing, stop, now_s)
        self.tick(now_s)

    def failed(self, launch: Launch, error: CloudexecError, now_s: float) -> None:
        """RunTask was refused, or its answer was lost."""
        self._last_stop = stop_for_error(error)
        if isinstance(error, Throttled):
            self.n_throttled += 1
            self._launcher.throttled(launch, now_s)
        elif is_passing(error):
            self._doubtful.add(launch.token)
        if is_passing(error) and launch.token in self._doubtful:
            self._answer_lost(launch, now_s)
        else:
            self._no_longer_coming(launch)
            self._refused(launch, error, now_s)
        self.tick(now_s)

    def described(self, reply: DescribeReply, now_s: float) -> None:
        """DescribeTasks was answered."""
        self._watch.looked()
        for state in reply.tasks:
            task = self._tasks.get(state.arn)
            if task is not None and task.end is None:
                if task.known is None or task.known.last_status != state.last_status:
                    self._changed[state.arn] = task
                task.known, task.misses = state, 0
                if state.is_stopped:
                    self._over(task, stop_of(state), now_s)
        for arn in reply.missing:
            self._missed(arn, now_s)
        self.tick(now_s)

    def describe_failed(self, now_s: float) -> None:
        """DescribeTasks was throttled or lost."""
        self._watch.look_failed(now_s)
        self.tick(now_s)

    def listed(self, arns: list[str], next_token: str, now_s: float) -> None:
        """ListTasks was answered."""
        self._is_adopting &= bool(next_token)
        self._watch.listed(next_token, now_s)
        for arn in arns:
            self._add(arn, self._target.capacity, now_s)
        self.tick(now_s)

    def list_failed(self, now_s: float) -> None:
        """ListTasks was throttled or lost, or is not allowed: who adopts does not wait for it any longer."""
        self._is_adopting = False
        self._watch.list_failed(now_s)
        self.tick(now_s)

    def stop_done(self, arn: str, now_s: float) -> None:
        """StopTask was answered: the task ends soon."""
        self._stopper.answered()
        self.tick(now_s)

    def stop_failed(self, arn: str, error: CloudexecError, now_s: float) -> None:
        """StopTask was throttled, lost or refused."""
        if is_passing(error):
            self._stopper.unanswered(self._tasks.get(arn), now_s)
        elif is_unknown(error) and (task := self._tasks.get(arn)) is not None and task.heard:
            self._stopper.answered()
            self._over(task, vanished(arn), now_s)
        else:
            self._stopper.answered()
            self._notices.append(f"task {arn} could not be stopped: {error}")
        self.tick(now_s)

    # --- starting ---

    @property
    def _n_free(self) -> int:
        return 0 if self._closing or self._is_adopting else self._wanted - self.n_workers

    def _is_up(self, task: Task, now_s: float) -> None:
        if not task.heard:
            task.heard = True
            self._places.up(task)
            if self._short_since_s is not None:
                self._short_since_s = now_s  # there is progress

    @property
    def _is_lacking(self) -> bool:
        """Whether a place has no task."""
        return not self._closing and (self._n_free > 0 or self._places.is_waiting)

    def _launch(self, now_s: float) -> None:
        while len(self._in_flight) < self._launcher.limits.in_flight:
            launch = self._next_launch(now_s)
            if launch is None:
                break
            self._in_flight[launch.token] = launch
            self._actions.append(RunTask(launch))
        if self._places.n_up >= self._wanted:
            self._short_since_s = None
        elif self._short_since_s is None:
            self._short_since_s = now_s
            self._at(now_s + SLOW_START_S, partial(self._tell_slow_start, now_s))

    def _tell_slow_start(self, short_since_s: float, now_s: float) -> None:
        """No worker is there at all, and calls wait: say what is known before anybody asks."""
        if self._short_since_s != short_since_s or self._places.n_up or self._closing:
            return
        states = Counter(task.known.last_status for task in self._tasks.values() if task.is_live and task.known)
        said = ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none has been started"
        last = f"; the last that failed: {self._last_stop.text}" if self._last_stop else ""
        self._notices.append(
            f"no worker has reported after {now_s - short_since_s:.0f} s, calls wait; of {self._wanted} tasks wanted, "
            f"{said}{last}; start_timeout_s={self._start_within_s:g} ends the wait"
        )

    def _next_launch(self, now_s: float) -> Launch | None:
        launch = None if self._closing else self._launcher.repeat(now_s)
        if launch is not None:
            return launch  # its tasks are coming already
        for capacity, n_tasks in self._places.next(self._n_free):
            launch = self._launcher.next(capacity, n_tasks, now_s)
            if launch is not None:
                self._places.asked(launch)
                return launch
        return None

    def _launch_at_s(self) -> float:
        if len(self._in_flight) >= self._launcher.limits.in_flight:
            return NEVER
        ready_s = [self._launcher.ready_at(*place, self._now_s) for place in self._places.next(self._n_free)]
        if not self._closing:
            ready_s.append(self._launcher.repeat_at(self._now_s))
        return min(ready_s, default=NEVER)

    def _add(self, arn: str, capacity: Capacity, now_s: float) -> None:
        if arn in self._tasks:
            return
        self._gone.discard(worker_of(arn))
        task = self._changed[arn] = Task(arn, capacity, now_s)
        self._tasks[arn] = self._by_worker[worker_of(arn)] = task
        self._arns[task.worker] = arn
        self._places.fill(task)
        self._launcher.started(capacity)
        self._watch.soon(arn, now_s)
        self._at(now_s + self._start_within_s, lambda at_s: self._start_late(task, at_s))
        if task.worker in self._strangers:
            has_left = self._strangers.pop(task.worker)
            (self.left if has_left else self.heard)(task.worker, now_s)
        if self._closing and not task.left:
            self._stop(task, self._closing, now_s)

    def _no_longer_coming(self, launch: Launch) -> None:
        if self._in_flight.pop(launch.token, None) is not None:
            self._places.answered(launch)

    def _refused(self, launch: Launch, error: CloudexecError, now_s: float) -> None:
        """This time nothing was started; what an earlier try of the same launch did is another question."""
        if launch.token in self._doubtful:
            self._doubtful.discard(launch.token)
            self._drop_unanswered(now_s)
        if not is_passing(error):
            self._launcher.answered(launch)
            self._not_started(launch.capacity, launch.count, stop_for_error(error), now_s)

    def _answer_lost(self, launch: Launch, now_s: float) -> None:
        if self._closing:
            self._no_longer_coming(launch)
            self._drop_unanswered(now_s)
        else:  # its tasks are still coming: the launch is repeated under its token
            del self._in_flight[launch.token]
            self._launcher.unanswered(launch, now_s)

    def _not_started(self, capacity: Capacity, n_tasks: int, stop: WorkerStop, now_s: float, worker: str = "") -> None:
        """Tasks did not come to run: try other capacity, wait, or tell."""
        self._last_stop = stop
        if self._closing:
            return
        if not stop.may_pass:
            self._wanted = max(0, self._wanted - n_tasks)
            self._news.append(NotStarted(stop.as_failed_start(), worker if stop.exit_code is not None else ""))
        elif stop.retry_elsewhere and capacity is Capacity.SPOT and self._target.fallback is Fallback.ON_DEMAND:
            self._places.owe(n_tasks)
            self._divert(n_tasks, stop)
        else:
            self._launcher.no_capacity(capacity, now_s)

    def _divert(self, n_tasks: int, stop: WorkerStop) -> None:
        if not self.n_diverted:
            self._notices.append(
                f"no Spot capacity for {n_tasks} workers, they are started on demand, at the full price, and so are "
                f"those that follow them ({stop.text}); fallback='wait' waits instead"
            )
        self.n_diverted += n_tasks

    @property
    def _give_up_at_s(self) -> float:
        is_open = self._short_since_s is not None and self._is_lacking
        return (self._short_since_s or 0.0) + self._start_within_s if is_open else NEVER

    def _give_up_places(self, now_s: float) -> None:
        """Places that nothing could be started for in all this time."""
        if now_s >= self._give_up_at_s:
            self._short_since_s = None
            if self._launcher.n_unanswered:
                self._drop_unanswered(now_s)
            self._wanted = min(self._wanted, self.n_workers)
            stop = self._last_stop or late_start(None, self._start_within_s)
            self._news.append(NotStarted(stop.as_failed_start()))

    # --- what has to be looked after ---

    def _at(self, when_s: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (when_s, next(self._order), do))

    def _start_late(self, task: Task, now_s: float) -> None:
        if task.heard or task.stop or not task.is_live:
            return
        self._vacate(task)
        stop = late_start(task.known, self._start_within_s)
        ran = task.known is not None and task.known.last_status == "RUNNING"
        self._news.append(NotStarted(stop.as_failed_start(), task.worker if ran else ""))
        self._stop(task, "it did not report in time", now_s)

    def _missed(self, arn: str, now_s: float) -> None:
        task = self._tasks.get(arn)
        if task is None or task.end is not None or now_s < task.since_s + NOT_YET_S:
            return
        task.misses += 1
        if task.misses >= _MISSES:
            self._over(task, vanished(arn), now_s)

    def _over(self, task: Task, stop: WorkerStop, now_s: float) -> None:
        """The service says that it is over."""
        task.end = stop
        self._watch.forget(task.arn)
        if task.left:
            self._forget(task)
        else:
            self._at(now_s + GRACE_S, lambda at_s: self._end(task, stop, at_s))

    def _end(self, task: Task, stop: WorkerStop, now_s: float) -> None:
        """Its last reports had their time."""
        if task.settled:
            return
        self._forget(task)
        if task.heard:
            self._vacate(task)
            self._news.append(WorkerEnded(task.worker, stop.as_end(task.worker)))
        elif task.counted:
            self._places.empty(task)
            self._not_started(task.capacity, 1, stop, now_s, task.worker)

    def _forget(self, task: Task) -> None:
        task.settled = True
        self._changed[task.arn] = task
        self._watch.forget(task.arn)
        self._tasks.pop(task.arn, None)
        self._by_worker.pop(task.worker, None)
        self._gone.add(task.worker)

    def _vacate(self, task: Task) -> None:
        """Its place is not to be filled again, unless somebody wants more."""
        if task.counted:
            self._places.empty(task)
            self._wanted = max(0, self._wanted - 1)

    # --- stopping ---

    def _stop(self, task: Task, reason: str, now_s: float) -> None:
        if task.stop or not task.is_live:
            return
        task.stop = reason
        self._stopper.add(task)
        self._watch.soon(task.arn, now_s)

    def _send_stops(self, now_s: float) -> None:
        for action in self._stopper.take(now_s):
            task = self._tasks[action.arn]
            if now_s >= (task.stop_sent_s or now_s) + STOP_WITHIN_S:
                self._over(task, unstopped(task.arn), now_s)
            self._actions.append(action)

    def _drop_unanswered(self, now_s: float) -> None:
        """Whoever was started without our knowing is found by the run's name."""
        for launch in self._launcher.forget_unanswered():
            self._places.answered(launch)
        self._lists_to_come += len(_LISTS_AT_END_S)
        for after_s in _LISTS_AT_END_S:
            self._at(now_s + after_s, self._list_now)

    def _list_now(self, now_s: float) -> None:
        self._lists_to_come -= 1
        self._watch.list_from(now_s)

    # --- looking ---

    def _read(self, now_s: float) -> None:
        if arns := self._watch.look(now_s):
            self._actions.append(Describe(arns))
        token = self._watch.page(now_s)
        if token is not None:
            self._actions.append(List(token))


def is_unknown(error: CloudexecError) -> bool:
    """Whether ECS says that it knows no such task."""
    return isinstance(error, AwsError) and "not found" in error.what.casefold()


def is_passing(error: CloudexecError) -> bool:
    """Whether the same request may be answered if it is sent again."""
    is_theirs = isinstance(error, AwsError) and (error.status or 0) >= 500
    return is_theirs or isinstance(error, (Throttled, ConnectionLost))
