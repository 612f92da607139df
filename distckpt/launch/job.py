"""A job of several workers on this machine: carries out what the supervisor decides, on real processes.

Promise: when `run` returns or raises, no process of the job is left, nor any that one of them started; should this
process be killed, the workers are killed with it. Everything happens on the calling thread, which must be the main one
(signals arrive there), and no other code may start child processes meanwhile.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from distckpt.launch.cluster import free_ports, worker_environment
from distckpt.launch.health import Health
from distckpt.launch.logs import LogFolder
from distckpt.launch.orphans import adopt_orphans, kill_orphans
from distckpt.launch.process import Pipe, Sink, Stream, WorkerProcess
from distckpt.launch.restarts import HEALTHY_AFTER_S, RestartPolicy, Restarts
from distckpt.launch.supervisor import Asked, Effect, Exited, Finish, Finished, Say, Signal, Start, Supervisor, Tick

GRACE_S = 5.0
FINISHED_LOOK_S = 0.1
SIGNALS_MAX = 4096  # read at once; more are read the next time round
ASKING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """`command` runs once per worker, with `environ` and what `launch.cluster` adds to it.

    A failure restarts all as a `RestartPolicy` of these fields says. A worker that has finished a step, and then none
    for `hang_timeout_s` seconds, has hung (None: is waited for). `log_dir` is a `launch.logs.LogFolder`.
    """

    command: tuple[str, ...]
    workers: int
    environ: Mapping[str, str]
    max_restarts: int = 0
    grace_s: float = GRACE_S
    healthy_after_s: float = HEALTHY_AFTER_S
    backoff_s: float = 0.0
    min_workers: int | None = None
    hang_timeout_s: float | None = None
    log_dir: str | None = None

    def policy(self) -> RestartPolicy:
        return RestartPolicy(self.max_restarts, self.healthy_after_s, self.backoff_s, self.min_workers)


class LocalJob:
    """`sink` gets each line that a worker writes, `say` what the launcher has to tell, `show` now and then how far the
    training is. All are called by `run`.
    """

    def __init__(
        self, spec: JobSpec, sink: Sink, say: Callable[[str], None], show: Callable[[str], None] | None = None
    ) -> None:
        self._spec = spec
        self._sink = sink
        self._say = say
        self._name = spec.environ.get("DISTCKPT_JOB_ID") or uuid.uuid4().hex
        self._supervisor = Supervisor(Restarts(spec.policy(), spec.workers), spec.grace_s)
        self._alive: dict[int, WorkerProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._code: int | None = None
        self._logs = None if spec.log_dir is None else LogFolder(spec.log_dir, say)
        self._health = Health(spec.hang_timeout_s, say, show)

    def run(self) -> int:
        """Runs to the end and returns the exit code: 0, or that of the worker that failed first (128 + signal)."""
        adopt_orphans()
        with closing(self._health), self._selector, _signals() as arrived:
            self._selector.register(arrived, selectors.EVENT_READ)
            try:
                self._carry_out(self._supervisor.begin(time.monotonic()))
                while self._code is None:
                    self._wait(arrived)
            finally:
                self._end_all()
        return self._code

    def kill(self, worker: int) -> None:
        """Kills one worker with SIGKILL, as a crash would. For a sink to call: it shows what a restart does."""
        self._health.killed(time.monotonic())
        self._alive[worker].send(signal.SIGKILL)

    def _wait(self, arrived: socket.socket) -> None:
        deadlines = [at for at in (self._supervisor.next_deadline(), self._health.next_look()) if at is not None]
        if self._supervisor.finishing:
            deadlines.append(time.monotonic() + FINISHED_LOOK_S)
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.fileobj, Pipe) and not key.fileobj.read():
                self._selector.unregister(key.fileobj)
        for signum in _received(arrived):
            if signum in ASKING:
                self._carry_out(self._supervisor.handle(Asked(signum), time.monotonic()))
        self._reap()
        found = self._health.look(time.monotonic(), self._alive)
        if found is not None:
            self._carry_out(self._supervisor.handle(found, time.monotonic()))
        if self._supervisor.finishing and not self._health.in_hand(self._alive):
            self._carry_out(self._supervisor.handle(Finished(), time.monotonic()))
        self._carry_out(self._supervisor.handle(Tick(), time.monotonic()))

    def _reap(self) -> None:
        for process in [process for process in self._alive.values() if process.ended()]:
            code = self._close(process)
            exited = Exited(process.worker, code, self._health.in_hand(self._alive))
            if exited.code != 0:
                self._health.failed(time.monotonic())
            self._carry_out(self._supervisor.handle(exited, time.monotonic()))

    def _close(self, process: WorkerProcess) -> int:
        del self._alive[process.worker]
        for pipe in process.pipes:
            if pipe.fileno() in self._selector.get_map():
                self._selector.unregister(pipe)
        return process.reap()

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(attempt, workers):
                    self._start(attempt, workers)
                case Signal(worker, signum):
                    self._alive[worker].send(signum)
                case Say(text):
                    self._say(text)
                case Finish(code):
                    self._code = code

    def _start(self, attempt: int, workers: int) -> None:
        kill_orphans(())
        self._health.begin(attempt, workers, time.monotonic())
        if self._logs is not None:
            self._logs.begin(workers)
        ports = free_ports(workers)
        for worker in range(workers):
            environ = worker_environment(self._spec.environ, ports, worker, self._name, attempt)
            environ |= self._health.environ(worker)
            process = WorkerProcess(worker, self._spec.command, environ, self._on_line)
            self._alive[worker] = process
            for pipe in process.pipes:
                self._selector.register(pipe, selectors.EVENT_READ)

    def _on_line(self, worker: int, stream: Stream, line: bytes) -> None:
        if self._logs is not None:
            self._logs.line(worker, line)
        self._sink(worker, stream, line)

    def _end_all(self) -> None:
        for process in self._alive.values():
            process.send(signal.SIGKILL)
        for process in list(self._alive.values()):
            self._close(process)
        kill_orphans(())
        if self._logs is not None:
            self._logs.close()


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket on which the number of each signal that concerns the job arrives as a byte."""
    arrived, wakeup = socket.socketpair()
    with arrived, wakeup:
        os.set_blocking(arrived.fileno(), False)
        os.set_blocking(wakeup.fileno(), False)
        previous_fd = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        previous = {each: signal.signal(each, lambda *_: None) for each in (*ASKING, signal.SIGCHLD)}
        try:
            yield arrived
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(previous_fd)


def _received(arrived: socket.socket) -> bytes:
    try:
        return arrived.recv(SIGNALS_MAX)
    except BlockingIOError:
        return b""
