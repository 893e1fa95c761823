"""The embedded engine against OpenCV's Caffe importer, on every emitted NiN variant with random weights."""

from __future__ import annotations

import numpy as np
import pytest
from engine_nets import randomize

from rootgen import paths
from rootgen.engine import open_network, weights

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")

pytestmark = pytest.mark.torch

NIN = sorted(paths.resource("prototxt").glob("nin/*/deploy.prototxt"))


def compare(deploy, tmp_path, seed: int = 0) -> float:
    """Largest difference of the outputs, over the largest output."""
    net = open_network(deploy, engine="torch", device="cpu")
    randomize(net, seed)
    model = tmp_path / "random.caffemodel"
    weights.write(model, net.net.name, "TEST", net.net.layers, net.learned())
    x = np.random.default_rng(seed).standard_normal((2, *net.blobs["data"][1:]), np.float32)
    (output,) = net.outputs
    ours = net.forward([output], {"data": x})[output]
    reference = cv2.dnn.readNetFromCaffe(str(deploy), str(model))
    reference.setInput(x)
    theirs = reference.forward().reshape(ours.shape)
    assert theirs.std() > 0.01 * abs(theirs).max()  # outputs that are all alike would agree by chance
    return abs(ours - theirs).max() / abs(theirs).max()


def test_there_are_nets_to_compare():
    assert len(NIN) >= 6


@pytest.mark.parametrize("deploy", NIN, ids=[path.parent.name for path in NIN])
def test_nin_forward_agrees_with_opencv(deploy, tmp_path):
    assert compare(deploy, tmp_path) < 1e-4
