"""How a training is asked to stop: by a signal, at the end of its iteration or at once."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_S = 10.0  # after which minutes that are over are told again where that was lost

log = logging.getLogger("rootgen")


class Stop:
    """A request to stop, as a signal handler makes it: at the end of the iteration, or at once.

    The first one lets the current iteration end, the second raises KeyboardInterrupt, and so does the first
    while `at_once` holds (in a test, which changes nothing) unless the process has `others` to end with.
    """

    def __init__(self, *, others: bool = False) -> None:
        self.signal = 0
        self.at_once = False
        self.others = others

    def __call__(self, number: int, _frame: object = None) -> None:
        again, self.signal = bool(self.signal), number
        if again or (self.at_once and not self.others):
            raise KeyboardInterrupt
        log.warning("%s: ending this iteration, then a snapshot (again: stop at once)", signal.Signals(number).name)


@contextmanager
def limit(minutes: float | None, stop: Stop) -> Iterator[None]:
    """Ask `stop` after so many minutes, as an interrupt would; never where they are None.

    While `stop` raises at once, again and again: Python drops what is raised in a finalizer or a callback.
    """

    def over(number: int, frame: object) -> None:
        if not stop.signal:
            log.warning("--minutes %g are over", minutes)
        elif not stop.at_once:
            return  # what is under way ends by itself
        try:
            stop(number, frame)
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise

    if minutes is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and a terminal that goes away (unless under nohup) ask `stop`; as before afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
