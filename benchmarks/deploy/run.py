"""The paper's nets from Caffe to ONNX Runtime: how far outputs move on the way, and what a forward pass takes.

python benchmarks/deploy/run.py > benchmarks/deploy/README.md      (minutes; pycaffe, PyTorch, ONNX Runtime, OpenCV 4)
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from folded import BATCH, BATCHES, NETS, command, images, number_in, prepare  # noqa: E402
from machine import describe  # noqa: E402

from rootgen.caffe_build.prefix import find_prefix  # noqa: E402
from rootgen.engine import open_network  # noqa: E402

ENGINES = {  # column -> engine, file
    "Caffe": ("caffe", "plain.prototxt"),
    "Caffe, folded": ("caffe", "folded.prototxt"),
    "PyTorch, folded": ("torch", "folded.prototxt"),
    "ONNX Runtime": ("onnx", "folded.onnx"),
}
IMAGES = 4  # that outputs are compared on
ROUNDS, PASSES = 4, 3
TRAINED, TESTED = 4, 5  # iterations


def differences(folder: Path, scores: str) -> dict[str, float]:
    """Column -> the largest difference of the scores and of their Softmax, relative to the largest value of each."""
    blobs = [scores, "prob"]
    data = images(IMAGES, open_network(folder / "plain.prototxt", engine="torch").blobs["data"][2])
    outputs = {name: forward(folder, engine, file, blobs, data) for name, (engine, file) in ENGINES.items()}
    by_opencv = {name: opencv(folder / name, blobs, data) for name in ("plain", "folded")}
    found = {
        f"{name}: {other}": largest(outputs[name], reference)
        for name in list(ENGINES)[1:]
        for other, reference in (("Caffe", outputs["Caffe"]), ("OpenCV", by_opencv["plain"]))
    }
    return found | {"OpenCV: Caffe": largest(by_opencv["plain"], outputs["Caffe"])}


def forward(folder: Path, engine: str, file: str, blobs: list[str], data: np.ndarray) -> dict[str, np.ndarray]:
    """The blobs of all images, one at a time."""
    network = open_network(folder / file, weights=model_of(folder, file), engine=engine, device="cpu")
    wanted = [name for name in blobs if name in network.blobs]
    passes = [network.forward(wanted, {"data": image[None]}) for image in data]
    return {name: np.concatenate([one[name].reshape(1, -1) for one in passes]) for name in wanted}


def model_of(folder: Path, file: str) -> Path | None:
    return None if file.endswith(".onnx") else (folder / file).with_suffix(".caffemodel")


def opencv(net: Path, blobs: list[str], data: np.ndarray) -> dict[str, np.ndarray]:
    """The blobs as OpenCV's own importer of Caffe's files has them."""
    network = cv2.dnn.readNetFromCaffe(str(net.with_suffix(".prototxt")), str(net.with_suffix(".caffemodel")))
    found = []
    for image in data:
        network.setInput(image[None])
        found.append([value.reshape(1, -1).copy() for value in network.forward(blobs)])
    return {name: np.concatenate([one[i] for one in found]) for i, name in enumerate(blobs)}


def largest(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in ours)


def timed(folder: Path) -> dict[str, list[float]]:
    """Column -> milliseconds of forward passes through the net, the engines in turns; in a process of its own."""
    networks = {
        name: open_network(folder / file, weights=model_of(folder, file), engine=engine, device="cpu", read_data=False)
        for name, (engine, file) in ENGINES.items()
    }
    image = images(1, networks["PyTorch, folded"].blobs["data"][2])
    found: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            network.forward(["prob"], {"data": image})
            for _ in range(PASSES):
                begun = time.perf_counter()
                network.forward(["prob"], {"data": image})
                found[name].append((time.perf_counter() - begun) * 1e3)
    return found


def in_own_process(folder: Path, threads: int) -> dict[str, list[float]]:
    """`timed`, with so many threads."""
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    words = [sys.executable, __file__, "--time", str(folder)]
    done = subprocess.run(words, env=os.environ | limits, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def scored(folder: Path) -> tuple[list[str], list[list[str]]]:
    """A table: what `caffe test` and `rootgen test` say of a net that was trained a little, on an LMDB."""
    data, net, solver = folder / "data", folder / "train_val.prototxt", folder / "solver.prototxt"
    command("data", "fashion-mnist-sample", "-o", data)
    command("emit", "nin", "--root", "8", "--data", data, "--batch-size", "50", "-o", net)
    sizes = ["--train-images", "5000", "--test-images", "1000", "--batch-size", "50", "--max-iter", str(TRAINED)]
    command(
        "solver",
        "nin",
        "--root",
        "8",
        "--net",
        net,
        *sizes,
        "--base-lr",
        "0.05",
        "--max-iter",
        str(TRAINED),
        "-o",
        solver,
    )
    model = command("train", solver, "--engine", "torch").splitlines()[0]
    own = find_prefix()
    assert own, "no Caffe: `rootgen caffe build`"
    words = [str(own.tool), "test", "-model", str(net), "-weights", model, "-iterations", str(TESTED)]
    environment = os.environ | own.environment() | {"GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    pairs = re.findall(r"caffe.cpp:\d+\] (\w+) = ([\d.e+-]+)(?: .*)?$", done.stderr, re.MULTILINE)
    found = {"`caffe test`": {name: float(value) for name, value in pairs}}
    for engine in ("caffe", "torch", "onnx"):
        more = ["--weights", model, "--iterations", str(TESTED), "--engine", engine, "--format", "json"]
        found[f"`rootgen test --engine {engine}`"] = json.loads(command("test", net, *more).splitlines()[0])["outputs"]
    columns = list(found["`caffe test`"])
    return ["", *columns], [[name, *(f"{row[one]:.6g}" for one in columns)] for name, row in found.items()]


INTRODUCTION = """\
# From Caffe to ONNX Runtime

What `rootgen fold` and `rootgen export` do to the outputs of the paper's nets, and to the time of a forward pass.

    python benchmarks/deploy/run.py > benchmarks/deploy/README.md

The nets have the weights of their fillers (no trained ones are at hand), and BatchNorm's statistics of {batches}
batches of {batch} images in training mode: the embedded Fashion-MNIST images, enlarged to the net's input. So folding
moves real means and variances about.
"""
DIFFERENCES = """
## Outputs

The largest difference of the scores before the Softmax and of `prob`, relative to the largest value of each, over
{images} images. Caffe is the net as it was, in pycaffe; OpenCV has it from its own importer of Caffe's files. `fold`
is what the command says itself: the folded net against the one before, in float64 arithmetic with the weights that are
written (float32).
"""
SCORES = """
## `rootgen test` and `caffe test`

NiN root-8 after {trained} iterations: means over {tested} batches (of 100 images) of its TEST phase, of the LMDB that
`rootgen data fashion-mnist-sample` makes. tests/deploy/test_score.py holds the two together.
"""
TIMES = """
## Times

Milliseconds from an image to `prob`, batch 1: the median and, in brackets, the best of {passes} passes in {rounds}
rounds, the engines in turns in one process, while the load was {load:.1f} (1: one core busy). Where median and best
are far apart, something else took the machine's time. PyTorch and ONNX Runtime have the folded net; Caffe is patched
(caffe_patches/).
"""


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table of numbers, the first column in words."""
    for cells in (columns, ["---", *["--:"] * (len(columns) - 1)], *rows):
        print(f"| {' | '.join(cells)} |")


def report() -> None:
    """Print the page."""
    print(INTRODUCTION.format(batches=BATCHES, batch=BATCH))
    print(describe("torch", "onnxruntime", "onnx", "opencv-python-headless", "numpy"))
    with tempfile.TemporaryDirectory() as name:
        folders = {net: Path(name) / str(place) for place, (net, *_) in enumerate(NETS)}
        found = {}
        for net, arch, root, scores in NETS:
            folders[net].mkdir()
            fold = prepare(folders[net], arch, root)
            found[net] = {"fold": number_in(fold, r"differ by (\S+) of"), **differences(folders[net], scores)}
        print(DIFFERENCES.format(images=IMAGES), flush=True)
        columns = list(next(iter(found.values())))
        table(["net", *columns], [[net, *(f"{row[one]:.0e}" for one in columns)] for net, row in found.items()])
        print(SCORES.format(trained=TRAINED, tested=TESTED), flush=True)
        table(*scored(Path(name)))
        print(TIMES.format(passes=ROUNDS * PASSES, rounds=ROUNDS, load=os.getloadavg()[0]))
        times = {(net, threads): in_own_process(folders[net], threads) for net in folders for threads in (1, 2)}
        rows = [
            [n, str(t), *(f"{median(row[one]):.1f} ({min(row[one]):.1f})" for one in ENGINES)]
            for (n, t), row in times.items()
        ]
        table(["net", "threads", *ENGINES], rows)


if __name__ == "__main__":
    logging.getLogger("rootgen").setLevel(logging.ERROR)
    if sys.argv[1:2] == ["--time"]:
        print(json.dumps(timed(Path(sys.argv[2]))))
    else:
        report()
