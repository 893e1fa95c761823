"""Old nets, solvers and models in today's form: the text that stays, the messages that come out, and pycaffe."""

from __future__ import annotations

import numpy as np
import pytest

from rootgen.cli import main
from rootgen.errors import RootgenError
from rootgen.net.read import upgraded
from rootgen.proto import prototxt, schema
from rootgen.transform.upgrade import upgrade_text

V1 = """\
# a net of 2014
name: "old"  # its name
input: "data"
input_dim: 2
input_dim: 3
input_dim: 12
input_dim: 12
# the first convolution
layers {
  name: "c1"   # named so
  type: CONVOLUTION
  bottom: "data"
  top: "c1"
  blobs_lr: 1
  blobs_lr: 2.5
  weight_decay: 1
  weight_decay: 0
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } # small
}
layers { name: "r" type: RELU bottom: "c1" top: "c1" }
layers { name: "ip" type: INNER_PRODUCT bottom: "c1" top: "ip" param: "w" blobs_lr: 1 blobs_lr: 2
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
# the end
"""
V1_NOW = """\
# a net of 2014
name: "old"  # its name
layer {
  name: "input"
  type: "Input"
  top: "data"
  input_param {
    shape {
      dim: 2
      dim: 3
      dim: 12
      dim: 12
    }
  }
}
# the first convolution
layer {
  name: "c1"   # named so
  type: "Convolution"
  bottom: "data"
  top: "c1"
  param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2.5 decay_mult: 0 }
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } # small
}
layer { name: "r" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "ip" type: "InnerProduct" bottom: "c1" top: "ip" param { name: "w" lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
# the end
"""
V0 = """\
name: "older"
input: "x" input_dim: 2 input_dim: 3 input_dim: 9 input_dim: 9
# pads
layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "p" }
# convolves
layers {
  layer { name: "c" type: "conv" num_output: 8 kernelsize: 3 stride: 2 group: 1 blobs_lr: 1 blobs_lr: 2
    weight_filler { type: "xavier" } }  # lost
  bottom: "p" top: "c"
}
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }  # at the end
layers { layer { name: "q" type: "pool" kernelsize: 3 stride: 2 pool: AVE } bottom: "c" top: "q" }
layers { layer { name: "f" type: "innerproduct" num_output: 4 weight_filler { type: "xavier" } } bottom: "q" top: "f" }
"""
DATA = """\
layers { name: "d" type: DATA top: "data" top: "label"
  data_param { source: "db" batch_size: 4 scale: 0.5 mean_file: "m" }  # read
  include: { phase: TRAIN } }
layers {
  name: "e"
  type: IMAGE_DATA
  top: "data"
  top: "label"
  transform_param { mirror: true }
  image_data_param {
    source: "list"
    crop_size: 7
    batch_size: 2
  }
  include { phase: TEST }
}
"""
NORM = """\
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer {
  name: "bn"  # normalizes
  type: "BatchNorm"
  bottom: "x"
  top: "y"
  param { lr_mult: 1 }
  param { lr_mult: 1 }
  param { lr_mult: 1 }
}
"""
LISTS = """\
input: "x"
input_dim: [2, 3, 4, 4]
layers: [
  { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: [1, 2]
    convolution_param { num_output: 2 kernel_size: 1 } },
  { name: "r" type: RELU bottom: "c" top: "c" }
]
"""
NOW = 'name: "now"\n# as it is\nlayer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 } } }'


def message(text: str):
    return prototxt.parse(text, schema.NetParameter)


@pytest.mark.parametrize("text", [V1, V0, DATA, NORM, LISTS, NORM.replace("\n", "\r\n")])
def test_the_message_is_the_upgraded_one_and_stays(text):
    found = upgrade_text(text)
    assert message(found.text) == upgraded(message(text), "net")
    assert found.old
    assert upgrade_text(found.text).old == ()
    assert upgrade_text(found.text).text == found.text


def test_v1_is_edited_where_it_stands():
    found = upgrade_text(V1)
    assert found.text == V1_NOW
    assert (found.old, found.anew) == (("3 V1 layers", "input"), ())


def test_v0_layers_are_written_anew_and_comments_between_them_stay():
    found = upgrade_text(V0)
    assert found.old == ("5 V0 layers", "input")
    assert found.anew == ("c", "r", "q", "f")
    assert [line for line in found.text.splitlines() if "#" in line] == ["# pads", "# convolves", "}  # at the end"]
    assert "padding" not in found.text


def test_what_data_says_of_its_transformation_moves():
    found = upgrade_text(DATA)
    assert found.anew == ()
    assert (
        '  transform_param {\n    scale: 0.5\n    mean_file: "m"\n  }\n'
        '  data_param { source: "db" batch_size: 4 }  # read\n  include: { phase: TRAIN } }\n'
    ) in found.text
    assert "transform_param { mirror: true crop_size: 7 }" in found.text
    assert '    source: "list"\n    batch_size: 2\n' in found.text


def test_three_params_of_batch_norm_are_set_to_zero():
    found = upgrade_text(NORM)
    assert found.old == ("BatchNorm's params",)
    assert found.text == NORM.replace("lr_mult: 1", "lr_mult: 0 decay_mult: 0")
    assert upgrade_text(found.text).old == ()


def test_solvers():
    text = '# mine\nnet: "n"\nsolver_type: ADAM  # adam\nbase_lr: 0.1\n'
    found = upgrade_text(text)
    assert found.text == text.replace("solver_type: ADAM", 'type: "Adam"')
    assert upgrade_text(text.replace("ADAM", "5")).text == found.text
    assert upgrade_text(found.text).old == ()
    with pytest.raises(RootgenError, match="both 'type' and the old 'solver_type'"):
        upgrade_text(text + 'type: "SGD"')


@pytest.mark.parametrize("text", [NOW, NOW + "\n", NOW.replace("\n", "\r\n")])
def test_what_is_of_today_stays_byte_for_byte(text, tmp_path, capfd):
    file = tmp_path / "n.prototxt"
    file.write_bytes(text.encode())
    assert main(["upgrade", str(file), "-o", str(tmp_path / "m.prototxt")]) == 0
    assert (tmp_path / "m.prototxt").read_bytes() == text.encode()
    assert "nothing to upgrade: today's form already" in capfd.readouterr().err


def test_in_place_on_stdout_and_wrong_usage(tmp_path, capfd):
    file = tmp_path / "n.prototxt"
    file.write_text(V1)
    assert main(["upgrade", str(file)]) == 0
    out, err = capfd.readouterr()
    assert out == V1_NOW
    assert "upgraded: 3 V1 layers, input" in err
    assert main(["upgrade", str(file), "-o", str(file)]) == 0
    assert file.read_text() == V1_NOW
    model = tmp_path / "n.caffemodel"
    model.write_bytes(message(V1).SerializeToString())
    assert main(["upgrade", str(model)]) == 2
    assert main(["upgrade", str(tmp_path / "none.prototxt")]) == 1
    file.write_text(V1 + 'layer { name: "new" type: "ReLU" bottom: "ip" top: "ip" }')
    assert main(["upgrade", str(file), "-o", str(file)]) == 1
    assert "(Caffe reads one kind)" in capfd.readouterr().err
    assert 'name: "new"' in file.read_text()  # nothing half-written


def with_blobs(text: str):
    """A V1 model of `text` with blobs of the legacy form, told by num, channels, height and width."""
    model = message(text)
    for layer, shape in zip(model.layers, [(8, 3, 3, 3), None, (1, 1, 5, 800)], strict=True):
        for dims in [shape, (1, 1, 1, shape[0] if shape[0] > 1 else 5)] if shape else []:
            blob = layer.blobs.add(num=dims[0], channels=dims[1], height=dims[2], width=dims[3])
            values = np.random.default_rng(len(layer.blobs)).standard_normal(int(np.prod(dims)))
            blob.data.extend(values.astype(np.float32).tolist())
    return model


def test_models_keep_their_blobs(tmp_path, capfd):
    old, new, again = (tmp_path / f"{name}.caffemodel" for name in ("old", "new", "again"))
    model = with_blobs(V1)
    old.write_bytes(model.SerializeToString())
    assert main(["upgrade", str(old), "-o", str(new)]) == 0
    found = schema.read_binary(new, schema.NetParameter)
    assert not found.layers
    assert [layer.name for layer in found.layer] == ["input", "c1", "r", "ip"]
    kept = {layer.name: [blob.SerializeToString() for blob in layer.blobs] for layer in found.layer}
    assert all(kept[layer.name] == [blob.SerializeToString() for blob in layer.blobs] for layer in model.layers)
    assert main(["upgrade", str(new), "-o", str(again)]) == 0
    assert again.read_bytes() == new.read_bytes()
    assert "nothing to upgrade" in capfd.readouterr().err


def test_a_model_that_the_upgrade_would_harm_is_refused(tmp_path, capfd):
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    model = with_blobs(V1)
    model.layers[1].MergeFromString(b"\x82\x7d\x01x")  # field 2000, as another Caffe may have it
    old.write_bytes(model.SerializeToString())
    assert main(["upgrade", str(old), "-o", str(new)]) == 1
    assert "layer 'r' has fields that Caffe 1.0 does not know" in capfd.readouterr().err
    assert not new.exists()


@pytest.mark.caffe
@pytest.mark.parametrize("text", [V1, V0, NORM])
def test_caffe_makes_the_same_of_both(text, tmp_path):
    from rootgen.engine.caffe.runtime import pycaffe

    caffe = pycaffe()
    nets = []
    for name, content in (("old", text), ("new", upgrade_text(text).text)):
        file = tmp_path / f"{name}.prototxt"
        file.write_text(content)
        caffe.set_random_seed(3)
        nets.append(caffe.Net(str(file), caffe.TEST))
    old, new = nets
    assert list(old._layer_names) == list(new._layer_names)
    assert {name: tuple(blob.data.shape) for name, blob in old.blobs.items()} == {
        name: tuple(blob.data.shape) for name, blob in new.blobs.items()
    }
    for name, blobs in old.params.items():
        for one, other in zip(blobs, new.params[name], strict=True):
            np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.caffe
def test_caffe_reads_both_models_alike(tmp_path):
    from rootgen.engine.caffe.runtime import pycaffe

    caffe = pycaffe()
    (tmp_path / "net.prototxt").write_text(V1)
    old, new = tmp_path / "old.caffemodel", tmp_path / "new.caffemodel"
    old.write_bytes(with_blobs(V1).SerializeToString())
    assert main(["upgrade", str(old), "-o", str(new)]) == 0
    one, other = (caffe.Net(str(tmp_path / "net.prototxt"), str(file), caffe.TEST) for file in (old, new))
    assert one.params["c1"][0].data.any()
    for name, blobs in one.params.items():
        for first, second in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(first.data, second.data)
