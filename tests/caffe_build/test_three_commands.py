"""The commands that a user of Caffe types: emit, solver and data, then `caffe train`, then correlation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rootgen.caffe_build import prefix
from rootgen.engine import weights

ROOT = Path(__file__).resolve().parents[2]
EMIT = "nin --root 8 --batch-size 16 --test-batch-size 20 --data fashion"
SCRIPT = f"""
set -e
rootgen() {{ {sys.executable} -m rootgen "$@"; }}
rootgen emit {EMIT} > train_val.prototxt
rootgen solver nin --root 8 --batch-size 16 --test-batch-size 20 --train-images 96 --test-images 40 \\
    --max-iter 6 --base-lr 0.01 --seed 1 --solver-mode CPU > solver.prototxt
rootgen data fashion-mnist-sample --out fashion
eval "$(rootgen caffe env)"
caffe train -solver solver.prototxt
{sys.executable} -m rootgen.correlation nin_root-8_iter_6.caffemodel --engine caffe --images 60 --out correlation
"""


@pytest.mark.caffe
def test_the_users_commands_work(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), prefix.VARIABLE: str(prefix.find_prefix().path)}
    environment.pop("GLOG_minloglevel", None)  # which pycaffe's engine sets where another test loaded it
    done = subprocess.run(
        ["bash", "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Optimization Done." in done.stderr
    learned = weights.read(tmp_path / "nin_root-8_iter_6.caffemodel")
    assert learned["conv2a"][0].shape == (192, 96 // 8, 5, 5)
    arrays = list((tmp_path / "correlation").rglob("*.npz"))
    assert arrays
    for path in arrays:
        with np.load(path) as found:
            numbers = [values for values in found.values() if values.dtype.kind == "f"]
            assert numbers and all(np.isfinite(values).all() for values in numbers)
