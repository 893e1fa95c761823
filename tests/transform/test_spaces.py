"""Orders of channels: whatever order the free spaces of a net are put in, its outputs stay what they were."""

import numpy as np
import pytest

from rootgen import paths
from rootgen.net.load import load_text
from rootgen.transform.spaces import permuted, spaces_of

pytestmark = pytest.mark.torch
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 7 dim: 7 } } }\n'


def layer(kind, name, bottoms, top=None, more=""):
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name, bottom, outputs=8, more=""):
    inside = f"num_output: {outputs} kernel_size: 3 pad: 1 {more}"
    return layer("Convolution", name, bottom, more=f"convolution_param {{ {inside} }}")


def outputs(net, blobs):
    import torch

    from rootgen.engine.api import made_up
    from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

    options = NetworkOptions("TEST", torch.device("cpu"), dtype=torch.float64, read_data=False)
    network = TorchNetwork(net, options)
    with torch.no_grad():
        for name, own in network.named().items():
            for blob, values in zip(own, blobs[name], strict=True):
                blob.copy_(torch.from_numpy(values))
    return network.forward(net.outputs, made_up(network.feeders, network.blobs))


def random_blobs(net, random):
    found = {}
    for one in net.layers:
        values = [random.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1)) for shape in one.shapes.params]
        if one.type == "BatchNorm":
            values = [values[0], np.abs(values[1]) + 0.5, np.array([2.0])]
        if values:
            found[one.name] = values
    return found


def check(text, free=None):
    """Random orders of all free spaces leave the outputs alone; how many spaces are free."""
    random = np.random.default_rng(0)
    net = load_text(text)
    spaces = spaces_of(net)
    orders = {i: random.permutation(one.channels) for i, one in enumerate(spaces.spaces) if not one.fixed}
    if free is not None:
        assert len(orders) == free
    blobs = random_blobs(net, random)
    moved = permuted(spaces, blobs, orders)
    if orders:
        assert any((a != b).any() for name in blobs for a, b in zip(blobs[name], moved[name], strict=True))
    for name, values in outputs(net, blobs).items():
        assert np.abs(outputs(net, moved)[name] - values).max() <= 1e-5 * np.abs(values).max()
    return net, spaces


NETS = {
    "chain": (INPUT + conv("a", "data") + layer("ReLU", "r", "a", "a") + conv("b", "a"), 1),
    "normalised": (
        INPUT
        + conv("a", "data")
        + layer("BatchNorm", "bn", "a", "a")
        + layer("Scale", "s", "a", "a", "scale_param { bias_term: true }")
        + layer("PReLU", "p", "a", "a")
        + layer("Pooling", "q", "a", more="pooling_param { kernel_size: 2 stride: 2 }")
        + conv("b", "q"),
        1,
    ),
    "concat": (
        INPUT
        + conv("a", "data")
        + conv("b", "data", 4)
        + layer("Concat", "ab", "a b")
        + layer("BatchNorm", "bn", "ab", "ab")
        + conv("c", "ab")
        + conv("d", "ab")
        + layer("Eltwise", "z", "c d"),
        2,
    ),
    "residual": (
        INPUT
        + conv("a", "data")
        + conv("b", "a")
        + conv("c", "b")
        + layer("Eltwise", "sum", "a c")
        + conv("d", "sum")
        + layer("Eltwise", "sum2", "sum d")
        + layer("InnerProduct", "fc", "sum2", more="inner_product_param { num_output: 5 }"),
        2,
    ),
    "inner products": (
        INPUT
        + conv("a", "data")
        + layer("Flatten", "f", "a")
        + layer("InnerProduct", "b", "f", more="inner_product_param { num_output: 9 transpose: true }")
        + layer("Dropout", "dr", "b", "b")
        + layer("InnerProduct", "c", "b", more="inner_product_param { num_output: 5 }"),
        2,
    ),
    "deconvolution": (
        INPUT
        + conv("a", "data")
        + layer("Deconvolution", "b", "a", more="convolution_param { num_output: 6 kernel_size: 2 stride: 2 }")
        + layer("LRN", "l", "b", more="lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }")
        + conv("c", "l"),
        2,
    ),
    "groups are fixed": (INPUT + conv("a", "data") + conv("b", "a", more="group: 2") + conv("c", "b"), 0),
    "LRN across channels": (INPUT + conv("a", "data") + layer("LRN", "l", "a") + conv("b", "l"), 0),
    "a slice": (INPUT + conv("a", "data") + 'layer { name: "s" type: "Slice" bottom: "a" top: "x" top: "y" }\n'
                + conv("b", "x") + conv("c", "y") + layer("Eltwise", "z", "b c"), 0),
    "a gate": (INPUT + conv("a", "data") + conv("g", "data")
               + layer("Scale", "s", "a g", more="scale_param { axis: 0 }")
               + conv("b", "s"), 0),
    "a scale of rows": (INPUT + conv("a", "data", 7) + layer("Scale", "s", "a", "a", "scale_param { axis: 2 }")
                        + conv("b", "a"), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_any_order_of_free_channels_leaves_the_outputs(name):
    check(*NETS[name])


@pytest.mark.parametrize("row", ["nin/orig", "googlenet/orig", "resnet50/orig", "alexnet/column-1"])
def test_the_papers_nets(row):
    text = (paths.resource("prototxt") / row / "deploy.prototxt").read_text("utf-8")
    _, spaces = check(text)
    assert sum(not one.fixed for one in spaces.spaces) > 4


def test_why_a_space_is_fixed_is_said():
    _, spaces = check(INPUT + conv("a", "data"))
    assert [one.fixed for one in spaces.spaces] == ["'data' makes them", "'a' is an output of the net"]


POOLED = conv("a", "data") + layer("Pooling", "p", "a", more="pooling_param { kernel_size: 3 stride: 3 }")
FLAT = POOLED + layer("Flatten", "f", "p")


@pytest.mark.parametrize(
    "text",
    [
        FLAT + layer("BatchNorm", "bn", "f", "f") + layer("Scale", "sc", "f", "f", "scale_param { bias_term: true }"),
        FLAT + layer("PReLU", "pr", "f", "f"),
        FLAT + layer("Flatten", "g", "a") + layer("Concat", "cc", "f g"),
        FLAT
        + layer("InnerProduct", "h", "a", more="inner_product_param { num_output: 6 }")
        + layer("Concat", "cc", "f h"),
    ],
    ids=["BatchNorm", "PReLU", "two flat", "flat and InnerProduct"],
)
def test_pixels_that_a_flatten_laid_out_are_no_channels(text):
    last = "cc" if "Concat" in text else "f"
    ip = layer("InnerProduct", "ip", last, more="inner_product_param { num_output: 5 }")
    check(INPUT + text + ip)
