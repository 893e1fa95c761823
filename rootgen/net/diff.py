"""Two nets layer by layer: groups, shapes, parameters, multiply-adds, and the fields that differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rootgen.net import cost, saved
from rootgen.net.graph import Layer, Net
from rootgen.text import Shown, Table, shape_text

_COLUMNS = cost.COLUMNS[1:]
_NOT_COMPARED = ("blobs", "name", "phase")  # weights are not the net's description; phase follows from the rules


@dataclass(frozen=True)
class LayerDiff:
    """One layer of either net; `before` or `after` is None where the net does not have it.

    `fields` reads `convolution_param.group: 1 -> 4` per field that differs; a field that is not set shows as -.
    """

    name: str
    before: cost.LayerCost | None
    after: cost.LayerCost | None
    fields: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """same, changed, added or removed."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return "same" if self.before == self.after and not self.fields else "changed"


@dataclass(frozen=True, repr=False)
class Diff(Shown):
    """The costs of two nets and their layers side by side, in the order of the first, then of the second."""

    before: cost.Cost
    after: cost.Cost
    layers: tuple[LayerDiff, ...]

    @property
    def changes(self) -> tuple[LayerDiff, ...]:
        """The layers that differ."""
        return tuple(row for row in self.layers if row.status != "same")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict per layer of either net, for pandas.DataFrame: name, status, type_before, type_after, ..., fields."""
        return [
            {
                "name": row.name,
                "status": row.status,
                **{
                    f"{column}_{side}": None if layer is None else layer.told(column)
                    for column in _COLUMNS
                    for side, layer in (("before", row.before), ("after", row.after))
                },
                "fields": "; ".join(row.fields),
            }
            for row in self.layers
        ]

    def tables(self, every: bool = False) -> list[Table]:
        """The layers that differ (or `every` one), what else differs in them, and the totals."""
        shown = self.layers if every else self.changes
        rows = [[row.name, row.status, *(_change(row, name) for name in _COLUMNS)] for row in shown]
        fields = [[f"{row.name}: {field}"] for row in shown for field in row.fields]
        same = sum(row.status == "same" for row in self.layers)
        return [
            *([Table(["layer", "", *_COLUMNS], rows)] if rows else []),
            *([Table(["fields"], fields)] if fields else []),
            cost.totals(self.before, self.after, f"total ({same} layers are the same)"),
        ]


def compare(a: Net, b: Net, convention: str = "macs") -> Diff:
    """`a` against `b`: layers are matched by name, the second of a name with the second.

    Where Caffe saved one of them, what it puts into every net it builds is no difference.
    """
    if saved.is_saved(a) or saved.is_saved(b):
        a, b = saved.as_written(a), saved.as_written(b)
    before, after = cost.count(a, convention), cost.count(b, convention)
    old, new = _keyed(a, before), _keyed(b, after)
    rows = []
    for key in _merged(list(old), list(new)):
        layer_a, cost_a = old.get(key, (None, None))
        layer_b, cost_b = new.get(key, (None, None))
        fields = tuple(_differences(layer_a.param, layer_b.param)) if layer_a and layer_b else ()
        rows.append(LayerDiff(key[0], cost_a, cost_b, fields))
    return Diff(before, after, tuple(rows))


def _change(row: LayerDiff, name: str) -> str:
    """One column of a row: the value, or both where they differ."""
    values = [_told(name, getattr(layer, name)) for layer in (row.before, row.after) if layer is not None]
    return values[0] if len(set(values)) == 1 else " -> ".join(values)


def _told(name: str, value: Any) -> str:
    """A value as a table shows it: an output as 64x56x56, a count as 1,024."""
    if value is None:
        return ""
    if name in ("params", "macs"):
        return f"{value:,}"
    return shape_text(value) if isinstance(value, tuple) else str(value)


Key = tuple[str, int]  # a layer's name, and which of that name it is


def _keyed(net: Net, total: cost.Cost) -> dict[Key, tuple[Layer, cost.LayerCost]]:
    """Layers and their costs by name and occurrence."""
    found: dict[Key, tuple[Layer, cost.LayerCost]] = {}
    seen: dict[str, int] = {}
    for layer, row in zip(net.layers, total.layers, strict=True):
        seen[layer.name] = seen.get(layer.name, -1) + 1
        found[layer.name, seen[layer.name]] = (layer, row)
    return found


def _merged(old: list[Key], new: list[Key]) -> list[Key]:
    """All keys: those of `old` in order, each one that only `new` has after the one it follows there."""
    known = set(old)
    following: dict[Key | None, list[Key]] = {}
    last = None
    for key in new:
        if key in known:
            last = key
        else:
            following.setdefault(last, []).append(key)
    merged = following.get(None, [])[:]
    for key in old:
        merged += [key, *following.get(key, [])]
    return merged


def _differences(a: Any, b: Any) -> Iterator[str]:
    """`field: value -> value` of each field in which two layers differ."""
    old, new = dict(_flat(a)), dict(_flat(b))
    for path in [*old, *(path for path in new if path not in old)]:
        before, after = old.get(path, "-"), new.get(path, "-")
        if before != after:
            yield f"{path}: {before} -> {after}"


def _flat(msg: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, value as text) of each field that is set."""
    for field, value in msg.ListFields():
        if not prefix and field.name in _NOT_COMPARED:
            continue
        path = prefix + field.name
        if field.message_type is None:
            yield path, _shown(field, value)
        elif hasattr(value, "ListFields"):
            yield from _flat(value, f"{path}.")
        else:
            for i, inner in enumerate(value):
                yield from _flat(inner, f"{path}[{i}].")


def _shown(field: Any, value: Any) -> str:
    """A scalar field's value, or its values, as a prototxt would have them."""
    if isinstance(value, (str, bytes, int, float)):
        return _one(field, value)
    return "[" + ", ".join(_one(field, one) for one in value) + "]"


def _one(field: Any, value: Any) -> str:
    if field.enum_type is not None and value in field.enum_type.values_by_number:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.7g}" if isinstance(value, float) else str(value)
