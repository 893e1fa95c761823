"""What is timed: convolutions of the paper's networks, and whole nets, as prototxt with made-up inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootgen import paths
from rootgen.net.load import load
from rootgen.proto import prototxt, schema

TEST = schema.NetStateRule.DESCRIPTOR.fields_by_name["phase"].enum_type.values_by_name["TEST"].number
BATCHES = (32, 128)
NETS = ("resnet50/orig", "resnet50/root-64", "googlenet/orig", "googlenet/root-16", "nin/orig", "nin/root-8")
NETS_BY_LAYER = ("googlenet/orig", "googlenet/root-16", "resnet50/root-64")


@dataclass(frozen=True)
class Convolution:
    """A square convolution with stride 1 that keeps the map's size."""

    net: str
    channels: int
    num_output: int
    size: int
    kernel: int
    group: int

    @property
    def name(self) -> str:
        return f"{self.net}_{self.channels}x{self.size}_k{self.kernel}_g{self.group}"

    def macs(self, batch: int) -> int:
        """Multiply-adds of a forward pass; a backward pass has twice as many."""
        per_pixel = self.num_output * self.channels // self.group * self.kernel**2
        return batch * self.size**2 * per_pixel

    def least_bytes(self, batch: int) -> int:
        """Bytes of input, output and weights in fp32, each once; a backward pass moves about twice as many."""
        values = batch * self.size**2 * (self.channels + self.num_output)
        return 4 * (values + self.num_output * self.channels // self.group * self.kernel**2)

    def net_parameter(self, batch: int, engine: str) -> str:
        """A net of this one layer, "conv"."""
        return (
            f'layer {{ name: "data" type: "Input" top: "data"\n'
            f"  input_param {{ shape {{ dim: [{batch}, {self.channels}, {self.size}, {self.size}] }} }} }}\n"
            f'layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
            f"  convolution_param {{ num_output: {self.num_output} group: {self.group} kernel_size: {self.kernel}\n"
            f"    pad: {self.kernel // 2} engine: {engine}\n"
            f'    weight_filler {{ type: "msra" }} }} }}\n'
        )


def convolutions() -> Iterator[Convolution]:
    """ResNet-50's 3x3 of each stage, NiN's and GoogLeNet's spatial ones, without groups and as in the root nets."""
    for channels, size, groups in ((64, 56, (1, 16, 64)), (128, 28, (1, 8, 32)), (256, 14, (1, 4, 16)),
                                   (512, 7, (1, 2, 8))):  # fmt: skip
        for group in groups:
            yield Convolution("resnet50", channels, channels, size, 3, group)
    for group in (1, 8):
        yield Convolution("nin", 192, 192, 16, 5, group)
    for group in (1, 4):
        yield Convolution("nin", 192, 192, 8, 3, group)
    for group in (1, 16):
        yield Convolution("googlenet", 64, 192, 56, 3, group)


def train_val(name: str) -> Path:
    """The training net of a row of NETS."""
    return paths.resource("prototxt") / name / "train_val.prototxt"


def layer_types(name: str) -> dict[str, str]:
    """Layer -> its type, of the training net of a row of NETS; convolutions with their kernel, and whether grouped."""
    types = {}
    for layer in load(train_val(name), "TRAIN").layers:
        types[layer.name] = layer.type
        if layer.type == "Convolution":
            param = layer.param.convolution_param
            size = param.kernel_size[0]  # ours are square
            types[layer.name] = f"Convolution {size}x{size}{', grouped' if param.group > 1 else ''}"
    return types


def whole_net(path: Path, batch: int, engine: str) -> str:
    """The training net at `path` with inputs of its crop size, every convolution by `engine`."""
    net = prototxt.read(path, schema.NetParameter)
    kept = [layer for layer in net.layer if not any(rule.phase == TEST for rule in layer.include)]
    for layer in kept:
        if layer.type == "Data":
            _make_up(layer, batch)
        elif layer.type == "Convolution":
            layer.convolution_param.engine = schema.ConvolutionParameter.Engine.Value(engine)
    del net.layer[:]
    net.layer.extend(kept)
    return prototxt.format(net)


def _make_up(layer: schema.LayerParameter, batch: int) -> None:
    """Turn a Data layer into an Input layer, which time_nets fills: its time is no part of the net's."""
    size = layer.transform_param.crop_size
    layer.type = "Input"
    for field in ("data_param", "transform_param", "include"):
        layer.ClearField(field)
    layer.input_param.shape.add().dim.extend([batch, 3, size, size])
    if len(layer.top) > 1:
        layer.input_param.shape.add().dim.append(batch)
