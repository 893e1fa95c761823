"""Comparing nets: which layers are matched, what counts as a change, and the three formats."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from rootgen import paths
from rootgen.cli import main
from rootgen.net import diff, shapes
from rootgen.net import read as net

A = """
layer { name: 'd' type: 'Input' top: 'd' input_param { shape { dim: 1 dim: 4 dim: 8 dim: 8 } } }
layer { name: 'a' type: 'Convolution' bottom: 'd' top: 'a' convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: 'b' type: 'ReLU' bottom: 'a' top: 'a' }
layer { name: 'c' type: 'Pooling' bottom: 'a' top: 'c' pooling_param { kernel_size: 2 pool: MAX } }
"""


def compared(a: str, b: str) -> diff.Diff:
    nets = [net.parse(text) for text in (a, b)]
    found = [shapes.infer(graph) for graph in nets]
    return diff.compare(*found)


def statuses(a: str, b: str) -> dict[str, str]:
    return {row.name: row.status for row in compared(a, b).layers}


def test_a_net_is_the_same_as_itself():
    found = compared(A, A)
    assert found.changes == ()
    assert [row.name for row in found.layers] == ["d", "a", "b", "c"]


def test_groups_change_one_layer():
    (row,) = compared(A, A.replace("kernel_size: 3", "kernel_size: 3 group: 2")).changes
    assert (row.name, row.status, row.fields) == ("a", "changed", ("convolution_param.group: - -> 2",))
    assert (row.before.params, row.after.params) == (148, 76)


def test_shapes_spread_and_fields_are_named():
    found = {row.name: row for row in compared(A, A.replace("kernel_size: 3", "kernel_size: 1 pad: 1")).changes}
    assert list(found) == ["a", "b", "c"]
    assert found["b"].fields == ()
    assert found["a"].fields == (
        "convolution_param.kernel_size: [3] -> [1]",
        "convolution_param.pad: - -> [1]",
    )
    (pool,) = compared(A, A.replace("MAX", "AVE")).changes
    assert pool.fields == ("pooling_param.pool: MAX -> AVE",)
    (rewired,) = compared(A, A.replace("bottom: 'a' top: 'c'", "bottom: 'd' top: 'c'")).changes
    assert rewired.fields == ("bottom: [a] -> [d]",)


def test_added_and_removed_layers_stand_where_they_are():
    extra = "layer { name: 'x' type: 'BatchNorm' bottom: 'a' top: 'a' param { lr_mult: 0 } }\n"
    first = "layer { name: 'e' type: 'DummyData' top: 'e' dummy_data_param { shape { dim: 1 } } }\n"
    lines = A.strip().split("\n")
    b = "\n".join([first, *lines[:2], extra, *lines[3:]])
    assert statuses(A, b) == {
        "e": "added", "d": "same", "a": "same", "x": "added", "b": "removed", "c": "same"
    }  # fmt: skip
    assert [row.name for row in compared(A, b).layers] == ["e", "d", "a", "x", "b", "c"]


def test_repeated_names_are_matched_in_order():
    again = "layer { name: 'b' type: 'Silence' bottom: 'c' }\n"
    assert [(row.name, row.status) for row in compared(A, A + again).changes] == [("b", "added")]


ORIG, ROOT = (str(paths.resource("prototxt") / "nin" / row / "deploy.prototxt") for row in ("orig", "root-4"))


def test_json_of_the_command(capsys):
    assert main(["diff", ORIG, ROOT, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["before"]["params"], found["after"]["params"]) == (966986, 455498)
    changed = {row["name"]: row for row in found["layers"] if row["status"] != "same"}
    assert list(changed) == ["conv2a", "conv3a"]
    assert changed["conv2a"]["before"]["group"] == 1
    assert changed["conv2a"]["after"] == {
        "type": "Convolution", "group": 4, "output": [192, 16, 16], "params": 115392, "macs": 29491200
    }  # fmt: skip
    assert changed["conv2a"]["fields"] == ["convolution_param.group: - -> 4"]


def test_csv_of_the_command(capsys):
    assert main(["diff", ORIG, ROOT, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    saved = sum(int(row["params_before"]) - int(row["params_after"]) for row in rows)
    assert saved == 966986 - 455498
    assert next(row["output_after"] for row in rows if row["name"] == "conv2a") == "192x16x16"


def test_text_of_the_command(capsys):
    assert main(["diff", ORIG, ROOT]) == 0
    shown = capsys.readouterr().out
    assert "1 -> 4" in shown
    assert "460,992 -> 115,392" in shown
    assert "-52.9%" in shown
    assert "relu" not in shown
    assert main(["diff", ORIG, ROOT, "--all"]) == 0
    assert "relu1a" in capsys.readouterr().out


@pytest.mark.parametrize("pair", [(ORIG, "absent.prototxt"), ("absent.prototxt", ROOT)])
def test_a_missing_file(pair, capsys):
    assert main(["diff", *pair]) == 1
    assert capsys.readouterr().err == "rootgen diff: absent.prototxt: cannot read: No such file or directory\n"


SAVED = """
layer { name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 6 dim: 6 } shape { dim: 2 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" loss_weight: 0.5
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "bn" }
layer { name: "r" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "a" type: "Pooling" bottom: "bn" top: "a" pooling_param { kernel_size: 2 } }
layer { name: "e" type: "Eltwise" bottom: "a" bottom: "a" top: "e" }
layer { name: "s" type: "Split" bottom: "e" top: "s1" top: "s2" }
layer { name: "ip" type: "InnerProduct" bottom: "s1" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "y" top: "acc" include { phase: TEST } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" }
layer { name: "sc" type: "Scale" bottom: "bn" top: "sc" scale_param { bias_term: true } }
"""


@pytest.mark.caffe
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_what_caffe_puts_into_a_net_that_it_saves_is_no_difference(tmp_path, phase):
    (tmp_path / "n.prototxt").write_text(SAVED)
    script = (
        f"import caffe; caffe.Net({str(tmp_path / 'n.prototxt')!r}, caffe.{phase})"
        f".save({str(tmp_path / 'n.caffemodel')!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "GLOG_minloglevel": "2"})
    written = shapes.infer(net.read(tmp_path / "n.prototxt", phase))
    saved = shapes.infer(net.read(tmp_path / "n.caffemodel", phase))
    assert any(layer.name.endswith("_split") for layer in saved.layers)
    assert diff.compare(written, saved).changes == ()
    assert diff.compare(saved, saved).changes == ()
    other = shapes.infer(net.parse(SAVED.replace("kernel_size: 3", "kernel_size: 5"), phase))
    assert diff.compare(other, saved).changes[0].fields == ("convolution_param.kernel_size: [5] -> [3]",)


def test_what_is_not_known_is_null(tmp_path, capsys):
    (tmp_path / "a.prototxt").write_text(A)
    (tmp_path / "b.prototxt").write_text(A.replace("'Pooling'", "'Python'"))
    words = ["diff", str(tmp_path / "a.prototxt"), str(tmp_path / "b.prototxt")]
    assert main([*words, "--format", "json"]) == 0
    changed = next(row for row in json.loads(capsys.readouterr().out)["layers"] if row["name"] == "c")
    assert (changed["before"]["params"], changed["before"]["macs"]) == (0, 0)
    assert (changed["after"]["output"], changed["after"]["params"], changed["after"]["macs"]) == (None, None, None)
    assert main([*words, "--format", "csv"]) == 0
    row = next(row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["name"] == "c")
    assert (row["macs_before"], row["macs_after"]) == ("0", "")
    graphs = [shapes.infer(net.parse(path.read_text()), partial=True) for path in sorted(tmp_path.iterdir())]
    row = next(row for row in diff.compare(*graphs).rows if row["name"] == "c")
    assert (row["params_before"], row["params_after"]) == (0, None)
