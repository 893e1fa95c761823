"""Weights judged by images and fitted to them: against the variance itself and NumPy's least squares."""

import numpy as np
import pytest
from engine_nets import write_database
from test_regroup import CHAIN, INPUT, blobs_of, conv, layer, saved

from rootgen.cli import main
from rootgen.deploy.advise import advise
from rootgen.deploy.fit import fit, worth_of
from rootgen.deploy.images import Runner
from rootgen.deploy.regroup import Data, with_weights
from rootgen.engine import weights
from rootgen.net.load import load_text
from rootgen.transform import regroup
from rootgen.transform.transform import TransformOptions

pytestmark = pytest.mark.torch
SHAPE = (3, 9, 9)
STRIDED = INPUT + layer(
    "Convolution", "a", "data", more="convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 }"
)


class Few:
    """Images in memory, as Images has them."""

    count = 6

    def __init__(self):
        self.images = np.random.default_rng(3).standard_normal((6, *SHAPE)).astype("f4")

    def batches(self):
        yield self.images[:4]
        yield self.images[4:]


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, SHAPE, dtype=np.uint8) for _ in range(20)]
    (tmp_path / "data").mkdir()
    write_database(tmp_path / "data" / "train_lmdb", images, [0] * 20)
    return tmp_path / "data"


@pytest.mark.parametrize(("text", "name"), [(CHAIN, "b"), (STRIDED, "a")])
def test_worth_is_the_variance_that_a_connection_gives(text, name):
    net = load_text(text)
    blobs = blobs_of(net)
    runner, few = Runner(net, blobs, SHAPE), Few()
    found = worth_of(runner, [name], blobs, few)[name]
    for channel in (0, 2):
        only = [np.zeros_like(blob) for blob in blobs[name]]
        only[0][:, channel] = blobs[name][0][:, channel]
        runner.set(name, only)
        made = runner.outputs([name], few.images)[name].astype("f8")
        assert found[:, channel] == pytest.approx(made.var((0, 2, 3)), rel=1e-4)


@pytest.mark.parametrize("bias", ["", "bias_term: false"])
def test_the_fit_is_numpys_least_squares(bias):
    """In front of a ReLU in place, whose values are not what is fitted."""
    wide = f"convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 {bias} }}"
    text = INPUT + conv("a", "data") + layer("ReLU", "r", "a", "a") + layer("Convolution", "b", "a", more=wide)
    text += layer("ReLU", "rb", "b", "b") + conv("e", "b", 4, 1)
    net, after = load_text(text), load_text(_grouped(text, {"b": 4}))
    blobs = blobs_of(net)
    cut = {**blobs, **regroup.cut(net.layer("b"), blobs["b"], 4)}
    few = Few()
    before = Runner(net, blobs, SHAPE)
    found = fit(before, Runner(after, cut, SHAPE), ["b"], cut, images=few)
    x, y = (np.float64(got(["b"], few.images)["b"]) for got in (before.inputs, before.outputs))
    assert y.min() < 0
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :4]  # the first group's channels
    rows = seen.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 36)
    rows = np.hstack([rows, np.ones((len(rows), 0 if bias else 1))])
    wanted = y[:, :4].transpose(0, 2, 3, 1).reshape(-1, 4)
    solution, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
    best = ((rows @ solution - wanted) ** 2).sum()
    mine = np.hstack([found.blobs["b"][0][:4].reshape(4, -1), *([] if bias else [found.blobs["b"][1][:4, None]])])
    plain = np.hstack([cut["b"][0][:4].reshape(4, -1), *([] if bias else [cut["b"][1][:4, None]])])
    assert ((rows @ mine.T - wanted) ** 2).sum() == pytest.approx(best, rel=1e-3)
    assert ((rows @ plain.T - wanted) ** 2).sum() > 1.05 * best
    got = Runner(after, {**cut, **found.blobs}, SHAPE).outputs(["b"], few.images)["b"]
    left = ((got - y) ** 2).sum() / ((y - y.mean((0, 2, 3), keepdims=True)) ** 2).sum()
    assert 1 - found.shares["b"] == pytest.approx(left, rel=1e-3)


def _grouped(text, groups):
    from rootgen.grouping import Plan
    from rootgen.transform.transform import transform

    return transform(text, Plan.of(group=groups)).text


def test_groups_of_given_sizes_are_fitted_like_those_of_the_field_group(folder, tmp_path):
    """Equal sizes come to what `group` comes to; others to less than all, and to more than they gave before the fit."""
    text = CHAIN.replace('bottom: "b" top: "c"', 'bottom: "r2" top: "c"') + layer("ReLU", "rc", "c", "c")
    text = text.replace('layer { name: "c"', layer("ReLU", "r2", "b") + 'layer { name: "c"')
    prototxt, model = saved(tmp_path, text)
    shown = {"data": folder, "images": 16}
    plain, equal, unequal = (
        with_weights(prototxt, model, group={"b": told}, **shown) for told in (4, "4+4+4+4", "8+4+2+2")
    )
    assert equal.kept[0].fitted == pytest.approx(plain.kept[0].fitted, rel=1e-9)
    for blob, parts in enumerate(zip(*(equal.blobs[f"b_group{i}"] for i in (1, 2, 3, 4)), strict=True)):
        np.testing.assert_allclose(np.concatenate(parts), plain.blobs["b"][blob], rtol=1e-6, atol=1e-9)
    images = with_images(folder, load_text(text), model)[:16]  # those that it was fitted to
    wanted = Runner(load_text(text), weights.read(model), SHAPE).outputs(["b"], images)["b"]
    cut = with_weights(prototxt, model, group={"b": "8+4+2+2"}, **shown, fit=False)

    def left(found):
        """The share of the variance of b's outputs, in the order of the new net, that is not given."""
        net = found.transformed.net
        got = Runner(net, found.blobs, SHAPE)
        made = got._blobs({"b": "b"}, images)["b"]
        order = _order(found, weights.read(model))
        there = wanted[:, order]
        return ((made - there) ** 2).sum() / ((there - there.mean((0, 2, 3), keepdims=True)) ** 2).sum()

    assert 1 - unequal.kept[0].fitted == pytest.approx(left(unequal), rel=1e-3)
    assert left(unequal) < left(cut)


def _order(found, stored):
    """The order of the outputs of `b`, by what its reader had and has for weights."""
    was, now = (blobs["c"][0][:, :, 0, 0] for blobs in (stored, found.blobs))
    return [int(np.abs(was - now[:, [i]]).sum(0).argmin()) for i in range(16)]


def test_a_second_layer_is_fitted_to_what_the_first_gives_then(folder, tmp_path):
    text = CHAIN + layer("ReLU", "rc", "c", "c") + conv("d", "c", 16) + conv("e", "d", 8, 1)
    prototxt, model = saved(tmp_path, text)
    shown = {"group": {"b": 4, "d": 4}, "data": folder, "images": 16}
    cut, fitted = (with_weights(prototxt, model, **shown, fit=fits) for fits in (False, True))
    assert [one.fitted for one in cut.kept] == [None, None]
    assert all(0.2 < one.fitted < 1 for one in fitted.kept)
    assert "fitted" in fitted.tables()[0].header
    assert "fitted" not in cut.tables()[0].header
    images = with_images(folder, load_text(text), model)
    wanted = Runner(load_text(text), weights.read(model), SHAPE).outputs(["e"], images)["e"]
    gaps = [
        ((Runner(load_text(one.text), one.blobs, SHAPE).outputs(["e"], images)["e"] - wanted) ** 2).mean()
        for one in (with_weights(prototxt, model, group=shown["group"], permute=False), cut, fitted)
    ]
    assert gaps[2] < gaps[1]
    assert gaps[2] < gaps[0]


def with_images(folder, net, model):
    from contextlib import closing

    from rootgen.deploy.images import open_images

    with closing(open_images(folder, net, model, net_path=None, mean=None, count=20, lenient=False)) as images:
        return np.concatenate(list(images.batches()))


def test_batches_begin_again_and_end_where_they_should(folder, tmp_path):
    prototxt, model = saved(tmp_path, CHAIN)
    from contextlib import closing

    from rootgen.deploy.images import open_images

    with closing(
        open_images(folder, load_text(CHAIN), model, net_path=str(prototxt), mean=None, count=18, lenient=False)
    ) as images:
        first, second = (np.concatenate(list(images.batches())) for _ in range(2))
    assert len(first) == 18
    assert (first == second).all()
    assert first.max() > 200  # no scale, no mean


def test_what_was_hidden_stays_whole_after_a_fit(folder, tmp_path):
    """A net of blocks loses nothing: neither its outputs on the images, nor those on others."""
    net = load_text(CHAIN)
    blobs = blobs_of(net)
    whole = np.kron(np.eye(4), np.ones((4, 4)))[np.random.default_rng(1).permutation(16)]
    blobs["b"][0] = blobs["b"][0] * whole[:, :, None, None]
    prototxt, model = saved(tmp_path, CHAIN, blobs)
    found = with_weights(prototxt, model, group={"b": 4}, data=folder)
    assert found.kept[0].permuted == pytest.approx(1)
    assert found.kept[0].fitted == pytest.approx(1, abs=1e-5)
    few = Few()
    wanted = Runner(net, weights.read(model), SHAPE).outputs(["c"], few.images)["c"]
    got = Runner(load_text(found.text), found.blobs, SHAPE).outputs(["c"], few.images)["c"]
    assert np.abs(got - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_inputs_that_are_dead_keep_their_weights(folder, tmp_path):
    blobs = blobs_of(load_text(CHAIN))
    blobs["a"][0][:8], blobs["a"][1][:8] = 0, -1
    prototxt, model = saved(tmp_path, CHAIN, blobs)
    blobs = weights.read(model)
    found = with_weights(prototxt, model, group={"b": 2}, data=folder, permute=False)
    assert (found.blobs["b"][0][:8] == blobs["b"][0][:8, :8]).all()
    assert (found.blobs["b"][0][8:] != blobs["b"][0][8:, 8:]).any()
    assert all(np.isfinite(blob).all() for own in found.blobs.values() for blob in own)


def test_advice_by_images_is_another(folder, tmp_path):
    prototxt, model = saved(tmp_path, CHAIN)
    options = TransformOptions()
    plain = advise(CHAIN, str(model), prototxt, options, share=0.6)
    seen = advise(CHAIN, str(model), prototxt, options, share=0.6, data=Data(str(folder)))
    assert seen.bearings[0].kept[0].permuted == pytest.approx(1)
    assert seen.bearings[0].kept[2].permuted != plain.bearings[0].kept[2].permuted


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        ("none", [], "none"),
        ("large", [], "images of 3x11x11, but the net takes 3x9x9"),
        ("black", [], "its inputs are the same in all images"),
        ("data", ["--mean", "no.binaryproto"], "no.binaryproto"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(folder, monkeypatch, capsys, data, more, message):  # noqa: PLR0917
    here = folder.parent
    monkeypatch.chdir(here)
    dead = blobs_of(load_text(CHAIN))
    dead["a"][0][:], dead["a"][1][:] = 0, -1
    saved(here, CHAIN, dead if data == "black" else None)
    write_database(here / "large", [np.zeros((3, 11, 11), np.uint8)] * 3, [0] * 3)
    write_database(here / "black", [np.zeros(SHAPE, np.uint8)] * 3, [0] * 3)
    before = sorted(path.name for path in here.iterdir())
    words = ["--group", "b=4", "--weights", "net.caffemodel", "--data", data, "-o", "new.prototxt", *more]
    assert main(["transform", "net.prototxt", *words]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert sorted(path.name for path in here.iterdir()) == before


@pytest.mark.parametrize("option", [["--no-fit"], ["--images", "5"], ["--mean", "m"]])
def test_options_that_do_nothing_without_data(option, tmp_path, capsys):
    prototxt, model = saved(tmp_path, CHAIN)
    words = ["--group", "b=4", "--weights", str(model), "-o", str(tmp_path / "new"), *option]
    assert main(["transform", str(prototxt), *words]) == 2
    assert "goes with --data" in capsys.readouterr().err
