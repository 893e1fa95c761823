"""Strides taken early: outputs stay, what is stepped over is not computed, and who reads a whole map still does."""

import random

import numpy as np
import pytest

from rootgen.deploy.check import largest_difference
from rootgen.errors import RootgenError
from rootgen.net.cost import count
from rootgen.net.load import load_text
from rootgen.transform.strides import early_strides

pytestmark = pytest.mark.torch


def data(*shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'


def layer(kind, name, bottoms, top=None, more=""):
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name, bottom, param="", outputs=4):
    return layer("Convolution", name, bottom, more=f"convolution_param {{ num_output: {outputs} {param} }}")


def wide(name, bottom, param=""):
    return conv(name, bottom, f"kernel_size: 3 pad: 1 {param}")


def step(name, bottom, param="stride: 2"):
    return conv(name, bottom, f"kernel_size: 1 {param}")


def relu(blob):
    return layer("ReLU", f"relu_{blob}", blob, blob)


def blobs_of(net, seed=0):
    values = np.random.default_rng(seed)
    return {
        one.name: [np.abs(values.standard_normal(shape)) + 0.1 for shape in one.shapes.params]
        for one in net.layers
        if one.shapes.params
    }


def moved(text):
    """What early_strides gives, held against the net as it was; a second turn finds nothing."""
    net = load_text(text)
    blobs = blobs_of(net)
    result = early_strides(text, net)
    after = load_text(result.text)
    assert net.outputs == after.outputs
    assert largest_difference(net, blobs, after, blobs | result.blobs) < 1e-12
    assert early_strides(result.text, after).text == result.text
    if result.strides:
        assert count(after).macs < count(net).macs
    else:
        assert (result.text, result.blobs) == (text, {})
    return result


IMAGE = data(2, 3, 9, 8)
# The net, and the strides of the convolutions that have others now.
MOVED = {
    "into a convolution": (IMAGE + wide("a", "data") + step("b", "a"), {"a": (2, 2), "b": (1, 1)}),
    "through what works value by value": (
        IMAGE + wide("a", "data") + relu("a") + layer("PReLU", "p", "a") + layer("Power", "w", "p") + step("b", "w"),
        {"a": (2, 2), "b": (1, 1)},
    ),
    "through statistics and channels": (
        IMAGE + wide("a", "data") + layer("BatchNorm", "n", "a") + layer("Scale", "s", "n") + step("b", "s"),
        {"a": (2, 2), "b": (1, 1)},
    ),
    "times the stride that is there": (
        data(1, 3, 23, 22) + wide("a", "data", "stride: 2") + step("b", "a", "stride: 3"),
        {"a": (6, 6), "b": (1, 1)},
    ),
    "on, through a 1x1": (
        IMAGE + wide("a", "data") + step("b", "a", "") + relu("b") + step("c", "b"),
        {"a": (2, 2), "c": (1, 1)},
    ),
    "two strides, one after the other": (
        data(1, 3, 21, 20) + wide("a", "data") + step("b", "a") + step("c", "b"),
        {"a": (4, 4), "b": (1, 1), "c": (1, 1)},
    ),
    "no further than the data": (IMAGE + step("b", "data", "") + step("c", "b"), {"b": (2, 2), "c": (1, 1)}),
    "both axes apart": (
        IMAGE + wide("a", "data", "stride_h: 1 stride_w: 2") + step("b", "a", "stride_h: 2 stride_w: 1"),
        {"a": (2, 2), "b": (1, 1)},
    ),
    "one axis, where one number stood": (
        IMAGE + wide("a", "data", "stride: 1") + step("b", "a", "stride_h: 2 stride_w: 1"),
        {"a": (2, 1), "b": (1, 1)},
    ),
    "in a list": (
        IMAGE + wide("a", "data", "stride: [1]") + step("b", "a", "stride: [3, 2]"),
        {"a": (3, 2), "b": (1, 1)},
    ),
    "in lines": (
        IMAGE
        + wide("a", "data").replace("pad: 1", "\n  pad: 1  # a comment\n  stride: 1\n").replace("kernel", "\n  kernel")
        + step("b", "a", "stride: 3 stride: 2"),
        {"a": (3, 2), "b": (1, 1)},
    ),
    "dilation, groups, no bias": (
        data(1, 4, 17, 18)
        + conv("a", "data", "kernel_size: 3 pad: 3 dilation: 3 group: 2 bias_term: false")
        + step("b", "a", "stride: 3 group: 2"),
        {"a": (3, 3), "b": (1, 1)},
    ),
    "nothing but a list": (
        IMAGE
        + layer("ConvolutionDepthwise", "a", "data", more="convolution_param { kernel_size: [3, 3] }")
        + step("b", "a"),
        {"a": (2, 2), "b": (1, 1)},
    ),
    "one axis": (data(2, 3, 17) + conv("a", "data", "kernel_size: 5") + step("b", "a"), {"a": (2,), "b": (1,)}),
    "three axes": (
        data(1, 2, 7, 6, 5) + wide("a", "data") + step("b", "a", "stride: 1 stride: 2 stride: 3"),
        {"a": (1, 2, 3), "b": (1, 1, 1)},
    ),
    "readers that step alike": (
        IMAGE + wide("a", "data") + step("b", "a") + step("c", "a") + layer("Eltwise", "e", "b c"),
        {"a": (2, 2), "b": (1, 1), "c": (1, 1)},
    ),
    "into both sides of a sum": (
        IMAGE + wide("a", "data") + wide("b", "data") + layer("Eltwise", "e", "a b") + relu("e") + step("c", "e"),
        {"a": (2, 2), "b": (2, 2), "c": (1, 1)},
    ),
    "into a Concat of channels": (
        IMAGE + wide("a", "data") + wide("b", "data") + layer("Concat", "e", "a b") + step("c", "e"),
        {"a": (2, 2), "b": (2, 2), "c": (1, 1)},
    ),
}


@pytest.mark.parametrize("case", MOVED)
def test_moved(case):
    text, strides = MOVED[case]
    result = moved(text)
    assert {name: after for name, (_, after) in result.strides.items()} == strides
    assert not result.blobs


SHORTCUT = (
    data(1, 3, 12, 12)
    + wide("x", "data")
    + wide("a", "x")
    + layer("Eltwise", "e", "x a")
    + relu("e")
    + step("b", "e")
    + step("c", "e")
    + layer("Eltwise", "out", "b c")
)


def test_a_shortcut_is_picked_from():
    result = moved(SHORTCUT)
    assert list(result.blobs) == ["x_stride2"]
    assert result.blobs["x_stride2"][0].shape == (4, 1, 1, 1)
    assert load_text(result.text).blobs["e"] == (1, 4, 6, 6)


def test_what_was_picked_serves_twice_and_has_a_name_of_its_own():
    text = (
        data(1, 3, 12, 12)
        + wide("x", "data")
        + wide("x_stride2", "x")
        + layer("Eltwise", "e", "x x_stride2")
        + layer("Eltwise", "f", "x e")
        + step("b", "f")
    )
    result = moved(text)
    assert list(result.blobs) == ["x_stride2_"]
    assert result.text.count('bottom: "x_stride2_"') == 2


@pytest.mark.parametrize("phase", ["", 'include { phase: TEST } include { stage: "t" }', "exclude { phase: TRAIN }"])
def test_what_picks_is_there_when_its_reader_is(phase):
    text = SHORTCUT.replace('top: "e"  }', f'top: "e" {phase} }}', 1)
    layers = load_text(moved(text).text).layers
    rules = [(list(one.param.include), list(one.param.exclude)) for one in layers if one.name in ("e", "x_stride2")]
    assert rules[0] == rules[1]
    assert any(rules[0]) == bool(phase)


def test_v1_layers():
    text = SHORTCUT.replace("layer {", "layers {")
    for new, old in (("Convolution", "CONVOLUTION"), ("Eltwise", "ELTWISE"), ("ReLU", "RELU")):
        text = text.replace(f'type: "{new}"', f"type: {old}")
    text = 'input: "data" input_dim: [1, 3, 12, 12]\n' + text[text.index("\n") + 1 :]
    assert 'layers {\n  name: "x_stride2"\n  type: CONVOLUTION' in moved(text).text


KEPT = {
    "someone reads the whole map": IMAGE + wide("a", "data") + step("b", "a") + wide("c", "a"),
    "readers that step unlike": IMAGE + wide("a", "data") + step("b", "a") + step("c", "a", "stride: 3"),
    "pixels around the image": IMAGE + wide("a", "data") + conv("b", "a", "kernel_size: 1 stride: 2 pad: 1"),
    "a larger kernel": IMAGE + wide("a", "data") + conv("b", "a", "kernel_size: 2 stride: 2"),
    "no stride": IMAGE + wide("a", "data") + step("b", "a", ""),
    "data": IMAGE + step("b", "data"),
    "a pooling": IMAGE
    + wide("a", "data")
    + layer("Pooling", "p", "a", more="pooling_param { kernel_size: 2 }")
    + step("b", "p"),
    "across pixels": IMAGE
    + wide("a", "data")
    + layer("LRN", "n", "a", more="lrn_param { norm_region: WITHIN_CHANNEL }")
    + step("b", "n"),
    "a factor for each pixel": IMAGE
    + wide("a", "data")
    + layer("Scale", "s", "a", more="scale_param { axis: 2 num_axes: 2 }")
    + step("b", "s"),
    "a second bottom of other shape": IMAGE
    + wide("a", "data")
    + layer("Pooling", "g", "data", more="pooling_param { global_pooling: true }")
    + layer("Reshape", "f", "g", more="reshape_param { shape { dim: 2 dim: 3 } }")
    + layer("InnerProduct", "i", "f", more="inner_product_param { num_output: 4 }")
    + layer("Scale", "s", "a i", more="scale_param { axis: 0 }")
    + step("b", "s"),
    "statistics of the batch": IMAGE
    + wide("a", "data")
    + layer("BatchNorm", "n", "a", more="batch_norm_param { use_global_stats: false }")
    + step("b", "n"),
    "joined along the image": IMAGE
    + wide("a", "data")
    + layer("Concat", "j", "a a", more="concat_param { axis: 2 }")
    + step("b", "j"),
    "only picking": IMAGE + layer("AbsVal", "v", "data") + layer("Eltwise", "e", "v data") + step("b", "e"),
    "a sum in place of what others made": IMAGE
    + layer("Pooling", "x", "data", more="pooling_param { kernel_size: 1 }")
    + wide("a", "data", "").replace("num_output: 4", "num_output: 3")
    + layer("Eltwise", "e", "x a", "x")
    + step("b", "x"),
}


@pytest.mark.parametrize("case", KEPT)
def test_kept(case):
    result = moved(KEPT[case])
    assert not result.strides


def test_a_loss_counts_every_pixel():
    text = IMAGE + wide("a", "data").replace("top:", "loss_weight: 1 top:") + step("b", "a")
    net = load_text(text)
    assert early_strides(text, net).text == text


def test_layers_in_a_list_cannot_be_changed():
    text = IMAGE + "layer: [" + ", ".join(
        one.removeprefix("layer ") for one in (wide("a", "data") + step("b", "a")).splitlines()
    ) + "]"  # fmt: skip
    with pytest.raises(RootgenError, match="stand in a list"):
        early_strides(text, load_text(text))


def any_net(chance):
    """A net of layers that read what there is: some sums, some steps, any size."""
    shapes = {"data": (chance.randint(9, 24), chance.randint(9, 24))}
    text = data(1, 4, *shapes["data"])
    for number in range(chance.randint(4, 12)):
        name = f"n{number}"
        bottom = chance.choice(list(shapes)[-3:])
        height, width = shapes[bottom]
        alike = [other for other, shape in shapes.items() if shape == shapes[bottom] and other != bottom]
        kind = chance.choice(["wide", "step", "sum", "value", "join"])
        if kind == "wide" and min(height, width) > 3:
            stride = chance.choice([1, 1, 2])
            text += wide(name, bottom, f"stride: {stride}")
        elif kind == "step":
            stride = chance.choice([1, 2, 2, 3])
            text += step(name, bottom, f"stride: {stride}" if stride > 1 else "")
        elif kind == "sum" and alike:
            stride = 1
            text += layer("Eltwise", name, f"{bottom} {chance.choice(alike)}")
        elif kind == "join" and alike:
            stride = 1
            text += layer("Concat", f"{name}c", f"{bottom} {chance.choice(alike)}") + step(name, f"{name}c", "")
        else:
            stride = 1
            text += layer(chance.choice(["TanH", "ReLU", "Bias"]), name, bottom)
        shapes[name] = ((height - 1) // stride + 1, (width - 1) // stride + 1)
    return text


def test_any_net():
    chance, found = random.Random(0), 0
    for _ in range(150):
        found += bool(moved(any_net(chance)).strides)
    assert found > 25
