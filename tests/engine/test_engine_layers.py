"""Layers of the embedded engine against plain NumPy, written from Caffe's rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine_nets import apply, input_layer, network, one_layer, randomize, torch

from rootgen.errors import RootgenError

pytestmark = pytest.mark.torch

RANDOM = np.random.default_rng(0)


def naive_convolution(x, weight, bias, *, stride, pad, dilation, group):
    """Caffe's convolution, one product at a time."""
    n, c, h, w = x.shape
    outputs, _, kh, kw = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    oh = (h + 2 * pad - dilation * (kh - 1) - 1) // stride + 1
    ow = (w + 2 * pad - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, outputs, oh, ow))
    for image, o, row, col in itertools.product(range(n), range(outputs), range(oh), range(ow)):
        first = o // (outputs // group) * (c // group)  # of the input channels of o's group
        total = bias[o]
        for i, a, b in itertools.product(range(c // group), range(kh), range(kw)):
            value = padded[image, first + i, row * stride + a * dilation, col * stride + b * dilation]
            total += weight[o, i, a, b] * value
        y[image, o, row, col] = total
    return y


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation"), [(3, 1, 1, 1), (3, 2, 0, 1), (1, 1, 0, 1), (3, 1, 2, 2)]
)
def test_convolution_is_the_naive_one(group, kernel, stride, pad, dilation):
    net = one_layer(
        f"""type: "Convolution" convolution_param {{ num_output: 8 kernel_size: {kernel} stride: {stride} pad: {pad}
            dilation: {dilation} group: {group} }}""",
        2, 4, 7, 6,
    )  # fmt: skip
    randomize(net)
    x = RANDOM.standard_normal((2, 4, 7, 6))
    weight, bias = (blob.numpy().astype(float) for blob in net.units[0].blobs)
    assert weight.shape == (8, 4 // group, kernel, kernel)
    wanted = naive_convolution(x, weight, bias, stride=stride, pad=pad, dilation=dilation, group=group)
    np.testing.assert_allclose(apply(net, x), wanted, rtol=1e-4, atol=1e-5)


def test_a_grouped_convolution_is_a_dense_one_with_block_diagonal_weights():
    body = 'type: "Convolution" convolution_param {{ num_output: 12 kernel_size: 3 pad: 1 {} }}'
    grouped, dense = one_layer(body.format("group: 4"), 2, 8, 5, 5), one_layer(body.format(""), 2, 8, 5, 5)
    randomize(grouped)
    weight, bias = grouped.units[0].blobs
    with torch.no_grad():
        dense.units[0].blobs[0].zero_()
        dense.units[0].blobs[1].copy_(bias)
        for g in range(4):
            dense.units[0].blobs[0][3 * g : 3 * g + 3, 2 * g : 2 * g + 2] = weight[3 * g : 3 * g + 3]
    x = RANDOM.standard_normal((2, 8, 5, 5))
    np.testing.assert_allclose(apply(grouped, x), apply(dense, x), rtol=1e-5, atol=1e-6)


def test_deconvolution_is_the_gradient_of_convolution():
    body = "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false }"
    net = one_layer(f'type: "Deconvolution" {body}', 1, 4, 3, 3)
    randomize(net)
    x = RANDOM.standard_normal((1, 4, 3, 3)).astype(np.float32)
    image = torch.zeros(1, 4, 6, 6, requires_grad=True)
    torch.nn.functional.conv2d(image, net.units[0].blobs[0], stride=2, padding=1, groups=2).backward(
        torch.from_numpy(x)
    )
    np.testing.assert_allclose(apply(net, x), image.grad.numpy(), rtol=1e-5, atol=1e-6)


def naive_pooling(x, *, kernel, stride, pad, average, ceil):
    """pooling_layer.cpp: the size, the window clipped to the padded image for the divisor, then to the image."""
    length = x.shape[2]
    size = int((np.ceil if ceil else np.floor)((length + 2 * pad - kernel) / stride)) + 1
    if pad and (size - 1) * stride >= length + pad:
        size -= 1
    y = np.zeros((*x.shape[:2], size, size))
    for row, col in itertools.product(range(size), range(size)):
        starts = row * stride - pad, col * stride - pad
        divisor = np.prod([min(s + kernel, length + pad) - s for s in starts])
        (top, bottom), (left, right) = ((max(s, 0), min(s + kernel, length)) for s in starts)
        window = x[:, :, top:bottom, left:right]
        y[:, :, row, col] = window.sum((2, 3)) / divisor if average else window.max((2, 3))
    return y


@pytest.mark.parametrize("average", [False, True], ids=["MAX", "AVE"])
@pytest.mark.parametrize("ceil", [True, False], ids=["CEIL", "FLOOR"])
@pytest.mark.parametrize(
    "window",  # length of the image, kernel, stride, pad
    [(32, 3, 2, 0), (7, 3, 2, 1), (8, 3, 2, 1), (6, 2, 2, 1), (5, 3, 1, 2), (5, 3, 3, 2), (4, 4, 1, 3), (10, 2, 3, 0)],
    ids=str,
)
def test_pooling_by_caffes_rules(average, ceil, window):
    length, kernel, stride, pad = window
    method, mode = "AVE" if average else "MAX", "CEIL" if ceil else "FLOOR"
    net = one_layer(
        f"""type: "Pooling" pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}
            round_mode: {mode} }}""",
        2, 3, length, length,
    )  # fmt: skip
    x = RANDOM.standard_normal((2, 3, length, length)) - 3  # all below 0: padding must not win a maximum
    wanted = naive_pooling(x, kernel=kernel, stride=stride, pad=pad, average=average, ceil=ceil)
    np.testing.assert_allclose(apply(net, x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", [False, True], ids=["MAX", "AVE"])
@pytest.mark.parametrize("window", [(2, 3, 2, 0), (3, 4, 2, 0), (1, 4, 4, 1), (2, 5, 4, 0)], ids=str)
def test_a_window_larger_than_the_map_is_cut_to_it(average, window):
    length, kernel, stride, pad = window
    fields = f"pool: {'AVE' if average else 'MAX'} kernel_size: {kernel} stride: {stride} pad: {pad}"
    x = RANDOM.standard_normal((2, 3, length, length)) - 3
    net = one_layer(f'type: "Pooling" pooling_param {{ {fields} }}', *x.shape)
    wanted = naive_pooling(x, kernel=kernel, stride=stride, pad=pad, average=average, ceil=True)
    np.testing.assert_allclose(apply(net, x), wanted, rtol=1e-5)
    assert wanted.shape == (2, 3, 1, 1)


def test_global_pooling_and_the_mask_of_a_maximum():
    x = RANDOM.standard_normal((2, 3, 5, 4))
    average = one_layer('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', 2, 3, 5, 4)
    np.testing.assert_allclose(apply(average, x)[:, :, 0, 0], x.mean((2, 3)), rtol=1e-5, atol=1e-6)
    text = input_layer("x", 2, 3, 5, 4) + (
        'layer { name: "y" type: "Pooling" bottom: "x" top: "y" top: "mask" pooling_param { global_pooling: true } }'
    )
    out = network(text).forward(["y", "mask"], {"x": x.astype(np.float32)})
    np.testing.assert_array_equal(out["mask"][:, :, 0, 0], x.reshape(2, 3, -1).argmax(2))


def test_stochastic_pooling_is_refused():
    with pytest.raises(RootgenError, match=r"layer 'y'.*STOCHASTIC"):
        one_layer('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', 1, 1, 4, 4)


BATCH_NORM = 'type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.9 eps: 0.01 }'


def test_batch_norm_in_training_normalizes_by_the_batch_and_sums_statistics():
    net = one_layer(BATCH_NORM, 4, 3, 5, 5, phase="TRAIN")
    batches = [RANDOM.standard_normal((4, 3, 5, 5)) * 2 + 1 for _ in range(2)]
    for x in batches:
        mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        np.testing.assert_allclose(apply(net, x), (x - mean) / np.sqrt(variance + 0.01), rtol=1e-4, atol=1e-5)
    means = [x.mean((0, 2, 3)) for x in batches]
    variances = [x.var((0, 2, 3), ddof=1) for x in batches]
    for blob, (first, second) in zip(net.units[0].blobs, (means, variances, (1.0, 1.0)), strict=True):
        np.testing.assert_allclose(blob.numpy(), np.atleast_1d(0.9 * first + second), rtol=1e-5)


def test_batch_norm_in_testing_uses_the_sums_over_their_weights():
    net = one_layer(BATCH_NORM, 2, 3, 4, 4)
    sums = np.array([1.0, -2.0, 3.0]), np.array([4.0, 1.0, 0.5])
    for blob, values in zip(net.units[0].blobs, (*sums, np.array([2.0])), strict=True):
        blob.copy_(torch.from_numpy(values))
    x = RANDOM.standard_normal((2, 3, 4, 4))
    mean, variance = (values.reshape(1, 3, 1, 1) / 2 for values in sums)
    np.testing.assert_allclose(apply(net, x), (x - mean) / np.sqrt(variance + 0.01), rtol=1e-4, atol=1e-5)
    assert net.units[0].blobs[2].item() == 2.0


def test_fresh_batch_norm_statistics_count_as_zero():
    x = RANDOM.standard_normal((2, 3, 4, 4))
    np.testing.assert_allclose(apply(one_layer(BATCH_NORM, 2, 3, 4, 4), x), x / np.sqrt(0.01), rtol=1e-5)


@pytest.mark.parametrize(("use_global_stats", "phase"), [("true", "TRAIN"), ("false", "TEST")])
def test_use_global_stats_wins_over_the_phase(use_global_stats, phase):
    net = one_layer(
        f'type: "BatchNorm" batch_norm_param {{ use_global_stats: {use_global_stats} }}', 2, 3, 4, 4, phase=phase
    )
    apply(net, RANDOM.standard_normal((2, 3, 4, 4)))
    assert bool(net.units[0].blobs[2]) == (use_global_stats == "false")


def test_batch_norm_of_one_value_per_channel_gives_zeros():
    net = one_layer(BATCH_NORM, 1, 3, 1, 1, phase="TRAIN")
    x = RANDOM.standard_normal((1, 3, 1, 1))
    assert not apply(net, x).any()
    np.testing.assert_allclose(net.units[0].blobs[0].numpy(), x.ravel(), rtol=1e-6)


def naive_lrn(x, size, alpha, beta, k):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(c - size // 2, 0) : c + size // 2 + 1]
        y[:, c] = x[:, c] / (k + alpha / size * (near**2).sum(1)) ** beta
    return y


def test_lrn_across_channels():
    net = one_layer('type: "LRN" lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 k: 2 }', 2, 7, 3, 3)
    x = RANDOM.standard_normal((2, 7, 3, 3))
    np.testing.assert_allclose(apply(net, x), naive_lrn(x, 5, 0.5, 0.75, 2), rtol=1e-4)


def test_lrn_within_a_channel():
    net = one_layer('type: "LRN" lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL k: 9 }', 2, 2, 5, 5)
    x = RANDOM.standard_normal((2, 2, 5, 5))
    mean = naive_pooling(x**2, kernel=3, stride=1, pad=1, average=True, ceil=True)
    np.testing.assert_allclose(apply(net, x), x * (1 + 0.5 * mean) ** -0.75, rtol=1e-4)


X = RANDOM.standard_normal((2, 3, 4, 4))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('type: "ReLU"', np.maximum(X, 0)),
        ('type: "ReLU" relu_param { negative_slope: 0.1 }', np.where(X > 0, X, 0.1 * X)),
        ('type: "Sigmoid"', 1 / (1 + np.exp(-X))),
        ('type: "TanH"', np.tanh(X)),
        ('type: "AbsVal"', np.abs(X)),
        ('type: "BNLL"', np.log1p(np.exp(X))),
        ('type: "ELU" elu_param { alpha: 0.5 }', np.where(X > 0, X, 0.5 * (np.exp(X) - 1))),
        ('type: "PReLU"', np.where(X > 0, X, 0.25 * X)),
        ('type: "Swish" swish_param { beta: 2 }', X / (1 + np.exp(-2 * X))),
        ('type: "Clip" clip_param { min: -0.5 max: 1 }', X.clip(-0.5, 1)),
        ('type: "Threshold" threshold_param { threshold: 0.3 }', X > 0.3),
        ('type: "Power" power_param { power: 2 scale: 3 shift: 1 }', (1 + 3 * X) ** 2),
        ('type: "Power" power_param { power: 0 }', np.ones_like(X)),
        ('type: "Power" power_param { scale: 0 power: -1 }', np.full_like(X, np.inf)),
        ('type: "Power" power_param { scale: 0 shift: -2 power: 0.5 }', np.full_like(X, np.nan)),
        ('type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }', 2 ** (0.5 * X + 1)),
        ('type: "Dropout"', X),
        ('type: "Softmax"', np.exp(X) / np.exp(X).sum(1, keepdims=True)),
        ('type: "Softmax" softmax_param { axis: -1 }', np.exp(X) / np.exp(X).sum(3, keepdims=True)),
        ('type: "Flatten"', X.reshape(2, -1)),
        ('type: "Flatten" flatten_param { axis: 1 end_axis: 2 }', X.reshape(2, 12, 4)),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 2 } }', X.reshape(2, -1, 2)),
        ('type: "Tile" tile_param { axis: 2 tiles: 3 }', np.tile(X, (1, 1, 3, 1))),
        ('type: "Reduction" reduction_param { operation: SUMSQ axis: 1 coeff: 2 }', 2 * (X**2).sum((1, 2, 3))),
        ('type: "Reduction" reduction_param { operation: MEAN axis: -1 }', X.mean(3)),
        ('type: "ArgMax"', X.reshape(2, -1).argmax(1).reshape(2, 1, 1, 1)),
        ('type: "ArgMax" argmax_param { axis: 1 out_max_val: true }', X.max(1, keepdims=True)),
        ('type: "MVN"', (X - X.mean((2, 3), keepdims=True)) / (X.std((2, 3), keepdims=True) + 1e-9)),
    ],
)
def test_layers_without_weights(body, wanted):
    np.testing.assert_allclose(apply(one_layer(body, 2, 3, 4, 4), X), wanted, rtol=1e-4, atol=1e-5)


def test_scale_and_bias_and_inner_product():
    scale = one_layer('type: "Scale" scale_param { bias_term: true }', 2, 3, 4, 4)
    np.testing.assert_allclose(apply(scale, X), X, rtol=1e-6)  # filled as the identity
    randomize(scale)
    factor, shift = (blob.numpy().reshape(1, 3, 1, 1) for blob in scale.units[0].blobs)
    np.testing.assert_allclose(apply(scale, X), X * factor + shift, rtol=1e-5, atol=1e-6)
    for transpose in ("false", "true"):
        product = one_layer(
            f'type: "InnerProduct" inner_product_param {{ num_output: 5 transpose: {transpose} }}', 2, 3, 4, 4
        )
        randomize(product)
        weight, bias = (blob.numpy() for blob in product.units[0].blobs)
        wanted = X.reshape(2, -1) @ (weight if transpose == "true" else weight.T) + bias
        np.testing.assert_allclose(apply(product, X), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('type: "Eltwise" eltwise_param { operation: SUM coeff: 1 coeff: -2 }', X - 2 * (X + 1)),
        ('type: "Eltwise" eltwise_param { operation: PROD }', X * (X + 1)),
        ('type: "Eltwise" eltwise_param { operation: MAX }', X + 1),
        ('type: "Eltwise" eltwise_param { operation: MAX coeff: 3 coeff: -1 }', X + 1),  # as Caffe: coeff is for SUM
        ('type: "Concat"', np.concatenate([X, X + 1], 1)),
        ('type: "Concat" concat_param { axis: -1 }', np.concatenate([X, X + 1], 3)),
    ],
)
def test_layers_with_two_bottoms(body, wanted):
    text = input_layer("x", 2, 3, 4, 4) + input_layer("z", 2, 3, 4, 4)
    net = network(text + f'layer {{ name: "y" bottom: "x" bottom: "z" top: "y" {body} }}')
    out = net.forward(["y"], {"x": X.astype(np.float32), "z": (X + 1).astype(np.float32)})["y"]
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


def test_slice_with_points_and_evenly():
    head = input_layer("x", 2, 3, 4, 4) + 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param '
    uneven = network(head + "{ slice_point: 1 } }")
    out = uneven.forward(["a", "b"], {"x": X.astype(np.float32)})
    np.testing.assert_allclose(np.concatenate([out["a"], out["b"]], 1), X.astype(np.float32))
    assert out["a"].shape == (2, 1, 4, 4)
    even = network(head + "{ axis: 2 } }")
    assert even.blobs["b"] == (2, 3, 2, 4)


def test_mvn_of_a_blob_without_pixels_gives_four_axes():
    net = one_layer('type: "MVN" mvn_param { across_channels: true }', 2, 3)
    out = apply(net, X[:, :, 0, 0])
    assert out.shape == net.blobs["y"] == (2, 3, 1, 1)
    np.testing.assert_allclose(out.mean(1), 0, atol=1e-6)


def test_dropout_of_nothing_changes_nothing():
    net = one_layer('type: "Dropout" dropout_param { dropout_ratio: 0 }', 2, 3, phase="TRAIN")
    np.testing.assert_array_equal(apply(net, X[:, :, 0, 0]), X[:, :, 0, 0].astype(np.float32))


def test_dropout_in_training_drops_scales_and_repeats_with_the_batch_number():
    net = one_layer('type: "Dropout" dropout_param { dropout_ratio: 0.25 }', 50, 100, phase="TRAIN")
    ones = np.ones((50, 100), np.float32)
    first, again, second = (net.run(batch, {"x": ones})[0]["y"].numpy() for batch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert abs((first > 0).mean() - 0.75) < 0.03


SCORES = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0], [2.0, 2.0, 1.0], [0.1, 0.2, 0.3]])
LABELS = np.array([1.0, 0.0, 1.0, 2.0])


def scored(body: str, scores=SCORES, labels=LABELS, wanted=("y",)):
    text = input_layer("x", *scores.shape) + input_layer("label", *labels.shape)
    tops = " ".join(f'top: "{name}"' for name in wanted)
    net = network(text + f'layer {{ name: "y" bottom: "x" bottom: "label" {tops} {body} }}', "TRAIN")
    inputs = {"x": scores.astype(np.float32), "label": labels.astype(np.float32)}
    return net.forward(list(wanted), inputs), net.run(0, inputs)[1].item()


def losses_of(scores, labels):
    probability = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return -np.log(probability[np.arange(len(labels)), labels.astype(int)])


@pytest.mark.parametrize(
    ("loss_param", "divisor", "counted"),
    [
        ("", 4, [0, 1, 2, 3]),
        ("loss_param { ignore_label: 1 }", 2, [1, 3]),
        ("loss_param { ignore_label: 1 normalization: FULL }", 4, [1, 3]),
        ("loss_param { ignore_label: 1 normalization: BATCH_SIZE }", 4, [1, 3]),
        ("loss_param { normalization: NONE }", 1, [0, 1, 2, 3]),
        ("loss_param { normalize: false }", 4, [0, 1, 2, 3]),
    ],
)
def test_softmax_with_loss(loss_param, divisor, counted):
    out, loss = scored(f'type: "SoftmaxWithLoss" loss_weight: 0.5 {loss_param}')
    wanted = losses_of(SCORES, LABELS)[counted].sum() / divisor
    assert out["y"] == pytest.approx(wanted, rel=1e-5)
    assert loss == pytest.approx(0.5 * wanted, rel=1e-5)


def test_softmax_with_loss_over_the_places_of_a_map():
    scores, labels = RANDOM.standard_normal((2, 3, 2, 2)), RANDOM.integers(0, 3, (2, 1, 2, 2)).astype(float)
    flat = scores.transpose(0, 2, 3, 1).reshape(-1, 3)
    wanted = losses_of(flat, labels.ravel()).mean()
    assert scored('type: "SoftmaxWithLoss"', scores, labels)[1] == pytest.approx(wanted, rel=1e-5)


def test_softmax_with_loss_is_clipped_like_caffes():
    for score in (500.0, 1e20):
        assert scored('type: "SoftmaxWithLoss"', np.array([[0.0, score]]), np.zeros(1))[1] == pytest.approx(87.33654)


@pytest.mark.parametrize(
    ("param", "wanted"),
    [("", 2 / 4), ("top_k: 2", 3 / 4), ("ignore_label: 0", 2 / 3)],
)
def test_accuracy_counts_a_tie_as_wrong(param, wanted):
    out, loss = scored(f'type: "Accuracy" accuracy_param {{ {param} }}')
    assert out["y"] == pytest.approx(wanted)
    assert loss == 0


def test_accuracy_per_class():
    out, _ = scored('type: "Accuracy"', wanted=("y", "classes"))
    np.testing.assert_allclose(out["classes"], [0, 0.5, 1])


@pytest.mark.parametrize("layer_type", ["SoftmaxWithLoss", "Accuracy"])
def test_a_label_beyond_the_classes_is_named(layer_type):
    with pytest.raises(RootgenError, match=r"layer 'y': label 7 at place 2 of the batch.*3 classes.*num_output"):
        scored(f'type: "{layer_type}"', labels=np.array([0.0, 1.0, 7.0, 0.0]))


def test_other_losses():
    target = RANDOM.standard_normal((4, 3))
    assert scored('type: "EuclideanLoss"', labels=target)[1] == pytest.approx(
        ((SCORES - target) ** 2).sum() / 8, rel=1e-5
    )
    bits = (target > 0).astype(float)
    entropy = np.log1p(np.exp(SCORES)) - bits * SCORES
    assert scored('type: "SigmoidCrossEntropyLoss"', labels=bits)[1] == pytest.approx(entropy.sum() / 4, rel=1e-5)
    sign = np.ones((4, 3))
    sign[np.arange(4), LABELS.astype(int)] = -1
    hinge = np.maximum(1 + sign * SCORES, 0)
    assert scored('type: "HingeLoss"')[1] == pytest.approx(hinge.sum() / 4, rel=1e-5)
    with pytest.raises(RootgenError, match="takes one label per image, not 12 for 4"):
        scored('type: "HingeLoss"', labels=SCORES)
    assert scored('type: "HingeLoss" hinge_loss_param { norm: L2 }')[1] == pytest.approx((hinge**2).sum() / 4, rel=1e-5)


def test_an_unimplemented_type_is_named_with_its_place():
    text = (
        input_layer("x", 1, 2)
        + input_layer("z", 1)
        + ('layer { name: "y" type: "HDF5Output" bottom: "x" bottom: "z" hdf5_output_param { file_name: "y.h5" } }')
    )
    with pytest.raises(RootgenError, match=r"<text>:3: layer 'y': the embedded engine does not run HDF5Output"):
        network(text)


def test_shared_parameters_are_one_blob():
    product = 'layer {{ name: "{0}" type: "InnerProduct" bottom: "x" top: "{0}" param {{ name: "w" {1} }} ' + (
        'inner_product_param {{ num_output: 2 bias_term: false weight_filler {{ type: "xavier" }} }} }}\n'
    )
    text = input_layer("x", 1, 3) + product.format("a", "decay_mult: 0") + product.format("b", "lr_mult: 2")
    net = network(text + product.format("c", "lr_mult: 2"))
    assert len(net.learnable) == 1
    assert net.units[0].blobs[0] is net.units[1].blobs[0]
    assert (net.learnable[0].lr_mult, net.learnable[0].decay_mult) == (2, 0)  # whoever gives them


def test_each_dummy_data_layer_draws_its_own_values_and_again_with_the_same_seed():
    text = "".join(
        f'layer {{ name: "{name}" type: "DummyData" top: "{name}" dummy_data_param {{ shape {{ dim: 2 dim: 3 }} '
        'data_filler { type: "gaussian" std: 1 } } }\n'
        for name in "ab"
    )
    net = network(text)
    first, second = net.forward(["a", "b"]), net.forward(["a", "b"])
    assert (first["a"] != first["b"]).all()
    assert (first["a"] != second["a"]).all()
    again, other = network(text).forward(["a", "b"]), network(text, seed=1).forward(["a"])
    for name in "ab":
        np.testing.assert_array_equal(again[name], first[name])
    assert (other["a"] != first["a"]).all()


def test_forward_gives_only_what_is_wanted_and_frees_the_rest():
    text = input_layer("x", 1, 2) + "".join(
        f'layer {{ name: "l{i}" type: "Power" bottom: "{"x" if i == 0 else f"l{i - 1}"}" top: "l{i}" }}\n'
        for i in range(4)
    )
    net = network(text)
    x = np.ones((1, 2), np.float32)
    assert set(net.run(0, {"x": x}, ["l2"])[0]) == {"l2"}
    assert set(net.forward(["x", "l1"], {"x": x})) == {"x", "l1"}
    with pytest.raises(RootgenError, match="no blob 'l9'"):
        net.forward(["l9"], {"x": x})
    with pytest.raises(RootgenError, match="input 'x' of 1x3 where the net takes 1x2"):
        net.forward(["l0"], {"x": np.ones((1, 3), np.float32)})
    with pytest.raises(RootgenError, match="'x' is not given"):
        net.forward(["l0"])
    assert net.forward(["l3"], {"x": np.ones((5, 2), np.float32)})["l3"].shape == (5, 2)  # another batch size


MIXED = (
    input_layer("x", 3, 4, 8, 8)
    + input_layer("label", 3)
    + """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 group: 2 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "max" type: "Pooling" bottom: "conv" top: "max" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "norm" type: "LRN" bottom: "max" top: "norm" }
layer { name: "left" type: "Convolution" bottom: "norm" top: "left"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "norm" top: "sum" }
layer { name: "cat" type: "Concat" bottom: "sum" bottom: "norm" top: "cat" }
layer { name: "ave" type: "Pooling" bottom: "cat" top: "ave" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "ave" top: "ave" }
layer { name: "ip" type: "InnerProduct" bottom: "ave" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 0.7 }
"""
)


def test_gradients_are_finite_differences():
    net = network(MIXED, "TRAIN", dtype=torch.float64)
    inputs = {"x": RANDOM.standard_normal((3, 4, 8, 8)), "label": np.array([0.0, 4.0, 2.0])}
    weights = [learnable for learnable in net.learnable if learnable.lr_mult]
    for learnable in weights:
        learnable.blob.requires_grad_()
    net.run(0, inputs)[1].backward()
    assert [learnable.name for learnable in weights] == [
        "conv[0]", "conv[1]", "scale[0]", "scale[1]", "left[0]", "left[1]", "ip[0]", "ip[1]",
    ]  # fmt: skip
    step = 1e-6
    for learnable in weights:
        blob, grad = learnable.blob.detach(), learnable.blob.grad
        for place in RANDOM.choice(blob.numel(), min(blob.numel(), 6), replace=False):
            index = np.unravel_index(place, tuple(blob.shape))
            kept = blob[index].item()
            ends = []
            for value in (kept + step, kept - step):
                blob[index] = value
                with torch.no_grad():
                    ends.append(net.run(0, inputs)[1].item())
            blob[index] = kept
            difference = (ends[0] - ends[1]) / (2 * step)
            assert grad[index].item() == pytest.approx(difference, rel=1e-5, abs=1e-8), learnable.name


def test_overwriting_relus_change_nothing(monkeypatch):
    inputs = {"x": RANDOM.standard_normal((3, 4, 8, 8)).astype(np.float32), "label": np.array([0.0, 4.0, 2.0])}

    def gradients():
        net = network(MIXED, "TRAIN")
        for learnable in net.learnable:
            learnable.blob.requires_grad_(bool(learnable.lr_mult))
        net.run(0, inputs)[1].backward()
        return [learnable.blob.grad for learnable in net.learnable if learnable.lr_mult]

    overwriting = gradients()
    monkeypatch.setattr("rootgen.engine.torch.layer._overwrite", lambda maker, unit: None)
    for ours, plain in zip(overwriting, gradients(), strict=True):
        assert torch.equal(ours, plain)


def test_every_type_runs_or_is_fed_or_says_why_not():
    from rootgen.engine.torch.layers import BUILDERS
    from rootgen.net.layers.registry import TYPES

    wanted = {name for name, entry in TYPES.items() if not entry.fed and not entry.not_in_torch}
    assert set(BUILDERS) == wanted
    assert {name for name, entry in TYPES.items() if entry.not_in_torch} == {"HDF5Output", "Python", "DetectionOutput"}
