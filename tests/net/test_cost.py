"""Counting: both conventions against the paper's printed cells and against multiply-adds counted one by one."""

from __future__ import annotations

import csv
import io
import itertools
import json
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootgen import paths
from rootgen.cli import main
from rootgen.engine.api import images_per_batch
from rootgen.errors import RootgenError
from rootgen.net import cost, memory, shapes
from rootgen.net import read as net
from rootgen.proto import prototxt, schema
from rootgen.proto.database import Writer


def counted(text: str, convention: str = "macs", **options) -> cost.Cost:
    graph = net.parse(text, allow_unknown=True)
    return cost.count(shapes.infer(graph, partial=True, **options), convention)


def layer(name: str, kind: str, bottom: str, fields: str = "") -> str:
    return f"layer {{ name: '{name}' type: '{kind}' bottom: '{bottom}' top: '{name}' {fields} }}\n"


def image(*dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f"layer {{ name: 'd' type: 'Input' top: 'd' input_param {{ shape {{ {shape} }} }} }}\n"


# Table 2 of the paper: FLOPs and parameters as printed; root-4's parameters are illegible there.
NIN_CELLS = {
    "orig": ("2.22", "9.67"),
    "root-2": ("1.64", "7.37"),
    "root-4": ("1.23", None),
    "root-8": ("1.03", "3.15"),
    "root-16": ("0.93", "2.45"),
}


@pytest.mark.parametrize("phase", ["deploy", "train_val"])
@pytest.mark.parametrize("row", NIN_CELLS)
def test_the_papers_cells_for_nin(row, phase):
    graph = net.read(paths.resource("prototxt") / "nin" / row / f"{phase}.prototxt")
    total = cost.count(shapes.infer(graph), "paper")
    flops, params = NIN_CELLS[row]
    assert f"{total.macs / 1e8:.2f}" == flops
    assert params is None or f"{total.params / 1e5:.2f}" == params
    assert total.input == (3, 32, 32)


@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
)
def test_macs_are_the_multiplications_of_nested_loops(group, channels, kernel, stride, reverse):
    """Transposed: each input value meets each weight of its group once."""
    length, (per_in, per_out, batch) = 5, channels
    fields = f"num_output: {group * per_out} kernel_size: {kernel} stride: {stride} group: {group}"
    kind = "Deconvolution" if reverse else "Convolution"
    total = counted(
        image(batch, group * per_in, length, length) + layer("c", kind, "d", f"convolution_param {{ {fields} }}")
    )
    row = total.layers[1]
    out = length if reverse else len(range(0, length - kernel + 1, stride))
    multiplied = sum(
        1
        for _ in itertools.product(
            range(group), range(per_out), range(per_in), range(kernel), range(kernel), range(out), range(out)
        )
    )
    weights = group * per_out * per_in * kernel * kernel
    assert (row.macs, row.weights, row.biases) == (multiplied, weights, group * per_out)
    assert (total.macs, total.params, total.batch) == (multiplied, weights + group * per_out, batch)
    assert row.group == group


def test_each_bias_counts_once_in_the_papers_flops():
    text = image(2, 3, 8, 8) + layer("c", "Convolution", "d", "convolution_param { num_output: 4 kernel_size: 3 }")
    text += layer("f", "InnerProduct", "c", "inner_product_param { num_output: 5 }")
    true, paper = counted(text), counted(text, "paper")
    assert true.macs == 108 * 36 + 4 * 36 * 5
    assert paper.macs == true.macs + 4 + 5
    assert true.params == paper.params == 108 + 4 + 720 + 5


def test_batch_norm_and_scale():
    text = image(2, 3, 8, 8) + layer("bn", "BatchNorm", "d")
    text += layer("s", "Scale", "bn", "scale_param { bias_term: true }") + layer("p", "PReLU", "s")
    true, paper = counted(text), counted(text, "paper")
    assert (true.params, true.statistics, true.macs) == (9, 7, 0)
    assert (paper.params, paper.statistics, paper.macs) == (0, 7, 0)
    assert true.weight_bytes == paper.weight_bytes == 4 * 16


def test_shared_blobs_count_once_and_work_twice():
    fields = "param { name: 'w' } inner_product_param { num_output: 3 bias_term: false }"
    text = image(1, 3) + layer("a", "InnerProduct", "d", fields) + layer("b", "InnerProduct", "a", fields)
    total = counted(text)
    assert (total.params, total.macs) == (9, 18)
    assert [row.params for row in total.layers] == [0, 9, 0]


def test_a_convolution_with_two_bottoms_works_twice():
    fields = "bottom: 'd' top: 'y' convolution_param { num_output: 2 kernel_size: 1 bias_term: false }"
    total = counted(image(4, 3, 2, 2) + layer("c", "Convolution", "d", fields))
    assert (total.params, total.macs) == (6, 2 * 6 * 4)


@pytest.mark.parametrize(("kind", "rows", "more"), [("LSTM", 20, []), ("RNN", 5, [(5, 5)])])
@pytest.mark.parametrize("static", [False, True])
def test_recurrent_layers(kind, rows, more, static):
    time, streams = 4, 2
    text = image(time, streams, 7)
    text += "layer { name: 'e' type: 'Input' top: 'cont' input_param { shape { dim: 4 dim: 2 } } }\n"
    text += "layer { name: 'g' type: 'Input' top: 'still' input_param { shape { dim: 2 dim: 3 } } }\n"
    bottoms = "bottom: 'cont' " + ("bottom: 'still' " if static else "")
    total = counted(text + layer("r", kind, "d", bottoms + "recurrent_param { num_output: 5 }"))
    moving = [(rows, 7), (rows, 5), *more]
    assert total.macs == time * sum(map(prod, moving)) + (rows * 3 if static else 0)  # of one sequence
    assert total.params == sum(map(prod, moving)) + rows + (5 if more else 0) + (rows * 3 if static else 0)


SEQUENCES = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 dim: 2 dim: 7 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 5 dim: 2 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "h" top: "y" inner_product_param { axis: 2 num_output: 3 } }
"""
FRAMES = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 10 dim: 3 dim: 8 dim: 8 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 5 dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 8 } }
layer { name: "r" type: "Reshape" bottom: "c" top: "r" reshape_param { shape { dim: 5 dim: 2 dim: -1 } } }
layer { name: "lstm" type: "LSTM" bottom: "r" bottom: "cont" top: "h" recurrent_param { num_output: 4 } }
"""


@pytest.mark.parametrize("batch", [None, 1, 6])
def test_recurrent_nets_are_counted_per_sequence(batch):
    total = cost.count(shapes.infer(net.parse(SEQUENCES), batch=batch))
    assert (total.batch, total.input) == (batch or 2, (5, 7))
    lstm, ip = total.layers[2:]
    assert (lstm.macs, lstm.output) == (5 * (16 * 7 + 16 * 4), (5, 4))
    assert lstm.macs == 880
    assert (ip.macs, ip.output) == (5 * 4 * 3, (5, 3))


def test_frames_that_become_steps_are_counted_per_frame():
    total = cost.count(shapes.infer(net.parse(FRAMES)))
    assert (total.batch, total.input) == (10, (3, 8, 8))
    assert [layer.macs for layer in total.layers] == [0, 0, 4 * 3 * 64, 0, 16 * 4 + 16 * 4]
    assert total.layers[-1].output == (5, 4)


def test_a_batch_of_sequences_is_their_number():
    for text, images in ((SEQUENCES, 2), (FRAMES, 10)):
        graph = shapes.infer(net.parse(text))
        assert images_per_batch(graph.layers[:1], graph.blobs, graph.layers) == images


def test_unknown_layers_count_as_zero_and_are_named():
    text = image(1, 3, 4, 4) + layer("p", "Riddle", "d")
    text += layer("c", "Convolution", "p", "convolution_param { num_output: 4 kernel_size: 1 }")
    total = counted(text)
    assert total.unknown == ("p", "c")
    assert not total.complete
    assert (total.params, total.macs) == (0, 0)
    told = counted(text, given={"p": (1, 3, 4, 4)})
    assert (told.params, told.complete) == (16, True)


def test_blobs_stored_in_a_caffemodel_count_even_where_shapes_are_not_known(tmp_path):
    text = "layer { name: 'py' type: 'Python' top: 'x' }\n"
    text += layer("c", "Convolution", "x", "convolution_param { num_output: 4 kernel_size: 1 }")
    param = prototxt.parse(text, schema.NetParameter)
    param.layer[1].blobs.add(shape={"dim": [4, 3, 1, 1]})
    param.layer[1].blobs.add(num=1, channels=1, height=1, width=4)
    path = tmp_path / "x.caffemodel"
    path.write_bytes(param.SerializeToString())
    graph = net.read(path)
    total = cost.count(shapes.infer(graph, partial=True))
    assert (total.params, total.macs, total.unknown) == (16, 0, ("py", "c"))


def test_stages_go_by_output_resolution():
    text = image(1, 3, 8, 8) + layer("a", "Convolution", "d", "convolution_param { num_output: 4 kernel_size: 1 }")
    text += layer("b", "Convolution", "a", "convolution_param { num_output: 4 kernel_size: 2 stride: 2 }")
    text += layer("c", "Convolution", "b", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }")
    text += layer("f", "InnerProduct", "c", "inner_product_param { num_output: 5 }")
    found = cost.stages(counted(text))
    assert [(stage.resolution, stage.layers) for stage in found] == [((8, 8), 1), ((4, 4), 2), ((), 1)]
    assert sum(stage.macs for stage in found) == counted(text).macs


def held(text: str) -> memory.Memory:
    graph = net.parse(text)
    return memory.activations(shapes.infer(graph), 1)


def test_activations_forward_and_backward():
    conv = "convolution_param { num_output: 4 kernel_size: 1 }"
    text = image(1, 3, 8, 8) + layer("c", "Convolution", "d", conv)
    in_place = "layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }\n"
    assert held(text) == held(text + in_place) == memory.Memory(1, 4 * 64 * 7, 4 * 64 * (7 + 4))
    two_readers = text + layer("x", "ReLU", "c") + layer("y", "ReLU", "c")
    assert held(two_readers).forward == 4 * 64 * (7 + 8)
    assert held(two_readers).forward_backward == 4 * 64 * (7 + 8 + 4 + 8 + 8)  # with a gradient per reader of c
    assert held(text + layer("f", "Flatten", "c")).forward == held(text).forward
    frozen = text.replace(conv, "param { lr_mult: 0 } param { lr_mult: 0 } " + conv)
    assert held(frozen) == memory.Memory(1, 4 * 64 * 7, 4 * 64 * 7)


def test_memory_grows_with_the_batch():
    graph = net.read(paths.resource("prototxt") / "nin" / "orig" / "deploy.prototxt")
    one = memory.activations(shapes.infer(graph, batch=1), 1)
    ten = memory.activations(shapes.infer(graph, batch=10), 10)
    assert ten.forward == 10 * one.forward
    assert cost.count(shapes.infer(graph, batch=10)).macs == cost.count(shapes.infer(graph)).macs


def test_no_such_convention():
    with pytest.raises(RootgenError, match=r"no convention 'pape' \(did you mean 'paper'\?\)"):
        counted(image(1, 3), "pape")


NIN = str(paths.resource("prototxt") / "nin" / "root-4" / "deploy.prototxt")


def test_a_net_that_cannot_be_counted_does_not_hide_the_others(capsys, tmp_path):
    (tmp_path / "bad.prototxt").write_text("layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }")
    good = str(paths.resource("prototxt") / "nin/orig/deploy.prototxt")
    bad, none = str(tmp_path / "bad.prototxt"), str(tmp_path / "none.prototxt")
    assert main(["cost", good, bad, none, good, "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["file"] for line in out.splitlines()] == [good, good]
    assert "bad.prototxt:1: layer 'r': bottom 'x' is the top of no layer" in err
    assert err.splitlines()[-1].startswith(f"rootgen cost: {none}: cannot read")


def test_json_of_the_command(capsys):
    assert main(["cost", NIN, NIN, "--format", "json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert first["net"] == "NiN root-4"
    assert (first["phase"], first["input"], first["params"]) == ("TEST", [3, 32, 32], 455498)
    assert sum(row["macs"] for row in first["layers"]) == first["macs"]
    assert {"name": "conv2a", "type": "Convolution", "group": 4, "output": [192, 16, 16]}.items() <= next(
        row for row in first["layers"] if row["name"] == "conv2a"
    ).items()


def test_csv_of_the_command(capsys):
    assert main(["cost", NIN, "--format", "csv", "--convention", "paper"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sum(int(row["macs"]) for row in rows) == 123397514
    assert next(row["output"] for row in rows if row["name"] == "conv2a") == "192x16x16"


def test_table_of_the_command(capsys):
    assert main(["cost", NIN]) == 0
    shown = capsys.readouterr()
    assert "455,498" in shown.out
    assert "16x16" in shown.out
    assert "relu1a" not in shown.out
    assert main(["cost", NIN, "--all", "--batch", "8"]) == 0
    shown = capsys.readouterr()
    assert "relu1a" in shown.out
    assert "batch 8" in shown.out
    assert main(["cost", NIN, NIN]) == 0
    assert capsys.readouterr().out.count("NiN root-4") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "32x32"], "'32x32' has 2 sizes, not 3"),
        (["--shape", "data"], "--shape data: not of the form BLOB=AxBxC"),
        (["--input", "3x2x2"], "layer 'pool2': top 'pool2' would be|more than the padded input has"),
    ],
)
def test_the_command_refuses_in_one_line(words, message, capsys):
    assert main(["cost", NIN, *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("rootgen cost: ")
    assert error.count("\n") == 1
    assert any(part in error for part in message.split("|"))


@pytest.mark.parametrize("source", ["one_lmdb", "nets/one_lmdb"])
def test_data_beside_the_net_is_found_as_training_finds_it(source, tmp_path, monkeypatch, capsys):
    (tmp_path / "nets").mkdir()
    with Writer(tmp_path / "nets/one_lmdb") as writer:
        writer.put([b"0"], [np.zeros((1, 8, 9), np.uint8)], [0])
    text = (
        f"layer {{ name: 'd' type: 'Data' top: 'd' data_param {{ source: '{source}' batch_size: 2 backend: LMDB }} }}\n"
    )
    text += layer("c", "Convolution", "d", "convolution_param { num_output: 2 kernel_size: 3 bias_term: false }")
    (tmp_path / "nets/net.prototxt").write_text(text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["cost", "../nets/net.prototxt", "--format", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["input"] == [1, 8, 9]
    assert json.loads(said.out)["params"] == 18
    assert f"'{source}' is not in the current folder; taking " in said.err
    assert "assumed" not in said.err
    assert main(["diff", "../nets/net.prototxt", "../nets/net.prototxt"]) == 0


# Figures that others count for the nets in Caffe's model zoo: parameters, and multiply-adds in millions per image.
ZOO = {
    "bvlc_alexnet": (60_965_224, 724),
    "bvlc_reference_caffenet": (60_965_224, 724),
    "bvlc_googlenet": (6_998_552, 1582),
}


@pytest.mark.parametrize("name", ZOO)
def test_the_model_zoo(name, caffe_tree):
    path = caffe_tree / "models" / name / "deploy.prototxt"
    if not path.is_file():
        pytest.skip("this Caffe tree has no models")
    graph = net.read(path)
    total = cost.count(shapes.infer(graph))
    assert (total.params, total.macs // 10**6) == ZOO[name]


def test_a_blob_of_unknown_shape_that_is_worked_on_in_place(tmp_path, capsys):
    """The Scale is the first that knows the blob's shape, which `--input` says."""
    text = "layer { name: 'py' type: 'Python' top: 'x' python_param { module: 'm' layer: 'L' } }\n"
    (tmp_path / "net.prototxt").write_text(text + layer("s", "Scale", "x").replace("top: 's'", "top: 'x'"))
    assert main(["cost", str(tmp_path / "net.prototxt"), "--input", "3x8x8"]) == 0
    table = capsys.readouterr().out
    assert "activations, forward, batch 1" in table
    assert "768 B" in table  # 3 x 8 x 8 floats
