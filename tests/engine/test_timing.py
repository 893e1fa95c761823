"""Timing: which rows there are and what they say of the run; never how long anything took."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys

import pytest
from engine_nets import input_layer

from rootgen import cli
from rootgen.engine import place_of
from rootgen.engine.timing import measure
from rootgen.errors import RootgenError

both = pytest.mark.parametrize("engine", [pytest.param(e, marks=getattr(pytest.mark, e)) for e in ("torch", "caffe")])
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


@both
def test_every_layer_and_the_whole_are_timed_without_any_data(net, engine):
    timing = measure(net, engine=engine, device="cpu", iterations=2, warmup=1)
    assert [row.layer for row in timing.layers] == NAMES
    assert (timing.batch, timing.iterations, timing.engine) == (4, 2, engine)
    assert timing.device.startswith("cpu (")
    for row in (*timing.layers, timing.whole):
        assert row.forward > 0
        assert row.backward is not None
        assert row.backward > 0


@both
def test_forward_only_and_another_batch(net, engine):
    timing = measure(net, engine=engine, device="cpu", iterations=1, batch_size=9, backward=False)
    assert timing.batch == 9
    assert {row.backward for row in (*timing.layers, timing.whole)} == {None}


@both
def test_a_deploy_net_is_timed_backward_too(tmp_path, engine):
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        input_layer("x", 2, 3)
        + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }'
    )
    timing = measure(path, engine=engine, device="cpu", iterations=1)
    assert timing.whole.backward is not None
    assert timing.layers[-1].backward is not None


LOST = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }
layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 } }
layer { name: "frozen" type: "Convolution" bottom: "p" top: "f" param { lr_mult: 0 } param { lr_mult: 0 }
        convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "f" top: "ip" inner_product_param { num_output: 2 } %s }
layer { name: "r" type: "ReLU" bottom: "ip" top: "r" }
layer { name: "s" type: "Softmax" bottom: "ip" top: "s" }
layer { name: "side" type: "Power" bottom: "r" top: "side" %s }
layer { name: "arg" type: "ArgMax" bottom: "s" top: "arg" }
"""


@pytest.mark.caffe
def test_what_is_not_run_backward_has_no_time(tmp_path):
    """No learnt blob before it, no loss behind it, or behind what passes no gradient: `-`, never 0.000."""
    (tmp_path / "n.prototxt").write_text(LOST % ("", ""))
    timing = measure(tmp_path / "n.prototxt", engine="caffe", device="cpu", iterations=2)
    ran = {row.layer for row in timing.layers if row.backward is not None}
    assert ran == {"ip", "ip_ip_0_split", "r", "side"}
    assert all(row.forward > 0 for row in timing.layers)
    (tmp_path / "n.prototxt").write_text(LOST % ("param { lr_mult: 0 } param { lr_mult: 0 }", ""))
    timing = measure(tmp_path / "n.prototxt", engine="caffe", device="cpu", iterations=1)
    assert {row.backward for row in (*timing.layers, timing.whole)} == {None}


@pytest.mark.caffe
@pytest.mark.parametrize("weights", ["", "loss_weight: 1", "propagate_down: false loss_weight: 1"])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_layers_run_backward_as_caffe_says_in_its_log(tmp_path, weights, phase):
    for text in (LOST % ("", weights), NET):
        (tmp_path / "n.prototxt").write_text(text)
        script = (
            "from rootgen.engine import open_network; from rootgen.engine.caffe.timing import runs_backward;"
            f"net = open_network({str(tmp_path / 'n.prototxt')!r}, phase={phase!r}, engine='caffe', device='cpu',"
            "read_data=False); print(*sorted(net.layer_names[i] for i in runs_backward(net)))"
        )
        env = {**os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
        said = re.findall(r"\] (\S+) needs backward computation", done.stderr)
        assert done.stdout.split() == sorted(said)
        assert said


def test_no_speed_of_what_took_no_time():
    from rootgen.engine.timing import TimedLayer, Timing

    found = Timing("n", "caffe", "cpu", 4, 1, (), TimedLayer(None, "", 0.0, None))
    assert found.speed is None
    assert "inf" not in str(found)


@both
def test_the_whole_alone(net, engine):
    timing = measure(net, engine=engine, device="cpu", iterations=2, total=True)
    assert timing.layers == ()
    assert timing.whole.forward > 0
    assert timing.whole.backward is not None
    assert timing.whole.backward > 0


@both
def test_where_an_engine_computes_is_what_its_times_say(net, engine):
    timing = measure(net, engine=engine, device="cpu", iterations=1, total=True)
    assert place_of(engine, "cpu") == (engine, timing.device)
    with pytest.raises(RootgenError, match=r"no device 'gpu:99'|built for the CPU|no CUDA device for 'gpu:99'"):
        place_of(engine, "gpu:99")


def run_cli(capsys, *words: str) -> str:
    assert cli.main(["time", *words, "--engine", "torch", "--device", "cpu", "--iterations", "1", "--warmup", "1"]) == 0
    return capsys.readouterr().out


@pytest.mark.torch
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
