"""How long a net and its layers take forward on this machine, by number of filter groups; measured once, then kept.

A layer is timed alone, as a net of its own, in turns with itself in other numbers of groups, so that what else the
machine does falls on all alike. What is found lies in the user's cache, a file per layer's geometry (or per net) and
what it ran on: engine, versions, device, threads. Only the ratios of one file are used: a layer in other groups takes
the time that it has in the whole net, times the ratio of what both take alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from rootgen import scratch
from rootgen.engine import machine, open_network
from rootgen.engine.api import NetTime, images_per_batch
from rootgen.engine.kept_times import KeptTimes
from rootgen.engine.timing import fed_text
from rootgen.errors import standing_for
from rootgen.files import write_text
from rootgen.net.graph import Layer, Net
from rootgen.net.layers.registry import of
from rootgen.progress import Report, silent
from rootgen.proto import prototxt, schema

TURNS = 5
TURN_MS = 200.0  # of one net in one turn, at the least a pass
MOST_PASSES = 20
WHOLE = ""  # the whole net, among its layers


@dataclass(frozen=True)
class Stopwatch:
    """What times are measured with; `remeasure` passes over what the cache has, and replaces it."""

    engine: str = "auto"
    device: str = "auto"
    batch: int | None = None
    remeasure: bool = False


@dataclass(frozen=True)
class Environment:
    """What runs nets here: the engine and the device, in words, and all that times depend on besides the net."""

    engine: str
    device: str
    facts: Mapping[str, str]

    @classmethod
    def found(cls, watch: Stopwatch) -> Environment:
        """Of the smallest net that there is."""
        net = schema.NetParameter(name="none")
        net.layer.add(name="data", type="Input", top=["data"]).input_param.shape.add(dim=[1, 1, 1, 1])
        net.layer.add(name="relu", type="ReLU", bottom=["data"], top=["relu"])
        opened = _opened(prototxt.format(net), "TEST", watch, "a net of one layer")
        return cls(opened.engine, opened.device, machine.facts(opened.engine, opened.device))


@dataclass
class LayerTimes:
    """Times of a net and of its layers, in milliseconds of a forward pass.

    `net` has its shapes, at the batch size to be timed.
    """

    net: Net
    watch: Stopwatch
    report: Report = silent
    environment: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.environment = Environment.found(self.watch)
        self.watch = replace(self.watch, engine=self.environment.engine)  # "auto" is settled, and told, once
        self._kept = KeptTimes()
        self._alone: dict[str, dict[int, float]] = {}  # by the layer's name

    def prepare(self, wanted: Mapping[str, Collection[int]]) -> None:
        """Time the net, and the layers `wanted` in their numbers of groups, as far as the cache does not tell."""
        text = fed_text(self.net)
        self._whole = self._known({"net": text}, {WHOLE}, lambda: self._in_turns({WHOLE: text})[WHOLE])
        geometries: dict[str, list[str]] = {}
        for layer in self.net.layers:
            if layer.name in wanted:
                geometries.setdefault(_alone(layer), []).append(layer.name)
        for done, (text, names) in enumerate(geometries.items()):
            self.report("layers timed", done, len(geometries))
            found = self._layer(text, {group for name in names for group in wanted[name]})
            self._alone.update(dict.fromkeys(names, found))
        self.report("layers timed", len(geometries), len(geometries))

    @property
    def whole(self) -> float:
        """Of the net."""
        return self._whole[WHOLE]

    @property
    def about(self) -> str:
        """What ran, and how times were taken, in words."""
        batch = images_per_batch([one for one in self.net.layers if of(one).fed], self.net.blobs, self.net.layers)
        return f"{self.environment.engine}, {self.environment.device}; batch {batch}; medians of {TURNS} turns"

    def alone(self, layer: str, group: int) -> float:
        """Of a layer by itself, in `group` groups, as it was prepared."""
        return self._alone[layer][group]

    def saved(self, layer: str, before: int, group: int) -> float:
        """What the net saves with a layer in `group` groups instead of those that it has, `before`; may be negative."""
        had = self.alone(layer, before)
        here = self._whole.get(layer) or had  # an engine that makes one of several layers may have no time of it
        return here * (1 - self.alone(layer, group) / had)

    def measured(self, nets: Mapping[str, Net]) -> dict[str, float]:
        """Of whole nets, now and in turns."""
        texts = {name: fed_text(net) for name, net in nets.items()}
        found = self._in_turns(texts, lambda done, total: self.report("plans timed", done, total))
        return {name: times[WHOLE] for name, times in found.items()}

    def _layer(self, text: str, groups: Collection[int]) -> dict[int, float]:
        """Of a layer alone, by its number of groups."""

        def measure() -> dict[str, float]:
            found = self._in_turns({str(group): _in_groups(text, group) for group in sorted(groups)})
            return {group: sum(ms for name, ms in own.items() if name != WHOLE) for group, own in found.items()}

        found = self._known({"layer": text}, {str(group) for group in groups}, measure)
        return {group: found[str(group)] for group in groups}

    def _in_turns(
        self, texts: Mapping[str, str], told: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[str, dict[str, float]]:
        """Medians of nets and their layers; one net after the other, each opened for its turn alone, and all again."""
        found: dict[str, list[NetTime]] = {name: [] for name in texts}
        for turn in range(TURNS):
            for place, (name, text) in enumerate(texts.items()):
                network = _opened(text, self.net.phase, self.watch, self.net.source)
                first = network.time(1, warmup=1, backward=False)
                passes = min(MOST_PASSES, int(TURN_MS / max(first.forward[0], 1e-3)))
                found[name] += [first, *([network.time(passes, warmup=0, backward=False)] if passes else [])]
                told(turn * len(texts) + place + 1, TURNS * len(texts))
        return {name: _medians(times) for name, times in found.items()}

    def _known(
        self, what: Mapping[str, str], names: Collection[str], measure: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """Milliseconds of what is told by `what` from the cache, if it has all `names`; else measured and put there."""
        key = {**self.environment.facts, **what, "phase": self.net.phase}
        found = None if self.watch.remeasure else self._kept.find(key, names)
        if found is None:
            found = measure()
            self._kept.keep(key, found)
        return found


def _medians(times: list[NetTime]) -> dict[str, float]:
    """Milliseconds of the layers, by name, and of the whole net."""
    layers: dict[str, list[float]] = {}
    for one in times:
        for layer in one.layers:
            layers.setdefault(layer.name, []).extend(layer.forward)
    return {WHOLE: median(ms for one in times for ms in one.forward)} | {n: median(ms) for n, ms in layers.items()}


def _opened(text: str, phase: str, watch: Stopwatch, where: object) -> Any:
    how: dict[str, Any] = {"engine": watch.engine, "device": watch.device, "read_data": False, "lenient": True}
    with scratch.folder("rootgen-times-") as folder:
        path = folder / "net.prototxt"
        write_text(path, text, durable=False)
        with standing_for(path, where, lines=False):
            return open_network(path, phase=phase, **how)


def _alone(layer: Layer) -> str:
    """The prototxt of a net of one convolution, whatever its names; the geometry that its times are kept under."""
    net = schema.NetParameter(name="alone")
    data = net.layer.add(name="data", type="Input")
    own = net.layer.add(name="layer", type=layer.type)
    schema.copy(layer.param.convolution_param, own.convolution_param)
    for name in ("group", "bias_filler"):
        own.convolution_param.ClearField(name)
    own.convolution_param.weight_filler.Clear()
    own.convolution_param.weight_filler.type = "xavier"
    for i, shape in enumerate(layer.shapes.bottoms):
        data.top.append(f"data{i}")
        data.input_param.shape.add(dim=shape)
        own.bottom.append(f"data{i}")
        own.top.append(f"out{i}")
    return prototxt.format(net)


def _in_groups(text: str, group: int) -> str:
    net = prototxt.parse(text, schema.NetParameter)
    net.layer[1].convolution_param.group = group
    return prototxt.format(net)
