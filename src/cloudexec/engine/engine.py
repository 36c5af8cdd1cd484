"""The one background loop of an executor.

    caller's threads                          engine's thread                         service
    ----------------                          ---------------                         -------
    submit(call) --> inbox --wake-->  drain inbox -----> ledger.submitted
                                      backend.poll <------------------------------- what happened
                                      each event -------> ledger.outcome, lane_up, lane_down, ...
                                      ledger.take_actions:
                                         Place, Recall, ... -> backend ------------> batches, kills
                                         Resolve, Fail -----> delivery -> sink (future, or map's harvest)
                                         Fail for lack of memory -> annex, if there is one -> a larger engine
    cancel(call) ---- lock ---------> ledger.cancel, or a request to recall the call's lane

Called by: executors.   Calls: ledger, backend, delivery.   Sole owner of the ledger; `_lock` guards it.
Schedule:  sleeps in backend.poll until an event, a wake-up, or the ledger's next deadline. Nothing is polled.
Promise:   if the loop dies, every open call gets EngineFailed with the reason; so does a call submitted later.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from cloudexec.backends.protocol import (
    Backend,
    Broken,
    CallDown,
    Chronicle,
    Event,
    GivenBack,
    Heard,
    InitializerError,
    LaneDown,
    LaneUp,
    OutboundCall,
    Outcomes,
    Requeued,
    StartFailed,
    Taken,
    WorkerDown,
)
from cloudexec.engine.annex import Annex, CameBack
from cloudexec.engine.callbacks import CallbackThread
from cloudexec.engine.delivery import Delivery, copy_of
from cloudexec.engine.lifetime import End, register, unregister
from cloudexec.engine.verdicts import breakdown_of
from cloudexec.engine.withdrawing import Withdrawing
from cloudexec.errors import CloudexecError, EngineFailed, ExecutorClosed, InitializerFailed, RunDetached
from cloudexec.future import SIGNALS_WITHIN_S
from cloudexec.ids import BlobRef
from cloudexec.ledger.actions import (
    Action,
    Break,
    DropWorker,
    Fail,
    KillCall,
    LaneEnd,
    Ping,
    Place,
    Recall,
    Resolve,
    WantLanes,
)
from cloudexec.ledger.calls import Cause, State
from cloudexec.ledger.ledger import NEVER, Ledger
from cloudexec.observe.recorder import Recorder
from cloudexec.serialization.failures import load_failure
from cloudexec.wire.messages import Outcome, Verdict

_ANSWER_WITHIN_S: Final = 10.0
_LEAVE_GRACE_S: Final = 2.0
_BURST: Final = 4  # submissions found at once
_GATHER_S: Final = 0.001


class Engine:
    """Runs calls of one run on one backend.

    chronicle: is told what must outlive the process. annex: where calls go on that run out of memory. parent_id: the
    run whose engine's annex this one belongs to; it names the calls, and looks after us when the interpreter ends.
    recorder: counts for the run's summary.
    """

    def __init__(
        self,
        run_id: str,
        ledger: Ledger,
        backend: Backend,
        release: Callable[[tuple[BlobRef, ...]], None],
        chronicle: Chronicle | None = None,
        *,
        annex: Annex | None = None,
        parent_id: str = "",
        recorder: Recorder | None = None,
    ) -> None:
        self.run_id = run_id
        self.pid = os.getpid()
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._backend = backend
        self._release = release
        self._chronicle = chronicle
        self._annex = annex
        self._parent_id = parent_id
        self._queue = backend.queue
        if self._queue is not None:
            ledger.queue_up(self._queue, time.monotonic())
        self._lock = threading.Lock()
        self._inbox: deque[list[OutboundCall]] = deque()
        self._requests: deque[tuple[Callable[[float], None], threading.Event]] = deque()
        self._open: dict[int, OutboundCall] = {}
        self._ends: list[Resolve | Fail] = []
        self._withdrawing = Withdrawing(self, ledger, backend, annex)
        self._left: list[OutboundCall] = []  # to whom RunDetached is to be told
        self._asleep = False
        self._in_burst = False
        self._closing = False
        self._kill = False
        self._breakdown: CloudexecError | None = None
        self._dead = False
        self._delivery = Delivery(parent_id or run_id, backend.fetch, release, self.counts, recorder)
        self._callbacks = CallbackThread()
        self._thread = threading.Thread(target=self._run, name=f"cloudexec-engine-{run_id}", daemon=True)
        self._over = End()
        self._started = False
        self._start_lock = threading.Lock()

    # --- from any thread ---

    @property
    def breakdown(self) -> CloudexecError | None:
        """Why no more calls are taken; None while they are."""
        return self._breakdown

    @property
    def is_closing(self) -> bool:
        """Whether no more calls are taken because somebody closed the engine, if only the interpreter's exit."""
        return self._closing

    @property
    def is_killed(self) -> bool:
        """Whether somebody had running calls ended."""
        return self._kill

    @property
    def n_open(self) -> int:
        """Calls that are not over."""
        return len(self._open) + sum(len(calls) for calls in list(self._inbox))

    @property
    def n_lent(self) -> int:
        """Open calls that run in the larger engine of the annex, or wait there."""
        return self._annex.n_lent if self._annex is not None else 0

    @property
    def ledger(self) -> Ledger:
        """For looking at counters; its methods belong to the engine."""
        return self._ledger

    @property
    def backend(self) -> Backend:
        """The backend, for its facts."""
        return self._backend

    def adopt(self, calls: list[OutboundCall]) -> None:
        """Take over the calls of an earlier client that were placed already. Before the first `submit`."""
        assert self._queue is not None
        self._open.update((call.number, call) for call in calls)
        self._ledger.adopt(self._queue, calls, time.monotonic())

    def start(self, first: Callable[[], None]) -> None:
        """Begin before the first `submit`, with `first` on the engine's thread."""
        self._requests.append((lambda _now_s: first(), threading.Event()))
        if not self._started:
            self._start()

    def warm(self, n_lanes: int) -> None:
        """Have slots started before the first call."""
        self.start(lambda: self._backend.want_lanes(n_lanes))

    def detach(self) -> None:
        """Leave all open calls to the backend's queue and workers. Their sinks get RunDetached. Waits."""
        if not self._started:
            self.start(lambda: None)
        done = threading.Event()
        self._requests.append((self._detach, done))
        self._backend_wake()
        while not done.wait(SIGNALS_WITHIN_S):
            pass
        self.join()

    def submit(self, calls: list[OutboundCall]) -> None:
        """Take over new calls. Returns at once."""
        self._inbox.append(calls)
        if not self._started:
            self._start()
        if self._asleep:
            self._asleep = False
            self._backend.wake()
        if self._dead:
            self._bury_inbox()

    def cancel(self, call: OutboundCall) -> bool:
        """Forget a call unless it has started; True if it will never run. The caller tells its sink."""
        if self._is_lent(call):
            return self._cancel_lent(call)
        with self._lock:
            self._drain_inbox(time.monotonic())
            if self._withdrawing.cancel_pending(call):
                return True
            if call.state is State.DONE:
                return False
        answers: list[bool] = []
        asking = [True]
        self._ask(lambda now_s: answers.append(bool(asking) and self._withdrawing.cancel(call, now_s)))
        with self._lock:  # a late answer would cancel a call whose owner was told that it goes on
            asking.clear()
        return bool(answers and answers[0])

    def drop(self, calls: list[OutboundCall], *, tell: bool = False) -> None:
        """Cancel calls unless they have started, soon; their sinks are not told, unless `tell`. The garbage collector
        may call this on any thread, in the middle of anything: it takes no lock."""
        if calls:
            self._ask(lambda now_s: self._withdrawing.drop(calls, now_s, tell=tell), wait=False)

    def cancel_all(self, *, kill: bool = False) -> None:
        """Cancel, soon, what has not started; `kill`: also end what runs."""
        self._ask(lambda now_s: self._withdrawing.cancel_all(now_s, kill=kill), wait=False)

    def stop(self, call: OutboundCall) -> None:
        """Kill a call that runs; its sink gets CallStopped."""
        if self._annex is not None and self._is_lent(call):
            self._annex.stop(call.number)
            return
        self._ask(lambda now_s: self._withdrawing.stop(call, now_s), wait=False)

    def has_started(self, call: OutboundCall) -> bool:
        """Whether a call has started, and is not over."""
        if self._annex is not None and self._is_lent(call):
            return self._annex.has_started(call.number)
        with self._lock:
            lane = call.lane
            if call.state is not State.PLACED or lane is None or self._dead:
                return False
            if lane == self._queue:
                return self._withdrawing.is_taken(call.number)
            if self._queue is not None:  # a worker has it, and gives nothing back
                return True
            unstarted = self._backend.unstarted(lane)
            return call.number not in self._ledger.last_calls(lane, unstarted)

    def n_running(self) -> int:
        """Calls that have started and are not over."""
        with self._lock:
            if self._dead:
                return 0
            here = sum(
                max(0, count - self._backend.unstarted(lane)) for lane, count in self._ledger.lane_counts().items()
            )
            return here + (self._annex.n_running() if self._annex is not None else 0)

    def invoke_callbacks(self, future: Any) -> None:
        """See future.Controller."""
        self._callbacks.post(future.run_callbacks)

    def close(self, *, cancel: bool = False, kill: bool = False) -> None:
        """Take no more calls and end when the open ones are over. `cancel`: drop what has not started;
        `kill`: also end what runs."""
        if cancel or kill:
            self.cancel_all(kill=kill)
        self._closing = True
        self._kill = self._kill or kill
        self._backend_wake()
        if not self._started:
            with self._start_lock:
                if not self._started:
                    self._started = self._dead = True
                    self._backend.stop(0.0)
                    self._callbacks.close()

    def join(self) -> None:
        """Wait for the end of the loop and of callbacks; not from a callback or the loop itself."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._over.wait()  # Thread.join alone takes a thread for ended once Ctrl-C has interrupted it (Python 3.10)
            self._thread.join()
        self._callbacks.join()

    def leave(self, *, kill: bool) -> None:
        """See lifetime.Lived."""
        self.close(kill=kill)
        self.join()

    def forget_in_child(self) -> None:
        """See lifetime.Lived."""
        forget = getattr(self._backend, "forget_in_child", None)
        if forget is not None:
            forget()

    # --- requests to the loop ---

    def _ask(self, job: Callable[[float], None], wait: bool = True) -> None:
        """Have the loop run `job` under the lock."""
        done = threading.Event()
        if self._dead or not self._started:
            return
        if wait and threading.current_thread() is self._thread:  # a result's unpickling code calls us
            with self._lock:
                job(time.monotonic())
            return
        self._requests.append((job, done))
        self._backend_wake()
        if wait:
            done.wait(_ANSWER_WITHIN_S)

    def _backend_wake(self) -> None:
        if self._started and not self._dead:
            self._asleep = False
            self._backend.wake()

    def _detach(self, now_s: float) -> None:
        self._closing = True
        self._ledger.flush(now_s)
        self.act(now_s)
        self._backend.detach()  # type: ignore[attr-defined]  # only executors whose backend can do it offer it
        self._breakdown = self._breakdown or RunDetached(f"run {self.run_id} was detached from this executor")
        self._left = list(self._open.values())
        self._open.clear()

    # --- see withdrawing.Owner ---

    def is_open(self, call: OutboundCall) -> bool:
        """Whether a call is not over."""
        return call.number in self._open

    def note_cancelled(self, call: OutboundCall) -> None:
        """A call will never run."""
        self._forget(call)
        if self._chronicle is not None:
            self._chronicle.cancelled(call.number)
        self.counts["cancelled"] += 1

    # --- the loop ---

    def _start(self) -> None:
        with self._start_lock:
            if not self._started:
                if not self._parent_id:
                    register(self)
                self._started = True
                self._thread.start()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            self._die(error)
        finally:
            try:
                self._end()
            finally:
                self._over.come()

    def _turn(self) -> bool:
        """Wait, take in what happened, act; False at the end."""
        events = self._wait()
        now_s = time.monotonic()
        with self._lock:
            self._drain_inbox(now_s)
            for event in events:
                self._take_in(event, now_s)
            self._serve_requests(now_s)
            if now_s >= self._ledger.next_deadline:
                self._ledger.tick(now_s)
            self._withdrawing.tick(now_s)
            self.act(now_s)
            ends, self._ends = self._ends, []
            for end in ends:
                self._open.pop(end.call.number, None)
                self._withdrawing.over(end.call.number)
            returned = self._taken_back()
            withdrawn = self._withdrawing.take_withdrawn()
            left, self._left = self._left, []
            over = self._closing and not self._open and not self._inbox
        for call in withdrawn:
            call.sink.withdraw(call)
        self._deliver_all(ends)
        for came in returned:
            self._delivery.hand_on(came)
        self._bury(left)
        return not over

    def _wait(self) -> list[Event]:
        if self._in_burst:  # more is coming: let it gather, rather than wake up for each call
            return self._backend.poll(_GATHER_S)
        self._asleep = True
        has_returned = self._annex is not None and self._annex.has_returned
        if self._inbox or self._requests or self._ends or has_returned or (self._closing and not self._open):
            self._asleep = False
            return self._backend.poll(0)
        deadline = min(self._ledger.next_deadline, self._withdrawing.next_deadline)
        timeout_s = None if deadline == NEVER else max(0.0, deadline - time.monotonic())
        events = self._backend.poll(timeout_s)
        self._asleep = False
        return events

    def _drain_inbox(self, now_s: float) -> None:
        inbox = self._inbox
        drained: list[OutboundCall] = []
        n_messages = 0
        while inbox:
            drained += inbox.popleft()
            n_messages += 1
        self._in_burst = n_messages >= _BURST
        if drained:
            self._open.update((call.number, call) for call in drained)
            if self._chronicle is not None:
                self._chronicle.submitted(drained)
            self._ledger.submitted(drained, now_s)

    def _serve_requests(self, now_s: float) -> None:
        while self._requests:
            job, done = self._requests.popleft()
            try:
                job(now_s)
            finally:
                done.set()

    def _take_in(self, event: Event, now_s: float) -> None:
        ledger = self._ledger
        if isinstance(event, Outcomes):
            self._take_outcomes(event, now_s)
        elif isinstance(event, LaneUp):
            ledger.lane_up(event.lane, event.worker, now_s)
        elif isinstance(event, LaneDown):
            ledger.lane_down(event.lane, event.end, event.unstarted, now_s)
        elif isinstance(event, WorkerDown):
            ledger.worker_down(event.worker, event.end, event.unstarted, now_s)
        elif isinstance(event, StartFailed):
            ledger.start_failed(event.end, now_s)
        elif isinstance(event, Heard):
            ledger.heard(event.worker, now_s, event.holding)
        elif isinstance(event, Taken):
            ledger.taken(event.lane, event.numbers, now_s)
        elif isinstance(event, Requeued):
            assert self._queue is not None
            ledger.requeued(self._queue, event.attempts, now_s)
        elif isinstance(event, GivenBack):
            ledger.given_back(event.numbers, now_s)
        elif isinstance(event, CallDown):
            ledger.call_down(event.lane, event.number, event.end, now_s, alone=event.alone)
            ledger.settle(now_s)
        elif isinstance(event, InitializerError):
            self._initializer_failed(event.outcome)
        elif isinstance(event, Broken):
            self._break(event.error)

    def _take_outcomes(self, event: Outcomes, now_s: float) -> None:
        lane, take = event.lane, self._ledger.outcome
        for outcome in event.outcomes:
            verdict = outcome.verdict
            take(
                lane,
                outcome.number,
                ok=verdict is Verdict.RETURNED,
                retry=verdict is Verdict.RAISED,
                seconds=outcome.finished_s - outcome.started_s,
                outcome=outcome,
                now_s=now_s,
                attempt=outcome.attempt,
            )
        self._ledger.settle(now_s)

    def _initializer_failed(self, outcome: Outcome) -> None:
        cause = load_failure(outcome.value, self._backend.fetch)
        error = InitializerFailed(f"the initializer raised {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        self._break(error)

    def _break(self, error: CloudexecError) -> None:
        self._breakdown = self._breakdown or error
        self._ledger.break_down(LaneEnd(Cause.LOST, error.what))

    def act(self, now_s: float) -> None:
        """Carry out what the ledger wants until it wants no more; note the calls that are over."""
        while actions := self._ledger.take_actions():
            for action in actions:
                if isinstance(action, Fail) and self._goes_on(action):
                    self._lend(action.call, now_s)  # type: ignore[arg-type]  # our calls are OutboundCalls
                elif isinstance(action, (Resolve, Fail)):
                    if self._chronicle is not None and isinstance(action, Fail):
                        self._chronicle.failed(action.call.number, action.end)
                    self._ends.append(action)
                else:
                    self._carry_out(action, now_s)

    def _carry_out(self, action: Action, now_s: float) -> None:
        backend = self._backend
        if isinstance(action, Place):
            backend.place(action.lane, action.calls)  # type: ignore[arg-type]  # our calls are OutboundCalls
        elif isinstance(action, WantLanes):
            backend.want_lanes(action.n_lanes)
        elif isinstance(action, Recall):
            self._ledger.returned(action.lane, backend.recall(action.lane), now_s)
        elif isinstance(action, KillCall):
            backend.kill_call(action.lane, action.number)
        elif isinstance(action, Ping):
            backend.ping(action.worker)
        elif isinstance(action, DropWorker):
            backend.drop_worker(action.worker)
        elif isinstance(action, Break) and not action.end.stopped:
            self._breakdown = self._breakdown or breakdown_of(action.end)

    # --- calls that ran out of memory ---

    def _goes_on(self, action: Fail) -> bool:
        is_for_memory = action.end.cause is Cause.OOM and not action.end.stopped
        return self._annex is not None and is_for_memory and self._breakdown is None

    def _lend(self, call: OutboundCall, now_s: float) -> None:
        assert self._annex is not None
        self._annex.lend(call, self._backend_wake)
        if self._withdrawing.is_stopping(call):  # its process died before the order reached it
            self._annex.stop(call.number)
        self._withdrawing.over(call.number)

    def _is_lent(self, call: OutboundCall) -> bool:
        return self._annex is not None and self._annex.has(call.number)

    def _cancel_lent(self, call: OutboundCall) -> bool:
        assert self._annex is not None
        if not self._annex.cancel(call.number):
            return False
        with self._lock:
            if call.number in self._open:
                self.note_cancelled(call)
        self._backend_wake()  # it may have been the last one
        return True

    def _taken_back(self) -> list[CameBack]:
        """Calls that are over elsewhere, and were still ours."""
        if self._annex is None:
            return []
        ends = [end for end in self._annex.take_back() if self._open.pop(end.call.number, None) is not None]
        if self._chronicle is not None:
            for end in ends:
                if end.is_withdrawn:
                    self._chronicle.cancelled(end.call.number)
        return ends

    # --- ends of calls ---

    def _deliver_all(self, ends: list[Resolve | Fail]) -> None:
        n_done = 0
        try:
            for end in ends:
                self._delivery.deliver(end, self._breakdown)
                n_done += 1
        except BaseException:  # we are about to die: these must hear of it
            self._open.update((end.call.number, end.call) for end in ends[n_done:])  # type: ignore[misc]  # OutboundCalls
            raise

    def _forget(self, call: OutboundCall) -> None:
        del self._open[call.number]
        if call.refs:
            self._release(call.refs)

    # --- the end ---

    def _die(self, reason: BaseException) -> None:
        """Fail every open call: the loop cannot go on."""
        failed = EngineFailed(f"the engine of run {self.run_id} died of {reason!r}")
        failed.__cause__ = reason
        self._breakdown = failed
        self._kill = True
        self._dead = True
        self._bury(self._open.values())
        self._open.clear()
        self._bury_inbox()

    def _bury_inbox(self) -> None:
        """Calls that came after the loop had ended."""
        while self._inbox:
            try:
                self._bury(self._inbox.popleft())
            except IndexError:  # another thread was quicker
                return

    def _bury(self, calls: Iterable[OutboundCall]) -> None:
        error = self._breakdown or ExecutorClosed()  # submitted while another thread shut down
        for call in list(calls):
            call.state = State.DONE
            self.counts["failed"] += 1
            self.counts["left"] += isinstance(error, RunDetached)  # these are not over
            call.sink.deliver(call, None, copy_of(error), None)

    def _end(self) -> None:
        with self._lock:  # whoever asks what runs does so before, or learns that nothing does
            self._dead = True
        self._bury_inbox()
        for _, done in self._requests:
            done.set()
        try:
            if self._annex is not None:  # first, because its workers use our blobs
                self._annex.close()
        finally:
            self._end_backend()

    def _end_backend(self) -> None:
        try:
            self._backend.stop(0.0 if self._kill else _LEAVE_GRACE_S)
        finally:
            self._callbacks.close()
            unregister(self)
