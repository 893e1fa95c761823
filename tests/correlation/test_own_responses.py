"""Correlation of responses that any framework gave: against direct computation, in every form they come in."""

from __future__ import annotations

import numpy as np
import pytest

import rootgen
from rootgen.errors import RootgenError

respond = rootgen.correlate_responses

RANDOM = np.random.default_rng(3)
X1 = RANDOM.standard_normal((130, 8, 4, 6)).astype(np.float32)  # more than one batch
MIX = np.kron(np.eye(4), np.ones((1, 2)))  # each of 4 later channels from its own 2
X2 = np.einsum("ij,njhw->nihw", MIX, X1[:, :, ::2, ::2]).astype(np.float32)
X2 += 0.5 * RANDOM.standard_normal(X2.shape).astype(np.float32)


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def test_matrices_are_those_computed_at_once() -> None:
    found = rootgen.correlate_responses(X1, X2, group=4, labels=("conv1", "conv2"))
    later = X2.repeat(2, axis=2).repeat(2, axis=3)
    rows = [x.astype(np.float64).transpose(1, 0, 2, 3).reshape(x.shape[1], -1) for x in (X1, later)]
    joint = np.cov(np.concatenate(rows))
    s11, s12, s22 = joint[:8, :8], joint[:8, 8:], joint[8:, 8:]
    np.testing.assert_allclose(found.whitened, np.abs(root(s11) @ s12 @ root(s22)), atol=1e-9)
    np.testing.assert_allclose(found.covariance, np.abs(s12), atol=1e-9)
    coefficients = np.abs(np.corrcoef(np.concatenate(rows)))
    for within, expected in zip(found.within, (coefficients[:8, :8], coefficients[8:, 8:]), strict=True):
        np.testing.assert_allclose(within, expected, atol=1e-9)
    inside = np.kron(np.eye(4), np.ones((2, 1))).astype(bool)
    assert found.score == pytest.approx(found.whitened[inside].mean() / found.whitened[~inside].mean())
    assert found.score > 3
    assert str(found).splitlines()[-1].split() == ["conv1-conv2", "130", "4", f"{found.score:.2f}", str(130 * 24)]


def test_batches_are_the_same_as_all_at_once() -> None:
    expected = rootgen.correlate_responses(X1, X2, group=2)
    cut = [slice(0, 7), slice(7, 100), slice(100, 130)]
    lists = rootgen.correlate_responses([X1[c] for c in cut], [X2[c] for c in cut], group=2)
    generators = rootgen.correlate_responses((X1[c] for c in cut), (X2[c] for c in cut), group=2)
    for found in (lists, generators):
        np.testing.assert_allclose(found.whitened, expected.whitened, atol=1e-9)
        assert found.row.samples == expected.row.samples


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_of_any_type_that_want_a_gradient(kind: str) -> None:
    import torch

    tensors = [torch.from_numpy(x).to(getattr(torch, kind)).requires_grad_() for x in (X1, X2)]
    found = rootgen.correlate_responses(*tensors, group=4)
    expected = rootgen.correlate_responses(*(t.detach().double().numpy() for t in tensors), group=4)
    np.testing.assert_allclose(found.whitened, expected.whitened, atol=1e-9)
    assert all(t.requires_grad for t in tensors)


@pytest.mark.gpu
def test_tensors_on_a_gpu() -> None:
    import torch

    found = rootgen.correlate_responses(torch.from_numpy(X1).cuda(), torch.from_numpy(X2).cuda().half(), group=4)
    np.testing.assert_allclose(found.whitened, rootgen.correlate_responses(X1, X2, group=4).whitened, atol=1e-2)


def test_whole_numbers_do_and_the_arrays_stay_as_they_are() -> None:
    images = RANDOM.integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    before = images.copy()
    found = rootgen.correlate_responses(images, images.astype(np.float64))
    np.testing.assert_allclose(found.whitened, np.eye(3), atol=1e-8)
    assert np.isnan(found.score)  # one group has nothing outside it
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("kind", ["whitened", "covariance", "within_earlier", "within_later"])
def test_figures(kind: str) -> None:
    found = rootgen.correlate_responses(X1, X2, group=4, labels=("conv1", "conv2"))
    svg = found.figure(kind).svg()
    assert svg.endswith("</svg>\n")
    assert ("conv1 (8 filters, 4×6)" in svg) == (kind != "within_later")
    assert ("conv2 (4 filters, 2×3)" in svg) == (kind != "within_earlier")
    assert "130 images, 3,120 samples" in svg
    assert (f", block score {found.score:.2f}" in svg) == (kind == "whitened")  # which it is of
    assert found._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(RootgenError, match="no kind 'whitend'"):
        found.figure("whitend")


BATCHES = "an array or tensor of N x C x H x W, or an iterable of batches"
NAN = X1.copy()
NAN[70, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: respond(X1, X2[:9]), "130 images of earlier, 9 of later"),
        (lambda: respond([X1[:9], X1[9:20]], [X2[:9], X2[9:19]]), "batch 1: 11 images of earlier, 10 of later"),
        (lambda: respond([X1, X1], [X2]), "later ends after 1 batches, the other goes on"),
        (lambda: respond([], []), "earlier and later hold no batch"),
        (lambda: respond(X1[:0], X2[:0]), "earlier, batch 0: has shape 0x8x4x6, not images x channels"),
        (lambda: respond(X1, X2[:, :, 0]), "later, batch 0: has shape 64x4x3, not images x channels"),
        (lambda: respond(NAN, X2), "earlier, batch 1: holds values that are not finite"),
        (lambda: respond([X1, X1[:, :4]], [X2, X2]), "earlier, batch 1: has maps of 4x4x6, the first batch of 8x4x6"),
        (lambda: respond(X1, X2, group=3), "group 3 does not divide 8 input and 4 output channels"),
        (lambda: respond(X1, X2, group=0), "group is 0, but has to be from 1"),
        (lambda: respond(X1[:, :, :2], X2[:, :, :, :1].repeat(4, 2)), "neither contains the other"),
        (lambda: respond(X1[:1, :, :1, :1], X2[:1, :, :1, :1]), "1 samples give no covariance"),
        (lambda: respond(X1, X2, labels=["a"]), "labels are 1 names, not 2"),
        (lambda: respond(*[iter([X1])] * 2), "are one iterator"),
    ],
)
def test_refused(call, message: str) -> None:
    with pytest.raises(RootgenError) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: respond(3, X2), f"earlier is an int, not {BATCHES}"),
        (lambda: respond(X1, "x"), f"later is a str, not {BATCHES}"),
        (lambda: respond(X1, [X2]), "earlier and later are an array and an iterable of batches: give two of one kind"),
        (lambda: respond([X1], [[1]]), "later, batch 0 is a list, not an array or tensor of N x C x H x W"),
        (lambda: respond(X1 + 1j, X2), "earlier holds complex64, not real numbers"),
        (lambda: respond(X1, X2.astype(object)), "later holds object, not real numbers"),
        (lambda: respond(X1, X2, group="4"), "group is a str, not a whole number"),
        (lambda: respond(X1, X2, labels="ab"), "labels is a str, not two names"),
    ],
)
def test_wrong_types(call, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message
