"""Timing: which rows there are and what they say of the run; never how long anything took."""

from __future__ import annotations

import csv
import io
import json

import pytest
from engine_nets import input_layer

from rootgen import cli
from rootgen.engine.timing import measure

pytestmark = pytest.mark.torch

NET = (
    """layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 8 }
      data_param { source: "nowhere" batch_size: 4 backend: LMDB } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
      convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
    layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
    layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
      inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
    """
)  # fmt: skip
NAMES = ["conv", "bn", "relu", "ip", "loss"]


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


def test_every_layer_and_the_whole_are_timed_without_any_data(net):
    timing = measure(net, engine="torch", device="cpu", iterations=2, warmup=1)
    assert [row.layer for row in timing.layers] == NAMES
    assert (timing.batch, timing.iterations, timing.engine) == (4, 2, "torch")
    assert timing.device.startswith("cpu (")
    for row in (*timing.layers, timing.whole):
        assert row.forward > 0
        assert row.backward is not None
        assert row.backward > 0


def test_forward_only_and_another_batch(net):
    timing = measure(net, engine="torch", device="cpu", iterations=1, batch_size=9, backward=False)
    assert timing.batch == 9
    assert {row.backward for row in (*timing.layers, timing.whole)} == {None}


def test_a_deploy_net_is_timed_backward_too(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        input_layer("x", 2, 3)
        + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }'
    )
    assert measure(path, engine="torch", device="cpu", iterations=1).whole.backward is not None


def run_cli(capsys, *words: str) -> str:
    assert cli.main(["time", *words, "--engine", "torch", "--device", "cpu", "--iterations", "1", "--warmup", "1"]) == 0
    return capsys.readouterr().out


def test_the_command_as_table_csv_and_json(net, capsys):
    table = run_cli(capsys, str(net)).splitlines()
    assert table[0].startswith(f"{net}: batch 4, ")
    assert "medians of 1 passes" in table[0]
    assert [line.split()[0] for line in table[3:]] == [*NAMES, "whole"]
    rows = list(csv.DictReader(io.StringIO(run_cli(capsys, str(net), "--format", "csv"))))
    assert [row["layer"] for row in rows] == [*NAMES, ""]
    assert float(rows[0]["forward_ms"]) > 0
    (found,) = json.loads(run_cli(capsys, str(net), "--format", "json"))
    assert [row["layer"] for row in found["layers"]] == NAMES
    totals = run_cli(capsys, str(net), str(net), "--total").splitlines()
    assert [line.split()[:2] for line in totals[3:]] == [[str(net), "4"]] * 2
