"""Nets with several convolutions for one, end to end: trained by either engine, scored, deployed, folded, exported."""

import csv
from pathlib import Path

import numpy as np
import pytest
import training

from rootgen.cli import main
from rootgen.engine import open_network
from rootgen.net.load import load

pytestmark = pytest.mark.torch
ENGINES = ["torch", pytest.param("caffe", marks=pytest.mark.caffe)]
PLANS = {
    "sizes": ["--group", "conv=1/3+2/5"],
    "sizes and a 1x1": ["--group", "second=3/2+5/6", "--insert-1x1"],
    "basis": ["--basis", "conv=3x1+1x3+3x3"],
}
SECOND = """
layer { name: "second" type: "Convolution" bottom: "conv" top: "second"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "second" top: "second" }
layer { name: "scale2" type: "Scale" bottom: "second" top: "second" scale_param { bias_term: true } }
layer { name: "relu2" type: "ReLU" bottom: "second" top: "second" }
"""
BEGIN, END = training.NET.split('layer { name: "drop"')
END = f'layer {{ name: "drop"{END}'.replace('"conv"', '"second"')
NET = BEGIN.replace("kernel_size: 3", "kernel_size: 3 pad: 1") + SECOND + END


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training.make(tmp_path)
    Path("plain.prototxt").write_text(NET)
    return tmp_path


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("plan", PLANS)
def test_trained_scored_deployed_folded_and_exported(folder, plan, engine, capsys):
    assert main(["transform", "plain.prototxt", *PLANS[plan], "-o", "net.prototxt"]) == 0
    assert main(["train", "solver.prototxt", "--engine", engine]) == 0
    told = capsys.readouterr()
    assert told.out == "snaps/net_iter_12.caffemodel\n"
    model = told.out.strip()
    assert main(["test", "net.prototxt", "--weights", model, "--engine", engine]) == 0
    assert main(["correlation", model, "--engine", engine, "--images", "10", "-o", "correlated"]) == 0
    rows = {row["pair"]: row for row in csv.DictReader(Path("correlated/scores.csv").read_text().splitlines())}
    pairs = {
        "sizes": ("conv-second", ""),
        "sizes and a 1x1": ("conv-second", "3/2+5/6"),
        "basis": ("conv_3x1-conv_1x1", ""),
    }
    assert rows[pairs[plan][0]]["sizes"] == pairs[plan][1]
    assert main(["deploy", "net.prototxt", "--weights", model, "-o", "deploy.prototxt"]) == 0
    assert main(["fold", "deploy.prototxt", "--weights", "deploy.caffemodel", "-o", "f.prototxt"]) == 0
    folded = load("f.prototxt")
    assert not [layer.name for layer in folded.layers if layer.type in ("BatchNorm", "Scale", "Dropout")]
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype("f4")
    outputs = [
        open_network(net, weights=weights, engine=engine, device="cpu").forward(["prob"], {"data": images[:1]})["prob"]
        for net, weights in (("deploy.prototxt", "deploy.caffemodel"), ("f.prototxt", "f.caffemodel"))
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)
    if engine == "torch":
        pytest.importorskip("onnxruntime")
        assert main(["export", "f.prototxt", "--weights", "f.caffemodel", "-o", "f.onnx"]) == 0  # compares by itself
        assert Path("f.onnx").stat().st_size > 1000


def test_weights_of_the_plain_net_go_on_in_both_engines(folder, capsys):
    Path("net.prototxt").write_text(NET)
    assert main(["train", "solver.prototxt", "--engine", "torch"]) == 0
    model = "snaps/net_iter_12.caffemodel"
    words = ["--group", "second=2/3+6/5", "--weights", model, "-o", "new.prototxt", "--data", "train_lmdb"]
    assert main(["transform", "plain.prototxt", *words]) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("second "))
    assert "1 -> 2/3+6/5" in line
    assert line.count("%") == 4
    solver = (
        Path("solver.prototxt").read_text().replace("net.prototxt", "new.prototxt").replace("snaps/net", "snaps/new")
    )
    Path("solver.prototxt").write_text(solver)
    assert main(["train", "solver.prototxt", "--engine", "torch", "--weights", "new.caffemodel"]) == 0
