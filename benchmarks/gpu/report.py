"""Times as CSV, as a table with percent of what the machine can do, and as a plot."""

from __future__ import annotations

import csv
import importlib.util
from datetime import date
from pathlib import Path
from typing import NamedTuple

import cases

from rootgen.text import table


class Row(NamedTuple):
    """Median milliseconds of one case; `kind` is layer, buffer or net."""

    kind: str
    case: str
    batch: int
    implementation: str
    forward_ms: float
    backward_ms: float


class Machine(NamedTuple):
    """The GPU and its ceilings as measured: a large device-to-device copy, a large fp32 matrix product."""

    name: str
    copy_gb_s: float
    fp32_tflop_s: float


OURS = "batched CAFFE"
TITLES = {
    "layer": "Convolutions, milliseconds forward / backward",
    "buffer": "batched CAFFE, products, by CAFFE_CONV_BUFFER_MB, milliseconds forward / backward",
    "net": "Whole nets, milliseconds forward / backward",
}
SHAPES = {shape.name: shape for shape in cases.convolutions()}


def percents(row: Row, machine: Machine) -> tuple[float, float] | None:
    """Forward pass: percent of the copy bandwidth and of the fp32 peak; None for whole nets.

    The bytes are the least that have to move (input, output, weights once), the operations two per multiply-add.
    """
    shape = SHAPES.get(row.case)
    if shape is None:
        return None
    seconds = row.forward_ms / 1e3
    bandwidth = shape.least_bytes(row.batch) / seconds / (machine.copy_gb_s * 1e9)
    peak = 2 * shape.macs(row.batch) / seconds / (machine.fp32_tflop_s * 1e12)
    return 100 * bandwidth, 100 * peak


def write(out: Path, rows: list[Row], machine: Machine, notes: list[str]) -> None:
    """Write times.csv, table.md and, where Matplotlib is installed, plot.png into `out`."""
    if importlib.util.find_spec("matplotlib") is None:
        notes = [*notes, "no plot.png: Matplotlib is not installed"]
    elif rows:
        plot(out / "plot.png", [row for row in rows if row.kind == "layer"], machine)
    cells = []
    for row in rows:
        percent = percents(row, machine)
        cells.append([*map(str, row[:4]), f"{row.forward_ms:.4f}", f"{row.backward_ms:.4f}",
                      *(["", ""] if percent is None else [f"{part:.1f}" for part in percent])])  # fmt: skip
    header = [*Row._fields, "forward_percent_of_copy", "forward_percent_of_peak"]
    with (out / "times.csv").open("w", newline="") as sink:
        csv.writer(sink).writerows([header, *cells])
    sections = [
        f"{machine.name}; copy {machine.copy_gb_s:.0f} GB/s (read + written), fp32 {machine.fp32_tflop_s:.1f} TFLOP/s; "
        f"{date.today().isoformat()}",
        "\n".join(f"* {note}" for note in notes),
        *(_pivot(rows, kind, title) for kind, title in TITLES.items()),
        *(_by_type(rows, net) for net in cases.NETS_BY_LAYER),
        _limits(rows, machine),
        _ratios(rows),
    ]
    (out / "table.md").write_text("\n\n".join(filter(None, sections)) + "\n")


def _pivot(rows: list[Row], kind: str, title: str) -> str:
    """Cases down, implementations across; "forward / backward"."""
    rows = [row for row in rows if row.kind == kind]
    across = list(dict.fromkeys(row.implementation for row in rows))
    times = {row[1:4]: f"{row.forward_ms:.3g} / {row.backward_ms:.3g}" for row in rows}
    lines = [
        [case, str(batch), *(times.get((case, batch, name), "") for name in across)]
        for case, batch in dict.fromkeys((row.case, row.batch) for row in rows)
    ]
    return _block(title, ["case", "batch", *across], lines)


def _by_type(rows: list[Row], net: str) -> str:
    """What the layers of a net take, one by one, summed by their type: implementations across."""
    mine = [row for row in rows if row.kind == "net layer" and row.case.startswith(f"{net} ")]
    if not mine:
        return ""
    types = cases.layer_types(net)
    across = list(dict.fromkeys(row.implementation for row in mine))
    sums: dict[str, dict[str, tuple[float, float]]] = {}
    for row in mine:
        kind = types.get(row.case.partition(" ")[2], "Split")  # Caffe puts those in
        for name in (kind, "all"):
            forward, backward = sums.setdefault(name, {}).get(row.implementation, (0.0, 0.0))
            sums[name][row.implementation] = forward + row.forward_ms, backward + row.backward_ms
    ordered = sorted(sums, key=lambda name: -max(map(sum, sums[name].values())))
    lines = [
        [name, *(f"{f:.2f} / {b:.2f}" for f, b in (sums[name].get(way, (0.0, 0.0)) for way in across))]
        for name in ordered
    ]
    return _block(f"Layers of {net} one by one, batch {mine[0].batch}, by type", ["type", *across], lines)


def _limits(rows: list[Row], machine: Machine) -> str:
    """How near the batched code's forward passes come to what the GPU can do."""
    lines = []
    for row in rows:
        percent = percents(row, machine)
        if percent and row.kind == "layer" and row.implementation == OURS:
            lines.append([row.case, str(row.batch), *(f"{part:.0f}" for part in percent)])
    return _block(f"{OURS}, forward", ["case", "batch", "% of copy", "% of peak"], lines)


def _ratios(rows: list[Row]) -> str:
    """A root net's time over the original's, forward and backward, in percent."""
    times = {row[1:4]: row.forward_ms + row.backward_ms for row in rows if row.kind == "net"}
    roots = [row for row in rows if row.kind == "net" and not row.case.endswith("/orig")]
    across = list(dict.fromkeys(row.implementation for row in roots))
    lines = []
    for case, batch in dict.fromkeys((row.case, row.batch) for row in roots):
        original = f"{case.split('/')[0]}/orig"
        cells = [(times.get((case, batch, name)), times.get((original, batch, name))) for name in across]
        lines.append([case, str(batch), *(f"{100 * ms / whole:.0f}" if ms and whole else "" for ms, whole in cells)])
    return _block("Root net, percent of the original's time", ["net", "batch", *across], lines)


def _block(title: str, header: list[str], lines: list[list[str]]) -> str:
    return f"**{title}**\n\n```\n{table(header, lines).rstrip()}\n```" if lines else ""


def plot(path: Path, rows: list[Row], machine: Machine) -> None:
    """Forward and backward milliseconds per convolution, one colour per implementation, one panel per batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(SHAPES)
    implementations = list(dict.fromkeys(row.implementation for row in rows))
    figure, panels = plt.subplots(len(cases.BATCHES), 1, figsize=(15, 10), sharex=True, squeeze=False)
    for panel, batch in zip(panels[:, 0], cases.BATCHES, strict=True):
        for implementation in implementations:
            times = {row.case: row.forward_ms + row.backward_ms for row in rows
                     if (row.implementation, row.batch) == (implementation, batch)}  # fmt: skip
            panel.plot(names, [times.get(name) for name in names], "o-", label=implementation)
        floor = [3 * SHAPES[name].least_bytes(batch) / machine.copy_gb_s / 1e6 for name in names]
        panel.plot(names, floor, "k--", label="bytes at copy bandwidth")
        panel.set(yscale="log", ylabel="ms, forward + backward", title=f"batch {batch}")
    panels[0, 0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    panels[-1, 0].tick_params(axis="x", rotation=60)
    figure.suptitle(machine.name)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
