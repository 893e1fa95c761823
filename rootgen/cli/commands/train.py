"""rootgen train: run a solver.prototxt."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.cli.progress_bars import progress, say
from rootgen.engine.api import PRECISIONS
from rootgen.engine.outcome import Watcher
from rootgen.engine.stop import Stop

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rootgen.engine.api import StepResult, Trainer
    from rootgen.engine.outcome import TrainOutcome

HELP = "Train the net of a solver.prototxt; prints where the model lies."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_engine_arguments, add_lenient_argument, add_precision, count

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "Ctrl-C (or SIGTERM, or SIGHUP) ends the iteration, writes a snapshot and says how to go on from it.\n"
        "Beside the snapshots, SNAPSHOT_PREFIX_log.csv has a row per iteration and per test. The prefix is taken as\n"
        "the solver gives it, as Caffe takes it: look at a stranger's solver before you run it.\n"
        "--engine auto stays with the engine that wrote the snapshot to go on from; else, where both run here on the\n"
        "CPU and a run would take minutes, it times both on the net, once, and takes the faster.\n"
        "Several processes, on one machine or many: torchrun --nproc-per-node N -m rootgen train SOLVER ..."
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
    parser.add_argument(
        "--seed", type=count, metavar="N", help="of all that is random, whatever random_seed the solver gives"
    )
    parser.add_argument("--log", metavar="FILE", help="write the CSV there (default: SNAPSHOT_PREFIX_log.csv)")
    said = "write loss, learning rate, images/s and test results there, as scalars for TensorBoard"
    parser.add_argument("--tensorboard", metavar="DIR", help=said)
    add_lenient_argument(parser)
    add_engine_arguments(parser)
    add_precision(parser, PRECISIONS[0])
    together = parser.add_argument_group("for several processes, as torchrun starts them")
    together.add_argument("--scale-lr", action="store_true", help="multiply the learning rate by their number")
    together.add_argument("--sync-bn", action="store_true", help="BatchNorm's statistics over the batches of all")


def run(args: argparse.Namespace) -> int:
    from rootgen.cli import refuse_idle
    from rootgen.cli.arguments import limit_threads
    from rootgen.engine import choice, open, processes, train
    from rootgen.engine.stop import signals

    limit_threads(args.threads)
    where, stop = processes.place(), Stop()
    if not processes.are_started():
        refuse_idle(args, ("scale_lr", "sync_bn"), "is for several processes", hint="torchrun starts them")
    how = {name: getattr(args, name) for name in ("engine", "device", "lenient", "precision")}
    how["engine"] = choice.for_training(args.solver, **how, snapshot=args.snapshot, max_iter=args.max_iter)
    opened = open.opened_together(
        args.solver,
        stop,
        **how,
        seed=args.seed,
        sync_bn=args.sync_bn,
        scale_lr=args.scale_lr,
    )
    if where is None:
        with opened as trainer:
            return _lead(trainer, stop, args)
    try:
        with signals(stop), opened as trainer:  # a stop that comes early is all's, at the first iteration
            return _lead(trainer, stop, args) if trainer.leads else train.follow(trainer)
    except processes.ToldError:
        return 1


def _lead(trainer: Trainer, stop: Stop, args: argparse.Namespace) -> int:
    """Train, and tell of it; the exit code."""
    from rootgen.engine import train
    from rootgen.engine.stop import signals
    from rootgen.engine.trainer import newest_snapshot

    end = trainer.solver.max_iter if args.max_iter is None else args.max_iter
    _begin(trainer, args, end)
    try:
        with progress(fields=("loss", "accuracy", "speed")) as bar, signals(stop):
            watcher = _Teller(trainer, bar, end)
            written = {"log_file": args.log, "tensorboard": args.tensorboard}
            outcome = train.run(trainer, watcher=watcher, stop=stop, max_iter=end, **written)
    except KeyboardInterrupt:
        _say_how_to_go_on(args, trainer, newest_snapshot(trainer))
        raise
    _summary(outcome, end)
    if outcome.model is not None:
        print(outcome.model)
    if not outcome.stopped:
        return 0
    _say_how_to_go_on(args, trainer, outcome.solver_state or newest_snapshot(trainer))
    return 128 + (stop.signal or signal.SIGINT)


def _say_how_to_go_on(args: argparse.Namespace, trainer: Trainer, snapshot: Path | None) -> None:
    """The command that goes on, for a shell: with the options given, but --weights, which the snapshot stands for."""
    if snapshot is None:
        say("nothing to go on from: no snapshot was written")
        return
    from rootgen.net import forks

    words = [*_started_by(args), "train", args.solver, "--snapshot", str(snapshot)]
    for name in ("max_iter", "log", "tensorboard", "engine", "device", "threads", "precision"):
        value = getattr(args, name)
        if value not in (None, "auto", "fp32"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in ("lenient", "scale_lr", "sync_bn") if getattr(args, name)]
    written = forks.read_message(args.solver, "SolverParameter", lenient=args.lenient, told=True)
    if trainer.solver.random_seed != written.random_seed:
        words += ["--seed", str(trainer.solver.random_seed)]
    say(f"to go on: {shlex.join(words)}")


def _started_by(args: argparse.Namespace) -> list[str]:
    """The words before the verb that start as many processes as there are."""
    from rootgen.engine.processes import place

    where = place()
    if where is None:
        return ["rootgen"]
    machines = -(-where.world // where.local_world)
    apart = ["--"] if args.log else []  # torchrun takes --log for one of its own
    nodes = ["--nnodes", str(machines)] if machines > 1 else []
    return ["torchrun", *nodes, "--nproc-per-node", str(where.local_world), "-m", *apart, "rootgen"]


def _begin(trainer: Trainer, args: argparse.Namespace, end: int) -> None:
    """Load what the run starts from."""
    from rootgen.engine.trainer import newest_snapshot, restore_newest

    if args.snapshot == "auto":
        restore_newest(trainer)
    elif args.snapshot:
        trainer.restore(args.snapshot)
    elif newest := newest_snapshot(trainer):
        say(f"starting anew; {newest} is from an earlier run (--snapshot auto goes on from it)")
    if args.weights:
        trainer.load_weights([name.strip() for name in args.weights.split(",")])
    say(f"{trainer.engine}, {trainer.device}: {args.solver} from iteration {trainer.iteration} to {end}")


class _Teller(Watcher):
    """Shows a run on stderr: a bar on a terminal, and lines for displayed iterations, tests and snapshots."""

    def __init__(self, trainer: Trainer, bar: Progress, end: int) -> None:
        self.bar, self.display = bar, trainer.solver.display
        self.task = bar.add_task("train", total=end, completed=trainer.iteration, loss="-", accuracy="-", speed="-")
        self.test: TaskID | None = None
        self.speed = 0.0

    def stepped(self, result: StepResult) -> None:
        now = result.images / result.seconds if result.seconds else 0.0
        self.speed = now if not self.speed else 0.9 * self.speed + 0.1 * now
        loss = f"{result.smoothed_loss:.4f}"
        self.bar.update(self.task, completed=result.iteration + 1, loss=loss, speed=f"{self.speed:.1f} images/s")
        if self.display and result.iteration % self.display == 0:
            rate = f"learning rate {result.learning_rate:g}"
            say(f"iteration {result.iteration}: loss {loss}, {rate}, {self.speed:.1f} images/s")

    def testing(self, what: str, done: int, total: int) -> None:
        if self.test is None:
            self.test = self.bar.add_task(what, loss="-", accuracy="-", speed="-")
        self.bar.update(self.test, completed=done, total=total)

    def tested(self, iteration: int, results: list[dict[str, float]]) -> None:
        if self.test is not None:
            self.bar.remove_task(self.test)
            self.test = None
        for number, outputs in enumerate(results):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in outputs.items())
            say(f"iteration {iteration}: test{f' {number}' if number else ''}: {shown}")
        accuracy = next((v for outputs in results for k, v in outputs.items() if "acc" in k.lower()), None)
        if accuracy is not None:
            self.bar.update(self.task, accuracy=f"{accuracy:.4f}")

    def saved(self, model: Path, solver_state: Path) -> None:
        say(f"snapshot: {model}, {solver_state}")


def _summary(outcome: TrainOutcome, end: int) -> None:
    """One line on what was done and how fast."""
    if not outcome.steps:
        say(f"nothing to do: iteration {outcome.iteration} of {end}")
        return
    speed, share = outcome.images / outcome.seconds, outcome.data_seconds / outcome.seconds
    say(
        f"{'stopped at' if outcome.stopped else 'done:'} iteration {outcome.iteration}, loss {outcome.loss:.4f}, "
        f"{speed:.1f} images/s, {share:.1%} of the time waiting for data; log: {outcome.log_file}"
    )
