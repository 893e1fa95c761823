"""Figures as files: the same figure always gives the same bytes, and each file is whole or absent; their colours."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rootgen import errors
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
DRAWN = ("svg", "png", "pdf")  # what a figure can be written as

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
MAP = "viridis"  # the colour map of matrices and of what is ordered


@dataclass(frozen=True)
class Drawing:
    """A figure to look at in a notebook, or to save; `dpi` are a PNG's dots per inch.

    `notes` are what an SVG says where a mouse rests: (left, top, right, bottom) in inches from the upper left corner,
    and the words.
    """

    figure: Figure
    dpi: float = DPI
    notes: tuple[tuple[tuple[float, float, float, float], str], ...] = ()

    def svg(self) -> str:
        """The figure as the text of an SVG."""
        return self._content("svg").decode("utf-8")

    def png(self) -> bytes:
        """The figure as the bytes of a PNG."""
        return self._content("png")

    def save(self, out: str | PathLike[str] | IO[Any], format: str | None = None) -> None:
        """Write the figure to a path, or to an open file; as `format` (svg, png, pdf), else as the name's end says.

        An open file without such a name gets SVG, and one opened for text can have nothing else.
        """
        kind = kind_of(out, format)
        content = self._content(kind)
        if isinstance(out, (str, PathLike)):
            write_bytes(errors.path("out", out) or "", content)
            return
        try:
            out.write(content.decode("utf-8") if isinstance(out, io.TextIOBase) else content)
        except OSError as error:
            raise errors.RootgenError(f"cannot write: {error.strerror}", where=getattr(out, "name", "out")) from error

    def _content(self, kind: str) -> bytes:
        content = rendered(self.figure, kind, self.dpi)
        if kind != "svg" or not self.notes:
            return content
        before, end, after = content.rpartition(b"</svg>")
        areas = "\n".join(starmap(_note, self.notes))
        return before + f'<g id="notes" fill="none" pointer-events="all">\n{areas}\n</g>\n'.encode() + end + after

    def _repr_svg_(self) -> str:
        return self.svg()


def _note(box: tuple[float, float, float, float], words: str) -> str:
    """An area of an SVG, which has 72 units to the inch, that says `words` where a mouse rests."""
    from html import escape

    left, top, right, bottom = (72 * edge for edge in box)
    title = "\n".join(escape(printable(line), quote=False) for line in words.split("\n"))
    size = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
    return f"<rect {size}><title>{title}</title></rect>"


def kind_of(out: object, format: str | None) -> str:
    """What a figure that goes to `out`, a path or an open file, is written as: svg, png or pdf."""
    asked = errors.word("format", format, DRAWN)
    if isinstance(out, (str, PathLike)):
        path = Path(errors.path("out", out) or "")
        kind = asked or path.suffix[1:].lower()
        if kind not in DRAWN:
            raise errors.RootgenError(
                f"cannot draw '{path.suffix or path.name}'", where=path, hint="use .svg, .png or .pdf"
            )
        return kind
    if not callable(getattr(out, "write", None)):
        raise errors.wrong_type("out", out, "a path or an open file")
    named = Path(str(getattr(out, "name", ""))).suffix[1:].lower()
    kind = asked or (named if named in DRAWN else DRAWN[0])
    if isinstance(out, io.TextIOBase) and kind != "svg":
        raise TypeError(f"out is open for text, but a {kind} is bytes (open it with 'wb')")
    return kind


def new(width: float, height: float) -> Figure:
    """An empty figure, in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def lay_out(figure: Figure) -> None:
    """Settle where everything in `figure` is, for what depends on it; what the font lacks is told when it is saved."""
    _tame(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.draw_without_rendering()


def save(figure: Figure, folder: str | Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """`figure` as folder/name.FORMAT in every format; the files."""
    made = [inside(Path(folder), f"{name}.{kind}") for kind in formats]
    for path in made:
        write(figure, path)
    return made


def write(figure: Figure, path: str | Path, dpi: float = DPI) -> None:
    """`figure` as the file `path`, whose suffix says the format; `dpi` are a PNG's dots per inch."""
    write_bytes(path, rendered(figure, Path(path).suffix[1:].lower(), dpi), durable=False)


def rendered(figure: Figure, kind: str, dpi: float = DPI) -> bytes:
    """`figure` as the content of a file of one `kind`: svg, png or pdf."""
    from matplotlib import rc_context

    content = io.BytesIO()  # on a full disk matplotlib's own writers end in errors of every kind
    _tame(figure)
    with rc_context({"svg.hashsalt": "rootgen", "svg.fonttype": "none"}), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure.savefig(content, format=kind, dpi=dpi, metadata=_UNDATED[kind])
    said = dict.fromkeys(str(warning.message) for warning in told)
    missing = sum("Glyph" in text for text in said)
    if missing:
        log.warning("the font lacks %d of the characters in the names of a figure; boxes stand for them", missing)
    for text in said:
        if "Glyph" not in text:
            log.warning("%s", text)
    return content.getvalue()


def _tame(figure: Figure) -> None:
    """Have every word of `figure`, a name from a file often, show as it is: no formula, no control characters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        words = text.get_text()
        if not words.replace("\n", "").isprintable():
            text.set_text("\n".join(map(printable, words.split("\n"))))
        if "$" in words:
            text.set_parse_math(False)
