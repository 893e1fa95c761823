"""Layers of other Caffes: shapes, counts against the figures published for their nets, and how their files are read."""

from __future__ import annotations

import logging

import pytest

from rootgen.errors import RootgenError
from rootgen.net import cost, forks, shapes
from rootgen.net import read as net
from rootgen.net.graph import LayerShapes
from rootgen.net.layers.registry import TYPES
from rootgen.proto import prototxt, schema


def inputs(*bottoms: tuple[int, ...]) -> str:
    """An Input layer per shape, of blobs b0, b1, ..."""
    text = ""
    for i, shape in enumerate(bottoms):
        dims = " ".join(f"dim: {dim}" for dim in shape)
        text += f"layer {{ name: 'b{i}' type: 'Input' top: 'b{i}' input_param {{ shape {{ {dims} }} }} }}\n"
    return text


def infer_one(body: str, *bottoms: tuple[int, ...]) -> LayerShapes:
    """Shapes of a layer of the given type and parameters on Input blobs."""
    wires = " ".join(f"bottom: 'b{i}'" for i in range(len(bottoms)))
    text = inputs(*bottoms) + f"layer {{ name: 'it' {wires} top: 't' {body} }}"
    return shapes.infer(net.parse(text)).layers[-1].shapes


def priors(fields: str) -> str:
    return f"type: 'PriorBox' prior_box_param {{ {fields} }}"


def interp(fields: str) -> str:
    return f"type: 'Interp' interp_param {{ {fields} }}"


MAP, REGIONS = (2, 8, 9, 10), (7, 5)
DEPTHWISE = "convolution_param { kernel_size: 3 stride: 2 pad: 1 num_output: 8 group: 2 bias_term: false }"
CASES = {  # body, bottoms, top, learnable blobs
    "depthwise whatever group says": (f"type: 'DepthwiseConvolution' {DEPTHWISE}", [MAP], (2, 8, 5, 5), [(8, 1, 3, 3)]),
    "depthwise with num_output twice the channels": (
        "type: 'ConvolutionDepthwise' convolution_param { kernel_size: 3 num_output: 16 }",
        [MAP], (2, 16, 7, 8), [(16, 1, 3, 3), (16,)],
    ),
    "depthwise without num_output": (
        "type: 'ConvolutionDepthwise' convolution_param { kernel_size: 1 bias_term: false }",
        [MAP], MAP, [(8, 1, 1, 1)],
    ),
    "Axpy": ("type: 'Axpy'", [(2, 8, 1, 1), MAP, MAP], MAP, []),
    "Axpy, factor of two axes": ("type: 'Axpy'", [(2, 8), MAP, MAP], MAP, []),
    "BN of PSPNet": ("type: 'BN' bn_param { frozen: true }", [MAP], MAP, [(1, 8, 1, 1)] * 4),
    "BN of SegNet": ("type: 'BN' bn_param { bn_mode: INFERENCE }", [MAP], MAP, [(1, 8, 1, 1)] * 2),
    "ReLU6": ("type: 'ReLU6'", [MAP], MAP, []),
    "ShuffleChannel": ("type: 'ShuffleChannel' shuffle_channel_param { group: 4 }", [MAP], MAP, []),
    "Permute": ("type: 'Permute' permute_param { order: 0 order: 2 order: 3 order: 1 }", [MAP], (2, 9, 10, 8), []),
    "Permute, the rest follows": ("type: 'Permute' permute_param { order: 2 }", [MAP], (9, 2, 8, 10), []),
    "Upsample": ("type: 'Upsample' upsample_param { scale: 2 }", [MAP], (2, 8, 18, 20), []),
    "Upsample with a mask": (
        "type: 'Upsample' upsample_param { scale: 2 pad_out_h: true }", [MAP, MAP], (2, 8, 17, 20), [],
    ),
    "Upsample to a size": (
        "type: 'Upsample' upsample_param { scale: 2 upsample_h: 23 upsample_w: 30 }", [MAP, MAP], (2, 8, 23, 30), [],
    ),
    "Interp zooms": (interp("zoom_factor: 8"), [MAP], (2, 8, 65, 73), []),
    "Interp shrinks": (interp("shrink_factor: 2"), [MAP], (2, 8, 5, 5), []),
    "Interp does both": (interp("shrink_factor: 2 zoom_factor: 3"), [MAP], (2, 8, 13, 13), []),
    "Interp to a size": (interp("height: 33 width: 65"), [MAP], (2, 8, 33, 65), []),
    "Interp, a factor before a size": (interp("height: 33 width: 65 zoom_factor: 2"), [MAP], (2, 8, 17, 19), []),
    "Interp cuts": (interp("zoom_factor: 2 pad_beg: -1 pad_end: -2"), [MAP], (2, 8, 11, 13), []),
    "ROIPooling": (
        "type: 'ROIPooling' roi_pooling_param { pooled_h: 6 pooled_w: 7 spatial_scale: 0.0625 }",
        [MAP, REGIONS], (7, 8, 6, 7), [],
    ),
    "PSROIPooling": (
        "type: 'PSROIPooling' psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.0625 }",
        [MAP, (7, 5, 1, 1)], (7, 2, 2, 2), [],
    ),
    "PriorBox": (
        priors("min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3"),
        [MAP, (2, 3, 300, 300)], (1, 2, 9 * 10 * 6 * 4), [],
    ),
    "PriorBox, a ratio twice, not flipped": (
        priors("min_size: 30 min_size: 40 aspect_ratio: 2 aspect_ratio: 2 aspect_ratio: 1 flip: false"),
        [MAP, (2, 3, 300, 300)], (1, 2, 9 * 10 * 4 * 4), [],
    ),
    "DetectionOutput": ("type: 'DetectionOutput'", [(2, 40), (2, 30), (1, 2, 40)], (1, 1, 1, 7), []),
    "Normalize": ("type: 'Normalize'", [MAP], MAP, [()]),
    "Normalize, channels apart": ("type: 'Normalize' norm_param { channel_shared: false }", [MAP], MAP, [(8,)]),
}  # fmt: skip


@pytest.mark.parametrize(("body", "bottoms", "top", "params"), CASES.values(), ids=CASES)
def test_shapes(body, bottoms, top, params):
    found = infer_one(body, *bottoms)
    assert (found.tops, found.params) == ((top,), tuple(params))


def test_every_type_of_another_caffe_has_a_case():
    shown = {body.split("'")[1] for body, *_ in CASES.values()}
    assert shown == {name for name, entry in TYPES.items() if entry.origin}


@pytest.mark.parametrize(
    ("body", "bottoms", "message"),
    [
        ("type: 'DepthwiseConvolution' convolution_param { kernel_size: 3 num_output: 12 }", [MAP], "no multiple"),
        ("type: 'Axpy'", [(2, 4, 1, 1), MAP, MAP], "one number per channel of 2x8x9x10, not 2x4x1x1"),
        ("type: 'Axpy'", [(2, 8, 1, 1), MAP, (2, 8, 9, 9)], "needs equal shapes"),
        ("type: 'ShuffleChannel' shuffle_channel_param { group: 3 }", [MAP], "group 3 does not divide"),
        ("type: 'Permute' permute_param { order: 0 order: 0 }", [MAP], "order 0, 0: not each of 0 to 3 once"),
        ("type: 'Permute' permute_param { order: 4 }", [MAP], "order 4: not each"),
        ("type: 'Upsample'", [MAP], "gives no scale"),
        ("type: 'Upsample'", [MAP, (2, 8, 9, 9)], "its mask 'b1' is 2x8x9x9, not 2x8x9x10"),
        (interp("height: 33"), [MAP], "gives neither height and width, nor"),
        (interp("zoom_factor: 0"), [MAP], "zoom_factor is 0"),
        (interp("zoom_factor: 2 pad_beg: 1"), [MAP], "pad_beg is 1, but has to be 0 or less"),
        (interp("zoom_factor: 2 pad_beg: -9"), [MAP], "leave nothing of"),
        ("type: 'ROIPooling' roi_pooling_param { pooled_h: 6 }", [MAP, REGIONS], "pooled_w is 0"),
        ("type: 'ROIPooling' roi_pooling_param { pooled_h: 6 pooled_w: 6 }", [MAP, (7, 4)], "regions of 5 numbers"),
        ("type: 'PSROIPooling' psroi_pooling_param { output_dim: 2 group_size: 3 }", [MAP, REGIONS], "has 8 channels"),
        (priors(""), [MAP, MAP], "needs min_size"),
        (priors("min_size: 3 max_size: 2"), [MAP, MAP], "max_size 2 is not above min_size 3"),
        (priors("min_size: 3 min_size: 4 max_size: 9"), [MAP, MAP], "has 1 max_size for 2 min_size"),
        (priors("min_size: 3 variance: 1 variance: 1"), [MAP, MAP], "has 2 variance"),
        (priors("min_size: 3 aspect_ratio: 0"), [MAP, MAP], "aspect_ratio is 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(body, bottoms, message):
    with pytest.raises(RootgenError, match=f"layer 'it': .*{message}"):
        infer_one(body, *bottoms)


def test_heads_of_ssd():
    """Permute, Flatten, Concat, Reshape, Softmax and Flatten, as every SSD has them."""
    text = inputs((1, 84, 5, 6), (1, 84, 1, 1))
    for i in range(2):
        order = "permute_param { order: [0, 2, 3, 1] }"
        text += f"layer {{ name: 'p{i}' type: 'Permute' bottom: 'b{i}' top: 'p{i}' {order} }}\n"
        text += f"layer {{ name: 'f{i}' type: 'Flatten' bottom: 'p{i}' top: 'f{i}' flatten_param {{ axis: 1 }} }}\n"
    text += """layer { name: 'c' type: 'Concat' bottom: 'f0' bottom: 'f1' top: 'c' concat_param { axis: 1 } }
    layer { name: 'r' type: 'Reshape' bottom: 'c' top: 'r' reshape_param { shape { dim: 0 dim: -1 dim: 21 } } }
    layer { name: 's' type: 'Softmax' bottom: 'r' top: 's' softmax_param { axis: 2 } }
    layer { name: 'f' type: 'Flatten' bottom: 's' top: 'f' flatten_param { axis: 1 } }"""
    found = shapes.infer(net.parse(text))
    assert (found.blobs["r"], found.blobs["f"]) == ((1, 124, 21), (1, 2604))


class Text:
    """A Caffe net as text, layer by layer."""

    def __init__(self, *image: int) -> None:
        self.text, self.top, self.count = inputs((1, *image)), "b0", 0

    def add(self, kind: str, fields: str = "", *bottoms: str) -> str:
        self.count += 1
        wires = " ".join(f"bottom: '{name}'" for name in bottoms or (self.top,))
        self.top = f"{kind.lower()}{self.count}"
        self.text += f"layer {{ name: '{self.top}' type: '{kind}' {wires} top: '{self.top}' {fields} }}\n"
        return self.top

    def convolve(self, outputs: int, kernel: int, stride: int = 1, *, kind: str = "Convolution", act: str = "") -> str:
        """Convolution without bias, BatchNorm and Scale, and an activation."""
        pad = kernel // 2
        fields = f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {pad} bias_term: false"
        self.add(kind, f"convolution_param {{ {fields} }}")
        self.add("BatchNorm")
        self.add("Scale", "scale_param { bias_term: true }")
        return self.add(act) if act else self.top

    def counted(self) -> cost.Cost:
        return cost.count(shapes.infer(net.parse(self.text)))


@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_mobilenet_counts_what_is_published(kind):
    """Howard et al., table 8: 4.2 million parameters and 569 million mult-adds: BatchNorm's factors are counted."""
    mobile = Text(3, 224, 224)
    channels = mobile.convolve(32, 3, 2, act="ReLU6") and 32
    for outputs, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        mobile.convolve(channels, 3, stride, kind=kind, act="ReLU6")
        channels = mobile.convolve(outputs, 1, act="ReLU6") and outputs
    mobile.add("Pooling", "pooling_param { pool: AVE global_pooling: true }")
    mobile.add("Convolution", "convolution_param { num_output: 1000 kernel_size: 1 }")
    total = mobile.counted()
    assert (total.params, total.macs, total.complete) == (4_231_976, 568_740_352, True)
    assert [row.group for row in total.layers if row.type == kind][-1] == 1024


def test_se_resnet_50_counts_what_is_published():
    """He's Caffe layout, stride on the first 1x1; a gate per block, of 1/16 the channels, with biases."""
    se = Text(3, 224, 224)
    se.convolve(64, 7, 2, act="ReLU")
    se.add("Pooling", "pooling_param { kernel_size: 3 stride: 2 }")
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            bottom = shortcut = se.top
            if not block:
                shortcut = se.convolve(4 * width, 1, stride)
            se.top = bottom
            se.convolve(width, 1, stride, act="ReLU")
            se.convolve(width, 3, act="ReLU")
            x = se.convolve(4 * width, 1)
            se.add("Pooling", "pooling_param { pool: AVE global_pooling: true }")
            se.add("Convolution", f"convolution_param {{ num_output: {width // 4} kernel_size: 1 }}")
            se.add("ReLU")
            se.add("Convolution", f"convolution_param {{ num_output: {4 * width} kernel_size: 1 }}")
            gate = se.add("Sigmoid")
            se.add("Axpy", "", gate, x, shortcut)
            se.add("ReLU")
    se.add("Pooling", "pooling_param { pool: AVE global_pooling: true }")
    se.add("InnerProduct", "inner_product_param { num_output: 1000 }")
    total = se.counted()
    assert (total.params, total.macs) == (28_088_024, 3_860_488_192)


def test_statistics_of_bn_stand_apart():
    text = inputs(MAP) + "layer { name: 'n' type: 'BN' bottom: 'b0' top: 'n' }"
    total = cost.count(shapes.infer(net.parse(text)))
    assert (total.params, total.statistics, total.weight_bytes) == (16, 16, 4 * 32)


def read_lenient(text: str):
    return net.parse(text, lenient=True)


V1 = """input: 'd' input_dim: [1, 3, 8, 8]
layers { name: 'n' type: BN bottom: 'd' top: 'n' bn_param { scale_filler { value: 1 } bn_mode: INFERENCE } }
layers { name: 'p' type: POOLING bottom: 'n' top: 'p' pooling_param { kernel_size: 3 stride: 2 %s } }
layers { name: 'i' type: INTERP bottom: 'p' top: 'i' interp_param { height: 8 width: 8 } }
"""


def test_layers_of_the_old_form():
    found = shapes.infer(net.parse(V1 % ""))
    assert [layer.type for layer in found.layers] == ["Input", "BN", "Pooling", "Interp"]
    assert (found.blobs["p"], found.blobs["i"], len(found.layers[1].shapes.params)) == ((1, 3, 4, 4), (1, 3, 8, 8), 2)
    crop = (
        V1 % "ceil_mode: false"
        + "layers { name: 'c' type: CROP bottom: 'i' bottom: 'p' top: 'c' crop_param { axis: 2 } }"
    )
    with pytest.raises(RootgenError, match=r"'ceil_mode' in Caffe 1.0 \(--lenient passes over it\)"):
        net.parse(crop)
    with pytest.raises(RootgenError, match=r"'type' has no value CROP in Caffe 1.0 \(.*--lenient passes over it\)"):
        net.parse(crop.replace("ceil_mode: false", ""))
    found = shapes.infer(read_lenient(crop))
    assert (found.layers[-1].type, found.blobs["p"], found.blobs["c"]) == ("Crop", (1, 3, 3, 3), (1, 3, 3, 3))
    riddle = net.parse(crop.replace("CROP", "RIDDLE_ME"), lenient=True, allow_unknown=True)
    assert riddle.layers[-1].type == "RIDDLE_ME"
    with pytest.raises(RootgenError, match="no layer type 'RIDDLE_ME'"):
        read_lenient(crop.replace("CROP", "RIDDLE_ME"))


def test_lenient_passes_over_fields_and_values_of_layers_and_of_the_net(caplog):
    text = inputs(MAP) + (
        "layer { name: 'l' type: 'SoftmaxWithLoss' bottom: 'b0' bottom: 'b0' top: 'l' "
        "loss_param { normalization: PRE_FIXED pre_fixed: 4 normalize: false } }\nreduce_memory: true sections { a: 1 }"
    )
    with pytest.raises(
        RootgenError, match=r"'normalization' has no value PRE_FIXED in Caffe 1.0 \(--lenient passes over it\)"
    ):
        net.parse(text)
    with pytest.raises(RootgenError, match="NetParameter has no field 'reduce_memory' in Caffe"):
        net.parse(inputs(MAP) + "reduce_memory: true")
    loss = read_lenient(text).layers[-1].param.loss_param
    assert loss.HasField("normalize")
    assert not loss.HasField("normalization")
    assert "<text>:2:1: what Caffe 1.0 does not have is not read: normalization: PRE_FIXED, pre_fixed" in caplog.text
    assert "<text>: what Caffe 1.0 does not have is not read: reduce_memory, sections" in caplog.text


def test_unknown_fields_of_a_layer_of_another_caffe_are_refused_where_it_is_to_run(caplog):
    caplog.set_level(logging.INFO)
    text = inputs(MAP) + "layer { name: 'n' type: 'BN' bottom: 'b0' top: 'n' bn_param { icnet: true eps: 0.1 } }"
    with pytest.raises(RootgenError, match="BNParameter has no field 'icnet'"):
        net.parse(text)
    for options in ({"allow_unknown": True}, {"lenient": True}):
        assert net.parse(text, **options).layers[-1].param.bn_param.eps == pytest.approx(0.1)
        assert "is not read: icnet" in caplog.text
        caplog.clear()


def test_a_net_is_read_with_fields_of_other_caffes_only_where_it_has_their_layers():
    plain = net.parse(inputs(MAP))
    assert not schema.has_forks(plain.layers[0].param)
    with pytest.raises(RootgenError, match="LayerParameter has no field 'permute_param' in"):
        net.parse(inputs(MAP) + "layer { name: 'r' type: 'ReLU' bottom: 'b0' top: 'r' permute_param { order: 1 } }")
    assert schema.has_forks(
        net.parse(inputs(MAP) + "layer { name: 'r' type: 'Permute' bottom: 'b0' top: 'r' }").layers[0].param
    )


def test_binary_models(tmp_path, caplog):
    """Fields of another Caffe in a caffemodel; and one where the number has another meaning."""
    text = (
        inputs(MAP) + "layer { name: 'p' type: 'Permute' bottom: 'b0' top: 'p' permute_param { order: [0, 2, 3, 1] } }"
    )
    path = tmp_path / "x.caffemodel"
    path.write_bytes(schema.to_bytes(forks.build(*scanned(text))))
    assert shapes.infer(net.read(path)).blobs["p"] == (2, 9, 10, 8)
    plain = schema.parse_bytes(path.read_bytes(), schema.NetParameter, path)
    text_again = prototxt.format(plain)
    assert "permute_param" not in text_again
    assert schema.to_bytes(plain) == path.read_bytes()
    before = schema.NetParameter(layer=plain.layer[:-1]).SerializeToString()
    layer = schema.LayerParameter(name="p", type="Permute", bottom=["b0"], top=["p"]).SerializeToString()
    layer += b"\xd2\x0c\x01\x08"  # field 202, which here holds no PermuteParameter
    path.write_bytes(before + b"\xa2\x06" + bytes([len(layer)]) + layer)
    assert shapes.infer(net.read(path)).blobs["p"] == MAP
    assert "parameters of layers of another Caffe are not read" in caplog.text


def scanned(text: str):
    from rootgen.proto.scanner import Source, scan

    return scan(text), "NetParameter", Source(text, "<text>")


def test_the_extension_repeats_no_number_and_no_name_of_caffes():
    ours, theirs = schema._file(), schema._file(forks=True)
    messages = {message.name: message for message in theirs.message_type}
    assert {message.name for message in ours.message_type} < set(messages)
    for message in theirs.message_type:
        for facts in ([field.number for field in message.field], [field.name for field in message.field]):
            assert len(facts) == len(set(facts)), message.name
