"""Several convolutions for one: groups of given sizes, a basis of kernels; their text, shapes, counts and outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rootgen
from rootgen.errors import RootgenError
from rootgen.grouping import Plan
from rootgen.net import cost, shapes
from rootgen.net import read as net
from rootgen.net.load import load_text
from rootgen.transform import transform

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 12 dim: 9 dim: 11 } } }\n'
LAYER = """\
# the second
layer {
  name: "b"   # its name
  type: "Convolution"
  bottom: "a"
  top: "B"
  param { name: "w" lr_mult: 2 }
  param { lr_mult: 3 }
  include { phase: TEST }
  convolution_param {
    num_output: 24 # many
    pad: 1
    kernel_size: 3
    weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0.5 }
  }
} # done
layer { name: "relu" type: "ReLU" bottom: "B" top: "B" }
"""
POINT = (
    'layer { name: "c" type: "Convolution" bottom: "B" top: "c" convolution_param { num_output: 5 kernel_size: 1 } }\n'
)
FIRST = (
    'layer { name: "a" type: "Convolution" bottom: "data" top: "a" '
    "convolution_param { num_output: 12 kernel_size: 3 pad: 1 } }\n"
)


def grouped(text: str, insert_1x1: bool = False, **plan) -> transform.Transformed:
    return transform.transform(text, Plan.of(**plan), options=transform.TransformOptions(insert_1x1=insert_1x1))


def sizes(text: str, told: str, layer: str = "b", **how) -> transform.Transformed:
    return grouped(text, group={layer: told}, **how)


def convolution(body: str, kind: str = "layer") -> str:
    """The plain convolution `b` from `data` on one line."""
    word = "CONVOLUTION" if kind == "layers" else '"Convolution"'
    return f'{kind} {{ name: "b" type: {word} bottom: "data" top: "b" convolution_param {{ {body} }} }}\n'


def test_the_text_of_groups_of_given_sizes():
    text = INPUT + FIRST + LAYER + POINT
    found = sizes(text, "4/12+8/12").text
    part = """\
layer {
  name: "b_group%d"   # its name
  type: "Convolution"
  bottom: "B_group%d_in"
  top: "B_group%d"
  param { name: "w_group%d" lr_mult: 2 }
  param { lr_mult: 3 }
  include { phase: TEST }
  convolution_param {
    num_output: 12 # many
    pad: 1
    kernel_size: 3
    weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0.5 }
  }
}
"""
    slicer = """\
# the second
layer {
  name: "b_slice"
  type: "Slice"
  bottom: "a"
  top: "B_group1_in"
  top: "B_group2_in"
  include { phase: TEST }
  slice_param {
    slice_point: 4
  }
}
"""
    concat = """\
layer {
  name: "b_concat"
  type: "Concat"
  bottom: "B_group1"
  bottom: "B_group2"
  top: "B"
  include { phase: TEST }
} # done
"""
    begin, end = text.index("# the second"), text.index('layer { name: "relu"')
    assert found == text[:begin] + slicer + part % (1, 1, 1, 1) + part % (2, 2, 2, 2) + concat + text[end:]


def test_the_text_of_a_basis():
    found = grouped(INPUT + FIRST + LAYER + POINT, root=2, basis="3x1+1x3").text
    part = found[found.index('"b_3x1"') : found.index('"b_1x3"')]
    assert (
        "    num_output: 12 # many\n    kernel_h: 3\n    kernel_w: 1\n    pad_h: 1\n    pad_w: 0\n    group: 2\n"
        in part
    )
    assert '    weight_filler { type: "msra" }\n    bias_filler { type: "constant" value: 0.5 }\n' in part
    assert 'param { name: "w_3x1" lr_mult: 2 }' in part
    assert "kernel_size: 3\n" not in part
    assert "pad: 1" not in part


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_end_as_they_did(line_end):
    text = (INPUT + FIRST + LAYER).replace("\n", line_end)
    for plan in ({"group": {"b": "8+16"}}, {"basis": "3x1+1x3"}):
        found = grouped(text, **plan).text
        assert found.replace(line_end, "").count("\n") == found.replace(line_end, "").count("\r") == 0
        assert net.parse(found)


def test_a_layer_in_one_line_and_one_of_v1_stay_so():
    for kind in ("layer", "layers"):
        text = (
            INPUT.replace("layer {", f"{kind} {{")
            if kind == "layer"
            else ('input: "data" input_shape { dim: 2 dim: 12 dim: 9 dim: 11 }\n')
        )
        text += convolution("num_output: 24 kernel_size: 3 pad: 1 group: 2", kind)
        text += f"# end {kind}\n"
        found = sizes(text, "6+6+12").text
        assert len(found.splitlines()) > len(text.splitlines())
        parsed = net.parse(found)
        assert [layer.name for layer in parsed.layers][-4:] == ["b_group1", "b_group2", "b_group3", "b_concat"]
        assert all(layer.param.convolution_param.group == 1 for layer in parsed.layers)
        assert "group:" not in found
    inline = f"{INPUT.strip()} {convolution('num_output: 24 kernel_size: 3 pad: 1').strip()} # end\n"
    found = sizes(inline, "6+6+12").text
    assert len(found.splitlines()) == 1
    assert found.endswith(" # end\n")
    assert len(net.parse(found).layers) == 6


def test_shared_blobs_of_v1_layers_get_names_of_their_own():
    text = 'input: "data" input_shape { dim: 2 dim: 12 dim: 9 dim: 11 }\n' + convolution(
        "num_output: 24 kernel_size: 3 pad: 1", "layers"
    ).replace('top: "b"', 'top: "b" param: "w" param: "v"')
    found = net.parse(sizes(text, "12+12").text)
    assert [[spec.name for spec in layer.param.param] for layer in found.layers[2:4]] == [
        ["w_group1", "v_group1"],
        ["w_group2", "v_group2"],
    ]


def test_one_group_is_the_plain_layer():
    text = INPUT + FIRST + LAYER + POINT
    assert sizes(text, "12/24").text == text
    assert grouped(text, group={"b": (24,)}).text == text
    emitted = [rootgen.emit("nin", group={"conv2a": "96/192"}), rootgen.emit("nin")]
    assert len({text.split("\n", 2)[2] for text in emitted}) == 1


def blobs_of(text: str, seed: int = 0) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    return {
        layer.name: [random.standard_normal(shape).astype("f4") for shape in layer.shapes.params]
        for layer in load_text(text).layers
        if layer.shapes.params
    }


def outputs(text: str, blobs: dict[str, list[np.ndarray]], wanted: str) -> np.ndarray:
    import torch

    from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

    network = TorchNetwork(net.parse(text), NetworkOptions("TEST", torch.device("cpu"), dtype=torch.float64))
    with torch.no_grad():
        for name, own in network.named().items():
            for blob, values in zip(own, blobs[name], strict=True):
                blob.copy_(torch.from_numpy(values))
    images = np.random.default_rng(1).standard_normal(load_text(text).blobs["data"])
    return network.forward([wanted], {"data": images.astype("f4")})[wanted]


def cut(blobs: list[np.ndarray], parts: list[str]) -> dict[str, list[np.ndarray]]:
    """The blobs of a layer with groups, for a layer per group."""
    halves = [np.split(blob, len(parts)) for blob in blobs]
    return {part: [own[i] for own in halves] for i, part in enumerate(parts)}


@pytest.mark.torch
@pytest.mark.parametrize("body", ["", "bias_term: false", "stride: 2", "dilation: 2 pad: 1"])
@pytest.mark.parametrize("group", [2, 3, 4])
def test_equal_groups_are_those_of_the_field_group(group, body):
    text = INPUT + convolution(f"num_output: 24 kernel_size: 3 {body}")
    plain, several = grouped(text, group={"b": group}), sizes(text, "+".join([str(24 // group)] * group))
    assert (plain.after.params, plain.after.macs) == (several.after.params, several.after.macs)
    blobs = blobs_of(plain.text)
    parts = cut(blobs["b"], [f"b_group{i}" for i in range(1, group + 1)])
    np.testing.assert_array_equal(outputs(several.text, parts, "b"), outputs(plain.text, blobs, "b"))


@pytest.mark.torch
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=4), st.booleans())
def test_unequal_groups_are_a_convolution_of_blocks(pairs, bias):
    torch = pytest.importorskip("torch")
    ins, outs = map(sum, zip(*pairs, strict=True))
    body = f"num_output: {outs} kernel_size: 3 pad: 1 bias_term: {str(bias).lower()}"
    text = INPUT.replace("dim: 12", f"dim: {ins}") + convolution(body)
    found = sizes(text, "+".join(f"{a}/{b}" for a, b in pairs))
    blobs = blobs_of(found.text)
    weight, at = np.zeros((outs, ins, 3, 3)), [0, 0]
    for i, (inputs, rows) in enumerate(pairs, 1):
        weight[at[0] : at[0] + rows, at[1] : at[1] + inputs] = blobs[f"b_group{i}"][0]
        at = [at[0] + rows, at[1] + inputs]
    images = np.random.default_rng(1).standard_normal(load_text(text).blobs["data"]).astype("f4")
    biases = np.concatenate([blobs[f"b_group{i}"][1] for i in range(1, len(pairs) + 1)]) if bias else np.zeros(outs)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(images).double(), torch.from_numpy(weight), torch.from_numpy(biases).double(), padding=1
    )
    np.testing.assert_allclose(outputs(found.text, blobs, "b"), expected.numpy(), atol=1e-5)
    assert found.after.params == weight[weight != 0].size + bias * outs
    assert found.after.macs == sum(a * b for a, b in pairs) * 9 * 9 * 11


KERNELS = ["3x1+1x3", "kx1+1xk", "kx1+1xk+kxk", "1x3+3x3"]


MIXED = POINT.replace('"B"', '"b"')  # combines what `b` makes, so that no 1x1 has to go in


@given(
    st.sampled_from(KERNELS),
    st.fixed_dictionaries(
        {
            "kernel": st.sampled_from([(3, 3), (5, 5), (3, 5), (5, 3), (7, 7), (2, 2), (4, 3)]),
            "pad": st.tuples(st.integers(0, 4), st.integers(0, 4)),
            "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        }
    ),
    st.integers(1, 2),
    st.sampled_from([1, 2, 4]),
)
def test_a_basis_gives_the_size_that_the_kernel_gave(basis, window, dilation, group):
    fields = [f"{name}_{side}: {size}" for name, pair in window.items() for side, size in zip("hw", pair, strict=True)]
    text = INPUT.replace("dim: 9 dim: 11", "dim: 19 dim: 21")
    text += convolution(f"num_output: 24 {' '.join(fields)} dilation: {dilation}") + MIXED
    try:
        found = grouped(text, group={"b": group}, basis={"b": basis})
    except RootgenError as error:
        assert any(told in str(error) for told in ("is larger", "not in the middle", "needs a pad", "is no basis for"))
        return
    before, after = load_text(text), load_text(found.text)
    assert after.blobs["b"] == before.blobs["b"]
    parts = [layer for layer in after.layers if layer.name.startswith("b_") and layer.type == "Convolution"]
    assert all(layer.param.convolution_param.group == group for layer in parts)
    assert sum(layer.shapes.params[0][0] for layer in parts) == 24
    area = sum(np.prod(layer.shapes.params[0]) for layer in parts)
    assert found.after.macs == (area + 24 * 5) * np.prod(after.blobs["b"][2:])


@pytest.mark.torch
def test_a_basis_sees_the_middle_of_the_kernel():
    """A kernel that is zero but for its middle row and column is the sum of a 1x3 and a 3x1 kernel of the basis."""
    text = INPUT + convolution("num_output: 4 kernel_size: 3 pad: 2 stride: 2 dilation: 2 bias_term: false") + MIXED
    found = grouped(text, basis={"b": "3x1+1x3"}).text
    blobs = blobs_of(found)
    dense = np.zeros((4, 12, 3, 3), "f4")
    dense[:2, :, :, 1:2], dense[2:, :, 1:2, :] = blobs["b_3x1"][0], blobs["b_1x3"][0]
    np.testing.assert_allclose(outputs(found, blobs, "b"), outputs(text, {**blobs, "b": [dense]}, "b"), atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("basis", ["3x1+1x3", "3x1+1x3+3x3"])
@pytest.mark.parametrize("group", [1, 4])
def test_a_basis_is_filled_so_that_variances_are_those_of_the_whole_kernel(basis, group):
    torch = pytest.importorskip("torch")
    from rootgen.engine.torch.network import NetworkOptions, TorchNetwork

    text = INPUT.replace("dim: 2 dim: 12 dim: 9 dim: 11", "dim: 16 dim: 128 dim: 16 dim: 16")
    text += convolution('num_output: 256 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" }') + MIXED
    found = {}
    for name, plan in (("whole", {"group": {"b": group}}), ("basis", {"group": {"b": group}, "basis": {"b": basis}})):
        network = TorchNetwork(net.parse(grouped(text, **plan).text), NetworkOptions("TEST", torch.device("cpu"), 3))
        weights = [own[0].detach() for name, own in network.named().items() if name != "c"]
        images = np.random.default_rng(0).standard_normal((16, 128, 16, 16)).astype("f4")
        y = network.forward(["b"], {"data": images})["b"][:, :, 1:-1, 1:-1]
        # what each input gets back of gradients of variance 1: outgoing weights, squared
        back = sum(float((w**2).sum()) for w in weights) / 128
        found[name] = y.var(axis=(0, 2, 3)), back
    assert found["basis"][0].mean() == pytest.approx(2, rel=0.05)
    assert found["whole"][0].mean() == pytest.approx(2, rel=0.05)
    for share in np.split(found["basis"][0], 4):  # whatever the shape
        assert share.mean() == pytest.approx(2, rel=0.1)
    assert found["basis"][1] == pytest.approx(found["whole"][1], rel=0.05)
    assert found["whole"][1] == pytest.approx(4, rel=0.05)  # 2 x 256 / 128


TWO = INPUT + FIRST + LAYER + POINT.replace("kernel_size: 1", "kernel_size: 3")


def test_a_basis_that_nothing_combines_gets_a_linear_1x1():
    found = grouped(TWO, basis={"b": "3x1+1x3"})
    layers = {layer.name: layer for layer in net.parse(found.text).layers}
    assert list(layers)[2:] == ["b_3x1", "b_1x3", "b_concat", "b_1x1", "relu", "c"]
    assert layers["b_1x1"].bottoms == ("B_grouped",) == layers["b_concat"].tops
    assert layers["b_1x1"].tops == ("B",)
    assert layers["b_1x1"].param.convolution_param.weight_filler.type == "xavier"
    assert not [warning for warning in found.warnings if "1x1" in warning]


def test_groups_of_given_sizes_need_mixing_like_others():
    plain = sizes(TWO, "8+16")
    assert any("'b': no 1x1 convolution mixes its 2 groups before c (--insert-1x1" in one for one in plain.warnings)
    found = sizes(TWO, "8+16", insert_1x1=True)
    names = [layer.name for layer in net.parse(found.text).layers]
    assert names[2:] == ["b_slice", "b_group1", "b_group2", "b_concat", "B_grouped_relu", "b_1x1", "relu", "c"]


def test_the_table_says_what_becomes_of_a_layer():
    found = grouped(INPUT + FIRST + LAYER + POINT, root=2, basis="3x1+1x3")
    assert "12 of 3x1 + 12 of 1x3" in str(found)
    assert found.rows[1]["basis"] == ((3, 1, 12), (1, 3, 12))
    found = sizes(INPUT + FIRST + LAYER + POINT, "8+16")
    assert "1 -> 4/8+8/16" in str(found)
    assert (found.rows[0]["sizes"], found.rows[0]["after"]) == ("4/8+8/16", 2)


def test_patterns_and_rules_of_their_own_are_one_thing_in_emit_and_in_transform():
    """An inception with a number of groups for each filter size."""
    group = {"*/5x5": "root-4", "inception_3?/3x3": 8, "inception_4e/3x3": "64/128+96/192"}
    emitted = rootgen.emit("googlenet", root=16, group=group, basis={"inception_5b/3x3": "3x1+1x3"}, phase="deploy")
    plain = rootgen.emit("googlenet", phase="deploy")
    found = transform.transform(plain, Plan.of(root=16, group=group, basis={"inception_5b/3x3": "3x1+1x3"}), "plain")
    assert emitted.split("\n", 2)[2] == found.text.split("\n", 2)[2]
    groups = {layer.name: layer.param.convolution_param.group for layer in found.net.layers}
    assert [groups[f"inception_{one}/5x5"] for one in ("3a", "3b", "4a", "5b")] == [2, 2, 1, 1]
    assert [groups[f"inception_{one}"] for one in ("3a/3x3", "4a/3x3", "5b/3x3_3x1")] == [8, 4, 2]
    assert [groups[f"inception_4e/3x3_group{i}"] for i in (1, 2)] == [1, 1]


@pytest.mark.parametrize("arch", ["nin", "alexnet", "resnet50", "googlenet"])
def test_a_basis_in_emit_is_that_of_transform(arch):
    phases = {}
    for phase in ("deploy", "train_val"):
        emitted = rootgen.emit(arch, basis="kx1+1xk", phase=phase)
        crop = {"nin": 32, "alexnet": 227}.get(arch, 224)
        options = transform.TransformOptions(input_shape=(3, crop, crop))
        found = transform.transform(rootgen.emit(arch, phase=phase), Plan.of(basis="kx1+1xk"), options=options)
        assert emitted.split("\n", 2)[2] == found.text.split("\n", 2)[2]
        direct = cost.count(shapes.infer(net.parse(emitted), input_shape=(3, crop, crop)))
        assert (found.after.params, found.after.macs) == (direct.params, direct.macs)
        assert found.after.macs < found.before.macs
        phases[phase] = found
    image = [change for change in phases["deploy"].changes if change.stage is None]
    assert {change.without_basis for change in image} == {"on the image"}


@pytest.mark.parametrize(
    ("text", "plan", "message"),
    [
        (TWO, {"group": {"b": "8+12"}}, r"layer 'b': 8\+12 makes 20 outputs, but it has 24$"),
        (TWO, {"group": {"b": "8/12+9/12"}}, r"layer 'b': 8/12\+9/12 takes 17 input channels, but it reads 12$"),
        (TWO, {"group": {"b": (1,) * 24}}, r"layer 'b': .* is 24 groups, but it reads 12 channels$"),
        (TWO, {"group": {"b": "7+17"}}, r"layer 'b': 7 of 24 outputs go with no whole number of its 12 input"),
        (TWO, {"group": {"b": "8+16"}, "basis": {"b": "3x1+1x3"}}, "layer 'b': cannot take a basis: it has groups of"),
        (
            TWO.replace('"Convolution"\n', '"ConvolutionDepthwise"\n').replace("num_output: 24", "num_output: 12"),
            {"basis": {"b": "3x1+1x3"}},
            "layer 'b': cannot take a basis: a group per channel is its type",
        ),
        (TWO, {"basis": {"relu": "3x1+1x3"}}, "no convolution 'relu' to give groups to"),
        (INPUT + FIRST + LAYER + POINT, {"basis": {"c": "3x1+1x3"}}, "layer 'c': is no spatial convolution"),
        (INPUT + FIRST + LAYER + POINT, {"basis": {"[c]": "3x1+1x3"}}, "fits none of its spatial convolutions"),
        (
            TWO,
            {"basis": "5x1+1x5"},
            r"fits none of its spatial convolutions: 5x1\+1x5 is not as large as its kernel of",
        ),
        (TWO, {"basis": {"b": "5x1+1x5"}}, "layer 'b': cannot take a basis: a kernel of 5x1 in its 3x3 is larger"),
        (
            TWO,
            {"basis": {"b": "2x1+1x2"}},
            "layer 'b': cannot take a basis: a kernel of 2x1 in its 3x3 is not in the mid",
        ),
        (
            TWO.replace("pad: 1\n", ""),
            {"basis": {"b": "3x1+1x3"}},
            "layer 'b': cannot take a basis: a kernel of 3x1 in its 3x3 needs a pad of 1 or more, and it has 0",
        ),
        (
            TWO,
            {"group": {"b": 12}, "basis": {"b": "3x1+1x3+3x3"}},
            "layer 'b': cannot take a basis: 24 outputs in 12 groups are too few for the 3 of",
        ),
        (
            TWO.replace('name: "b"', ""),
            {"basis": "3x1+1x3"},
            "layer '': cannot be made several convolutions: it has no name, after which they would be called",
        ),
        (
            INPUT + 'layer { name: "b" type: "Convolution" bottom: "data" top: "data" '
            "convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }",
            {"group": {"b": "3+3"}},
            "layer 'b': cannot be made several convolutions: it works in place",
        ),
        (
            TWO.replace('"relu"', '"b_slice"'),
            {"group": {"b": "8+16"}},
            "layer 'b': cannot be made several convolutions: there is a layer 'b_slice' already",
        ),
        (
            TWO.replace('"a"', '"B_group1"'),
            {"group": {"b": "8+16"}},
            "layer 'b': cannot be made several convolutions: there is a blob 'B_group1' already",
        ),
        (
            INPUT + 'layer { name: "b" type: "Convolution" bottom: "data" top: "b" '
            "convolution_param { num_output: 24 kernel_size: [3, 3] pad: 1 } }",
            {"basis": {"b": "3x1+1x3"}},
            "layer 'b': its kernel or pad stands in a list",
        ),
        (
            f"layer: [{{ {INPUT.strip()[8:-2]} }}, {{ {convolution('num_output: 24 kernel_size: 3').strip()[8:-2]} }}]",
            {"group": {"b": "12+12"}},
            "its layers stand in a list",
        ),
        (
            TWO,
            {"group": {"b": "root-5"}},
            "b=root-5 fits none of its spatial convolutions: 'b': 5 groups do not divide",
        ),
    ],
)
def test_what_cannot_be_is_refused(text, plan, message):
    with pytest.raises(RootgenError, match=message) as caught:
        grouped(text, **plan)
    assert "\n" not in str(caught.value)


def test_what_a_basis_for_all_leaves_out_is_told():
    text = TWO.replace(
        '"c" convolution_param { num_output: 5 kernel_size: 3',
        '"c" convolution_param { num_output: 5 kernel_size: 5 pad: 2',
    )
    found = grouped(text, basis="3x1+1x3")
    told = {change.layer.name: change.without_basis for change in found.changes}
    assert told == {"a": "on the image", "b": "", "c": "3x1+1x3 is not as large as its kernel of 5x5"}
