"""From a preemption notice to the end of this process: all save at the next step that they can, commit, and go.

A notice becomes a wish that ends the job (`final`): the coordinator declines it where a save cannot be done in time.
Then this worker finishes what is in flight, and goes alone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from distckpt.errors import ConfigurationError, DistckptError, RetryableError
from distckpt.model import Cause
from distckpt.preemption import aws, gce, slurm
from distckpt.preemption.notice import ENDS, Preemption, PreemptionNotice
from distckpt.preemption.signals import SignalWatch
from distckpt.preemption.source import Source
from distckpt.protocol.messages import Agreed, Wish
from distckpt.runtime.tenancy import Tenancy

log = logging.getLogger("distckpt")

RIVAL = "PreemptionCheckpointHandler"
RIVAL_STEPS = 64
"""It is looked for at every so many steps: Python takes 2 µs to say who has a signal."""


class Leaving(Protocol):
    """A manager, seen from here."""

    def wait(self) -> None: ...

    def close(self) -> None: ...


class PreemptionWatch:
    """Of one manager, from its constructor (in the main thread) to `close`. `within_s`: the time that a save has which
    does not end the job. Raises ConfigurationError where TensorFlow's PreemptionCheckpointHandler has the signal.
    """

    def __init__(
        self,
        settings: Preemption,
        worker: int,
        tenancy: Tenancy,
        within_s: float,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.notice: PreemptionNotice | None = None
        self._settings = settings
        self._worker = worker
        self._tenancy = tenancy
        self._within_s = within_s
        self._grace_s = settings.grace(environ)
        self._lock = threading.Lock()
        self._alone: Cause | None = None
        self._steps = 0
        self._refuse_rival()
        self._signals = SignalWatch(settings.signals, self._signalled)
        self._sources: list[Source] = slurm.watch_slurm(environ, self.notify, settings.time_limit_s)
        if gce.is_here(environ):
            self._sources += gce.watch_gce(environ, self.notify)
        if aws.is_here(environ):
            self._sources += aws.watch_aws(environ, self.notify)

    def close(self) -> None:
        """Puts the handlers back that were there. May be called twice."""
        self._signals.close()
        for source in self._sources:
            source.close()

    # ------------------------------------------------------------------------------------------------------ the notice

    def notify(self, source: str, deadline: float, final: bool) -> None:  # noqa: FBT001 - Notify's
        """Takes a notice, from any thread. The first that is final counts; a warning before it is a wish of its own."""
        with self._lock:
            if self.notice is not None and self.notice.final:
                return
            self.notice = notice = PreemptionNotice(deadline, source, self._worker, final)
        threading.Thread(target=self._follow, args=(notice,), name="distckpt-notice", daemon=True).start()

    def _signalled(self, signum: signal.Signals) -> None:
        self.notify(signum.name, time.time() + self._grace_s, ENDS)

    def _follow(self, notice: PreemptionNotice) -> None:
        """Asks for the save, and hears what comes of it."""
        left_s = max(0.0, notice.deadline - time.time())
        log.warning("worker %d: %s: %.1f s are left", notice.worker, notice.source, left_s)
        wish = Wish(f"{notice.source} on worker {notice.worker}", min(left_s, self._within_s), notice.final)
        try:
            cause = self._tenancy.session.agent.wish(wish).result().cause
        except DistckptError as error:
            cause = Cause(type(error).__name__, str(error))
        ended_otherwise = cause is not None and cause.kind == "ManagerClosed"
        if cause is not None and notice.final and not ended_otherwise:
            log.error("no save before the end: %s; what is in flight is finished", cause.message)
            self._alone = cause

    # ------------------------------------------------------------------------------------------- on the training thread

    def save(self, agreed: Agreed | None, save: Callable[[], str], manager: Leaving) -> str | None:
        """Saves and, where the job ends with that, ends this process after the commit (SystemExit).

        One that fails in time to be tried again is no error here.
        """
        if agreed is None or not agreed.final:
            return save()
        try:
            path = save()
            manager.wait()
        except RetryableError:
            log.exception("the save before the end failed; it is tried again as long as there is time")
            return None
        log.warning("%s is committed: %s", path, agreed.reason)
        self._leave(manager)
        return path

    def step_ended(self, manager: Leaving) -> None:
        """A step has ended without a save. Raises ConfigurationError if someone else has taken the signal since, within
        RIVAL_STEPS steps.
        """
        self._steps += 1
        if self._steps % RIVAL_STEPS == 0:
            self._refuse_rival()
        if self._alone is None:
            return
        try:
            manager.wait()
        except DistckptError:
            log.exception("what was in flight")
        self._leave(manager)

    def _leave(self, manager: Leaving) -> None:
        if self._settings.exit_code is not None:
            manager.close()
            for signum in self._settings.signals:
                if signum is not signal.SIGINT and threading.current_thread() is threading.main_thread():
                    signal.signal(signum, signal.SIG_IGN)  # told again on its way out, it would end with another code
            sys.exit(self._settings.exit_code)
        self._alone = None

    def _refuse_rival(self) -> None:
        for signum in self._settings.signals:
            owner = getattr(signal.getsignal(signum), "__self__", None)
            if type(owner).__name__ == RIVAL:
                raise ConfigurationError(
                    f"TensorFlow's {RIVAL} has taken {signum.name}, and so would preemption=: both would save and end "
                    f"this process. Use one of them: leave preemption= out, or make no {RIVAL}"
                )
