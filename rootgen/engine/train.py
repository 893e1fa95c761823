"""A solver from its current iteration to max_iter: tests, snapshots, a CSV log, and clean ends.

The order is Caffe's (Solver::Step): a test, where one is due, before the iteration of the same number; a
snapshot after. What a stop or a failure leaves behind is always enough to go on from.
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from rootgen.engine.api import StepResult, Trainer
from rootgen.engine.train_log import TrainLog
from rootgen.engine.trainer import DivergedError, snapshots
from rootgen.errors import RootgenError
from rootgen.files import check_writable

log = logging.getLogger("rootgen")


@dataclass
class TrainOutcome:
    """What a run did: the iterations it ended at and made, and where its model and state lie.

    `tests` are the results of the last test, one dict per test net; `stopped` is whether it was asked to stop
    before max_iter. `model` and `solver_state` are None where nothing was written in this run.
    """

    iteration: int = 0
    steps: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    images: int = 0
    loss: float = float("nan")
    tests: list[dict[str, float]] = field(default_factory=list)
    stopped: bool = False
    model: Path | None = None
    solver_state: Path | None = None
    log_file: Path | None = None


class Watcher:
    """Told what happens during a run; does nothing."""

    def stepped(self, result: StepResult) -> None:
        """An iteration is done."""

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        """The test nets were run before iteration number `iteration`."""

    def saved(self, model: Path, solver_state: Path) -> None:
        """A snapshot was written."""


class Stop:
    """A request to stop, as a signal handler makes it: at the end of the iteration, or at once.

    The first one lets the current iteration end, the second raises KeyboardInterrupt, and so does the first
    while `at_once` holds (in a test, which changes nothing).
    """

    def __init__(self) -> None:
        self.signal = 0
        self.at_once = False

    def __call__(self, number: int, _frame: object = None) -> None:
        again, self.signal = bool(self.signal), number
        if again or self.at_once:
            raise KeyboardInterrupt
        log.warning("%s: ending this iteration, then a snapshot (again: stop at once)", signal.Signals(number).name)


def run(
    trainer: Trainer,
    *,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
    log_file: str | Path | None = None,
    max_iter: int | None = None,
) -> TrainOutcome:
    """Run `trainer` to its solver's max_iter (or to `max_iter`, at the solver's rates) or until `stop` is asked for.

    The log goes to PREFIX_log.csv, or to `log_file`. A scheduled snapshot that cannot be written (a full disk)
    is told and left for the next time; the last one of a run raises. A failure that the weights have no part in (a
    damaged record, a full disk, want of memory) leaves a snapshot too, in a temporary folder if it has to be.
    """
    run = _Run(trainer, watcher or Watcher(), stop or Stop(), log_file, max_iter)
    try:
        run.loop()
        return run.finish()
    except Exception as error:
        run.rescue(error)
        raise
    finally:
        run.log.close()


class _Run:
    """The state of one call of `run`."""

    def __init__(
        self, trainer: Trainer, watcher: Watcher, stop: Stop, log_file: str | Path | None, max_iter: int | None
    ) -> None:
        self.trainer, self.solver, self.watcher, self.stop = trainer, trainer.solver, watcher, stop
        self.max_iter = self.solver.max_iter if max_iter is None else max_iter
        if self.solver.lr_policy == "poly" and self.max_iter > self.solver.max_iter:
            raise RootgenError(
                f"{self.max_iter} iterations, but lr_policy 'poly' has no rate after max_iter {self.solver.max_iter}",
                hint="raise max_iter in the solver",
            )
        if self.solver.snapshot or self.solver.snapshot_after_train:
            _check_writable(self.solver.snapshot_prefix)
        blobs = dict.fromkeys([*trainer.train_outputs, *(name for names in trainer.test_outputs for name in names)])
        self.log = TrainLog(log_file or f"{self.solver.snapshot_prefix}_log.csv", list(blobs), trainer.iteration)
        self.outcome = TrainOutcome(trainer.iteration, log_file=self.log.path)
        self.saved_at = trainer.iteration  # what is there already needs no snapshot: a restored state, or nothing

    def loop(self) -> None:
        """Iterations, each with what is due before and after it."""
        while self.trainer.iteration < self.max_iter and not self.outcome.stopped:
            iteration = self.trainer.iteration
            if self._test_due() and (iteration > 0 or self.solver.test_initialization):
                self._test()
            if not self.outcome.stopped:
                self._step()
                if self.solver.snapshot and self.trainer.iteration % self.solver.snapshot == 0:
                    self._scheduled_snapshot()
                self.outcome.stopped = bool(self.stop.signal)

    def finish(self) -> TrainOutcome:
        """The last snapshot and, at max_iter, the last test."""
        if self.trainer.iteration != self.saved_at and (self.solver.snapshot_after_train or self.outcome.stopped):
            self._snapshot()
        if not self.outcome.stopped and self.outcome.steps and self._test_due():
            self._test()
        return self.outcome

    def rescue(self, error: Exception) -> None:
        """A snapshot of what a failed run had learned, if that is worth anything."""
        if self.trainer.iteration == self.saved_at or isinstance(error, DivergedError):
            return
        try:
            self._snapshot()
        except RootgenError:
            folder = mkdtemp(prefix="rootgen-rescued-")
            self.solver.snapshot_prefix = str(Path(folder) / self.trainer.engine)
            try:
                self._snapshot()
            except RootgenError as failure:
                shutil.rmtree(folder, ignore_errors=True)
                log.warning("what was learned since the last snapshot is lost: %s", failure)
                return
        log.warning("rescued: iteration %d is in %s", self.trainer.iteration, self.outcome.solver_state)

    def _test_due(self) -> bool:
        interval = self.solver.test_interval
        return bool(interval and self.trainer.test_outputs and self.trainer.iteration % interval == 0)

    def _step(self) -> None:
        result = self.trainer.step()
        outcome = self.outcome
        outcome.iteration, outcome.loss = self.trainer.iteration, result.smoothed_loss
        outcome.steps += 1
        outcome.seconds += result.seconds
        outcome.data_seconds += result.data_seconds
        outcome.images += result.images
        self.log.step(result)
        self.watcher.stepped(result)

    def _test(self) -> None:
        """Run the test nets; a stop that comes meanwhile ends them at once, as they change nothing."""
        begun = time.perf_counter()
        self.stop.at_once = True
        try:
            self.outcome.tests = self.trainer.test()
        except KeyboardInterrupt:
            self.outcome.stopped = True
            return
        finally:
            self.stop.at_once = False
        self.log.test(self.trainer.iteration, self.outcome.tests, time.perf_counter() - begun)
        self.watcher.tested(self.trainer.iteration, self.outcome.tests)

    def _snapshot(self) -> None:
        self.outcome.model, self.outcome.solver_state = self.trainer.snapshot()
        self.saved_at = self.trainer.iteration
        self.watcher.saved(self.outcome.model, self.outcome.solver_state)

    def _scheduled_snapshot(self) -> None:
        """A snapshot on schedule; where the disk refuses it, training goes on and the next one may succeed."""
        try:
            self._snapshot()
        except RootgenError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            log.warning("no snapshot at iteration %d: %s; training goes on", self.trainer.iteration, error)


def newest_snapshot(trainer: Trainer) -> Path | None:
    """The .solverstate of the newest snapshot under the solver's snapshot_prefix that has its model beside it."""
    return next((path for _, path in snapshots(trainer.solver.snapshot_prefix)), None)


def _check_writable(prefix: str) -> None:
    """Refuse a snapshot_prefix that nothing can be written under, before hours of training."""
    try:
        check_writable(f"{prefix}_iter_0.caffemodel")
    except RootgenError as error:
        raise RootgenError(f"snapshot_prefix: {error.what}", where=prefix, hint="change it in the solver") from error
