"""RNN, LSTM, LSTMUnit, Im2col, SPP, Filter, BatchReindex and InfogainLoss of the embedded engine, held against pycaffe.

Each blob whose gradient is wanted is the top of a Bias layer that covers all of it: the gradient of that layer's
blob is the blob's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_nets import CPU, input_layer, network, one_layer, torch

from rootgen.engine import blobs, open_network, open_trainer
from rootgen.engine.caffe.runtime import pycaffe
from rootgen.engine.torch.network import NetworkOptions, TorchNetwork
from rootgen.errors import RootgenError
from rootgen.net import read as nets

pytestmark = pytest.mark.torch

Inputs = dict[str, np.ndarray]


def learned(name: str, *dims: int) -> str:
    """An Input NAME_in and, plus a blob that is learned, its top NAME."""
    wiring = f'name: "{name}" type: "Bias" bottom: "{name}_in" top: "{name}"'
    return input_layer(f"{name}_in", *dims) + f"layer {{ {wiring} bias_param {{ axis: 0 num_axes: -1 }} }}\n"


def squares(*names: str) -> str:
    """A loss of each blob: its sum of squares, the first weighing least."""
    return "".join(
        f'layer {{ name: "loss_{name}" type: "Reduction" bottom: "{name}" top: "loss_{name}" loss_weight: {0.5 + i} '
        "reduction_param { operation: SUMSQ axis: 0 } }\n"
        for i, name in enumerate(names)
    )


def layer(type_: str, bottoms: str, tops: str, fields: str = "") -> str:
    """The layer "it"."""
    named = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
    return f'layer {{ name: "it" type: "{type_}" {" ".join(named)} {fields} }}\n'


def recurrent(fields: str) -> str:
    return f"recurrent_param {{ num_output: 3 {fields} }}"


FILLED = 'weight_filler { type: "uniform" min: -0.7 max: 0.7 } bias_filler { type: "uniform" min: -0.5 max: 0.5 }'
STEPS = learned("x", 4, 2, 2, 3) + input_layer("cont", 4, 2)
MAP = learned("x", 2, 3, 9, 10)
NETS = {
    "RNN": STEPS + layer("RNN", "x cont", "y", recurrent(FILLED)) + squares("y"),
    "RNN, a static input": STEPS + learned("s", 2, 5) + layer("RNN", "x cont s", "y", recurrent(FILLED)) + squares("y"),
    "RNN, hidden states": STEPS
    + learned("h0", 1, 2, 3)
    + layer("RNN", "x cont h0", "y h", recurrent(FILLED + " expose_hidden: true"))
    + squares("y", "h"),
    "LSTM": STEPS + layer("LSTM", "x cont", "y", recurrent(FILLED + " debug_info: true")) + squares("y"),
    "LSTM of one step": learned("x", 1, 2, 4)
    + input_layer("cont", 1, 2)
    + layer("LSTM", "x cont", "y", recurrent(FILLED))
    + squares("y"),
    "LSTM, a static input and hidden states": STEPS
    + learned("s", 2, 2, 2)
    + learned("h0", 1, 2, 3)
    + learned("c0", 1, 2, 3)
    + layer("LSTM", "x cont s h0 c0", "y h c", recurrent(FILLED + " expose_hidden: true"))
    + squares("y", "h", "c"),
    "LSTM upon LSTM, one weight shared": STEPS.replace("dim: 2 dim: 3", "dim: 3")
    + layer("LSTM", "x cont", "z", recurrent(FILLED) + ' param { name: "w" }').replace('"it"', '"first"')
    + layer("LSTM", "z cont", "y", recurrent(FILLED) + ' param { name: "w" }')
    + squares("y"),
    "LSTMUnit": learned("x", 1, 3, 2)
    + learned("gates", 1, 3, 8)
    + input_layer("cont", 1, 3)
    + layer("LSTMUnit", "x gates cont", "c h")
    + squares("c", "h"),
    "Im2col": MAP + layer("Im2col", "x", "y", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }") + squares("y"),
    "Im2col, dilated, not square": MAP
    + layer(
        "Im2col",
        "x",
        "y",
        "convolution_param { kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 0 dilation: [2, 3] }",
    )
    + squares("y"),
    "Im2col by the general code": MAP
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 2 dilation: 3 pad: 1 force_nd_im2col: true }")
    + squares("y"),
    "Im2col along a line": learned("x", 2, 3, 9)
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 3 pad: 2 dilation: 2 }")
    + squares("y"),
    "Im2col of volumes": learned("x", 2, 2, 4, 5, 6)
    + layer("Im2col", "x", "y", "convolution_param { kernel_size: 2 kernel_size: 3 kernel_size: 1 stride: 2 pad: 1 }")
    + squares("y"),
    "Im2col, channels on axis 2": learned("x", 2, 3, 2, 5, 6)
    + layer("Im2col", "x", "y", "convolution_param { axis: -3 kernel_size: 3 }")
    + squares("y"),
    **{
        f"SPP {method} of {height}, {h}x{w}": learned("x", 2, 3, h, w)
        + layer("SPP", "x", "y", f"spp_param {{ pyramid_height: {height} pool: {method} }}")
        + squares("y")
        for method in ("MAX", "AVE")
        for height, h, w in ((1, 5, 7), (2, 3, 3), (3, 9, 10), (3, 10, 13), (4, 24, 16))
    },
    "Filter": learned("x", 5, 2, 3, 2)
    + learned("v", 5, 4)
    + input_layer("selector", 5, 1, 1)
    + layer("Filter", "x v selector", "y z")
    + squares("y", "z"),
    "Filter, and layers after it": learned("x", 5, 3, 6, 6)
    + input_layer("label", 5)
    + input_layer("selector", 5)
    + layer("Filter", "x label selector", "y few")
    + f"""layer {{ name: "conv" type: "Convolution" bottom: "y" top: "conv"
        convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }} }}
      layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }}
      layer {{ name: "pool" type: "Pooling" bottom: "bn" top: "pool" pooling_param {{ pool: AVE kernel_size: 2 }} }}
      layer {{ name: "flat" type: "Flatten" bottom: "pool" top: "flat" }}
      layer {{ name: "ip" type: "InnerProduct" bottom: "flat" top: "ip"
        inner_product_param {{ num_output: 6 {FILLED} }} }}
      layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "few" top: "loss"
        propagate_down: [true, false] }}
      layer {{ name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "few" top: "accuracy" }}""",
    "BatchReindex": learned("x", 4, 2, 3)
    + input_layer("index", 7)
    + layer("BatchReindex", "x index", "y")
    + squares("y"),
    "InfogainLoss": learned("x", 4, 5)
    + input_layer("label", 4)
    + input_layer("matrix", 1, 1, 5, 5)
    + layer("InfogainLoss", "x label matrix", "loss"),
    **{
        f"InfogainLoss {mode}": learned("x", 2, 3, 5, 2)
        + input_layer("label", 2, 3, 2)
        + input_layer("matrix", 5, 5)
        + layer(
            "InfogainLoss",
            "x label matrix",
            "loss p",
            f"""loss_weight: [0.7, 0] infogain_loss_param {{ axis: 2 }}
            loss_param {{ ignore_label: 2 normalization: {mode} }}""",
        )
        for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")
    },
}
PASSES = 3
NO_GRADIENT = {"RNN, hidden states": {"h0"}, "LSTM, a static input and hidden states": {"h0", "c0"}}  # in Caffe


def inputs_of(net: TorchNetwork, random: np.random.Generator) -> Inputs:
    """A value for every input: sequences that begin and go on, places, selections, labels."""
    values: Inputs = {}
    for feeder in net.feeders:
        (name,) = feeder.tops
        shape = net.blobs[name]
        if name == "cont":
            values[name] = (random.uniform(size=shape) < 0.7).astype(float)
        elif name == "selector":
            values[name] = random.permutation(np.array([0.0, -2, 0, 1, 0.5])).reshape(shape)
        elif name in ("label", "index"):
            values[name] = random.integers(0, 4, shape).astype(float)
        else:
            values[name] = random.standard_normal(shape) * 1.5
    return values


def caffes(text: str, folder: Path, ours: TorchNetwork):
    """The net in pycaffe, with the learnable blobs of `ours`."""
    (folder / "net.prototxt").write_text(text, encoding="utf-8")
    theirs = pycaffe().Net(str(folder / "net.prototxt"), pycaffe().TRAIN)
    named = ours.named()
    assert {name: [tuple(b.shape) for b in found] for name, found in named.items()} == {
        name: [tuple(b.shape) for b in found] for name, found in theirs.params.items()
    }
    for name, found in named.items():
        for blob, tensor in zip(theirs.params[name], found, strict=True):
            blob.data[...] = tensor.detach().numpy()
    return theirs


def forward_and_backward(ours: TorchNetwork, theirs, inputs: Inputs) -> dict[str, np.ndarray]:
    """All blobs of a pass of ours; those of Caffe and its loss are the same."""
    theirs.clear_param_diffs()
    for name, values in inputs.items():
        theirs.blobs[name].data[...] = values
    loss_of_caffe = theirs._forward(0, len(theirs.layers) - 1)
    theirs._backward(len(theirs.layers) - 1, 0)
    for learnable in ours.learnable:
        learnable.blob.grad = None
    values, loss = ours.run(0, {name: array.astype(np.float32) for name, array in inputs.items()})
    loss.backward()
    found = {name: value.detach().numpy() for name, value in values.items()}
    for name, value in found.items():
        assert value.shape == theirs.blobs[name].data.shape, name
        np.testing.assert_allclose(value, theirs.blobs[name].data, rtol=2e-5, atol=2e-6, err_msg=name)
    assert loss.item() == pytest.approx(loss_of_caffe, rel=1e-5)
    return found


def same_gradients(ours: TorchNetwork, theirs) -> set[str]:
    """Blobs of `ours` whose gradient is not zero, all of them those of Caffe."""
    seen = set()
    for learnable in ours.learnable:
        name, place = learnable.name.removesuffix("]").split("[")
        wanted, gradient = theirs.params[name][int(place)].diff, learnable.blob.grad
        found = np.zeros_like(wanted) if gradient is None else gradient.numpy()
        np.testing.assert_allclose(
            found, wanted, rtol=1e-4, atol=1e-5 * (1 + abs(wanted).max()), err_msg=learnable.name
        )
        seen |= {learnable.name} if wanted.any() else set()
    return seen


def ready(text: str, **options) -> TorchNetwork:
    """The training net of `text`, its blobs awaiting gradients."""
    net = network(text, "TRAIN", **options)
    for learnable in net.learnable:
        learnable.blob.requires_grad_(learnable.lr_mult != 0)
    return net


@pytest.mark.caffe
@pytest.mark.parametrize("name", NETS)
def test_values_and_gradients_are_caffes(name, tmp_path):
    random = np.random.default_rng(len(name))
    ours = ready(NETS[name])
    theirs = caffes(NETS[name], tmp_path, ours)
    seen = set()
    for _ in range(PASSES):  # the second and third go on from the hidden states of the ones before
        forward_and_backward(ours, theirs, inputs_of(ours, random))
        seen |= same_gradients(ours, theirs)
    without = {*NO_GRADIENT.get(name, ()), "bn"}
    assert seen == {learnable.name for learnable in ours.learnable if learnable.name.split("[")[0] not in without}


@pytest.mark.caffe
@pytest.mark.parametrize("name", ["RNN", "LSTM", "LSTMUnit"])
def test_a_fractional_cont_has_caffes_gradient(name, tmp_path):
    ours = ready(NETS[name])
    theirs = caffes(NETS[name], tmp_path, ours)
    inputs = inputs_of(ours, np.random.default_rng(3))
    inputs["cont"] = np.random.default_rng(4).uniform(0.2, 0.8, inputs["cont"].shape)
    for _ in range(2):
        forward_and_backward(ours, theirs, inputs)
        assert same_gradients(ours, theirs) == {learnable.name for learnable in ours.learnable}


def differences(net: TorchNetwork, inputs: Inputs, random: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """(blob, gradient, difference of the loss) of every learned blob: where the gradient is largest, and by chance."""
    for learnable in net.learnable:
        blob, gradient = learnable.blob.detach(), learnable.blob.grad
        if gradient is None:
            continue
        places = {*gradient.abs().flatten().argsort()[-4:].tolist(), *random.choice(blob.numel(), 4).tolist()}
        for index in (np.unravel_index(place, tuple(blob.shape)) for place in places):
            kept, ends = blob[index].item(), []
            for value in (kept + 1e-6, kept - 1e-6):
                blob[index] = value
                with torch.no_grad():
                    ends.append(net.run(0, inputs)[1].item())
            blob[index] = kept
            yield learnable.name, gradient[index].item(), (ends[0] - ends[1]) / 2e-6


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_finite_differences(name):
    text = NETS[name]
    without = {*NO_GRADIENT.get(name, ()), "bn"}
    if without != {"bn"}:  # the gradients of the exposed states stop at the layer, so the loss may not hang on its tops
        text = text.replace("loss_weight: 1.5", "").replace("loss_weight: 2.5", "")
    random = np.random.default_rng(len(name))
    net = ready(text, dtype=torch.float64)
    inputs = inputs_of(net, random)
    if name.startswith(("RNN", "LSTM")) and name != "LSTMUnit":
        inputs["cont"][0] = 0  # or each pass would begin where the one before ended
    net.run(0, inputs)[1].backward()
    found = list(differences(net, inputs, random))
    wanted = {learnable.name for learnable in net.learnable if learnable.name.split("[")[0] not in without}
    if name == "LSTM of one step":
        wanted.remove("it[2]")  # there is no step before
    assert {blob for blob, gradient, _ in found if gradient} == wanted
    for blob, gradient, difference in found:
        assert gradient == pytest.approx(difference, rel=1e-5, abs=1e-7), blob


RECURRENT = STEPS + layer("LSTM", "x cont", "y", recurrent(FILLED))


def test_a_pass_goes_on_from_the_one_before_unless_cont_is_0():
    net = network(RECURRENT)
    inputs = inputs_of(net, np.random.default_rng(0))
    inputs["cont"][:] = 1
    first, second = (apply_inputs(net, inputs) for _ in range(2))
    assert (first[0] != second[0]).any()
    np.testing.assert_array_equal(apply_inputs(network(RECURRENT), inputs), first)  # a fresh net begins with zeros
    inputs["cont"][0] = [1, 0]
    third, fourth = (apply_inputs(net, inputs) for _ in range(2))
    np.testing.assert_array_equal(third[:, 1], first[:, 1])  # the stream that begins anew
    assert (third[0, 0] != fourth[0, 0]).any()


def apply_inputs(net: TorchNetwork, inputs: Inputs) -> np.ndarray:
    return net.forward(["y"], {name: array.astype(np.float32) for name, array in inputs.items()})["y"]


def test_each_net_has_hidden_states_of_its_own():
    train = ready(RECURRENT)
    test = TorchNetwork(nets.parse(RECURRENT, "TEST"), NetworkOptions("TEST", CPU), source=train)
    inputs = inputs_of(train, np.random.default_rng(0))
    inputs["cont"][:] = 1
    first = apply_inputs(test, inputs)
    train.run(0, inputs)
    train.run(0, inputs)
    second = apply_inputs(test, inputs)
    other = network(RECURRENT)
    np.testing.assert_allclose([apply_inputs(other, inputs) for _ in range(2)], [first, second], rtol=1e-5, atol=1e-6)


def test_hidden_states_left_by_testing_can_take_part_in_training():
    net = ready(RECURRENT)
    inputs = inputs_of(net, np.random.default_rng(0))
    inputs["cont"][:] = 1
    apply_inputs(net, inputs)  # in inference mode
    values, _ = net.run(0, inputs)
    apply_inputs(net, inputs)  # overwrites what the gradient may need
    values["y"].sum().backward()
    assert net.learnable[-1].blob.grad.any()
    assert net.time(1).layers[-1].name == "it"


@pytest.mark.caffe
def test_with_fewer_streams_the_first_go_on_and_with_more_all_begin(tmp_path):
    ours = ready(RECURRENT)
    theirs = caffes(RECURRENT, tmp_path, ours)
    random = np.random.default_rng(0)
    (unit,) = (unit for unit in ours.units if unit.layer.type == "LSTM")
    place = list(theirs._layer_names).index("it")
    for streams in (2, 1, 2, 3, 2, 3):
        x = random.standard_normal((4, streams, 2, 3)).astype(np.float32)
        cont = np.ones((4, streams), np.float32)
        for name, values in (("x", x), ("cont", cont)):
            theirs.blobs[name].reshape(*values.shape)
            theirs.blobs[name].data[...] = values
        theirs._forward(place, place)
        (found,) = unit.run(torch.from_numpy(x), torch.from_numpy(cont))
        np.testing.assert_allclose(found.detach(), theirs.blobs["y"].data, rtol=1e-5, atol=1e-6, err_msg=str(streams))


@pytest.mark.caffe
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("static", [False, True])
def test_fillers_stand_where_caffe_has_them(kind, static, tmp_path):
    fillers = 'weight_filler { type: "constant" value: 0.5 } bias_filler { type: "constant" value: 2 }'
    bottoms = "x cont s" if static else "x cont"
    text = STEPS + learned("s", 2, 5) + layer(kind, bottoms, "y", recurrent(fillers))
    ours = network(text)
    found = [blob.clone() for blob in ours.named()["it"]]
    for blob in ours.named()["it"]:
        blob.zero_()
    (tmp_path / "net.prototxt").write_text(text, encoding="utf-8")
    theirs = pycaffe().Net(str(tmp_path / "net.prototxt"), pycaffe().TEST)
    for blob, wanted in zip(found, theirs.params["it"], strict=True):
        np.testing.assert_array_equal(blob, wanted.data)
    assert {blob.unique().item() for blob in found} == {0.5, 2}


@pytest.mark.caffe
def test_both_engines_train_alike_from_hidden_state_to_hidden_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = """layer { name: "data" type: "DummyData" top: "x" top: "cont" top: "target" dummy_data_param {
      shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 dim: 3 }
      data_filler { type: "constant" value: 0.8 } data_filler { type: "constant" value: 1 }
      data_filler { type: "constant" value: 0.3 } } }
    """
    body = layer("LSTM", "x cont", "y", recurrent(FILLED)) + (
        'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "target" top: "loss" }'
    )
    Path("net.prototxt").write_text(data + body, encoding="utf-8")
    solver = """net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 100 random_seed: 1
        test_iter: 2 test_interval: 100 snapshot_prefix: "run" solver_mode: CPU"""
    Path("solver.prototxt").write_text(solver, encoding="utf-8")
    ours = open_trainer("solver.prototxt", engine="torch")
    Path("more.prototxt").write_text(f'{solver} weights: "{ours.snapshot()[0]}"', encoding="utf-8")
    theirs = open_trainer("more.prototxt", engine="caffe")
    losses = []
    for _ in range(4):
        losses.append(ours.step().loss)
        assert losses[-1] == pytest.approx(theirs.step().loss, rel=1e-4)
        assert ours.test()[0]["loss"] == pytest.approx(theirs.test()[0]["loss"], rel=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            input_layer("x", 4, 2) + input_layer("cont", 4, 2) + layer("LSTM", "x cont", "y", recurrent("")),
            r"layer 'it': takes x of T x N x ... and cont of T x N, not 4x2",
        ),
        (
            STEPS + input_layer("s", 2) + layer("RNN", "x cont s", "y", recurrent("")),
            r"layer 'it': takes a static input of N x ..., not 2",
        ),
    ],
)
def test_recurrent_inputs_without_features_are_refused(text, message):
    with pytest.raises(RootgenError, match=message):
        network(text)


def test_other_time_steps_than_the_nets_are_refused():
    net = network(input_layer("x", 4, 2, 3) + input_layer("cont", 4, 2) + layer("RNN", "x cont", "y", recurrent("")))
    with pytest.raises(RootgenError, match=r"layer 'it': 5 time steps, where the net is made for 4"):
        net.forward(["y"], {"x": np.zeros((5, 2, 3), np.float32), "cont": np.zeros((5, 2), np.float32)})
    with pytest.raises(RootgenError, match=r"layer 'it': .*x of T x N x .* not 4x2x3 and 3x2"):
        net.forward(["y"], {"x": np.zeros((4, 2, 3), np.float32), "cont": np.zeros((3, 2), np.float32)})


def test_stochastic_pyramids_are_refused():
    with pytest.raises(RootgenError, match=r"layer 'y': STOCHASTIC"):
        one_layer('type: "SPP" spp_param { pyramid_height: 2 pool: STOCHASTIC }', 1, 1, 4, 4)


EMPTY = (
    learned("x", 3, 2, 6, 6)
    + input_layer("selector", 3)
    + layer("Filter", "x selector", "z")
    + """layer { name: "conv" type: "Convolution" bottom: "z" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
      layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
      layer { name: "lrn" type: "LRN" bottom: "conv" top: "lrn" }
      layer { name: "bn" type: "BatchNorm" bottom: "lrn" top: "bn" batch_norm_param { use_global_stats: true } }
      layer { name: "max" type: "Pooling" bottom: "bn" top: "max" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
      layer { name: "ave" type: "Pooling" bottom: "max" top: "ave" pooling_param { pool: AVE global_pooling: true } }
      layer { name: "ip" type: "InnerProduct" bottom: "ave" top: "ip" inner_product_param { num_output: 5 } }
      layer { name: "p" type: "Softmax" bottom: "ip" top: "p" }
      """
)


@pytest.mark.caffe
def test_an_empty_selection_goes_through_a_net_as_in_caffe(tmp_path):
    ours = network(EMPTY)
    theirs = caffes(EMPTY, tmp_path, ours)
    inputs = {"x_in": np.ones((3, 2, 6, 6), np.float32), "selector": np.zeros(3, np.float32)}
    found = ours.forward(list(ours.blobs), inputs)
    for name, values in inputs.items():
        theirs.blobs[name].data[...] = values
    theirs.forward()
    assert {name: value.shape for name, value in found.items()} == {
        name: theirs.blobs[name].data.shape for name in found
    }
    assert found["p"].shape == (0, 5)


def test_an_empty_selection_has_no_gradient():
    net = ready(EMPTY + squares("z"))
    inputs = {"x_in": np.ones((3, 2, 6, 6)), "selector": np.zeros(3)}
    with pytest.raises(RootgenError, match=r"layer 'it': its selector 'selector' selects none of the 3 images"):
        net.run(0, inputs)
    with torch.no_grad():
        assert net.run(0, inputs)[1] == 0
    inputs["selector"][1] = 1
    assert net.run(0, inputs)[1] > 0


def test_a_filter_needs_one_selector_per_image_that_came():
    net = network(input_layer("x", 3, 2) + input_layer("s", 3) + layer("Filter", "x s", "y"))
    assert net.forward(["y"], {"x": np.ones((5, 2), np.float32), "s": np.ones(5, np.float32)})["y"].shape == (5, 2)
    with pytest.raises(RootgenError, match=r"layer 'it': its selector is for 3 images, but a bottom is 4x2"):
        net.forward(["y"], {"x": np.ones((4, 2), np.float32), "s": np.ones(3, np.float32)})


REINDEX = input_layer("x", 3, 2) + input_layer("index", 4) + layer("BatchReindex", "x index", "y")


@pytest.mark.caffe
def test_places_of_a_batch_are_cut_to_whole_numbers(tmp_path):
    ours = network(REINDEX)
    theirs = caffes(REINDEX, tmp_path, ours)
    inputs = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "index": np.array([2.9, 0.5, 1, 0], np.float32)}
    for name, values in inputs.items():
        theirs.blobs[name].data[...] = values
    theirs.forward()
    found = ours.forward(["y"], inputs)["y"]
    np.testing.assert_array_equal(found, theirs.blobs["y"].data)
    np.testing.assert_array_equal(found[:, 0], [4, 0, 2, 0])


@pytest.mark.parametrize("wrong", [-1, -0.5, 3, np.nan])
def test_a_place_beyond_the_batch_is_named(wrong):
    inputs = {"x": np.ones((3, 2), np.float32), "index": np.array([0, 2, wrong, 9], np.float32)}
    with pytest.raises(RootgenError, match=rf"layer 'it': index {wrong:g} at place 2 of bottom 'index'.*\(0 to 2\)"):
        network(REINDEX).forward(["y"], inputs)


INFOGAIN = learned("x", 3, 4) + input_layer("label", 3)
MATRIX = np.arange(16, dtype=np.float32).reshape(4, 4) / 10 - 0.3


def infogain(fields: str) -> str:
    return INFOGAIN + layer("InfogainLoss", "x label", "loss", fields)


@pytest.mark.caffe
@pytest.mark.parametrize("double", [False, True])
def test_the_infogain_matrix_of_a_file(double, tmp_path):
    blob = blobs.from_array(MATRIX[None, None])
    if double:
        blob.double_data.extend(MATRIX.ravel())
        del blob.data[:]
    (tmp_path / "matrix").write_bytes(blob.SerializeToString())
    text = infogain(f'infogain_loss_param {{ source: "{tmp_path}/matrix" }}')
    ours = ready(text)
    theirs = caffes(text, tmp_path, ours)
    forward_and_backward(ours, theirs, inputs_of(ours, np.random.default_rng(0)))
    assert same_gradients(ours, theirs) == {"x[0]"}


@pytest.mark.parametrize("opened", ["engine", "module"])
def test_the_infogain_matrix_lies_beside_the_net(opened, tmp_path, monkeypatch):
    (tmp_path / "nets").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "nets/matrix").write_bytes(blobs.from_array(MATRIX[None, None]).SerializeToString())
    path = tmp_path / "nets/net.prototxt"
    path.write_text(infogain('infogain_loss_param { source: "matrix" }'))
    monkeypatch.chdir(tmp_path / "elsewhere")
    given = ready(infogain(f'infogain_loss_param {{ source: "{tmp_path}/nets/matrix" }}'))
    inputs = inputs_of(given, np.random.default_rng(0))
    (wanted,) = given.forward(["loss"], inputs).values()
    import rootgen.torch

    module = rootgen.torch.load(path) if opened == "module" else open_network(path, engine="torch").module
    module.load_state_dict(given.module.state_dict())
    found = module(*(torch.from_numpy(inputs[name]) for name in module.inputs))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    (tmp_path / "nets/matrix").unlink()
    with pytest.raises(RootgenError, match="matrix: cannot read"):
        rootgen.torch.load(path)


@pytest.mark.caffe
def test_a_small_probability_is_clipped_in_the_value_and_not_in_the_gradient(tmp_path):
    text = INFOGAIN + input_layer("matrix", 4, 4) + layer("InfogainLoss", "x label matrix", "loss")
    ours = ready(text)
    theirs = caffes(text, tmp_path, ours)
    scores = np.array([[0, 60, 0, 0], [0, 30, 100, 1], [0, 0, 1e4, 0]])
    forward_and_backward(ours, theirs, {"x_in": scores, "label": np.array([0, 1, 3]), "matrix": MATRIX})
    assert same_gradients(ours, theirs) == {"x[0]"}


@pytest.mark.caffe
def test_no_gradient_passes_through_the_probabilities(tmp_path):
    scored = layer("InfogainLoss", "x label matrix", "loss p", "loss_weight: [1, 0]")
    text = INFOGAIN + input_layer("matrix", 4, 4) + scored + squares("p")
    ours = ready(text)
    theirs = caffes(text, tmp_path, ours)
    forward_and_backward(ours, theirs, inputs_of(ours, np.random.default_rng(0)))
    assert same_gradients(ours, theirs) == {"x[0]"}


def test_an_infogain_matrix_that_does_not_do_is_refused(tmp_path):
    source = f'infogain_loss_param {{ source: "{tmp_path}/matrix" }}'
    with pytest.raises(RootgenError, match=r"layer 'it': has no infogain matrix.*third bottom"):
        network(infogain(""))
    with pytest.raises(RootgenError, match=f"{tmp_path}/matrix"):
        network(infogain(source))
    (tmp_path / "matrix").write_bytes(blobs.from_array(MATRIX[:3]).SerializeToString())
    with pytest.raises(RootgenError, match=r"layer 'it': the infogain matrix in .* is 3x4, but 4 classes need 4x4"):
        network(infogain(source))
    (tmp_path / "matrix").write_bytes(blobs.from_array(MATRIX).SerializeToString())
    with pytest.raises(RootgenError, match=r"layer 'it': loss_param.normalize is not for InfogainLoss"):
        network(infogain(source + " loss_param { normalize: true }"))
    with pytest.raises(RootgenError, match=r"layer 'it': label 4 at place 1 of the batch"):
        ready(infogain(source)).run(0, {"x_in": np.zeros((3, 4)), "label": np.array([0.0, 4, 1])})
