"""Where a net's time goes: milliseconds of each kind of layer, forward, in a Caffe that rootgen built.

    OMP_NUM_THREADS=2 PYTHONPATH=PREFIX/python:. python benchmarks/cpu/kinds.py NET.prototxt ... [--seconds 2]

Each layer is called alone, in the order of the net; its time is the least of all passes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

import caffe
import numpy as np


def kind(net: caffe.Net, index: int) -> str:
    """A layer's type; of convolutions also what groups make of them."""
    layer, name = net.layers[index], net._layer_names[index]
    if layer.type != "Convolution":
        return layer.type
    filters = layer.blobs[0].data.shape
    if net.bottom_names[name][0] == "data":
        return "Convolution, first"
    if max(filters[2:]) == 1:
        return "Convolution, 1x1"
    return "Convolution, spatial"


def kinds(path: str, seconds: float) -> dict[str, float]:
    """Milliseconds by kind of layer."""
    net = caffe.Net(path, caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=net.blobs["data"].data.shape)
    least = [float("inf")] * len(net.layers)
    begun, passes = time.perf_counter(), 0
    while passes < 5 or time.perf_counter() - begun < seconds:
        for i in range(len(net.layers)):
            start = time.perf_counter()
            net._forward(i, i)
            least[i] = min(least[i], time.perf_counter() - start)
        passes += 1
    total: dict[str, float] = defaultdict(float)
    for i, spent in enumerate(least):
        total[kind(net, i)] += 1e3 * spent
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="+", metavar="NET.prototxt")
    parser.add_argument("--seconds", type=float, default=2, help="for each net (default: 2)")
    args = parser.parse_args()
    for path in args.nets:
        found = kinds(path, args.seconds)
        sys.stdout.write(f"{path}: {sum(found.values()):.2f} ms\n")
        for name, milliseconds in found.items():
            sys.stdout.write(f"  {milliseconds:8.2f}  {name}\n")


if __name__ == "__main__":
    main()
