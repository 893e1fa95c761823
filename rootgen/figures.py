"""Figures as files: the same figure always gives the same bytes, and each file is whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")
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
    from matplotlib import rc_context

    made = []
    for kind in formats:
        path = Path(folder) / f"{name}.{kind}"
        with replacing(path) as beside, rc_context({"svg.hashsalt": "rootgen", "svg.fonttype": "none"}):
            figure.savefig(beside, dpi=150, metadata=_UNDATED.get(kind))
        made.append(path)
    return made
