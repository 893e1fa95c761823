"""The paper's nets with their BatchNorm folded, as Caffe's files and as ONNX models: what the other benchmarks run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import rootgen.torch
from rootgen.datasets import idx
from rootgen.paths import resource

ROOT = Path(__file__).resolve().parents[1]
NETS = (
    ("NiN Orig.", "nin", None, "pool3"),
    ("NiN root-16", "nin", 16, "pool3"),
    ("GoogLeNet Orig.", "googlenet", None, "loss3/classifier"),
    ("GoogLeNet root-16", "googlenet", 16, "loss3/classifier"),
    ("ResNet-50 Orig.", "resnet50", None, "fc1000"),
    ("ResNet-50 root-64", "resnet50", 64, "fc1000"),
)
BATCHES, BATCH = 6, 8  # what the statistics are of


def images(count: int, size: int, skip: int = 0) -> np.ndarray:
    """The first of the embedded test images, in three channels of this size, less their mean, in units of 1/64."""
    pictures = np.asarray(idx.read_set(resource("data/fashion-mnist"), "test").images)[skip : skip + count, 0]
    large = np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in pictures])
    return np.repeat((large[:, None].astype(np.float32) - 73) / 64, 3, axis=1)


def prepare(
    folder: Path,
    arch: str,
    root: int | None,
    *,
    batches: int = BATCHES,
    fold: tuple[str, ...] = (),
    export: tuple[str, ...] = (),
) -> str:
    """Files of one net: plain (its fillers, statistics of `batches`), folded, ONNX; what `rootgen fold` said of it.

    `fold` and `export` are options of these commands.
    """
    words = ["emit", arch, "--phase", "deploy", "--batch-size", "1", *(["--root", str(root)] if root else [])]
    command(*words, "-o", folder / "plain.prototxt")
    module = rootgen.torch.load(folder / "plain.prototxt", phase="TRAIN")
    size = module.net.blobs["data"][2]
    torch.manual_seed(0)
    with torch.no_grad():
        for number in range(batches):
            module(torch.from_numpy(images(BATCH, size, skip=100 + number * BATCH)))
    rootgen.torch.save_caffemodel(module, folder / "plain.caffemodel")
    weights = ["--weights", folder / "plain.caffemodel"]
    told = command("fold", folder / "plain.prototxt", *weights, "-o", folder / "folded.prototxt", *fold)
    weights = ["--weights", folder / "folded.caffemodel"]
    command("export", folder / "folded.prototxt", *weights, "-o", folder / "folded.onnx", *export)
    return told


def command(*words: object) -> str:
    """What `rootgen WORDS` prints and logs."""
    done = subprocess.run(
        [sys.executable, "-m", "rootgen", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{Path(sys.argv[0]).name}: rootgen {words[0]}: {done.stderr}")
    return done.stdout + done.stderr


def number_in(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text}"
    return float(found[1])
