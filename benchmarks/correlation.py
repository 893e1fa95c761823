"""Where the time of `rootgen correlation` goes, and how far its covariances are from the machine's matrix products.

CPU time on one thread, best of several rounds, so that what else the machine does counts little.

python benchmarks/correlation.py > benchmarks/correlation.md
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe

from rootgen import paths
from rootgen.correlation.moments import CHUNK, Moments
from rootgen.correlation.pairs import AdjacentPair, adjacent
from rootgen.correlation.report import CorrelatedPair, Score
from rootgen.correlation.responses import open_fed
from rootgen.correlation.sheet import Sheet
from rootgen.correlation.whitening import correlate
from rootgen.engine.api import Network
from rootgen.figures.save import FORMATS, save
from rootgen.net.read import read

NETS = {"NiN Orig.": ("nin/orig", 50), "NiN root-8": ("nin/root-8", 50), "ResNet-50 Orig.": ("resnet50/orig", 8)}
ROUNDS = 5
SIDE = 1536  # of the square matrices that tell the machine's rate


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The least CPU time of a call, in seconds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def rate(dtype: type) -> float:
    """Floating-point operations per second of a product of large square matrices."""
    a = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    return 2 * SIDE**3 / best(lambda: a @ a)


def products(responses: dict[str, np.ndarray], pairs: list[AdjacentPair]) -> tuple[float, float]:
    """Operations that the covariances of some responses need (symmetric products half), and CPU time of those alone.

    The same products as Moments makes, of as many samples at a time, with nothing around them.
    """
    operations, taken = 0.0, 0.0
    sizes = {name: (blob.shape[1], blob.shape[0] * blob.shape[2] * blob.shape[3]) for name, blob in responses.items()}
    products = [(channels, channels, samples, True) for channels, samples in sizes.values()]
    for pair in pairs:  # the sums of the larger map's pixels meet the smaller's
        (first, many), (second, few) = (sizes[blob] for blob in pair.blobs)
        products.append((first, second, min(many, few), False))
    random = np.random.default_rng(0)
    for first, second, samples, symmetric in products:
        chunk = min(samples, CHUNK)
        a, b = random.random((first, chunk)), random.random((second, chunk))
        operations += (first * (first + 1) if symmetric else 2 * first * second) * samples
        taken += best(lambda a=a, b=a if symmetric else b: a @ b.T) * samples / chunk
    return operations, taken


def drawn(pairs: list[AdjacentPair], moments: Moments, folder: str) -> tuple[float, float]:
    """CPU time of whitening all pairs, and of drawing their contact sheet."""
    results: list[CorrelatedPair] = []

    def whiten() -> None:
        results.clear()
        for pair in pairs:
            found = correlate(moments.covariance(pair.blobs))
            rows, columns = found.whitened.shape
            row = Score("test", pair.name, 1, np.nan, rows, columns, found.samples, *found.dead)
            results.append(CorrelatedPair(pair.layers, found, row))

    def draw() -> None:
        sheet = Sheet("whitened")
        sheet.add(results)
        for number, drawing in enumerate(sheet.drawings()):
            save(drawing.figure, folder, f"sheet{number}", FORMATS)

    return best(whiten, 1), best(draw, 2)


def measured(path: str, batch: int, double: float, folder: str) -> str:
    """A net's line of the table."""
    net = read(paths.resource("prototxt") / path / "deploy.prototxt")
    pairs = list(adjacent(net))
    shape = (batch, *next(layer for layer in net.layers if not layer.bottoms).param.input_param.shape[0].dim[1:])
    fed = open_fed(net, None, shape, engine="torch", device="cpu", seed=1)
    network: Network = fed.network
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = list(dict.fromkeys(blob for pair in pairs for blob in pair.blobs))
    responses = network.forward(wanted, {fed.input: images})
    forward = best(lambda: network.forward(wanted, {fed.input: images})) / batch
    moments = Moments([pair.blobs for pair in pairs])
    covariance = best(lambda: moments.add(responses)) / batch
    operations, alone = products(responses, pairs)
    whitening, drawing = drawn(pairs, moments, folder)
    cells = (
        f"{len(pairs)}",
        f"{1000 * forward:.1f}",
        f"{1000 * covariance:.1f}",
        f"{100 * forward / (forward + covariance):.0f}%",
        f"{operations / batch / 1e9:.2f}",
        f"{operations / batch / covariance / 1e9:.1f}",
        f"{operations / alone / 1e9:.1f}",
        f"{100 * operations / batch / covariance / double:.0f}%",
        f"{whitening:.2f}",
        f"{drawing:.2f}",
    )
    return " | ".join(cells)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    double, single = rate(np.float64), rate(np.float32)
    print("# Where the time of a correlation goes\n")
    print("`python benchmarks/correlation.py`: all adjacent pairs, CPU time on one thread, best of several rounds.\n")
    print(f"{describe('torch', 'numpy', 'matplotlib')}\n")
    print(
        f"Matrix products of {SIDE} x {SIDE}: {double / 1e9:.1f} GFLOP/s in float64, {single / 1e9:.1f} in float32.\n"
    )
    heads = "net, pairs, forward ms/image, covariances ms/image, forward's share, covariances GFLOP/image"
    heads += ", GFLOP/s of the covariances, of their products alone, of the machine's rate, whitening s, sheet s"
    columns = heads.split(", ")
    print(f"| {' | '.join(columns)} |\n| --- |{' --: |' * (len(columns) - 1)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, batch) in NETS.items():
            print(f"| {name} | {measured(path, batch, double, str(Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
