"""Models and solver states as files, in both of Caffe's forms, and what of them fits a net."""

from __future__ import annotations

import os

import numpy as np
import pytest
from engine_nets import input_layer, network, randomize

from rootgen.engine import blobs, open_network, state, weights
from rootgen.engine.torch.network import to_numpy
from rootgen.engine.trainer import snapshots
from rootgen.errors import RootgenError
from rootgen.proto import schema

pytestmark = pytest.mark.torch

LAYERS = """
layer { name: "stage/conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
"""
NET = 'name: "small"\n' + input_layer("x", 1, 2, 5, 5) + LAYERS


def saved(path, net):
    weights.write(path, "small", "TRAIN", net.net.layers, net.learned())
    return path


@pytest.mark.parametrize("name", ["m.caffemodel", "m.caffemodel.h5"])
def test_a_model_comes_back_as_it_was(tmp_path, name):
    first, second = network(NET), network(NET)
    randomize(first)
    second.load(saved(tmp_path / name, first), whole=True)
    for ours, theirs in zip(first.learnable, second.learnable, strict=True):
        np.testing.assert_array_equal(to_numpy(ours.blob), to_numpy(theirs.blob))


def test_a_caffemodel_carries_its_net(tmp_path):
    net = network(NET)
    randomize(net)
    x = np.ones((1, 2, 5, 5), np.float32)
    model = open_network(saved(tmp_path / "m.caffemodel", net), engine="torch", device="cpu")
    np.testing.assert_array_equal(model.forward(["ip"], {"x": x})["ip"], net.forward(["ip"], {"x": x})["ip"])
    stored = schema.read_binary(tmp_path / "m.caffemodel", schema.NetParameter)
    assert stored.name == "small"
    assert {layer.phase for layer in stored.layer} == {0}  # TRAIN, as Caffe records it
    assert [list(blob.shape.dim) for blob in stored.layer[1].blobs] == [[4, 1, 3, 3], [4]]


def test_old_models_have_four_axes_and_v1_layers(tmp_path):
    old = schema.NetParameter(name="old")
    values = np.arange(3 * 36, dtype=np.float32)
    layer = old.layers.add(name="ip", type=schema.message("V1LayerParameter").INNER_PRODUCT)
    for dims, part in (((1, 1, 3, 36), values), ((1, 1, 1, 3), values[:3])):
        blob = layer.blobs.add(num=dims[0], channels=dims[1], height=dims[2], width=dims[3])
        blob.data.extend(part.tolist())
    path = tmp_path / "old.caffemodel"
    path.write_bytes(old.SerializeToString())
    net = network(NET)
    net.load(path)
    np.testing.assert_array_equal(to_numpy(net.units[2].blobs[0]), values.reshape(3, 36))
    np.testing.assert_array_equal(to_numpy(net.units[2].blobs[1]), values[:3])


def test_layers_on_one_side_only_are_told_of(tmp_path, caplog):
    path = saved(tmp_path / "m.caffemodel", network(NET))
    other = network(NET.replace('name: "ip"', 'name: "fc"'))
    before = to_numpy(other.units[2].blobs[0])
    other.load(path)
    assert "not in it, left as filled: fc (3x36, 3)" in caplog.text
    assert "only in it, left out: ip (3x36, 3)" in caplog.text
    np.testing.assert_array_equal(to_numpy(other.units[2].blobs[0]), before)
    with pytest.raises(RootgenError, match=r"a model of another net: it lacks fc \(3x36, 3\); it has ip \(3x36, 3\)"):
        other.load(path, whole=True)


def test_a_model_of_another_net_is_refused_with_names_and_shapes(tmp_path):
    path = saved(tmp_path / "m.caffemodel", network(NET))
    wider = network(NET.replace("num_output: 3", "num_output: 7"))
    with pytest.raises(RootgenError, match=r"it has ip \(3x36, 3\); this net needs ip \(7x36, 7\)"):
        wider.load(path)
    unlike = network(input_layer("x", 1, 6) + 'layer { name: "s" type: "Scale" bottom: "x" top: "y" }')
    with pytest.raises(RootgenError, match=r"it lacks s \(6\); it has stage/conv \(4x1x3x3, 4\), bn \(4, 4, 1\), ip"):
        unlike.load(path)


def test_files_that_are_no_models(tmp_path):
    net = network(NET)
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    (tmp_path / "text.caffemodel").write_text(NET)
    whole = saved(tmp_path / "m.caffemodel", net).read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bare.caffemodel").write_bytes(schema.NetParameter(name="n").SerializeToString())
    (tmp_path / "no.h5").write_bytes(b"no HDF5")
    for name, match in (
        ("absent.caffemodel", "cannot read: No such file"),
        ("empty.caffemodel", "empty file"),
        ("text.caffemodel", "not a binary NetParameter"),
        ("cut.caffemodel", "not a binary NetParameter, or cut short"),
        ("bare.caffemodel", "no layer has blobs"),
        ("no.h5", "cannot open as HDF5"),
    ):
        with pytest.raises(RootgenError, match=match):
            net.load(tmp_path / name)


def test_caffes_hdf5_form_holds_a_shared_blob_under_its_owner_alone(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install rootgen[hdf5]")
    net = network(
        input_layer("x", 1, 3)
        + "".join(
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" {param} '
            "inner_product_param { num_output: 3 } }\n"
            for name, param in (
                ("a", 'param { name: "w" } param { name: "b" }'),
                ("s/b", 'param { name: "w" } param { name: "b" }'),  # all of it is a's
                ("c", 'param { name: "w" }'),
            )
        )
    )
    path = tmp_path / "m.caffemodel.h5"
    stored = {"a/0": np.full((3, 3), 1), "a/1": np.full(3, 2), "c/1": np.full(3, 4)}
    with h5py.File(path, "w") as file:
        file.create_group("data/s/b")
        for place, values in stored.items():
            file[f"data/{place}"] = values
    net.load(path, whole=True)
    found = {name: [float(array.flat[0]) for array in arrays] for name, arrays in net.learned().items()}
    assert found == {"a": [1, 2], "s/b": [1, 2], "c": [1, 4]}
    with h5py.File(path, "a") as file:
        del file["data/c/1"]
    with pytest.raises(RootgenError, match=r"it has c \(3x3\); this net needs c \(3x3, 3\)"):
        net.load(path)


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
def test_a_state_comes_back_as_it_was(tmp_path, name):
    history = [np.random.default_rng(0).random((4, 1, 3, 3)).astype(np.float32), np.zeros(4, np.float32)]
    state.write(tmp_path / name, state.State(12, "some/m.caffemodel", 3, history))
    found = state.read(tmp_path / name)
    assert (found.iteration, found.learned_net, found.current_step) == (12, "some/m.caffemodel", 3)
    for ours, theirs in zip(history, found.history, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_damaged_hdf5_files_are_one_line(tmp_path):
    weights.write(tmp_path / "m.caffemodel.h5", "net", "TRAIN", (), {"conv": [np.ones((4, 3, 3, 3)), np.ones(4)]})
    state.write(tmp_path / "s.solverstate.h5", state.State(12, "m.caffemodel", 3, [np.ones((4, 3)), np.ones(3)]))
    random = np.random.default_rng(0)
    refused = 0
    for name, read in (("m.caffemodel.h5", weights.read), ("s.solverstate.h5", state.read)):
        whole = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(150):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 30)] = random.integers(0, 256, 30)
            (tmp_path / f"damaged_{name}").write_bytes(damaged.tobytes())
            try:
                read(tmp_path / f"damaged_{name}")
            except RootgenError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 30
    with pytest.raises(RootgenError, match="another kind of HDF5 file, or damaged"):
        state.read(tmp_path / "m.caffemodel.h5")


def test_a_state_may_name_a_model_by_any_bytes(tmp_path):
    (tmp_path / "s.solverstate").write_bytes(b"\x08\x01\x12\x05\xff.mod")  # fields 1, iter, and 2, learned_net
    found = state.read(tmp_path / "s.solverstate")
    assert os.fsencode(found.learned_net) == b"\xff.mod"
    with pytest.raises(RootgenError, match="is neither there nor beside it"):
        state.learned_net(found, tmp_path / "s.solverstate")


def test_the_model_of_a_state_is_looked_for_beside_it_too(tmp_path):
    found = state.State(1, "gone/m.caffemodel")
    with pytest.raises(RootgenError, match=r"its model 'gone/m.caffemodel' is neither there nor beside it"):
        state.learned_net(found, tmp_path / "s.solverstate")
    (tmp_path / "m.caffemodel").write_bytes(b"x")
    assert state.learned_net(found, tmp_path / "s.solverstate") == tmp_path / "m.caffemodel"


def test_the_newest_snapshot_is_the_last_by_number_that_is_whole(tmp_path):
    for name in ("n_iter_9", "n_iter_10", "n_iter_100", "n_iter_x", "other_iter_500"):
        (tmp_path / f"{name}.solverstate").write_bytes(b"")
        if name != "n_iter_100":
            (tmp_path / f"{name}.caffemodel").write_bytes(b"")
    assert [number for number, _ in snapshots(str(tmp_path / "n"))] == [10, 9]


def test_blobs_with_doubles_and_with_too_few_values():
    blob = schema.BlobProto(double_data=[1.5, 2.5])
    blob.shape.dim.extend([2])
    np.testing.assert_array_equal(blobs.to_array(blob, "here"), np.array([1.5, 2.5]))
    blob.shape.dim.append(3)
    with pytest.raises(RootgenError, match="here: blob of shape 2x3 holds 2 values"):
        blobs.to_array(blob, "here")


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_a_state_given_as_a_model_says_so(tmp_path, suffix):
    if suffix:
        pytest.importorskip("h5py")
    path = tmp_path / f"x_iter_3.solverstate{suffix}"
    state.write(path, state.State(3, "x_iter_3.caffemodel", 0, [np.ones((2, 3), np.float32)]))
    with pytest.raises(RootgenError, match=r"a solver's state .*, not a model .pass its model, .*--snapshot"):
        weights.read(path)


def test_names_that_are_no_utf8_are_those_that_the_net_has(tmp_path):
    param = schema.NetParameter(name="n")
    layer = param.layer.add(name="ZZ", type="InnerProduct")
    layer.blobs.add(shape={"dim": [1]}, data=[1.0])
    (tmp_path / "x.caffemodel").write_bytes(param.SerializeToString().replace(b"ZZ", b"\xd5\xe2"))
    assert list(weights.read(tmp_path / "x.caffemodel")) == [r"\xd5\xe2"]
