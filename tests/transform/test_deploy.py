"""The deploy net of a training net: our own, the model zoo's, and what a user may have in theirs."""

import pytest

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.net.load import load_text
from rootgen.net.read import parse
from rootgen.transform.deploy import DeployOptions, deploy

ROWS = [
    (folder.parent.name, folder.name)
    for folder in sorted(paths.resource("prototxt").glob("*/*"))
    if folder.name in ("orig", "root-8", "column-4", "tree-2") and (folder / "deploy.prototxt").is_file()
]
DATA = """\
# the images
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 8 } data_param { source: "none" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 8 } data_param { source: "none" batch_size: 4 backend: LMDB } }
"""
FC = """\
layer {
  name: "fc"  # the scores
  type: "InnerProduct"
  bottom: "data"
  top: "fc"
  inner_product_param { num_output: 5 }
}
"""
ONE = FC.replace("num_output: 5", "num_output: 1")


def loss(kind: str, name: str = "loss", bottom: str = "fc", more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" bottom: "label" top: "{name}" {more} }}\n'


@pytest.mark.parametrize(("arch", "row"), ROWS)
def test_our_training_nets_give_our_deploy_nets(arch, row):
    folder = paths.resource("prototxt") / arch / row
    found = deploy((folder / "train_val.prototxt").read_text("utf-8"))
    ours, wanted = (
        load_text(text, "TEST").layers for text in (found.text, (folder / "deploy.prototxt").read_text("utf-8"))
    )
    assert [layer.param for layer in ours] == [layer.param for layer in wanted]


def test_text_that_stays_is_not_touched():
    accuracy = (
        'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }\n'
    )
    found = deploy(f'name: "a net"  # mine\n{DATA}{FC}{loss("SoftmaxWithLoss")}{accuracy}# the end\n')
    assert found.text == (
        'name: "a net"  # mine\n# the images\n'
        'layer {\n  name: "data"\n  type: "Input"\n  top: "data"\n'
        "  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } }\n}\n"
        f"{FC}"
        'layer {\n  name: "prob"\n  type: "Softmax"\n  bottom: "fc"\n  top: "prob"\n}\n# the end\n'
    )
    assert (found.outputs, found.gone) == (("prob",), ("data", "acc"))


@pytest.mark.parametrize(
    ("text", "last", "outputs"),
    [
        (ONE + loss("SigmoidCrossEntropyLoss"), "Sigmoid", ("prob",)),
        (ONE + loss("EuclideanLoss"), "InnerProduct", ("fc",)),
        (FC + loss("HingeLoss"), "InnerProduct", ("fc",)),
        (FC + loss("SoftmaxWithLoss", more="softmax_param { axis: -1 }"), "Softmax", ("prob",)),
        (
            FC + 'layer { name: "p" type: "Softmax" bottom: "fc" top: "p" }\n' + loss("SoftmaxWithLoss"),
            "Softmax",
            ("p",),
        ),
        (FC + loss("SoftmaxWithLoss", "prob"), "Softmax", ("prob_prob",)),
        (FC, "InnerProduct", ("fc",)),
    ],
)
def test_what_a_loss_stands_for(text, last, outputs):
    found = deploy(DATA + text)
    net = parse(found.text)
    assert (net.layers[-1].type, found.outputs) == (last, outputs)
    assert {layer.type for layer in net.layers} <= {"Input", "InnerProduct", last}


def test_heads_that_weigh_less_go_unless_asked_for():
    side = FC.replace('"fc"', '"side"') + loss("SoftmaxWithLoss", "side_loss", "side", "loss_weight: 0.3")
    text = DATA + side + FC + loss("SoftmaxWithLoss")
    assert deploy(text).outputs == ("prob",)
    assert "side" in deploy(text).gone
    every = deploy(text, options=DeployOptions(all_heads=True))
    assert every.outputs == ("side_loss_prob", "loss_prob")
    both = DATA + side.replace("loss_weight: 0.3", "") + FC + loss("SoftmaxWithLoss")
    assert deploy(both).outputs == ("side_loss_prob", "loss_prob")


def test_several_inputs_stay():
    other = 'layer { name: "more" type: "DummyData" top: "more" dummy_data_param { shape { dim: 4 dim: 3 } } }\n'
    joined = 'layer { name: "j" type: "Concat" bottom: "fc" bottom: "more" top: "j" }\n'
    found = deploy(
        DATA + other + FC + joined + loss("SoftmaxWithLoss", bottom="j"), options=DeployOptions(batch_size=2)
    )
    net = load_text(found.text)
    assert {top: net.blobs[top] for layer in net.layers if layer.type == "Input" for top in layer.tops} == {
        "data": (2, 3, 8, 8),
        "more": (2, 3),
    }


PYTHON = """\
layer { name: "data" type: "Python" top: "data" top: "sizes" top: "label" python_param { module: "m" layer: "L" } }
"""


def test_a_python_layer_that_brings_data_becomes_an_input():
    options = DeployOptions(given={"data": (1, 3, 8, 8)})
    found = deploy(PYTHON + FC + loss("SoftmaxWithLoss"), options=options)
    net = load_text(found.text)
    assert [layer.type for layer in net.layers] == ["Input", "InnerProduct", "Softmax"]
    assert net.layers[0].tops == ("data",)
    assert net.blobs["data"] == (1, 3, 8, 8)
    with pytest.raises(RootgenError, match=r"layer 'data': the shape of its top 'data' is not known \(say it with"):
        deploy(PYTHON + FC + loss("SoftmaxWithLoss"))


def test_shapes_that_stand_in_files_alone_may_be_given():
    text = DATA.replace('"Data"', '"HDF5Data"').replace("data_param", "hdf5_data_param").replace("backend: LMDB", "")
    text = text.replace("transform_param { crop_size: 8 }", "") + FC + loss("SoftmaxWithLoss")
    with pytest.raises(RootgenError, match="it stands in the HDF5 files alone"):
        deploy(text)
    found = deploy(text, options=DeployOptions(given={"data": (2, 5), "label": (2,)}))
    assert load_text(found.text).blobs["data"] == (2, 5)


def test_old_layers_stay_old():
    text = """\
layers { name: "data" type: DATA top: "data" top: "label"
  data_param { source: "none" batch_size: 4 backend: LMDB crop_size: 8 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" }
"""
    found = deploy(text)
    assert [layer.type for layer in load_text(found.text).layers] == ["Input", "InnerProduct", "Softmax"]
    assert 'input: "data"' in found.text


def test_forms_in_which_no_layer_can_be_replaced():
    v0 = """\
layers { layer { name: "data" type: "data" source: "none" batchsize: 4 cropsize: 8 } top: "data" top: "label" }
layers { layer { name: "fc" type: "innerproduct" num_output: 5 } bottom: "data" top: "fc" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
"""
    with pytest.raises(RootgenError, match="its layers are of the V0 form \\(`rootgen upgrade` it first"):
        deploy(v0)
    listed = """\
layer: [ { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 } } },
         { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } } ]
"""
    with pytest.raises(RootgenError, match="its layers stand in a list"):
        deploy(listed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layer { name: "s" type: "Silence" bottom: "data" bottom: "label" }', "no loss and no output"),
        ("", "no loss and no output"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(RootgenError, match=message):
        deploy(DATA + text)
