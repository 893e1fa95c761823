"""`--lenient` in every verb that reads a net or a solver, and counts and transforms that are not whole."""

from __future__ import annotations

import json

import pytest

from rootgen.cli import main

POOL = "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }"
CONV = "convolution_param { num_output: 8 kernel_size: 3 }"
LOSS = "loss_param { normalization: PRE_FIXED pre_fixed: 4 }"
DATA = """layer { name: 'data' type: 'DummyData' top: 'data' top: 'label' dummy_data_param {
  shape { dim: 2 dim: 3 dim: 12 dim: 12 } shape { dim: 2 } data_filler { type: 'gaussian' } data_filler { } } }
"""
NET = f"""reduce_memory: true
{DATA}layer {{ name: 'c1' type: 'Convolution' bottom: 'data' top: 'c1' {CONV} }}
layer {{ name: 'p' type: 'Pooling' bottom: 'c1' top: 'p' {POOL} }}
layer {{ name: 'c2' type: 'Convolution' bottom: 'p' top: 'c2' {CONV} }}
layer {{ name: 'f' type: 'InnerProduct' bottom: 'c2' top: 'f' inner_product_param {{ num_output: 2 }} }}
layer {{ name: 'l' type: 'SoftmaxWithLoss' bottom: 'f' bottom: 'label' top: 'l' {LOSS} }}
"""
SOLVER = (
    "net: 'net.prototxt' base_lr: 0.1 max_iter: 2 lr_policy: 'fixed' eval_type: 'detection' stagelr: 0.1 stagelr: 1\n"
)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


TORCH = ("--engine", "torch", "--device", "cpu")
VERBS = {
    "cost": ("cost", "net.prototxt"),
    "diff": ("diff", "net.prototxt", "net.prototxt"),
    "draw": ("draw", "net.prototxt", "-o", "x.svg"),
    "transform": ("transform", "net.prototxt", "--root", "2"),
    "time": ("time", "net.prototxt", "--iterations", "1", "--warmup", "1", *TORCH),
    "train": ("train", "solver.prototxt", *TORCH),
}


@pytest.mark.torch
@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_every_verb_refuses_and_names_the_option_or_passes_over(words, files, capsys):
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("--lenient passes over it)")
    assert main([*words, "--lenient"]) == 0
    err = capsys.readouterr().err
    assert "net.prototxt: what Caffe 1.0 does not have is not read: reduce_memory" in err
    assert err.count("is not read: normalization: PRE_FIXED, pre_fixed") == 1  # however often the net is read
    if words[0] == "train":
        assert "solver.prototxt: what Caffe 1.0 does not have is not read: eval_type, stagelr" in err


def test_correlation_too(files, capsys):
    (files / "x.caffemodel").write_bytes(b"")
    words = ["correlation", "x.caffemodel", "--net", "net.prototxt", "--data", "none_lmdb"]
    assert main(words) == 1
    assert "--lenient passes over it" in capsys.readouterr().err
    assert main([*words, "--lenient"]) == 1
    err = capsys.readouterr().err
    assert "none_lmdb" in err
    assert "--lenient passes over it" not in err


@pytest.mark.caffe
def test_pycaffe_gets_the_cleaned_net_and_refuses_layers_of_other_caffes(files, capsys):
    caffe = ("--engine", "caffe", "--device", "cpu")
    for words in (("time", "net.prototxt", "--iterations", "1", *caffe), ("train", "solver.prototxt", *caffe)):
        assert main(words) == 1
        assert "--lenient passes over it" in capsys.readouterr().err
        assert main([*words, "--lenient"]) == 0
        err = capsys.readouterr().err
        assert (err.count("is not read: reduce_memory"), err.count("is not read: normalization: PRE_FIXED")) == (1, 1)
    (files / "net.prototxt").write_text(DATA + "layer { name: 'r' type: 'ReLU6' bottom: 'data' top: 'r' }")
    assert main(("time", "net.prototxt", *caffe)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "layer 'r': pycaffe does not run ReLU6 layers" in line
    assert line.endswith("(use --engine torch)")


RIDDLE = NET.replace("type: 'Pooling'", "type: 'Riddle'").replace("reduce_memory: true", "").replace(LOSS, "")


def test_a_count_that_is_not_whole_says_so(files, capsys):
    (files / "net.prototxt").write_text(RIDDLE)
    assert main(["cost", "net.prototxt"]) == 0
    out = capsys.readouterr().out
    assert "total, INCOMPLETE: without 4 layers (p, c2, f, ...)" in out
    assert "at least 224" in out
    assert main(["cost", "net.prototxt", "net.prototxt"]) == 0
    assert capsys.readouterr().out.count("at least 224") == 2
    assert main(["cost", "net.prototxt", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["unknown"]) == (False, ["p", "c2", "f", "l"])
    assert main(["cost", "net.prototxt", "--format", "json", "--shape", "p=2x8x5x5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["unknown"]) == (True, [])
    assert main(["diff", "net.prototxt", "net.prototxt", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["before"]["complete"] is False
    assert main(["diff", "net.prototxt", "net.prototxt"]) == 0
    assert "at least 224" in capsys.readouterr().out
    assert main(["draw", "net.prototxt", "-o", "x.svg"]) == 0
    assert "at least" in (files / "x.svg").read_text()


def test_a_transform_that_is_not_whole_is_refused_unless_told(files, capsys):
    (files / "net.prototxt").write_text(RIDDLE)
    assert main(["transform", "net.prototxt", "--root", "2"]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    assert "stops at layer 'p' (Riddle), whose shapes are not known: 'c2' would get no groups" in captured.err
    first = f"layer {{ name: 'c0' type: 'Convolution' bottom: 'data' top: 'c0' {CONV} }}\n"
    text = DATA + first + RIDDLE.strip().removeprefix(DATA).replace("bottom: 'data'", "bottom: 'c0'")
    (files / "net.prototxt").write_text(text)
    assert main(["transform", "net.prototxt", "--root", "2", "--partial"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("group: 2") == 1
    assert "at least" in captured.err
