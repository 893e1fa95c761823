"""How the schedule of short runs was chosen: NiN rows on Fashion-MNIST, judged on held-out training images alone.

python benchmarks/evidence/schedule.py FOLDER --source DIR [--epochs 0.5] [--processes 2]

DIR holds Fashion-MNIST's four files; its test set is not opened. The last tenth of the training images is held out.
A candidate is a row, the peak of the rate, the share of the run in which it rises, and BatchNorm's
moving_average_fraction. FOLDER/schedule.csv gets a line per candidate; what is there, of as many epochs and of the
same batch, is not done again.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from rootgen import datasets
from rootgen.engine.train_log import log_rows
from rootgen.errors import RootgenError
from rootgen.files import write_text
from rootgen.generator import render
from rootgen.generator.architectures import architecture, row_folder
from rootgen.grouping import Plan

HELD_OUT = 10
SEED = 1
ROWS = ("root-8", "Orig.")
CANDIDATES = ((0.1, 0.1, 0.95), (0.05, 0.1, 0.95), (0.2, 0.1, 0.95), (0.1, 0.0, 0.95))
HEADER = ("row", "peak", "warm_up", "average", "epochs", "batch_size", "seed", "accuracy", "loss")


@dataclass(frozen=True)
class Candidate:
    """What is tried, in the order of the CSV: `warm_up` as a share of the run."""

    row: str
    peak: float
    warm_up: float
    average: float
    epochs: float
    batch_size: int

    @property
    def cells(self) -> tuple[str, ...]:
        row, *numbers = astuple(self)
        return (row, *(f"{number:g}" for number in numbers))

    @property
    def name(self) -> str:
        return "-".join((row_folder(self.row), *self.cells[1:]))


def held_out(source: str, data: Path) -> None:
    """LMDBs of the training images: all but the last tenth to train on, that tenth to judge by."""
    if data.is_dir():
        return
    whole = datasets.load("fashion-mnist", source)
    images, labels = whole.train.images[:], whole.train.labels
    cut = len(labels) - len(labels) // HELD_OUT
    train = replace(whole.train, images=images[:cut], labels=labels[:cut])
    judge = replace(whole.train, images=images[cut:], labels=labels[cut:])
    datasets.save(replace(whole, train=train, test=judge), data, pad=datasets.DEFAULT_PAD["fashion-mnist"])


def measure(candidate: Candidate, out: Path, counts: tuple[int, int]) -> list[str]:
    """Train a candidate in a folder of its own; its line of the CSV."""
    folder = out / candidate.name
    folder.mkdir(parents=True, exist_ok=True)
    arch, plan = architecture("nin"), Plan.named(candidate.row)
    net = render.NetOptions(
        data=str(out / "data"), batch_size=candidate.batch_size, moving_average_fraction=candidate.average
    )
    solver = render.SolverOptions(
        net=str(folder / "train_val.prototxt"),
        snapshot_prefix=str(folder / "nin"),
        train_images=counts[0],
        test_images=counts[1],
        batch_size=candidate.batch_size,
        base_lr=candidate.peak,
        epochs=candidate.epochs,
        warm_up=candidate.warm_up * candidate.epochs,
        random_seed=SEED,
    )
    write_text(folder / "train_val.prototxt", render.net(arch, plan, net))
    for part in ("warm-up", "main") if candidate.warm_up else ("main",):
        path = folder / f"{part}.prototxt"
        write_text(path, render.solver(arch, plan, replace(solver, part=part)))
        words = ["train", str(path), "--snapshot", "auto", "--threads", "1", "--engine", "torch"]
        code = subprocess.run(
            [sys.executable, "-m", "rootgen", *words], check=False, stdout=subprocess.DEVNULL
        ).returncode
        if code:
            raise RootgenError(f"rootgen train ended with exit code {code}", where=path)
    tested = next(row for row in reversed(log_rows(folder / "nin_log.csv")) if row.get("accuracy") is not None)
    return [*candidate.cells, str(SEED), f"{tested['accuracy']:.4f}", f"{tested['loss']:.4f}"]


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0 all done, 1 an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", required=True)
    parser.add_argument("--epochs", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(words)
    try:
        _run(args)
    except RootgenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    held_out(args.source, args.folder / "data")
    whole = len(datasets.load("fashion-mnist", args.source).train)
    counts = whole - whole // HELD_OUT, whole // HELD_OUT
    path = args.folder / "schedule.csv"
    lines = list(csv.reader(path.open())) if path.is_file() else [list(HEADER)]
    done = {tuple(line[: HEADER.index("seed")]) for line in lines}
    wanted = [Candidate(row, *values, args.epochs, args.batch_size) for values in CANDIDATES for row in ROWS]
    with ThreadPoolExecutor(args.processes) as pool:
        jobs = [pool.submit(measure, one, args.folder, counts) for one in wanted if one.cells not in done]
        for job in jobs:
            lines.append(job.result())
            write_text(path, "".join(",".join(line) + "\n" for line in lines))
            print(",".join(lines[-1]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
