"""From a trained net to its deploy net, folded and scored, by the commands; and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
from engine_nets import write_database

from rootgen.cli import main
from rootgen.engine import weights
from rootgen.net.load import load
from rootgen.net.read import read

pytestmark = pytest.mark.torch

NET = """\
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "data/test_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 7 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: net.prototxt, its model and 10 test images."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    Path("data").mkdir()
    write_database(Path("data/test_lmdb"), random.integers(0, 256, (10, 3, 6, 6), np.uint8), random.integers(0, 7, 10))
    Path("net.prototxt").write_text(NET)
    blobs = {}
    for one in load("net.prototxt").layers:
        values = [random.standard_normal(shape) * 0.1 for shape in one.shapes.params]
        if one.type == "BatchNorm":
            values = [values[0], np.abs(values[1]) + 0.1, np.array([2.0])]
        if values:
            blobs[one.name] = values
    weights.write("net.caffemodel", "small", "TRAIN", read("net.prototxt", "TRAIN").layers, blobs)
    return tmp_path


def run(*words, code=0):
    assert main([str(word) for word in words]) == code


def test_from_a_training_net_to_a_folded_one(capsys):
    run("deploy", "net.prototxt", "--weights", "net.caffemodel", "-o", "d.prototxt")
    run("fold", "d.prototxt", "--weights", "d.caffemodel", "-o", "f.prototxt", "-w", "f.caffemodel")
    told = capsys.readouterr().err
    assert "1 layers folded, 0 left; outputs differ by" in told
    assert "\nfolded  into\n" in told  # the table stands in lines of its own
    assert "\\n" not in told
    assert [layer.type for layer in load("f.prototxt").layers] == [
        "Input",
        "Convolution",
        "ReLU",
        "InnerProduct",
        "Softmax",
    ]
    run("test", "net.caffemodel", "--engine", "torch", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["iterations"]) == (10, 3)
    assert set(found["outputs"]) == {"loss"}
    assert 0 <= found["top1"] <= found["top5"] <= 1


def test_deploy_writes_to_stdout_and_reads_stdin(capsys, monkeypatch):
    import io
    import sys

    run("deploy", "net.prototxt")
    text = capsys.readouterr().out
    stream = io.TextIOWrapper(io.BytesIO(NET.encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    run("deploy", "-")
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fold", "net.prototxt", "--weights", "net.caffemodel"], 2, "--weights needs a place for the model"),
        (["fold", "net.prototxt", "--weights", "no.caffemodel", "-w", "x"], 1, "no.caffemodel: cannot read"),
        (["fold", "net.caffemodel", "--weights", "net.caffemodel", "-w", "x"], 1, "a caffemodel has no text to change"),
        (["deploy", "net.prototxt", "--weights", "net.caffemodel"], 2, "--weights needs a place for the model"),
        (["deploy", "net.prototxt", "-w", "x"], 2, "--weights-out goes with --weights"),
        (["deploy", "no.prototxt"], 1, "no.prototxt: cannot read"),
        (["test", "net.prototxt", "--weights", "no.caffemodel", "--engine", "torch"], 1, "cannot read"),
        (["test", "net.prototxt", "--engine", "torch"], 2, "no weights (--weights MODEL.caffemodel)"),
        (["test", "net.caffemodel", "--data", "no", "--engine", "torch"], 1, "no: no such database"),
        (["classify", "net.caffemodel", "no.png", "--engine", "torch"], 1, "no.png: cannot read"),
        (
            ["classify", "net.caffemodel", "net.prototxt", "--engine", "torch"],
            1,
            "rootgen classify: net.prototxt: cannot decode an image: of no format that Pillow knows",
        ),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(words, code, message, capsys):
    before = sorted(path.name for path in Path().iterdir())
    run(*words, code=code)
    said = capsys.readouterr()
    assert message in said.err.splitlines()[-1]
    assert said.out == ""
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["deploy", "net.prototxt", "--weights", "net.caffemodel", "-o", "net.prototxt"],
            "would replace net.caffemodel",
        ),
        (["deploy", "net.prototxt", "--weights", "net.caffemodel", "-o", "x.caffemodel"], "would both be x.caffemodel"),
        (["deploy", "net.prototxt", "--weights", "net.caffemodel", "-o", "."], "-o . is no file's name"),
        (["fold", "net.prototxt", "--weights", "net.caffemodel", "-o", "y", "-w", "./y"], "would both be ./y"),
        (["transform", "net.prototxt", "--root", "2", "--weights", "net.caffemodel", "-o", "net.x"], "would replace"),
        (["transform", "net.prototxt", "--root", "2", "--weights", "net.caffemodel", "-o", "/"], "is no file's name"),
    ],
)
def test_a_model_never_replaces_what_it_comes_from(words, message, capsys):
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    run(*words, code=2)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


@pytest.mark.parametrize("verb", ["deploy", "fold"])
def test_there_is_no_phase_to_choose(verb, capsys):
    """Both are of phase TEST, whatever one would like; the option would change nothing."""
    with pytest.raises(SystemExit, match="2"):
        main([verb, "net.prototxt", "--weights", "net.caffemodel", "-o", "x.prototxt", "--phase", "TRAIN"])
    assert "no option '--phase'" in capsys.readouterr().err


def test_the_deploy_net_of_shapes_that_are_given(capsys):
    text = NET.replace('"Data"', '"Python"').replace("data_param", "#")
    Path("python.prototxt").write_text(text.replace("  #", "  python_param { module: 'm' layer: 'L' } } #"))
    run("deploy", "python.prototxt", "--shape", "data=1x3x6x6")
    assert "shape { dim: 1 dim: 3 dim: 6 dim: 6 }" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["deploy", "fold"])
def test_net_and_model_are_written_both_or_none(verb, capsys):
    Path("folder").mkdir()
    run(verb, "net.prototxt", "--weights", "net.caffemodel", "-o", "folder", "-w", "m.caffemodel", code=1)
    assert "folder: cannot write: Is a directory" in capsys.readouterr().err
    assert not Path("m.caffemodel").exists()


def test_lenient_goes_for_the_net_and_for_its_model(capsys):
    Path("odd.prototxt").write_text(NET.replace("num_output: 4", "num_output: 4 of_a_fork: 1"))
    run("deploy", "odd.prototxt", "--weights", "net.caffemodel", "-o", "d.prototxt", "--lenient")
    assert Path("d.caffemodel").is_file()
    engine = ["--engine", "torch"]
    run("test", "odd.prototxt", "--weights", "net.caffemodel", *engine, code=1)
    assert "--lenient passes over it" in capsys.readouterr().err
    run("test", "odd.prototxt", "--weights", "net.caffemodel", "--lenient", *engine)
    picture("a.png")
    run("classify", "net.caffemodel", "a.png", "--net", "odd.prototxt", "--lenient", *engine)


PYTHON = 'layer { name: "p" type: "Python" bottom: "conv" top: "conv" python_param { module: "m" layer: "L" } }\n'


@pytest.mark.parametrize("words", [["test"], ["classify", "net.caffemodel", "a.png", "--net"]])
def test_errors_speak_of_the_net_that_was_given(words, capsys):
    """And not of the copy that is run."""
    picture("a.png")
    Path("python.prototxt").write_text(NET.replace('layer { name: "relu"', f'{PYTHON}layer {{ name: "relu"'))
    more = ["--weights", "net.caffemodel"] if words == ["test"] else []
    run(*words, "python.prototxt", *more, "--engine", "torch", code=1)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"rootgen {words[0]}: python.prototxt: layer 'p': the shape of its tops cannot be known")


def test_fold_goes_around_what_no_engine_runs(capsys):
    """And keeps the blobs of layers whose shapes it cannot tell as they are."""
    scale = 'layer { name: "fc" type: "Scale" bottom: "q" top: "fc" }\n'
    python = PYTHON.replace('top: "conv"', 'top: "q"')
    Path("python.prototxt").write_text(NET[: NET.index('layer { name: "relu"')] + python + scale)
    words = ["python.prototxt", "--weights", "net.caffemodel", "-o", "f.prototxt"]
    run("fold", *words)
    told = capsys.readouterr().err
    assert "not checked: the embedded engine does not run this net: python.prototxt:" in told
    assert "fc    its shapes are not known" in told
    assert told.splitlines()[-1] == "rootgen: 1 layers folded, 1 left"
    assert [layer.name for layer in read("f.prototxt").layers] == ["data", "conv", "p", "fc"]
    ours, given = weights.read("f.caffemodel"), weights.read("net.caffemodel")
    assert list(ours) == ["conv", "fc"]
    assert all(np.array_equal(a, b) for a, b in zip(ours["fc"], given["fc"], strict=True))


def test_nothing_to_fold(capsys):
    Path("plain.prototxt").write_text(NET.replace('"BatchNorm"', '"TanH"'))
    run("fold", "plain.prototxt", "--weights", "net.caffemodel", "--dry-run")
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-1]) == ("", "rootgen: 0 layers would be folded, 0 left")


STEPS = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "wide" type: "Convolution" bottom: "conv" top: "wide"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "wide" top: "sum" }
layer { name: "step" type: "Convolution" bottom: "sum" top: "step"
  convolution_param { num_output: 4 kernel_size: 1 stride: 2 } }
"""


def test_fold_takes_strides_early_where_asked(capsys):
    Path("steps.prototxt").write_text(STEPS)
    net = load("steps.prototxt")
    random = np.random.default_rng(2)
    blobs = {one.name: [np.abs(random.standard_normal(shape)) for shape in one.shapes.params] for one in net.layers}
    weights.write(
        "steps.caffemodel", "steps", "TEST", read("steps.prototxt").layers, {n: b for n, b in blobs.items() if b}
    )
    words = ["fold", "steps.prototxt", "--weights", "steps.caffemodel", "-o", "f.prototxt"]
    run(*words)
    told = capsys.readouterr().err
    assert "rootgen: 2 strides can change places, with less to compute: --early-strides" in told
    assert "stride: 2" not in Path("f.prototxt").read_text().split('"step"')[0]
    run(*words, "--early-strides", "--dry-run")
    shown = capsys.readouterr().out
    assert "wide            1x1  2x2\nstep            2x2  1x1\n" in shown
    run(*words, "--early-strides")
    told = capsys.readouterr().err
    assert "macs per image" in told
    assert "change places" not in told
    assert load("f.prototxt").blobs["sum"] == (1, 4, 4, 4)
    stored = weights.read("f.caffemodel")
    assert (stored["conv_stride2"][0] == 1).all()
    run("fold", "f.prototxt", "--weights", "f.caffemodel", "-o", "g.prototxt", "--early-strides")
    assert "rootgen: no stride can be taken earlier" in capsys.readouterr().err
    assert Path("g.prototxt").read_text() == Path("f.prototxt").read_text()


def picture(name):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(name)


def test_a_net_on_stdin_is_scored(capsys, monkeypatch):
    import io
    import sys

    words = ["--weights", "net.caffemodel", "--engine", "torch", "--format", "json"]
    run("test", "net.prototxt", *words)
    wanted = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NET.encode())))
    run("test", "-", *words)
    assert json.loads(capsys.readouterr().out) == wanted | {"net": "-"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mean", "104,117"], "2 mean values for images of 3 channels"),
        (["--mean", "104,nan,3"], "the mean holds what is no finite number"),
        (["-k", "8"], "8 classes asked for, but 'prob' has 7"),
        (["--resize", "100000x100000"], "a.png: 8x8 would become 100000x100000, of more than 67108864 pixels"),
    ],
)
def test_what_classify_refuses(words, message, capsys):
    picture("a.png")
    run("classify", "net.caffemodel", "a.png", "--engine", "torch", *words, code=1)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", ["3", "0x3", "3x3x3", "3xa", "99999999999999999999x3"])
def test_a_size_that_is_none_is_wrong_usage(size, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["classify", "net.caffemodel", "a.png", "--resize", size])
    assert caught.value.code == 2
    assert f"argument --resize: '{size}' is not HEIGHTxWIDTH, such as 256x256" in capsys.readouterr().err


def test_a_strip_is_not_made_as_high_as_the_net_wants(capsys):
    from PIL import Image

    Image.new("L", (2_000_000, 1)).save("strip.png")
    run("classify", "net.caffemodel", "strip.png", "--engine", "torch", code=1)
    assert "strip.png: 1x2000000 would become 6x12000000, of more than" in capsys.readouterr().err


@pytest.fixture
def no_numbers(folder):
    """A model that has diverged."""
    blobs = weights.read("net.caffemodel")
    blobs["fc"] = [np.full_like(blob, np.nan) for blob in blobs["fc"]]
    weights.write("nan.caffemodel", "small", "TRAIN", read("net.prototxt", "TRAIN").layers, blobs)


def test_no_model_of_no_numbers_goes_further(no_numbers, capsys):
    picture("a.png")
    before = sorted(path.name for path in Path().iterdir())
    for words in (["deploy", "net.prototxt", "-o", "d.prototxt"], ["fold", "net.prototxt", "-o", "f.prototxt"]):
        run(*words, "--weights", "nan.caffemodel", code=1)
        assert "layer 'fc': 448 of the 448 values of blob 0 in" in capsys.readouterr().err.splitlines()[-1]
    run("classify", "nan.caffemodel", "a.png", "--engine", "torch", code=1)
    assert capsys.readouterr().err.endswith(
        "a.png: its scores are no numbers (NaN) (has the model's training diverged?)\n"
    )
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_model_of_no_numbers_is_never_right(no_numbers, capsys):
    run("test", "net.prototxt", "--weights", "nan.caffemodel", "--engine", "torch", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["top1"], found["top5"]) == (0, 0)


def test_names_as_long_as_they_may_be(capsys):
    name = "x" * 244 + ".caffemodel"
    Path("net.caffemodel").rename(name)
    run("test", "net.prototxt", "--weights", name, "--engine", "torch")
    picture("a.png")
    run("classify", name, "a.png", "--engine", "torch")
