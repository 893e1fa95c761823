"""A net on ONNX Runtime: an ONNX model, its blobs, and forward passes through it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from rootgen import scratch
from rootgen.engine.api import NetTime
from rootgen.engine.feed import Feed
from rootgen.engine.onnx import profile, session
from rootgen.engine.onnx.model import PRODUCER, VALUES
from rootgen.errors import RootgenError, did_you_mean
from rootgen.net.graph import Layer, Shape
from rootgen.text import shape_text


class OnnxNetwork:
    """An ONNX model, ready to run forward; see engine.api.Network.

    `feeders` are the layers that bring its inputs in, `feeds` those of them that have a database to read, and `batch`
    stands for an open batch size where shapes are told.
    """

    engine = "onnx"

    def __init__(
        self,
        model: onnx.ModelProto,
        where: object,
        *,
        device: str = "auto",
        feeders: Sequence[Layer] = (),
        feeds: Mapping[str, Feed] | None = None,
        batch: int = 1,
    ) -> None:
        self.where = where
        self.providers, self.device = session.choose_device(device)
        self.feeders, self.feeds = list(feeders), dict(feeds or {})
        self.batch_size = batch
        self._model = model
        self._values: dict[str, str] = _renamed(model)
        self._infos = _infos(model)
        constants = {constant.name for constant in model.graph.initializer}
        self.inputs = [info.name for info in model.graph.input if info.name not in constants]
        self.outputs = tuple(self._blob(info.name) for info in model.graph.output)
        self.blobs: dict[str, Shape] = self._shapes()
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._batch = 0

    def forward(self, wanted: Sequence[str], inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """The `wanted` blobs for one batch; see engine.Network."""
        for name in wanted:
            if name not in self.blobs:
                raise RootgenError(f"no blob '{name}'", where=self.where, hint=did_you_mean(name, self.blobs))
        given = self._inputs(inputs)
        self._batch += 1
        names = tuple(dict.fromkeys(wanted))
        made = {name: given[name] for name in names if self._values.get(name, name) in given}
        rest = [name for name in names if name not in made]
        if rest:
            made.update(zip(rest, self._run(self._session(tuple(rest)), rest, given), strict=True))
        return {name: np.array(made[name], np.float32) for name in wanted}

    def time(self, iterations: int, *, warmup: int = 1, backward: bool = True, layers: bool = True) -> NetTime:
        """Milliseconds per layer and per pass, forward alone (there is no backward pass); see engine.Network.

        The layers' times are those of the nodes that ONNX Runtime runs, of passes of their own. Where it makes one
        node of several layers its time stands at one of them, the others have 0; what it adds has rows of its own.
        """
        del backward
        inputs = self._noise()
        plain = self._session(self.outputs)
        took = []
        for _ in range(warmup + iterations):
            begun = time.perf_counter()
            self._run(plain, self.outputs, inputs)
            took.append((time.perf_counter() - begun) * 1e3)
        if not layers:
            return NetTime(self.batch_size, [], took[warmup:], [])
        with scratch.folder("rootgen-onnx-") as folder:
            profiled = self._start(self.outputs, folder / "profile")
            for _ in range(warmup + iterations):
                self._run(profiled, self.outputs, inputs)
            each = profile.layer_times(self._model, Path(profiled.end_profiling()), iterations)
        return NetTime(self.batch_size, each, took[warmup:], [])

    def close(self) -> None:
        """Stop reading data."""
        for feed in self.feeds.values():
            feed.close()

    def _run(self, running: Any, wanted: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with session.told(self.where):
            return list(running.run([self._values.get(name, name) for name in wanted], dict(inputs)))

    def _session(self, wanted: tuple[str, ...]) -> Any:
        """A session that gives the blobs `wanted`, and runs what they need."""
        if wanted not in self._sessions:
            self._sessions[wanted] = self._start(wanted)
        return self._sessions[wanted]

    def _start(self, wanted: Sequence[str], record: Path | None = None) -> Any:
        model = self._model
        if tuple(wanted) != self.outputs:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            del model.graph.output[:]
            model.graph.output.extend(self._infos[self._values.get(name, name)] for name in wanted)
        return session.start(model.SerializeToString(), self.providers, self.where, profile=record)

    def _inputs(self, inputs: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """The graph's inputs: from `inputs`, else from Data layers."""
        given: dict[str, np.ndarray] = dict(inputs or {})
        if inputs is None:
            for feed in self.feeds.values():
                given.update(feed.batch(self._batch))
        for name in self.inputs:
            if name not in given:
                raise RootgenError(f"input '{name}' is not given", where=self.where)
        return self._given(given)

    def _given(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the graph takes of `given`, as float32; RootgenError where a shape is not the input's."""
        for name in self.inputs:
            shape, ours = tuple(given[name].shape), self.blobs[name]
            if shape[1:] != ours[1:] or not shape or (shape[0] != ours[0] and not self._open(name)):
                what = f"input '{name}' of {shape_text(shape)} where the net takes {shape_text(ours)}"
                raise RootgenError(what, where=self.where)
        return {name: np.ascontiguousarray(given[name], np.float32) for name in self.inputs}

    def _open(self, name: str) -> bool:
        """Whether an input's first axis may change."""
        return not self._infos[name].type.tensor_type.shape.dim[0].HasField("dim_value")

    def _noise(self) -> dict[str, np.ndarray]:
        """Inputs made up: noise; place 0 for what picks by number, all for what selects."""
        random = np.random.default_rng(0)
        inputs = {name: random.standard_normal(self.blobs[name], np.float32) for name in self.inputs}
        for node in self._model.graph.node:
            to = next((attribute.i for attribute in node.attribute if node.op_type == "Cast"), None)
            if node.input and node.input[0] in inputs and to in (TensorProto.INT64, TensorProto.BOOL):
                inputs[node.input[0]][...] = to == TensorProto.BOOL
        return inputs

    def _blob(self, value: str) -> str:
        return next((blob for blob, other in self._values.items() if other == value), value)

    def _shapes(self) -> dict[str, Shape]:
        """Blob -> its shape, with the batch size for what is open."""
        inner = set(self._values.values())
        names = [*self.inputs, *(name for name in self._infos if name not in inner), *self._values]
        return {name: self._shape(self._values.get(name, name)) for name in names}

    def _shape(self, value: str) -> Shape:
        dims = self._infos[value].type.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else self.batch_size for dim in dims)


def _renamed(model: onnx.ModelProto) -> dict[str, str]:
    """Blob -> its value, where a model of ours gives that another name."""
    if model.producer_name != PRODUCER:
        return {}
    for prop in model.metadata_props:
        if prop.key == VALUES:
            return dict(json.loads(prop.value))
    return {}


def _infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Value -> its type and shape, in the graph's order."""
    constants = {constant.name for constant in model.graph.initializer}
    graph = model.graph
    return {info.name: info for info in (*graph.input, *graph.value_info, *graph.output) if info.name not in constants}
