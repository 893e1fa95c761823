"""Layers as ONNX says them, run by ONNX Runtime, held against pycaffe: one small net with random weights per case.

Each goes the whole way, through a .caffemodel and a .onnx file, and is compared with the embedded engine on it.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx_nets import input_layer, layer, saved, shaped

from rootgen.engine import open_network
from rootgen.engine.onnx.compare import TOLERANCE, inputs_for, largest_difference
from rootgen.engine.onnx.export import export

pytestmark = [pytest.mark.caffe, pytest.mark.torch]

SEEN = [2, 3, 7, 9]  # the image of most cases


def one(kind: str, fields: str = "", *dims: int, tops: str = "y") -> str:
    """An Input x and one layer."""
    return input_layer("x", *(dims or SEEN)) + layer(kind, "x", tops, fields)


def two(kind: str, fields: str, first: list[int], second: list[int]) -> str:
    """A layer of two Inputs."""
    return input_layer("x", *first) + input_layer("z", *second) + layer(kind, "x z", "y", fields)


def pool(method: str, fields: str, *dims: int, tops: str = "y") -> str:
    return one("Pooling", f"pooling_param {{ pool: {method} {fields} }}", *dims, tops=tops)


# height and width of the image, fields: where the last window ends, what is dropped, and how the borders are divided
POOLINGS = {
    "2/2": ((8, 8), "kernel_size: 2 stride: 2"),
    "2/2 ceil": ((7, 9), "kernel_size: 2 stride: 2"),
    "2/2 floor": ((7, 9), "kernel_size: 2 stride: 2 round_mode: FLOOR"),
    "3/2 ceil": ((8, 10), "kernel_size: 3 stride: 2"),
    "3/2 of 112": ((112, 16), "kernel_size: 3 stride: 2"),
    "3/2 pad 1": ((8, 9), "kernel_size: 3 stride: 2 pad: 1"),
    "3/2 pad 1 floor": ((8, 9), "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR"),
    "3/1 pad 1": ((6, 5), "kernel_size: 3 stride: 1 pad: 1"),
    "5/3": ((14, 13), "kernel_size: 5 stride: 3"),
    "last window dropped": ((7, 9), "kernel_size: 2 stride: 2 pad: 1"),
    "last window dropped, 3/3": ((7, 10), "kernel_size: 3 stride: 3 pad: 2"),
    "pad over half the window": ((5, 6), "kernel_size: 3 stride: 1 pad: 2"),
    "stride over the window": ((10, 11), "kernel_size: 2 stride: 3"),
    "stride over the window, pad 1": ((10, 11), "kernel_size: 2 stride: 3 pad: 1"),
    "h and w apart": ((9, 12), "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0"),
    "pad in w alone, ceil in h": ((8, 9), "kernel_h: 3 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 1"),
    "window larger than the image": ((3, 3), "kernel_size: 4 stride: 2"),
    "window larger than the image, pad 1": ((1, 2), "kernel_size: 4 stride: 4 pad: 1"),
    "global": ((5, 6), "global_pooling: true"),
    "the whole map": ((6, 6), "kernel_size: 6"),
}
CASES: dict[str, str] = {
    f"{method} {name}": pool(method, fields, 2, 3, *size)
    for name, (size, fields) in POOLINGS.items()
    for method in ("MAX", "AVE")
}
CASES |= {
    "MAX of a window beyond the image": pool("MAX", "kernel_size: 2 stride: 4", 2, 3, 7, 7),
    "MAX and its mask": pool("MAX", "kernel_size: 3 stride: 2", tops="y m"),
    "MAX and its mask, pad 1": pool("MAX", "kernel_size: 3 stride: 2 pad: 1", tops="y m"),
    "global MAX and its mask": pool("MAX", "global_pooling: true", tops="y m"),
    "SPP": one("SPP", "spp_param { pyramid_height: 3 }", 2, 3, 9, 8),
    "SPP of averages": one("SPP", "spp_param { pyramid_height: 3 pool: AVE }", 2, 3, 9, 10),
    "SPP of one level": one("SPP", "spp_param { pyramid_height: 1 }"),
}


def conv(fields: str, *dims: int, kind: str = "Convolution") -> str:
    return one(kind, f"convolution_param {{ {fields} }}", *(dims or (2, 4, 7, 9)))


CASES |= {
    "Convolution": conv("num_output: 6 kernel_size: 3"),
    "Convolution stride 2 pad 1, no bias": conv("num_output: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false"),
    "Convolution in 2 groups": conv("num_output: 6 kernel_size: 3 pad: 1 group: 2"),
    "Convolution depthwise": conv("num_output: 4 kernel_size: 3 pad: 1 group: 4"),
    "Convolution depthwise, twice the channels": conv("num_output: 8 kernel_size: 3 pad: 1 group: 4"),
    "Convolution dilated": conv("num_output: 3 kernel_size: 3 dilation: 2 pad: 2"),
    "Convolution h and w apart": conv(
        "num_output: 3 kernel_h: 1 kernel_w: 5 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2"
    ),
    "Convolution 1x1": conv("num_output: 5 kernel_size: 1"),
    "Convolution over one axis": conv("num_output: 5 kernel_size: 3 pad: 1", 2, 4, 11),
    "Convolution over three axes": conv("num_output: 5 kernel_size: 3 pad: 1 stride: 2", 2, 4, 5, 6, 7),
    "Convolution of channels on axis 2": conv("num_output: 4 kernel_size: 3 axis: 2", 2, 3, 4, 9, 8),
    "Convolution of two bottoms": input_layer("x", 2, 4, 6, 6)
    + input_layer("z", 2, 4, 6, 6)
    + layer("Convolution", "x z", "y v", "convolution_param { num_output: 3 kernel_size: 3 }"),
    "Deconvolution": conv("num_output: 6 kernel_size: 4 stride: 2 pad: 1", kind="Deconvolution"),
    "Deconvolution in groups": conv("num_output: 6 kernel_size: 3 stride: 2 group: 2", kind="Deconvolution"),
    "Deconvolution depthwise, no bias": conv(
        "num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4 bias_term: false", kind="Deconvolution"
    ),
    "Deconvolution dilated": conv("num_output: 3 kernel_size: 3 dilation: 2", kind="Deconvolution"),
    "Im2col": conv("kernel_size: 3 stride: 2 pad: 1", kind="Im2col"),
    "Im2col dilated": conv("kernel_h: 2 kernel_w: 3 dilation: 2", kind="Im2col"),
    "Crop": two("Crop", "crop_param { offset: 1 offset: 2 }", [2, 3, 8, 9], [2, 3, 5, 6]),
    "Crop from axis 1, one offset": two("Crop", "crop_param { axis: 1 offset: 1 }", [2, 4, 8, 9], [2, 2, 5, 6]),
    "Crop to the same size": two("Crop", "", [2, 3, 5, 6], [2, 3, 5, 6]),
    "InnerProduct": one("InnerProduct", "inner_product_param { num_output: 5 }"),
    "InnerProduct of vectors": one("InnerProduct", "inner_product_param { num_output: 5 }", 3, 4),
    "InnerProduct transposed, no bias": one(
        "InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }"
    ),
    "InnerProduct from axis 2": one("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }"),
    "InnerProduct from axis -1": one("InnerProduct", "inner_product_param { num_output: 5 axis: -1 transpose: true }"),
    "Embed": one("Embed", "embed_param { num_output: 4 input_dim: 6 }", 5, 2),
    "Embed without bias": one("Embed", "embed_param { num_output: 4 input_dim: 6 bias_term: false }", 7),
    "Dropout in place": one("TanH") + layer("Dropout", "y", "y", name="drop"),
    "LRN across channels": one("LRN", "lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 2 }", 2, 7, 5, 4),
    "LRN within channels": one("LRN", "lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 norm_region: WITHIN_CHANNEL }"),
    "LRN within channels, wider than they are": one(
        "LRN", "lrn_param { local_size: 9 alpha: 2 norm_region: WITHIN_CHANNEL }", 2, 3, 4, 3
    ),
    "BatchNorm": one("BatchNorm", "batch_norm_param { eps: 0.01 }"),
    "BatchNorm of vectors": one("BatchNorm", "", 5, 4),
    "BatchNorm by the batch": one("BatchNorm", "batch_norm_param { use_global_stats: false eps: 0.01 }", 4, 3, 5, 6),
    "MVN": one("MVN"),
    "MVN across channels": one("MVN", "mvn_param { across_channels: true eps: 0.1 }"),
    "MVN of means alone": one("MVN", "mvn_param { normalize_variance: false }"),
    "BatchNorm, Scale and ReLU in place": conv("num_output: 6 kernel_size: 3 bias_term: false")
    + layer("BatchNorm", "y", "y", name="bn")
    + layer("Scale", "y", "y", "scale_param { bias_term: true }", name="scale")
    + layer("ReLU", "y", "y", name="relu"),
    "an input worked on in place": input_layer("x", *SEEN) + layer("ReLU", "x", "x", name="r") + layer("TanH"),
}
FUNCTIONS = {
    "ReLU": "",
    "ReLU leaking": "relu_param { negative_slope: 0.1 }",
    "PReLU": "",
    "PReLU shared": "prelu_param { channel_shared: true }",
    "ELU": "elu_param { alpha: 0.7 }",
    "Sigmoid": "",
    "TanH": "",
    "AbsVal": "",
    "BNLL": "",
    "Swish": "swish_param { beta: 1.5 }",
    "Clip": "clip_param { min: -0.5 max: 0.7 }",
    "Threshold": "threshold_param { threshold: 0.2 }",
    "Power": "power_param { scale: -0.5 shift: 0.3 }",
    "Power 2": "power_param { power: 2 scale: 2 shift: 1 }",
    "Power 0": "power_param { power: 0 }",
    "Power of a constant": "power_param { power: 2 scale: 0 shift: 3 }",
    "Exp": "",
    "Exp of base 2": "exp_param { base: 2 scale: 0.5 shift: -1 }",
    "Log of base 10": "log_param { base: 10 scale: 0 shift: 5 }",
}
CASES |= {name: one(name.split()[0], fields) for name, fields in FUNCTIONS.items()}
CASES |= {
    "Log": one("Exp") + layer("Log", "y", "z", "log_param { base: 2 scale: 3 shift: 1 }"),
    "PReLU of vectors": one("PReLU", "", 5, 4),
    "Scale": one("Scale", "scale_param { bias_term: true }"),
    "Scale of axes 1 and 2": one("Scale", "scale_param { axis: 1 num_axes: 2 bias_term: true }"),
    "Scale of all axes": one("Scale", "scale_param { axis: 0 num_axes: -1 }"),
    "Scale by one number": one("Scale", "scale_param { num_axes: 0 bias_term: true }"),
    "Scale by a bottom": two("Scale", "scale_param { axis: 0 }", [2, 3, 5, 4], [2, 3]),
    "Scale by a bottom, with bias": two("Scale", "scale_param { axis: 1 bias_term: true }", [2, 3, 5, 4], [3, 5]),
    "Bias": one("Bias", ""),
    "Bias of axis -1": one("Bias", "bias_param { axis: -1 }"),
    "Bias of a bottom": two("Bias", "bias_param { axis: 2 }", [2, 3, 5, 4], [5, 4]),
    "Eltwise SUM": two("Eltwise", "", SEEN, SEEN),
    "Eltwise SUM with coeff": two("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 }", SEEN, SEEN),
    "Eltwise PROD": two("Eltwise", "eltwise_param { operation: PROD }", SEEN, SEEN),
    "Eltwise MAX of three": two("AbsVal", "", SEEN, SEEN).replace('bottom: "z"', "")
    + layer("Eltwise", "x z y", "w", "eltwise_param { operation: MAX }"),
    "Concat": two("Concat", "", SEEN, [2, 5, 7, 9]),
    "Concat on axis 2 of one blob twice": one("TanH") + layer("Concat", "y x y", "w", "concat_param { axis: 2 }"),
    "Slice": one("Slice", "", 2, 6, 5, 4, tops="y w v"),
    "Slice at points of axis 2": one("Slice", "slice_param { axis: 2 slice_point: 1 slice_point: 3 }", tops="y w v"),
    "Split": one("Split", "", tops="y w"),
    "Flatten": one("Flatten"),
    "Flatten axes 2 to 3": one("Flatten", "flatten_param { axis: 2 end_axis: 3 }"),
    "Reshape": one("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 9 } }"),
    "Reshape of axes 1 and 2": one("Reshape", "reshape_param { axis: 1 num_axes: 2 shape { dim: 7 dim: 3 } }"),
    "Reshape that joins the batch": one("Reshape", "reshape_param { shape { dim: -1 dim: 9 } }"),
    "Tile": one("Tile", "tile_param { tiles: 3 axis: 2 }"),
    "Softmax": one("Softmax"),
    "Softmax on axis 2": one("Softmax", "softmax_param { axis: 2 }"),
    "Softmax on axis -1": one("Softmax", "softmax_param { axis: -1 }"),
    "ArgMax": one("ArgMax"),
    "ArgMax of equal values": one("ReLU") + layer("ArgMax", "y", "w", "argmax_param { axis: 1 }"),
    "ArgMax top 3 on axis 3": one("ArgMax", "argmax_param { axis: 3 top_k: 3 }"),
    "ArgMax top 2 with values": one("ArgMax", "argmax_param { top_k: 2 out_max_val: true }", 4, 6),
    "ArgMax values on axis 1": one("ArgMax", "argmax_param { axis: 1 out_max_val: true }"),
    "Reduction SUM": one("Reduction", "reduction_param { axis: 1 coeff: 0.5 }"),
    "Reduction ASUM": one("Reduction", "reduction_param { operation: ASUM axis: 2 }"),
    "Reduction SUMSQ": one("Reduction", "reduction_param { operation: SUMSQ axis: 0 coeff: 2 }"),
    "Reduction MEAN": one("Reduction", "reduction_param { operation: MEAN axis: -1 }"),
    "Silence": one("Slice", "", 2, 6, 5, 4, tops="y w") + layer("Silence", "w", "", name="hush"),
    "BatchReindex": two("BatchReindex", "", [4, 3, 5], [6]),
    "Filter": two("Filter", "", [5, 3, 4], [5])
    + layer("InnerProduct", "y", "w", "inner_product_param { num_output: 2 }"),
    "Parameter": one("TanH", "", 2, 3)
    + layer("Parameter", "", "p", "parameter_param { shape { dim: 2 dim: 3 } }")
    + layer("Eltwise", "y p", "w"),
    "DummyData": one("TanH", "", 2, 3)
    + layer("DummyData", "", "d", "dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 0.7 } }")
    + layer("Eltwise", "y d", "w"),
    "weights shared by name": input_layer("x", 2, 4)
    + layer("InnerProduct", "x", "y", 'inner_product_param { num_output: 4 } param { name: "w" } param { name: "b" }')
    + layer("InnerProduct", "y", "v", 'inner_product_param { num_output: 4 } param { name: "w" } param { name: "b" }'),
}
RECURRENT = "recurrent_param { num_output: 3 %s }"
CASES |= {
    "LSTM": two("LSTM", RECURRENT % "", [5, 2, 4], [5, 2]),
    "LSTM of more axes": two("LSTM", RECURRENT % "", [5, 2, 2, 3], [5, 2]),
    "LSTM, a static input": input_layer("x", 5, 2, 4)
    + input_layer("c", 5, 2)
    + input_layer("s", 2, 6)
    + layer("LSTM", "x c s", "y", RECURRENT % ""),
    "LSTM, hidden states": input_layer("x", 4, 2, 4)
    + input_layer("c", 4, 2)
    + input_layer("h0", 1, 2, 3)
    + input_layer("c0", 1, 2, 3)
    + layer("LSTM", "x c h0 c0", "y h1 c1", RECURRENT % "expose_hidden: true"),
    "RNN": two("RNN", RECURRENT % "", [5, 2, 4], [5, 2]),
    "RNN, hidden states and a static input": input_layer("x", 4, 2, 4)
    + input_layer("c", 4, 2)
    + input_layer("s", 2, 6)
    + input_layer("h0", 1, 2, 3)
    + layer("RNN", "x c s h0", "y h1", RECURRENT % "expose_hidden: true"),
    "LSTMUnit": input_layer("x", 1, 3, 2)
    + input_layer("g", 1, 3, 8)
    + input_layer("c", 1, 3)
    + layer("LSTMUnit", "x g c", "y h"),
}


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_gives_what_pycaffe_gives(name, tmp_path):
    prototxt, model = saved(tmp_path, CASES[name])
    net = shaped(CASES[name])
    done = export(net, model, tmp_path / "net.onnx")
    assert done.difference is None or done.difference.value <= TOLERANCE
    ours = open_network(tmp_path / "net.onnx", engine="onnx")
    learnt = any(layer.shapes.params for layer in net.layers)
    caffe = open_network(prototxt, weights=model if learnt else None, engine="caffe")
    inputs = inputs_for(net, seed=7)
    wanted = [blob for blob in net.outputs if blob in ours.outputs]
    assert wanted == list(ours.outputs) or "worked on in place" in name
    theirs = caffe.forward(wanted, inputs)
    mine = {blob: ours.forward([blob], {name: inputs[name] for name in ours.inputs})[blob] for blob in wanted}
    assert largest_difference(theirs, mine, name).value <= TOLERANCE
    assert any(np.abs(value).max() > 0 for value in theirs.values())


def scored(
    kind: str, fields: str = "", scores: tuple[int, ...] = (4, 5), labels: tuple[int, ...] = (4,), tops="l"
) -> str:
    """Scores that a layer makes, labels, and the loss of both."""
    made = input_layer("x", *scores) + layer("TanH", "x", "s") + input_layer("label", *labels)
    return made + layer(kind, "s label", tops, fields)


IGNORES = "loss_param { ignore_label: 1 }"
LOSSES = {
    "SoftmaxWithLoss": scored("SoftmaxWithLoss"),
    "SoftmaxWithLoss of pixels": scored("SoftmaxWithLoss", IGNORES, (2, 5, 3, 4), (2, 1, 3, 4)),
    "SoftmaxWithLoss and its probabilities": scored(
        "SoftmaxWithLoss", f"{IGNORES} loss_weight: 1 loss_weight: 0", (4, 5), (4,), "l p"
    ),
    "SoftmaxWithLoss, all count": scored(
        "SoftmaxWithLoss", "loss_param { ignore_label: 1 normalization: FULL }", (2, 5, 3), (2, 3)
    ),
    "SoftmaxWithLoss per image": scored("SoftmaxWithLoss", "loss_param { normalize: false }", (2, 5, 3), (2, 3)),
    "SoftmaxWithLoss, a sum": scored("SoftmaxWithLoss", "loss_param { normalization: NONE }"),
    "Accuracy": scored("Accuracy", "", (20, 5), (20,)),
    "Accuracy top 2 by class": scored("Accuracy", "accuracy_param { top_k: 2 }", (9, 5), (9,), "l c"),
    "Accuracy of pixels": scored("Accuracy", "accuracy_param { ignore_label: 2 }", (2, 5, 3, 4), (2, 3, 4), "l c"),
    "EuclideanLoss": scored("EuclideanLoss", "", (4, 5), (4, 5)),
    "SigmoidCrossEntropyLoss": scored("SigmoidCrossEntropyLoss", "", (4, 5), (4, 5)),
    "SigmoidCrossEntropyLoss, some ignored": scored(
        "SigmoidCrossEntropyLoss", "loss_param { ignore_label: 1 normalization: VALID }", (4, 5), (4, 5)
    ),
    "HingeLoss": scored("HingeLoss"),
    "HingeLoss of squares": scored("HingeLoss", "hinge_loss_param { norm: L2 }"),
    "MultinomialLogisticLoss": scored("MultinomialLogisticLoss"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_measures_are_pycaffes(name, tmp_path):
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(LOSSES[name])
    reference = "caffe" if "probabilities" not in name else "torch"  # Caffe has no words for two tops' weights
    ours, caffe = (open_network(prototxt, engine=engine) for engine in ("onnx", reference))
    random = np.random.default_rng(3)
    inputs = {"x": random.standard_normal(ours.blobs["x"], np.float32)}
    most = 5 if "ntropy" not in name else 2
    inputs["label"] = random.integers(0, most, ours.blobs["label"]).astype(np.float32)
    wanted = list(shaped(LOSSES[name]).outputs)
    assert ours.outputs == tuple(wanted)
    theirs, mine = caffe.forward([*wanted, "label"], inputs), ours.forward([*wanted, "label"], inputs)
    assert largest_difference(theirs, mine, name).value <= TOLERANCE
    assert theirs["l"] > 0


def test_the_cases_are_many_and_reach_every_type_that_onnx_can_say():
    from rootgen.engine.onnx.layers import WRITERS
    from rootgen.net.layers.registry import TYPES

    assert len(CASES) >= 60
    assert {one.type for text in (*CASES.values(), *LOSSES.values()) for one in shaped(text).layers} >= {
        name for name in WRITERS if not TYPES[name].origin
    }
