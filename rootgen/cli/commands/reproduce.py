"""rootgen reproduce: the paper's experiment in one command."""

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootgen.paper.experiment import Experiment, Settings
    from rootgen.paper.results import RunResult
    from rootgen.text import Table

log = logging.getLogger("rootgen")
HELP = (
    "Train an architecture and its root variants, correlate their filters, time them and draw the figures. "
    "By default a short run on embedded images; a run that was interrupted goes on when it is started again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_batch_size, add_engine_arguments, positive
    from rootgen.cli.output import add_format_arguments

    parser.add_argument("arch", metavar="ARCH", help="architecture: nin")
    parser.add_argument("-o", "--out", metavar="DIR", help="where everything goes (default: out/ARCH)")
    parser.add_argument("--full", action="store_true", help="the paper's schedule, on CIFAR-10 unless --data says else")
    parser.add_argument("--data", metavar="NAME", help="image set, as rootgen data knows them")
    parser.add_argument("--source", metavar="PATH", help="folder or archive of the image set")
    parser.add_argument("--epochs", type=_epochs, metavar="N", help="of a short run (default: 2)")
    add_batch_size(parser, help="of a short run (default: 64)")
    parser.add_argument("--seed", type=positive, metavar="N", help="of weights and order (default: 1)")
    add_format_arguments(parser, out=False)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.output import answer, write_out
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
    write_out(answer(args.format, [_table(experiment, found)], _rows(experiment, found)), None)
    if args.format == "table":
        write_out(f"\n{_places(experiment)}\n", None)
    else:
        log.info("%s", _places(experiment))
    minutes, seconds = divmod(round(time.perf_counter() - begin), 60)
    log.info("done in %d:%02d", minutes, seconds)


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


def _rows(experiment: Experiment, found: list[RunResult]) -> list[dict[str, Any]]:
    """A row per model: what it costs, how well it does, what its filters show."""
    from rootgen.paper.tables import reported

    paper = reported(experiment.arch.name)
    return [
        {
            "model": result.model,
            "params": result.params,
            "macs": result.macs,
            "accuracy_paper": paper[result.model]["accuracy"],
            "accuracy": result.accuracy,
            "time_ms": result.time_ms,
            "block_score": result.block_score,
            "control_score": result.control_score,
        }
        for result in found
    ]


def _table(experiment: Experiment, found: list[RunResult]) -> Table:
    """The same for people."""
    from rootgen.text import Table

    header = ("model", "params", "MACs", "paper's accuracy", "this run's", "time", "block score", "Orig.'s score")
    rows = [
        (
            row["model"],
            f"{row['params']:,}",
            f"{row['macs'] / 1e6:.1f}M",
            row["accuracy_paper"],
            f"{row['accuracy']:.4f}",
            f"{row['time_ms'] / found[0].time_ms:.2f}",
            _score(row["block_score"]),
            _score(row["control_score"]),
        )
        for row in _rows(experiment, found)
    ]
    first = found[0]
    ran = f"{first.dataset}, {first.epochs:.1f} epochs, {first.engine} on {first.device}"
    notes = "the paper's accuracies are on CIFAR-10; time is forward, relative to Orig."
    return Table(header, rows, f"{experiment.arch.title}: {ran}; {notes}")


def _places(experiment: Experiment) -> str:
    """Where the files lie."""
    lines = [
        f"figures:      {experiment.out / 'plots' / experiment.arch.name}.png, .pdf, .svg",
        *(f"correlation:  {model.folder / 'correlation' / 'test'}" for model in experiment.models),
        f"results:      {experiment.results}",
    ]
    return "\n".join(lines)


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
