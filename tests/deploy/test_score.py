"""Scores of a trained net and classes of images, beside Caffe's own tool and NumPy."""

import re
import subprocess

import lmdb
import numpy as np
import pytest
from engine_nets import write_database, write_mean

from rootgen.caffe_build import prefix
from rootgen.deploy.classify import ClassifyOptions, classify
from rootgen.deploy.score import ScoreOptions, score
from rootgen.engine import open_network, weights
from rootgen.errors import RootgenError
from rootgen.net.load import load
from rootgen.net.read import read
from rootgen.proto import schema

pytestmark = pytest.mark.torch

NET = """\
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  transform_param {{ mirror: true crop_size: 6 mean_file: "{folder}/mean.binaryproto" scale: 0.1 }}
  data_param {{ source: "{folder}/train_lmdb" batch_size: 4 backend: LMDB }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  transform_param {{ crop_size: 6 mean_file: "{folder}/mean.binaryproto" scale: 0.1 }}
  data_param {{ source: "{folder}/test_lmdb" batch_size: 4 backend: LMDB }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 3 }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param {{ num_output: 7 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" top: "per_class"
  include {{ phase: TEST }} }}
"""


@pytest.fixture
def trained(tmp_path):
    """A net with random weights, its model, and databases of 10 test images."""
    random = np.random.default_rng(1)
    for name, count in (("train_lmdb", 8), ("test_lmdb", 10)):
        images = random.integers(0, 256, (count, 3, 8, 8), np.uint8)
        write_database(tmp_path / name, images, random.integers(0, 7, count))
    write_mean(tmp_path / "mean.binaryproto", random.uniform(90, 120, (3, 8, 8)).astype(np.float32))
    path = tmp_path / "net.prototxt"
    path.write_text(NET.format(folder=tmp_path))
    net = load(path)
    blobs = {
        one.name: [0.05 * random.standard_normal(s) for s in one.shapes.params]
        for one in net.layers
        if one.shapes.params
    }
    weights.write(tmp_path / "net.caffemodel", "small", "TRAIN", read(path, "TRAIN").layers, blobs)
    return path, tmp_path / "net.caffemodel"


def relabel(folder, labels):
    """Give the images of the LMDB in `folder` other labels."""
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        for (key, value), label in zip(list(transaction.cursor()), labels, strict=True):
            datum = schema.Datum.FromString(value)
            datum.label = int(label)
            transaction.put(key, datum.SerializeToString())


def test_top_k_is_over_every_image_once(trained):
    path, model = trained
    found = score(path, model, ScoreOptions(engine="torch", device="cpu"))
    network = open_network(path, weights=model, engine="torch", device="cpu", batch=10)
    values = network.forward(["fc", "label"])
    ranks = [int((row >= row[int(label)]).sum()) - 1 for row, label in zip(values["fc"], values["label"], strict=True)]
    assert (found.images, found.iterations) == (10, 3)
    assert found.top == {1: np.mean(np.array(ranks) < 1), 5: np.mean(np.array(ranks) < 5)}


@pytest.mark.parametrize("ignored", [255, -1])
def test_images_of_the_ignored_label_are_left_out_of_the_shares(trained, tmp_path, ignored):
    path, model = trained
    how = {"engine": "torch", "device": "cpu"}
    labels = open_network(path, weights=model, batch=10, **how).forward(["fc"])["fc"].argmax(1)  # all of them right
    labels[[0, 3]] = (labels[[0, 3]] + 1) % 7
    labels[[1, 4, 9]] = ignored
    text = path.read_text().replace('top: "loss"', f'top: "loss" loss_param {{ ignore_label: {ignored} }}')
    text = text.replace('top: "per_class"', f'top: "per_class" accuracy_param {{ ignore_label: {ignored} }}')
    path.write_text(text)
    relabel(tmp_path / "test_lmdb", labels)
    found = score(path, model, ScoreOptions(**how))
    assert found.images == 10
    assert found.top[1] == 5 / 7


def test_a_caffemodel_is_scored_by_its_own_net(trained):
    path, model = trained
    options = ScoreOptions(data=path.parent, engine="torch", device="cpu")
    assert score(model, None, options).top == score(path, model, options).top


@pytest.mark.caffe
def test_outputs_are_those_of_caffe_test(trained):
    path, model = trained
    own = prefix.find_prefix()
    done = subprocess.run(
        [str(own.tool), "test", "-model", str(path), "-weights", str(model), "-iterations", "3"],
        capture_output=True,
        text=True,
        check=True,
        env=own.environment() | {"GLOG_logtostderr": "1", "GLOG_minloglevel": "0", "PATH": "/usr/bin:/bin"},
    )
    told = re.findall(r"caffe.cpp.*\] (\S+) = (\S+?)(?: .*)?$", done.stderr, re.MULTILINE)
    assert [name for name, _ in told] == ["accuracy", "loss", *["per_class"] * 7]
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install rootgen[onnx]")
    for engine in ("torch", "caffe", "onnx"):
        found = score(path, model, ScoreOptions(iterations=3, engine=engine, device="cpu")).outputs
        assert [name.partition("[")[0] for name in found] == [name for name, _ in told]
        assert list(found.values()) == pytest.approx([float(value) for _, value in told], rel=1e-4), engine


def picture(path, pixels):
    from PIL import Image

    Image.fromarray(pixels).save(path)
    return path


def test_classes_of_images(trained, tmp_path):
    path, model = trained
    random = np.random.default_rng(3)
    pictures = [random.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(3)]
    files = [picture(tmp_path / f"{i}.png", pixels) for i, pixels in enumerate(pictures)]
    (tmp_path / "labels.txt").write_text("\n".join("abcdefg"))
    found = classify(model, files, ClassifyOptions(k=3, batch_size=2, engine="torch", device="cpu"))
    data = np.stack([pixels[:, :, ::-1].transpose(2, 0, 1) for pixels in pictures])
    write_database(tmp_path / "same_lmdb", data, np.zeros(3, int))
    path.write_text(path.read_text().replace("test_lmdb", "same_lmdb"))
    scores = open_network(path, weights=model, engine="torch", device="cpu", batch=3).forward(["fc"])["fc"]
    for answer, row in zip(found, scores, strict=True):
        likely = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert [number for number, _, _ in answer.classes] == list(np.argsort(-row)[:3])
        assert answer.classes[0][1] == "abcdefg"[answer.classes[0][0]]
        assert answer.classes[0][2] == pytest.approx(likely.max(), rel=1e-4)


def test_images_of_any_size_are_fitted(trained, tmp_path):
    _, model = trained
    file = picture(tmp_path / "large.png", np.random.default_rng(0).integers(0, 256, (50, 31, 3), np.uint8))
    grey = picture(tmp_path / "grey.png", np.full((9, 20), 90, np.uint8))
    answers = classify(model, [file, grey], ClassifyOptions(k=1, engine="torch", device="cpu"))
    assert [len(answer.classes) for answer in answers] == [1, 1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (ClassifyOptions(k=8, engine="torch"), "8 classes asked for, but 'prob' has 7"),
        (ClassifyOptions(labels="no/labels.txt", engine="torch"), "cannot read"),
        (ClassifyOptions(mean="no/mean.binaryproto", engine="torch"), "cannot read"),
    ],
)
def test_refusals(trained, tmp_path, options, match):
    file = picture(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(RootgenError, match=match):
        classify(trained[1], [file], options)


def test_a_file_that_is_no_image(trained, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(RootgenError, match=r"a.png: cannot decode"):
        classify(trained[1], [tmp_path / "a.png"], ClassifyOptions(engine="torch", device="cpu"))


def test_a_net_without_data_is_not_scored(trained, tmp_path):
    _, model = trained
    other = tmp_path / "deploy.prototxt"
    other.write_text('layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }')
    with pytest.raises(RootgenError, match="has 0 Data layers in phase TEST"):
        score(other, model, ScoreOptions(engine="torch"))
