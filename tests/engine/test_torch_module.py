"""Nets as torch.nn.Module: called, copied, switched, trained and saved, against the engine and pycaffe."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install rootgen[torch]")

from engine_nets import input_layer, randomize  # noqa: E402

import rootgen.torch  # noqa: E402
from rootgen import open_network  # noqa: E402
from rootgen.engine import weights  # noqa: E402
from rootgen.errors import RootgenError  # noqa: E402

torch.set_num_threads(1)
NET = (
    'name: "small"\n'
    + input_layer("data", 2, 3, 8, 8)
    + """
layer { name: "a.conv" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "drop" type: "Dropout" bottom: "c" top: "d" }
layer { name: "fc/1" type: "InnerProduct" bottom: "d" top: "f" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "fc/2" type: "InnerProduct" bottom: "d" top: "g" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "g" top: "prob" }
"""
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


@pytest.fixture
def module(path: Path):
    found = rootgen.torch.load(path)
    randomize(found)
    return found


def images(count: int = 2):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))


def test_a_call_gives_what_the_engine_gives(path, module, tmp_path):
    model = tmp_path / "net.caffemodel"
    rootgen.torch.save_caffemodel(module, model)
    ours = module(images())
    theirs = open_network(path, weights=model, engine="torch").forward(["f", "prob"], {"data": images().numpy()})
    assert list(ours) == ["f", "prob"]  # several outputs: by name
    for name, value in ours.items():
        np.testing.assert_array_equal(value.detach().numpy(), theirs[name])
    again = rootgen.torch.load(path, weights=model, outputs=["prob"])
    assert torch.equal(again(data=images()), ours["prob"])  # one output, and an input by name
    own = rootgen.torch.load(model, outputs=["prob"])  # a caffemodel alone
    assert torch.equal(own(images()), ours["prob"])


@pytest.mark.caffe
def test_pycaffe_takes_the_model_back_in_every_number(path, module, tmp_path):
    model, back = tmp_path / "net.caffemodel", tmp_path / "back.caffemodel"
    rootgen.torch.save_caffemodel(module, model)
    from rootgen.engine.caffe.runtime import pycaffe

    net = pycaffe().Net(str(path), str(model), 1)
    net.save(str(back))
    ours, theirs = weights.read(model), weights.read(back)
    assert set(ours) == set(theirs) == {"a.conv", "bn", "scale", "fc/1", "fc/2"}
    for name, blobs in ours.items():
        for one, other in zip(blobs, theirs[name], strict=True):
            np.testing.assert_array_equal(one.ravel(), other.ravel())
    net.blobs["data"].data[...] = images().numpy()
    np.testing.assert_allclose(net.forward()["prob"], module(images())["prob"].detach(), rtol=1e-4, atol=1e-6)
    loaded = rootgen.torch.load(path, weights=back)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), module.state_dict().values(), strict=True)
    )


def test_the_state_has_caffes_names_and_each_blob_once(module):
    assert list(module.state_dict()) == [
        *("a.conv.0", "a.conv.1", "bn.0", "bn.1", "bn.2", "scale.0", "scale.1", "fc/1.0")
    ]
    assert [name for name, _ in module.named_parameters()] == ["a.conv.0", "a.conv.1", "scale.0", "scale.1", "fc/1.0"]
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["a.conv.0"]
    assert module.get_submodule("a.conv").get_parameter("0").shape == (4, 3, 3, 3)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.get_submodule("fc/1").get_parameter("0").zero_()
    assert not torch.equal(other(images())["prob"], module(images())["prob"])
    for assign in (False, True):
        other.load_state_dict(module.state_dict(), assign=assign)
        assert torch.equal(other(images())["prob"], module(images())["prob"])


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("training", [False, True])
def test_copies_are_whole_and_their_own(module, how, training):
    module.train(training)
    if how == "deepcopy":
        other = copy.deepcopy(module)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(module))
    else:
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert (other.training, other.phase) == (training, "TRAIN" if training else "TEST")
    other.eval(), module.eval()
    wanted = module(images())["prob"]
    assert torch.equal(other(images())["prob"], wanted)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.fill_(0.5)
    assert torch.equal(module(images())["prob"], wanted)
    assert not torch.equal(other(images())["prob"], wanted)
    assert other.units[-2].blobs[0] is other.units[-3].blobs[0]  # still shared


def test_the_engines_own_module_copies_too(path):
    network = open_network(path, engine="torch")
    other = copy.deepcopy(network.module)
    wanted = network.forward(["prob"], {"data": images().numpy()})["prob"]
    np.testing.assert_array_equal(other(images())["prob"].detach().numpy(), wanted)
    pickle.dumps(network.module)


@pytest.mark.parametrize("names", [("a.1", "a"), ("a", "a.1"), ("a.0", "a"), ("a.0.0", "a.0")])
def test_names_of_layers_that_are_places_of_others_blobs(path, names):
    """PyTorch has submodules and parameters under one kind of name: `a.1` is module 1 of `a`, and a's bias too."""
    fields = "inner_product_param { num_output: 4 weight_filler { type: 'xavier' } }"
    first, second = (f"layer {{ name: '{name}' type: 'InnerProduct' %s {fields} }}\n" for name in names)
    path.write_text(input_layer("data", 2, 3) + first % "bottom: 'data' top: 'x'" + second % "bottom: 'x' top: 'y'")
    module = rootgen.torch.load(path, seed=2)
    shapes = [tuple(blob.shape) for unit in module.units for blob in unit.blobs]
    assert shapes == [(4, 3), (4,), (4, 4), (4,)]
    assert sorted(tuple(parameter.shape) for parameter in module.parameters()) == sorted(shapes)
    x = torch.ones(2, 3)
    wanted = open_network(path, engine="torch")
    wanted.module.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(module(x).detach(), wanted.forward(["y"], {"data": x.numpy()})["y"])
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    model = path.with_suffix(".caffemodel")
    rootgen.torch.save_caffemodel(module, model)
    assert set(weights.read(model)) == set(names)


def test_a_net_without_an_output_gives_none(path):
    path.write_text(input_layer("data", 2, 3) + "layer { name: 's' type: 'Silence' bottom: 'data' }")
    module = rootgen.torch.load(path)
    assert module.outputs == ()
    assert module() == {}


def test_train_and_eval_switch_dropout_and_statistics(module):
    assert not module.training
    fixed = module(images())["prob"]
    module.train()
    before = module.state_dict()["bn.2"].clone()
    torch.manual_seed(1)
    first = module(images())["prob"]
    torch.manual_seed(1)
    assert torch.equal(module(images())["prob"], first)  # PyTorch's own generator
    assert not torch.equal(module(images())["prob"], first)
    assert not torch.equal(module.state_dict()["bn.2"], before)
    moved = module.eval()(images())["prob"]
    assert torch.equal(moved, module(images())["prob"])
    assert not torch.equal(moved, fixed)


def test_it_trains_with_an_optimizer_of_pytorch(module):
    module.outputs = ("g",)
    module.train()
    fixed = module.state_dict()["a.conv.0"].clone()
    optimizer = torch.optim.SGD((p for p in module.parameters() if p.requires_grad), 0.05)
    x, labels = images(8), torch.arange(8) % 5
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert torch.equal(module.state_dict()["a.conv.0"], fixed)


def test_a_net_with_a_loss_takes_labels_of_any_kind(path):
    loss = (
        input_layer("label", 2)
        + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" loss_weight: 0.3 }'
    )
    path.write_text(NET + loss)
    net = rootgen.torch.load(path, phase="TRAIN", outputs=["loss"])
    assert net.training
    assert net.inputs == ("data", "label")
    assert net.loss_weights == {"loss": pytest.approx(0.3)}
    labels = torch.tensor([1, 4])
    torch.manual_seed(0)
    first = net.eval()(images(), labels)
    assert torch.equal(first, net(images(), label=labels.float()))
    values, total = net.run({"data": images(), "label": labels.float()})
    assert total.item() == pytest.approx(0.3 * values["loss"].item())


def test_other_kinds_of_numbers_and_batches(module):
    wanted = module(images())["prob"]
    assert module.double()(images().double())["prob"].dtype == torch.float64
    np.testing.assert_allclose(module(images().double())["prob"].detach(), wanted.detach(), rtol=1e-5)
    module.float()
    assert module(images(5))["prob"].shape == (5, 5)
    assert module.to("meta")(images().to("meta"))["prob"].device.type == "meta"


def test_compiled_in_one_graph_it_gives_the_same(module):
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for count in (2, 2):
            assert torch.equal(compiled(images(count))["prob"], module(images(count))["prob"])
    loose = torch.compile(module, backend="aot_eager")
    with torch.no_grad():
        for count in (2, 5):
            assert torch.equal(loose(images(count))["prob"], module(images(count))["prob"])


def test_functional_call_uses_the_weights_that_it_is_given(module):
    zeros = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    found = torch.func.functional_call(module, zeros, (images(),))
    assert not found["f"].any()
    assert module(images())["f"].any()


def test_a_net_of_the_paper_by_name():
    net = rootgen.torch.net("nin", root=8, classes=7, seed=3)
    assert not net.training
    assert net(torch.randn(3, *net.net.blobs["data"][1:])).shape[:2] == (3, 7)
    assert net.state_dict()["conv2a.0"].shape[1] * 8 == net.state_dict()["conv1c.0"].shape[0]
    assert net.state_dict()["conv2a.0"].any()
    other = rootgen.torch.net("nin", root=8, classes=7, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_wrong_calls_say_what_is_wrong(path, module, tmp_path):
    with pytest.raises(RootgenError, match=r"input 'data' of 2x3x9x8 where the net takes 2x3x8x8"):
        module(torch.zeros(2, 3, 9, 8))
    with pytest.raises(RootgenError, match="input 'data' is not given"):
        module()
    with pytest.raises(RootgenError, match=r"'dat' is no input of this net \(did you mean 'data'"):
        module(dat=images())
    with pytest.raises(RootgenError, match="'data' is given twice"):
        module(images(), data=images())
    for wrong, kind in ((images().numpy(), "ndarray"), ([1.0], "list"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"input 'data' is a {kind}, not a tensor"):
            module(wrong)
    with pytest.raises(TypeError, match="input 'data' is a ndarray, not a tensor"):
        module(data=images().numpy())
    with pytest.raises(TypeError, match="2 tensors for a net that takes 1: data"):
        module(images(), images())
    with pytest.raises(RootgenError, match="no blob 'prop'"):
        rootgen.torch.load(path, outputs=["prop"])
    with pytest.raises(TypeError, match="outputs is a str, not a list of blobs"):
        rootgen.torch.load(path, outputs="prob")
    with pytest.raises(TypeError, match="module is a Linear"):
        rootgen.torch.save_caffemodel(torch.nn.Linear(1, 1), tmp_path / "x.caffemodel")
    with pytest.raises(TypeError, match="input is a str, not channels"):
        rootgen.torch.load(path, input="3x8x8")
