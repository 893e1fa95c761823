"""rootgen export and engine onnx: names, batches, transforms, the paper's nets, and what is refused."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_nets import input_layer, layer, random_blobs, saved, shaped
from test_caffe_parity import random_model

from rootgen.cli import main
from rootgen.engine import blobs, open_network, weights
from rootgen.engine.onnx.compare import TOLERANCE, inputs_for, largest_difference
from rootgen.engine.onnx.layer import WRITERS
from rootgen.generator.architectures import architectures
from rootgen.net.layers.vision import DEPTHWISE

pytestmark = pytest.mark.torch

CONV = "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
NET = (
    input_layer("data", 2, 3, 8, 9)
    + layer("Convolution", "data", "conv", CONV, name="first/3x3")
    + layer("BatchNorm", "conv", "conv", name="bn")
    + layer("Scale", "conv", "conv", "scale_param { bias_term: true }", name="scale")
    + layer("ReLU", "conv", "conv", name="relu")
    + layer("Pooling", "conv", "pool", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
    + layer("InnerProduct", "pool", "fc", "inner_product_param { num_output: 5 }")
    + layer("Softmax", "fc", "prob")
)
LOSS = layer("SoftmaxWithLoss", "fc label", "loss")
TRAIN_VAL = (
    'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "nowhere" batch_size: 4 '
    "backend: LMDB } transform_param { crop_size: 9 mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.1 } }\n"
    + NET.replace(input_layer("data", 2, 3, 8, 9), "").replace(layer("Softmax", "fc", "prob"), "")
    + LOSS
)


def exported(folder: Path, text: str = NET, *more: str) -> Path:
    """The .onnx file of a net, by the command line."""
    prototxt, model = saved(folder, text)
    out = folder / "net.onnx"
    assert main(["export", str(prototxt), "--weights", str(model), "-o", str(out), *more]) == 0
    return out


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line with which `rootgen export` refuses `words`; whatever stood at the output is not touched."""
    capsys.readouterr()
    assert main(["export", *words]) == 1
    line = capsys.readouterr().err
    *notes, line = line.splitlines(keepends=True)
    assert all(note.startswith("rootgen: ") and "assumed" in note for note in notes), notes
    assert line.startswith("rootgen export: ")
    return line


def test_layers_and_blobs_keep_their_names(tmp_path):
    graph = onnx.load(exported(tmp_path)).graph
    names = [node.name for node in graph.node]
    kept = ["first/3x3", "bn", "scale", "relu", "pool", "fc", "prob"]
    assert [name for name in names if name in kept] == kept
    assert len(set(names)) == len(names)
    values = [value for node in graph.node for value in node.output]
    assert len(set(values)) == len(values)
    (relu,) = (node for node in graph.node if node.name == "relu")
    assert list(relu.output) == ["conv"]  # the last of the layers in place leaves the blob's own name
    assert [info.name for info in graph.input] == ["data"] and [info.name for info in graph.output] == ["prob"]
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8, 9]
    assert "first/3x3[0]" in {constant.name for constant in graph.initializer}


def test_the_largest_difference_is_told(tmp_path, capsys):
    exported(tmp_path)
    assert "largest relative difference from our own engine" in capsys.readouterr().out


def test_weights_shared_by_name_stand_once(tmp_path):
    shared = 'inner_product_param { num_output: 4 bias_term: false } param { name: "w" }'
    text = input_layer("x", 2, 4) + layer("InnerProduct", "x", "y", shared) + layer("InnerProduct", "y", "z", shared)
    assert [constant.name for constant in onnx.load(exported(tmp_path, text)).graph.initializer] == ["y[0]"]


@pytest.mark.caffe
def test_of_shared_weights_stored_otherwise_the_last_count_as_in_caffe(tmp_path):
    shared = 'inner_product_param { num_output: 4 bias_term: false } param { name: "w" }'
    text = input_layer("x", 2, 4) + layer("InnerProduct", "x", "y", shared) + layer("InnerProduct", "y", "z", shared)
    random = np.random.default_rng(0)
    learned = {name: [random.standard_normal((4, 4), np.float32)] for name in "yz"}
    prototxt, model = saved(tmp_path, text, learned)
    assert main(["export", str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx")]) == 0
    inputs = inputs_for(shaped(text))
    ours = open_network(tmp_path / "net.onnx", engine="onnx").forward(["y", "z"], inputs)
    theirs = open_network(prototxt, weights=model, engine="caffe").forward(["y", "z"], inputs)
    assert largest_difference(theirs, ours, "").value <= TOLERANCE


@pytest.mark.caffe
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_an_open_batch_takes_any_number_of_images(tmp_path, batch):
    text = NET + layer("Reshape", "pool", "flat", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }")
    ours = open_network(exported(tmp_path, text, "--dynamic-batch"), engine="onnx")
    caffe = open_network(tmp_path / "net.prototxt", weights=tmp_path / "net.caffemodel", engine="caffe", batch=batch)
    inputs = inputs_for(shaped(text, batch))
    wanted = ["prob", "flat"]
    assert largest_difference(caffe.forward(wanted, inputs), ours.forward(wanted, inputs), "").value <= TOLERANCE


def test_a_fixed_batch_is_held_to(tmp_path):
    ours = open_network(exported(tmp_path), engine="onnx")
    with pytest.raises(Exception, match=r"net\.onnx: input 'data' of 3x3x8x9 where the net takes 2x3x8x9"):
        ours.forward(["prob"], {"data": np.zeros((3, 3, 8, 9))})


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (layer("Reshape", "fc", "y", "reshape_param { shape { dim: 2 dim: 5 } }"), "'y': would make 2x5"),
        (layer("InnerProduct", "fc", "y", "inner_product_param { num_output: 2 axis: 0 }"), "'y': the batch cannot"),
        (layer("Slice", "fc", "y z", "slice_param { axis: 0 }"), "do not divide axis 0"),
    ],
)
def test_a_batch_that_cannot_be_open_is_refused(tmp_path, capsys, last, why):
    prototxt, model = saved(tmp_path, NET + last)
    words = [str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx")]
    line = refused(capsys, *words, "--dynamic-batch")
    assert why in line and "batch cannot change" in line
    assert not (tmp_path / "net.onnx").exists()
    assert main(["export", *words]) == 0


def test_the_mean_and_scale_of_a_data_layer_come_first(tmp_path):
    (tmp_path / "train_val.prototxt").write_text(TRAIN_VAL)
    plain = open_network(exported(tmp_path), engine="onnx")
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 8, 9)).astype(np.float32)
    wanted = plain.forward(["prob"], {"data": (images - np.array([10, 20, 30]).reshape(3, 1, 1)) * 0.1})["prob"]
    out = exported(tmp_path, NET, "--transform", str(tmp_path / "train_val.prototxt"))
    assert [node.name for node in onnx.load(out).graph.node][:2] == ["data/mean", "data/scale"]
    found = open_network(out, engine="onnx").forward(["prob"], {"data": images})["prob"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_a_mean_image_is_cut_as_the_images_are(tmp_path):
    mean = np.random.default_rng(0).uniform(0, 255, (3, 12, 13)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(blobs.from_array(mean[None]).SerializeToString())
    values = "mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.1"
    square = TRAIN_VAL.replace(values, 'mean_file: "mean.binaryproto"')
    (tmp_path / "train_val.prototxt").write_text(square)
    net = NET.replace("dim: 8 dim: 9", "dim: 9 dim: 9")
    out = exported(tmp_path, net, "--transform", str(tmp_path / "train_val.prototxt"))
    (taken,) = (c for c in onnx.load(out).graph.initializer if c.name.startswith("data/mean"))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(taken), mean[:, 1:10, 2:11])


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('top: "data"', 'top: "image"', "no input 'image' to take a mean off and scale"),
        ("mean_value: 30", "mean_value: 30 mean_value: 40", "4 mean_value for"),
        ("mean_value: 30", "", "2 mean_value for"),
        ("scale: 0.1", 'mean_file: "nowhere"', "both mean_file and mean_value"),
        ("scale: 0.1", "scale: 0", "layer 'data': scale is 0"),
    ],
)
def test_a_transform_that_does_not_fit_is_refused(tmp_path, capsys, before, after, why):
    prototxt, model = saved(tmp_path, NET)
    (tmp_path / "t.prototxt").write_text(TRAIN_VAL.splitlines()[0].replace(before, after))
    words = ("--weights", str(model), "-o", str(tmp_path / "o.onnx"), "--transform", str(tmp_path / "t.prototxt"))
    assert why in refused(capsys, str(prototxt), *words, "--input", "3x9x9")
    assert not (tmp_path / "o.onnx").exists()


def test_a_net_without_a_transform_has_none_to_put_in(tmp_path, capsys):
    prototxt, model = saved(tmp_path, NET)
    line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(tmp_path / "o.onnx"), "--transform")
    assert "no Data layer with a mean or a scale" in line


def test_a_train_val_net_is_exported_as_its_deploy_net(tmp_path, capsys):
    pytest.importorskip("rootgen.transform.deploy", reason="this version has no rootgen deploy yet")
    (tmp_path / "train_val.prototxt").write_text(TRAIN_VAL)
    model = random_model_of(TRAIN_VAL, tmp_path / "net.caffemodel")
    out = tmp_path / "net.onnx"
    assert (
        main(["export", str(tmp_path / "train_val.prototxt"), "--weights", str(model), "-o", str(out), "--transform"])
        == 0
    )
    graph = onnx.load(out).graph
    assert [info.name for info in graph.output] == ["prob"] and [info.name for info in graph.input] == ["data"]
    assert graph.node[0].name == "data/mean"


def random_model_of(text: str, path: Path) -> Path:
    net = shaped(text)
    weights.write(path, "net", "TEST", net.layers, random_blobs(net))
    return path


def test_a_training_net_is_exported_as_its_deploy_net(tmp_path, capsys):
    (tmp_path / "t.prototxt").write_text(TRAIN_VAL)
    model = random_model_of(TRAIN_VAL, tmp_path / "net.caffemodel")
    out = tmp_path / "o.onnx"
    assert main(["export", str(tmp_path / "t.prototxt"), "--weights", str(model), "-o", str(out)]) == 0
    assert "its deploy net is exported, with prob for output" in capsys.readouterr().err
    assert [each.name for each in onnx.load(out).graph.output] == ["prob"]


@pytest.mark.parametrize("kind", DEPTHWISE)
def test_depthwise_convolutions_of_other_caffes(kind, tmp_path, capsys):
    text = f"""layer {{ name: 'd' type: 'Input' top: 'd' input_param {{ shape {{ dim: 2 dim: 6 dim: 7 dim: 7 }} }} }}
layer {{ name: 'c' type: '{kind}' bottom: 'd' top: 'c'
        convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 }} }}"""
    (tmp_path / "n.prototxt").write_text(text)
    model, out = random_model_of(text, tmp_path / "net.caffemodel"), tmp_path / "o.onnx"
    assert main(["export", str(tmp_path / "n.prototxt"), "--weights", str(model), "-o", str(out)]) == 0
    assert next(each.i for each in onnx.load(out).graph.node[0].attribute if each.name == "group") == 6


def test_a_caffemodel_brings_its_own_weights(tmp_path):
    _, model = saved(tmp_path, NET)
    assert main(["export", str(model), "-o", str(tmp_path / "a.onnx")]) == 0
    assert (
        main(["export", str(tmp_path / "net.prototxt"), "--weights", str(model), "-o", str(tmp_path / "b.onnx")]) == 0
    )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_stdin_and_stdout(tmp_path, monkeypatch, capfdbinary):
    prototxt, model = saved(tmp_path, NET)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(prototxt.read_bytes())))
    assert main(["export", "-", "--weights", str(model), "-o", "-"]) == 0
    assert onnx.load_from_string(capfdbinary.readouterr().out).graph.output[0].name == "prob"


def test_no_pytorch_is_needed_to_write_a_model():
    told = "import sys, rootgen.engine.onnx.export; print(*({'torch', 'onnxruntime', 'caffe'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_onnx_runtime_the_file_is_written_and_that_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rootgen.engine.onnx.export.find_spec", lambda name: None)
    assert onnx.load(exported(tmp_path)).graph.output[0].name == "prob"
    assert "not compared with our own engine: ONNX Runtime is not installed" in caplog.text


def test_wrong_usage(tmp_path):
    prototxt, model = saved(tmp_path, NET)
    assert main(["export", str(prototxt), "-o", "o.onnx"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(prototxt), "--weights", str(model)])


PYTHON = layer("Python", "data", "p", 'python_param { module: "m" layer: "L" }')
UNSAYABLE = {
    "a layer of Python": (NET + PYTHON, "Python"),
    "a file at every pass": (
        NET + layer("HDF5Output", "fc prob", "", 'hdf5_output_param { file_name: "f" }', "h5"),
        "HDF5Output",
    ),
    "pooling at random": (
        NET + layer("Pooling", "data", "p", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"),
        "STOCHASTIC",
    ),
    "averages of nothing": (
        NET + layer("Pooling", "data", "p", "pooling_param { pool: AVE kernel_size: 1 stride: 4 }"),
        "average of windows that hold no pixel",
    ),
    "the mask of nothing": (
        NET + layer("Pooling", "data", "p m", "pooling_param { kernel_size: 1 stride: 4 }"),
        "mask of windows that hold no pixel",
    ),
    "a random filler": (
        NET + layer("DummyData", "", "d", 'dummy_data_param { shape { dim: 2 } data_filler { type: "gaussian" } }'),
        "gaussian",
    ),
    "too many axes": (
        NET
        + input_layer("z", 1, 2, 3, 3, 3, 3)
        + layer("Convolution", "z", "c4", "convolution_param { num_output: 1 kernel_size: 2 }"),
        "4 spatial axes",
    ),
}


@pytest.mark.parametrize("name", UNSAYABLE)
def test_what_onnx_cannot_say_is_refused_by_name(tmp_path, capsys, name):
    text, word = UNSAYABLE[name]
    (tmp_path / "net.prototxt").write_text(text)
    model = random_model_of(NET if "Python" in text else text, tmp_path / "net.caffemodel")
    out = tmp_path / "net.onnx"
    line = refused(capsys, str(tmp_path / "net.prototxt"), "--weights", str(model), "-o", str(out))
    assert "ONNX" in line and word in line and not out.exists()


def test_a_model_of_another_net(tmp_path, capsys):
    prototxt, model = saved(tmp_path, NET)
    (tmp_path / "other.prototxt").write_text(NET.replace("num_output: 5", "num_output: 6"))
    words = ("--weights", str(model), "-o", str(tmp_path / "net.onnx"))
    line = refused(capsys, str(tmp_path / "other.prototxt"), *words)
    assert "a model of another net" in line and "fc" in line
    (tmp_path / "renamed.prototxt").write_text(NET.replace('name: "fc"', 'name: "fc2"'))
    assert "it lacks fc2" in refused(capsys, str(tmp_path / "renamed.prototxt"), *words)
    assert prototxt.exists() and not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path, capsys, value):
    learned = random_blobs(shaped(NET))
    learned["fc"][0][1, 2] = value
    prototxt, model = saved(tmp_path, NET, learned)
    line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx"))
    assert re.search(r"layer 'fc': 1 of the \d+ values of blob 0 in", line) and not (tmp_path / "net.onnx").exists()


@pytest.fixture
def unrun(tmp_path):
    """The net with a model whose statistics were never run."""
    learned = random_blobs(shaped(NET))
    learned["bn"][2][:] = 0
    return saved(tmp_path, NET, learned)


def test_statistics_that_were_never_run_are_not_exported(tmp_path, capsys, unrun):
    prototxt, model = unrun
    line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx"))
    assert "layer 'bn': its statistics in" in line and "were never run" in line
    assert not (tmp_path / "net.onnx").exists()
    own = NET.replace(
        'name: "bn" type: "BatchNorm"', 'name: "bn" type: "BatchNorm" batch_norm_param { use_global_stats: false }'
    )
    prototxt.write_text(own)  # which are not used there
    assert main(["export", str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx")]) == 0


@pytest.mark.caffe
def test_statistics_that_were_never_run_are_zeros_as_in_caffe(caplog, unrun):
    prototxt, model = unrun
    ours, theirs = (open_network(prototxt, weights=model, engine=engine) for engine in ("onnx", "caffe"))
    assert "layer 'bn': its statistics were never run" in caplog.text
    inputs, wanted = inputs_for(shaped(NET)), ["conv", "prob"]
    assert largest_difference(theirs.forward(wanted, inputs), ours.forward(wanted, inputs), "").value <= TOLERANCE


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    prototxt, model = saved(tmp_path, NET)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "net.onnx", tmp_path):
        line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(out))
        assert "cannot write" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "net.caffemodel", "net.prototxt"]


def test_other_numbers_than_our_engines_are_refused_and_leave_nothing(tmp_path, capsys, monkeypatch):
    """The comparison is real: a wrong word for ReLU is found, and what stood there before stays."""
    prototxt, model = saved(tmp_path, NET)
    out = tmp_path / "net.onnx"
    out.write_text("before")
    monkeypatch.setitem(WRITERS, "ReLU", lambda part: part.op("Abs", part.bottoms[0]))
    line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(out))
    assert "ONNX Runtime gives other numbers than our own engine: blob 'prob' differs by" in line
    assert out.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_softmax_does_not_hide_other_numbers(tmp_path, capsys, monkeypatch):
    """Of scores far apart it makes zeros and a one, whatever they are."""
    learned = random_blobs(shaped(NET))
    learned["fc"][0] *= 1e4
    prototxt, model = saved(tmp_path, NET, learned)
    writer = WRITERS["InnerProduct"]
    monkeypatch.setitem(WRITERS, "InnerProduct", lambda part: part.op("Mul", writer(part), part.number(0.99)))
    line = refused(capsys, str(prototxt), "--weights", str(model), "-o", str(tmp_path / "net.onnx"))
    assert "blob 'fc' differs by 0.01 of its largest value, over 0.001" in line
    assert not (tmp_path / "net.onnx").exists()


def rendered() -> list:
    """The paper's nets as emitted, those that take seconds marked slow."""
    rows = [(arch, row) for arch, rows in PAPER.items() for row in rows]
    quick = {("nin", "orig"), ("nin", "root-8"), ("nin", "tree-4"), ("googlenet", "root-8")}
    marks = {row: () if row in quick else pytest.mark.slow for row in rows}
    return [pytest.param(*row, id="/".join(row), marks=marks[row]) for row in rows]


PAPER = {
    folder.name: sorted(row.name for row in folder.iterdir() if (row / "deploy.prototxt").exists())
    for folder in sorted((Path(__file__).parents[2] / "prototxt").iterdir())
    if folder.is_dir()
}


@pytest.mark.parametrize(("arch", "row"), rendered())
def test_every_net_of_the_paper_exports(tmp_path, capsys, arch, row):
    deploy = Path(__file__).parents[2] / "prototxt" / arch / row / "deploy.prototxt"
    model = random_model(deploy, tmp_path / "net.caffemodel")
    words = ["export", str(deploy), "--weights", str(model), "-o", str(tmp_path / "net.onnx"), "--batch-size", "1"]
    assert main(words) == 0
    assert "largest relative difference from our own engine" in capsys.readouterr().out


OTHERS = [arch.name for arch in architectures().values() if not arch.rendered]


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--root", "64")], ids=["orig", "root-64"])
@pytest.mark.parametrize("arch", OTHERS)
def test_so_does_what_is_emitted_and_not_rendered(tmp_path, capsys, arch, option):
    deploy = tmp_path / "deploy.prototxt"
    assert main(["emit", arch, *option, "--phase", "deploy", "--batch-size", "1", "-o", str(deploy)]) == 0
    model = random_model(deploy, tmp_path / "net.caffemodel")
    assert main(["export", str(deploy), "--weights", str(model), "-o", str(tmp_path / "net.onnx")]) == 0
    assert "largest relative difference from our own engine" in capsys.readouterr().out


class TestEngine:
    """--engine onnx."""

    def test_a_net_runs_without_a_file_of_its_own_and_tells_its_inner_blobs(self, tmp_path):
        prototxt, model = saved(tmp_path, NET)
        ours, torch = (open_network(prototxt, weights=model, engine=engine) for engine in ("onnx", "torch"))
        inputs = inputs_for(shaped(NET))
        wanted = ["pool", "conv", "prob", "data"]
        found = ours.forward(wanted, inputs)
        assert largest_difference(torch.forward(wanted, inputs), found, "").value <= TOLERANCE
        assert {name: ours.blobs[name] for name in wanted} == {name: array.shape for name, array in found.items()}

    def test_times_of_layers_and_of_the_net(self, tmp_path, capsys):
        prototxt, _ = saved(tmp_path, NET)
        words = ["time", str(prototxt), "--engine", "onnx", "--iterations", "3", "--format", "json"]
        assert main(words) == 0
        (timing,) = json.loads(capsys.readouterr().out)
        assert timing["engine"] == "onnx" and timing["batch"] == 2
        assert [row["layer"] for row in timing["layers"]][:7] == [
            "first/3x3",
            "bn",
            "scale",
            "relu",
            "pool",
            "fc",
            "prob",
        ]
        assert timing["whole"]["forward"] > 0 and timing["whole"]["backward"] is None
        assert sum(row["forward"] for row in timing["layers"]) > 0

    def test_the_steps_of_a_recurrent_layer_are_in_its_time_and_have_no_rows(self, tmp_path, capsys):
        text = input_layer("x", 5, 2, 4) + input_layer("c", 5, 2)
        (tmp_path / "net.prototxt").write_text(text + layer("LSTM", "x c", "y", "recurrent_param { num_output: 3 }"))
        assert main(["time", str(tmp_path / "net.prototxt"), "--engine", "onnx", "--format", "json"]) == 0
        (timing,) = json.loads(capsys.readouterr().out)
        assert {row["layer"] for row in timing["layers"] if row["layer"].startswith("y")} == {"y"}

    def test_a_file_is_timed(self, tmp_path, capsys):
        out = exported(tmp_path, NET, "--dynamic-batch")
        assert main(["time", str(out), "--engine", "onnx", "--batch", "3", "--total"]) == 0
        assert "onnx" in capsys.readouterr().out

    def test_correlation_is_that_of_the_embedded_engine(self, tmp_path):
        from engine_nets import write_database

        text = input_layer("data", 2, 3, 8, 9).replace("data", "data") + "".join(
            layer("Convolution", bottom, top, "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }")
            + layer("ReLU", top, top, name=f"relu_{top}")
            for bottom, top in (("data", "a"), ("a", "b"))
        )
        _, model = saved(tmp_path, text)
        random = np.random.default_rng(0)
        images = [random.integers(0, 255, (3, 8, 9), dtype=np.uint8) for _ in range(6)]
        data = write_database(tmp_path / "images_lmdb", images, [0] * 6)
        scores = {}
        for engine in ("onnx", "torch"):
            words = ["correlation", str(model), "--data", str(data), "--engine", engine, "--batch-size", "4"]
            assert main([*words, "--out", str(tmp_path / engine)]) == 0
            arrays = np.load(next((tmp_path / engine).glob("*.npz")))
            scores[engine] = {name: arrays[name] for name in arrays.files if arrays[name].dtype.kind == "f"}
        assert scores["onnx"].keys() == scores["torch"].keys() and scores["onnx"]
        for name, values in scores["torch"].items():
            np.testing.assert_allclose(scores["onnx"][name], values, rtol=1e-3, atol=1e-5)

    def test_training_is_refused_in_one_line(self, tmp_path, capsys):
        (tmp_path / "net.prototxt").write_text(TRAIN_VAL)
        (tmp_path / "solver.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed"')
        assert main(["train", str(tmp_path / "solver.prototxt"), "--engine", "onnx"]) == 1
        assert "engine 'onnx' runs nets, but does not train them" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            (["--phase", "TRAIN"], "engine 'onnx' runs nets as in phase TEST, not TRAIN"),
            (["--device", "gpu:7"], "without CUDA, so not for 'gpu:7'"),
            (["--device", "tpu"], "no device 'tpu'"),
        ],
    )
    def test_what_it_does_not_do(self, tmp_path, capsys, more, why):
        prototxt, _ = saved(tmp_path, NET)
        assert main(["time", str(prototxt), "--engine", "onnx", *more]) == 1
        line = capsys.readouterr().err
        assert why in line and line.count("\n") == 1

    @pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256))])
    def test_a_file_that_is_no_model(self, tmp_path, capsys, content):
        (tmp_path / "net.onnx").write_bytes(content)
        assert main(["time", str(tmp_path / "net.onnx"), "--engine", "onnx"]) == 1
        line = capsys.readouterr().err
        assert "net.onnx: no ONNX model" in line and line.count("\n") == 1

    def test_data_layers_read_their_database(self, tmp_path, monkeypatch):
        from engine_nets import write_database

        random = np.random.default_rng(0)
        images = [random.integers(0, 255, (3, 12, 12), dtype=np.uint8) for _ in range(6)]
        write_database(tmp_path / "nowhere", images, [*range(5), 0])
        (tmp_path / "net.prototxt").write_text(TRAIN_VAL)
        model = random_model_of(TRAIN_VAL, tmp_path / "net.caffemodel")
        monkeypatch.chdir(tmp_path)
        found = {}
        for engine in ("onnx", "torch"):
            network = open_network(tmp_path / "net.prototxt", weights=model, engine=engine)
            found[engine] = [network.forward(["fc", "loss", "label"]) for _ in range(2)]
        for ours, theirs in zip(found["onnx"], found["torch"], strict=True):
            assert largest_difference(theirs, ours, "").value <= TOLERANCE
        assert (found["onnx"][0]["fc"] != found["onnx"][1]["fc"]).any()
