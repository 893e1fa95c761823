"""Layers that save each other passes over memory give what they give one by one."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install rootgen[torch]")

from engine_nets import input_layer, network  # noqa: E402

RANDOM = np.random.default_rng(3)
CONVOLUTION = """layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
  num_output: {num_output} kernel_size: {kernel_size} weight_filler {{ type: "msra" }} }} }}
"""
NORMALIZED = """layer {{ name: "bn_{name}" type: "BatchNorm" bottom: "{name}" top: "{name}" {bn} }}
layer {{ name: "scale_{name}" type: "Scale" bottom: "{name}" top: "{name}" {scale} }}
layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}
"""
LOSS = """layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "fc" type: "InnerProduct" bottom: "sum" top: "fc" inner_product_param { num_output: 3
  weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SHIFTED = "scale_param { bias_term: true filler { type: 'uniform' min: 0.5 max: 2 } bias_filler { value: 0.3 } }"


def net_text(bn: str = "", scale: str = SHIFTED, size: int = 24) -> str:
    """Two branches of 1x1 convolutions, normalized and added up."""
    parts = [input_layer("x", 3, 4, size, size), input_layer("label", 3)]
    for name in ("a", "b"):
        parts.append(CONVOLUTION.format(name=name, bottom="x", num_output=6, kernel_size=1))
        parts.append(NORMALIZED.format(name=name, bn=bn, scale=scale))
    return "".join(parts) + LOSS


def passed(text: str, phase: str, size: int = 24) -> tuple[list[torch.Tensor], list[bool]]:
    """Loss, gradients and statistics after two passes in double precision; which layers pass work on."""
    net = network(text, phase, dtype=torch.float64)
    x = np.random.default_rng(1).standard_normal((3, 4, size, size)) * 2 + 1
    for learnable in net.learnable:
        learnable.blob.requires_grad_(bool(learnable.lr_mult))
    for _ in range(2):
        loss = net.run(0, {"x": x, "label": np.array([0.0, 2.0, 1.0])})[1]
        loss.backward()
    found = [learnable.blob.grad if learnable.lr_mult else learnable.blob for learnable in net.learnable]
    return [loss.detach(), *found], [unit.pass_through is not None for unit in net.units]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scale": "scale_param { filler { type: 'uniform' min: 0.5 max: 2 } }"},
        {"scale": SHIFTED + " param { lr_mult: 0 } param { lr_mult: 2 }"},
        {"scale": SHIFTED + " propagate_down: false"},
        {"bn": "batch_norm_param { use_global_stats: true }"},
        {"bn": "propagate_down: false batch_norm_param { eps: 0.1 moving_average_fraction: 0.5 }"},
        {"size": 1},
    ],
    ids=["shifted", "scaled", "multipliers", "scale stops", "global", "bn stops", "a pixel"],
)
def test_scale_within_batch_norm_is_both(monkeypatch, fields, phase):
    text, size = net_text(**fields), fields.get("size", 24)
    together, sharing = passed(text, phase, size)
    assert sum(sharing) == 4
    monkeypatch.setattr("rootgen.engine.torch.module.share_passes", lambda units: None)
    apart, sharing = passed(text, phase, size)
    assert not any(sharing)
    for ours, plain in zip(together, apart, strict=True):
        assert (ours is None) == (plain is None)
        if ours is not None:
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [24, 6], ids=["", "as many rows as channels"])
@pytest.mark.parametrize("axes", ["axis: 2", "num_axes: 2", "axis: 0", "num_axes: 0"])
def test_scales_of_other_axes_stay_apart(axes, size):
    assert not any(passed(net_text(scale=f"scale_param {{ {axes} }}", size=size), "TRAIN", size)[1])


def test_one_image_of_one_pixel(monkeypatch):
    text = net_text(size=1).replace("dim: 3 dim: 4", "dim: 1 dim: 4").replace(input_layer("label", 3), "")
    text = text[: text.index('layer { name: "fc"')]
    x = {"x": RANDOM.standard_normal((1, 4, 1, 1))}
    together = network(text, "TRAIN").run(0, x)[0]
    monkeypatch.setattr("rootgen.engine.torch.module.share_passes", lambda units: None)
    apart = network(text, "TRAIN").run(0, x)[0]
    assert together.keys() == apart.keys()
    assert all(torch.equal(together[name], apart[name]) for name in apart)


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [(23, 24), (1, 512), (5, 4)], ids=["large", "a row", "small"])
def test_1x1_convolution_is_a_product_for_each_pixel(size, layout, bias):
    fields = f'bias_term: {bias} num_output: 6 kernel_size: 1 weight_filler {{ type: "msra" }}'
    text = input_layer("x", 2, 4, *size) + (
        f'layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {fields} }} }}'
    )
    net = network(text, "TRAIN", dtype=torch.float64)
    for learnable in net.learnable:
        learnable.blob.requires_grad_()
    x = torch.from_numpy(RANDOM.standard_normal((2, 4, *size))).contiguous(memory_format=layout).requires_grad_()
    (unit,) = net.units
    (y,) = unit.run(x)
    assert y.is_contiguous(memory_format=layout)
    gradient = torch.from_numpy(RANDOM.standard_normal(tuple(y.shape)))
    found = torch.autograd.grad(y, [x, *unit.blobs], gradient)
    w = unit.blobs[0].detach()[:, :, 0, 0]
    wanted = [torch.einsum("nohw,oc->nchw", gradient, w), torch.einsum("nohw,nchw->oc", gradient, x.detach())]
    torch.testing.assert_close(y.detach(), torch.einsum("nchw,oc->nohw", x.detach(), w))
    for ours, true in zip(found, [*wanted, gradient.sum((0, 2, 3))], strict=False):
        torch.testing.assert_close(ours.reshape(true.shape), true)


@pytest.mark.parametrize("fields", ["stride: 2", "pad: 1", "stride_h: 1 stride_w: 2", "group: 2"])
def test_other_1x1_convolutions_are_not_by_rows(fields):
    convolution = f'num_output: 6 kernel_size: 1 bias_term: false weight_filler {{ type: "msra" }} {fields}'
    text = input_layer("x", 2, 4, 50, 52) + (
        f'layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {convolution} }} }}'
    )
    net = network(text, "TRAIN", dtype=torch.float64)
    net.learnable[0].blob.requires_grad_()
    x = RANDOM.standard_normal((2, 4, 50, 52))
    w = net.units[0].blobs[0].detach().numpy()[:, :, 0, 0]
    if "group" in fields:
        wanted = np.concatenate([np.einsum("nchw,oc->nohw", x[:, i : i + 2], w[i * 3 // 2 :][:3]) for i in (0, 2)], 1)
    elif "pad" in fields:
        wanted = np.pad(np.einsum("nchw,oc->nohw", x, w), ((0, 0), (0, 0), (1, 1), (1, 1)))
    else:
        wanted = np.einsum("nchw,oc->nohw", x[:, :, :: 1 if "_h" in fields else 2, ::2], w)
    np.testing.assert_allclose(net.run(0, {"x": x})[0]["y"].detach().numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_part_of_a_map_is_no_row():
    text = input_layer("x", 2, 4, 30, 30) + CONVOLUTION.format(name="y", bottom="x", num_output=6, kernel_size=1)
    net = network(text, "TRAIN", dtype=torch.float64)
    for learnable in net.learnable:
        learnable.blob.requires_grad_()
    whole = torch.from_numpy(RANDOM.standard_normal((2, 4, 33, 35)))
    (unit,) = net.units
    (part,), (copy,) = unit.run(whole[:, :, 1:31, 2:32]), unit.run(whole[:, :, 1:31, 2:32].contiguous())
    torch.testing.assert_close(part, copy)
