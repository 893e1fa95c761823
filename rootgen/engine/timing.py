"""Median milliseconds of nets and of their layers, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from statistics import median
from typing import Any

from rootgen import errors
from rootgen.engine import open_network
from rootgen.engine.api import ENGINES, NetTime
from rootgen.net.forks import param_of
from rootgen.net.graph import PHASES, Net
from rootgen.net.layers.registry import of
from rootgen.proto import prototxt
from rootgen.text import Shown, Table


@dataclass(frozen=True)
class TimedLayer:
    """Median milliseconds of one layer, or of a whole net (`layer` is then None); `backward` None where it has none."""

    layer: str | None
    type: str
    forward: float
    backward: float | None


@dataclass(frozen=True, repr=False)
class Timing(Shown):
    """The times of one net: what ran it, the batch, and one TimedLayer per layer in order, then one for the net."""

    net: str
    engine: str
    device: str
    batch: int
    iterations: int
    layers: tuple[TimedLayer, ...]
    whole: TimedLayer

    @property
    def speed(self) -> float | None:
        """Images per second through the whole net; None where no time could be told."""
        milliseconds = self.whole.forward + (self.whole.backward or 0.0)
        return self.batch * 1e3 / milliseconds if milliseconds else None

    @property
    def about(self) -> str:
        """What ran it, and how often."""
        return f"{self.engine}, {self.device}; medians of {self.iterations} passes"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer and, with layer None, of the whole net, for pandas.DataFrame; times in milliseconds."""
        return [asdict(row) for row in (*self.layers, self.whole)]

    def tables(self) -> list[Table]:
        """Its layers, and the whole net last."""
        rows = [(row.layer or "whole net", row.type, *_cells(row)) for row in (*self.layers, self.whole)]
        title = f"{self.net}: batch {self.batch}, {_per_second(self.speed)} images/s; {self.about}"
        return [Table(("layer", "type", "forward ms", "backward ms"), rows, title)]


def _per_second(speed: float | None) -> str:
    return "-" if speed is None else f"{speed:.1f}"


def summary(timings: Sequence[Timing]) -> Table:
    """One row per net: its totals."""
    rows = [(one.net, one.batch, *_cells(one.whole), _per_second(one.speed)) for one in timings]
    return Table(("net", "batch", "forward ms", "backward ms", "images/s"), rows, timings[0].about)


def measure(
    net: str | PathLike[str],
    *,
    phase: str | None = None,
    batch_size: int | None = None,
    iterations: int = 10,
    warmup: int = 2,
    backward: bool = True,
    total: bool = False,
    engine: str = "auto",
    device: str = "auto",
    lenient: bool = False,
) -> Timing:
    """Times of the net in a prototxt or caffemodel, on inputs made up in memory; data layers are not run.

    Medians of `iterations` passes after `warmup` others, in milliseconds; `backward` times those passes too, and with
    `total` no layers are timed. Without a `phase` the net is as in training, but for the onnx engine, which knows no
    training. `lenient` passes over fields that Caffe 1.0 does not have.

    The layers' times are taken one layer at a time and need not add up to the net's.
    """
    path = errors.needed_path("net", net)
    count, before = errors.integer("iterations", iterations), errors.integer("warmup", warmup)
    errors.whole("iterations", count)
    errors.whole("warmup", before, 0)
    network = open_network(
        path,
        phase=errors.word("phase", phase, PHASES) or ("TEST" if engine == "onnx" else "TRAIN"),
        engine=errors.word("engine", engine, ENGINES) or ENGINES[0],
        device=errors.word("device", device) or "auto",
        batch=errors.whole("batch_size", batch_size),
        read_data=False,
        lenient=errors.flag("lenient", lenient),
    )
    layers = not errors.flag("total", total)
    times = network.time(count, warmup=before, backward=errors.flag("backward", backward), layers=layers)
    return _timing(path, network.engine, network.device, count, times)


def fed_text(net: Net) -> str:
    """The prototxt of a net whose data comes from memory, in the shapes that it has."""
    written = param_of(net, without=("blobs", "include", "exclude", "phase"))
    for layer, param in zip(net.layers, written.layer, strict=True):
        if of(layer).fed:
            param.Clear()
            param.name, param.type = layer.name, "Input"
            param.top.extend(layer.tops)
            for shape in layer.shapes.tops:
                param.input_param.shape.add(dim=shape)
    return prototxt.format(written)


def _cells(row: TimedLayer) -> tuple[str, str]:
    return f"{row.forward:.3f}", "-" if row.backward is None else f"{row.backward:.3f}"


def _timing(net: str, engine: str, device: str, iterations: int, times: NetTime) -> Timing:
    rows = tuple(TimedLayer(t.name, t.type, median(t.forward), _median(t.backward)) for t in times.layers)
    whole = TimedLayer(None, "", median(times.forward), _median(times.backward))
    return Timing(net, engine, device, times.batch, iterations, rows, whole)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
