"""Whole nets beside what users would pick instead: folded, in each runtime that takes them, and trained.

Forward is from an array of images to the array of their `prob`; a training step is what `rootgen train` does in an
iteration, from an LMDB to the update.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
from folded import command, prepare

from rootgen.engine import blobs
from rootgen.files import write_bytes, write_text
from rootgen.net import cost
from rootgen.net.graph import Net
from rootgen.net.layers.registry import of
from rootgen.net.load import load
from rootgen.proto import schema
from rootgen.proto.database import Writer

NETS = {  # name -> architecture, root
    "NiN Orig.": ("nin", None),
    "NiN root-8": ("nin", 8),
    "GoogLeNet Orig.": ("googlenet", None),
    "GoogLeNet root-16": ("googlenet", 16),
    "ResNet-50 Orig.": ("resnet50", None),
    "ResNet-50 root-64": ("resnet50", 64),
}
TRAINED = {  # name -> images of a batch
    "NiN Orig.": 64,
    "NiN root-8": 64,
    "GoogLeNet root-16": 16,
    "ResNet-50 Orig.": 16,
    "ResNet-50 root-64": 16,
}
SHORT = ("NiN root-8",)
RUNTIMES = {  # engine -> its column
    "patched": "our Caffe",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "torch": "PyTorch engine",
    "opencv": "OpenCV",
}
TRAINERS = ("patched", "torch")
LIMITS = {"limit: multiply-adds": "limit: multiply-adds", "limit: bytes": "limit: bytes"}
IMAGES = 64  # of a database to train from
SOLVER = """net: "{net}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0001 type: "SGD" random_seed: 1
max_iter: 1000000 solver_mode: CPU snapshot_prefix: "{net}"
"""


def prepare_all(folder: Path, names: list[str], kinds: list[str]) -> None:
    """The files that workers take: a folder for each net."""
    for name in names:
        print(f"files of {name}", file=sys.stderr)
        own, (arch, root) = place(folder, name), NETS[name]
        own.mkdir(parents=True)
        if "folded" in kinds:
            prepare(own, arch, root, batches=1, fold=("--early-strides",), export=("--dynamic-batch",))
        if "training" in kinds and name in TRAINED:
            _prepare_training(own, arch, root, TRAINED[name])


def place(folder: Path, name: str) -> Path:
    """Where the files of a net lie."""
    return folder / name.replace(" ", "-")


def _prepare_training(folder: Path, arch: str, root: int | None, batch: int) -> None:
    size = 40 if arch == "nin" else 256
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 3, size, size), dtype=np.uint8)
    with Writer(folder / "train_lmdb") as database:
        database.put([f"{number:08d}".encode() for number in range(IMAGES)], list(images), np.arange(IMAGES) % 10)
    write_bytes(folder / "mean.binaryproto", schema.to_bytes(blobs.from_array(images.mean(0, keepdims=True))))
    rows = ["--root", str(root)] if root else []
    net = folder / "train_val.prototxt"
    command("emit", arch, *rows, "--data", folder, "--batch-size", batch, "-o", net)
    write_text(folder / "solver.prototxt", SOLVER.format(net=net))


def name_of(job: dict) -> str | None:
    """The net that a job of folded nets or of training, or a row of its results, is about."""
    return job.get("folded") or job.get("training")


def jobs(engine: str, names: list[str], kinds: list[str], batches: list[int]) -> list[dict]:
    """What a worker of `engine` is given to run."""
    found: list[dict] = []
    if "folded" in kinds and engine in RUNTIMES:
        found += [{"folded": name, "batch": batch} for name in names for batch in batches]
    if "training" in kinds and engine in TRAINERS:
        found += [{"training": name, "batch": TRAINED[name]} for name in names if name in TRAINED]
    return found


def limits(folder: Path, names: list[str], kinds: list[str], batches: list[int], threads: list[int]) -> list[dict]:
    """Rows of what the machine allows at most, and of the least time that follows; none where there is no compiler."""
    program = folder / "peak"
    words = ["c++", "-O3", "-march=native", "-fopenmp", str(Path(__file__).with_name("peak.cpp")), "-o", str(program)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the limits are left out: {error}", file=sys.stderr)
        return []
    rows: list[dict] = []
    for count in threads:
        environment = os.environ | {"OMP_NUM_THREADS": str(count)}
        told = subprocess.run([program], env=environment, check=True, capture_output=True, text=True)
        rates = dict(zip(("GMAC/s", "GB/s"), map(float, told.stdout.split()), strict=True))
        rows += [{"engine": "machine", "threads": count, "pass": name, "ms": rate} for name, rate in rates.items()]
        for job in jobs("torch", names, kinds, batches):
            rows += [{**job, "threads": count, **limit} for limit in _least(folder, job, rates)]
    return rows


def _least(folder: Path, job: dict, rates: dict[str, float]) -> list[dict]:
    """Rows of the least milliseconds of a job, by its multiply-adds and, forward, by its bytes."""
    if "training" in job:
        net = load(place(folder, job["training"]) / "train_val.prototxt", "TRAIN")
        macs = training_macs(net) * job["batch"]
        return [{"engine": "limit: multiply-adds", "pass": "step", "ms": macs / rates["GMAC/s"] / 1e6}]
    net = load(place(folder, job["folded"]) / "folded.prototxt")
    macs, moved = cost.count(net).macs * job["batch"], least_bytes(net, job["batch"])
    least = {"limit: multiply-adds": macs / rates["GMAC/s"] / 1e6, "limit: bytes": moved / rates["GB/s"] / 1e6}
    return [{"engine": engine, "pass": "forward", "ms": ms} for engine, ms in least.items()]


def training_macs(net: Net) -> int:
    """Multiply-adds per image of forward, the weights' gradients and the bottoms', which layers on data lack."""
    data = {top for layer in net.layers if of(layer).fed for top in layer.tops}
    rows = {row.name: row.macs for row in cost.count(net).layers}
    return sum(rows[layer.name] * (2 if data.intersection(layer.bottoms) else 3) for layer in net.layers)


def least_bytes(net: Net, batch: int) -> int:
    """Bytes that a forward pass reads and writes where ReLU, Concat and sums cost none but to read what is added."""
    count = 0
    for layer in net.layers:
        bottoms, tops = ([prod(shape) for shape in shapes] for shapes in (layer.shapes.bottoms, layer.shapes.tops))
        if layer.type in ("Convolution", "Pooling", "InnerProduct"):
            count += batch * (sum(bottoms) + sum(tops)) + sum(prod(shape) for shape in layer.shapes.params)
        elif layer.type == "Eltwise":
            count += batch * sum(bottoms[1:])
    return 4 * count
