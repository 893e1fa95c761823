"""pycaffe and the embedded engine go on from each other's files."""

from __future__ import annotations

import numpy as np
import pytest
from engine_nets import write_database

from rootgen.engine import open_network, open_trainer
from rootgen.errors import RootgenError

pytestmark = [pytest.mark.torch, pytest.mark.caffe]

NET = """
name: "both"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.02 mean_value: 100 } data_param { source: "lmdb" batch_size: 6 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 group: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "conv2" type: "Convolution" bottom: "pool" top: "conv2"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 4 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "ip" type: "InnerProduct" bottom: "conv2" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""
SOLVERS = {
    "SGD": "momentum: 0.9 base_lr: 0.05",
    "Nesterov": "momentum: 0.9 base_lr: 0.02",
    "AdaGrad": "base_lr: 0.01",
    "RMSProp": "base_lr: 0.001",
    "AdaDelta": "momentum: 0.9 base_lr: 1",
    "Adam": "momentum: 0.9 base_lr: 0.001",
}
STEPS = 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a net and a database that holds STEPS batches."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    count = 6 * STEPS
    images = [random.integers(0, 256, (3, 9, 9)).astype(np.uint8) for _ in range(count)]
    write_database(tmp_path / "lmdb", images, random.integers(0, 4, count).tolist())
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


@pytest.mark.parametrize("snapshot_format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("solver_type", SOLVERS)
def test_each_goes_on_where_the_other_stopped(folder, solver_type, snapshot_format):
    import caffe

    (folder / "solver.prototxt").write_text(
        f"""net: "net.prototxt" type: "{solver_type}" {SOLVERS[solver_type]} delta: 1e-6 weight_decay: 0.001
        lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 6 max_iter: 100 random_seed: 1 solver_mode: CPU
        snapshot_prefix: "both" snapshot_format: {snapshot_format}"""
    )
    suffix = ".h5" if snapshot_format == "HDF5" else ""
    ours = open_trainer("solver.prototxt", engine="torch")
    for _ in range(STEPS):
        ours.step()
    ours.snapshot()
    theirs = caffe.get_solver("solver.prototxt")  # its data begin at record 0, where ours are after STEPS batches
    theirs.restore(f"both_iter_{STEPS}.solverstate{suffix}")
    for _ in range(STEPS):
        theirs.step(1)
        assert ours.step().loss == pytest.approx(float(theirs.net.blobs["loss"].data), rel=1e-4)
    theirs.snapshot()
    back = open_trainer("solver.prototxt", engine="torch")
    back.restore(f"both_iter_{2 * STEPS}.solverstate{suffix}")
    assert back.iteration == 2 * STEPS
    assert back.step().loss == pytest.approx(ours.step().loss, rel=1e-4)


def test_shared_blobs_come_back_from_caffes_hdf5_files(folder):
    import caffe

    shared = """layer { name: "a" type: "InnerProduct" bottom: "ip" top: "a" param { name: "w" } param { name: "b" }
      inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" lr_mult: 2 } param { name: "b" }
      inner_product_param { num_output: 4 } }
    layer { name: "loss" """
    net = NET.replace('layer { name: "loss" ', shared).replace('Loss" bottom: "ip"', 'Loss" bottom: "b"')
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        """net: "net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 100 random_seed: 1
        solver_mode: CPU snapshot_prefix: "shared" snapshot_format: HDF5"""
    )
    theirs = caffe.get_solver("solver.prototxt")
    theirs.step(STEPS)
    theirs.snapshot()
    trainers = [open_trainer("solver.prototxt", engine=engine) for engine in ("torch", "caffe")]
    for trainer in trainers:
        trainer.restore(f"shared_iter_{STEPS}.solverstate.h5")
    for _ in range(STEPS):
        theirs.step(1)
        for trainer in trainers:
            assert trainer.step().loss == pytest.approx(float(theirs.net.blobs["loss"].data), rel=1e-4)


def test_a_test_pass_gives_the_same_blobs(folder):
    import caffe

    (folder / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" random_seed: 1')
    trainer = open_trainer("solver.prototxt", engine="torch")
    for _ in range(3):
        trainer.step()
    model, _ = trainer.snapshot()
    theirs = caffe.Net("net.prototxt", str(model), caffe.TEST)
    theirs.forward()
    ours = open_network("net.prototxt", weights=model, engine="torch").forward(
        ["data", "label", "conv", "pool", "conv2", "ip", "loss", "accuracy"]
    )
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs.blobs[name].data, rtol=1e-4, atol=1e-5, err_msg=name)


def test_layers_between_given_blobs_go_in_one_call(folder, monkeypatch):
    """Caffe joins a convolution and what follows it only within one call; a layer whose blob is given is not run."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }
    layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { shift: 1 } }
    layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "sum" type: "Eltwise" bottom: "b" bottom: "y" top: "sum" }
    """
    (folder / "given.prototxt").write_text(text, encoding="utf-8")
    network = open_network(folder / "given.prototxt", engine="caffe")
    ran, run = [], network._run
    monkeypatch.setattr(network, "_run", lambda first, last: ran.append((first, last)) or run(first, last))
    given = {"x": np.array([[3, 4]], np.float32), "y": np.array([[10, 20]], np.float32)}
    np.testing.assert_array_equal(network.forward(["sum"], given)["sum"], [[17, 29]])
    assert ran == [(1, 2), (4, 4)]


def test_a_pass_asks_for_what_it_reads_each_time(folder):
    """What is not given, or has another shape, is refused by name, before and after a pass that ran."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }
    layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 1 dim: 2 } } }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "y" top: "sum" }
    """
    (folder / "given.prototxt").write_text(text, encoding="utf-8")
    network = open_network(folder / "given.prototxt", engine="caffe")
    x, y = np.array([[3, 4]], np.float32), np.array([[10, 20]], np.float32)
    for _ in range(2):
        with pytest.raises(RootgenError, match="'y' is not given"):
            network.forward(["sum"], {"x": x})
        with pytest.raises(RootgenError, match="'x' is not given"):
            network.forward(["sum"])
        with pytest.raises(RootgenError, match="input 'y' of 1x3 where the net takes 1x2"):
            network.forward(["sum"], {"x": x, "y": np.ones((1, 3), np.float32)})
        with pytest.raises(RootgenError, match="no blob 'summ'"):
            network.forward(["summ"], {"x": x, "y": y})
        np.testing.assert_array_equal(network.forward(["sum"], {"x": x, "y": y})["sum"], [[16, 28]])
        np.testing.assert_array_equal(network.forward(["a"], {"x": x})["a"], [[6, 8]])  # which reads no y
