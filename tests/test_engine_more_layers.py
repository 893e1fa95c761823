"""RNN, LSTM, LSTMUnit, Im2col, SPP, Filter, BatchReindex and InfogainLoss of the embedded engine, held against pycaffe.

Each blob whose gradient is wanted is the top of a Bias layer that covers all of it: the gradient of that layer's
blob is the blob's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from engine_nets import CPU, apply, input_layer, network, one_layer, torch

from rootgen import net as nets
from rootgen import paths
from rootgen.engine import blobs
from rootgen.engine.torch.network import Options, TorchNetwork
from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch

Inputs = dict[str, np.ndarray]


def learned(name: str, *dims: int) -> str:
    """An Input NAME_in and, plus a blob that is learned, its top NAME."""
    bias = f'layer {{ name: "{name}" type: "Bias" bottom: "{name}_in" top: "{name}" bias_param {{ axis: 0 num_axes: -1 }} }}\n'
    return input_layer(f"{name}_in", *dims) + bias


def squares(*names: str) -> str:
    """A loss of each blob: its sum of squares, the first weighing least."""
    return "".join(
        f'layer {{ name: "loss_{name}" type: "Reduction" bottom: "{name}" top: "loss_{name}" loss_weight: {0.5 + i} '
        "reduction_param { operation: SUMSQ axis: 0 } }\n"
        for i, name in enumerate(names)
    )


def layer(type_: str, bottoms: str, tops: str, fields: str = "") -> str:
    """The layer "it"."""
    named = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    return f'layer {{ name: "it" type: "{type_}" {" ".join(named)} {fields} }}\n'


def recurrent(fields: str) -> str:
    return f"recurrent_param {{ num_output: 3 {fields} }}"


FILLED = 'weight_filler { type: "uniform" min: -0.7 max: 0.7 } bias_filler { type: "uniform" min: -0.5 max: 0.5 }'
STEPS = learned("x", 4, 2, 2, 3) + input_layer("cont", 4, 2)
MAP = learned("x", 2, 3, 9, 10)
NETS = {
    "RNN": STEPS + layer("RNN", "x cont", "y", recurrent(FILLED)) + squares("y"),
    "RNN, a static input": STEPS + learned("s", 2, 5) + layer("RNN", "x cont s", "y", recurrent(FILLED)) + squares("y"),
    "RNN, hidden states": STEPS
    + learned("h0", 1, 2, 3)
    + layer("RNN", "x cont h0", "y h", recurrent(FILLED + " expose_hidden: true"))
    + squares("y", "h"),
    "LSTM": STEPS + layer("LSTM", "x cont", "y", recurrent(FILLED + " debug_info: true")) + squares("y"),
    "LSTM of one step": learned("x", 1, 2, 4)
    + input_layer("cont", 1, 2)
    + layer("LSTM", "x cont", "y", recurrent(FILLED))
    + squares("y"),
    "LSTM, a static input and hidden states": STEPS
    + learned("s", 2, 2, 2)
    + learned("h0", 1, 2, 3)
    + learned("c0", 1, 2, 3)
    + layer("LSTM", "x cont s h0 c0", "y h c", recurrent(FILLED + " expose_hidden: true"))
    + squares("y", "h", "c"),
    "LSTM upon LSTM, one weight shared": STEPS.replace("dim: 2 dim: 3", "dim: 3")
    + layer("LSTM", "x cont", "z", recurrent(FILLED) + ' param { name: "w" }').replace('"it"', '"first"')
    + layer("LSTM", "z cont", "y", recurrent(FILLED) + ' param { name: "w" }')
    + squares("y"),
    "LSTMUnit": learned("x", 1, 3, 2)
    + learned("gates", 1, 3, 8)
    + input_layer("cont", 1, 3)
    + layer("LSTMUnit", "x gates cont", "c h")
    + squares("c", "h"),
    "Im2col": MAP + layer("Im2col", "x", "y", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }") + squares("y"),
    "Im2col, dilated, not square": MAP
    + layer(
        "Im2col",
        "x",
        "y",
        "convolution_param { kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 0 dilation: 2 dilation: 3 }",
    )
    + squares("y"),
    "Im2col by the general code": MAP
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 2 dilation: 3 pad: 1 force_nd_im2col: true }")
    + squares("y"),
    "Im2col along a line": learned("x", 2, 3, 9)
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 3 pad: 2 dilation: 2 }")
    + squares("y"),
    "Im2col of volumes": learned("x", 2, 2, 4, 5, 6)
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 2 kernel_size: 3 kernel_size: 1 stride: 2 pad: 1 }")
    + squares("y"),
    "Im2col, channels on axis 2": learned("x", 2, 3, 2, 5, 6)
    + layer("Im2col", "x", "y", "convolution_param { axis: -3 kernel_size: 3 }")
    + squares("y"),
    **{
        f"SPP {method} of {height}, {h}x{w}": learned("x", 2, 3, h, w)
        + layer("SPP", "x", "y", f"spp_param {{ pyramid_height: {height} pool: {method} }}")
        + squares("y")
        for method in ("MAX", "AVE")
        for height, h, w in ((1, 5, 7), (2, 3, 3), (3, 9, 10), (3, 10, 13), (4, 24, 16))
    },
    "Filter": learned("x", 5, 2, 3, 2)
    + learned("v", 5, 4)
    + input_layer("selector", 5, 1, 1)
    + layer("Filter", "x v selector", "y z")
    + squares("y", "z"),
    "Filter, and layers after it": learned("x", 5, 3, 6, 6)
    + input_layer("label", 5)
    + input_layer("selector", 5)
    + layer("Filter", "x label selector", "y few")
    + f"""layer {{ name: "conv" type: "Convolution" bottom: "y" top: "conv"
        convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }} }}
      layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }}
      layer {{ name: "pool" type: "Pooling" bottom: "bn" top: "pool" pooling_param {{ pool: AVE kernel_size: 2 }} }}
      layer {{ name: "flat" type: "Flatten" bottom: "pool" top: "flat" }}
      layer {{ name: "ip" type: "InnerProduct" bottom: "flat" top: "ip"
        inner_product_param {{ num_output: 6 {FILLED} }} }}
      layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "few" top: "loss" }}
      layer {{ name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "few" top: "accuracy" }}""",
    "BatchReindex": learned("x", 4, 2, 3)
    + input_layer("index", 7)
    + layer("BatchReindex", "x index", "y")
    + squares("y"),
    "InfogainLoss": learned("x", 4, 5)
    + input_layer("label", 4)
    + input_layer("matrix", 1, 1, 5, 5)
    + layer("InfogainLoss", "x label matrix", "loss p"),
    **{
        f"InfogainLoss {mode}": learned("x", 2, 3, 5, 2)
        + input_layer("label", 2, 3, 2)
        + input_layer("matrix", 5, 5)
        + layer(
            "InfogainLoss",
            "x label matrix",
            "loss p",
            f"""loss_weight: 0.7 infogain_loss_param {{ axis: 2 }}
            loss_param {{ ignore_label: 2 normalization: {mode} }}""",
        )
        for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")
    },
}
PASSES = 3
NO_GRADIENT = {"RNN, hidden states": {"h0"}, "LSTM, a static input and hidden states": {"h0", "c0"}}  # in Caffe


def inputs_of(net: TorchNetwork, random: np.random.Generator, *, whole: bool = False) -> Inputs:
    """A value for every input: sequences that begin and go on (with `whole` all begin), places, selections, labels."""
    values: Inputs = {}
    for feeder in net.feeders:
        (name,) = feeder.tops
        shape = net.blobs[name]
        if name == "cont":
            values[name] = (random.uniform(size=shape) < 0.7).astype(float)
            if whole:
                values[name][0] = 0
        elif name == "selector":
            values[name] = random.permutation(np.array([0.0, -2, 0, 1, 0.5])).reshape(shape)
        elif name in ("label", "index"):
            values[name] = random.integers(0, 4, shape).astype(float)
        else:
            values[name] = random.standard_normal(shape) * 1.5
    return values


def caffes(text: str, folder: Path, ours: TorchNetwork):
    """The net in pycaffe, with the learnable blobs of `ours`."""
    import caffe

    (folder / "net.prototxt").write_text(text, encoding="utf-8")
    theirs = caffe.Net(str(folder / "net.prototxt"), caffe.TRAIN)
    named = ours.named()
    assert {name: [tuple(b.shape) for b in found] for name, found in named.items()} == {
        name: [tuple(b.shape) for b in found] for name, found in theirs.params.items()
    }
    for name, found in named.items():
        for blob, tensor in zip(theirs.params[name], found, strict=True):
            blob.data[...] = tensor.detach().numpy()
    return theirs


def forward_and_backward(ours: TorchNetwork, theirs, inputs: Inputs) -> dict[str, np.ndarray]:
    """All blobs of a pass of ours; those of Caffe and its loss are the same."""
    theirs.clear_param_diffs()
    for name, values in inputs.items():
        theirs.blobs[name].data[...] = values
    loss_of_caffe = theirs._forward(0, len(theirs.layers) - 1)
    theirs._backward(len(theirs.layers) - 1, 0)
    for learnable in ours.learnable:
        learnable.blob.grad = None
    values, loss = ours.run(0, {name: array.astype(np.float32) for name, array in inputs.items()})
    loss.backward()
    found = {name: value.detach().numpy() for name, value in values.items()}
    for name, value in found.items():
        assert value.shape == theirs.blobs[name].data.shape, name
        np.testing.assert_allclose(value, theirs.blobs[name].data, rtol=2e-5, atol=2e-6, err_msg=name)
    assert loss.item() == pytest.approx(loss_of_caffe, rel=1e-5)
    return found


def gradients(net: TorchNetwork) -> dict[str, list[np.ndarray]]:
    """Layer name -> the gradients of its blobs."""
    return {
        name: [np.zeros(tuple(b.shape)) if b.grad is None else b.grad.numpy() for b in found]
        for name, found in net.named().items()
    }


def ready(text: str, **options) -> TorchNetwork:
    """The training net of `text`, its blobs awaiting gradients."""
    net = network(text, "TRAIN", **options)
    for learnable in net.learnable:
        learnable.blob.requires_grad_(learnable.lr_mult != 0)
    return net


@pytest.mark.caffe
@pytest.mark.parametrize("name", NETS)
def test_values_and_gradients_are_caffes(name, tmp_path):
    random = np.random.default_rng(len(name))
    ours = ready(NETS[name])
    theirs = caffes(NETS[name], tmp_path, ours)
    for _ in range(PASSES):  # the second and third go on from the hidden states of the ones before
        forward_and_backward(ours, theirs, inputs_of(ours, random))
        for layer_name, found in gradients(ours).items():
            for i, gradient in enumerate(found):
                wanted = theirs.params[layer_name][i].diff
                expected_zero = layer_name in NO_GRADIENT.get(name, ()) or layer_name == "bn"
                assert wanted.any() != expected_zero, layer_name
                np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=2e-5, err_msg=f"{layer_name}[{i}]")


@pytest.mark.caffe
@pytest.mark.parametrize("name", ["RNN", "LSTM", "LSTMUnit"])
def test_a_fractional_cont_has_caffes_gradient(name, tmp_path):
    ours = ready(NETS[name])
    theirs = caffes(NETS[name], tmp_path, ours)
    inputs = inputs_of(ours, np.random.default_rng(3))
    inputs["cont"] = np.random.default_rng(4).uniform(0.2, 0.8, inputs["cont"].shape)
    for _ in range(2):
        forward_and_backward(ours, theirs, inputs)
        for layer_name, found in gradients(ours).items():
            for gradient, blob in zip(found, theirs.params[layer_name], strict=True):
                np.testing.assert_allclose(gradient, blob.diff, rtol=1e-4, atol=1e-5, err_msg=layer_name)


def differences(net: TorchNetwork, inputs: Inputs, random: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """(blob, gradient, difference of the loss) at some places of every learned blob."""
    for learnable in net.learnable:
        blob = learnable.blob.detach()
        if learnable.blob.grad is None:
            continue
        for place in random.choice(blob.numel(), min(blob.numel(), 8), replace=False):
            index = np.unravel_index(place, tuple(blob.shape))
            kept, ends = blob[index].item(), []
            for value in (kept + 1e-6, kept - 1e-6):
                blob[index] = value
                with torch.no_grad():
                    ends.append(net.run(0, inputs)[1].item())
            blob[index] = kept
            yield learnable.name, learnable.blob.grad[index].item(), (ends[0] - ends[1]) / 2e-6


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_finite_differences(name):
    text = NETS[name]
    if name in NO_GRADIENT:  # those of the exposed states stop at the layer, so the loss may not hang on its tops
        text = text.replace("loss_weight: 1.5", "").replace("loss_weight: 2.5", "")
    random = np.random.default_rng(len(name))
    net = ready(text, dtype=torch.float64)
    inputs = inputs_of(net, random, whole=True)
    net.run(0, inputs)[1].backward()
    found = list(differences(net, inputs, random))
    assert {name for name, gradient, _ in found if gradient} == {
        learnable.name for learnable in net.learnable if learnable.name.split("[")[0] not in
        {*NO_GRADIENT.get(name, ()), "bn"}
    }  # fmt: skip
    for blob, gradient, difference in found:
        assert gradient == pytest.approx(difference, rel=1e-5, abs=1e-7), blob
