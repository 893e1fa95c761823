"""Layer graphs: phases, in-place layers, old forms, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rootgen.errors import RootgenError
from rootgen.net import read as net
from rootgen.net.layers.registry import TYPES
from rootgen.net.shapes import infer
from rootgen.proto import prototxt, schema

DATA = "layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n"
CONV = "layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' convolution_param { num_output: 4 } }\n"
RELU = "layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' }\n"


def names(text: str, phase: str = "TEST", **state) -> list[str]:
    return [layer.name for layer in net.parse(text, phase, **state).layers]


def silence(name: str, rules: str) -> str:
    return f"layer {{ name: '{name}' type: 'Silence' bottom: 'data' {rules} }}\n"


def test_graph_of_a_small_net():
    graph = net.parse("name: 'small'\n" + DATA + CONV + RELU, where="small.prototxt")
    assert (graph.name, graph.phase, graph.source) == ("small", "TEST", "small.prototxt")
    conv = graph.layers[1]
    assert (conv.name, conv.type, conv.bottoms, conv.tops) == ("conv", "Convolution", ("data",), ("conv",))
    assert conv.param.convolution_param.num_output == 4
    assert conv.where == "small.prototxt:3: layer 'conv'"


@pytest.mark.parametrize(
    ("rules", "state", "kept"),
    [
        ("", {}, True),
        ("include { phase: TEST }", {}, True),
        ("include { phase: TRAIN }", {}, False),
        ("include { phase: TRAIN } include { phase: TEST }", {}, True),
        ("exclude { phase: TEST }", {}, False),
        ("exclude { phase: TRAIN }", {}, True),
        ("include { }", {}, True),
        ("exclude { }", {}, False),
        ("include { min_level: 1 }", {}, False),
        ("include { min_level: 1 }", {"level": 1}, True),
        ("include { max_level: 1 }", {"level": 2}, False),
        ("include { min_level: 1 max_level: 3 phase: TEST }", {"level": 2}, True),
        ("include { stage: 'a' }", {}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),
        ("include { stage: 'a' stage: 'b' }", {"stages": ["b", "a"]}, True),
        ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
        ("include { not_stage: 'a' }", {"stages": ["b"]}, True),
        ("exclude { stage: 'a' }", {"stages": ["a"]}, False),
    ],
)
def test_rules_filter_layers_as_caffe_does(rules, state, kept):
    assert ("it" in names(DATA + silence("it", rules), **state)) is kept


def test_the_state_written_in_the_net_counts():
    text = "state { level: 2 stage: 'deploy' }\n" + DATA + silence("a", "include { min_level: 2 stage: 'deploy' }")
    assert names(text) == ["data", "a"]


def test_both_kinds_of_rules_are_refused():
    with pytest.raises(RootgenError, match=r"<text>:2: layer 'it': has both include and exclude rules"):
        names(DATA + silence("it", "include { phase: TEST } exclude { phase: TRAIN }"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONV, "bottom 'data' is the top of no layer"),
        (DATA + CONV.replace("'data'", "'dato'"), r"bottom 'dato' is the top of no layer \(did you mean 'data'\?\)"),
        (CONV + DATA, "bottom 'data' is made further down, by layer 'data'"),
        (DATA + CONV + CONV, "layer 'conv': top 'conv' is made by layer 'conv' too"),
        (DATA + "layer { name: 's' type: 'Slice' bottom: 'data' top: 'x' top: 'x' }", "top 'x' is made twice"),
        (DATA + CONV.replace("Convolution", "Convolutoin"), r"no layer type 'Convolutoin' in Caffe .*'Convolution'"),
        (DATA + CONV.replace("type: 'Convolution'", ""), "layer 'conv': has no type"),
        (DATA + CONV.replace("top: 'conv'", ""), "has 0 top, but Convolution takes 1 or more"),
        (DATA + CONV.replace("bottom: 'data'", ""), "has 0 bottom, but Convolution takes 1 or more"),
        (DATA + CONV.replace("top: 'conv'", "top: 'a' top: 'b'"), "has 1 bottom and 2 top"),
        (
            DATA + RELU.replace("'conv'", "'data'").replace("type", "loss_weight: [1, 2] type"),
            "has 2 loss_weight and 1 top",
        ),
        (
            DATA + "layer { name: 'l' type: 'SoftmaxWithLoss' bottom: 'data' bottom: 'data' top: 'x' top: 'y' }",
            "has 0 loss_weight and 2 top .one for each",
        ),
        ("", "has no layers"),
        ("name: 'x'", "has no layers"),
        ("base_lr: 0.1", r"a solver's prototxt, not a net's .pass the net's prototxt"),
        ("name: 'x' base_lr: 0.1", r"NetParameter has no field 'base_lr'"),
        (silence("it", "include { phase: TRAIN }"), "none of its 1 layers is in phase TEST"),
        (
            DATA.replace("input_param", "include { phase: TRAIN } input_param") + CONV,
            "bottom 'data' comes from layer 'data', which its rules leave out here",
        ),
    ],
)
def test_faults_are_named_with_their_place(text, message):
    with pytest.raises(RootgenError, match=message):
        net.parse(text)


def test_cycles_are_named():
    a = "layer { name: 'a' type: 'Eltwise' bottom: 'data' bottom: 'y' top: 'x' }\n"
    b = "layer { name: 'b' type: 'ReLU' bottom: 'x' top: 'y' }\n"
    with pytest.raises(RootgenError, match=r"<text>:2: layer 'a': bottom 'y' comes from layer 'b'.*a cycle"):
        net.parse(DATA + a + b)
    with pytest.raises(RootgenError, match=": a cycle"):
        net.parse(DATA + "layer { name: 'me' type: 'ReLU' bottom: 'me' top: 'me' }")


def test_in_place_needs_the_blob_for_itself():
    before = DATA + CONV + silence("early", "").replace("'data'", "'conv'")
    with pytest.raises(RootgenError, match="layer 'relu': works in place on blob 'conv', which layer 'early' reads"):
        net.parse(before + RELU)
    after = DATA + CONV + RELU + silence("a", "").replace("'data'", "'conv'")
    assert names(after + silence("b", "").replace("'data'", "'conv'")) == ["data", "conv", "relu", "a", "b"]


def test_unknown_types_pass_where_allowed():
    text = DATA + "layer { name: 'p' type: 'Riddle' bottom: 'data' top: 'p' }"
    assert net.parse(text, allow_unknown=True).layers[1].type == "Riddle"


V1 = """
name: 'old'
layers { name: 'd' type: DATA top: 'data' top: 'label' include: { phase: TRAIN }
         data_param { source: 'x' batch_size: 2 crop_size: 5 mirror: true scale: 0.5 mean_file: 'm' } }
layers { name: 'c' type: CONVOLUTION bottom: 'data' top: 'c' blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         param: 'w' param: 'b' blob_share_mode: PERMISSIVE convolution_param { num_output: 3 kernel_size: 3 } }
layers { name: 'loss' type: SOFTMAX_LOSS bottom: 'c' bottom: 'label' top: 'loss' loss_weight: 0.3 }
"""


def test_v1_layers_are_upgraded():
    data, conv, loss = net.parse(V1, "TRAIN").layers
    assert (data.type, conv.type, loss.type) == ("Data", "Convolution", "SoftmaxWithLoss")
    assert conv.where == "<text>:5: layer 'c'"
    transform = data.param.transform_param
    assert (transform.crop_size, transform.mirror, transform.scale, transform.mean_file) == (5, True, 0.5, "m")
    assert not data.param.data_param.HasField("crop_size")
    assert data.param.data_param.batch_size == 2
    weight, bias = conv.param.param
    assert (weight.name, weight.lr_mult, weight.decay_mult, weight.share_mode) == ("w", 1, 1, 1)
    assert (bias.name, bias.lr_mult, bias.decay_mult) == ("b", 2, 0)
    assert conv.param.convolution_param.num_output == 3
    assert list(loss.param.loss_weight) == [pytest.approx(0.3)]


def test_every_v1_type_has_a_name_of_today():
    enum = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type
    values = [value for value in enum.values if value.name != "NONE"]
    assert len(values) == 39
    for value in values:
        param = schema.NetParameter()
        param.layers.add(name="x", type=value.number)
        upgraded = net.upgraded(param, "x").layer[0]
        assert upgraded.type in TYPES
        assert upgraded.type.lower().replace("withloss", "loss") == value.name.lower().replace("_", "")


V0 = """name: 'v' input: 'x' input_dim: 2 input_dim: 4 input_dim: 9 input_dim: 9
layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'p' }
layers { layer { name: 'c' type: 'conv' num_output: 8 kernelsize: 3 stride: 2 group: 2 biasterm: false
  weight_filler { type: 'xavier' } blobs_lr: 3 weight_decay: 4 } bottom: 'p' top: 'c' }
layers { layer { name: 'r' type: 'relu' scale: 2 } bottom: 'c' top: 'c' }
layers { layer { name: 'q' type: 'padding' pad: 1 } bottom: 'c' top: 'q' }
layers { layer { name: 'm' type: 'pool' kernelsize: 3 stride: 2 pool: AVE } bottom: 'q' top: 'm' }
layers { layer { name: 'n' type: 'lrn' local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } bottom: 'm' top: 'n' }
layers { layer { name: 'd' type: 'dropout' dropout_ratio: 0.3 } bottom: 'n' top: 'n' }
layers { layer { name: 'k' type: 'concat' concat_dim: 1 } bottom: 'n' bottom: 'n' top: 'k' }
layers { layer { name: 'f' type: 'innerproduct' num_output: 4 blobs_lr: 1 blobs_lr: 2 } bottom: 'k' top: 'f' }
layers { layer { name: 's' type: 'softmax' num_output: 3 } bottom: 'f' top: 's' }
"""


def test_v0_nets_are_upgraded_and_their_padding_folded(caplog):
    graph = infer(net.parse(V0))
    assert [layer.name for layer in graph.layers] == ["input", "c", "r", "m", "n", "d", "k", "f", "s"]
    conv, pool = graph.layers[1], graph.layers[3]
    assert (conv.type, conv.bottoms, conv.index) == ("Convolution", ("x",), 1)
    assert conv.where == "<text>:3: layer 'c'"
    assert conv.param.convolution_param.group == 2
    assert not conv.param.convolution_param.bias_term
    assert (conv.param.param[0].lr_mult, conv.param.param[0].decay_mult) == (3, 4)
    assert (pool.bottoms, pool.param.pooling_param.pad, pool.param.pooling_param.pool) == (("c",), 1, 1)
    assert graph.layers[4].param.lrn_param.beta == 0.5
    assert graph.layers[2].param.transform_param.scale == 2
    assert graph.blobs["c"] == (2, 8, 6, 6)
    assert "left out, not being of their type: num_output of 's' (softmax)" in caplog.text


@pytest.mark.caffe
def test_v0_nets_have_the_shapes_that_caffe_gives_them(tmp_path):
    (tmp_path / "v0.prototxt").write_text(V0)
    script = (
        f"import caffe, json; n = caffe.Net({str(tmp_path / 'v0.prototxt')!r}, caffe.TEST);"
        "print(json.dumps([{k: list(b.data.shape) for k, b in n.blobs.items()},"
        "{k: [list(b.data.shape) for b in v] for k, v in n.params.items()}]))"
    )
    env = {**os.environ, "GLOG_minloglevel": "2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    blobs, params = json.loads(done.stdout)
    graph = infer(net.parse(V0))
    assert {name: list(shape) for name, shape in graph.blobs.items()} == {
        name: shape for name, shape in blobs.items() if "split" not in name
    }
    assert {
        layer.name: [list(p) for p in layer.shapes.params] for layer in graph.layers if layer.shapes.params
    } == params


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "layers { layer { name: 'r' type: 'relu' } bottom: 'p' top: 'r' }",
            "'r': reads the padding layer 'p', but is",
        ),
        (
            "layers { layer { name: 'r' type: 'relux' } bottom: 'x' top: 'r' }",
            "no V0 layer type 'relux' .* .did you mean",
        ),
        ("layers { layer { name: 'r' type: 'relu' } bottom: 'y' top: 'r' }", "bottom 'y' is the top of no layer above"),
        ("layers { layer { name: 'r' type: 'conv' } bottom: 'p' bottom: 'x' top: 'r' }", "take one bottom and one top"),
    ],
)
def test_v0_nets_that_caffe_cannot_upgrade(layers, message):
    padding = "layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'p' }\n"
    with pytest.raises(RootgenError, match=message):
        net.parse(f"input: 'x' input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4\n{padding}{layers}")


def test_layers_of_both_kinds_are_refused():
    with pytest.raises(RootgenError, match="has 1 old 'layers' and 1 new 'layer'"):
        net.parse(DATA + "layers { name: 'r' type: RELU bottom: 'data' top: 'r' }")


def test_an_input_without_a_shape_beside_its_layer_is_left_out():
    (first, _) = net.parse("input: 'data' input: 'unread'\n" + DATA + CONV).layers
    assert first.name != "input"
    assert net.parse("input: 'data'\n" + CONV).layers[0].type == "Input"  # for --input to fill


def test_bytes_of_any_encoding_may_stand_in_strings_and_comments(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes(b"# \xd5\xe2\n" + (DATA + CONV).replace("'conv'", "'\xd5'").encode("latin-1"))
    assert net.read(path).layers[-1].name == r"\xd5"


def test_a_solver_given_as_a_net_says_so(tmp_path):
    with pytest.raises(RootgenError, match=r"a solver's prototxt, not a net's .pass its net, 'a.prototxt'"):
        net.parse("net: 'a.prototxt' base_lr: 0.1 max_iter: 3")


@pytest.mark.parametrize(
    "shape",
    ["input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9", "input_shape { dim: 1 dim: 3 dim: 8 dim: 9 }"],
)
def test_input_fields_become_an_input_layer(shape):
    layers = net.parse(f"name: 'n'\ninput: 'data' {shape}\n" + CONV).layers
    assert [layer.type for layer in layers] == ["Input", "Convolution"]
    assert layers[0].tops == ("data",)
    assert list(layers[0].param.input_param.shape[0].dim) == [1, 3, 8, 9]
    assert layers[1].where == "<text>:3: layer 'conv'"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("input_dim: 1 input_dim: 3", "has 1 input and 2 input_dim"),
        ("input: 'z' input_shape { }", "has 2 input and 1 input_shape"),
    ],
)
def test_bad_input_fields_are_refused(shape, message):
    with pytest.raises(RootgenError, match=message):
        net.parse(f"input: 'data' {shape}\n" + CONV)


def test_three_params_of_batch_norm_are_frozen():
    text = DATA + (
        "layer { name: 'bn' type: 'BatchNorm' bottom: 'data' top: 'bn'"
        " param { lr_mult: 1 } param { lr_mult: 1 } param { name: 's' } }"
    )
    specs = net.parse(text).layers[1].param.param
    assert [(spec.lr_mult, spec.decay_mult) for spec in specs] == [(0, 0)] * 3
    assert specs[2].name == "s"


def test_reading_leaves_the_message_as_it_was():
    param = prototxt.parse(V1, schema.NetParameter)
    before = param.SerializeToString()
    net.from_param(param, "TRAIN")
    assert param.SerializeToString() == before


def test_a_caffemodel_keeps_the_layers_of_its_own_phase(tmp_path):
    path = tmp_path / "old.caffemodel"
    path.write_bytes(prototxt.parse(V1, schema.NetParameter).SerializeToString())
    graph = net.read(path)
    assert graph.phase == "TRAIN"
    assert len(graph.layers) == 3
    assert graph.layers[0].where == f"{path}: layer 'd'"


def test_names_that_are_no_utf8_are_shown_with_escapes(tmp_path):
    text = (DATA + CONV).replace("'data'", "'daXta'")
    path = tmp_path / "x.caffemodel"
    path.write_bytes(prototxt.parse(text, schema.NetParameter).SerializeToString().replace(b"daXta", b"da\xffta"))
    assert net.read(path).layers[1].bottoms == (r"da\xffta",)


def test_the_kind_of_file_is_told_by_name_or_content(tmp_path):
    param = prototxt.parse(DATA, schema.NetParameter)
    named, text = tmp_path / "net_iter_10", tmp_path / "net"
    named.write_bytes(param.SerializeToString())
    text.write_text(DATA)
    assert len(net.read(named).layers) == len(net.read(text).layers) == 1
    with pytest.raises(RootgenError, match=r"weights\.h5: an HDF5 file holds weights"):
        net.read(tmp_path / "weights.h5")
    with pytest.raises(RootgenError, match="cannot read: No such file"):
        net.read(tmp_path / "absent.prototxt")
    with pytest.raises(RootgenError, match="cannot read: No such file"):
        net.read(tmp_path / "absent")
