"""Fillers: moments and exact values."""

from __future__ import annotations

import math

import pytest
from engine_nets import one_layer, torch

from rootgen.engine.torch.fillers import fill
from rootgen.errors import RootgenError
from rootgen.proto import prototxt, schema

pytestmark = pytest.mark.torch

SHAPE = (64, 24, 5, 5)  # fan in 24*25 = 600, fan out 64*25 = 1600


def filled(text: str, shape=SHAPE):
    return fill(shape, prototxt.parse(text, schema.FillerParameter), torch.Generator().manual_seed(0), "layer")


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ('type: "constant" value: 0.5', 0.5, 0),
        ('type: "uniform" min: -1 max: 3', 1, 4 / math.sqrt(12)),
        ('type: "gaussian" mean: 2 std: 0.3', 2, 0.3),
        ('type: "xavier"', 0, math.sqrt(1 / 600)),
        ('type: "xavier" variance_norm: AVERAGE', 0, math.sqrt(1 / 1100)),
        ('type: "msra"', 0, math.sqrt(2 / 600)),
        ('type: "msra" variance_norm: FAN_OUT', 0, math.sqrt(2 / 1600)),
        ('type: "msra" variance_norm: AVERAGE', 0, math.sqrt(2 / 1100)),
        ("", 0, 0),
    ],
)
def test_moments(text, mean, std):
    values = filled(text)
    error = 4 * max(std, 1e-9) / math.sqrt(values.numel())
    assert values.mean().item() == pytest.approx(mean, abs=error)
    assert values.std().item() == pytest.approx(std, rel=0.02, abs=1e-9)


def test_msra_of_a_grouped_convolution_by_fan_in_and_by_caffes_fan_out():
    body = 'type: "Convolution" convolution_param {{ num_output: 256 kernel_size: 3 group: 4 weight_filler {{ {} }} }}'
    fan_in = one_layer(body.format('type: "msra"'), 1, 128, 5, 5).units[0].blobs[0]
    assert fan_in.std().item() == pytest.approx(math.sqrt(2 / (128 / 4 * 9)), rel=0.02)
    fan_out = one_layer(body.format('type: "msra" variance_norm: FAN_OUT'), 1, 128, 5, 5).units[0].blobs[0]
    right = math.sqrt(2 / (256 / 4 * 9))  # what one output of a group feeds
    assert fan_out.std().item() == pytest.approx(right / math.sqrt(4), rel=0.02)


def test_positive_unitball_rows_sum_to_one():
    values = filled('type: "positive_unitball"')
    assert values.min() >= 0
    torch.testing.assert_close(values.flatten(1).sum(1), torch.ones(64))


def test_sparse_gaussian_keeps_that_many_per_input_on_average():
    kept = (filled('type: "gaussian" sparse: 16') != 0).float().mean().item()
    assert kept == pytest.approx(16 / 64, abs=0.01)


def test_bilinear_interpolates():
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(filled('type: "bilinear"', (2, 1, 4, 4))[1, 0], torch.outer(line, line))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('type: "he"', "layer: unknown filler 'he'"),
        ('type: "xavier" sparse: 3', "filler 'xavier' has no sparse"),
        ('type: "uniform" min: 2 max: 1', "filler 'uniform': min 2 is above max 1"),
        ('type: "gaussian" std: -1', "filler 'gaussian': std is -1, but has to be above 0"),
        ('type: "bilinear"', None),
    ],
)
def test_fillers_that_cannot_be(text, match):
    with pytest.raises(RootgenError, match=match or "filler 'bilinear': the blob must have 4 axes"):
        filled(text, SHAPE if match else (3, 4))


def test_the_same_seed_fills_the_same_layer_alike_in_any_net():
    body = 'type: "InnerProduct" inner_product_param { num_output: 4 weight_filler { type: "xavier" } }'
    first, second = (one_layer(body, batch, 6).units[0].blobs[0] for batch in (1, 2))
    assert torch.equal(first, second)
