"""Figures as files: the same figure always gives the same bytes, and each file is whole or absent."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rootgen.errors import printable
from rootgen.files import inside, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("rootgen")

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
    made = [inside(Path(folder), f"{name}.{kind}") for kind in formats]
    for path in made:
        write(figure, path)
    return made


def write(figure: Figure, path: str | Path, dpi: float = DPI) -> None:
    """`figure` as the file `path`, whose suffix says the format; `dpi` are a PNG's dots per inch."""
    from matplotlib import rc_context

    kind = Path(path).suffix[1:].lower()
    content = io.BytesIO()  # on a full disk matplotlib's own writers end in errors of every kind
    _tame(figure)
    with rc_context({"svg.hashsalt": "rootgen", "svg.fonttype": "none"}), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure.savefig(content, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    missing = sum("Glyph" in str(warning.message) for warning in told)
    if missing:
        log.warning("%s: the font lacks %d of the characters in its names; boxes stand for them", path, missing)
    for text in dict.fromkeys(str(warning.message) for warning in told):
        if "Glyph" not in text:
            log.warning("%s: %s", path, text)
    write_bytes(path, content.getvalue())


def _tame(figure: Figure) -> None:
    """Have every word of `figure`, a name from a file often, show as it is: no formula, no control characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        words = text.get_text()
        if not words.replace("\n", "").isprintable():
            text.set_text("\n".join(map(printable, words.split("\n"))))
        if "$" in words:
            text.set_parse_math(False)
