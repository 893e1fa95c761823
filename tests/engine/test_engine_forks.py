"""Layers of other Caffes on the embedded engine, against plain loops written from the papers' and the forks' rules."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import ceil, floor, sqrt

import numpy as np
import pytest
from engine_nets import apply, input_layer, network, one_layer, randomize, torch

from rootgen.engine import open_network, weights
from rootgen.engine.torch.layers import BUILDERS
from rootgen.errors import RootgenError
from rootgen.net import read as nets
from rootgen.net import shapes
from rootgen.net.layers.registry import TYPES

pytestmark = pytest.mark.torch

RANDOM = np.random.default_rng(0)


def images(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape)


def run(body: str, *bottoms: np.ndarray, phase: str = "TEST"):
    """The net of one layer "y" on Inputs x0, x1, ..., and its top for the given bottoms."""
    text = "".join(input_layer(f"x{i}", *x.shape) for i, x in enumerate(bottoms))
    wires = " ".join(f'bottom: "x{i}"' for i in range(len(bottoms)))
    net = network(text + f'layer {{ name: "y" {wires} top: "y" {body} }}', phase)
    randomize(net)
    return net, net.forward(["y"], {f"x{i}": x.astype(np.float32) for i, x in enumerate(bottoms)})["y"]


def test_the_engine_runs_all_but_the_choice_of_boxes():
    others = {name for name, entry in TYPES.items() if entry.origin}
    assert others - set(BUILDERS) == {"DetectionOutput"}
    with pytest.raises(RootgenError, match="layer 'y': no engine runs DetectionOutput layers, of SSD's Caffe"):
        run("type: 'DetectionOutput'", images(1, 8), images(1, 4), images(1, 2, 8))


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
@pytest.mark.parametrize("times", [1, 2])
def test_depthwise_convolution_is_one_of_as_many_groups_as_channels(kind, times):
    body = f"convolution_param {{ kernel_size: 3 stride: 2 pad: 1 num_output: {4 * times} %s }}"
    ours, theirs = (
        one_layer(f'type: "{kind}" {body % ""}', 2, 4, 7, 6),
        one_layer(f'type: "Convolution" {body % "group: 4"}', 2, 4, 7, 6),
    )
    randomize(ours)
    randomize(theirs)
    x = images(2, 4, 7, 6)
    np.testing.assert_array_equal(apply(ours, x), apply(theirs, x))
    naive = np.zeros_like(apply(ours, x))
    weight, bias = (blob.numpy() for blob in ours.units[0].blobs)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for n, o, i, j in np.ndindex(naive.shape):
        naive[n, o, i, j] = (padded[n, o // times, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * weight[o, 0]).sum() + bias[o]
    np.testing.assert_allclose(apply(ours, x), naive, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [4, 2])
def test_axpy(axes):
    factor, x, y = images(2, 3, 1, 1), images(2, 3, 4, 5), images(2, 3, 4, 5)
    _, found = run("type: 'Axpy'", factor.reshape((2, 3, 1, 1)[:axes]), x, y)
    np.testing.assert_allclose(found, factor * x + y, rtol=1e-5, atol=1e-6)


def test_relu6():
    x = np.array([[-1.0, 0.0, 3.5, 6.0, 7.0]])
    np.testing.assert_array_equal(run("type: 'ReLU6'", x)[1], np.float32([[0, 0, 3.5, 6, 6]]))


def test_permute_and_shuffle_channel():
    x = images(2, 6, 3, 4)
    _, found = run("type: 'Permute' permute_param { order: [0, 3, 1] }", x)
    np.testing.assert_array_equal(found, x.astype(np.float32).transpose(0, 3, 1, 2))
    _, found = run("type: 'ShuffleChannel' shuffle_channel_param { group: 2 }", x)
    np.testing.assert_array_equal(found, x.astype(np.float32)[:, [0, 3, 1, 4, 2, 5]])


def test_upsample_repeats_pixels():
    x = images(2, 3, 2, 3)
    _, found = run("type: 'Upsample' upsample_param { scale_h: 2 scale_w: 3 pad_out_h: true }", x)
    assert found.shape == (2, 3, 3, 9)
    for n, c, i, j in np.ndindex(found.shape):
        assert found[n, c, i, j] == np.float32(x[n, c, i // 2, j // 3])


@pytest.mark.parametrize(("size", "fields"), [((6, 8), "scale: 2"), ((5, 7), "scale: 2 upsample_h: 5 upsample_w: 7")])
def test_upsample_with_a_mask_puts_maxima_back(size, fields):
    x = images(2, 3, *size)
    text = input_layer("x", 2, 3, *size) + (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "mask" '
        "pooling_param { kernel_size: 2 stride: 2 } }\n"
        f'layer {{ name: "y" type: "Upsample" bottom: "p" bottom: "mask" top: "y" upsample_param {{ {fields} }} }}'
    )
    found = network(text).forward(["y"], {"x": x.astype(np.float32)})["y"]
    wanted = np.zeros_like(x)
    for n, c, i, j in itertools.product(range(2), range(3), range(-(-size[0] // 2)), range(-(-size[1] // 2))):
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a, b = np.unravel_index(window.argmax(), window.shape)
        wanted[n, c, 2 * i + a, 2 * j + b] = window.max()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    with pytest.raises(RootgenError, match=r"layer 'y': its mask names pixels beyond 2x2"):
        run("type: 'Upsample' upsample_param { scale: 2 }", np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 4))


@pytest.mark.parametrize(
    ("fields", "cut"),
    [("zoom_factor: 3", (0, 0)), ("shrink_factor: 2", (0, 0)), ("height: 7 width: 4 pad_beg: -1 pad_end: -2", (1, 2))],
)
def test_interp_keeps_the_corners(fields, cut):
    x = images(1, 2, 6, 7)
    _, found = run(f"type: 'Interp' interp_param {{ {fields} }}", x)
    inner = x[:, :, cut[0] : 6 - cut[1], cut[0] : 7 - cut[1]]

    def along(values, axis, count):
        """Linear interpolation at `count` places from the first value to the last."""
        places = np.linspace(0, values.shape[axis] - 1, count)
        return np.apply_along_axis(lambda line: np.interp(places, range(len(line)), line), axis, values)

    wanted = along(along(inner, 2, found.shape[2]), 3, found.shape[3])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def half_up(value: float) -> int:
    return floor(value + 0.5) if value >= 0 else ceil(value - 0.5)


REGIONS = np.array(
    [[0, 0, 0, 31, 47], [1, 10, 20, 40, 44], [1, 8, 8, 8, 8], [0, 30, 60, 90, 120], [1, -20, -9, 5, 25]], np.float64
)


def naive_roi_pooling(x, rows, columns, scale):
    y = np.zeros((len(REGIONS), x.shape[1], rows, columns))
    for r, (image, *corners) in enumerate(REGIONS):
        left, upper, right, lower = (half_up(value * scale) for value in corners)
        high, wide = max(lower - upper + 1, 1) / rows, max(right - left + 1, 1) / columns
        for i, j in itertools.product(range(rows), range(columns)):
            a, b = (min(max(v + upper, 0), x.shape[2]) for v in (floor(i * high), ceil((i + 1) * high)))
            c, d = (min(max(v + left, 0), x.shape[3]) for v in (floor(j * wide), ceil((j + 1) * wide)))
            if a < b and c < d:
                y[r, :, i, j] = x[int(image), :, a:b, c:d].max((1, 2))
    return y


def test_roi_pooling():
    x = images(2, 3, 12, 10)
    body = "type: 'ROIPooling' roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 }"
    net, found = run(body, x, REGIONS)
    wanted = naive_roi_pooling(x, 3, 2, 0.25)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert (wanted == 0).any()
    with pytest.raises(RootgenError, match="layer 'y': a region is of image 2, but the batch has 2"):
        net.forward(["y"], {"x0": x.astype(np.float32), "x1": np.full((5, 5), 2, np.float32)})


def test_psroi_pooling():
    outputs, grid, scale = 2, 3, 0.25
    x = images(2, outputs * grid * grid, 12, 10)
    body = f"psroi_pooling_param {{ output_dim: {outputs} group_size: {grid} spatial_scale: {scale} }}"
    _, found = run(f"type: 'PSROIPooling' {body}", x, REGIONS)
    wanted = np.zeros((len(REGIONS), outputs, grid, grid))
    for r, (image, *corners) in enumerate(REGIONS):
        left, upper = (half_up(value) * scale for value in corners[:2])
        right, lower = ((half_up(value) + 1) * scale for value in corners[2:])
        high, wide = max(lower - upper, 0.1) / grid, max(right - left, 0.1) / grid
        for o, i, j in itertools.product(range(outputs), range(grid), range(grid)):
            a, b = (min(max(v, 0), 12) for v in (floor(i * high + upper), ceil((i + 1) * high + upper)))
            c, d = (min(max(v, 0), 10) for v in (floor(j * wide + left), ceil((j + 1) * wide + left)))
            if a < b and c < d:
                wanted[r, o, i, j] = x[int(image), (o * grid + i) * grid + j, a:b, c:d].mean()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "step", "clip"), [("", 30, False), ("step: 32 clip: true", 32, True), ("img_size: 100", 10, False)]
)
def test_prior_boxes(fields, step, clip):
    """SSD, section 2.2: scale s, ratio a: width s sqrt(a), height s / sqrt(a); and a square of sqrt(s s')."""
    body = (
        f"min_size: 60 max_size: 111 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 {fields}"
    )
    _, found = run(f"type: 'PriorBox' prior_box_param {{ {body} }}", images(1, 2, 10, 10), images(1, 3, 300, 300))
    side = 100 if "img_size" in fields else 300
    sizes = [(60, 60), (sqrt(60 * 111),) * 2, (60 * sqrt(2), 60 / sqrt(2)), (60 / sqrt(2), 60 * sqrt(2))]
    wanted = []
    for row, column in itertools.product(range(10), range(10)):
        y, x = (row + 0.5) * step, (column + 0.5) * step
        wanted += [(x + a * w / 2, y + a * h / 2) for w, h in sizes for a in (-1, 1)]
    wanted = np.array(wanted).flatten() / side
    np.testing.assert_allclose(found[0, 0], wanted.clip(0, 1) if clip else wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0, 1], np.tile([0.1, 0.1, 0.2, 0.2], 400), rtol=1e-6)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize(spatial, shared):
    x = images(2, 3, 4, 5)
    words = f"across_spatial: {str(spatial).lower()} channel_shared: {str(shared).lower()} eps: 0.01"
    net = one_layer(f'type: "Normalize" norm_param {{ {words} scale_filler {{ value: 20 }} }}', 2, 3, 4, 5)
    length = np.sqrt((x**2).sum((1, 2, 3) if spatial else 1, keepdims=True) + 0.01)
    np.testing.assert_allclose(apply(net, x), 20 * x / length, rtol=1e-5)
    randomize(net)
    factor = net.units[0].blobs[0].numpy().reshape(-1, 1, 1)
    np.testing.assert_allclose(apply(net, x), factor * x / length, rtol=1e-5)


def test_normalize_begins_with_a_factor_of_1():
    x = images(1, 3, 2, 2)
    found = apply(one_layer('type: "Normalize" norm_param { across_spatial: false }', 1, 3, 2, 2), x)
    np.testing.assert_allclose((found**2).sum(1), 1, rtol=1e-5)


def column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float).reshape(1, -1, 1, 1)


def test_bn_of_pspnet_uses_its_averages_in_test():
    x = images(2, 3, 4, 5)
    net, _ = run("type: 'BN' bn_param { eps: 0.01 }", x)
    blobs = [np.array([0.5, 1, 2]), np.array([1, -1, 0]), np.array([0.1, 0.2, 0.3]), np.array([1, 2, 0.5])]
    with torch.no_grad():
        for blob, values in zip(net.units[0].blobs, blobs, strict=True):
            blob.copy_(torch.from_numpy(column(values)))
    slope, bias, mean, variance = map(column, blobs)
    found = net.forward(["y"], {"x0": x.astype(np.float32)})["y"]
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(variance + 0.01) * slope + bias, rtol=1e-4, atol=1e-5)


def test_bn_of_pspnet_normalizes_by_the_batch_in_training_and_keeps_averages():
    x = images(4, 3, 4, 5) * 2 + 1
    fields = "momentum: 0.8 eps: 0.01 slope_filler { value: 2 } bias_filler { value: 1 }"
    net = one_layer(f'type: "BN" bn_param {{ {fields} }}', 4, 3, 4, 5, phase="TRAIN")
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    wanted = (x - column(mean)) / np.sqrt(column(variance) + 0.01) * 2 + 1
    np.testing.assert_allclose(apply(net, x), wanted, rtol=1e-4, atol=1e-5)
    kept = [blob.numpy().flatten() for blob in net.units[0].blobs[2:]]
    np.testing.assert_allclose(kept, [0.2 * mean, 0.2 * variance], rtol=1e-5)
    assert [one.lr_mult for one in net.learnable] == [1, 1, 0, 0]
    frozen = one_layer(f'type: "BN" bn_param {{ frozen: true {fields} }}', 4, 3, 4, 5, phase="TRAIN")
    np.testing.assert_allclose(apply(frozen, x), x / np.sqrt(1.01) * 2 + 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_bn_of_segnet_learns_by_the_batch_and_infers_by_its_blobs(phase):
    x = images(4, 3, 4, 5) * 2 + 1
    fillers = "scale_filler { value: 2 } shift_filler { value: 0.5 }"
    learning = one_layer(f'type: "BN" bn_param {{ {fillers} }}', 4, 3, 4, 5, phase=phase)
    normal = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(apply(learning, x), 2 * normal + 0.5, rtol=1e-4, atol=1e-5)
    inferring = one_layer(f'type: "BN" bn_param {{ bn_mode: INFERENCE {fillers} }}', 4, 3, 4, 5, phase=phase)
    np.testing.assert_allclose(apply(inferring, x), 2 * x + 0.5, rtol=1e-5)


def test_bn_in_a_caffemodel_that_lost_its_mode(tmp_path):
    """SegNet's number of bn_param means another field here, so its two blobs alone tell whose layer it is."""
    text = (
        input_layer("x", 1, 3, 2, 2) + 'layer { name: "y" type: "BN" bottom: "x" top: "y" bn_param { bn_mode: LEARN } }'
    )
    net = network(text)
    stripped = [replace(layer, param=type(layer.param)()) for layer in net.net.layers]
    for layer, one in zip(net.net.layers, stripped, strict=True):
        one.param.CopyFrom(layer.param)
        one.param.ClearField("bn_param")
    path = tmp_path / "x.caffemodel"
    weights.write(path, "n", "TEST", stripped, net.learned())
    assert len(shapes.infer(nets.read(path)).layers[1].shapes.params) == 2
    with pytest.raises(RootgenError, match="layer 'y': its caffemodel does not say what its blobs scale"):
        open_network(path, engine="torch")


def test_gradients_flow_through_all():
    """Numbers of a loss's gradient against differences, through every layer that has one."""
    bottom, text = "x", input_layer("x", 2, 4, 6, 6) + input_layer("r", 2, 5)
    filler = "weight_filler { type: 'gaussian' std: 1 }"
    for kind, fields in [
        ("DepthwiseConvolution", f"convolution_param {{ kernel_size: 3 pad: 1 num_output: 4 {filler} }}"),
        ("BN", "bn_param { slope_filler { value: 1.5 } }"),
        ("ShuffleChannel", "shuffle_channel_param { group: 2 }"),
        ("Normalize", "norm_param { across_spatial: false }"),
        ("Interp", "interp_param { zoom_factor: 2 }"),
        ("Upsample", "upsample_param { scale: 2 }"),
        ("Permute", "permute_param { order: [0, 1, 3, 2] }"),
        ("ROIPooling", 'bottom: "r" roi_pooling_param { pooled_h: 2 pooled_w: 2 }'),
    ]:
        text += f'layer {{ name: "{kind}" type: "{kind}" bottom: "{bottom}" top: "{kind}" {fields} }}\n'
        bottom = kind
    net = network(text, "TRAIN", dtype=torch.float64)
    x = torch.from_numpy(images(2, 4, 6, 6)).requires_grad_()
    regions = torch.tensor([[0.0, 0, 0, 20, 20], [1, 3, 3, 9, 9]], dtype=torch.float64)
    factors = torch.from_numpy(images(2, 4, 2, 2))

    def loss(values):
        blobs = {"x": values, "r": regions}
        for unit in net.units:
            top = unit.run(*(blobs[name] for name in unit.layer.bottoms))
            blobs[unit.layer.tops[0]] = top[0] if isinstance(top, tuple) else top
        return (blobs[bottom] * factors).sum()

    assert torch.autograd.gradcheck(loss, (x,), eps=1e-7, atol=1e-4)


def test_snapshots_hold_layers_of_other_caffes(tmp_path):
    """What is written is read again, with its own parameters, as weights and as a net."""
    text = input_layer("x", 1, 4, 5, 5) + (
        'layer { name: "d" type: "DepthwiseConvolution" bottom: "x" top: "d" '
        "convolution_param { kernel_size: 3 num_output: 4 } }\n"
        'layer { name: "y" type: "Permute" bottom: "d" top: "y" permute_param { order: [0, 2, 3, 1] } }\n'
    )
    net = network(text)
    randomize(net)
    path = tmp_path / "x.caffemodel"
    weights.write(path, "n", "TEST", net.net.layers, net.learned())
    x = images(1, 4, 5, 5).astype(np.float32)
    again = open_network(path, engine="torch")
    np.testing.assert_array_equal(again.forward(["y"], {"x": x})["y"], net.forward(["y"], {"x": x})["y"])
