"""Times of whole nets as Markdown: a page of their own, and README's table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import whole
from machine import cpu_field, describe, instruction_set
from report import lookup, markdown_table

from rootgen.files import write_text

BEGIN, END = "<!-- written by benchmarks/cpu/run.py -->", "<!-- up to here -->"
PACKAGES = ("torch", "onnxruntime", "openvino", "opencv-python-headless", "numpy")
INTRODUCTION = """\
# Whole nets on the CPU

Written by `benchmarks/cpu/run.py --tables folded training`; {about}.
Medians, and the best in brackets; the engines take turns, each in a process of its own, and all compute in float32.
{machine}
"""
FORWARD = """
## Forward, batch {batch}, milliseconds

From an array of images to the array of `prob`; nets are as `rootgen fold --early-strides` makes them. The limits: the
net's multiply-adds (those on padding, up to 16% of a layer's, are among them, though some engines leave them out); its
blobs and weights, moved once.
"""
TRAINING = """
## Training, images per second

Iterations of `rootgen train`: data from an LMDB, forward, backward, update (SGD with momentum). The limit is that of
the multiply-adds of all three products.
"""
README = """\
Whole nets, folded, beside the runtimes that they can be exported to: forward, batch 1, in ms; then images/s in training
(NiN: batch {nin}, others: {other}). {threads} threads, {cores}-core {name} ({instructions}), {date}, float32, medians
([all figures, batch 16](benchmarks/cpu/{instructions}/whole.md)). The limit is what the multiply-adds alone would take
at the rate that the machine's registers allow:
"""


def page(rows: list[dict]) -> str:
    """Forward and training, each time as median (best), beside what the machine allows."""
    about = describe(*(name for name in PACKAGES if _is_installed(name)))
    parts = [INTRODUCTION.format(about=about, machine=machine(rows))]
    for batch in sorted({row["batch"] for row in rows if "folded" in row}):
        chosen = [row for row in rows if "folded" in row and row["batch"] == batch]
        parts += [FORWARD.format(batch=batch), _table(chosen, [*whole.RUNTIMES, *whole.LIMITS], _times)]
    chosen = [row for row in rows if "training" in row]
    if chosen:
        parts += [TRAINING, _table(chosen, [*whole.TRAINERS, *whole.LIMITS], _speeds)]
    return "\n".join(parts)


def machine(rows: list[dict]) -> str:
    """What the machine can do at most, in words; "" where it was not measured."""
    told = []
    for threads in sorted({row["threads"] for row in rows if row["engine"] == "machine"}):
        at = {"engine": "machine", "threads": threads}
        rate, copied = lookup(rows, **{"pass": "GMAC/s"}, **at), lookup(rows, **{"pass": "GB/s"}, **at)
        count = f"{threads} thread{'s' * (threads > 1)}"
        told.append(f"{count}: {rate:.0f}e9 multiply-adds and {copied:.0f}e9 bytes copied per second")
    return f"At most (peak.cpp), {'; '.join(told)}." if told else ""


def write_readme(path: Path, rows: list[dict]) -> None:
    """Put the table of whole nets in its place in README."""
    text = path.read_text(encoding="utf-8")
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    assert begins and ends, f"{path} has no place for the table"
    write_text(path, f"{before}{BEGIN}\n{readme_table(rows)}\n{END}{after}")


def readme_table(rows: list[dict]) -> str:
    """A line per net; in each cell the time with the fewest threads, then with more."""
    threads = sorted({row["threads"] for row in rows})
    runtimes = [engine for engine in whole.RUNTIMES if any(row["engine"] == engine for row in rows)]
    body = []
    for name in dict.fromkeys(row["folded"] for row in rows if "folded" in row):
        forward = {"folded": name, "batch": 1}
        line = [_cell(rows, threads, _time, engine=engine, **forward) for engine in [*runtimes, *whole.LIMITS][:-1]]
        line += [_cell(rows, threads, _speed, engine=engine, training=name) for engine in whole.TRAINERS]
        body.append([name, *line])
    columns = [whole.RUNTIMES[engine] for engine in runtimes]
    trained = [f"training, {whole.RUNTIMES[engine]}" for engine in whole.TRAINERS]
    said = README.format(
        nin=whole.TRAINED["NiN Orig."],
        other=whole.TRAINED["ResNet-50 Orig."],
        threads=" and ".join(map(str, threads)),
        cores=len(cpu_field("model name")),
        name=(cpu_field("model name") or ["machine"])[0],
        instructions=instruction_set(),
        date=date.today(),
    )
    return f"{said}\n{markdown_table(['net', *columns, 'limit', *trained], body)}"


def _cell(rows: list[dict], threads: list[int], told: Callable[[dict], str], **at: object) -> str:
    found = (_row(rows, threads=count, **at) for count in threads)
    return ", ".join(told(row) for row in found if row) or "-"


def _table(rows: list[dict], engines: list[str], told: Callable[[dict], str]) -> str:
    """A line per net and number of threads."""
    columns = whole.RUNTIMES | whole.LIMITS
    engines = [engine for engine in engines if any(row["engine"] == engine for row in rows)]
    body = []
    for name in whole.NETS:
        for threads in sorted({row["threads"] for row in rows if whole.name_of(row) == name}):
            own = [row for row in rows if whole.name_of(row) == name and row["threads"] == threads]
            cells = [_row(own, engine=engine) for engine in engines]
            net = f"{name}, batch {own[0]['batch']}" if "training" in own[0] else name
            body.append([net, str(threads), *(told(row) if row else "" for row in cells)])
    return markdown_table(["net", "threads", *(columns[engine] for engine in engines)], body)


def _row(rows: list[dict], **wanted: object) -> dict | None:
    return next((row for row in rows if all(row.get(field) == value for field, value in wanted.items())), None)


def _time(row: dict) -> str:
    return _milliseconds(row["ms"])


def _times(row: dict) -> str:
    return _time(row) + (f" ({_milliseconds(row['best'])})" if "best" in row else "")


def _milliseconds(time: float) -> str:
    return f"{time:.{2 if time < 10 else 1}f}"  # three figures, as engines differ in the third


def _speed(row: dict) -> str:
    return f"{1e3 * row['batch'] / row['ms']:.1f}"


def _speeds(row: dict) -> str:
    return _speed(row) + (f" ({1e3 * row['batch'] / row['best']:.1f})" if "best" in row else "")


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
