"""The embedded engine against OpenCV's Caffe importer, on the emitted nets with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_nets import randomize

from rootgen.engine import open_network, weights
from rootgen.generator import render
from rootgen.grouping import Plan
from rootgen.paper import gallery

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")

pytestmark = pytest.mark.torch

NETS = {f"{arch.name}/{row}": (arch, row) for arch, row in gallery.rows()}
QUICK = ("nin/", "googlenet/root-4", "resnet50/root-8")  # a second or less each on an idle machine

# Random weights amplify rounding with depth, mild blocks or not; 4e-4 was the worst seen, in resnet152/Orig.
DEEP_LIMIT = 1e-3


def make_residual_blocks_mild(deploy: Path, net, seed: int) -> None:
    """Take the statistics of BatchNorm from a batch, and let each block add a little to what it is given.

    With random statistics a hundred blocks overflow; with blocks of full weight they amplify rounding until the
    engine's own float32 is 5e-4 from its float64.
    """
    for unit in net.units:
        if unit.layer.type == "Scale":
            unit.blobs[0].mul_(0.2)
    train = open_network(deploy, phase="TRAIN", engine="torch", device="cpu", batch=2)
    for theirs, ours in zip(train.units, net.units, strict=True):
        for blob, values in zip(theirs.blobs, ours.blobs, strict=True):
            blob.copy_(values * (ours.layer.type != "BatchNorm"))
    shape = train.blobs["data"]
    train.forward(list(train.outputs), {"data": np.random.default_rng(seed).standard_normal(shape, np.float32)})
    for theirs, ours in zip(train.units, net.units, strict=True):
        for blob, values in zip(ours.blobs, theirs.blobs, strict=True):
            blob.copy_(values)


def for_opencv(deploy: Path) -> bytes:
    """The net as OpenCV's importer knows it, which has another name for the rounding of pools."""
    return deploy.read_bytes().replace(b"round_mode: FLOOR", b"ceil_mode: false")


def differences(deploy: Path, folder: Path, seed: int = 0) -> list[float]:
    """For the blob before the softmax and for the output, the largest difference over the largest value."""
    net = open_network(deploy, engine="torch", device="cpu")
    randomize(net, seed)
    if any(unit.layer.type == "Eltwise" for unit in net.units):
        make_residual_blocks_mild(deploy, net, seed)
    model = folder / "random.caffemodel"
    weights.write(model, net.net.name, "TEST", net.net.layers, net.learned())
    (output,) = net.outputs
    scores = net.units[-1].layer.bottoms[0]
    makers = {top: unit.layer.name for unit in net.units for top in unit.layer.tops}
    x = np.random.default_rng(seed).standard_normal((1, *net.blobs["data"][1:]), np.float32)
    ours = net.forward([scores, output], {"data": x})
    reference = cv2.dnn.readNetFromCaffe(
        *(np.frombuffer(b, np.uint8) for b in (for_opencv(deploy), model.read_bytes()))
    )
    reference.setInput(x)
    theirs = dict(zip((scores, output), reference.forward([makers[scores], makers[output]]), strict=True))
    assert theirs[scores].std() > 0.01 * abs(theirs[scores]).max()  # scores that are all alike would agree by chance
    return [abs(ours[blob] - theirs[blob].reshape(ours[blob].shape)).max() / abs(theirs[blob]).max() for blob in ours]


def test_there_are_nets_to_compare():
    assert len([name for name in NETS if name.startswith(QUICK)]) >= 9


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith(QUICK) else pytest.mark.slow) for name in NETS]
)
def test_forward_agrees_with_opencv(name, tmp_path):
    arch, row = NETS[name]
    deploy = tmp_path / "deploy.prototxt"
    deploy.write_text(render.net(arch, Plan.named(row), render.NetOptions(phase="deploy")))
    deep = arch.name in ("resnet101", "resnet152", "resnet200")
    assert max(differences(deploy, tmp_path)) < (DEEP_LIMIT if deep else 1e-4)
