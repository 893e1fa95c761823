"""Median milliseconds of nets and of their layers, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rootgen.engine import open_network
from rootgen.engine.api import NetTime


@dataclass(frozen=True)
class TimedLayer:
    """Median milliseconds of one layer, or of a whole net (`layer` is then None); `backward` None where it has none."""

    layer: str | None
    type: str
    forward: float
    backward: float | None


@dataclass(frozen=True)
class Timing:
    """The times of one net: what ran it, the batch, and one TimedLayer per layer in order, then one for the net."""

    net: str
    engine: str
    device: str
    batch: int
    iterations: int
    layers: tuple[TimedLayer, ...]
    whole: TimedLayer


def measure(
    net: str | Path,
    *,
    phase: str | None = None,
    batch: int | None = None,
    iterations: int = 10,
    warmup: int = 2,
    backward: bool = True,
    engine: str = "auto",
    device: str = "auto",
) -> Timing:
    """Times of the net in a prototxt or caffemodel, on inputs made up in memory; data layers are not run.

    Without a `phase` the net is as in training, but for the onnx engine, which knows no training.

    The layers' times are taken one layer at a time and need not add up to the net's.
    """
    phase = phase or ("TEST" if engine == "onnx" else "TRAIN")
    network = open_network(net, phase=phase, engine=engine, device=device, batch=batch, read_data=False)
    times = network.time(iterations, warmup=warmup, backward=backward)
    return _timing(str(net), network.engine, network.device, iterations, times)


def _timing(net: str, engine: str, device: str, iterations: int, times: NetTime) -> Timing:
    rows = tuple(TimedLayer(t.name, t.type, median(t.forward), _median(t.backward)) for t in times.layers)
    whole = TimedLayer(None, "", median(times.forward), _median(times.backward))
    return Timing(net, engine, device, times.batch, iterations, rows, whole)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
