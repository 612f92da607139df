"""How long the training steps of one worker take: shows the dip that a save makes, if it makes one."""

from __future__ import annotations

from collections import deque

from distckpt.observe.happenings import StepEnded
from distckpt.observe.picture import StepsView

WINDOW_S = 0.25
"""Steps shorter than this are told of together."""
WINDOWS_MAX = 1200


class Steps:
    """`recent`: the last WINDOWS_MAX windows, by the clock that `ended` is given."""

    def __init__(self) -> None:
        self.recent: deque[StepsView] = deque(maxlen=WINDOWS_MAX)
        self._last: tuple[float, int] | None = None
        self._window: tuple[float, int] = (0.0, 0)  # its begin, and the step before it
        self._longest_s = 0.0

    def ended(self, step: int, now: float) -> StepEnded | None:
        """Step `step` has ended. None where it does not follow another: the first, and after a restore."""
        last, self._last = self._last, (now, step)
        if last is None or step <= last[1]:
            self._window, self._longest_s = (now, step), 0.0
            return None
        seconds = (now - last[0]) / (step - last[1])
        self._longest_s = max(self._longest_s, seconds)
        began, before = self._window
        if now - began >= WINDOW_S:
            self.recent.append(StepsView(now, step, (now - began) / (step - before), self._longest_s))
            self._window, self._longest_s = (now, step), 0.0
        return StepEnded(step, seconds)
