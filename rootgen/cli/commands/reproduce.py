"""rootgen reproduce: the paper's experiment in one command."""

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootgen.paper.experiment import Experiment, Settings
    from rootgen.paper.results import RunResult

HELP = (
    "Train an architecture and its root variants, correlate their filters, time them and draw the figures. "
    "By default a short run on embedded images; a run that was interrupted goes on when it is started again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_engine_arguments, positive

    parser.add_argument("arch", metavar="ARCH", help="architecture: nin")
    parser.add_argument("--out", metavar="DIR", help="where everything goes (default: out/ARCH)")
    parser.add_argument("--full", action="store_true", help="the paper's schedule, on CIFAR-10 unless --data says else")
    parser.add_argument("--data", metavar="NAME", help="image set, as rootgen data knows them")
    parser.add_argument("--source", metavar="PATH", help="folder or archive of the image set")
    parser.add_argument("--epochs", type=_epochs, metavar="N", help="of a short run (default: 2)")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="of a short run (default: 64)")
    parser.add_argument("--seed", type=positive, metavar="N", help="of weights and order (default: 1)")
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli import write_out
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.progress_bars import bars
    from rootgen.engine.train import Stop, signals
    from rootgen.paper.experiment import Experiment

    limit_threads(args.threads)
    begin = time.perf_counter()
    experiment = Experiment(settings(args), args.out or Path("out") / args.arch)
    stop = Stop()
    stop.at_once = True  # but for training, which ends its iteration and writes a snapshot
    with bars() as experiment.report, signals(stop):
        found = experiment.run(stop)
    write_out(_table(experiment, found), None)
    minutes, seconds = divmod(round(time.perf_counter() - begin), 60)
    logging.getLogger("rootgen").info("done in %d:%02d", minutes, seconds)


def settings(args: argparse.Namespace) -> Settings:
    """The experiment that the options ask for."""
    from rootgen.cli import UsageError
    from rootgen.paper.experiment import Settings

    asked = {
        "source": args.source and str(Path(args.source).resolve()),
        "dataset": args.data,
        "seed": args.seed,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
    }
    chosen = {name: value for name, value in asked.items() if value is not None}
    if args.full:
        for option in ("epochs", "batch_size"):
            if option in chosen:
                raise UsageError(f"--full has its own schedule and takes no --{option.replace('_', '-')}")
        chosen = {"dataset": "cifar10", "images": 10_000, **chosen, "epochs": None}
    return Settings(arch=args.arch, engine=args.engine, device=args.device, **chosen)


def _table(experiment: Experiment, found: list[RunResult]) -> str:
    """One row per model: what it costs, how well it does, what its filters show; then where the files lie."""
    from rootgen.paper.tables import reported
    from rootgen.text import table

    paper = reported(experiment.arch.name)
    header = ("model", "params", "MACs", "paper's accuracy", "this run's", "time", "block score", "Orig.'s score")
    rows = [
        (
            result.model,
            f"{result.params:,}",
            f"{result.macs / 1e6:.1f}M",
            paper[result.model]["accuracy"],
            f"{result.accuracy:.4f}",
            f"{result.time_ms / found[0].time_ms:.2f}",
            _score(result.block_score),
            _score(result.control_score),
        )
        for result in found
    ]
    first = found[0]
    ran = f"{first.dataset}, {first.epochs:.1f} epochs, {first.engine} on {first.device}"
    notes = "the paper's accuracies are on CIFAR-10; time is forward, relative to Orig."
    lines = [
        table(header, rows, title=f"{experiment.arch.title}: {ran}; {notes}"),
        f"figures:      {experiment.out / 'plots' / experiment.arch.name}.png, .pdf, .svg",
        *(f"correlation:  {model.folder / 'correlation' / 'test'}" for model in experiment.models),
        f"results:      {experiment.results}",
    ]
    return "\n".join(lines) + "\n"


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _epochs(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of epochs")
    return value
