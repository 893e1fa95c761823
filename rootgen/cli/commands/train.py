"""rootgen train: run a solver.prototxt."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.engine.train import Stop, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress

    from rootgen.engine.api import StepResult, Trainer
    from rootgen.engine.train import TrainOutcome

HELP = "Train the net of a solver.prototxt; prints where the model lies."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_engine_arguments, add_lenient_argument, count

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Ctrl-C (or SIGTERM, or SIGHUP) ends the iteration, writes a snapshot and says how to go on from it.\n"
        "Beside the snapshots, SNAPSHOT_PREFIX_log.csv has a row per iteration and per test."
    )
    parser.add_argument("solver", metavar="SOLVER", help="solver.prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="F[,F...]", help="start from the weights of .caffemodel (or .h5) files")
    start.add_argument(
        "--snapshot",
        metavar="F",
        help="go on from a .solverstate (or .h5); `auto`: from the newest under snapshot_prefix, if there is one",
    )
    parser.add_argument(
        "--max-iter",
        type=count,
        metavar="N",
        help="end there instead of at the solver's max_iter; the rates stay the solver's",
    )
    parser.add_argument("--log", metavar="FILE", help="write the CSV there (default: SNAPSHOT_PREFIX_log.csv)")
    add_lenient_argument(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from rootgen.cli.arguments import limit_threads, signals
    from rootgen.engine import open_trainer, train

    limit_threads(args.threads)
    trainer = open_trainer(args.solver, engine=args.engine, device=args.device, lenient=args.lenient)
    end = trainer.solver.max_iter if args.max_iter is None else args.max_iter
    _begin(trainer, args, end)
    stop = Stop()
    try:
        with _bar() as bar, signals(stop):
            watcher = _Teller(trainer, bar, end)
            outcome = train.run(trainer, watcher=watcher, stop=stop, log_file=args.log, max_iter=end)
    except KeyboardInterrupt:
        _say_how_to_go_on(args, train.newest_snapshot(trainer))
        raise
    _summary(outcome, end)
    if outcome.model is not None:
        print(outcome.model)
    if not outcome.stopped:
        return 0
    _say_how_to_go_on(args, outcome.solver_state or train.newest_snapshot(trainer))
    return 128 + (stop.signal or signal.SIGINT)


def _say_how_to_go_on(args: argparse.Namespace, snapshot: Path | None) -> None:
    """The command that goes on, for a shell: with the options given, but --weights, which the snapshot stands for."""
    if snapshot is None:
        _say("nothing to go on from: no snapshot was written")
        return
    words = ["rootgen", "train", args.solver, "--snapshot", str(snapshot)]
    for name in ("max_iter", "log", "engine", "device", "threads"):
        value = getattr(args, name)
        if value not in (None, "auto"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--lenient"] if args.lenient else []
    _say(f"to go on: {shlex.join(words)}")


def _say(text: str) -> None:
    """A line on stderr; if nobody reads it any more (`2>&1 | head`), that does not end a training."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _begin(trainer: Trainer, args: argparse.Namespace, end: int) -> None:
    """Load what the run starts from."""
    from rootgen.engine.train import newest_snapshot

    newest = newest_snapshot(trainer)
    if args.snapshot and args.snapshot != "auto":
        trainer.restore(args.snapshot)
    elif args.snapshot and newest:
        trainer.restore(newest)
    elif newest:
        _say(f"starting anew; {newest} is from an earlier run (--snapshot auto goes on from it)")
    if args.weights:
        trainer.load_weights([name.strip() for name in args.weights.split(",")])
    _say(f"{trainer.engine}, {trainer.device}: {args.solver} from iteration {trainer.iteration} to {end}")


class _Teller(Watcher):
    """Shows a run on stderr: a bar on a terminal, and lines for displayed iterations, tests and snapshots."""

    def __init__(self, trainer: Trainer, bar: Progress, end: int) -> None:
        self.bar, self.display = bar, trainer.solver.display
        self.task = bar.add_task("train", total=end, completed=trainer.iteration, loss="-", accuracy="-", speed="-")
        self.speed = 0.0

    def stepped(self, result: StepResult) -> None:
        now = result.images / result.seconds if result.seconds else 0.0
        self.speed = now if not self.speed else 0.9 * self.speed + 0.1 * now
        loss = f"{result.smoothed_loss:.4f}"
        self.bar.update(self.task, completed=result.iteration + 1, loss=loss, speed=f"{self.speed:.1f} images/s")
        if self.display and result.iteration % self.display == 0:
            rate = f"learning rate {result.learning_rate:g}"
            self._say(f"iteration {result.iteration}: loss {loss}, {rate}, {self.speed:.1f} images/s")

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        for number, outputs in enumerate(results):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in outputs.items())
            self._say(f"iteration {iteration}: test{f' {number}' if number else ''}: {shown}")
        accuracy = next((v for outputs in results for k, v in outputs.items() if "acc" in k.lower()), None)
        if accuracy is not None:
            self.bar.update(self.task, accuracy=f"{accuracy:.4f}")

    def saved(self, model: Path, solver_state: Path) -> None:
        self._say(f"snapshot: {model}, {solver_state}")

    def _say(self, text: str) -> None:
        if self.bar.disable:
            _say(text)
        else:
            with suppress(OSError):  # the terminal may be gone
                self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _summary(outcome: TrainOutcome, end: int) -> None:
    """One line on what was done and how fast."""
    if not outcome.steps:
        _say(f"nothing to do: iteration {outcome.iteration} of {end}")
        return
    speed, share = outcome.images / outcome.seconds, outcome.data_seconds / outcome.seconds
    _say(
        f"{'stopped at' if outcome.stopped else 'done:'} iteration {outcome.iteration}, loss {outcome.loss:.4f}, "
        f"{speed:.1f} images/s, {share:.1%} of the time waiting for data; log: {outcome.log_file}"
    )


@contextmanager
def _bar() -> Iterator[Progress]:
    from rootgen.cli.progress_bars import progress

    with progress(fields=("loss", "accuracy", "speed")) as bar:
        yield bar
