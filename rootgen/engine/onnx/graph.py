"""An ONNX graph under construction: its nodes, its constants, and names that nothing else has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17
_SMALL = 64  # values: constants up to here are told apart by their values, and stand once


class Graph:
    """Nodes in order and constants by name; the graph's inputs and outputs are whoever builds it's business."""

    def __init__(self, taken: Iterable[str]) -> None:
        """`taken` are the names of values that this graph will make under just these names."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._values = set(taken)
        self._node_names: set[str] = set()
        self._known: dict[Any, str] = {}

    def value(self, wanted: str) -> str:
        """A name for a value: `wanted`, or that with a number behind it."""
        return _free(wanted, self._values)

    def node(
        self, kind: str, inputs: Sequence[str], name: str, *, outputs: int = 1, doc: str = "", **attributes: Any
    ) -> onnx.NodeProto:
        """Add a node, called `name` as far as that is free; its outputs have names made of it."""
        name = _free(name, self._node_names)
        values = [self.value(name) for _ in range(outputs)]
        node = helper.make_node(kind, inputs, values, name=name, doc_string=doc, **attributes)
        self.nodes.append(node)
        return node

    def rename_node(self, node: onnx.NodeProto, wanted: str) -> None:
        """Call a node `wanted`, as far as that is free."""
        self._node_names.discard(node.name)
        node.name = _free(wanted, self._node_names)

    def constant(self, values: np.ndarray, name: str, key: Any = None) -> str:
        """The value that holds an array; constants of one `key` and shape, and small ones alike, stand once."""
        values = np.asarray(values, order="C")
        if key is None and values.size <= _SMALL:
            key = values.tobytes()
        known = None if key is None else (key, values.dtype.str, values.shape)
        if known in self._known:
            return self._known[known]
        name = self.value(name)
        self.constants.append(numpy_helper.from_array(values, name))
        if known is not None:
            self._known[known] = name
        return name


def _free(wanted: str, taken: set[str]) -> str:
    """`wanted`, or that with a number behind it where it is taken; taken from now on."""
    name, number = wanted, 1
    while name in taken or not name:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name
