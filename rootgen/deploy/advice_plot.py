"""The picture of an advice: what each layer keeps against its groups, and the same by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootgen.deploy.advice import Advice
from rootgen.figures.save import MAP, new

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = 60  # of layers, at most, that stand under the picture
LONGEST = 28  # characters of such a name


def picture(advice: Advice, title: str, of: str = "the squared weights") -> Figure:
    """Left a line per layer, dark near the input, over its groups; right a line per number of groups, over depth.

    `of` is what shares are kept of. Dots are the groups chosen; dashes are what the same weights keep when shuffled.
    """
    from matplotlib import colormaps

    layers = len(advice.bearings)
    figure = new(max(11, 7 + 0.2 * min(layers, NAMES)), 6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, max(1.0, layers / 14)))
    colours = [colormaps[MAP](0.92 * i / max(layers - 1, 1)) for i in range(layers)]
    counts = sorted({kept.group for one in advice.bearings for kept in one.kept})
    _by_groups(left, advice, colours, counts)
    _by_depth(right, advice, colours, counts)
    for axes in (left, right):
        axes.set_yscale("log")
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.minorticks_off()
    ticks = [share for share in (1, 2, 5, 10, 20, 50, 100) if share >= 60 / counts[-1]]
    left.set_yticks(ticks, [f"{share}%" for share in ticks])
    left.set_ylabel(f"kept of {of}")
    figure.suptitle(title, fontsize=11)
    return figure


def _by_groups(axes: Any, advice: Advice, colours: list[Any], counts: list[int]) -> None:
    for one, colour in zip(advice.bearings, colours, strict=True):
        own = [kept.group for kept in one.kept]
        axes.plot(own, [100 * kept.permuted for kept in one.kept], color=colour, linewidth=1.2)
        chosen = advice.groups.get(one.layer, own[0])
        axes.plot([chosen], [100 * one.kept[own.index(chosen)].permuted], "o", color=colour, markersize=5)
    axes.plot(counts, [100 / count for count in counts], color="black", linestyle=":", label="1/groups")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("groups")
    axes.set_title("a line per layer, dark near the input; dots: chosen", fontsize=9)
    axes.legend(fontsize=8, loc="lower left")


def _by_depth(axes: Any, advice: Advice, colours: list[Any], counts: list[int]) -> None:
    for number, count in enumerate(counts):
        places, kept, control = [], [], []
        for place, one in enumerate(advice.bearings):
            for own in (own for own in one.kept if own.group == count):
                places.append(place)
                kept.append(100 * own.permuted)
                control.append(100 * own.control)
        colour = f"C{number}"
        axes.plot(places, kept, color=colour, linewidth=1.2, marker=".", markersize=4, label=str(count))
        axes.plot(places, control, color=colour, linestyle="--", linewidth=0.8)
    for place, one in enumerate(advice.bearings):
        group = advice.groups.get(one.layer, one.kept[0].group)
        share = next(100 * kept.permuted for kept in one.kept if kept.group == group)
        axes.plot([place], [share], "o", color=f"C{counts.index(group)}", markersize=6)
    step = 1 + (len(advice.bearings) - 1) // NAMES
    shown = range(0, len(advice.bearings), step)
    names = [advice.bearings[place].layer for place in shown]
    axes.set_xticks(list(shown), [_short(name) for name in names], rotation=90, fontsize=7)
    for label, place in zip(axes.get_xticklabels(), shown, strict=True):
        label.set_color(colours[place])
    axes.set_title("by depth, a line per number of groups; dashes: the same weights shuffled", fontsize=9)
    axes.figure.legend(
        *axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, title="groups", title_fontsize=8
    )


def _short(name: str) -> str:
    """A name cut in the middle where it is long."""
    half = LONGEST // 2 - 1
    return name if len(name) <= LONGEST else f"{name[:half]}..{name[-half:]}"
