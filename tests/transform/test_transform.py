"""Groups for any net: our own rows from our plain nets, the smallest change of the text, stages, mixing, refusals."""

from __future__ import annotations

import difflib
import io
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rootgen import paths
from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.grouping import Plan
from rootgen.net import cost, shapes
from rootgen.net import read as net
from rootgen.transform import transform

GALLERY = paths.resource("prototxt")
ROWS = [
    (folder.parent.name, folder.name, phase)
    for folder in sorted(GALLERY.glob("*/root-*"))
    for phase in ("deploy", "train_val")
]


def root(n: int) -> Plan:
    return Plan("root", n)


def by_hand(**groups: int) -> Plan:
    return Plan(by_hand=tuple(groups.items()))


def groups_of(text: str) -> dict[str, int]:
    return {
        layer.name: layer.param.convolution_param.group
        for layer in net.parse(text, allow_unknown=True).layers
        if layer.type == "Convolution"
    }


def added_and_removed(old: str, new: str) -> tuple[list[str], list[str]]:
    changes = list(difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True)))
    return [line[2:] for line in changes if line[0] == "+"], [line[2:] for line in changes if line[0] == "-"]


@pytest.mark.parametrize(("arch", "row", "phase"), ROWS, ids=["-".join(row) for row in ROWS])
def test_our_rows_come_from_our_plain_nets(arch, row, phase):
    plain = (GALLERY / arch / "orig" / f"{phase}.prototxt").read_text()
    emitted = (GALLERY / arch / row / f"{phase}.prototxt").read_text()
    found = transform.transform(plain, root(int(row.removeprefix("root-"))))
    comment_and_name = 2
    assert found.text.split("\n")[comment_and_name:] == emitted.split("\n")[comment_and_name:]
    graph = net.parse(emitted)
    direct = cost.count(shapes.infer(graph))
    assert (found.after.params, found.after.macs) == (direct.params, direct.macs)
    assert not [warning for warning in found.warnings if "1x1" in warning]


@pytest.mark.parametrize("arch", ["nin", "resnet50", "resnet200", "googlenet"])
def test_root_1_is_the_plain_net(arch):
    text = (GALLERY / arch / "orig" / "train_val.prototxt").read_text()
    found = transform.transform(text, root(1))
    assert found.text == text
    assert found.before == found.after


def test_grouping_again_replaces_the_groups():
    plain, text = ((GALLERY / "nin" / row / "deploy.prototxt").read_text() for row in ("orig", "root-4"))
    again = transform.transform(text, root(16)).text
    assert groups_of(again) == groups_of(transform.transform(plain, root(16)).text)
    added, removed = added_and_removed(text, again)
    assert (added, removed) == (["    group: 16\n", "    group: 8\n"], ["    group: 4\n", "    group: 2\n"])


def test_losing_groups_is_warned_of():
    text = (GALLERY / "resnet50" / "root-32" / "deploy.prototxt").read_text()
    warnings = transform.transform(text, root(8)).warnings
    assert len(warnings) == 1
    assert "layer 'res2a_branch2b': had 32 groups and gets 8, so that it grows; so do 15 more" in warnings[0]


def chain(*layers: str, channels: int = 16, size: int = 16) -> str:
    """A net of layers in a row, each `kind fields` or, for a convolution, its fields alone."""
    text = f"layer {{ name: 'd' type: 'Input' top: 'd' input_param {{ shape {{ dim: 1 dim: {channels} dim: {size} "
    text += f"dim: {size} }} }} }}\n"
    bottom = "d"
    for i, body in enumerate(layers):
        kind = body if body.startswith("type") else f"type: 'Convolution' convolution_param {{ {body} }}"
        text += f"layer {{ name: 'l{i}' bottom: '{bottom}' top: 'l{i}' {kind} }}\n"
        bottom = f"l{i}"
    return text


IMAGE = "num_output: 16 kernel_size: 3 pad: 1"
SPATIAL = "num_output: 16 kernel_size: 3 pad: 1"
HALVING = "num_output: 16 kernel_size: 3 pad: 1 stride: 2"
POINT = "num_output: 16 kernel_size: 1"


@pytest.mark.parametrize(
    ("layers", "stage_by", "groups"),
    [
        ([IMAGE, SPATIAL, POINT, SPATIAL, POINT], "resolution", [1, 8, 1, 8, 1]),
        ([IMAGE, SPATIAL, POINT, SPATIAL, POINT], "block", [1, 8, 1, 4, 1]),
        ([IMAGE, HALVING, POINT, HALVING, POINT], "resolution", [1, 8, 1, 4, 1]),
        ([IMAGE, POINT, SPATIAL, HALVING], "resolution", [1, 1, 8, 4]),
        ([IMAGE, *[SPATIAL] * 5], "block", [1, 8, 4, 2, 1, 1]),
        (["type: 'ReLU'", IMAGE, "type: 'Pooling' pooling_param { kernel_size: 2 stride: 2 }", SPATIAL], "resolution",
         [1, 8]),
    ],
)  # fmt: skip
def test_stages(layers, stage_by, groups):
    found = transform.transform(chain(*layers), root(8), options=transform.TransformOptions(stage_by))
    assert list(groups_of(found.text).values()) == groups


def test_parallel_convolutions_share_a_stage_and_depth_counts_along_the_data():
    text = chain(IMAGE, HALVING)
    text += "layer { name: 'a' bottom: 'l1' top: 'a' type: 'Convolution' convolution_param { " + SPATIAL + " } }\n"
    text += "layer { name: 'b' bottom: 'l1' top: 'b' type: 'Convolution' convolution_param { " + HALVING + " } }\n"
    text += (
        "layer { name: 'up' bottom: 'b' top: 'up' type: 'Deconvolution' "
        "convolution_param { num_output: 16 kernel_size: 2 stride: 2 } }\n"
        "layer { name: 'sum' bottom: 'a' bottom: 'up' top: 'sum' type: 'Eltwise' }\n"
        "layer { name: 'c' bottom: 'sum' top: 'c' type: 'Convolution' convolution_param { " + SPATIAL + " } }\n"
    )
    groups = groups_of(transform.transform(text, root(16)).text)
    # c works at a's resolution again, but deeper than b: groups do not rise with depth.
    assert groups == {"l0": 1, "l1": 16, "a": 16, "b": 8, "c": 4}


def test_column_tree_and_by_hand():
    text = chain(IMAGE, SPATIAL, POINT, HALVING, POINT)
    assert list(groups_of(transform.transform(text, Plan("column", 4)).text).values()) == [1, 4, 1, 4, 1]
    assert list(groups_of(transform.transform(text, Plan("tree", 4)).text).values()) == [1, 4, 1, 8, 1]
    hand = by_hand(l0=2, l2=4)
    assert list(groups_of(transform.transform(text, hand).text).values()) == [2, 1, 4, 1, 1]
    both = Plan("root", 8, (("l3", 16),))
    assert list(groups_of(transform.transform(text, both).text).values()) == [1, 8, 1, 16, 1]


def test_what_is_kept_is_told():
    text = chain(IMAGE, "num_output: 12 kernel_size: 3", POINT, "num_output: 16 kernel_size: 3 group: 16", POINT)
    found = transform.transform(text + chain_tail(), Plan("column", 8))
    kept = {change.layer.name: change.kept for change in found.changes}
    assert kept == {
        "l0": "on the image", "l1": "8 groups do not divide its 12 outputs", "l3": "depthwise", "tail": ""
    }  # fmt: skip
    assert groups_of(found.text)["l3"] == 16


def chain_tail() -> str:
    return "layer { name: 'tail' bottom: 'l4' top: 'tail' type: 'Convolution' convolution_param { " + SPATIAL + " } }\n"


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("{ @ }", "{ @ group: 4 }"),
        ("{ @, bias_term: false }", "{ @ group: 4, bias_term: false }"),
        ("{ @ # wide\n }", "{ @ group: 4 # wide\n }"),
        ("{\n\t@\n\tpad: 1\n\tbias_term: false\n}", "{\n\t@\n\tpad: 1\n\tgroup: 4\n\tbias_term: false\n}"),
        ("{\n  @\n  pad: 1 # wide\n}", "{\n  @\n  pad: 1 # wide\n  group: 4\n}"),
        ("{\n  @;\n  pad: 1 ; \n}", "{\n  @;\n  pad: 1 ; \n  group: 4\n}"),
        ("{\r\n  @\r\n  pad: 1\r\n}", "{\r\n  @\r\n  pad: 1\r\n  group: 4\r\n}"),
        ("{\r\n  @\r\n  pad: 1 # a\r\n}", "{\r\n  @\r\n  pad: 1 # a\r\n  group: 4\r\n}"),
        ("{\n bias_term: false\n pad: 1\n @\n}", "{\n bias_term: false\n pad: 1\n @ group: 4\n}"),
        ("{ num_output: 16 kernel_size: [3, 3] }", "{ num_output: 16 group: 4 kernel_size: [3, 3] }"),
        ("< @ >", "< @ group: 4 >"),
        ("{ group: 1 @ }", "{ group: 4 @ }"),
        ("{ @ group # of two\n : 0x2 }", "{ @ group # of two\n : 4 }"),
        ("{ num_output: 16 kernel_h: 3 kernel_w: 1 }", "{ num_output: 16 kernel_h: 3 kernel_w: 1 group: 4 }"),
    ],
)
def test_the_group_goes_where_a_person_would_put_it(param, expected):
    param, expected = (text.replace("@", "num_output: 16 kernel_size: 3") for text in (param, expected))
    before = chain(IMAGE) + "layer { name: 'c' type: 'Convolution' bottom: 'l0' top: 'c' convolution_param "
    after = " } # the end\n# and a last comment, with no line end"
    assert transform.transform(before + param + after, root(4)).text == before + expected + after


def test_old_nets_are_changed_in_their_own_form():
    text = """name: "old" # of 2014
input: 'data'
input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8
layers { name: 'c1' type: CONVOLUTION bottom: 'data' top: 'c1' convolution_param { num_output: 4 kernel_size: 3 } }
layers {
  name: 'c2'
  type: CONVOLUTION
  bottom: 'c1'
  top: 'c2'
  blobs_lr: 1
  blobs_lr: 2
  weight_decay: 1
  weight_decay: 0
  convolution_param {
    num_output: 4
    kernel_size: 3
  }
}
layers { name: 'c3' type: CONVOLUTION bottom: 'c2' top: 'c3' convolution_param { num_output: 4 kernel_size: 3 } }
"""
    grouped = text.replace(
        "    kernel_size: 3\n", "    kernel_size: 3\n    group: 2\n"
    )  # the last one is a stage deeper
    assert transform.transform(text, root(2)).text == grouped
    found = transform.transform(text, root(2), options=transform.TransformOptions(insert_1x1=True))
    layers = net.parse(found.text).layers
    assert [layer.name for layer in layers] == ["input", "c1", "c2", "c2_grouped_relu", "c2_1x1", "c3"]
    mixing = layers[4].param
    assert [(spec.lr_mult, spec.decay_mult) for spec in mixing.param] == [(1, 1), (2, 0)]


def test_a_missing_1x1_is_warned_of_or_put_in():
    text = chain(IMAGE, SPATIAL, "type: 'BatchNorm'", "type: 'Pooling' pooling_param { kernel_size: 2 stride: 2 }",
                 SPATIAL, POINT, SPATIAL)  # fmt: skip
    found = transform.transform(text, Plan("column", 4))
    warned = [warning for warning in found.warnings if "1x1" in warning]
    assert len(warned) == 2
    assert warned[0].startswith("<text>:3: layer 'l1': no 1x1 convolution mixes its 4 groups before l4 (--insert-1x1")
    assert "layer 'l6': no 1x1 convolution mixes its 4 groups before the output" in warned[1]

    found = transform.transform(text, Plan("column", 4), options=transform.TransformOptions(insert_1x1=True))
    assert not [warning for warning in found.warnings if "1x1" in warning]
    graph = net.parse(found.text)
    wires = {layer.name: (layer.bottoms, layer.tops) for layer in graph.layers}
    assert wires["l1"] == (("l0",), ("l1_grouped",))
    assert wires["l1_grouped_relu"] == (("l1_grouped",), ("l1_grouped",))
    assert wires["l1_1x1"] == (("l1_grouped",), ("l1",))
    assert wires["l2"] == (("l1",), ("l2",))
    again = transform.transform(found.text, Plan("column", 4), options=transform.TransformOptions(insert_1x1=True))
    assert again.text == found.text


def test_an_inserted_layer_follows_the_rules_of_its_phase_and_shares_as_it_did():
    text = chain(IMAGE) + (
        "layer {\n  name: 'c'\n  type: 'Convolution'\n  bottom: 'l0'\n  top: 'c'\n"
        "  include {\n    phase: TRAIN # only\n  }\n  param { name: 'w' lr_mult: 0.5 }\n"
        "  convolution_param { num_output: 16 kernel_size: 3 bias_term: false }\n}\n"
    )
    found = transform.transform(text, root(4), options=transform.TransformOptions(insert_1x1=True))
    assert [layer.name for layer in net.parse(found.text, "TRAIN").layers][-2:] == ["c_grouped_relu", "c_1x1"]
    assert net.parse(found.text, "TRAIN").layers[-1].param.param[0].name == "w_1x1"
    assert [layer.name for layer in net.parse(found.text, "TEST").layers][-1] == "l0"


def test_no_1x1_where_its_blob_is_taken():
    text = chain(IMAGE, SPATIAL, SPATIAL).replace("'l2'", "'l1_grouped'")
    found = transform.transform(text, root(4), options=transform.TransformOptions(insert_1x1=True))
    assert any("none put in: there is a blob 'l1_grouped' already" in warning for warning in found.warnings)


@pytest.mark.parametrize("name", ["l1_1x1", "l1_grouped_relu"])
def test_no_1x1_where_a_name_of_its_layers_is_taken(name):
    text = chain(IMAGE, SPATIAL, SPATIAL).replace("name: 'l2'", f"name: '{name}'")
    found = transform.transform(text, root(4), options=transform.TransformOptions(insert_1x1=True))
    assert any(f"none put in: there is a layer '{name}' already" in warning for warning in found.warnings)
    names = [layer.name for layer in net.parse(found.text).layers]
    assert sorted(set(names)) == sorted(names)


def test_no_1x1_that_would_share_the_blobs_of_another_layer():
    text = chain(IMAGE, SPATIAL, SPATIAL)
    for layer, shared in (("l1", "w"), ("l2", "w_1x1")):
        text = text.replace(f"name: '{layer}'", f"name: '{layer}' param {{ name: '{shared}' }}")
    found = transform.transform(text, Plan(by_hand=(("l1", 4),)), options=transform.TransformOptions(insert_1x1=True))
    assert any("none put in: there is a param 'w_1x1' already" in warning for warning in found.warnings)


def test_residual_paths_need_mixing_too():
    text = chain(IMAGE, SPATIAL) + (
        "layer { name: 's' type: 'Eltwise' bottom: 'l0' bottom: 'l1' top: 's' }\n"
        "layer { name: 'p' type: 'Convolution' bottom: 's' top: 'p' convolution_param { " + POINT + " } }\n"
        "layer { name: 'q' type: 'Convolution' bottom: 's' top: 'q' convolution_param { " + SPATIAL + " } }\n"
        "layer { name: 'e' type: 'InnerProduct' bottom: 'q' top: 'e' inner_product_param { num_output: 2 } }\n"
    )
    warned = [warning for warning in transform.transform(text, root(4)).warnings if "1x1" in warning]
    assert len(warned) == 1
    assert "layer 'l1': no 1x1 convolution mixes its 4 groups before q" in warned[0]


def test_layers_of_one_phase_alone_are_changed_too():
    text = chain(IMAGE) + (
        "layer { name: 'aux' type: 'Convolution' bottom: 'l0' top: 'aux' include { phase: TRAIN } "
        "convolution_param { num_output: 16 kernel_size: 3 } }\n"
    )
    assert "kernel_size: 3 group: 4 } }" in transform.transform(text, root(4)).text


def test_a_net_that_is_whole_in_one_phase_only():
    text = chain(IMAGE, SPATIAL).replace("type: 'Input'", "include { phase: TRAIN } type: 'Input'")
    found = transform.transform(text, root(4))
    assert found.before.phase == "TRAIN"
    assert any(
        "which its rules leave out here" in note and "phase TEST not looked at" in note for note in found.warnings
    )


def test_fields_of_forks_are_passed_over_on_request(caplog):
    text = chain(IMAGE, "type: 'Pooling' pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }", SPATIAL)
    with pytest.raises(
        RootgenError, match=r"PoolingParameter has no field 'ceil_mode' in Caffe 1.0 \(--lenient passes over it\)"
    ):
        transform.transform(text, root(4))
    found = transform.transform(text, root(4), options=transform.TransformOptions(lenient=True))
    assert found.text.replace(" group: 4", "") == text
    assert found.changes[-1].output == (1, 16, 7, 7)
    other = text.replace("ceil_mode: false", "ceil_mode: true fancy: 3")
    assert transform.transform(other, root(4), options=transform.TransformOptions(lenient=True)).changes[-1].output[
        2:
    ] == (8, 8)
    assert "<text>:3:1: what Caffe 1.0 does not have is not read: fancy" in caplog.text


def test_what_lies_behind_an_unknown_layer_is_grouped_only_if_told_or_partly():
    text = chain(IMAGE, SPATIAL, POINT) + (
        "layer { name: 'p' type: 'Riddle' bottom: 'l2' top: 'p' riddle_param { order: 0 order: 2 } }\n"
        "layer { name: 'c' type: 'Convolution' bottom: 'p' top: 'c' convolution_param { " + SPATIAL + " } }\n"
    )
    with pytest.raises(RootgenError, match=r"stops at layer 'p' \(Riddle\).*'c' would get no groups.*--partial"):
        transform.transform(text, root(4))
    partial = transform.TransformOptions(partial=True)
    found = transform.transform(text, root(4), options=partial)
    l1 = f"top: 'l1' type: 'Convolution' convolution_param {{ {SPATIAL}"
    assert found.text == text.replace(l1, f"{l1} group: 4")
    assert not found.before.complete
    assert any("shapes not known of 2 layers: 'p' (Riddle), 'c' (Convolution)" in note for note in found.warnings)
    given = transform.TransformOptions(given={"p": (1, 16, 16, 16)})
    assert groups_of(transform.transform(text, root(4), options=given).text)["c"] == 4
    with pytest.raises(RootgenError, match="layer 'c': cannot take groups: its shapes are not known"):
        transform.transform(text, by_hand(c=2), options=partial)


DEPTHWISE = "type: 'DepthwiseConvolution' convolution_param { num_output: 16 kernel_size: 3 pad: 1 stride: 2 }"


def test_groups_go_on_behind_layers_of_other_caffes():
    text = chain(IMAGE, SPATIAL, "type: 'ReLU6'", DEPTHWISE, "type: 'ShuffleChannel'", SPATIAL, POINT)
    found = transform.transform(text, root(4))
    assert groups_of(found.text) == {"l0": 1, "l1": 4, "l5": 2, "l6": 1}
    assert {change.layer.name: (change.before, change.kept) for change in found.changes}["l3"] == (16, "depthwise")
    with pytest.raises(RootgenError, match="layer 'l3': cannot take 4 groups: a DepthwiseConvolution has one per"):
        transform.transform(text, by_hand(l3=4))


@pytest.mark.parametrize(
    ("text", "plan", "message"),
    [
        (
            chain(IMAGE, SPATIAL),
            root(3),
            "root-3 fits none of its .*'l1': 3 groups do not divide its 16 input channels",
        ),
        (chain(IMAGE, POINT), root(2), "has no spatial convolution to give groups to"),
        (chain("type: 'ReLU'"), root(2), "has no spatial convolution to give groups to"),
        (chain(IMAGE, SPATIAL), by_hand(l3=2), r"no convolution 'l3' to give groups to \(known: l0, l1\)"),
        (chain(IMAGE, SPATIAL), by_hand(l1=5), "<text>:3: layer 'l1': 5 groups do not divide its 16 input channels"),
        ("layer { name: 'x'", root(2), "no closing '}'"),
        (chain("num_output: 3 kernel_size: 0"), root(2), "kernel_size is 0"),
    ],
)
def test_what_cannot_be_is_refused(text, plan, message):
    with pytest.raises(RootgenError, match=message):
        transform.transform(text, plan)


def test_no_such_stages():
    with pytest.raises(RootgenError, match=r"no stages by 'blocks' \(did you mean 'block'\?\)"):
        transform.transform(chain(IMAGE), root(2), options=transform.TransformOptions("blocks"))


BODIES = st.sampled_from([SPATIAL, HALVING, POINT, "type: 'ReLU'", "type: 'BatchNorm'", SPATIAL + " group: 2",
                          "num_output: 12 kernel_size: 3 pad: 1"])  # fmt: skip


@given(st.lists(BODIES, min_size=1, max_size=8), st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from(transform.STAGE_BY))
def test_groups_never_increase_with_depth_in_root_plans(layers, n, stage_by):
    text = chain(IMAGE, *layers, size=64)
    try:
        found = transform.transform(text, root(n), options=transform.TransformOptions(stage_by))
    except RootgenError:
        assume(False)
    followed = [change.after for change in found.changes if not change.kept]
    assert followed == sorted(followed, reverse=True)
    for change in found.changes:
        assert groups_of(found.text)[change.layer.name] == change.after
    added, removed = added_and_removed(text, found.text)
    assert len(added) == len(removed) == sum(change.before != change.after for change in found.changes)
    graph = net.parse(found.text)
    assert cost.count(shapes.infer(graph)) == found.after
    if n == 1 and "group" not in text:
        assert found.text == text


NIN = GALLERY / "nin" / "orig" / "deploy.prototxt"


def test_the_command_writes_the_net_alone_to_stdout(capsys):
    assert main(["transform", str(NIN), "--root", "4"]) == 0
    shown = capsys.readouterr()
    assert groups_of(shown.out)["conv2a"] == 4
    assert "455,498" in shown.err
    assert "-52.9%" in shown.err


def test_the_command_reads_stdin_and_writes_a_file_over_its_source(tmp_path, monkeypatch, capsys):
    path = tmp_path / "n.prototxt"
    path.write_bytes(NIN.read_bytes())
    assert main(["transform", str(path), "--root", "4", "-o", str(path)]) == 0
    assert groups_of(path.read_text())["conv2a"] == 4
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NIN.read_bytes())))
    assert main(["transform", "-", "--root", "4"]) == 0
    assert capsys.readouterr().out == path.read_text()


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out.prototxt"
    assert main(["transform", str(NIN), "--root", "4", "--dry-run", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "1 -> 4" in shown
    assert "kept: on the image" in shown
    assert "-44.5%" in shown
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([str(NIN), "--root", "11"], "root-11 fits none of its spatial convolutions"),
        ([str(NIN), "--root", "0"], "root 0: the number of groups is a whole number from 1"),
        (["x.caffemodel", "--root", "2"], "a caffemodel has no text to change"),
        (["absent.prototxt", "--root", "2"], "cannot read: No such file"),
        ([str(NIN), "--root", "4", "-o", "/dev/full"], "cannot write: No space left on device"),
    ],
)
def test_the_command_refuses_in_one_line(words, message, capsys):
    assert main(["transform", *words]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err.splitlines()[-1]


def test_no_groups_at_all_is_wrong_usage(capsys):
    assert main(["transform", str(NIN)]) == 2
    hint = "--root N, --column N, --tree N, --group LAYER=N or --basis SHAPES"
    assert capsys.readouterr().err == f"rootgen transform: no groups asked for ({hint})\n"


@pytest.mark.parametrize("folder", ["bvlc_alexnet", "bvlc_reference_caffenet", "bvlc_googlenet"])
@pytest.mark.parametrize("file", ["deploy.prototxt", "train_val.prototxt"])
@pytest.mark.parametrize("insert", [False, True])
def test_the_model_zoo(folder, file, insert, caffe_tree):
    path = caffe_tree / "models" / folder / file
    if not path.is_file():
        pytest.skip("this Caffe tree has no models")
    text = path.read_bytes().decode()
    found = transform.transform(text, root(4), path, transform.TransformOptions(insert_1x1=insert))
    assert found.after.params != found.before.params
    for change in found.changes:
        assert groups_of(found.text)[change.layer.name] == change.after
    if not insert:
        added, removed = added_and_removed(text, found.text)
        assert added
        assert all(line.strip().startswith("group:") for line in added + removed)


OLDEST = b"""input: "x" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8 # \xd5\xe2
layers { layer { name: "a" type: "conv" num_output: 4 kernelsize: 3 } bottom: "x" top: "a" }
layers { layer { name: "p" type: "padding" pad: 1 } bottom: "a" top: "p" }
layers { layer { name: "b" type: "conv" num_output: 4 kernelsize: 3 # \xff
  blobs_lr: 1 blobs_lr: 2 } bottom: "p" top: "\xd5" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 } bottom: "\xd5" top: "c" }
"""
LISTED = b"""input: "x" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8
layer: [ { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 4 kernel_size: 3 } },
  { name: "b" type: "Convolution" bottom: "a" top: "\xd5" include: [ { phase: TEST } ]
    convolution_param { num_output: 4 kernel_size: 3 } }, # two
  { name: "c" type: "Convolution" bottom: "\xd5" top: "c" convolution_param { num_output: 4 kernel_size: 3 }
    include { phase: TEST } } ]
"""


@pytest.mark.parametrize("content", [OLDEST, LISTED], ids=["V0", "list"])
@pytest.mark.parametrize("mixing", [False, True])
def test_old_and_odd_forms_keep_their_bytes(content, mixing, tmp_path, capfdbinary):
    (tmp_path / "n.prototxt").write_bytes(content)
    words = ["transform", str(tmp_path / "n.prototxt"), "--root", "2", "-o", str(tmp_path / "o.prototxt")]
    assert main([*words, *(["--insert-1x1"] if mixing else [])]) == 0
    new = (tmp_path / "o.prototxt").read_bytes()
    lines = new.splitlines()
    changed = [line for line in content.splitlines() if line not in lines]
    assert len(changed) == (2 if mixing else 1)
    groups = {layer.name: layer.param.convolution_param.group for layer in net.read(tmp_path / "o.prototxt").layers}
    assert groups["a"] == 1
    assert groups["b"] == 2
    assert ("b_1x1" in groups) == mixing
    assert shapes.infer(net.read(tmp_path / "o.prototxt")).blobs["c"]


def test_a_depthwise_net_is_not_told_to_choose_another_number():
    text = chain(IMAGE) + (
        "layer { name: 'dw' type: 'Convolution' bottom: 'l0' top: 'dw'"
        " convolution_param { num_output: 16 kernel_size: 3 group: 16 } }"
    )
    with pytest.raises(RootgenError, match=r"fits none of its spatial convolutions: 'dw': depthwise$"):
        transform.transform(text, root(4))
