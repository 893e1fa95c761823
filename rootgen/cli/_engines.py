"""Arguments and signals that all commands share that run nets."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootgen.cli._numbers import positive
from rootgen.engine import ENGINES

if TYPE_CHECKING:
    from rootgen.train import Stop


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """--engine, --device and --threads."""
    parser.add_argument(
        "--engine", default="auto", choices=ENGINES, help="auto: pycaffe where it imports, else PyTorch"
    )
    parser.add_argument("--device", default="auto", metavar="cpu|gpu[:N]", help="auto: a GPU where there is one")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads to compute with (default: all)")


def limit_threads(count: int | None) -> None:
    """Have every engine compute with `count` threads; before one is loaded, as OpenMP and BLAS read it then."""
    if count is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and a terminal that goes away (unless under nohup) ask `stop`; as before afterwards."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
