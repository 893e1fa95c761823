"""Pictures of nets: from a net that was read, or from the path of one."""

from __future__ import annotations

from os import PathLike
from typing import IO, Any

from rootgen import errors
from rootgen.figures.diagram import diagram
from rootgen.figures.draw import picture
from rootgen.figures.save import DRAWN, Drawing, kind_of
from rootgen.net.load import LoadedNet
from rootgen.net.open import check_keywords, net_of


def draw(
    net: LoadedNet | str | PathLike[str],
    out: str | PathLike[str] | IO[Any] | None = None,
    *,
    format: str | None = None,
    all_blocks: bool = False,
    **reading: Any,
) -> Drawing:
    """A picture of `net`: filters as blocks, one per group; written to `out`, a path or an open file, if there is one.

    `format` is svg, png or pdf; without it the end of `out`'s name says it. Blocks that follow one another and differ
    in nothing but widths are drawn once, or each with `all_blocks`. A path is read with the keywords of `rootgen.read`.
    """
    check_keywords(draw, reading)
    every = errors.flag("all_blocks", all_blocks)
    kind = None if out is None else kind_of(out, format)
    errors.word("format", format, DRAWN)
    loaded = net_of("net", net, **reading)
    made = picture(diagram(loaded, fold_repeats=not every), loaded.cost())
    if out is not None:
        made.save(out, kind)
    return made
