"""The untrained control, contact sheets, and folders of image sets: on a small net, end to end."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.correlation import block_score, sheet
from rootgen.correlation.report import CorrelatedPair, Score, members, save_arrays
from rootgen.correlation.sheet import Sheet
from rootgen.correlation.whitening import Correlation
from rootgen.datasets import Dataset, ImageSet, save
from rootgen.engine import open_network, open_trainer
from rootgen.proto import schema

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ crop_size: 6 mean_file: "{folder}/data/mean.binaryproto" }}
  data_param {{ source: "{folder}/data/train_lmdb" batch_size: 10 backend: LMDB }} }}
layer {{ name: "one" type: "Convolution" bottom: "data" top: "one"
  convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "one" top: "one" {batch_norm} }}
layer {{ name: "relu" type: "ReLU" bottom: "one" top: "one" }}
layer {{ name: "two" type: "Convolution" bottom: "one" top: "two"
  convolution_param {{ num_output: 4 kernel_size: 3 group: 2 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "two" top: "ip" inner_product_param {{ num_output: 3 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SEED = 5


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A caffemodel after three iterations from SEED, and beside it that of iteration 0 and the data."""
    rng = np.random.default_rng(7)
    sets = [ImageSet(rng.integers(0, 256, (10, 3, 8, 8), dtype=np.uint8), np.arange(10) % 3) for _ in range(2)]
    save(Dataset(sets[0], sets[1], ()), tmp_path / "data")
    (tmp_path / "net.prototxt").write_text(NET.format(folder=tmp_path, batch_norm=""))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.05 lr_policy: "fixed" max_iter: 3 random_seed: {SEED} '
        f'snapshot_prefix: "{tmp_path}/model"'
    )
    trainer = open_trainer(tmp_path / "solver.prototxt", engine="torch")
    trainer.snapshot()
    for _ in range(3):
        trainer.step()
    return trainer.snapshot()[0]


@pytest.mark.torch
@pytest.mark.parametrize("engine", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_the_control_is_the_net_as_its_training_began(
    trained: Path, tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Iteration 0's weights, and each batch's statistics: what the first iteration's forward pass computes."""
    begun = tmp_path / "model_iter_0.caffemodel"
    if engine == "caffe":
        trainer = open_trainer(tmp_path / "solver.prototxt", engine="caffe")
        begun = trainer.snapshot()[0]
    out = tmp_path / "out"
    words = ["--data", str(tmp_path / "data/train_lmdb"), "--batch-size", "10", "--seed", str(SEED)]
    assert main(["correlation", str(trained), "--engine", engine, "--control", *words, "-o", str(out)]) == 0
    text = NET.format(folder=tmp_path, batch_norm="batch_norm_param { use_global_stats: false }")
    (tmp_path / "first.prototxt").write_text(text)
    found = open_network(tmp_path / "first.prototxt", weights=begun, engine=engine, device="cpu").forward(
        ["one", "two"]
    )
    samples = [found[name][:, :, rows, rows] for name, rows in (("one", slice(0, 6)), ("two", slice(0, 4)))]
    with np.load(out / "untrained/train.npz") as arrays:
        whitened, within = arrays["one-two.whitened"], arrays["one-two.within_earlier"]
    expected = np.abs(np.corrcoef(samples[0].transpose(1, 0, 2, 3).reshape(8, -1).astype(np.float64)))
    np.testing.assert_allclose(within, expected, atol=1e-5)
    (row,) = csv.DictReader((out / "scores.csv").read_text().splitlines())
    assert float(row["untrained_score"]) == pytest.approx(block_score(whitened, 2), rel=1e-3)
    with np.load(out / "train.npz") as arrays:
        assert np.abs(arrays["one-two.within_earlier"] - expected).max() > 1e-3  # the trained net is another
    header, _, line = capsys.readouterr().out.splitlines()[:3]
    assert header.split() == ["pair", "images", "group", "block", "score", "untrained", "samples"]
    assert line.split()[3:5] == [f"{float(row['score']):.2f}", f"{float(row['untrained_score']):.2f}"]


@pytest.mark.torch
def test_another_seed_is_another_control(trained: Path, tmp_path: Path) -> None:
    scores = []
    for number, seed in enumerate((SEED, SEED, 6)):
        out = tmp_path / str(number)
        words = ["--engine", "torch", "--control", "--seed", str(seed), "--images", "8", "-o", str(out)]
        assert main(["correlation", str(trained), *words]) == 0
        scores.append(next(csv.DictReader((out / "scores.csv").read_text().splitlines()))["untrained_score"])
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.torch
def test_what_has_no_control(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = schema.read_binary(trained, schema.NetParameter)
    next(layer for layer in model.layer if layer.name == "two").convolution_param.ClearField("weight_filler")
    (tmp_path / "unfilled.caffemodel").write_bytes(schema.to_bytes(model))
    out = tmp_path / "out"
    words = ["correlation", "--control", "-o", str(out), "--engine"]
    assert main([*words, "torch", str(tmp_path / "unfilled.caffemodel")]) == 1
    assert "layer 'two'" in (error := capsys.readouterr().err)
    assert "is filled with a constant, and no control (--net FILE" in error
    pytest.importorskip("onnxruntime")
    assert main([*words, "onnx", str(trained)]) == 1
    assert "engine 'onnx' runs trained nets, and fills none" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.torch
def test_a_folder_of_rootgen_data_is_its_sets_and_its_mean(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.move(tmp_path / "data", tmp_path / "moved")
    words = ["correlation", str(trained), "--engine", "torch", "--images", "4", "-o", str(tmp_path / "out")]
    assert main([*words, "--data", str(tmp_path / "moved")]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]] == ["train", "test"]
    assert any("is nowhere; taking" in message for message in caplog.messages)
    shutil.rmtree(tmp_path / "moved/train_lmdb")
    assert main([*words, "--data", str(tmp_path / "moved")]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]] == ["test"]
    assert main([*words, "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"rootgen correlation: {tmp_path}")


def pair(name: str, rows: int = 8, columns: int = 8, group: int = 2, images: str = "test") -> CorrelatedPair:
    """A pair of random matrices, and a control of others."""
    rng = np.random.default_rng(len(name))
    layers = (name.partition("-")[0], name.partition("-")[2])

    def made(control: CorrelatedPair | None) -> CorrelatedPair:
        sizes = ((rows, columns), (rows, columns), (rows, rows), (columns, columns))
        matrices = [rng.random(size) for size in sizes]
        result = Correlation(*matrices, (0, 0), 99, ((4, 4), (4, 4)))
        score = Score(images, name, group, block_score(matrices[0], group), rows, columns, 99, 0, 0)
        return CorrelatedPair(layers, result, score, group, "net", control)

    return made(made(None))


def words_of(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_score_stands_on_the_picture_that_it_is_of_alone() -> None:
    one = pair("a-b")
    assert one.control is not None
    for kind in ("whitened", "covariance", "within_earlier", "within_later"):
        said = " ".join(words_of(one.figure(kind).figure))
        assert (f"block score {one.score:.2f}, untrained {one.control.score:.2f}" in said) == (kind == "whitened")
    for kind in ("whitened", "covariance", "within"):
        page = Sheet(kind)
        page.add([one])
        (drawing,) = page.drawings()
        assert (f"{one.score:.2f}" in words_of(drawing.figure)) == (kind == "whitened")


@pytest.mark.parametrize(("rows", "columns"), [(192, 10), (10, 192), (64, 64)])
def test_labels_of_narrow_matrices_are_inside_the_picture(rows: int, columns: int) -> None:
    figure = pair("conv3b-conv3c", rows, columns).figure().figure
    figure.draw_without_rendering()
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
            assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
    height, width = figure.axes[0].bbox.height, figure.axes[0].bbox.width
    assert 1 / 3 - 0.01 <= width / height <= 3.01


def test_a_sheet_has_every_pair_once_and_sets_of_images_below_each_other() -> None:
    page = Sheet("whitened")
    page.add([pair("a-b"), pair("b-c", 900, 40)])
    page.add([pair("a-b", images="train"), pair("b-c", 900, 40, images="train")])
    (drawing,) = page.drawings()
    said = words_of(drawing.figure)
    assert [word for word in said if word in ("test", "test\nuntrained", "train", "train\nuntrained")] == [
        "test", "test\nuntrained", "train", "train\nuntrained",
    ]  # fmt: skip
    assert len(drawing.figure.axes) == 8
    assert max(image.get_array().shape[0] for axes in drawing.figure.axes for image in axes.images) <= 400
    within = Sheet("within")
    within.add([pair("a-b"), pair("b-c")])
    assert len(within.drawings()[0].figure.axes) == 6  # a, b and c, each trained and not


def test_many_pairs_are_on_several_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "PAIRS", 3)
    many = Sheet("covariance")
    many.add([pair(f"a-{number}", 2, 2) for number in range(4)])
    assert [len(drawing.figure.axes) for drawing in many.drawings()] == [6, 2]


def test_names_in_archives_are_told_apart(tmp_path: Path) -> None:
    assert members(["a/b-c", ".a/b-c", "_a/b-c"])["a/b-c"] == "a/b-c"
    hostile = ["../a-b", "_/a-b", "./a-b"]
    assert len(set(members(hostile).values())) == 3
    save_arrays(tmp_path / "x.npz", [pair(name) for name in hostile])
    with np.load(tmp_path / "x.npz") as arrays:
        assert len(arrays.files) == 12
