"""Inter-layer correlation: against direct computation, on responses with known structure, and end to end."""

from __future__ import annotations

import numpy as np
import pytest

from rootgen.correlation import Moments, block_score, correlate, inverse_square_root
from rootgen.correlation.pairs import adjacent, choose
from rootgen.correlation.whitening import coefficients
from rootgen.errors import RootgenError
from rootgen.net import parse

# The streamed covariances


def responses(rng: np.random.Generator, channels: int, size: tuple[int, int], images: int) -> np.ndarray:
    """Rectified, correlated float32 responses with means far from zero."""
    mix = rng.standard_normal((channels, channels))
    x = np.einsum("ij,njhw->nihw", mix, rng.standard_normal((images, channels, *size)))
    return np.maximum(x + 2, 0).astype(np.float32)


def upsampled(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """x by nearest neighbour at `size`, pixel by pixel."""
    rows, columns = (
        [min(int((i + 0.5) * small / large), small - 1) for i in range(large)]
        for small, large in zip(x.shape[2:], size, strict=True)
    )
    return x[:, :, rows][:, :, :, columns]


def direct(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """Joint covariance of two layers' responses, from everything at once in float64."""
    size = (max(x1.shape[2], x2.shape[2]), max(x1.shape[3], x2.shape[3]))
    rows = [upsampled(x.astype(np.float64), size).transpose(1, 0, 2, 3).reshape(x.shape[1], -1) for x in (x1, x2)]
    return np.cov(np.concatenate(rows))


SIZES = {
    "same": ((6, 5), (6, 5)),
    "pooled": ((8, 8), (4, 4)),
    "pooled to one": ((5, 4), (1, 1)),
    "uneven": ((7, 9), (4, 4)),
    "later larger": ((4, 4), (7, 6)),
    "columns only": ((4, 4), (4, 7)),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_streamed_covariances_are_those_computed_at_once(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    x1, x2 = (responses(rng, channels, size, 23) for channels, size in zip((6, 4), sizes, strict=True))
    moments = Moments([("a", "b")])
    for start in range(0, 23, 5):  # the last batch is smaller
        moments.add({"a": x1[start : start + 5], "b": x2[start : start + 5]})
    found = moments.covariance(("a", "b"))
    expected = direct(x1, x2)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.within_earlier, expected[:6, :6], atol=1e-12 * scale)
    np.testing.assert_allclose(found.across, expected[:6, 6:], atol=1e-12 * scale)
    np.testing.assert_allclose(found.within_later, expected[6:, 6:], atol=1e-12 * scale)
    assert found.samples == 23 * max(sizes[0][0], sizes[1][0]) * max(sizes[0][1], sizes[1][1])


def test_many_pairs_share_one_pass() -> None:
    rng = np.random.default_rng(1)
    blobs = {name: responses(rng, 3, size, 7) for name, size in (("a", (8, 8)), ("b", (4, 4)), ("c", (2, 3)))}
    moments = Moments([("a", "b"), ("b", "c"), ("a", "c")])
    moments.add({name: x[:3] for name, x in blobs.items()})
    moments.add({name: x[3:] for name, x in blobs.items()})
    for pair in moments.pairs:
        expected = direct(blobs[pair[0]], blobs[pair[1]])
        np.testing.assert_allclose(moments.covariance(pair).across, expected[:3, 3:], atol=1e-12)
        np.testing.assert_allclose(moments.covariance(pair).within_later, expected[3:, 3:], atol=1e-12)


def test_a_large_mean_costs_no_accuracy() -> None:
    rng = np.random.default_rng(2)
    x = (1e4 + rng.standard_normal((40, 3, 5, 5))).astype(np.float32)
    moments = Moments([("a", "b")])
    for start in range(0, 40, 8):
        moments.add({"a": x[start : start + 8], "b": x[start : start + 8]})
    expected = direct(x, x)[:3, :3]
    np.testing.assert_allclose(moments.covariance(("a", "b")).across, expected, rtol=1e-9)


def test_refused_responses() -> None:
    moments = Moments([("a", "b")])
    ok = np.ones((1, 2, 4, 4), np.float32)
    with pytest.raises(RootgenError, match="blob 'b' holds values that are not finite"):
        moments.add({"a": ok, "b": ok * np.nan})
    with pytest.raises(RootgenError, match=r"blob 'a' has shape \(1, 2\)"):
        moments.add({"a": ok[:, :, 0, 0], "b": ok})
    crossed = Moments([("a", "b")])
    with pytest.raises(RootgenError, match="neither contains the other"):
        crossed.add({"a": np.ones((1, 2, 4, 2)), "b": np.ones((1, 2, 2, 4))})
    single = Moments([("a", "b")])
    single.add({"a": ok[:, :, :1, :1], "b": ok[:, :, :1, :1]})
    with pytest.raises(RootgenError, match="1 samples give no covariance"):
        single.covariance(("a", "b"))


# Whitening and score


def correlated_blocks(strength: float, group: int, images: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two layers of 12 and 8 filters that meet only inside `group` blocks, and |whitened covariance| by construction.

    White z1 and z2 with known cross-covariance K, block-diagonal of rotations times `strength`; each layer is then
    mixed by a symmetric positive definite matrix, whose inverse the ZCA whitening is.
    """
    rng = np.random.default_rng(3)
    rows, columns = 12, 8
    cross = np.zeros((rows, columns))
    for block in range(group):
        q, _ = np.linalg.qr(rng.standard_normal((rows // group, columns // group)))
        cross[block * rows // group :, block * columns // group :][: rows // group, : columns // group] = strength * q
    joint = np.block([[np.eye(rows), cross], [cross.T, np.eye(columns)]])
    z = np.linalg.cholesky(joint) @ rng.standard_normal((rows + columns, images * 16))
    mixes = []
    for count in (rows, columns):
        a = rng.standard_normal((count, count))
        mixes.append(a @ a.T / count + np.eye(count))
    x1, x2 = (mix @ part for mix, part in zip(mixes, (z[:rows], z[rows:]), strict=True))
    shape = (images, 4, 4)
    x1, x2 = (x.reshape(len(x), *shape).transpose(1, 0, 2, 3) for x in (x1, x2))
    return x1, x2, np.abs(cross)


@pytest.mark.parametrize("group", [2, 4])
def test_known_blocks_are_found(group: int) -> None:
    x1, x2, expected = correlated_blocks(0.9, group)
    moments = Moments([("a", "b")])
    for start in range(0, len(x1), 50):
        moments.add({"a": x1[start : start + 50], "b": x2[start : start + 50]})
    result = correlate(moments.covariance(("a", "b")))
    np.testing.assert_allclose(result.whitened, expected, atol=0.06)  # 6400 samples: standard error 0.0125
    assert result.dead == (0, 0)
    assert block_score(result.whitened, group) > 20
    assert block_score(result.covariance, group) < 5  # the mixing hides the blocks until it is undone


def test_unrelated_layers_score_one() -> None:
    rng = np.random.default_rng(4)
    moments = Moments([("a", "b")])
    moments.add({"a": rng.standard_normal((60, 32, 8, 8)), "b": rng.standard_normal((60, 32, 8, 8))})
    result = correlate(moments.covariance(("a", "b")))
    assert block_score(result.whitened, 4) == pytest.approx(1, abs=0.1)


def test_inverse_square_root_is_symmetric_and_undoes_the_covariance() -> None:
    a = np.random.default_rng(5).standard_normal((7, 7))
    covariance = a @ a.T
    root, dead = inverse_square_root(covariance)
    assert dead == 0
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ covariance @ root, np.eye(7), atol=1e-8)


def test_dead_and_duplicate_filters_do_not_blow_up() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((30, 6, 4, 4)).astype(np.float32)
    x[:, 2] = 0  # never responds
    x[:, 4] = x[:, 1]  # says what filter 1 says
    moments = Moments([("a", "b")])
    moments.add({"a": x, "b": x})
    result = correlate(moments.covariance(("a", "b")))
    assert result.dead == (2, 2)
    assert result.whitened.max() < 1 + 1e-9
    assert result.whitened[2].max() < 1e-12
    assert not result.within_earlier[2].any()
    assert result.within_earlier[1, 4] == pytest.approx(1)
    root, dead = inverse_square_root(np.zeros((3, 3)))
    assert (dead, root.any()) == (3, False)
    assert not coefficients(np.zeros((3, 3))).any()


def test_block_score_by_hand() -> None:
    matrix = np.ones((4, 4))
    matrix[:2, :2] = matrix[2:, 2:] = 3
    assert block_score(matrix, 2) == 3
    assert np.isnan(block_score(matrix, 1))
    assert block_score(matrix[:2], 2, offset=0, channels=4) == 3
    assert block_score(matrix[2:], 2, offset=2, channels=4) == 3
    with pytest.raises(RootgenError, match="group 3 does not divide 4 input and 4 output channels"):
        block_score(matrix, 3)


# Pairs


def conv(name: str, bottom: str, *, top: str | None = None, group: int = 1) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top or name}" '
        f"convolution_param {{ num_output: 4 kernel_size: 1 group: {group} }} }}\n"
    )


def layer(kind: str, name: str, *bottoms: str, top: str | None = None) -> str:
    """A layer; in place unless `top` is given."""
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top or bottoms[0]}" }}\n'


INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'


def test_pairs_of_a_chain_are_taken_after_their_relu() -> None:
    net = parse(
        INPUT
        + conv("a", "data")
        + layer("BatchNorm", "a_bn", "a")
        + layer("ReLU", "a_relu", "a", top="a_out")
        + layer("Pooling", "pool", "a_out", top="pool")
        + conv("b", "pool", group=2)
        + layer("ReLU", "b_relu", "b")
        + conv("c", "b")
    )
    first, second = adjacent(net)
    assert (str(first), first.blobs, first.group, first.input) == ("a-b", ("a_out", "b"), 2, "pool")
    assert (str(second), second.blobs) == ("b-c", ("b", "c"))
    assert choose((first, second), ["b-c"]) == (second,)
    with pytest.raises(RootgenError, match="did you mean 'a-b'"):
        choose((first, second), ["a-bb"])


def test_pairs_through_a_concat_know_their_channels() -> None:
    net = parse(
        INPUT
        + conv("a", "data")
        + conv("b", "data")
        + layer("Concat", "both", "a", "b", top="both")
        + conv("c", "both", group=2)
    )
    (first, second) = adjacent(net)
    assert (first.layers, first.before) == (("a", "c"), ())
    assert (second.layers, second.before) == (("b", "c"), ("a",))


def test_residual_sums_join_only_what_they_add() -> None:
    net = parse(
        INPUT
        + conv("a", "data")
        + conv("b", "a")
        + layer("Eltwise", "sum1", "a", "b", top="sum1")
        + conv("c", "sum1")
        + layer("Eltwise", "sum2", "sum1", "c", top="sum2")
        + conv("d", "sum2")
    )
    assert [str(pair) for pair in adjacent(net)] == ["a-b", "a-c", "b-c", "c-d"]
