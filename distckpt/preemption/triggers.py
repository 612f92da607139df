"""What makes this worker want a save that no worker foresaw: the clock of an `EverySeconds`, SIGUSR1, and notices."""

from __future__ import annotations

import logging
import signal
import weakref
from collections.abc import Callable

from distckpt.errors import DistckptError
from distckpt.model import Place
from distckpt.policy import Schedule
from distckpt.preemption.notice import Preemption
from distckpt.preemption.signals import SignalWatch, may_be_taken
from distckpt.preemption.watch import Leaving, PreemptionWatch
from distckpt.protocol.messages import Agreed, Wish
from distckpt.runtime.tenancy import Tenancy
from distckpt.runtime.ticket import WishTicket

log = logging.getLogger("distckpt")


class Triggers:
    """Of one manager (`owner`), from its constructor to `close`, or until it is forgotten: it is not kept alive.

    SIGUSR1 is left alone where it is somebody else's, or the manager is made outside of the main thread. `within_s`:
    the time that a save has.
    """

    def __init__(
        self,
        owner: object,
        tenancy: Tenancy,
        schedule: Schedule,
        place: Place,
        within_s: float,
        preemption: Preemption | None,
    ) -> None:
        self._schedule = schedule
        self._place = place
        self._within_s = within_s
        self._tenancy = tenancy
        self._asked: WishTicket | None = None
        self._signals: SignalWatch | None = None
        self._watch = None if preemption is None else PreemptionWatch(preemption, place.worker, tenancy, within_s)
        weakref.finalize(owner, self.close)
        if may_be_taken(signal.SIGUSR1):
            self._signals = SignalWatch([signal.SIGUSR1], self._signalled)

    def save(self, agreed: Agreed | None, save: Callable[[], str], manager: Leaving) -> str | None:
        """Saves, for `agreed` or the caller's own reasons; see `PreemptionWatch.save`."""
        return save() if self._watch is None else self._watch.save(agreed, save, manager)

    def step_ended(self, manager: Leaving) -> None:
        """A step has ended without a save. The chief's clock is everyone's."""
        if self._watch is not None:
            self._watch.step_ended(manager)
        if self._place.is_chief and self._schedule.time_is_up():
            self._schedule.begin()
            self._wish(f"every {self._schedule.seconds:g} s")

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._signals is not None:
            self._signals.close()

    def _signalled(self, signum: signal.Signals) -> None:
        if self._asked is None or self._asked.done():
            self._wish(f"{signum.name} on worker {self._place.worker}")

    def _wish(self, reason: str) -> None:
        try:
            self._asked = self._tenancy.session.agent.wish(Wish(reason, self._within_s))
        except DistckptError as error:
            log.warning("no save for %s: %s", reason, error)
