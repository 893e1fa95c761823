"""Learning rates, updates and the rest of the solver, against Caffe's formulas."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from engine_nets import torch

from rootgen.engine import learning_rate as schedule
from rootgen.engine import open_trainer
from rootgen.engine import solver as solvers
from rootgen.errors import RootgenError
from rootgen.proto import prototxt, schema

pytestmark = pytest.mark.torch


def rate(text: str, iteration: int) -> float:
    solver = prototxt.parse(f"base_lr: 0.5 {text}", schema.SolverParameter)
    schedule.check_policy(solver, "solver")
    return schedule.learning_rate(solver, iteration)


@pytest.mark.parametrize(
    ("text", "iteration", "wanted"),
    [
        ('lr_policy: "fixed"', 1000, 0.5),
        ('lr_policy: "step" gamma: 0.1 stepsize: 10', 9, 0.5),
        ('lr_policy: "step" gamma: 0.1 stepsize: 10', 10, 0.05),
        ('lr_policy: "step" gamma: 0.1 stepsize: 10', 25, 0.005),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 8', 4, 0.5),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 8', 5, 0.05),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 8', 8, 0.005),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 5', 5, 0.05),  # Caffe takes one step an iteration
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 5', 6, 0.005),
        ('lr_policy: "exp" gamma: 10', 9999, math.inf),
        ('lr_policy: "exp" gamma: 0.9', 3, 0.5 * 0.9 * 0.9 * 0.9),
        ('lr_policy: "inv" gamma: 0.25 power: 0.5', 12, 0.25),  # (1 + 0.25*12)^-0.5 = 1/2
        ('lr_policy: "poly" power: 2 max_iter: 100', 0, 0.5),
        ('lr_policy: "poly" power: 2 max_iter: 100', 50, 0.125),
        ('lr_policy: "poly" power: 2 max_iter: 100', 100, 0.0),
        ('lr_policy: "sigmoid" gamma: -0.1 stepsize: 50', 50, None),
        ('lr_policy: "sigmoid" gamma: 0.1 stepsize: 50', 50, 0.25),
        ('lr_policy: "sigmoid" gamma: 0.1 stepsize: 50', 60, 0.5 / (1 + math.exp(-1))),
        ('lr_policy: "sigmoid" gamma: 100 stepsize: 50', 0, 0.0),
    ],
)
def test_learning_rates(text, iteration, wanted):
    if wanted is None:
        with pytest.raises(RootgenError, match=r"needs gamma >= 0, found -0.1"):
            rate(text, iteration)
    else:
        assert rate(text, iteration) == pytest.approx(wanted, rel=1e-6, abs=1e-20)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('lr_policy: "steps"', "unknown lr_policy 'steps'.*did you mean 'step'"),
        ("", "no lr_policy"),
        ('lr_policy: "step" gamma: 0.1', "needs stepsize > 0, found 0"),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 8 stepvalue: 5', "stepvalue must rise, found 8, 5"),
        ('lr_policy: "poly"', "needs max_iter > 0"),
    ],
)
def test_schedules_that_cannot_be(text, match):
    with pytest.raises(RootgenError, match=match):
        rate(text, 0)


# A net of one weight w and one bias b with loss ((w*2 + b) - 3)^2 / 2.
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 dim: 1 } data_filler { value: 2 } } }
layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 1 dim: 1 } data_filler { value: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" PARAM
  inner_product_param { num_output: 1 weight_filler { value: 0.5 } bias_filler { value: -0.25 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


def trainer_of(tmp_path: Path, text: str, param: str = "", net: str = NET):
    (tmp_path / "net.prototxt").write_text(net.replace("PARAM", param))
    solver = tmp_path / "solver.prototxt"
    defaults = {"base_lr": "0.1", "lr_policy": '"fixed"', "max_iter": "100", "random_seed": "1"}
    lines = [f"{key}: {value}" for key, value in defaults.items() if f"{key}:" not in text]
    solver.write_text("\n".join([f'net: "{tmp_path}/net.prototxt"', text, *lines]))
    return open_trainer(solver, engine="torch", device="cpu")


def weights_of(trainer) -> np.ndarray:
    return np.array([learnable.blob.item() for learnable in trainer.train.learnable])


def gradient(w: np.ndarray) -> np.ndarray:
    return (w[0] * 2 + w[1] - 3) * np.array([2.0, 1.0])


def test_momentum_keeps_the_rate_of_the_step_that_made_it(tmp_path):
    trainer = trainer_of(
        tmp_path, 'momentum: 0.9 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 weight_decay: 0.01',
        "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }",
    )  # fmt: skip
    w, history = np.array([0.5, -0.25]), np.zeros(2)
    for iteration in range(5):
        result = trainer.step()
        assert result.iteration == iteration
        assert result.loss == pytest.approx((w[0] * 2 + w[1] - 3) ** 2 / 2, rel=1e-5)
        assert result.learning_rate == pytest.approx(0.1 if iteration < 2 else 0.01)
        history = 0.9 * history + result.learning_rate * np.array([1, 2]) * (gradient(w) + np.array([0.01, 0]) * w)
        w = w - history
        np.testing.assert_allclose(weights_of(trainer), w, rtol=1e-5)


OPTIMIZERS = {
    'type: "SGD" momentum: 0.9': lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02),
    'type: "Nesterov" momentum: 0.9': lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.02, nesterov=True),
    'type: "AdaGrad" delta: 1e-3': lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=0.02, eps=1e-3),
    'type: "RMSProp" rms_decay: 0.8 delta: 1e-3': lambda p: torch.optim.RMSprop(
        p, 0.1, alpha=0.8, weight_decay=0.02, eps=1e-3
    ),
    'type: "AdaDelta" momentum: 0.8 delta: 1e-3': lambda p: torch.optim.Adadelta(
        p, 0.1, rho=0.8, weight_decay=0.02, eps=1e-3
    ),
    'type: "Adam" momentum: 0.8 momentum2: 0.95 delta: 1e-9': lambda p: torch.optim.Adam(
        p, 0.1, betas=(0.8, 0.95), weight_decay=0.02, eps=1e-9
    ),
}


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_updates_agree_with_pytorchs_at_a_constant_rate(tmp_path, text):
    trainer = trainer_of(tmp_path, f"{text} weight_decay: 0.02")
    w = torch.tensor([0.5, -0.25], dtype=torch.float64, requires_grad=True)
    optimizer = OPTIMIZERS[text]([w])
    for _ in range(6):
        trainer.step()
        optimizer.zero_grad()
        ((w[0] * 2 + w[1] - 3) ** 2 / 2).backward()
        optimizer.step()
        np.testing.assert_allclose(weights_of(trainer), w.detach().numpy(), rtol=2e-5)


def test_l1_regularization_adds_the_sign(tmp_path):
    trainer = trainer_of(tmp_path, 'weight_decay: 0.3 regularization_type: "L1"')
    trainer.step()
    w = np.array([0.5, -0.25])
    np.testing.assert_allclose(weights_of(trainer), w - 0.1 * (gradient(w) + 0.3 * np.sign(w)), rtol=1e-5)


def test_gradients_are_clipped_before_they_are_averaged(tmp_path):
    trainer = trainer_of(tmp_path, "clip_gradients: 0.5 iter_size: 4")
    trainer.step()
    w = np.array([0.5, -0.25])
    total = 4 * gradient(w)  # of the four passes
    clipped = total * 0.5 / np.linalg.norm(total)
    np.testing.assert_allclose(weights_of(trainer), w - 0.1 * clipped / 4, rtol=1e-5)


def test_blobs_with_lr_mult_0_stay_and_average_loss_smooths(tmp_path):
    trainer = trainer_of(tmp_path, "average_loss: 2", "param { lr_mult: 0 } param { lr_mult: 1 }")
    results = [trainer.step() for _ in range(4)]
    losses = [result.loss for result in results]
    assert weights_of(trainer)[0] == 0.5
    smoothed = [result.smoothed_loss for result in results]
    assert smoothed == pytest.approx([losses[0], *((a + b) / 2 for a, b in itertools.pairwise(losses))])


def test_a_blob_under_no_loss_still_decays(tmp_path):
    net = (
        NET
        + """layer { name: "z" type: "InnerProduct" bottom: "x" top: "z"
        inner_product_param { num_output: 1 bias_term: false weight_filler { value: 2 } } }"""
    )
    trainer = trainer_of(tmp_path, "weight_decay: 0.5", net=net)
    trainer.step()
    assert weights_of(trainer)[2] == pytest.approx(2 * (1 - 0.1 * 0.5))


def test_a_loss_that_is_not_finite_stops_with_its_place(tmp_path):
    trainer = trainer_of(tmp_path, "base_lr: 1e30")
    with pytest.raises(RootgenError, match=r"solver.prototxt: iteration \d+: loss is (inf|nan): .*lower base_lr"):
        for _ in range(10):
            trainer.step()
    broken = NET.replace("data_filler { value: 2 }", "data_filler { value: nan }")
    trainer = trainer_of(tmp_path, "", net=broken)
    with pytest.raises(RootgenError, match="iteration 0: loss is nan: first in blob 'x' of layer 'x'"):
        trainer.step()
    np.testing.assert_array_equal(weights_of(trainer), [0.5, -0.25])


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    trainer = trainer_of(tmp_path, "")
    trainer.train.learnable[0].blob.data.fill_(float("inf"))
    with pytest.raises(RootgenError, match=r"weights ip\[0\] are not finite; no snapshot is written"):
        trainer.snapshot()
    assert not list(tmp_path.glob("*_iter_*"))


def test_several_test_nets_with_states(tmp_path):
    net = NET + (
        'layer { name: "s" type: "Power" bottom: "y" top: "s" include { stage: "more" } power_param { scale: 2 } }'
        'layer { name: "quiet" type: "Silence" bottom: "y" exclude { stage: "more" } }'
    )
    text = (
        'test_iter: 1 test_iter: 2 test_interval: 1 test_state { } test_state { stage: "more" } test_compute_loss: true'
    )
    trainer = trainer_of(tmp_path, text, net=net)
    assert trainer.test_outputs == (("loss",), ("loss", "s"))
    first, second = trainer.test()
    assert first["loss"] == second["loss"] == pytest.approx((2 * 0.5 - 0.25 - 3) ** 2 / 2)
    assert second["s"] == pytest.approx(2 * 0.75)
    trainer.step()
    assert trainer.test()[0]["loss"] < first["loss"]  # the test nets share the train net's blobs


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('type: "Sgd"', "unknown solver type 'Sgd'.*SGD"),
        ('type: "RMSProp" momentum: 0.9', "RMSProp takes no momentum"),
        ('type: "RMSProp" rms_decay: 2', "RMSProp takes rms_decay from 0 to below 1, found 2"),
        ('type: "Adam" momentum2: 1', "Adam takes momentum and momentum2 from 0 to below 1, found 0 and 1"),
        ('regularization_type: "L3"', "unknown regularization_type 'L3'"),
        ("iter_size: 0", "iter_size is 0"),
        (r'snapshot_prefix: "a\000b"', r"solver.prototxt: 'a\\x00b' holds a zero byte"),
        (r'weights: "a\000b"', r"solver.prototxt: 'a\\x00b' holds a zero byte"),
        ("test_iter: 5", "test_iter without test_interval"),
        ('train_net: "other.prototxt"', "names 2 train nets"),
        ("solver_type: ADAM type: 'Adam'", "old 'solver_type'"),
    ],
)
def test_solvers_that_cannot_be(tmp_path, text, match):
    with pytest.raises(RootgenError, match=match):
        trainer_of(tmp_path, text)


def test_nets_are_found_beside_the_solver_too(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "net.prototxt").write_text(NET.replace("PARAM", ""))
    (tmp_path / "deep" / "above.prototxt").write_text(NET.replace("PARAM", ""))
    for name in ("above.prototxt", "net.prototxt", "er/net.prototxt", "deep/er/net.prototxt"):
        (folder / "solver.prototxt").write_text(f'net: "{name}" base_lr: 1 lr_policy: "fixed" max_iter: 1')
        monkeypatch.chdir(tmp_path if name != "deep/er/net.prototxt" else "/")
        with caplog.at_level("INFO", logger="rootgen"):
            if name == "above.prototxt":
                with pytest.raises(RootgenError, match=r"net 'above.prototxt' is not there"):
                    open_trainer(folder / "solver.prototxt", engine="torch", device="cpu")
                continue
            trainer = open_trainer(folder / "solver.prototxt", engine="torch", device="cpu")
        assert f"'{name}' is not in the current folder; taking {folder / 'net.prototxt'}" in caplog.text
    assert f"random_seed: {trainer.solver.random_seed}" in caplog.text
    assert trainer.solver.snapshot_prefix == str(folder / "solver")


def test_a_snapshot_prefix_that_is_a_folder_takes_the_solvers_name(tmp_path):
    path = tmp_path / "s.prototxt"
    path.write_text(f'net: "n" base_lr: 1 lr_policy: "fixed" snapshot_prefix: "{tmp_path}"')
    assert solvers.read(path).snapshot_prefix == str(tmp_path / "s")


def test_a_name_that_no_snapshot_can_have(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.prototxt")
    path.write_text('base_lr: 0.1 lr_policy: "fixed"')
    with pytest.raises(RootgenError, match="this name, which its snapshots would have, is no UTF-8 text"):
        solvers.read(path)


def test_unknown_engine_and_device(tmp_path):
    with pytest.raises(RootgenError, match=r"no engine 'tourch'.*did you mean 'torch'"):
        open_trainer("s", engine="tourch")
    (tmp_path / "net.prototxt").write_text(NET.replace("PARAM", ""))
    (tmp_path / "s.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed"')
    with pytest.raises(RootgenError, match="no device 'tpu'"):
        open_trainer(tmp_path / "s.prototxt", engine="torch", device="tpu")
