"""A small training that several tests run: its net, its solver, its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from engine_nets import write_database, write_mean

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 8 mirror: true mean_file: "mean.binaryproto" scale: 0.02 }
  data_param { source: "train_lmdb" batch_size: 7 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 8 mean_file: "mean.binaryproto" scale: 0.02 }
  data_param { source: "test_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt" test_iter: 2 test_interval: 4 base_lr: 0.05 lr_policy: "step" gamma: 0.5 stepsize: 5
momentum: 0.9 weight_decay: 0.001 random_seed: 3 solver_mode: CPU max_iter: 12 snapshot: 5 snapshot_prefix: "snaps/net"
"""


def make(folder: Path) -> None:
    """A net, a solver and two small databases of four kinds of images in `folder`."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 40)
    images = [(random.integers(0, 100, (3, 10, 10)) + 40 * label).astype(np.uint8) for label in labels]
    write_database(folder / "train_lmdb", images[:30], labels[:30].tolist())
    write_database(folder / "test_lmdb", images[30:], labels[30:].tolist())
    write_mean(folder / "mean.binaryproto", np.mean(images, 0, dtype=np.float32))
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
