"""Several processes of this kind of work at once: stopped together, by Ctrl-C or SIGTERM, as each alone would be."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOOK_S = 0.5

log = logging.getLogger("together")


@contextmanager
def one_stop() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that what was begun is ended.

    SIGINT too, which a shell's `&` has all that it starts ignore: processes started here would inherit that.
    """
    before = {which: signal.signal(which, signal.default_int_handler) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def start(words: Sequence[str], environment: Mapping[str, str], output: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own: a terminal's Ctrl-C comes to it through `wait` alone, once."""
    if output is None:
        return subprocess.Popen(words, env=environment, start_new_session=True)
    with output.open("ab") as file:
        return subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )


def wait(processes: Sequence[subprocess.Popen[bytes]], look: Callable[[int], bool] = lambda alive: True) -> list[int]:
    """Their exit codes. `look` is told now and then how many are alive; where it says False they are killed.

    An interrupt is passed on to each: they end their iterations, and write their snapshots.
    """
    while alive := sum(process.poll() is None for process in processes):
        try:
            time.sleep(LOOK_S)
            if not look(alive):
                for process in processes:
                    process.kill()  # nothing to one that has ended
        except KeyboardInterrupt:
            log.warning("stopping %d processes", alive)
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
    return [process.wait() for process in processes]
