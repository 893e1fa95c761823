"""What the pycaffe engine refuses with one line, where Caffe itself would end the process or mix up a snapshot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rootgen.caffe_build.prefix import import_path
from rootgen.engine import open_network, open_trainer
from rootgen.errors import RootgenError

TRAIN = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 %s } }
layer { name: "%s" type: "InnerProduct" bottom: "ip" top: "ip2" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def refused(folder: Path, net: str, fields: str, match: str) -> None:
    """Write the net and a solver for it with more `fields`: a trainer in pycaffe has to refuse them."""
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 {fields}'
    )
    with pytest.raises(RootgenError, match=match):
        open_trainer(folder / "solver.prototxt", engine="caffe")


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("inside", "second", "match"),
    [
        ('weight_filler { type: "gaussian" std: 0 }', "ip2", "'ip': filler 'gaussian': std is 0"),
        ('bias_filler { type: "uniform" min: 1 max: 0 }', "ip2", "'ip': filler 'uniform': min 1 is above max 0"),
        ('weight_filler { type: "gausian" }', "ip2", "'ip': unknown filler 'gausian'"),
        ("", "ip", "'ip': has the name of a layer above"),
    ],
)
def test_nets_that_caffe_would_not_survive(tmp_path: Path, inside: str, second: str, match: str) -> None:
    refused(tmp_path, TRAIN % (inside, second), "", match)


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "caffe")]
)
def test_statistics_are_not_learnt(tmp_path: Path, engine: str) -> None:
    norm = 'layer { name: "bn" type: "BatchNorm" bottom: "ip" top: "bn" param { lr_mult: 0 } param { lr_mult: 1 } }'
    (tmp_path / "net.prototxt").write_text(TRAIN % ("", "ip2") + norm)
    with pytest.raises(RootgenError, match=r"'bn': has lr_mult 1 .Caffe needs 0 on BatchNorm's statistics"):
        open_network(tmp_path / "net.prototxt", engine=engine, device="cpu")


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("fields", "param", "match"),
    [
        ('type: "SDG"', "", "unknown solver type 'SDG' .did you mean 'SGD'"),
        ('type: "AdaGrad" momentum: 0.9', "", "AdaGrad takes no momentum, found 0.9"),
        ('type: "RMSProp" rms_decay: 2', "", "RMSProp takes rms_decay from 0 to below 1, found 2"),
        ('regularization_type: "L3" weight_decay: 0.1', "", "unknown regularization_type 'L3'"),
        (
            "",
            'param { name: "w" lr_mult: 2 }',
            "'ip2': shares blob 'w' with layer 'ip', but here lr_mult is 2, there 1",
        ),
    ],
)
def test_solvers_that_caffe_would_not_survive(tmp_path: Path, fields: str, param: str, match: str) -> None:
    text = (TRAIN % ("", "ip2")).replace("dim: 2 dim: 3", "dim: 2 dim: 4")
    text = text.replace('top: "ip" ', 'top: "ip" param { name: "w" lr_mult: 1 } ')
    refused(tmp_path, text.replace('top: "ip2" ', f'top: "ip2" {param} '), fields, match)


def test_a_folder_named_caffe_is_no_pycaffe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "caffe").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # without the pycaffe that an environment may have
    monkeypatch.delitem(sys.modules, "caffe", raising=False)
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROOTGEN_CAFFE_PREFIX", raising=False)
    assert import_path() == "no Caffe is built yet"


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "caffe")]
)
@pytest.mark.parametrize(
    ("param", "match"),
    [("", "has no infogain matrix"), ('infogain_loss_param { source: "no/such/file" }', "cannot read")],
)
def test_an_infogain_matrix_has_to_be_there(tmp_path: Path, engine: str, param: str, match: str) -> None:
    net = TRAIN.replace('"SoftmaxWithLoss"', f'"InfogainLoss" {param}') % ("", "ip2")
    (tmp_path / "net.prototxt").write_text(net)
    with pytest.raises(RootgenError, match=match):
        open_network(tmp_path / "net.prototxt", phase="TRAIN", engine=engine, device="cpu")
