"""How far losses of NiN root-8 part in 50 iterations from one snapshot, by what does the arithmetic.

Two engines differ; is that a difference of method, or float32's rounding, amplified by training? The same engine with
another number of threads, and with its first weights off by the last digit of float32, is the yardstick.

python benchmarks/parity.py      (its table goes to stdout; many minutes; needs pycaffe and PyTorch)
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from machine import describe

from rootgen.cli import main
from rootgen.engine import open_trainer

ROOT = Path(__file__).resolve().parent.parent
RATES = (0.02, 0.002)
ITERATIONS, EARLY = 50, 18
ULP = 2.0**-23  # the distance of float32's neighbours, relative
RUNS = {  # name -> engine, threads, arithmetic
    "Caffe": ("caffe", 2, "float32"),
    "Caffe, 1 thread": ("caffe", 1, "float32"),
    "Caffe, weights off by 2^-23": ("caffe", 2, "off"),
    "PyTorch": ("torch", 2, "float32"),
    "PyTorch, 1 thread": ("torch", 1, "float32"),
    "PyTorch in float64": ("torch", 2, "float64"),
    "PyTorch in float64, weights off by 2^-23": ("torch", 2, "float64 off"),
}
PAIRS = (
    ("Caffe", "PyTorch"),
    ("Caffe", "Caffe, 1 thread"),
    ("Caffe", "Caffe, weights off by 2^-23"),
    ("PyTorch", "PyTorch, 1 thread"),
    ("PyTorch", "PyTorch in float64"),
    ("Caffe", "PyTorch in float64"),
    ("PyTorch in float64", "PyTorch in float64, weights off by 2^-23"),
)


def prepare(folder: Path) -> Path:
    """Data, net and one solver per learning rate; the snapshot that all runs start from."""
    data, net = folder / "data", folder / "net.prototxt"
    with contextlib.redirect_stdout(sys.stderr):
        assert main(["data", "fashion-mnist-sample", "--pad", "0", "--out", str(data)]) == 0
    words = ["emit", "nin", "--root", "8", "--batch-size", "16", "--crop", "28", "--data", str(data), "-o", str(net)]
    assert main(words) == 0
    net.write_text(net.read_text().replace("mirror: true", "").replace("crop_size: 28", ""))
    for rate in RATES:
        (folder / f"{rate}.prototxt").write_text(
            f'net: "{net}" base_lr: {rate} lr_policy: "multistep" gamma: 0.1 stepvalue: 40 max_iter: 60 momentum: 0.9 '
            f'weight_decay: 0.0001 random_seed: 5 snapshot_prefix: "{folder}/nin"'
        )
    trainer = open_trainer(folder / f"{RATES[-1]}.prototxt", engine="caffe", device="cpu")
    for _ in range(2):
        trainer.step()
    return trainer.snapshot()[1]


def losses(solver: str, state: str, engine: str, arithmetic: str) -> list[float]:
    """The losses of one run, in the process and with the threads that it was given."""
    if "float64" in arithmetic:
        import torch

        from rootgen.engine.torch import open as build

        build.NetworkOptions = partial(build.NetworkOptions, dtype=torch.float64)  # type: ignore[misc,assignment]
    trainer = open_trainer(solver, engine=engine, device="cpu")
    trainer.restore(state)
    if "off" in arithmetic:
        random = np.random.default_rng(0)
        if engine == "caffe":
            blobs = [blob.data for blobs in trainer.train.caffe_net.params.values() for blob in blobs]
        else:
            blobs = [learnable.blob.detach().numpy() for learnable in trainer.train.learnable]
        for blob in blobs:
            blob[...] *= 1 + ULP * random.choice((-1, 1), blob.shape)
    return [trainer.step().loss for _ in range(ITERATIONS)]


def part(first: list[float], second: list[float]) -> str:
    """Cells: the largest relative difference of the early losses, of all, and how many agree to 1e-3."""
    difference = np.abs(np.array(first) - second) / np.abs(second)
    agree = int(np.argmax(difference > 1e-3)) if (difference > 1e-3).any() else ITERATIONS
    return f"{difference[:EARLY].max():.1e} | {difference.max():.1e} | {agree}"


def run() -> None:
    """Print the table."""
    print(f"Losses of NiN root-8, batch 16, {ITERATIONS} iterations from one snapshot: relative differences\n")
    print(f"{describe('torch', 'numpy')}\n")
    with tempfile.TemporaryDirectory() as name:
        state = prepare(Path(name))
        for rate in RATES:
            found = {}
            for label, (engine, threads, arithmetic) in RUNS.items():
                words = [f"{name}/{rate}.prototxt", str(state), engine, arithmetic]
                limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
                environment = (
                    os.environ | limits | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
                )
                done = subprocess.run(
                    [sys.executable, __file__, *words], env=environment, stdout=subprocess.PIPE, check=True
                )
                found[label] = json.loads(done.stdout.splitlines()[-1])
            print(f"| base_lr {rate} | in {EARLY} iterations | in {ITERATIONS} | within 1e-3 for |")
            print("| --- | --: | --: | --: |")
            for first, second in PAIRS:
                print(f"| {first}; {second} | {part(found[first], found[second])} |", flush=True)
            print()


if __name__ == "__main__":
    logging.getLogger("rootgen").setLevel(logging.ERROR)
    if len(sys.argv) > 1:
        print(json.dumps(losses(*sys.argv[1:])))
    else:
        run()
