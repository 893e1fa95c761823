"""The picture of an advice: what each layer keeps against its groups, coloured by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootgen.deploy.advice import Advice
from rootgen.figures.save import MAP, new

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(advice: Advice, title: str) -> Figure:
    """A line per layer, dark near the input; dots are the groups chosen, and dashes what shuffled weights keep."""
    from matplotlib import colormaps

    figure = new(9, 5)
    axes = figure.subplots()
    colours = colormaps[MAP]
    last = max(len(advice.bearings) - 1, 1)
    for i, one in enumerate(advice.bearings):
        counts, colour = [kept.group for kept in one.kept], colours(0.92 * i / last)
        axes.plot(counts, [100 * kept.permuted for kept in one.kept], color=colour, label=one.layer, linewidth=1.4)
        axes.plot(counts, [100 * kept.control for kept in one.kept], color=colour, linestyle="--", linewidth=0.6)
        chosen = advice.groups.get(one.layer, counts[0])
        axes.plot([chosen], [100 * one.kept[counts.index(chosen)].permuted], "o", color=colour, markersize=6)
    counts = sorted({kept.group for one in advice.bearings for kept in one.kept})
    axes.plot(counts, [100 / count for count in counts], color="black", linestyle=":", label="1/groups")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    ticks = [share for share in (1, 2, 5, 10, 20, 50, 100) if share >= 60 / counts[-1]]
    axes.set_yticks(ticks, [f"{share}%" for share in ticks])
    axes.minorticks_off()
    axes.set_xlabel("groups")
    axes.set_ylabel("kept of the squared weights")
    axes.set_title(f"{title}\nlines: best orders found; dashes: the same weights shuffled; dots: chosen", fontsize=10)
    columns = 1 + len(advice.bearings) // 24
    figure.legend(loc="outside right upper", fontsize=7, ncols=columns, title="input to output", title_fontsize=7)
    return figure
