"""Training in several processes on this machine's cores: images/s, and what a process costs beside passes in one.

    python benchmarks/distributed.py [--processes 1,2] [--iterations N] [-o benchmarks/distributed.md]

NiN root-8 on the embedded images, a core per process. An update is of the same images in each row: what fewer processes
do not pass at once they pass by iter_size.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import machine

import rootgen

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="1,2", help="how many, in turn")
    parser.add_argument("--iterations", type=int, default=12, metavar="N")
    parser.add_argument("-o", "--out", type=Path, help="the table as Markdown")
    args = parser.parse_args()
    counts = [int(word) for word in args.processes.split(",")]
    with TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "rootgen", "data", "fashion-mnist-sample", "--out", "data"], cwd=folder, check=True
        )
        Path(folder, "net.prototxt").write_text(rootgen.emit("nin", root=8, data="data", batch_size=BATCH))
        rows = [measured(Path(folder), count, max(counts) // count, args.iterations) for count in counts]
    lines = [
        "# Training in several processes",
        "",
        f"{machine.describe('torch')}; load {os.getloadavg()[0]:.0f} (1: one core busy; these processes among them).",
        f"`python benchmarks/distributed.py --processes {args.processes} --iterations {args.iterations}`: NiN root-8,",
        f"batch {BATCH}, a thread per process; the median iteration after the first two.",
        "",
        "| processes | iter_size | images/s | seconds of CPU per 1000 images | waiting for data |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


def measured(folder: Path, processes: int, iter_size: int, iterations: int) -> list[str]:
    """A row of the table. The CPU time of starting up is that of a run of two iterations."""
    short, long = (run(folder, processes, iter_size, count) for count in (2, iterations))
    with (folder / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "train"][2:]
    speed = statistics.median(float(row["images_per_second"]) for row in rows)
    wait = statistics.median(float(row["data_share"]) for row in rows)
    images = (iterations - 2) * BATCH * iter_size * processes
    cpu = f"{1000 * (long - short) / images:.1f}"
    return [str(processes), str(iter_size), f"{speed:.1f}", cpu, f"{wait:.1%}"]


def run(folder: Path, processes: int, iter_size: int, iterations: int) -> float:
    """Seconds of CPU that a training takes, the processes' start included."""
    solver = rootgen.solver("nin", root=8, net="net.prototxt", batch_size=BATCH, iter_size=iter_size, seed=0)
    for field in ("test_iter", "test_interval"):
        solver = "\n".join(line for line in solver.splitlines() if not line.startswith(f"{field}:"))
    (folder / "solver.prototxt").write_text(f"{solver}\nsnapshot_after_train: false\n")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    start += ["-m", "--"]  # --log is torchrun's too
    words = ["rootgen", "train", "solver.prototxt", "--engine", "torch", "--device", "cpu", "--threads", "1"]
    words += ["--max-iter", str(iterations), "--log", "log.csv"]
    before = os.times()
    subprocess.run(
        [*start, *words], cwd=folder, check=True, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
