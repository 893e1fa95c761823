"""Does a trained net help its root nets? NiN's root nets from the evidence run's Orig., and from scratch.

python benchmarks/evidence/transfer.py FOLDER --evidence EVIDENCE [--minutes M] [--seeds 1,2,3] [--epochs 0,1,3]
    [--device gpu --processes 12 --mps --precision tf32]

EVIDENCE is the folder of a `rootgen reproduce nin` whose Orig. is trained with those seeds. Every run (a plan, a way to
its weights, a seed, a number of epochs) has a folder of its own in FOLDER; FOLDER/transfer.csv gets a line when it is
done. The same command goes on from where it stopped, and may run several times at once. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mps
import together
import transfer_report
from transfer_runs import FINE, WAYS, Experiment, Source

from rootgen.cli import progress_bars
from rootgen.cli.arguments import limit_threads
from rootgen.engine.api import PRECISIONS
from rootgen.engine.machine import THREADS
from rootgen.engine.stop import Stop, limit, signals
from rootgen.errors import RootgenError

STAGGER_S = 1.0  # between the starts, so that each process takes another run
FAILED, STOPPED = 1, 130  # exit codes

log = logging.getLogger("transfer")


def _numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def parse(text: str) -> list[Any]:
        return [kind(word) for word in text.split(",")]

    return parse


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--evidence", type=Path, required=True, help="folder of a `rootgen reproduce nin`")
    parser.add_argument("--plans", type=_numbers(str), default=["root-8", "root-16"])
    parser.add_argument("--ways", type=_numbers(str), default=list(WAYS), help=", ".join(WAYS))
    parser.add_argument("--seeds", type=_numbers(int), default=[1, 2, 3])
    parser.add_argument("--epochs", type=_numbers(float), default=[0.0, 1.0, 3.0])
    parser.add_argument("--fine", type=float, default=FINE, help="rate of fine-tuning, as a share of that from scratch")
    parser.add_argument("--minutes", type=float, help="stop after so many, as Ctrl-C does")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of the trainings")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processes", type=int, default=1, help="that share the runs out, of one thread each")
    parser.add_argument("--mps", action="store_true", help="have them share a GPU by NVIDIA's MPS, where that works")
    args = parser.parse_args(words)
    if unknown := set(args.ways) - set(WAYS):
        parser.error(f"no way {', '.join(sorted(unknown))}: {', '.join(WAYS)}")
    return args


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0 all done, 1 an error or others at work, 130 stopped: the same command goes on."""
    args = _arguments(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.processes > 1:
        return _together(list(sys.argv[1:] if words is None else words), args)
    limit_threads(args.threads)
    stop = Stop()
    stop.at_once = True
    try:
        with progress_bars.bars() as report, signals(stop), limit(args.minutes, stop):
            source = Source.at(args.evidence)
            made = Experiment(
                args.folder.resolve(), source, args.fine, args.engine, args.device, args.precision, report
            )
            made.claim()
            left = made.tasks(args.plans, args.ways, args.seeds, args.epochs)
            log.info("%d runs", len(left))
            left = [task for task in left if not made.finish(task, stop)]
            left = [task for task in left if not made.finish(task, stop)]  # what others have left since
    except KeyboardInterrupt:
        log.warning("stopped; the same command goes on from here")
        return STOPPED
    except RootgenError as error:
        log.error("%s", error)
        return FAILED
    finally:
        if (args.folder / "transfer.csv").is_file():
            transfer_report.write(args.folder / "transfer.csv")
    return FAILED if left else 0


def _together(words: list[str], args: argparse.Namespace) -> int:
    """The same in `processes`, each of which does what no other is at work on; and then what they have left."""
    try:
        Source.at(args.evidence)  # told once, and not by each of them
    except RootgenError as error:
        log.error("%s", error)
        return FAILED
    alone = [*words, "--processes", "1"]  # the last word counts
    processes: list[subprocess.Popen[bytes]] = []
    with together.one_stop(), mps.daemon() if args.mps else nullcontext({}) as variables:
        environment = os.environ | dict.fromkeys(THREADS, "1") | variables
        try:
            for _ in range(args.processes):
                processes.append(together.start([sys.executable, __file__, *alone], environment))
                time.sleep(STAGGER_S)
        except KeyboardInterrupt:
            for process in processes:
                process.send_signal(signal.SIGINT)
        codes = together.wait(processes)
    if any(code == STOPPED or code < 0 for code in codes):
        if (args.folder / "transfer.csv").is_file():
            transfer_report.write(args.folder / "transfer.csv")
        return STOPPED
    return main(alone)


if __name__ == "__main__":
    sys.exit(main())
