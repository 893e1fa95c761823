"""Figures as files: the same figure always gives the same bytes, and each file is whole or absent."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")
DPI = 150
_UNDATED = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


def new(width: float, height: float) -> Figure:
    """An empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: str | Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """`figure` as folder/name.FORMAT in every format; the files."""
    made = [Path(folder) / f"{name}.{kind}" for kind in formats]
    for path in made:
        write(figure, path)
    return made


def write(figure: Figure, path: str | Path, dpi: float = DPI) -> None:
    """`figure` as the file `path`, whose suffix says the format; `dpi` are a PNG's dots per inch."""
    from matplotlib import rc_context

    kind = Path(path).suffix[1:].lower()
    content = io.BytesIO()  # on a full disk matplotlib's own writers end in errors of every kind
    with rc_context({"svg.hashsalt": "rootgen", "svg.fonttype": "none"}):
        figure.savefig(content, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    write_bytes(path, content.getvalue(), durable=False)
