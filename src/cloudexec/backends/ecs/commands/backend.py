"""Runs commands in containers of their own, for an engine: its lanes are places for containers.

    engine's thread                          threads                        ECS, Logs
    ---------------                          -------                        ---------
    place, recall, kill_call, poll
        -> Containers (pure) -- actions ---> definition, RunTask,  -------> ...
    poll: answers <--- queue, then `wake` -- DescribeTasks, StopTask
        -> Ended ---------------------------> the log, read once ---------> ...
        -> verdicts -> events

Called by: engine; executors.commands makes it.   Calls: containers.py, definitions.py, logs.py, verdicts.py.
Schedule:  DescribeTasks once a second, for up to 100 tasks; above that each task is looked at as many seconds apart
           as there are hundreds. RunTask as launching.py allows. No tasks, no requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, Final

from cloudexec.backends.ecs.commands.containers import Containers
from cloudexec.backends.ecs.commands.definitions import Definitions
from cloudexec.backends.ecs.commands.jobs import Action, Ended, Job, Start, Why
from cloudexec.backends.ecs.commands.logs import read_log, sleep
from cloudexec.backends.ecs.commands.orders import Order, start_request, started_by
from cloudexec.backends.ecs.commands.verdicts import event_of
from cloudexec.backends.ecs.driver import Ask, run_task
from cloudexec.backends.ecs.replies import read_describe, read_list
from cloudexec.backends.ecs.requests import Launch, describe_tasks_request, list_tasks_request, stop_task_request
from cloudexec.backends.ecs.stops import StopKind
from cloudexec.backends.ecs.tasks import Describe, List, StopTask
from cloudexec.backends.protocol import Event, Heard, LaneDown, LaneUp, OutboundCall, WorkerDown
from cloudexec.errors import BlobMissing, CloudexecError
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import LaneEnd
from cloudexec.ledger.calls import CallOptions, Cause
from cloudexec.ledger.pace import Estimate, Pace
from cloudexec.wire.messages import FunctionTraits, PackedFunction

log = logging.getLogger(__name__)

WORKER: Final = "containers"  # to whom all lanes belong
_THREADS: Final = 12
_READERS: Final = 4  # of logs; theirs is a rate limit of its own
_STOP_WITHIN_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3600.0
_NOTHING: Final = PackedFunction(b"", FunctionTraits(), b"")


class CommandCall(OutboundCall):
    """A call that is a command: it travels as the arguments of RunTask."""

    __slots__ = ("order",)

    def __init__(self, number: int, order: Order, options: CallOptions, sink: Any) -> None:
        super().__init__(number, Estimate(), options, _NOTHING, b"", (), "", sink)
        self.order = order


class CommandBackend:
    """See Backend. close: the connections that `ask` uses."""

    def __init__(
        self, run_id: str, cluster: str, containers: Containers, ask: Ask, close: Callable[[], None] = lambda: None
    ) -> None:
        self._run_id = run_id
        self._cluster = cluster
        self._containers = containers
        self._ask = ask
        self._close = close
        self._definitions = Definitions(ask)
        self._lanes: set[str] = set()
        self._lane_numbers = count(1)
        self._events: list[Event] = []
        self._answers: deque[Callable[[float], None]] = deque()
        self._signal = threading.Event()
        self._askers = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"cloudexec-commands-{run_id}")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix=f"cloudexec-logs-{run_id}")

    @property
    def pace(self) -> Pace:
        """See Backend. One call to a lane, and none ahead."""
        return Pace(target_s=0.0, most_calls=1, can_recall=False)

    @property
    def queue(self) -> str | None:
        """See Backend."""
        return None

    # --- what the engine asks ---

    def want_lanes(self, count: int) -> None:
        """See Backend. A lane is a place for a container, and costs nothing."""
        while len(self._lanes) < count:
            lane = f"c{next(self._lane_numbers)}"
            self._lanes.add(lane)
            self._tell(LaneUp(lane, WORKER))

    def place(self, lane: str, calls: list[OutboundCall]) -> None:
        """See Backend."""
        for call in calls:
            assert isinstance(call, CommandCall)
            job = Job(lane, call.number, call.attempts, call.order, call.options.timeout_s)
            self._containers.add(job, time.monotonic())
        self._act()

    def recall(self, lane: str) -> int:
        """See Backend."""
        return int(self._containers.take_back(lane))

    def recall_queue(self) -> list[tuple[int, int]]:
        """See Backend. There is none."""
        return []

    def unstarted(self, lane: str) -> int:
        """See Backend."""
        return int(self._containers.is_waiting(lane))

    def kill_call(self, lane: str, number: int) -> None:
        """See Backend."""
        self._containers.stop(lane, number, Why.STOPPED, time.monotonic())
        self._act()
        self._signal.set()

    def ping(self, worker: str) -> None:
        """See Backend. Nobody can be silent here: what containers do is told by the service."""
        self._tell(Heard(worker))

    def drop_worker(self, worker: str) -> None:
        """See Backend."""
        self._containers.stop_all(time.monotonic())
        self._lanes.clear()
        self._act()
        self._tell(WorkerDown(worker, LaneEnd(Cause.LOST, "the containers were given up"), {}))

    def fetch(self, ref: BlobRef) -> memoryview:
        """See Backend. Results of commands come without blobs."""
        raise BlobMissing(f"{ref.name} is not a blob of a command")

    def wake(self) -> None:
        """See Backend."""
        self._signal.set()

    def poll(self, timeout_s: float | None) -> list[Event]:
        """See Backend."""
        self._turn()
        if not self._events:
            self._signal.wait(self._time_left(timeout_s))
            self._signal.clear()
            self._turn()
        events, self._events = self._events, []
        return events

    def stop(self, grace_s: float) -> None:
        """See Backend. Every task is told to stop; what its process then does is between the two of them."""
        deadline_s = time.monotonic() + _STOP_WITHIN_S
        self._containers.stop_all(time.monotonic())
        try:
            while not self._containers.is_over and time.monotonic() < deadline_s:
                self.poll(max(0.0, deadline_s - time.monotonic()))
        finally:
            self._askers.shutdown(wait=False, cancel_futures=True)
            self._readers.shutdown(wait=False, cancel_futures=True)
            self._close()
        if not self._containers.is_over:
            log.warning("run %s: not all tasks of commands could be stopped in time", self._run_id)

    # --- turning ---

    def _time_left(self, timeout_s: float | None) -> float:
        if self._answers:
            return 0.0
        due_s = self._containers.next_deadline - time.monotonic()
        return max(0.0, min(due_s, _LONGEST_WAIT_S if timeout_s is None else timeout_s, _LONGEST_WAIT_S))

    def _turn(self) -> None:
        now_s = time.monotonic()
        while self._answers:
            self._answers.popleft()(now_s)
        if self._containers.next_deadline <= now_s:
            self._containers.tick(now_s)
        self._act()

    def _act(self) -> None:
        """Begin what is to be done, and hand on what is over."""
        for action in self._containers.take_actions():
            self._begin(self._askers, partial(self._carry_out, action))
        for notice in self._containers.take_notices():
            log.warning("run %s: %s", self._run_id, notice)
        for ended in self._containers.take_news():
            if _has_log(ended):
                self._begin(self._readers, partial(self._read_log, ended))
            else:
                self._end(ended, "")

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._signal.set()

    def _end(self, ended: Ended, text: str) -> None:
        event = event_of(ended, text)
        if isinstance(event, LaneDown):
            self._lanes.discard(event.lane)
        self._tell(event)

    # --- requests, on threads ---

    def _begin(self, threads: ThreadPoolExecutor, work: Callable[[], Callable[[float], None]]) -> None:
        """Do some work on a thread; what it returns is called on the engine's."""

        def run() -> None:
            try:
                answer = work()
            except BaseException as error:  # a defect of ours: the engine dies of it, and no future waits for ever
                answer = partial(_raise, error)
            self._answers.append(answer)
            self._signal.set()

        threads.submit(run)

    def _carry_out(self, action: Action) -> Callable[[float], None]:
        if isinstance(action, Start):
            return self._start(action.job, action.launch)
        if isinstance(action, Describe):
            return self._describe(action.arns)
        if isinstance(action, List):
            return self._list(action.token)
        return self._stop_task(action)

    def _start(self, job: Job, launch: Launch) -> Callable[[float], None]:
        try:
            order, definition = self._definitions.complete(job.order)
            job.order = order
            reply = run_task(self._ask, start_request(order, launch, definition))
        except CloudexecError as error:
            return partial(self._containers.failed, launch, error)
        return partial(self._containers.replied, launch, reply)

    def _describe(self, arns: list[str]) -> Callable[[float], None]:
        reply = self._answer("describe_tasks", describe_tasks_request(self._cluster, arns))
        if reply is None:
            return self._containers.describe_failed
        return partial(self._containers.described, read_describe(reply, arns))

    def _list(self, token: str) -> Callable[[float], None]:
        mark = started_by(self._run_id)
        reply = self._answer("list_tasks", list_tasks_request(self._cluster, mark, token))
        if reply is None:
            return self._containers.list_failed
        return partial(self._containers.listed, *read_list(reply))

    def _answer(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return self._ask("ecs", operation, request)
        except CloudexecError as error:
            log.info("run %s: %s was not answered: %s", self._run_id, operation, error)
            return None

    def _stop_task(self, action: StopTask) -> Callable[[float], None]:
        try:
            self._ask("ecs", "stop_task", stop_task_request(self._cluster, action.arn, action.reason))
        except CloudexecError as error:
            return partial(self._containers.stop_failed, action.arn, error)
        return partial(self._containers.stop_done, action.arn)

    def _read_log(self, ended: Ended) -> Callable[[float], None]:
        assert ended.state is not None
        order: Order = ended.job.order
        text = read_log(self._ask, order.target, ended.state.arn, order.command.log_lines, sleep)
        return lambda _now_s: self._end(ended, text)


def _raise(error: BaseException, _now_s: float) -> None:
    raise error


def _has_log(ended: Ended) -> bool:
    """Whether its program has run, as far as anybody knows."""
    return ended.state is not None and (ended.job.runs or ended.stop.kind is StopKind.EXITED)
