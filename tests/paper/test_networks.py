"""Every network of the paper in two programs not ours: OpenCV's Caffe importer, and Caffe itself."""

from math import prod

import numpy as np
import pytest

from rootgen.generator import architectures as tables
from rootgen.generator import render
from rootgen.generator.render import NetOptions
from rootgen.grouping import Plan
from rootgen.net import read as net
from rootgen.net import shapes
from rootgen.proto import prototxt, schema

ARCHS = tables.architectures()
# Every network of the paper: of the large ones only the first and the last row of their table in every run.
NETWORKS = [
    pytest.param(name, row, marks=() if name == "nin" or row in (rows[0], rows[-1]) else pytest.mark.slow)
    for name, rows in ((name, list(arch.groups.rows)) for name, arch in ARCHS.items())
    for row in rows
]


def varint(number):
    """protobuf's form of a whole number: seven bits a byte, the lowest first."""
    form = bytearray()
    while number > 127:
        form.append(number & 127 | 128)
        number >>= 7
    return bytes([*form, number])


def weights(found):
    """A caffemodel of zeros with the learnable blobs that `found` names."""
    model = schema.NetParameter()
    for name, blobs in found:
        entry = model.layer.add(name=name)
        for shape in blobs:
            blob = entry.blobs.add()
            blob.shape.dim.extend(shape)
            content = bytes(4 * prod(shape))
            blob.MergeFromString(b"\x2a" + varint(len(content)) + content)  # field 5, `data`: quicker than a list
    return schema.to_bytes(model)


@pytest.mark.parametrize(("arch", "row"), NETWORKS)
def test_opencv_finds_the_same_shape_at_every_layer(arch, row):
    cv2 = pytest.importorskip("cv2", reason="OpenCV, whose Caffe importer this compares with, is not installed")
    text = render.net(ARCHS[arch], Plan.named(row), NetOptions(phase="deploy"))
    ours = shapes.infer(net.parse(text)).layers
    model = weights([(layer.name, layer.shapes.params) for layer in ours if layer.shapes.params])
    text = text.replace("round_mode: FLOOR", "ceil_mode: false")  # OpenCV's own word for Caffe master's field
    theirs = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8), np.frombuffer(model, np.uint8))
    crop = ARCHS[arch].crop
    ids, _, outputs = theirs.getLayersShapes((1, 3, crop, crop))
    found = {
        theirs.getLayer(int(id)).name: tuple(tuple(int(size) for size in top) for top in tops)
        for id, tops in zip(ids, outputs, strict=True)
    }
    expected = {layer.name: layer.shapes.tops for layer in ours if layer.type != "Input"}
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.caffe
@pytest.mark.parametrize("phase", render.PHASES)
@pytest.mark.parametrize(("arch", "row"), NETWORKS)
def test_caffe_finds_the_same_shape_at_every_blob(arch, row, phase, tmp_path):
    import caffe

    text = render.net(ARCHS[arch], Plan.named(row), NetOptions(phase=phase, batch_size=2, test_batch_size=2))
    if phase == "train_val":
        text = without_data(text, ARCHS[arch].crop)
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    theirs = caffe.Net(str(path), caffe.TEST)
    found = {name: tuple(blob.shape) for name, blob in theirs.blobs.items() if "_split_" not in name}
    assert found == shapes.infer(net.parse(text)).blobs
    params = {name: tuple(tuple(blob.shape) for blob in blobs) for name, blobs in theirs.params.items()}
    layers = shapes.infer(net.parse(text)).layers
    assert params == {layer.name: layer.shapes.params for layer in layers if layer.shapes.params}


def without_data(text, crop):
    """The train_val net `text` on Input layers, since no ImageNet is at hand."""
    param = prototxt.parse(text, schema.NetParameter)
    kept = [layer for layer in param.layer if layer.type != "Data"]
    del param.layer[:]
    for top, shape in (("data", (2, 3, crop, crop)), ("label", (2,))):
        made = param.layer.add(name=top, type="Input", top=[top])
        made.input_param.shape.add(dim=shape)
    param.layer.extend(kept)
    return prototxt.format(param)
