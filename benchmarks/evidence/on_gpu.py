"""The evidence run in several processes on one GPU, and what it made in a few files that are easily carried away.

python benchmarks/evidence/on_gpu.py --out RESULTS --source DIR --minutes M [--processes 8] [--mps]

DIR holds Fashion-MNIST's four files. All is computed in --folder, by default a new one in memory, so that no snapshot
waits for a disk; the runs are stopped M minutes after the start. RESULTS gets runs.tar.xz (results, report, figures,
and of each run all but its weights) and models-1.tar ... (weights: of unfinished runs first, with their solver states).
Unpacked into one folder these are the experiment again: `rootgen reproduce` goes on from there on any machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import mps
import packing
import together

from rootgen.cli.commands import reproduce
from rootgen.engine.machine import THREADS
from rootgen.errors import RootgenError
from rootgen.generator.architectures import architecture
from rootgen.paper.experiment import Experiment, rows_of

MEMORY = Path("/dev/shm")  # a folder in memory, on Linux
TELL_S = 30  # between lines that tell how far it is
STAGGER_S = 0.3  # between the starts, so that each process takes another run
GRACE_S = 60  # to end after --minutes
ENDED_WELL = {0, 130, -signal.SIGINT}  # done, or stopped by the minutes; Python itself may make a signal of the 130
STEPS = ("trained.json", "correlation/scores.csv")  # what each leaves in a run's folder

log = logging.getLogger("on_gpu")


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: all processes ended well, by themselves or with the minutes; 1: not all."""
    begun = time.monotonic()
    args = _arguments(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="evidence-", dir=MEMORY if MEMORY.is_dir() else None))
    command = _command(args, folder)
    try:
        experiment = _experiment(command)
        experiment.prepare()
        log.info("%s: the data are ready after %.0f s", folder, time.monotonic() - begun)
        with mps.daemon() if args.mps else nullcontext({}) as variables:
            codes = _run(command, variables, args.processes, experiment, begun + 60 * args.minutes)
    except RootgenError as error:
        log.error("%s", error)
        return 1
    log.info("the processes ended after %.0f s, with %s", time.monotonic() - begun, codes)
    if any(codes):  # else the last one has done it
        try:
            experiment.put_together(timed=False)
        except RootgenError as error:
            log.warning("%s", error)
    packing.pack(folder, args.out)
    log.info("done after %.0f s", time.monotonic() - begun)
    return 0 if set(codes) <= ENDED_WELL else 1


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the archives")
    parser.add_argument("--source", help="folder of the image set")
    parser.add_argument("--minutes", type=float, required=True, help="from the start until the runs are stopped")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="of the experiment; one that is there is gone on with")
    parser.add_argument("--rows", default="*")
    parser.add_argument("--seeds", default="1..3")
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--batch-size", default="128")
    parser.add_argument("--images", help="for the correlation")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--precision", help="of the trainings")
    parser.add_argument("--mps", action="store_true", help="share the GPU by NVIDIA's MPS, where that works")
    return parser.parse_args(words)


def _command(args: argparse.Namespace, folder: Path) -> list[str]:
    """The words of `rootgen reproduce`, which is told the time that is left besides."""
    given = ("rows", "seeds", "epochs", "batch_size", "images", "data", "source", "device", "precision")
    options = {"out": str(folder), "engine": "torch"} | {name: getattr(args, name) for name in given}
    words = [(f"--{name.replace('_', '-')}", value) for name, value in options.items() if value is not None]
    return [packing.ARCH, *(word for pair in words for word in pair)]


def _experiment(command: Sequence[str]) -> Experiment:
    """What `rootgen reproduce` makes of its words."""
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    args = parser.parse_args(command)
    rows = rows_of(architecture(args.arch), args.rows.split(","))
    return Experiment(reproduce.settings(args), args.out, rows=rows, seeds=args.seeds)


def _run(
    command: Sequence[str], variables: dict[str, str], count: int, experiment: Experiment, end: float
) -> list[int]:
    """The exit codes of `count` processes, which are over soon after `end`."""
    logs = experiment.out / packing.LOGS
    logs.mkdir(exist_ok=True)
    environment = os.environ | dict.fromkeys(THREADS, "1") | variables
    processes: list[subprocess.Popen[bytes]] = []
    with together.one_stop():
        try:
            for number in range(1, count + 1):
                minutes = max(1.0, end - time.monotonic()) / 60
                words = [sys.executable, "-m", "rootgen", "reproduce", *command, "--minutes", f"{minutes:.3f}"]
                processes.append(together.start(words, environment, logs / f"{number}.log"))
                time.sleep(STAGGER_S)
        except KeyboardInterrupt:
            for process in processes:
                process.send_signal(signal.SIGINT)
        return together.wait(processes, _Watch(experiment, end + GRACE_S))


class _Watch:
    """Tells now and then how far they are; False when the time is up."""

    def __init__(self, experiment: Experiment, end: float) -> None:
        self.experiment, self.end = experiment, end
        self.then, self.before = time.monotonic(), _iterations(experiment.out)

    def __call__(self, alive: int) -> bool:
        out, passed = self.experiment.out, time.monotonic() - self.then
        if passed >= TELL_S:
            now = _iterations(out)
            trained, correlated = (len(list(out.glob(f"*/seed-*/{name}"))) for name in STEPS)
            wanted = len(self.experiment.rows) * len(self.experiment.seeds)
            log.info(
                "%d of %d runs trained, %d correlated; %.1f iterations/s, %d in all; %d processes",
                *(trained, wanted, correlated, (now - self.before) / passed, now, alive),
            )
            self.then, self.before = time.monotonic(), now
        return time.monotonic() < self.end


def _iterations(folder: Path) -> int:
    """How many the logs of all trainings tell of."""
    return sum(path.read_bytes().count(b",train,") for path in folder.glob("*/seed-*/*_log.csv"))


if __name__ == "__main__":
    sys.exit(main())
