"""Weights for other groups: orders that nobody notices, blocks cut out of them, files that both engines take."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootgen import paths
from rootgen.cli import main
from rootgen.compound import Sizes
from rootgen.deploy.check import largest_difference
from rootgen.deploy.regroup import with_weights
from rootgen.engine import open_network, weights
from rootgen.errors import RootgenError
from rootgen.generator.architectures import architectures
from rootgen.net.load import load, load_text
from rootgen.transform import regroup
from rootgen.transform.compound import names_of_groups

pytestmark = pytest.mark.torch
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }\n'


def layer(kind, name, bottoms, top=None, more=""):
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name, bottom, outputs=16, kernel=3, outside=""):
    inside = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2}"
    return layer("Convolution", name, bottom, more=f"convolution_param {{ {inside} }} {outside}")


CHAIN = INPUT + conv("a", "data") + layer("ReLU", "r", "a", "a") + conv("b", "a") + conv("c", "b", 16, 1)
RESIDUAL = (
    INPUT + conv("a", "data") + conv("b", "a", 8, 1) + conv("c", "b", 8) + layer("ReLU", "r", "c", "c")
    + conv("d", "c", 16, 1) + layer("Eltwise", "sum", "a d") + conv("e", "sum", 16) + conv("f", "e", 5, 1)
)  # fmt: skip
MODULE = (
    INPUT + conv("a", "data", 8) + conv("b", "data", 16) + layer("Concat", "ab", "a b")
    + layer("BatchNorm", "bn", "ab", "ab") + conv("c", "ab", 8) + conv("d", "c", 5, 1)
)  # fmt: skip
TWO_HEADS = CHAIN + conv("h", "b", 4, 1, outside="include { phase: TRAIN }")
LOOKED_INTO = CHAIN + layer("Slice", "s", "b", "x", 'top: "y" include { phase: TRAIN }')


def blobs_of(*nets, seed=0):
    """Random blobs for every layer; BatchNorm's variances and their weight above zero."""
    random = np.random.default_rng(seed)
    found = {}
    for net in nets:
        for one in net.layers:
            values = [random.standard_normal(s).astype("f4") / np.sqrt(max(s[-1], 1)) for s in one.shapes.params]
            if one.type == "BatchNorm":
                values = [values[0], np.abs(values[1]) + 0.5, np.array([2.0])]
            if values:
                found.setdefault(one.name, values)
    return found


def saved(tmp_path, text, blobs=None):
    """`text` and blobs for both its phases as files."""
    (tmp_path / "net.prototxt").write_text(text)
    nets = [load_text(text, phase) for phase in ("TEST", "TRAIN")]
    layers = {one.name: one for net in nets for one in net.layers}
    weights.write(tmp_path / "net.caffemodel", "mine", "TEST", layers.values(), blobs or blobs_of(*nets))
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def masked(net, blobs, groups):
    """Blobs of a net without groups in which nothing is left between the groups."""
    found = {name: [np.asarray(blob, np.float64) for blob in own] for name, own in blobs.items()}
    for one in net.layers:
        if one.name in groups:
            whole = np.zeros(one.shapes.params[0])
            for rows, columns in regroup.blocks(*whole.shape[:2], groups[one.name]):
                whole[rows, columns] = found[one.name][0][rows, columns]
            found[one.name][0] = whole
    return found


NETS = {
    "chain": (CHAIN, {"b": 8}, ""),
    "two in a row": (CHAIN, {"b": 4, "c": 8},
        "inputs: in the order that suits 'b'; outputs: 'c' is an output of the net"),
    "residual": (RESIDUAL, {"c": 4, "e": 8}, ""),
    "concat": (MODULE, {"c": 8}, ""),
    "groups of given sizes": (CHAIN, {"b": Sizes((4, 8, 3, 1), (3, 8, 1, 4))}, ""),
    "sizes behind a concat": (MODULE, {"c": Sizes((2, 6))}, ""),
    "on the image's channels": (INPUT + conv("a", "data", 6) + conv("b", "a", 4, 1), {"a": 3},
        "inputs: 'data' makes them"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_orders_leave_the_outputs_and_blocks_are_those_of_the_order(name):
    text, groups, why = NETS[name]
    net = load_text(text)
    blobs = blobs_of(net)
    worth = {one.name: regroup.squares(one, blobs[one.name]) for one in net.layers if one.name in groups}
    found = regroup.choose({"TEST": net}, groups, worth)
    assert [one.layer for one in found["TEST"].kept] == list(groups)
    assert found["TEST"].kept[-1].why == why
    assert all(one.permuted > one.sliced and one.control > 0 for one in found["TEST"].kept)
    ordered = found["TEST"].applied(blobs)
    assert largest_difference(net, blobs, net, ordered) < 1e-9
    after = load_text(grouped(text, groups))
    cut = regroup.regrouped(found, blobs, groups)
    assert largest_difference(net, masked(net, ordered, groups), after, cut) < 1e-9
    for one in found["TEST"].kept:
        names = [one.layer] if one.sizes is None else names_of_groups(one.layer, one.sizes)
        kept = sum((cut[name][0] ** 2).sum() for name in names) / (blobs[one.layer][0].astype("f8") ** 2).sum()
        assert kept == pytest.approx(one.permuted)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grouped(text, groups):
    from rootgen.grouping import Plan
    from rootgen.transform.transform import transform

    return transform(text, Plan.of(group=groups)).text


@pytest.mark.parametrize("row", ["nin/orig", "googlenet/orig", "resnet50/orig", "alexnet/column-1"])
def test_the_papers_nets_in_chosen_orders(row):
    from rootgen.grouping import Plan
    from rootgen.transform.transform import transform

    text = (paths.resource("prototxt") / row / "deploy.prototxt").read_text("utf-8")
    changes = transform(text, Plan("root", 32 if "resnet" in row else 8)).changes
    groups = {change.layer.name: change.after for change in changes if not change.kept}
    net = load_text(text, batch=1)
    blobs = blobs_of(net)
    worth = {one.name: regroup.squares(one, blobs[one.name]) for one in net.layers if one.name in groups}
    found = regroup.choose({"TEST": net}, groups, worth, starts=1)
    assert all(one.permuted > one.sliced or one.group == 1 or "outputs" in one.why for one in found["TEST"].kept)
    moved = found["TEST"].applied(blobs)
    assert any((moved[name][0] != blobs[name][0]).any() for name in blobs)
    assert largest_difference(net, blobs, net, moved) < 1e-5


@pytest.mark.parametrize("groups", [4, Sizes((4, 4, 4, 4)), Sizes((8, 5, 3), (4, 8, 4))], ids=str)
def test_what_was_hidden_is_found_and_nothing_is_lost(tmp_path, groups):
    """A grouped net whose channels were shuffled comes back with its groups, and with its outputs."""
    random = np.random.default_rng(1)
    net = load_text(CHAIN)
    blobs = masked(net, blobs_of(net), {"b": groups})
    rows, columns = random.permutation(16), random.permutation(16)
    hidden = {name: list(own) for name, own in blobs.items()}
    hidden["a"] = [blob[columns] for blob in blobs["a"]]
    hidden["b"] = [blobs["b"][0][rows][:, columns], blobs["b"][1][rows]]
    hidden["c"][0] = blobs["c"][0][:, rows]
    prototxt, model = saved(tmp_path, CHAIN, hidden)
    found = with_weights(prototxt, model, group={"b": groups})
    assert found.kept[0].permuted == pytest.approx(1.0)
    assert found.kept[0].sliced < 0.6
    assert found.kept[0].control < 0.8
    assert largest_difference(net, weights.read(model), load_text(found.text), found.blobs) < 1e-6
    plain = with_weights(prototxt, model, group={"b": groups}, permute=False)
    assert plain.kept[0].permuted == plain.kept[0].sliced == found.kept[0].sliced
    assert largest_difference(net, weights.read(model), load_text(plain.text), plain.blobs) > 1e-2


def test_group_1_gives_the_blobs_as_they_were(tmp_path):
    prototxt, model = saved(tmp_path, RESIDUAL)
    found = with_weights(prototxt, model, root=1)
    assert found.text == RESIDUAL
    stored = weights.read(model)
    assert set(found.blobs) == set(stored)
    assert all((a == b).all() for name in stored for a, b in zip(stored[name], found.blobs[name], strict=True))


def test_groups_that_are_there_hold_the_channels_of_both_sides():
    """AlexNet's own groups: nothing can be put in order, and the report says why."""
    text = (paths.resource("prototxt") / "alexnet/orig/deploy.prototxt").read_text("utf-8")
    net = load_text(text, batch=1)
    blobs = {"conv3": blobs_of(net)["conv3"]}
    found = regroup.choose({"TEST": net}, {"conv3": 8}, {"conv3": regroup.squares(net.layer("conv3"), blobs["conv3"])})
    assert found["TEST"].kept[0].why == "inputs: 'norm2' makes them; outputs: 'conv4' has filter groups"
    assert found["TEST"].kept[0].sliced == found["TEST"].kept[0].permuted
    assert not found["TEST"].orders


@pytest.mark.parametrize("group", [4, 1])
def test_groups_that_are_there_become_more_or_fewer(tmp_path, group):
    text = CHAIN.replace("num_output: 16 kernel_size: 3 pad: 1 }  }\n" + 'layer { name: "c"',
                         "num_output: 16 kernel_size: 3 pad: 1 group: 2 }  }\n" + 'layer { name: "c"')  # fmt: skip
    assert "group: 2" in text
    prototxt, model = saved(tmp_path, text)
    found = with_weights(prototxt, model, group={"b": group})
    one = found.kept[0]
    assert (one.before, one.group) == (2, group)
    assert one.sliced == (pytest.approx(1.0) if group == 1 else one.permuted)
    assert "'b' has filter groups" in one.why
    if group == 1:
        net = load(prototxt)
        assert largest_difference(net, weights.read(model), load_text(found.text), found.blobs) < 1e-9


@pytest.mark.parametrize("groups", ["4/4+4/4+8/8", "6/2+10/14"])
def test_groups_that_are_there_get_sizes(tmp_path, groups):
    """Two groups of eight cut into one of eight and two of four, and across the groups that there were."""
    text = CHAIN.replace("num_output: 16 kernel_size: 3 pad: 1 }  }\n" + 'layer { name: "c"',
                         "num_output: 16 kernel_size: 3 pad: 1 group: 2 }  }\n" + 'layer { name: "c"')  # fmt: skip
    prototxt, model = saved(tmp_path, text)
    found = with_weights(prototxt, model, group={"b": groups})
    assert "group:" not in found.text
    sizes = Sizes.parse(groups)
    assert found.rows[0]["sizes"] == groups
    net, stored = load(prototxt), weights.read(model)
    plain = load_text(text.replace(" group: 2", ""))
    whole = masked(
        plain, {**stored, "b": [regroup.dense(net.layer("b"), stored["b"][0]), stored["b"][1]]}, {"b": sizes}
    )
    assert largest_difference(plain, whole, load_text(found.text), found.blobs) < 1e-6


@pytest.mark.parametrize("text", [TWO_HEADS, LOOKED_INTO])
def test_both_phases_stay_what_they_were(tmp_path, text):
    prototxt, model = saved(tmp_path, text)
    found = with_weights(prototxt, model, group={"b": 4})
    found.write(tmp_path / "new.prototxt", tmp_path / "new.caffemodel")
    stored, new = weights.read(model), weights.read(tmp_path / "new.caffemodel")
    assert set(new) == set(stored)
    assert (", outputs: 's', a Slice" in found.kept[0].why or "outputs: 's', a Slice" in found.kept[0].why) == (
        text == LOOKED_INTO
    )
    for phase in ("TEST", "TRAIN"):
        net = load_text(text, phase)
        worth = {"b": regroup.squares(net.layer("b"), stored["b"])}
        orders = regroup.choose({p: load_text(text, p) for p in ("TEST", "TRAIN")}, {"b": 4}, worth)
        ordered = regroup.regrouped(orders, stored, {})
        assert largest_difference(net, stored, net, ordered) < 1e-6
        after = load_text(found.text, phase)
        assert largest_difference(net, masked(net, ordered, {"b": 4}), after, new) < 1e-5


@pytest.mark.parametrize("engine", ["torch", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_the_command_writes_what_an_engine_takes(tmp_path, engine, capsys):
    prototxt, model = saved(tmp_path, CHAIN)
    new = tmp_path / "new.prototxt"
    assert main(["transform", str(prototxt), "--group", "b=4", "--weights", str(model), "-o", str(new)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    line = next(line for line in said.err.splitlines() if line.startswith("b "))
    assert "1 -> 4" in line
    assert line.count("%") == 3
    found = with_weights(prototxt, model, group={"b": 4})
    assert new.read_text() == found.text
    network = open_network(new, weights=tmp_path / "new.caffemodel", engine=engine, device="cpu")
    image = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype("f4")
    got = network.forward(["c"], {"data": image})["c"]
    net = load_text(CHAIN)
    ordered = regroup.choose({"TEST": net}, {"b": 4}, {"b": regroup.squares(net.layer("b"), weights.read(model)["b"])})
    whole = masked(net, ordered["TEST"].applied(weights.read(model)), {"b": 4})
    weights.write(tmp_path / "whole.caffemodel", "mine", "TEST", net.layers, whole)
    wanted = open_network(prototxt, weights=tmp_path / "whole.caffemodel", engine=engine, device="cpu")
    assert np.abs(got - wanted.forward(["c"], {"data": image})["c"]).max() < 1e-4 * np.abs(got).max()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--group", "b=4", "--weights", "other.caffemodel", "-o", "new"], 1, "a model of another net"),
        (["--group", "b=5", "--weights", "net.caffemodel", "-o", "new"], 1, "5 groups do not divide its 16 input"),
        (["--group", "b=4", "--weights", "nan.caffemodel", "-o", "new"], 1, "'b' has blobs that hold"),
        (["--group", "b=4", "--weights", "net.caffemodel"], 2, "needs a place for the model"),
        (["--group", "b=4", "--weights", "net.caffemodel", "-o", "new", "--insert-1x1"], 2, "no weights for"),
        (["--basis", "3x1+1x3", "--weights", "net.caffemodel", "-o", "new"], 2, "no weights for"),
        (["--group", "b=8+7", "--weights", "net.caffemodel", "-o", "new"], 1, "8+7 makes 15 outputs, but it has 16"),
        (["--group", "b=4", "-w", "new"], 2, "--weights-out goes with --weights"),
        (["--group", "b=4", "--no-permute"], 2, "--no-permute goes with --weights"),
        (["--group", "b=4", "--weights", "net.caffemodel", "-o", "file/new"], 1, "file"),
    ],
)  # fmt: skip
def test_refusals_are_one_line_and_leave_nothing(here, words, code, message, capsys):
    saved(here, CHAIN)
    other = load_text(RESIDUAL)
    weights.write("other.caffemodel", "x", "TEST", other.layers, blobs_of(other))
    net = load_text(CHAIN)
    bad = blobs_of(net)
    bad["b"][1][3] = np.nan
    weights.write("nan.caffemodel", "x", "TEST", net.layers, bad)
    Path("file").write_text("")
    before = sorted(path.name for path in Path().iterdir())
    assert main(["transform", "net.prototxt", *words]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert sorted(path.name for path in Path().iterdir()) == before


def test_no_weights_of_a_model_that_lacks_the_layer(tmp_path):
    text = CHAIN + conv("only", "b", 16, outside="include { phase: TRAIN }")
    (tmp_path / "net.prototxt").write_text(text)
    net = load_text(text)
    weights.write(tmp_path / "net.caffemodel", "x", "TEST", net.layers, blobs_of(net))
    with pytest.raises(RootgenError, match="'only': has no blobs in the model"):
        with_weights(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", group={"only": 4})


def _one_layer(shape, name, bottom, outputs):
    """A piece of a net named after its `shape`, from blob `bottom` to the blob that is given back; its text."""
    text, tail = conv(name, bottom, outputs), name
    if shape == "normalised":
        text += layer("BatchNorm", f"{name}_bn", name, name)
        text += layer("Scale", f"{name}_s", name, name, "scale_param { bias_term: true }")
    elif shape == "prelu":
        text += layer("PReLU", f"{name}_p", name, name)
    elif shape == "pooled":
        tail = f"{name}_pool"
        text += layer("Pooling", tail, name, more="pooling_param { kernel_size: 3 stride: 1 pad: 1 }")
    elif shape == "residual":
        tail = f"{name}_sum"
        text += conv(f"{name}_inner", name, 8, 1) + conv(f"{name}_wide", f"{name}_inner", 8)
        text += conv(f"{name}_outer", f"{name}_wide", outputs, 1) + layer("Eltwise", tail, f"{name} {name}_outer")
    elif shape == "inception":
        tail = f"{name}_all"
        text += conv(f"{name}_3x3", bottom, 8) + conv(f"{name}_1x1", bottom, 4, 1)
        text += layer("Concat", tail, f"{name} {name}_3x3 {name}_1x1") + layer("Dropout", f"{name}_d", tail, tail)
    return text, tail


SHAPES = ("plain", "normalised", "prelu", "pooled", "residual", "inception")


@settings(max_examples=25)
@given(
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=5),
    seed=st.integers(0, 999),
    group=st.sampled_from([2, 4]),
)
def test_any_net_in_chosen_orders_gives_its_outputs(shapes, seed, group):
    """Group 1 in the orders that `group` groups would choose: chains, residual sums and modules as they come."""
    text, bottom = INPUT, "data"
    for i, shape in enumerate(shapes):
        more, bottom = _one_layer(shape, f"l{i}", bottom, 8 if i % 2 else 16)
        text += more
    net = load_text(text + layer("InnerProduct", "fc", bottom, more="inner_product_param { num_output: 5 }"))
    blobs = blobs_of(net, seed=seed)
    groups = {
        one.name: group
        for one in net.layers
        if one.type == "Convolution" and not any(size % group for size in one.shapes.params[0][:2])
    }
    worth = {name: regroup.squares(net.layer(name), blobs[name]) for name in groups}
    found = regroup.choose({"TEST": net}, groups, worth, starts=2, seed=seed)
    moved = found["TEST"].applied(blobs)
    if groups:
        assert any((a != b).any() for name in blobs for a, b in zip(blobs[name], moved[name], strict=True))
    assert largest_difference(net, blobs, net, moved) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("arch", architectures())
def test_every_architecture_in_chosen_orders(arch):
    """The deepest rows take a minute; the paper's own are above."""
    from rootgen.paper.emit import emit
    from rootgen.transform.stages import spatial_convolutions

    net = load_text(emit(arch, column=1, phase="deploy", batch_size=1))
    blobs = blobs_of(net)
    groups = {one.layer.name: 4 for one in spatial_convolutions(net) if one.stage is not None and one.group == 1}
    worth = {name: regroup.squares(net.layer(name), blobs[name]) for name in groups}
    found = regroup.choose({"TEST": net}, groups, worth, starts=1)
    assert sum(one.permuted > one.sliced for one in found["TEST"].kept) > len(groups) / 2
    assert largest_difference(net, blobs, net, found["TEST"].applied(blobs)) < 1e-5
