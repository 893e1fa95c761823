"""Inter-layer correlation: against direct computation, on responses with known structure, and end to end."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rootgen
from rootgen import paths
from rootgen.cli import main
from rootgen.correlation import Moments, block_score, correlate, inverse_square_root, study
from rootgen.correlation.pairs import adjacent, choose_pairs, pair_names
from rootgen.correlation.whitening import Blocks, coefficients
from rootgen.datasets import Dataset, ImageSet, save
from rootgen.engine import open_network, open_trainer
from rootgen.errors import RootgenError
from rootgen.net.read import parse, read
from rootgen.net.shapes import infer
from rootgen.proto import schema

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
    for value in (np.nan, np.inf, -np.inf):
        later = Moments([("a", "b")])
        later.add({"a": ok, "b": ok})
        spoilt = np.stack([ok[0], ok[0]])
        spoilt[1, 1, 2, 3] = value
        with pytest.raises(RootgenError, match="blob 'b' holds values that are not finite"):
            later.add({"a": np.ones_like(spoilt), "b": spoilt})
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
    blocks = Blocks(4, 4, 2)
    assert blocks.borders == ([2], [2])
    matrix[0, 3] = 5
    np.testing.assert_array_equal(blocks.means(matrix), [[3, 2], [1, 3]])
    later = Blocks(2, 4, 4, offset=3, channels=8)  # of channels 3 and 4, which groups 1 and 2 of two read
    assert later.borders == ([1], [1, 2, 3])
    np.testing.assert_array_equal(later.means(matrix[1:3]), [[3, 3, 1, 1], [1, 1, 3, 3]])
    assert later.score(matrix[1:3]) == pytest.approx(3 / (10 / 6))
    with pytest.raises(RootgenError, match="group 3 does not divide 4 input and 4 output channels"):
        block_score(matrix, 3)
    unequal = np.ones((4, 4))
    unequal[:1, :3] = unequal[1:, 3:] = 5
    assert block_score(unequal, 2, sizes="1/3+3/1") == 5
    assert block_score(unequal[1:3], 2, offset=1, channels=4, sizes="1/3+3/1") == 5
    assert block_score(matrix, 2, sizes="2/2+2/2") == block_score(matrix, 2)
    for sizes, why in (
        ("1/3+3/2", "makes 5 outputs, but it has 4"),
        ("1/1+1/1+2/2", "is not the inputs and outputs of 2"),
    ):
        with pytest.raises(RootgenError, match=why):
            block_score(matrix, 2, sizes=sizes)


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
    assert choose_pairs((first, second), ["b-c"]) == (second,)
    with pytest.raises(RootgenError, match="did you mean 'a-b'"):
        choose_pairs((first, second), ["a-bb"])


def test_pairs_that_would_share_a_name_are_told_apart() -> None:
    """Layers a-b and c, and a and b-c."""
    net = parse(INPUT + conv("a", "data") + conv("a-b", "data") + conv("c", "a-b") + conv("b-c", "a") + conv("d", "c"))
    pairs = adjacent(net)
    assert [pair.name for pair in pairs] == ["a-b--c", "a--b-c", "c-d"]
    assert choose_pairs(pairs, ["a--b-c"])[0].layers == ("a", "b-c")
    with pytest.raises(RootgenError, match="no pair 'a-b-c' of adjacent convolutions"):
        choose_pairs(pairs, ["a-b-c"])
    hard = pair_names([("a-", "b"), ("a", "-b"), ("a", "b"), ("a---b", "c"), ("a", "--b-c")])
    assert len(set(hard.values())) == 5
    assert hard["a", "b"] == "a-b"


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


SLICED = 'top: "x2" top: "x3" slice_param { slice_point: 1 slice_point: 2 }'


def test_convolutions_between_a_slice_and_a_concat_are_one() -> None:
    text = (
        INPUT
        + conv("a", "data")
        + conv("b", "data")
        + layer("Concat", "both", "a", "b", top="both")
        + layer("Slice", "cut", "both", top="x1").replace("}", f"{SLICED} }}")
        + "".join(conv(f"part{i}", f"x{i}") for i in (1, 2, 3))
        + layer("Concat", "join", "part1", "part2", "part3", top="c")
        + layer("ReLU", "relu", "c")
        + conv("d", "c")
    )
    pairs = {str(pair): pair for pair in adjacent(parse(text))}
    assert list(pairs) == ["a-c", "b-c", "c-d"]
    assert (pairs["b-c"].blobs, pairs["b-c"].input, pairs["b-c"].before) == (("b", "c"), "both", ("a",))
    assert pairs["c-d"].blobs == ("c", "d")
    assert pairs["a-c"].group == 3
    sizes = {"x1": 1, "x2": 1, "x3": 6, "part1": 2, "part2": 1, "part3": 5}
    assert pairs["a-c"].sizes(sizes) == "1/2+1/1+6/5"
    assert pairs["c-d"].sizes(sizes) == ""
    for other in (
        text.replace('bottom: "part2" bottom: "part3"', 'bottom: "part3" bottom: "part2"'),  # in another order
        text + conv("e", "part1"),  # a part that somebody else reads
    ):
        assert [str(pair) for pair in adjacent(parse(other))][:1] == ["part1-d"]


def test_joined_convolutions_whose_blob_has_the_name_of_a_layer() -> None:
    """`c` is both the blob that joins the groups and a convolution of the same input: neither pair hides the other."""
    text = (
        INPUT
        + conv("a", "data")
        + layer("Slice", "cut", "a", top="x1").replace("}", 'top: "x2" slice_param { slice_point: 1 } }')
        + conv("part1", "x1")
        + conv("part2", "x2")
        + layer("Concat", "join", "part1", "part2", top="c")
        + conv("c", "a").replace('top: "c"', 'top: "z"')
        + layer("Concat", "both", "c", "z", top="both")
        + conv("d", "both")
    )
    pairs = {str(pair): pair for pair in adjacent(parse(text))}
    assert list(pairs) == ["a-join", "a-c", "join-d", "c-d"]
    assert [pair.group for pair in pairs.values()] == [2, 1, 1, 1]
    assert [pair.blobs[1] for pair in pairs.values()] == ["c", "z", "d", "d"]


def one(kind: str, name: str, *bottoms: str, param: str = "") -> str:
    """A layer whose top has its name."""
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{name}" {param} }}'


@pytest.mark.parametrize(
    ("param", "pairs"),
    [
        ("concat_param { axis: 1 }", ["a-c", "b-c"]),
        ("concat_param { axis: -3 }", ["a-c", "b-c"]),
        ("concat_param { concat_dim: 1 }", ["a-c", "b-c"]),
        ("concat_param { concat_dim: 2 }", []),
        ("concat_param { axis: -1 }", []),
        ("concat_param { axis: 0 }", []),
    ],
)
def test_a_concat_joins_channels_by_whichever_name_its_axis_has(param: str, pairs: list[str]) -> None:
    net = parse(
        INPUT + conv("a", "data") + conv("b", "data") + one("Concat", "x", "a", "b", param=param) + conv("c", "x")
    )
    assert [str(pair) for pair in adjacent(net)] == pairs


@pytest.mark.parametrize(
    ("between", "found"),
    [
        *(
            (one(kind, "x", "a"), True)
            for kind in ("Exp", "Log", "Threshold", "Clip", "Swish", "Power", "Split", "LRN")
        ),
        (one("PReLU", "x", "a") + one("Pooling", "y", "x", param="pooling_param { kernel_size: 2 }"), True),
        (one("Crop", "x", "a", "data"), True),
        (one("Crop", "x", "a", "data", param="crop_param { axis: 1 }"), False),
        (one("Crop", "x", "a", "data", param="crop_param { axis: -3 }"), False),
        (one("Softmax", "x", "a"), False),
        (one("Slice", "x", "a"), False),
        (one("Flatten", "x", "a"), False),
    ],
)
def test_what_may_stand_between_two_convolutions(between: str, found: bool) -> None:
    last = "y" if 'top: "y"' in between else "x"
    net = parse(INPUT + conv("a", "data") + between + conv("b", last))
    assert [str(pair) for pair in adjacent(net)] == ["a-b"] * found


def test_a_gate_is_no_response() -> None:
    """What scales channels (a squeeze-and-excitation's gate) does not hand its own channels on."""
    net = parse(
        INPUT
        + conv("a", "data")
        + conv("gate", "data")
        + one("Scale", "x", "a", "gate", param="scale_param { axis: 0 }")
        + conv("b", "x")
    )
    assert [str(pair) for pair in adjacent(net)] == ["a-b"]


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


def test_pairs_through_layers_of_other_caffes() -> None:
    """What keeps channels is passed; a gate is no response; a channel shuffle ends the way."""
    net = parse(
        INPUT
        + conv("a", "data")
        + layer("BN", "bn", "a", top="bn")
        + layer("ReLU6", "relu", "bn", top="relu")
        + layer("Interp", "up", "relu", top="up").replace("type:", "interp_param { zoom_factor: 2 } type:")
        + conv("b", "up").replace('"Convolution"', '"DepthwiseConvolution"')
        + conv("gate", "b")
        + layer("Scale", "scaled", "up", "gate", top="scaled")
        + layer("Axpy", "sum", "gate", "b", "scaled", top="sum")
        + conv("c", "sum")
        + layer("ShuffleChannel", "shuffled", "c", top="shuffled")
        + conv("d", "shuffled")
    )
    pairs = {str(pair): pair for pair in adjacent(net)}
    assert list(pairs) == ["a-b", "b-gate", "b-c", "a-c"]
    assert pairs["a-b"].blobs == ("relu", "b")
    assert pairs["a-b"].group == net.layers[5].param.convolution_param.num_output


# From a caffemodel to files


TRAINED = """
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ mirror: true crop_size: 6 mean_file: "{folder}/data/mean.binaryproto" }}
  data_param {{ source: "{folder}/data/train_lmdb" batch_size: 4 backend: LMDB }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  transform_param {{ crop_size: 6 mean_file: "{folder}/data/mean.binaryproto" }}
  data_param {{ source: "{folder}/data/test_lmdb" batch_size: 10 backend: LMDB }} }}
layer {{ name: "one" type: "Convolution" bottom: "data" top: "one"
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "one" top: "one" }}
layer {{ name: "relu" type: "ReLU" bottom: "one" top: "one" }}
layer {{ name: "pool" type: "Pooling" bottom: "one" top: "pool" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "two" type: "Convolution" bottom: "pool" top: "two"
  convolution_param {{ num_output: 4 kernel_size: 1 group: 2 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "two" top: "two" }}
layer {{ name: "drop" type: "Dropout" bottom: "two" top: "two" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "two" top: "ip" inner_product_param {{ num_output: 3 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A caffemodel of a small net after three iterations, its net.prototxt and its data beside it."""
    rng = np.random.default_rng(7)
    sets = [
        ImageSet(rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8), np.arange(count) % 3) for count in (12, 10)
    ]
    save(Dataset(sets[0], sets[1], ()), tmp_path / "data")
    (tmp_path / "net.prototxt").write_text(TRAINED.format(folder=tmp_path))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 random_seed: 1 '
        f'test_iter: 1 test_interval: 3 snapshot_prefix: "{tmp_path}/model"'
    )
    trainer = open_trainer(tmp_path / "solver.prototxt", engine="torch")
    for _ in range(3):
        trainer.step()
    return trainer.snapshot()[0]


@pytest.mark.torch
def test_a_caffemodel_alone_is_enough(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sets are found; what is computed on the test set is what its own TEST net's responses say."""
    assert (
        main(["correlation", str(trained), "--engine", "torch", "--batch-size", "4", "--draw", "whitened,within"]) == 0
    )
    assert "one-two" in capsys.readouterr().out
    out = trained.parent / "model_iter_3_correlation"
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    images = {f"{name}.{kind}" for name in ("whitened", "within") for kind in ("png", "pdf")}
    assert names == images | {"train.npz", "test.npz", "scores.csv"}
    network = open_network(trained.parent / "net.prototxt", phase="TEST", weights=trained, engine="torch")
    found = network.forward(["one", "two"])
    expected = direct(found["one"], found["two"])
    with np.load(out / "test.npz") as arrays:
        covariance, whitened = arrays["one-two.covariance"], arrays["one-two.whitened"]
    np.testing.assert_allclose(covariance, np.abs(expected[:6, 6:]), rtol=1e-4, atol=1e-6)
    scores = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [(row["images"], row["pair"], row["group"], row["samples"]) for row in scores] == [
        ("train", "one-two", "2", "432"),  # 12 images of 6 x 6 pixels
        ("test", "one-two", "2", "360"),
    ]
    assert float(scores[1]["score"]) == pytest.approx(block_score(whitened, 2), rel=1e-3)


@pytest.mark.torch
def test_what_is_given_goes_over_what_is_found(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    shutil.rmtree(tmp_path / "data")
    deploy = TRAINED.format(folder=tmp_path).split('layer { name: "one"')[1]
    (tmp_path / "deploy.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
        f'layer {{ name: "one"{deploy}'.partition('layer { name: "ip"')[0]
    )
    words = ["--net", str(tmp_path / "deploy.prototxt"), "--data", str(tmp_path / "moved/test_lmdb"), "--images", "7"]
    words += ["--mean", str(tmp_path / "moved/mean.binaryproto"), "--out", str(tmp_path / "out"), "--group", "1"]
    words += ["--single-files"]
    assert main(["correlation", str(trained), "--engine", "torch", "--draw", "covariance", *words]) == 0
    (row,) = csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines())
    assert (row["images"], row["score"], row["samples"]) == ("test", "nan", str(7 * 64))  # the net crops no more
    assert (tmp_path / "out/test/one-two_covariance.pdf").is_file()


@pytest.mark.torch
def test_refused_models(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.caffemodel"
    other.write_bytes(b"")
    no_data = schema.read_binary(trained, schema.NetParameter)
    del no_data.layer[0]
    (tmp_path / "no_data.caffemodel").write_bytes(no_data.SerializeToString())
    (tmp_path / "plain.prototxt").write_text(INPUT + conv("a", "data"))
    for words, message, *code in (
        ([str(other)], "empty file"),
        ([str(tmp_path / "none.caffemodel")], "cannot read"),
        ([str(tmp_path / "model.caffemodel.h5")], "holds weights and no net"),
        ([str(trained), "--pairs", "one-tow"], "did you mean 'one-two'?", 2),
        ([str(trained), "--net", str(tmp_path / "plain.prototxt")], "has no two convolutions that follow each other"),
        ([str(trained), "--data", str(tmp_path / "nowhere")], "no such database"),
        ([str(trained), "--group", "5"], "group 5 does not divide 6 input and 4 output channels"),
    ):
        assert [main(["correlation", *words, "--out", str(tmp_path / "out"), "--engine", "torch"])] == (code or [1])
        error = capsys.readouterr().err
        assert message in error
    (tmp_path / "data").rename(tmp_path / "moved")
    assert main(["correlation", str(trained), "--out", str(tmp_path / "out"), "--engine", "torch"]) == 1
    assert "pass --data LMDB" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
@pytest.mark.parametrize("out", ["/proc/x", "net.prototxt", "net.prototxt/x"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_images(
    trained: Path, out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "gather", None)
    assert main(["correlation", str(trained), "--engine", "torch", "--out", str(trained.parent / out)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"rootgen correlation: {trained.parent / out}/scores.csv: cannot write: ")


def test_the_module_runs_as_the_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)}
    command = [sys.executable, "-m", "rootgen.correlation", "none.caffemodel"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == "python -m rootgen.correlation: none.caffemodel: cannot read: No such file or directory\n"


@pytest.mark.parametrize("model", ["", ".", "/"])
def test_a_model_without_a_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["correlation", model]) == 1
    assert capsys.readouterr().err.endswith(": cannot read: Is a directory\n")


@pytest.mark.parametrize(("arch", "count"), [("nin", 8), ("googlenet", None), ("resnet50", None)])
def test_pairs_of_the_papers_nets_fit_their_channels(arch: str, count: int | None) -> None:
    net = read(paths.resource("prototxt") / arch / "root-8" / "deploy.prototxt")
    channels = {name: shape[1] for name, shape in infer(net).blobs.items() if len(shape) > 1}
    pairs = adjacent(net)
    assert count is None or len(pairs) == count
    assert {layer.name for layer in net.layers if layer.type == "Convolution"} == {
        name for pair in pairs for name in pair.layers
    }
    for pair in pairs:
        before = sum(channels[blob] for blob in pair.before)
        assert before + channels[pair.blobs[0]] <= channels[pair.input], pair
        assert channels[pair.input] % pair.group == 0


@pytest.mark.torch
@pytest.mark.parametrize(
    ("names", "stem", "arrays"),
    [
        (("../../one", "two"), "__.._one-two", "_/_/one-two"),
        (("/one", "/two"), "_one-_two", "_/one-/two"),
        (("a/one", "a/two"), "a_one-a_two", "a/one-a/two"),
        (("..", "."), "_", "_"),
        (("one\n\x1b[2J", "two"), "one_n_x1b[2J-two", "one_n_x1b[2J-two"),
        (("x" * 300, "two"), None, None),
        (("", "$\\frac$"), "_$_frac$", "_$_frac$"),
    ],
)
def test_files_stay_below_the_folder_whatever_layers_are_called(
    trained: Path, tmp_path: Path, names: tuple[str, str], stem: str | None, arrays: str | None
) -> None:
    earlier, later = names
    model = schema.read_binary(trained, schema.NetParameter)
    for layer in model.layer:
        layer.name = {"one": earlier, "two": later}.get(layer.name, layer.name)
    (tmp_path / "deep/er").mkdir(parents=True)
    hostile = tmp_path / "deep/er/hostile.caffemodel"
    hostile.write_bytes(schema.to_bytes(model))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    out = tmp_path / "deep/er/out"
    assert (
        main(
            [
                "correlation",
                str(hostile),
                "--engine",
                "torch",
                "--out",
                str(out),
                "--draw",
                "whitened,within",
                "--single-files",
            ]
        )
        == 0
    )
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - set(before)
    assert all(path.is_relative_to(out) for path in made)
    assert {path: path.read_bytes() for path in before} == before
    assert len([path for path in made if path.parent == out / "test"]) == 6
    if stem is not None:
        assert out / "test" / f"{stem}.png" in made
    with np.load(out / "test.npz") as held:
        assert arrays is None or f"{arrays}.whitened" in held
        assert not any(part in ("..", "") for name in held for part in name.split("/"))


@pytest.mark.torch
def test_correlate_from_python_writes_nothing_and_gives_what_the_command_writes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    told: list[tuple[str, int, int]] = []
    found = rootgen.correlate(trained, engine="torch", report=lambda *each: told.append(each))
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.files, told[-1]) == ([], ("test images", 10, 10))
    again = rootgen.correlate(trained, "out", engine="torch", draw=["whitened"], single_files=True)
    assert sorted(again.files) == sorted(path for path in Path("out").rglob("*") if path.is_file())
    assert [(one.row.images, one.row.pair) for one in found.pairs] == [("train", "one-two"), ("test", "one-two")]
    pair = found.pair("one-two", "test")
    with np.load("out/test.npz") as arrays:
        np.testing.assert_array_equal(arrays["one-two.whitened"], pair.whitened.astype(np.float32))
        np.testing.assert_array_equal(arrays["one-two.within_later"], pair.within[1].astype(np.float32))
    assert pair.figure().png() == Path("out/test/one-two.png").read_bytes()
    sheets = rootgen.correlate(trained, "sheets", engine="torch", control=True, seed=3)
    assert sheets.sheets()[0].png() == Path("sheets/whitened.png").read_bytes()
    assert (Path("sheets") / "untrained/test.npz").is_file()
    assert [row["score"] for row in found.rows] == [one.score for one in found.pairs]
    assert str(found).splitlines()[3].split() == ["one-two", "test", "2", f"{pair.score:.2f}", "360"]
    with pytest.raises(RootgenError, match=r"no pair 'one-tow' .did you mean 'one-two'"):
        found.pair("one-tow")
    with pytest.raises(RootgenError, match=r"no images 'tset' .did you mean 'test'"):
        found.pair("one-two", "tset")
