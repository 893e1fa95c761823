"""A smoke test of a built Caffe: a tiny grouped net trained by the tool and through pycaffe must lose alike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rootgen import scratch
from rootgen.caffe_build.prefix import Prefix
from rootgen.errors import RootgenError

ITERATIONS = 20
TOLERANCE = 1e-4  # relative; the tool prints six digits

NET = """\
name: "smoke"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param {
    shape { dim: 8 dim: 4 dim: 9 dim: 9 } data_filler { type: "gaussian" }
    shape { dim: 8 } data_filler { type: "constant" value: 1 }
  } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 4 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = f"""\
net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0001
display: 1 max_iter: {ITERATIONS} random_seed: 7 snapshot_after_train: false snapshot_prefix: "smoke"
solver_mode: CPU
"""
# rootgen.proto.schema first: its messages and pycaffe's have the same names and must live in one process.
BY_PYCAFFE = f"""\
import rootgen.proto.schema, caffe
solver = caffe.get_solver("solver.prototxt")
for _ in range({ITERATIONS}):
    solver.step(1)
    print("loss", float(solver.net.blobs["loss"].data))
"""


def check_prefix(prefix: Prefix) -> list[tuple[str, float, float]]:
    """(way, first loss, last loss) of each way to train with the Caffe in `prefix`; RootgenError if they differ."""
    with scratch.folder("rootgen-check-") as folder:
        (folder / "net.prototxt").write_text(NET, encoding="utf-8")
        (folder / "solver.prototxt").write_text(SOLVER, encoding="utf-8")
        ways = {"caffe train": _losses([str(prefix.tool), "train", "-solver", "solver.prototxt"], folder, prefix)}
        if (prefix.python / "caffe/_caffe.so").is_file():
            ways["pycaffe"] = _losses([sys.executable, "-W", "ignore", "-c", BY_PYCAFFE], folder, prefix)
    by_tool = ways["caffe train"]
    for way, losses in ways.items():
        if len(losses) < ITERATIONS:
            raise RootgenError(f"{way} stopped after {len(losses)} of {ITERATIONS} iterations", where=prefix.path)
        if not losses[ITERATIONS - 1] < losses[0]:
            raise RootgenError(f"{way} does not learn: loss {losses[0]:.4g}, then {losses[-1]:.4g}", where=prefix.path)
        for iteration, (expected, loss) in enumerate(zip(by_tool, losses, strict=False)):
            if abs(loss - expected) > TOLERANCE * abs(expected):
                raise RootgenError(
                    f"iteration {iteration}: loss {expected:.6g} by caffe train, {loss:.6g} by {way}", where=prefix.path
                )
    return [(way, losses[0], losses[ITERATIONS - 1]) for way, losses in ways.items()]


def _losses(command: list[str], folder: Path, prefix: Prefix) -> list[float]:
    """The loss of each iteration that `command`, run in `folder`, prints."""
    package = str(Path(__file__).resolve().parent.parent.parent)
    # minloglevel: pycaffe in this process, or the user, may have silenced the lines that are read here.
    environment = {**os.environ, **prefix.environment(), "GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
    environment["PYTHONPATH"] += os.pathsep + package
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RootgenError(
            f"{Path(command[0]).name} failed with exit code {done.returncode}: {last}", where=prefix.path
        )
    if "pycaffe" not in command[-1] and command[0] == str(prefix.tool):
        return [float(loss) for loss in re.findall(r"Iteration \d+ .*, loss = (\S+)", done.stderr)]
    return [float(loss) for loss in re.findall(r"^loss (\S+)", done.stdout, re.MULTILINE)]
