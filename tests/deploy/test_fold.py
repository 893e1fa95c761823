"""Folding: every arrangement of layers gives the outputs it gave; what cannot be folded is left, and said why."""

import numpy as np
import pytest

from rootgen import paths
from rootgen.deploy.check import largest_difference
from rootgen.deploy.fold import fold
from rootgen.errors import RootgenError
from rootgen.net.load import load_text

pytestmark = pytest.mark.torch
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 7 dim: 7 } } }\n'


ONE_BY_ONE = 'param { name: "w" } convolution_param { num_output: 6 kernel_size: 1 }'


def layer(kind, name, bottoms, top=None, more=""):
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name, bottom, more="", outputs=8):
    return layer(
        "Convolution", name, bottom, more=f"convolution_param {{ num_output: {outputs} kernel_size: 3 {more} }}"
    )


def blobs_of(net, seed=0):
    """Random blobs for every layer; BatchNorm's variances and their weight above zero."""
    random = np.random.default_rng(seed)
    found = {}
    for one in net.layers:
        values = [random.standard_normal(shape) for shape in one.shapes.params]
        if one.type == "BatchNorm":
            values = [values[0], np.abs(values[1]) + 0.1, np.array([2.5])]
        if values:
            found[one.name] = values
    return found


def folded(text):
    net = load_text(text)
    blobs = blobs_of(net)
    result = fold(text, net, blobs)
    after = load_text(result.text)
    assert net.outputs == after.outputs
    assert largest_difference(net, blobs, after, result.blobs) < 1e-9
    return result, after


BN = layer("BatchNorm", "bn", "c")
NORM = layer("BatchNorm", "bn", "c", "c") + layer("Scale", "sc", "c", "c", "scale_param { bias_term: true }")
RELU = layer("ReLU", "r", "c", "c")
GONE = {
    "in place": INPUT + conv("c", "data", "bias_term: false") + NORM + RELU,
    "not in place": INPUT + conv("c", "data") + BN + layer("Scale", "sc", "bn") + layer("ReLU", "r", "sc"),
    "eps": INPUT + conv("c", "data") + layer("BatchNorm", "bn", "c", more="batch_norm_param { eps: 0.3 }"),
    "scale before norm": INPUT
    + conv("c", "data")
    + layer("Scale", "sc", "c", "c")
    + layer("BatchNorm", "bn", "c", "c"),
    "bias layer": INPUT + conv("c", "data", "bias_term: false") + layer("Bias", "b", "c", "c") + RELU,
    "power": INPUT + conv("c", "data") + layer("Power", "p", "c", more="power_param { scale: -2 shift: 3 }"),
    "dropout": INPUT + conv("c", "data") + RELU + layer("Dropout", "d", "c") + layer("ReLU", "r2", "d"),
    "dropout at the end": INPUT + conv("c", "data") + layer("Dropout", "d", "c"),
    "two dropouts at the end": INPUT + conv("c", "data") + layer("Dropout", "d", "c") + layer("Dropout", "e", "d", "d"),
    "groups": INPUT + conv("c", "data", "group: 2 bias_term: false") + NORM,
    "depthwise": INPUT + conv("c", "data", "group: 6", outputs=6) + NORM,
    "deconvolution": INPUT + conv("c", "data", "group: 2").replace('"Convolution"', '"Deconvolution"') + NORM,
    "inner product": INPUT + layer("InnerProduct", "c", "data", more="inner_product_param { num_output: 5 }") + NORM,
    "transposed": INPUT
    + layer("InnerProduct", "c", "data", more="inner_product_param { num_output: 5 transpose: true bias_term: false }")
    + NORM,
    "concat": INPUT
    + conv("a", "data", "bias_term: false")
    + conv("b", "data", "group: 2")
    + layer("Concat", "c", "a b")
    + NORM
    + RELU,
    "concat of concats": INPUT
    + conv("a", "data")
    + conv("b", "data", outputs=3)
    + layer("Concat", "ab", "a b", more="concat_param { axis: -3 }")
    + conv("e", "data", outputs=2)
    + layer("Concat", "c", "ab e")
    + NORM,
    "two branches": INPUT
    + conv("c", "data")
    + NORM
    + RELU
    + conv("x", "c")
    + conv("y", "c")
    + layer("Eltwise", "z", "x y"),
    "before a convolution": INPUT
    + layer("BatchNorm", "c", "data")
    + layer("Scale", "sc", "c")
    + conv("d", "sc", "group: 2"),
    "before padding, without a shift": INPUT + layer("Scale", "sc", "data") + conv("d", "sc", "pad: 1"),
    "before two": INPUT
    + layer("BatchNorm", "c", "data")
    + conv("x", "c", "bias_term: false")
    + layer("InnerProduct", "y", "c", more="inner_product_param { num_output: 4 }"),
    "global stats": INPUT
    + conv("c", "data")
    + layer("BatchNorm", "bn", "c", more="batch_norm_param { use_global_stats: true }"),
}


@pytest.mark.parametrize("name", GONE)
def test_folds_away(name):
    result, after = folded(GONE[name])
    assert not {one.type for one in after.layers} & {"BatchNorm", "Scale", "Bias", "Power", "Dropout"}
    assert not result.left


LEFT = {
    "another reader": (
        INPUT + conv("c", "data") + BN + layer("Sigmoid", "s", "c"), "bn", "'s' reads 'c' too; its output is the net's"
    ),
    "padding": (INPUT + layer("BatchNorm", "bn", "data") + conv("d", "bn", "pad: 1"), "bn",
        "'data' before it is a data layer; 'd' after it pads with zeros"),
    "an activation before": (
        INPUT + conv("c", "data") + RELU + layer("BatchNorm", "bn", "c") + layer("ReLU", "s", "bn"),
        "bn",
        "'r' before it is a ReLU; 's' after it is a ReLU",
    ),
    "a power": (
        INPUT + conv("c", "data") + layer("Power", "p", "c", more="power_param { power: 2 }"), "p", "its power is 2"
    ),
    "a gate": (
        INPUT + conv("c", "data") + conv("g", "data") + layer("Scale", "s", "c g", more="scale_param { axis: 0 }"),
        "s",
        "its factors are another layer's output",
    ),
    "batch statistics": (
        INPUT + conv("c", "data") + layer("BatchNorm", "bn", "c", more="batch_norm_param { use_global_stats: false }"),
        "bn",
        "it takes each batch's own statistics",
    ),
    "shared weights": (
        INPUT
        + layer("Convolution", "c", "data", more=ONE_BY_ONE)
        + BN
        + layer("Convolution", "e", "bn", more=ONE_BY_ONE),
        "bn",
        "'c' shares its weights; 'e' shares its weights",
    ),
    "one branch of a concat": (
        INPUT + conv("a", "data") + layer("Pooling", "p", "data", more="pooling_param { kernel_size: 3 }")
        + layer("Concat", "c", "a p") + BN + layer("ReLU", "r", "bn"),
        "bn",
        "'p' before it is a Pooling; 'r' after it is a ReLU",
    ),
    "a dropout of an input, at the end": (
        INPUT + layer("Dropout", "d", "data"),
        "d",
        "'data' before it is a data layer; its output is the net's",
    ),
    "a dropout of one of two tops, at the end": (
        INPUT + conv("c", "data") + layer("Split", "s", "c", 's" top: "t') + layer("Dropout", "d", "t"),
        "d",
        "'s' before it is a Split; its output is the net's",
    ),
    "the net's output": (
        INPUT + layer("Scale", "s", "data"), "s", "'data' before it is a data layer; its output is the net's"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_folded_is_left(name):
    text, which, why = LEFT[name]
    result, _ = folded(text)
    assert result.left == {which: why}


def test_text_that_stays_is_not_touched():
    text = f'name: "mine"  # a comment\n{INPUT}{conv("c", "data", "bias_term: false")}{NORM}# before\n{RELU}# end\n'
    result, _ = folded(text)
    wanted = f'name: "mine"  # a comment\n{INPUT}{conv("c", "data", "bias_term: false")}# before\n{RELU}# end\n'
    assert result.text == wanted.replace("bias_term: false ", "")
    assert result.gone == {"bn": ("c",), "sc": ("c",)}


@pytest.mark.parametrize("row", ["nin/orig", "nin/root-8", "googlenet/root-16", "resnet50/root-64", "alexnet/orig"])
def test_the_papers_nets(row):
    text = (paths.resource("prototxt") / row / "deploy.prototxt").read_text("utf-8")
    if not row.startswith("nin"):
        text = text.replace("dim: 224 dim: 224", "dim: 224 dim: 224")
    result, after = folded(text)
    assert "BatchNorm" not in {one.type for one in after.layers}
    assert not result.left


def test_pre_activation_nets_are_left_where_an_activation_stands_between():
    text = (paths.resource("prototxt") / "resnet200/orig/deploy.prototxt").read_text("utf-8")
    net = load_text(text)
    result = fold(text, net, blobs_of(net))
    assert any("after it is a ReLU" in why for why in result.left.values())
    assert result.gone


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda blobs: blobs.pop("bn"), "'bn': has no blobs in the model"),
        (lambda blobs: blobs.pop("c"), "'c': has no blobs in the model"),
        (lambda blobs: blobs["bn"][2].fill(0), "'bn': its statistics in the model were never run"),
        (lambda blobs: blobs["c"][0].fill(np.nan), "'c': 432 of the 432 values of blob 0 in the model are NaN"),
    ],
)
def test_models_that_cannot_be(change, match):
    text = INPUT + conv("c", "data") + BN
    net = load_text(text)
    blobs = blobs_of(net)
    change(blobs)
    with pytest.raises(RootgenError, match=match):
        fold(text, net, blobs)


def test_a_blob_that_is_joined_with_itself_is_left_alone():
    power = layer("Power", "p", "cc", more="power_param { scale: 2 }")
    result, _ = folded(INPUT + conv("c", "data") + layer("Concat", "cc", "c c") + power)
    assert "'c' is joined with itself" in result.left["p"]


def test_a_variance_below_zero_is_refused():
    net = load_text(INPUT + conv("c", "data") + layer("BatchNorm", "bn", "c", "c"))
    blobs = blobs_of(net)
    blobs["bn"][1][2] = -5
    with pytest.raises(RootgenError, match="layer 'bn': has a variance below 0"):
        fold(INPUT + conv("c", "data") + layer("BatchNorm", "bn", "c", "c"), net, blobs)


def test_layers_that_cannot_be_taken_out():
    first = INPUT.strip().removeprefix("layer ")
    rest = (conv("c", "data") + layer("BatchNorm", "bn", "c", "c")).replace("layer {", "{").strip().replace("\n", ", ")
    text = f"layer: [ {first}, {rest} ]"
    net = load_text(text)
    with pytest.raises(RootgenError, match="its layers stand in a list"):
        fold(text, net, blobs_of(net))
    v0 = 'layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 } bottom: "data" top: "c" }\n'
    v0 += 'layers { layer { name: "d" type: "dropout" } bottom: "c" top: "c" }'
    text = f'input: "data" input_dim: 2 input_dim: 6 input_dim: 7 input_dim: 7\n{v0}'
    net = load_text(text)
    with pytest.raises(RootgenError, match="its layers are of the V0 form"):
        fold(text, net, blobs_of(net))


def test_the_check_sees_what_a_measure_hides():
    text = INPUT + layer("InnerProduct", "c", "data", more="inner_product_param { num_output: 5 }")
    text += 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'
    net = load_text(text + layer("Accuracy", "a", "c label"))
    blobs = blobs_of(net)
    other = {"c": [blobs["c"][0] * 1.001, blobs["c"][1]]}
    assert 1e-4 < largest_difference(net, blobs, net, other) < 1e-2
