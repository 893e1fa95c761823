"""CPU times as Markdown tables, with the aims they are held to, and as a plot."""

from __future__ import annotations

from math import prod
from pathlib import Path

from machine import describe

from rootgen.generator import architectures as tables

OTHERS = ("opencv", "torch", "torch channels_last")
LIBRARIES = ("onednn", "onednn blocked", "libxsmm")  # by themselves, outside of any net


def lookup(rows: list[dict], **wanted: object) -> float | None:
    """Milliseconds of the one row with these fields, or None."""
    for row in rows:
        if all(row.get(field) == value for field, value in wanted.items()):
            return row["ms"]
    return None


def cell(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.2f}"


def markdown_table(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def layer_table(rows: list[dict], layers: dict, threads: int, name: str) -> str:
    engines = [e for e in ("vanilla", "patched", *OTHERS, *LIBRARIES, "copy") if any(r["engine"] == e for r in rows)]
    body = []
    for layer, (_, groups) in layers.items():
        for group in groups:
            times = [
                lookup(rows, layer=layer, group=group, threads=threads, engine=e, **{"pass": name}) for e in engines
            ]
            body.append([f"{layer}, group {group}", *map(cell, times)])
    return markdown_table([f"{name}, {threads} threads, ms", *engines], body)


def aims_table(rows: list[dict], layers: dict, threads: int) -> str:
    """The patched layer against the best of the others, and against its ungrouped self."""
    body = []
    for layer, (_, (_, group)) in layers.items():
        at = {"layer": layer, "threads": threads, "pass": "forward"}
        grouped = lookup(rows, engine="patched", group=group, **at)
        whole = lookup(rows, engine="patched", group=1, **at)
        copy = lookup(rows, engine="copy", group=group, **at)
        others = [t for e in OTHERS if (t := lookup(rows, engine=e, group=group, **at)) is not None]
        if grouped is None or whole is None or copy is None or not others:
            continue
        saved = grouped / whole * group
        met = grouped <= min(others) and (saved <= 1.15 or grouped <= 2 * copy)
        figures = [grouped / min(others), saved, grouped / copy]
        body.append([f"{layer}, group {group}", *(f"{f:.2f}" for f in figures), "yes" if met else "no"])
    header = [f"forward, {threads} threads", "/ best other", "/ ungrouped x group", "/ copy", "aims met"]
    return markdown_table(header, body)


def net_table(rows: list[dict], threads: int, batch: int) -> str:
    body = []
    for arch in dict.fromkeys(row["arch"] for row in rows if "arch" in row):
        paper = tables.reported(arch)
        for model, printed in paper.items():
            line = [f"{arch} {model}"]
            for engine in ("vanilla", "patched"):
                at = {"arch": arch, "batch": batch, "threads": threads, "engine": engine}
                time, whole = lookup(rows, row=model, **at), lookup(rows, row="Orig.", **at)
                line += [cell(time), f"{100 * time / whole:.0f}" if time and whole else ""]
            original = float(paper["Orig."]["cpu_ms"])
            line += [printed["cpu_ms"], f"{100 * float(printed['cpu_ms']) / original:.0f}"]
            line.append(f"{100 * float(printed['flops']) / float(paper['Orig.']['flops']):.0f}")
            body.append(line)
    header = [f"batch {batch}, {threads} threads", "vanilla, ms", "% of Orig.", "patched, ms", "% of Orig."]
    return markdown_table([*header, "paper, ms", "% of Orig.", "FLOPs, %"], body)


def markdown(rows: list[dict], layers: dict) -> str:
    """The whole report."""
    threads = sorted({row["threads"] for row in rows})
    layer_batch = next(row["batch"] for row in rows if "layer" in row)
    versions = describe("torch", "opencv-python-headless", "numpy")
    parts = [
        "# Grouped convolution on the CPU\n",
        f"Medians in milliseconds, written by `benchmarks/cpu/run.py`; {versions}. Layers at batch {layer_batch}; "
        "backward is to data and filters together; copy is the time to copy the input and the output once; "
        "onednn and libxsmm go from blob to blob, onednn blocked leaves the blobs in oneDNN's own layout.\n",
        "Aims: no slower than the best of OpenCV and PyTorch, and either the time falls by the groups (/ ungrouped "
        "x group at most 1.15) or it is at most twice a copy.\n",
    ]
    for count in threads:
        parts += [aims_table(rows, layers, count)]
        parts += [layer_table(rows, layers, count, name) for name in ("forward", "backward")]
        for batch in sorted({row["batch"] for row in rows if "arch" in row}):
            parts.append(net_table(rows, count, batch))
    return "\n".join(parts)


def plot(rows: list[dict], layers: dict, path: Path) -> None:
    """Multiply-adds per second of each grouped layer's forward pass, per engine, at the most threads."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    threads = max(row["threads"] for row in rows)
    engines = [e for e in ("vanilla", "patched", *OTHERS) if any(r["engine"] == e for r in rows)]
    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    for i, engine in enumerate(engines):
        heights = []
        for layer, ((channels, size, outputs, kernel), (_, group)) in layers.items():
            row = next(r for r in rows if r.get("layer") == layer)
            macs = prod((row["batch"], channels, outputs, kernel, kernel, size, size)) / group
            at = {"layer": layer, "group": group, "threads": threads, "engine": engine, "pass": "forward"}
            time = lookup(rows, **at)
            heights.append(macs / time / 1e6 if time else 0)
        axes.bar([k + (i - len(engines) / 2) * 0.16 for k in range(len(layers))], heights, width=0.15, label=engine)
    names = [f"{layer}\ngroup {groups[1]}" for layer, (_, groups) in layers.items()]
    axes.set_xticks(range(len(layers)), names, fontsize=7)
    axes.set_ylabel("forward, 1e9 multiply-adds per second")
    axes.set_title(f"Grouped convolution on the CPU, {threads} threads")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
