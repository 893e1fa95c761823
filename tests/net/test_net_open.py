"""Nets from Python: what they know of themselves, and the tables that the commands print."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path
from xml.etree import ElementTree

import pytest

import rootgen
from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.net import load
from rootgen.net.load import LoadedNet
from rootgen.proto import prototxt, schema

NIN = rootgen.emit("nin", root=8)
PYTHON = """
layer { name: "in" type: "Input" top: "in" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "own" type: "Python" bottom: "in" top: "own" python_param { module: "m" layer: "L" } }
layer { name: "conv" type: "Convolution" bottom: "own" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
"""


@pytest.fixture
def nin(tmp_path: Path) -> Path:
    path = tmp_path / "nin.prototxt"
    path.write_text(NIN)
    return path


def test_a_net_knows_its_shapes() -> None:
    net = rootgen.parse(NIN, input=(3, 40, 48), batch_size=5, phase="TRAIN")
    assert net.blobs["data"] == (5, 3, 40, 48)
    conv = net.layer("conv2a")
    assert (conv.shapes.bottoms, conv.shapes.tops) == (((5, 96, 20, 24),), ((5, 192, 20, 24),))
    assert conv.shapes.params == ((192, 12, 5, 5), (192,))
    with pytest.raises(RootgenError, match=r"<text>: no layer 'conv2d' \(did you mean 'conv2[abc]'\?\)"):
        net.layer("conv2d")
    assert repr(net) == (
        "<NiN root-8 (TRAIN): 30 layers, input 3x40x48, 314,954 parameters, 193,766,400 multiply-adds an image>"
    )


def test_text_and_file_are_the_same_net(nin: Path) -> None:
    read, parsed = rootgen.read(nin), rootgen.parse(NIN)
    assert isinstance(load.load(nin), LoadedNet)
    assert (read.blobs, read.reading.text) == (parsed.blobs, NIN)
    assert (read.source, parsed.source) == (str(nin), "<text>")


def test_a_caffemodel_is_read_and_has_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(prototxt.parse(rootgen.emit("nin", phase="deploy"), schema.NetParameter).SerializeToString())
    net = rootgen.read(path)
    assert net.cost().params == 966_986
    with pytest.raises(RootgenError, match="a caffemodel has no text to change"):
        rootgen.transform(net, root=2)


@pytest.mark.parametrize("convention", ["macs", "paper"])
def test_cost_is_the_commands_table(convention: str, nin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rootgen.read(nin).cost(convention)
    assert main(["cost", str(nin), "--convention", convention]) == 0
    assert f"{found}\n" == capsys.readouterr().out
    assert repr(found) == str(found)
    assert main(["cost", str(nin), "--convention", convention, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [{**row, "output": list(row["output"])} for row in found.rows] == told["layers"]
    assert told["memory"] == found.memory.rows[0]


def test_cost_of_several_nets_is_a_line_each(nin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", str(nin), str(nin)]) == 0
    first, rule, *lines = capsys.readouterr().out.splitlines()
    assert first.split() == ["file", "net", "input", "params", "macs", "activations"]
    assert set(rule) == {"-", " "}
    assert [line.split()[-4:] for line in lines] == [["314,954", "103,342,080", "256.1", "MiB"]] * 2


def test_html_holds_what_the_text_says() -> None:
    net = rootgen.parse(NIN)
    for thing in (net.cost(), net.memory(), net.diff(rootgen.parse(rootgen.emit("nin")))):
        html = ElementTree.fromstring(f"<all>{thing._repr_html_()}</all>")
        cells = [cell.text for row in html.iter("tr") for cell in row if cell.text]
        assert cells
        assert all(cell in str(thing) for cell in cells)
    layers = ElementTree.fromstring(net._repr_html_())
    assert len(list(layers.iter("tr"))) == 1 + len(net.layers)


def test_rows_are_flat_and_alike() -> None:
    net = rootgen.parse(NIN)
    other = rootgen.parse(rootgen.emit("nin"))
    for thing in (net, net.cost(), net.memory(), net.diff(other), rootgen.transform(net, root=2)):
        rows = thing.rows
        assert rows
        assert {tuple(row) for row in rows} == {tuple(rows[0])}
        assert all(isinstance(value, (str, int, tuple, type(None))) for row in rows for value in row.values())


def test_rows_are_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    total = rootgen.parse(NIN).cost()
    frame = pandas.DataFrame(total.rows)
    assert frame["macs"].sum() == total.macs
    assert list(frame.columns) == ["name", "type", "group", "output", "params", "macs"]


def test_diff_tells_layers_of_either_net(nin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rootgen.parse(rootgen.emit("nin")).diff(rootgen.parse(NIN))
    changed = [row for row in found.rows if row["status"] != "same"]
    assert [(row["name"], row["group_before"], row["group_after"]) for row in changed] == [
        ("conv2a", 1, 8),
        ("conv3a", 1, 4),
    ]
    assert changed[0]["fields"] == "convolution_param.group: - -> 8"
    assert main(["diff", str(nin), str(nin), "--format", "csv"]) == 0
    header = next(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert header == list(found.rows[0])


def test_what_is_not_known_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        net = rootgen.parse(PYTHON)
    assert net.notes == ("<text>: shapes not known of 2 layers: 'own' (Python), 'conv' (Convolution)",)
    assert net.notes[0] in caplog.text
    assert [row["outputs"] for row in net.rows][1:] == [None, None]
    assert "not known" in net._repr_html_()
    assert rootgen.parse(PYTHON, shapes={"own": (2, 4, 6, 6)}).cost().macs == 4 * 2 * 9 * 16


def test_nets_with_and_without_shapes_are_told_apart_in_a_diff() -> None:
    before = rootgen.parse(PYTHON)
    found = before.diff(rootgen.parse(PYTHON, shapes={"own": (2, 4, 6, 6)}))
    assert [row["name"] for row in found.rows if row["output_before"] is None] == ["own", "conv"]
    assert "2x4x4" in str(found)


def test_a_layer_of_shared_weights_is_in_the_table_for_its_work() -> None:
    layer = (
        "layer {{ name: '{0}' type: 'InnerProduct' bottom: 'in' top: '{0}' param {{ name: 'w' }} "
        "inner_product_param {{ num_output: 2 bias_term: false }} }}\n"
    )
    shape = "input_param { shape { dim: 1 dim: 5 } }"
    text = f"layer {{ name: 'in' type: 'Input' top: 'in' {shape} }}\n" + layer.format("one") + layer.format("two")
    total = rootgen.parse(text).cost()
    assert [(row["params"], row["macs"]) for row in total.rows] == [(0, 0), (10, 10), (0, 10)]
    shown, everything = total.tables()[0].rows, total.tables(every=True)[0].rows
    assert ([row[0] for row in shown], [row[0] for row in everything]) == (["one", "two"], ["in", "one", "two"])


def test_the_mean_beside_a_net_tells_the_size_where_its_images_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets" / "images_leveldb").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    mean = schema.BlobProto(channels=3, height=9, width=11, num=1, data=[0.0] * 297)
    (tmp_path / "nets" / "mean.binaryproto").write_bytes(mean.SerializeToString())
    net = tmp_path / "nets" / "net.prototxt"
    net.write_text(
        'layer { name: "data" type: "Data" top: "data" transform_param { mean_file: "mean.binaryproto" }\n'
        '  data_param { source: "images_leveldb" batch_size: 2 backend: LEVELDB } }\n'
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load.load(net).blobs["data"] == (2, 3, 9, 11)
