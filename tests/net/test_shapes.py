"""Blob shapes: every layer type of Caffe 1.0, sizes against counting windows one by one, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.net import read as net
from rootgen.net import shapes
from rootgen.net.graph import LayerShapes
from rootgen.net.layers.registry import TYPES
from rootgen.proto import schema
from rootgen.text import parse_shape

IMAGE = (2, 8, 9, 10)


def net_of_one(body: str, *bottoms: tuple[int, ...], tops: int = 1) -> str:
    """A net of one layer, `body` its type and parameters, on Input blobs of the given shapes."""
    text = ""
    for i, shape in enumerate(bottoms):
        dims = " ".join(f"dim: {dim}" for dim in shape)
        text += f"layer {{ name: 'in{i}' type: 'Input' top: 'b{i}' input_param {{ shape {{ {dims} }} }} }}\n"
    wires = " ".join([f"bottom: 'b{i}'" for i in range(len(bottoms))] + [f"top: 't{i}'" for i in range(tops)])
    return f"{text}layer {{ name: 'it' {wires} {body} }}"


def infer_one(body: str, *bottoms: tuple[int, ...], tops: int = 1, **options) -> LayerShapes:
    """Shapes of the layer that `net_of_one` is about."""
    return shapes.infer(net.parse(net_of_one(body, *bottoms, tops=tops), "TRAIN"), **options).layers[-1].shapes


def conv(fields: str, kind: str = "Convolution", outer: str = "") -> str:
    return f"type: '{kind}' {outer} convolution_param {{ {fields} }}"


def pool(fields: str) -> str:
    return f"type: 'Pooling' pooling_param {{ {fields} }}"


SAME = [
    "AbsVal",
    "BNLL",
    "Dropout",
    "ELU",
    "Exp",
    "Log",
    "Power",
    "ReLU",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
    "Softmax",
    "MVN",
    "LRN",
]

CASES = {
    **{name: (f"type: '{name}'", [IMAGE], [IMAGE], []) for name in SAME},
    "Clip": ("type: 'Clip' clip_param { min: 0 max: 1 }", [IMAGE], [IMAGE], []),
    "PReLU": ("type: 'PReLU'", [IMAGE], [IMAGE], [(8,)]),
    "PReLU shared": ("type: 'PReLU' prelu_param { channel_shared: true }", [IMAGE], [IMAGE], [()]),
    "BatchNorm": ("type: 'BatchNorm'", [IMAGE], [IMAGE], [(8,), (8,), (1,)]),
    "Scale": ("type: 'Scale'", [IMAGE], [IMAGE], [(8,)]),
    "Scale bias": ("type: 'Scale' scale_param { bias_term: true }", [IMAGE], [IMAGE], [(8,), (8,)]),
    "Scale axes": ("type: 'Scale' scale_param { axis: -2 num_axes: -1 }", [IMAGE], [IMAGE], [(9, 10)]),
    "Scale scalar": ("type: 'Scale' scale_param { num_axes: 0 }", [IMAGE], [IMAGE], [()]),
    "Scale by bottom": ("type: 'Scale' scale_param { axis: 0 }", [IMAGE, (2, 8)], [IMAGE], []),
    "Scale by bottom, bias": (
        "type: 'Scale' scale_param { axis: 0 bias_term: true }",
        [IMAGE, (2, 8)],
        [IMAGE],
        [(2, 8)],
    ),
    "Bias": ("type: 'Bias'", [IMAGE], [IMAGE], [(8,)]),
    "Bias by bottom": ("type: 'Bias'", [IMAGE, (8, 9)], [IMAGE], []),
    "Convolution": (conv("num_output: 6 kernel_size: 3"), [IMAGE], [(2, 6, 7, 8)], [(6, 8, 3, 3), (6,)]),
    "Convolution group": (
        conv("num_output: 6 kernel_size: 3 group: 2 pad: 1 stride: 2 bias_term: false"),
        [IMAGE],
        [(2, 6, 5, 5)],
        [(6, 4, 3, 3)],
    ),
    "Convolution h w": (
        conv("num_output: 1 kernel_h: 3 kernel_w: 5 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 2"),
        [IMAGE],
        [(2, 1, 7, 5)],
        [(1, 8, 3, 5), (1,)],
    ),
    "Convolution dilated": (
        conv("num_output: 1 kernel_size: 3 dilation: 2"),
        [IMAGE],
        [(2, 1, 5, 6)],
        [(1, 8, 3, 3), (1,)],
    ),
    "Convolution 1-D": (conv("num_output: 4 kernel_size: 3"), [(2, 8, 9)], [(2, 4, 7)], [(4, 8, 3), (4,)]),
    "Convolution 3-D": (
        conv("num_output: 4 kernel_size: 3 kernel_size: 1 kernel_size: 2 pad: 1"),
        [(2, 8, 9, 10, 11)],
        [(2, 4, 9, 12, 12)],
        [(4, 8, 3, 1, 2), (4,)],
    ),
    "Convolution no axis left": (
        conv("num_output: 4 kernel_size: 1"),
        [(2, 8)],
        [(2, 4)],
        [(4, 8), (4,)],
    ),
    "Convolution axis": (
        conv("num_output: 4 kernel_size: 3 axis: -2"),
        [IMAGE],
        [(2, 8, 4, 8)],
        [(4, 9, 3), (4,)],
    ),
    "Deconvolution": (
        conv("num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 2", "Deconvolution"),
        [IMAGE],
        [(2, 6, 18, 20)],
        [(8, 3, 4, 4), (6,)],
    ),
    "Im2col": (conv("kernel_size: 3 stride: 2", "Im2col"), [IMAGE], [(2, 72, 4, 4)], []),
    "Pooling": (pool("kernel_size: 3 stride: 2"), [IMAGE], [(2, 8, 4, 5)], []),
    "Pooling floor": (pool("kernel_size: 3 stride: 2 round_mode: FLOOR"), [IMAGE], [(2, 8, 4, 4)], []),
    "Pooling padded": (pool("kernel_size: 3 stride: 3 pad: 1"), [(1, 1, 6, 7)], [(1, 1, 3, 3)], []),
    "Pooling last window dropped": (pool("kernel_size: 2 stride: 2 pad: 1"), [(1, 1, 5, 6)], [(1, 1, 3, 4)], []),
    "Pooling smaller than its kernel": (pool("kernel_size: 3 stride: 2"), [(1, 1, 2, 2)], [(1, 1, 1, 1)], []),
    "Pooling global": (pool("pool: AVE global_pooling: true"), [IMAGE], [(2, 8, 1, 1)], []),
    "Pooling h w": (
        pool("kernel_h: 2 kernel_w: 5 stride_h: 2 stride_w: 5 pad_h: 0 pad_w: 0"),
        [IMAGE],
        [(2, 8, 5, 2)],
        [],
    ),
    "SPP": ("type: 'SPP' spp_param { pyramid_height: 3 }", [IMAGE], [(2, 8 * (1 + 4 + 16))], []),
    "SPP 1": ("type: 'SPP' spp_param { pyramid_height: 1 }", [IMAGE], [(2, 8, 1, 1)], []),
    "Crop": ("type: 'Crop' crop_param { offset: 2 }", [IMAGE, (1, 1, 5, 6)], [(2, 8, 5, 6)], []),
    "InnerProduct": (
        "type: 'InnerProduct' inner_product_param { num_output: 5 }",
        [IMAGE],
        [(2, 5)],
        [(5, 720), (5,)],
    ),
    "InnerProduct axis": (
        "type: 'InnerProduct' inner_product_param { num_output: 5 axis: -1 transpose: true bias_term: false }",
        [IMAGE],
        [(2, 8, 9, 5)],
        [(10, 5)],
    ),
    "Embed": (
        "type: 'Embed' embed_param { num_output: 5 input_dim: 100 }",
        [(2, 3)],
        [(2, 3, 5)],
        [(100, 5), (5,)],
    ),
    "Eltwise": ("type: 'Eltwise'", [IMAGE, IMAGE], [IMAGE], []),
    "Concat": ("type: 'Concat'", [IMAGE, (2, 3, 9, 10)], [(2, 11, 9, 10)], []),
    "Concat dim": ("type: 'Concat' concat_param { concat_dim: 0 }", [IMAGE, IMAGE], [(4, 8, 9, 10)], []),
    "Slice": ("type: 'Slice'", [IMAGE], [(2, 4, 9, 10)] * 2, []),
    "Slice points": (
        "type: 'Slice' slice_param { axis: -1 slice_point: 1 slice_point: 4 }",
        [(2, 10)],
        [(2, 1), (2, 3), (2, 6)],
        [],
    ),
    "Split": ("type: 'Split'", [IMAGE], [IMAGE, IMAGE], []),
    "Silence": ("type: 'Silence'", [IMAGE], [], []),
    "HDF5Output": ("type: 'HDF5Output'", [IMAGE, (2,)], [], []),
    "Reshape": ("type: 'Reshape' reshape_param { shape { dim: 0 dim: -1 dim: 10 } }", [IMAGE], [(2, 72, 10)], []),
    "Reshape part": (
        "type: 'Reshape' reshape_param { shape { dim: 3 dim: 3 } axis: 2 num_axes: 1 }",
        [IMAGE],
        [(2, 8, 3, 3, 10)],
        [],
    ),
    "Reshape insert": ("type: 'Reshape' reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }", [(4,)], [(4, 1)], []),
    "Flatten": ("type: 'Flatten'", [IMAGE], [(2, 720)], []),
    "Flatten part": ("type: 'Flatten' flatten_param { axis: 0 end_axis: 1 }", [IMAGE], [(16, 9, 10)], []),
    "Tile": ("type: 'Tile' tile_param { axis: 2 tiles: 3 }", [IMAGE], [(2, 8, 27, 10)], []),
    "Reduction": ("type: 'Reduction'", [IMAGE], [()], []),
    "Reduction axis": ("type: 'Reduction' reduction_param { axis: 2 }", [IMAGE], [(2, 8)], []),
    "ArgMax": ("type: 'ArgMax' argmax_param { top_k: 5 }", [IMAGE], [(2, 1, 5, 1)], []),
    "ArgMax value": ("type: 'ArgMax' argmax_param { out_max_val: true }", [(2, 8)], [(2, 2, 1)], []),
    "ArgMax axis": ("type: 'ArgMax' argmax_param { axis: 1 top_k: 3 }", [IMAGE], [(2, 3, 9, 10)], []),
    "BatchReindex": ("type: 'BatchReindex'", [IMAGE, (7,)], [(7, 8, 9, 10)], []),
    "Filter": ("type: 'Filter'", [IMAGE, (2, 3), (2, 1)], [IMAGE, (2, 3)], []),
    "SoftmaxWithLoss": ("type: 'SoftmaxWithLoss'", [(2, 8), (2,)], [()], []),
    "SoftmaxWithLoss per pixel": ("type: 'SoftmaxWithLoss'", [IMAGE, (2, 1, 9, 10)], [()], []),
    "SoftmaxWithLoss no top": ("type: 'SoftmaxWithLoss'", [(2, 8), (2,)], [], []),
    "InfogainLoss": ("type: 'InfogainLoss'", [(2, 8), (2,), (1, 1, 8, 8)], [()], []),
    "EuclideanLoss": ("type: 'EuclideanLoss'", [IMAGE, (2, 720)], [()], []),
    "SigmoidCrossEntropyLoss": ("type: 'SigmoidCrossEntropyLoss'", [IMAGE, IMAGE], [()], []),
    "HingeLoss": ("type: 'HingeLoss'", [(2, 8), (2,)], [()], []),
    "MultinomialLogisticLoss": ("type: 'MultinomialLogisticLoss'", [(2, 8), (2,)], [()], []),
    "ContrastiveLoss": ("type: 'ContrastiveLoss'", [(2, 8), (2, 8), (2,)], [()], []),
    "Accuracy": ("type: 'Accuracy'", [(2, 8), (2,)], [()], []),
    "Accuracy per class": ("type: 'Accuracy' accuracy_param { top_k: 5 }", [(2, 8), (2,)], [(), (8,)], []),
    "RNN": (
        "type: 'RNN' recurrent_param { num_output: 5 }",
        [(4, 2, 7), (4, 2)],
        [(4, 2, 5)],
        [(5, 7), (5,), (5, 5), (5, 5), (5,)],
    ),
    "LSTM": (
        "type: 'LSTM' recurrent_param { num_output: 5 }",
        [(4, 2, 7), (4, 2)],
        [(4, 2, 5)],
        [(20, 7), (20,), (20, 5)],
    ),
    "LSTM static input, hidden states": (
        "type: 'LSTM' recurrent_param { num_output: 5 expose_hidden: true }",
        [(4, 2, 7), (4, 2), (2, 3), (1, 2, 5), (1, 2, 5)],
        [(4, 2, 5), (1, 2, 5), (1, 2, 5)],
        [(20, 7), (20,), (20, 3), (20, 5)],
    ),
    "LSTMUnit": ("type: 'LSTMUnit'", [(1, 2, 5), (1, 2, 20), (1, 2)], [(1, 2, 5)] * 2, []),
    "Input": ("type: 'Input' input_param { shape { dim: 3 dim: 4 } }", [], [(3, 4)], []),
    "DummyData": (
        "type: 'DummyData' dummy_data_param { shape { dim: 3 } shape { dim: 4 dim: 1 } }",
        [],
        [(3,), (4, 1)],
        [],
    ),
    "DummyData old": (
        "type: 'DummyData' dummy_data_param { num: 3 num: 4 channels: 1 height: 2 width: 5 }",
        [],
        [(3, 1, 2, 5), (4, 1, 2, 5)],
        [],
    ),
    "MemoryData": (
        "type: 'MemoryData' memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }",
        [],
        [(2, 3, 4, 5), (2,)],
        [],
    ),
    "ImageData": (
        "type: 'ImageData' image_data_param { batch_size: 2 new_height: 8 new_width: 9 is_color: false }",
        [],
        [(2, 1, 8, 9), (2,)],
        [],
    ),
    "WindowData": (
        "type: 'WindowData' transform_param { crop_size: 7 } window_data_param { batch_size: 2 }",
        [],
        [(2, 3, 7, 7), (2,)],
        [],
    ),
    "Data": (
        "type: 'Data' transform_param { crop_size: 7 } data_param { batch_size: 2 source: 'absent' backend: LMDB }",
        [],
        [(2, 3, 7, 7), (2,)],
        [],
    ),
    "Parameter": (
        "type: 'Parameter' parameter_param { shape { dim: 3 dim: 4 } }",
        [],
        [(3, 4)],
        [(3, 4)],
    ),
}


@pytest.mark.parametrize(("body", "bottoms", "tops", "params"), CASES.values(), ids=CASES.keys())
def test_shapes_of_a_layer(body, bottoms, tops, params):
    found = infer_one(body, *bottoms, tops=len(tops))
    assert found.tops == tuple(tops)
    assert found.params == tuple(params)
    assert found.bottoms == tuple(bottoms)


PYCAFFE = """
import json, sys
from rootgen.caffe_build.prefix import import_path
import_path()
import caffe
for path in sys.argv[1:]:
    net = caffe.Net(path, caffe.TRAIN)
    tops = [list(net.blobs[name].shape) for name in net.blobs if name[0] == "t"]
    params = [list(blob.shape) for blob in net.params.get("it", [])]
    print(json.dumps([tops, params]), flush=True)
"""
NEED_FILES = {"Data", "ImageData", "WindowData", "HDF5Output"}


@pytest.mark.caffe
def test_shapes_of_a_layer_are_those_of_pycaffe(tmp_path):
    cases = {name: case for name, case in CASES.items() if case[0].split("'")[1] not in NEED_FILES}
    files = []
    for i, (body, bottoms, tops, _) in enumerate(cases.values()):
        files.append(tmp_path / f"{i}.prototxt")
        files[-1].write_text(net_of_one(body, *bottoms, tops=len(tops)))
    environment = os.environ | {"GLOG_minloglevel": "2", "PYTHONPATH": str(paths.PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", PYCAFFE, *map(str, files)], env=environment, capture_output=True, text=True, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (name, (_, _, tops, params)), (their_tops, their_params) in zip(cases.items(), found, strict=False):
        assert [tuple(shape) for shape in their_tops] == tops, name
        assert [tuple(shape) for shape in their_params] == params, name
    assert len(found) == len(cases), f"{list(cases)[len(found)]}: {done.stderr[-600:]}"


def test_every_type_of_caffe_has_a_rule_and_a_case():
    assert {name for name, entry in TYPES.items() if not entry.shapes} == {"Python"}
    shown = {body.split("'")[1] for body, *_ in CASES.values()}
    assert shown == {name for name, entry in TYPES.items() if not entry.origin} - {"Python", "HDF5Data"}


def test_hdf5_data_takes_its_shape_from_the_caller():
    body = "type: 'HDF5Data' hdf5_data_param { source: 'x' batch_size: 10 }"
    assert infer_one(body, tops=2, input_shape=(1, 2, 4)).tops == ((10, 1, 2, 4), (10,))
    assert infer_one(body, tops=2, given={"t0": (10, 4), "t1": (10,)}).tops == ((10, 4), (10,))
    with pytest.raises(RootgenError, match="cannot be known: it stands in the HDF5 files alone"):
        infer_one(body)


WINDOW = st.tuples(st.integers(1, 30), st.integers(1, 7), st.integers(1, 5), st.integers(0, 6), st.integers(1, 3))


@given(WINDOW)
def test_convolution_counts_the_windows_that_fit(window):
    length, kernel, stride, pad, dilation = window
    reach = dilation * (kernel - 1)
    starts = range(-pad, length + pad, stride)
    fitting = [s for s in starts if s + reach < length + pad]
    body = conv(f"num_output: 1 kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation}")
    if fitting:
        assert infer_one(body, (1, 1, length, length)).tops[0][2:] == (len(fitting),) * 2
    else:
        with pytest.raises(RootgenError, match="more than the padded input has"):
            infer_one(body, (1, 1, length, length))


@given(WINDOW)
def test_pooling_counts_windows_until_the_padded_image_is_covered(window):
    length, kernel, stride, pad, _ = window
    pad = min(pad, kernel - 1)
    count, start = 1, -pad
    while start + kernel < length + pad:  # the last window may hang over the end
        start += stride
        count += 1
    if pad and start >= length:  # ... but has to begin inside
        count -= 1
    if length + 2 * pad - kernel <= -stride:  # a kernel that dwarfs the image: Caffe's formula gives nothing
        count = 0
    body = pool(f"kernel_size: {kernel} stride: {stride} pad: {pad}")
    if count:
        assert infer_one(body, (1, 1, length, length)).tops[0][2:] == (count,) * 2
    else:
        with pytest.raises(RootgenError, match="each size has to be 1 or more"):
            infer_one(body, (1, 1, length, length))


@given(WINDOW)
def test_deconvolution_undoes_the_size_of_a_convolution(window):
    length, kernel, stride, pad, dilation = window
    fields = f"num_output: 1 kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation}"
    try:
        grown = infer_one(conv(fields, "Deconvolution"), (1, 1, length, length)).tops[0]
    except RootgenError:
        assert stride * (length - 1) + dilation * (kernel - 1) + 1 - 2 * pad < 1
    else:
        assert infer_one(conv(fields), grown).tops[0] == (1, 1, length, length)


REFUSED = [
    (conv("num_output: 8 kernel_size: 3 group: 3"), [IMAGE], "layer 'it': group 3 does not divide num_output 8"),
    (conv("num_output: 9 kernel_size: 3 group: 3"), [IMAGE], "group 3 does not divide the number of input channels, 8"),
    (conv("num_output: 8 kernel_size: 3 group: 0"), [IMAGE], "group is 0, but has to be 1 or more"),
    (conv("num_output: 8 kernel_size: 0"), [IMAGE], "kernel_size is 0, but has to be 1 or more"),
    (conv("num_output: 8 kernel_size: 3 stride: 0"), [IMAGE], "stride is 0, but has to be 1 or more"),
    (conv("num_output: 8 kernel_size: 3 dilation: 0"), [IMAGE], "dilation is 0, but has to be 1 or more"),
    (conv("num_output: 0 kernel_size: 3"), [IMAGE], "num_output is 0, but has to be 1 or more"),
    (conv("kernel_size: 3"), [IMAGE], "num_output is 0, but has to be 1 or more"),
    (conv("num_output: 2147483648 kernel_size: 1"), [IMAGE], "num_output is 2147483648, beyond Caffe's limit of"),
    (conv("num_output: 100000000 kernel_size: 1"), [IMAGE], "over Caffe's limit of 2147483647 values per blob"),
    (conv("num_output: 8"), [IMAGE], "has 0 kernel_size for 2 spatial axes"),
    (conv("num_output: 8 kernel_h: 3"), [IMAGE], "kernel_w is 0, but has to be 1 or more"),
    (conv("num_output: 8 kernel_size: 3 kernel_h: 3 kernel_w: 3"), [IMAGE], "has kernel_size beside kernel_h"),
    (conv("num_output: 8 kernel_h: 3 kernel_w: 3"), [(2, 8, 9)], "kernel_h and kernel_w are for 2 spatial axes"),
    (conv("num_output: 8 kernel_size: 3 axis: -5"), [IMAGE], r"axis -5 is out of range for a bottom of 4 axes"),
    (conv("num_output: 8 kernel_size: 11"), [IMAGE], r"spans 11 pixels, more than the padded input has \(9 \+ 2\*0\)"),
    (conv("num_output: 8 kernel_size: 3", "Im2col"), [(2,)], "axis 1 is out of range"),
    (pool("kernel_size: 0"), [IMAGE], "kernel_size is 0, but has to be 1 or more"),
    (pool("kernel_size: 2 stride: 0"), [IMAGE], "stride is 0, but has to be 1 or more"),
    (pool("kernel_size: 2 pad: 2"), [IMAGE], "pad 2 is not smaller than the kernel 2"),
    (pool("kernel_size: 2 pad: 1 pool: STOCHASTIC"), [IMAGE], "pad is for MAX and AVE pooling"),
    (pool("kernel_size: 2 kernel_h: 2 kernel_w: 2"), [IMAGE], "needs either kernel_size, or kernel_h and kernel_w"),
    (pool("kernel_h: 2"), [IMAGE], "needs either kernel_size, or kernel_h and kernel_w"),
    (pool("global_pooling: true kernel_size: 9"), [IMAGE], "has global_pooling and a kernel size"),
    (pool("global_pooling: true stride: 2"), [IMAGE], "global_pooling goes with stride 1 and pad 0"),
    (pool("kernel_size: 2"), [(2, 8, 9)], "takes a bottom of 4 axes"),
    (pool("kernel_size: 20"), [IMAGE], "would be 2x8x-10x-9"),
    ("type: 'BatchNorm'", [(5,)], "takes a bottom of 2 axes or more, not 5"),
    ("type: 'LRN' lrn_param { local_size: 4 }", [IMAGE], "local_size 4 is even"),
    ("type: 'LRN' lrn_param { local_size: 4294967295 }", [IMAGE], "local_size is 4294967295, beyond Caffe's limit"),
    ("type: 'SPP' spp_param { pyramid_height: 9 }", [IMAGE], "has more bins than its bottom"),
    ("type: 'SPP' spp_param { pyramid_height: 4000000000 }", [IMAGE], "beyond Caffe's limit"),
    ("type: 'InnerProduct'", [IMAGE], "num_output is 0"),
    ("type: 'InnerProduct' inner_product_param { num_output: 5 axis: 4 }", [IMAGE], "axis 4 is out of range"),
    ("type: 'Eltwise'", [IMAGE, (2, 8)], "bottom 'b0' is 2x8x9x10, but bottom 'b1' is 2x8"),
    ("type: 'Eltwise' eltwise_param { coeff: 1 }", [IMAGE, IMAGE], "has 1 coeff for 2 bottom"),
    ("type: 'Concat'", [IMAGE, (2, 8, 9, 9)], "bottom 'b1' is 2x8x9x9 .they may differ on axis 1 alone"),
    ("type: 'Slice' slice_param { axis: 2 slice_point: 9 }", [IMAGE], "has 1 slice_point for 1 top"),
    ("type: 'Reshape' reshape_param { shape { dim: -1 dim: -1 } }", [IMAGE], "has several dims of -1"),
    ("type: 'Reshape' reshape_param { shape { dim: 7 dim: -1 } }", [IMAGE], "do not divide by 7"),
    ("type: 'Reshape' reshape_param { shape { dim: 7 } }", [IMAGE], "would make 7, 7 values, of 2x8x9x10"),
    ("type: 'Flatten' flatten_param { axis: 2 end_axis: 1 }", [IMAGE], "end_axis 1 comes before axis 2"),
    ("type: 'Tile'", [IMAGE], "tiles is 0"),
    ("type: 'Scale' scale_param { num_axes: 4 }", [IMAGE], "go beyond its bottom 2x8x9x10"),
    ("type: 'Scale'", [IMAGE, (9,)], "bottom 'b1' of 9 does not fit 2x8x9x10 from axis 1 on"),
    ("type: 'SoftmaxWithLoss'", [(2, 8), (3,)], "differ in their first size"),
    ("type: 'SoftmaxWithLoss'", [IMAGE, (2,)], "has 2 labels .2., but predictions of 2x8x9x10 .* need 180"),
    ("type: 'Accuracy' accuracy_param { top_k: 9 }", [(2, 8), (2,)], "top_k 9 is more than the 8 classes"),
    ("type: 'ReLU' param { lr_mult: 1 }", [IMAGE], "has 1 param, but a ReLU layer like this has 0 blobs"),
    ("type: 'Python'", [IMAGE], "cannot be known: a Python layer tells it only when it runs"),
    ("type: 'Input'", [], "cannot be known: it gives no shape .say it with --input CxHxW"),
    ("type: 'Input' input_param { shape { dim: 0 } }", [], "would be 0 .each size has to be 1 or more"),
    ("type: 'Input' input_param { shape { dim: 99999 dim: 99999 } }", [], "over Caffe's limit"),
    ("type: 'Data' data_param { source: 'no' batch_size: 2 backend: LMDB }", [], "'no' is not here and it has no crop"),
    ("type: 'Data' transform_param { crop_size: 9 } data_param { source: 'no' }", [], "batch_size is 0"),
]


@pytest.mark.parametrize(("body", "bottoms", "message"), REFUSED, ids=[case[2][:40] for case in REFUSED])
def test_bad_values_are_refused(body, bottoms, message):
    with pytest.raises(RootgenError, match=message) as caught:
        infer_one(body, *bottoms)
    assert f"<text>:{len(bottoms) + 1}: layer 'it': " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_in_place_and_repeated_bottoms():
    text = """
    layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
    layer { name: 'c' type: 'Convolution' bottom: 'd' bottom: 'd' top: 'x' top: 'y'
            convolution_param { num_output: 5 kernel_size: 1 } }
    layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'x' }
    """
    found = shapes.infer(net.parse(text))
    assert found.blobs == {"d": (2, 3, 4, 4), "x": (2, 5, 4, 4), "y": (2, 5, 4, 4)}
    assert found.notes == ()


def test_shared_blobs_have_to_agree():
    def two(second: str) -> str:
        fields = "param { name: 'w' } inner_product_param { num_output: %s bias_term: false }"
        return (
            "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 2 dim: 3 } } }\n"
            f"layer {{ name: 'a' type: 'InnerProduct' bottom: 'd' top: 'a' {fields % 4} }}\n"
            f"layer {{ name: 'b' type: 'InnerProduct' bottom: 'd' top: 'b' {fields % second} }}\n"
        )

    shapes.infer(net.parse(two("4")))
    with pytest.raises(RootgenError, match="layer 'b': shares blob 'w' with layer 'a', but here it is 5x3, there 4x3"):
        shapes.infer(net.parse(two("5")))


def test_multipliers_of_shared_blobs_have_to_agree_where_both_are_given():
    def three(*multipliers: str) -> str:
        head = "layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 2 dim: 3 } } }\n"
        return head + "".join(
            f"layer {{ name: '{name}' type: 'InnerProduct' bottom: 'd' top: '{name}' param {{ name: 'w' {fields} }} "
            "inner_product_param { num_output: 4 bias_term: false } }\n"
            for name, fields in zip("abc", multipliers, strict=True)
        )

    for alike in (("", "lr_mult: 2", "lr_mult: 2"), ("lr_mult: 2", "", "decay_mult: 0"), ("decay_mult: 0", "", "")):
        shapes.infer(net.parse(three(*alike)))
    with pytest.raises(RootgenError, match="'c': shares blob 'w' with layer 'b', but here lr_mult is 1, there 2 "):
        shapes.infer(net.parse(three("", "lr_mult: 2", "lr_mult: 1")))
    with pytest.raises(RootgenError, match="'c': shares blob 'w' with layer 'a', but here decay_mult is 1, there 0 "):
        shapes.infer(net.parse(three("decay_mult: 0", "", "decay_mult: 1")))


UNKNOWN = """
layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: 'p' type: 'Riddle' bottom: 'd' top: 'p' }
layer { name: 'c' type: 'Convolution' bottom: 'p' top: 'c' convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: 'r' type: 'ReLU' bottom: 'd' top: 'r' }
"""


def test_what_hangs_on_an_unknown_layer_is_passed_over_and_named():
    graph = net.parse(UNKNOWN, allow_unknown=True)
    found = shapes.infer(graph, partial=True)
    assert [layer.shapes.known for layer in found.layers] == [True, False, False, True]
    assert set(found.blobs) == {"d", "r"}
    assert found.notes == ("<text>: shapes not known of 2 layers: 'p' (Riddle), 'c' (Convolution)",)
    with pytest.raises(RootgenError, match="a Riddle layer tells it only when it runs"):
        shapes.infer(graph)


def test_a_misspelt_type_is_noted_and_a_forks_is_not():
    text = """layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
        layer { name: "c" type: "Convolutoin" bottom: "d" top: "c" }
        layer { name: "r" type: "relu" bottom: "d" top: "r" }
        layer { name: "p" type: "Riddle" bottom: "d" top: "p" }"""
    _, *notes = shapes.infer(net.parse(text, allow_unknown=True), partial=True).notes
    assert notes == [
        "<text>: Caffe has no layer type 'Convolutoin' (did you mean 'Convolution'?)",
        "<text>: Caffe has no layer type 'relu' (did you mean 'ReLU'?)",
    ]


def test_the_input_said_fills_in_for_a_python_layer_that_reads_the_data():
    text = "layer { name: 'py' type: 'Python' top: 'data' top: 'info' }\n"
    text += "layer { name: 'r' type: 'ReLU' bottom: 'data' top: 'r' }\n"
    found = shapes.infer(net.parse(text), input_shape=(3, 8, 9), partial=True)
    assert found.blobs == {"data": (1, 3, 8, 9), "r": (1, 3, 8, 9)}


def test_given_shapes_fill_the_gap():
    graph = net.parse(UNKNOWN, allow_unknown=True)
    found = shapes.infer(graph, given={"p": (2, 4, 4, 3)})
    assert found.blobs["c"] == (2, 4, 4, 3)
    with pytest.raises(RootgenError, match=r"no blob 'q' in this net"):
        shapes.infer(graph, given={"q": (1,)})
    with pytest.raises(RootgenError, match=r"layer 'r': top 'r' is 2x3x4x4, not 1 as given"):
        shapes.infer(graph, given={"p": (2, 4, 4, 3), "r": (1,)})


def test_input_and_batch_replace_what_the_net_says():
    text = "layer { name: 'd' type: 'Input' top: 'd' top: 'info' input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } \
            shape { dim: 1 dim: 3 } } }"
    assert shapes.infer(net.parse(text), input_shape=(1, 8, 9), batch=5).blobs == {"d": (5, 1, 8, 9), "info": (5, 3)}


def data_layer(source: str, fields: str = "") -> str:
    return (
        "layer { name: 'data' type: 'Data' top: 'data' top: 'label' "
        f"transform_param {{ {fields} }} data_param {{ source: '{source}' batch_size: 4 backend: LMDB }} }}"
    )


@pytest.fixture
def database(tmp_path):
    """An LMDB of one grey 6x5 image."""
    path = tmp_path / "lmdb"
    datum = schema.Datum(channels=1, height=6, width=5, data=bytes(30), label=3)
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as writer:
        writer.put(b"00000000", datum.SerializeToString())
    return str(path)


def test_data_layers_look_into_their_lmdb(database):
    assert shapes.infer(net.parse(data_layer(database))).blobs == {"data": (4, 1, 6, 5), "label": (4,)}
    cropped = shapes.infer(net.parse(data_layer(database, "crop_size: 5")))
    assert (cropped.blobs["data"], cropped.notes) == ((4, 1, 5, 5), ())
    with pytest.raises(RootgenError, match="crop_size 6 is larger than the images, 1x6x5"):
        shapes.infer(net.parse(data_layer(database, "crop_size: 6")))


@pytest.mark.parametrize(
    ("fields", "channels", "note"),
    [
        ("crop_size: 7", 3, "'absent' is not here: 3 channels assumed"),
        ("crop_size: 7 mean_value: 1 mean_value: 2", 2, "2 channels assumed, one per mean_value"),
        ("crop_size: 7 mean_value: 1", 3, "3 channels assumed"),
        ("crop_size: 7 force_gray: true", 1, "1 channels assumed by force_gray"),
    ],
)
def test_without_the_data_what_is_assumed_is_noted(fields, channels, note):
    found = shapes.infer(net.parse(data_layer("absent", fields)))
    assert found.blobs["data"] == (4, channels, 7, 7)
    assert len(found.notes) == 1
    assert note in found.notes[0]
    said = shapes.infer(net.parse(data_layer("absent", fields)), input_shape=(5, 3, 2))
    assert (said.blobs["data"], said.notes) == ((4, 5, 3, 2), ())


def test_the_mean_file_tells_the_size_of_the_images(tmp_path):
    mean = schema.BlobProto(num=1, channels=2, height=9, width=8, data=[0.0] * 144)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(mean.SerializeToString())
    found = shapes.infer(net.parse(data_layer("absent", f"mean_file: '{path}'")))
    assert found.blobs["data"] == (4, 2, 9, 8)
    assert "2x9x8 assumed, as its mean file" in found.notes[0]


def test_empty_and_broken_databases_are_refused(tmp_path):
    path = tmp_path / "lmdb"
    lmdb.open(str(path), map_size=2**20).close()
    with pytest.raises(RootgenError, match=r"layer 'data': .*lmdb: the database is empty"):
        shapes.infer(net.parse(data_layer(str(path))))
    (path / "data.mdb").write_bytes(b"rubbish" * 1000)
    with pytest.raises(RootgenError, match=r"layer 'data': .*lmdb: not an LMDB, or a damaged one"):
        shapes.infer(net.parse(data_layer(str(path))))


def test_parse_shape():
    assert parse_shape("3x224X224") == (3, 224, 224)
    for word in ("", "3x", "x3", "3x-1", "0x3", "3x9999999999", "axb", "3 x 3", "²"):
        with pytest.raises(RootgenError, match="is no shape"):
            parse_shape(word)
    with pytest.raises(RootgenError, match="'3x4' has 2 sizes, not 3"):
        parse_shape("3x4", 3)


@pytest.mark.parametrize(
    "body",
    [
        "type: 'Data' data_param { source: 'x' }",
        "type: 'ImageData' image_data_param { source: 'x' }",
        "type: 'WindowData' window_data_param { source: 'x' }",
        "type: 'MemoryData'",
        "type: 'HDF5Data'",
    ],
)
def test_data_without_a_batch_size_where_the_image_is_given(body):
    graph = net.parse(f"layer {{ name: 'd' {body} top: 'x' top: 'y' }}")
    assert shapes.infer(graph, input_shape=(3, 5, 6)).blobs["x"] == (1, 3, 5, 6)
    assert shapes.infer(graph, input_shape=(3, 5, 6), batch=4).blobs["x"] == (4, 3, 5, 6)
    with pytest.raises(RootgenError, match=r"batch_size is 0|no crop_size and no new_height"):  # ImageData's is 1
        shapes.infer(graph)
