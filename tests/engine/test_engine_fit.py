"""Layers of the embedded engine on blobs of other shapes than the net says: fewer images, as after a Filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_nets import input_layer, network, torch

from rootgen.engine.caffe.runtime import pycaffe
from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch

FILTERED = (
    input_layer("x", 6, 4, 3)
    + input_layer("label", 6)
    + input_layer("selector", 6)
    + 'layer { name: "f" type: "Filter" bottom: "x" bottom: "label" bottom: "selector" top: "z" top: "few" }\n'
)
X = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)


def after(body: str, bottoms: str = '"z"') -> str:
    """The Filter, and the layer "y" on what it lets through."""
    named = " ".join(f"bottom: {name}" for name in bottoms.split())
    return FILTERED + f'layer {{ name: "y" {named} top: "y" {body} }}'


def inputs(*selected: int) -> dict[str, np.ndarray]:
    selector = np.zeros(6, np.float32)
    selector[list(selected)] = 1
    return {"x": X, "label": np.array([0, 1, 2, 3, 0, 1], np.float32), "selector": selector}


BODIES = [
    'type: "Reshape" reshape_param { shape { dim: -1 dim: 6 } }',
    'type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: 6 } }',
    'type: "Reshape" reshape_param { axis: 1 num_axes: 0 shape { dim: 1 } }',
    'type: "Flatten" flatten_param { axis: 0 end_axis: 1 }',
    'type: "Flatten"',
    'type: "Slice" top: "y2" slice_param { axis: 0 }',
    'type: "ArgMax"',
    'type: "MVN" mvn_param { across_channels: true }',
    'type: "Tile" tile_param { axis: 0 tiles: 2 }',
    'type: "Scale" bottom: "few" scale_param { axis: 0 }',
    'type: "Concat" bottom: "z" concat_param { axis: 0 }',
]
CASES = [
    (body, selected) for body in BODIES for selected in ((0, 3), (1, 2, 4, 5), ()) if selected or "MVN" not in body
]


@pytest.mark.caffe
@pytest.mark.parametrize(("body", "selected"), CASES)  # without images Caffe's MVN divides by zero: see below
def test_a_layer_after_a_filter_is_caffes(body: str, selected: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(after(body), encoding="utf-8")
    theirs = pycaffe().Net(str(tmp_path / "net.prototxt"), pycaffe().TEST)
    ours = network(after(body))
    for chosen in (selected, (0, 1, 2, 3, 4, 5), selected):
        for name, values in inputs(*chosen).items():
            theirs.blobs[name].data[...] = values
        theirs.forward()
        for name, values in ours.forward([*ours.outputs], inputs(*chosen)).items():
            assert values.shape == theirs.blobs[name].data.shape, name
            np.testing.assert_allclose(values, theirs.blobs[name].data, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (after('type: "HingeLoss"', '"z" "label"'), r"layer 'y': .*'z' \(2x4x3\) and 'label' \(6\) differ"),
        (after('type: "EuclideanLoss"', '"z" "x"'), r"layer 'y': .*'z' \(2x4x3\) and 'x' \(6x4x3\) differ"),
        (after('type: "Eltwise"', '"z" "x"'), r"layer 'y': bottom 'z' is 2x4x3, but bottom 'x' is 6x4x3"),
        (
            after('type: "Slice" top: "t" top: "u" slice_param { axis: 0 }'),
            r"layer 'y': its 3 tops do not divide axis 0",
        ),
        (
            after('type: "Reshape" reshape_param { shape { dim: 3 dim: 24 } }'),
            r"layer 'y': would make 3x24, 72 values, of 2x4x3, 24 values",
        ),
        (
            after('type: "Bias" bias_param { axis: 0 num_axes: 1 }'),
            r"layer 'y': learnable blob 0 is 6, but bottoms of 2x4x3 need 2",
        ),
    ],
)
def test_what_caffe_would_end_the_process_for_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RootgenError, match=message):
        network(text).forward(["y"], inputs(0, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (after('type: "Accuracy"', '"ip" "few"'), "layer 'y': has no image in this batch: bottom 'ip' is 0x5"),
        (after('type: "SoftmaxWithLoss"', '"ip" "few"'), "layer 'y': has no image in this batch: bottom 'ip' is 0x5"),
        (after('type: "HingeLoss"', '"ip" "few"'), "layer 'y': has no image in this batch"),
        (after('type: "MultinomialLogisticLoss"', '"ip" "few"'), "layer 'y': has no image in this batch"),
        (after('type: "MVN"', '"ip"'), "layer 'y': has no image in this batch: bottom 'ip' is 0x5"),
        (after('type: "Filter"', '"ip" "few"'), "layer 'y': has no image in this batch: bottom 'ip' is 0x5"),
        (
            after('type: "BatchNorm" batch_norm_param { use_global_stats: false }', '"ip"'),
            "layer 'y': has no image in this batch to take statistics of: 0x5",
        ),
        (
            after('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', '"ip"'),
            "layer 'y': cannot work out its top's shape from an empty bottom, 0x5",
        ),
    ],
)
def test_an_empty_batch_that_caffe_divides_by_is_one_line(text: str, message: str) -> None:
    product = 'layer { name: "ip" type: "InnerProduct" bottom: "z" top: "ip" inner_product_param { num_output: 5 } }\n'
    net = network(text.replace('layer { name: "y"', product + 'layer { name: "y"'))
    with pytest.raises(RootgenError, match=message):
        net.forward(["y"], inputs())
    assert net.forward(["y"], inputs(1, 2))["y"].size


def test_time_of_a_net_whose_filter_lets_nothing_through() -> None:
    text = (
        FILTERED + 'layer { name: "y" type: "Reshape" bottom: "z" top: "y" reshape_param { shape { dim: -1 dim: 6 } } }'
    )
    assert [layer.name for layer in network(text).time(1, backward=False).layers] == ["f", "y"]


def test_gradients_reach_what_was_selected_alone() -> None:
    net = network(after('type: "Reshape" loss_weight: 1 reshape_param { shape { dim: -1 } }'), "TRAIN")
    x = torch.tensor(X, requires_grad=True)
    net.tensor = lambda values: x if values is X else torch.from_numpy(values)  # type: ignore[method-assign]
    net.run(0, inputs(1, 4))[1].backward()
    assert [bool(image.all()) for image in x.grad] == [False, True, False, False, True, False]
