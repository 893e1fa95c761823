"""rootgen reproduce: the paper's experiment in one command."""

from __future__ import annotations

import argparse
import logging
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootgen.paper.experiment import Experiment
    from rootgen.paper.run import Settings

log = logging.getLogger("rootgen")
MOST_SEEDS = 1000
HELP = (
    "NiN and its variants: train them, correlate their filters, time them, draw the figures; by default a short run on "
    "embedded images. ILSVRC's nets: count and time them beside the paper's table, with --data train them too. What "
    "was interrupted goes on when it is started again, and several processes may share the folder of a training."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from rootgen.cli.arguments import add_batch_size, add_engine_arguments, add_precision, positive, positive_float
    from rootgen.cli.output import add_format_arguments

    parser.add_argument("arch", metavar="ARCH", help="architecture, one of those that `rootgen list` shows")
    parser.add_argument("-o", "--out", metavar="DIR", help="where everything goes (default: out/ARCH)")
    parser.add_argument(
        "--rows",
        metavar="ROW,...",
        help="rows of the architecture's table, * for any letters: 'Orig.,root-*,column-8' (default: "
        "Orig.,root-4,root-8,root-16; to be timed alone: all)",
    )
    parser.add_argument(
        "--seeds",
        "--seed",
        type=_seeds,
        metavar="N|N..M|N,...",
        help="of weights and order: a run of every row for each (default: 1)",
    )
    parser.add_argument(
        "--minutes",
        type=positive_float,
        metavar="M",
        help="stop after M minutes, as Ctrl-C does; the same command goes on from there",
    )
    parser.add_argument("--full", action="store_true", help="the paper's schedule, on CIFAR-10 unless --data says else")
    parser.add_argument("--data", metavar="NAME|DIR", help="image set as rootgen data knows them, or a folder it made")
    parser.add_argument("--source", metavar="PATH", help="folder or archive of the image set")
    parser.add_argument("--epochs", type=_epochs, metavar="N", help="of a short run (default: 2)")
    parser.add_argument("--crop", type=positive, metavar="PIXELS", help="height and width of the nets' input")
    parser.add_argument("--rounds", type=positive, metavar="N", help="in each every row is timed once (default: 5)")
    add_batch_size(
        parser,
        help="of a short run (default: 128; 64 on the embedded sample; 32 of an ILSVRC net on other images); "
        "where nothing is trained, images a pass (default: the paper's)",
    )
    parser.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="of each set, for the correlation (default: 10000; of the embedded images 150)",
    )
    add_precision(parser)
    add_format_arguments(parser, out=False)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    from rootgen.cli.arguments import limit_threads
    from rootgen.cli.output import answer, write_out
    from rootgen.cli.progress_bars import bars
    from rootgen.engine.stop import Stop, limit, signals
    from rootgen.generator.architectures import architecture
    from rootgen.paper import summary
    from rootgen.paper.experiment import ROWS, SEEDS, Experiment
    from rootgen.paper.results import IMAGE_SETS, replicates
    from rootgen.paper.timed import ROUNDS

    limit_threads(args.threads)
    if _only_times(args):
        _run_times(args)
        return
    begin = time.perf_counter()
    experiment = Experiment(
        settings(args),
        args.out or Path("out") / args.arch,
        rows=_rows(args, ROWS if architecture(args.arch).recipe in IMAGE_SETS else ("*",)),
        seeds=args.seeds or SEEDS,
        rounds=args.rounds or ROUNDS,
    )
    stop = Stop()
    stop.at_once = True  # but for training, which ends its iteration and writes a snapshot
    try:
        with bars() as experiment.report, signals(stop), limit(args.minutes, stop):
            found = replicates(experiment.run(stop))
    except KeyboardInterrupt:
        log.warning("%s: stopped; the same command goes on from here", experiment.out)
        raise
    arch = experiment.arch
    write_out(answer(args.format, [summary.table(arch, found)], summary.records(arch, found)), None)
    if args.format == "table":
        write_out(f"\n{_places(experiment)}\n", None)
    else:
        log.info("%s", _places(experiment))
    minutes, seconds = divmod(round(time.perf_counter() - begin), 60)
    log.info("done in %d:%02d", minutes, seconds)


def _only_times(args: argparse.Namespace) -> bool:
    """Whether the architecture's own images are none that rootgen has, and no others are given."""
    from rootgen.cli import UsageError, refuse_idle
    from rootgen.generator.architectures import architecture, recipe
    from rootgen.paper.results import IMAGE_SETS

    its = architecture(args.arch).recipe
    if args.data is not None or its in IMAGE_SETS:
        return False
    if args.full or args.source:
        raise UsageError(f"{args.arch} is trained on {recipe(its).images}: say where it is", hint="--data DIR")
    refuse_idle(args, ("seeds", "epochs", "images", "precision"), "is for a training", hint="--data says on what")
    return True


def _run_times(args: argparse.Namespace) -> None:
    """Count and time the rows, and put the table beside the paper's."""
    from rootgen.cli.output import answer, write_out
    from rootgen.cli.progress_bars import bars
    from rootgen.engine.stop import Stop, limit, signals
    from rootgen.paper import comparison
    from rootgen.paper.timed import ROUNDS, Times

    times = Times(
        args.arch,
        Path(args.out or Path("out") / args.arch),
        _rows(args, ("*",)),
        engine=args.engine,
        device=args.device,
        batch_size=args.batch_size,
        crop=args.crop,
        rounds=args.rounds or ROUNDS,
    )
    stop = Stop()
    stop.at_once = True
    try:
        with bars() as times.report, signals(stop), limit(args.minutes, stop):
            found = times.run()
    except KeyboardInterrupt:
        log.warning("%s: stopped; the same command goes on from here", times.folder)
        raise
    records, table = comparison.save(times, found)
    write_out(answer(args.format, [table], records), None)
    places = f"figure:  {times.folder / times.arch}.png, .pdf, .svg\ntable:   {times.folder / comparison.TABLE}"
    if args.format == "table":
        write_out(f"\n{places}\n", None)
    else:
        log.info("%s", places)


def _rows(args: argparse.Namespace, default: Sequence[str]) -> tuple[str, ...]:
    """The rows asked for, in the order of the table."""
    from rootgen.generator.architectures import architecture
    from rootgen.paper.experiment import rows_of

    patterns = default if args.rows is None else [row.strip() for row in args.rows.split(",")]
    return rows_of(architecture(args.arch), patterns)


def settings(args: argparse.Namespace) -> Settings:
    """The experiment that the options ask for."""
    from rootgen.cli import UsageError
    from rootgen.paper.run import ALL_CORRELATED, CORRELATED, Settings

    dataset, source = _images(args)
    asked = {
        "source": source and str(Path(source).resolve()),
        "dataset": dataset,
        "crop": args.crop,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "images": args.images,
        "precision": args.precision,
    }
    chosen = {name: value for name, value in asked.items() if value is not None}
    if args.full:
        for option in ("epochs", "batch_size"):
            if option in chosen:
                raise UsageError(f"--full has its own schedule and takes no --{option.replace('_', '-')}")
        chosen = {"dataset": "cifar10", **chosen, "epochs": None}
    else:
        chosen |= _short(args.arch, dataset, args.batch_size)
    chosen.setdefault("images", CORRELATED.get(chosen.get("dataset", Settings.dataset), ALL_CORRELATED))
    return Settings(arch=args.arch, engine=args.engine, device=args.device, **chosen)


def _short(arch: str, dataset: str | None, batch_size: int | None) -> dict[str, Any]:
    """Batch and highest rate of a short run: the rate in proportion to the batch, for ILSVRC's nets the recipe's."""
    from rootgen.generator.architectures import architecture, recipe
    from rootgen.paper.results import IMAGE_SETS
    from rootgen.paper.run import PEAK_BATCH, PEAK_RATE, Settings

    name = architecture(arch).recipe
    its = recipe(name)
    if batch_size is None and dataset in (None, Settings.dataset):
        batch_size = Settings.batch_size
    elif batch_size is None and name not in IMAGE_SETS and not any(dataset in sets for sets in IMAGE_SETS.values()):
        batch_size = min(Settings.batch_size, its.batch_size)  # of images that may be as large as ILSVRC's
    elif batch_size is None:
        batch_size = PEAK_BATCH
    rate, batch = (
        (PEAK_RATE, PEAK_BATCH) if name in IMAGE_SETS else (float(its.base_lr), its.batch_size * its.iter_size)
    )
    return {"batch_size": batch_size, "base_lr": rate * batch_size / batch}


def _images(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """The image set's name and where it lies: --data may be a folder of LMDBs, which gives its name, or of images."""
    from rootgen import datasets
    from rootgen.cli import UsageError
    from rootgen.paper import run_folder

    if args.data is None or args.data in datasets.NAMES or not Path(args.data).is_dir():
        return args.data, args.source
    if args.source:
        raise UsageError("--data is a folder: --source does nothing with it", hint="drop --source")
    return (Path(args.data).resolve().name if run_folder.is_made(args.data) else "folder"), args.data


def _places(experiment: Experiment) -> str:
    """Where the files lie."""
    from rootgen.paper.comparison import TABLE
    from rootgen.paper.timed import FOLDER

    lines = [
        f"report:       {experiment.out / 'report.html'}",
        f"figures:      {experiment.out / 'plots' / experiment.arch.name}.png, .pdf, .svg",
        f"correlation:  {experiment.out / 'plots' / experiment.arch.name}_correlation.png, .pdf, .svg; "
        "ROW/seed-N/correlation/whitened.png",
        f"results:      {experiment.results}",
    ]
    timed = experiment.out / FOLDER / TABLE
    if timed.exists():  # not where others are at work still, the last of which times
        lines.append(f"times:        {timed}")
    return "\n".join(lines)


def _epochs(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of epochs")
    return value


def _seeds(text: str) -> tuple[int, ...]:
    """The seeds that `1..5`, `1,2,7` or `3` name."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last or last - first >= MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"'{text}' is no seeds, from 1: such as 3, 1..5 or 1,2,7")
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))
