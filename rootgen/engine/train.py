"""A solver from its current iteration to max_iter: tests, snapshots, a CSV log, and clean ends.

The order is Caffe's (Solver::Step): a test, where one is due, before the iteration of the same number; a
snapshot after. What a stop or a failure leaves behind is always enough to go on from.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from rootgen import errors
from rootgen.engine import choice
from rootgen.engine.alone import alone
from rootgen.engine.api import ENGINES, PRECISIONS, Trainer
from rootgen.engine.open import opened_together
from rootgen.engine.outcome import TrainOutcome, Watcher
from rootgen.engine.processes import LostError, ToldError
from rootgen.engine.rescue import rescue, save_what_is_new
from rootgen.engine.stop import Stop, signals
from rootgen.engine.tensorboard import ScalarLog
from rootgen.engine.train_log import TrainLog
from rootgen.engine.trainer import DivergedError, restore_newest
from rootgen.errors import RootgenError
from rootgen.locks import LockedError

__all__ = ["TrainOutcome", "Watcher", "follow", "run", "train"]

log = logging.getLogger("rootgen")


def train(
    solver: str | PathLike[str],
    *,
    engine: str = "auto",
    device: str = "auto",
    weights: str | PathLike[str] | Iterable[str | PathLike[str]] | None = None,
    snapshot: str | PathLike[str] | None = None,
    max_iter: int | None = None,
    log: str | PathLike[str] | None = None,
    tensorboard: str | PathLike[str] | None = None,
    seed: int | None = None,
    lenient: bool = False,
    precision: str = "fp32",
    sync_bn: bool = False,
    scale_lr: bool = False,
    watcher: Watcher | None = None,
) -> TrainOutcome:
    """Train the net of a solver.prototxt, as `rootgen train` does: see `run`.

    Starts from the weights of .caffemodel (or .h5) files, or goes on from the .solverstate `snapshot`; "auto" is the
    newest under the solver's snapshot_prefix, if there is one. `log` is the CSV's path, `tensorboard` a folder for
    scalars; `seed` goes over the solver's random_seed; `lenient` passes over fields that Caffe 1.0 does not have;
    `precision` is open_trainer's. `engine` "auto" is that which wrote the snapshot, or that is faster here on this net
    (choice.for_training). `watcher` is told what happens. An interrupt (Ctrl-C, a notebook's stop button) ends
    the iteration, writes a snapshot and returns an outcome that says `stopped`.

    In a script that torchrun starts, its processes train together (docs/distributed.md). `sync_bn` takes BatchNorm's
    statistics over the batches of all, `scale_lr` multiplies the learning rate by their number. Process 0 watches and
    writes; in the others the outcome has the iteration alone, and ToldError stands for what process 0 raises.
    """
    files = errors.paths("weights", weights)
    state = errors.path("snapshot", snapshot)
    end = errors.whole("max_iter", max_iter, 0)
    log_file = errors.path("log", log)
    scalars = errors.path("tensorboard", tensorboard)
    if files and state:
        raise RootgenError("weights and a snapshot to go on from", hint="a snapshot has its own weights: keep one")
    if watcher is not None and not isinstance(watcher, Watcher):
        raise errors.wrong_type("watcher", watcher, "a rootgen.engine.train.Watcher")
    stop, path = Stop(), errors.needed_path("solver", solver)
    how: dict[str, Any] = {
        "engine": errors.word("engine", engine, ENGINES) or ENGINES[0],
        "device": errors.word("device", device) or "auto",
        "lenient": errors.flag("lenient", lenient),
        "precision": errors.word("precision", precision, PRECISIONS) or PRECISIONS[0],
    }
    how["engine"] = choice.for_training(path, **how, snapshot=state, max_iter=end)
    opened = opened_together(
        path,
        stop,
        **how,
        seed=errors.whole("seed", seed, 0),
        sync_bn=errors.flag("sync_bn", sync_bn),
        scale_lr=errors.flag("scale_lr", scale_lr),
    )
    main = threading.current_thread() is threading.main_thread()  # the only one that may take signals
    with signals(stop) if main else nullcontext(), opened as trainer:
        if not trainer.leads:
            code = follow(trainer)
            return TrainOutcome(trainer.iteration, stopped=code > 128, device=trainer.device)
        if state == "auto":
            restore_newest(trainer)
        elif state:
            trainer.restore(state)
        if files:
            trainer.load_weights(files)
        return run(trainer, watcher=watcher, stop=stop, log_file=log_file, max_iter=end, tensorboard=scalars)


def follow(trainer: Any) -> int:
    """Do what process 0 says, in a process whose trainer does not lead, to its end; the exit code that it gives.

    ToldError where process 0 tells what went wrong. Where process 0 is gone itself, the first process that is left
    saves what was learned and raises LostError.
    """
    try:
        code: int = trainer.follow()
        return code
    except LostError as error:
        if not trainer.group.is_first_left():
            raise ToldError(str(error)) from error
        log.disabled = False  # nobody else is there to tell
        try:
            with alone(trainer.solver, os.devnull):
                save_what_is_new(trainer)
        except LockedError:  # process 0 is there, in the midst of a long iteration
            raise ToldError(str(error)) from error
        raise
    except RootgenError as error:
        raise ToldError(str(error)) from error


def run(
    trainer: Trainer,
    *,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
    log_file: str | Path | None = None,
    max_iter: int | None = None,
    tensorboard: str | Path | None = None,
) -> TrainOutcome:
    """Run `trainer` to its solver's max_iter (or to `max_iter`, at the solver's rates) or until `stop` is asked for.

    The log goes to PREFIX_log.csv, or to `log_file`, and as scalars for TensorBoard into the folder `tensorboard` if
    one is named. A scheduled snapshot that cannot be written (a full disk) is told and left for the next time; the last
    one of a run raises. A failure that the weights have no part in (a damaged record, a full disk, want of memory)
    leaves a snapshot too, in a temporary folder if it has to be.
    RootgenError where another process trains under the same snapshot_prefix, or writes the same log.
    """
    with alone(trainer.solver, log_file):
        logs = _logs(trainer, log_file, tensorboard)
        run = _Run(trainer, watcher or Watcher(), stop or Stop(), logs, max_iter)
        try:
            run.loop()
            outcome = run.finish()
            if not outcome.stopped:
                run.stop.signal = 0  # it came too late to stop anything
            return outcome
        except Exception as error:
            run.rescue(error)
            raise
        finally:
            for written in logs:
                written.close()


def _logs(trainer: Trainer, log_file: str | Path | None, tensorboard: str | Path | None) -> list[TrainLog | ScalarLog]:
    """What writes down a run: the CSV first."""
    path = Path(log_file or f"{trainer.solver.snapshot_prefix}_log.csv")
    blobs = dict.fromkeys([*trainer.train_outputs, *(name for names in trainer.test_outputs for name in names)])
    logs: list[TrainLog | ScalarLog] = [TrainLog(path, list(blobs), trainer.iteration)]
    return logs if tensorboard is None else [*logs, ScalarLog(tensorboard, trainer.iteration)]


class _Run:
    """The state of one call of `run`."""

    def __init__(
        self, trainer: Trainer, watcher: Watcher, stop: Stop, logs: Sequence[TrainLog | ScalarLog], max_iter: int | None
    ) -> None:
        self.trainer, self.solver, self.watcher, self.stop = trainer, trainer.solver, watcher, stop
        self.max_iter = self.solver.max_iter if max_iter is None else max_iter
        if self.solver.lr_policy == "poly" and self.max_iter > self.solver.max_iter:
            raise RootgenError(
                f"{self.max_iter} iterations, but lr_policy 'poly' has no rate after max_iter {self.solver.max_iter}",
                hint="raise max_iter in the solver",
            )
        self.logs = logs
        self.outcome = TrainOutcome(trainer.iteration, device=trainer.device, log_file=logs[0].path)
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
        rescue(self.trainer, self._snapshot)

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
        for written in self.logs:
            written.step(result)
        self.watcher.stepped(result)

    def _test(self) -> None:
        """Run the test nets; a stop that comes meanwhile ends them at once, as they change nothing."""
        begun = time.perf_counter()
        self.stop.at_once = True
        try:
            if self.stop.signal:  # it came just before
                raise KeyboardInterrupt
            self.outcome.tests = self.trainer.test(self.watcher.testing)
        except KeyboardInterrupt:
            self.outcome.stopped = True
            return
        finally:
            self.stop.at_once = False
        for written in self.logs:
            written.test(self.trainer.iteration, self.outcome.tests, time.perf_counter() - begun)
        self.watcher.tested(self.trainer.iteration, self.outcome.tests)

    def _snapshot(self) -> tuple[Path, Path]:
        for written in self.logs:
            written.sync()
        self.outcome.model, self.outcome.solver_state = model, solver_state = self.trainer.snapshot()
        self.saved_at = self.trainer.iteration
        self.watcher.saved(model, solver_state)
        return model, solver_state

    def _scheduled_snapshot(self) -> None:
        """A snapshot on schedule; where the disk refuses it, training goes on and the next one may succeed."""
        try:
            self._snapshot()
        except RootgenError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            log.warning("no snapshot at iteration %d: %s; training goes on", self.trainer.iteration, error)
