"""Blocks of a diagram that follow one another and are alike, drawn once.

A net is cut wherever a single node carries all that goes on. Pieces of several nodes are alike if they differ in
nothing but widths, so GoogLeNet's inceptions of one resolution are; sequences of layers (a depthwise and a pointwise
convolution, five times) if they differ in nothing. A fold ends where a head hangs beside the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rootgen.figures.node import Node, to_the_end

PERIOD, TIMES = 6, 3  # sequences: the most pieces of one, and how often it has to come

Piece = list[int]
"""Places of nodes."""


@dataclass(frozen=True)
class Repeat:
    """A block drawn once: the nodes first to last of the diagram stand for `times` alike ones."""

    first: int
    last: int
    times: int


def fold(nodes: list[Node]) -> tuple[list[Node], list[Repeat]]:
    """The nodes that are drawn, wired anew, and the blocks among them that stand for several."""
    main = to_the_end(nodes)
    pieces = _pieces(nodes, main)
    beside = {edge for i, node in enumerate(nodes) if i not in main for edge in node.edges}
    ends = [bool(beside.intersection(piece)) for piece in pieces]
    exact = _numbered(_sign(nodes, piece, widths=True) for piece in pieces)
    alike = _numbered(_sign(nodes, piece, widths=False) if len(piece) > 1 else None for piece in pieces)
    shown: dict[int, int] = {}  # old place of a node -> old place of the one that is drawn for it
    blocks: list[tuple[Piece, int]] = []
    at = 0
    while at < len(pieces):
        period, times = _run(at, alike, exact, ends)
        block = [i for piece in pieces[at : at + period] for i in piece]
        for k in range(times):
            copy = [i for piece in pieces[at + k * period : at + (k + 1) * period] for i in piece]
            for first, other in zip(block, copy, strict=True):
                shown[other] = first
                if other != first:
                    nodes[first].repeat_of(nodes[other])
        if times > 1:
            blocks.append((block, times))
        at += period * times
    return _kept(nodes, shown, blocks)


def _kept(
    nodes: Sequence[Node], shown: dict[int, int], blocks: Sequence[tuple[Piece, int]]
) -> tuple[list[Node], list[Repeat]]:
    place: dict[int, int] = {}
    kept: list[Node] = []
    for i, node in enumerate(nodes):
        if shown.get(i, i) == i:
            place[i] = len(kept)
            kept.append(node)
    for node in kept:
        node.edges = list(dict.fromkeys(place[shown.get(edge, edge)] for edge in node.edges))
    return kept, [Repeat(place[block[0]], place[block[-1]], times) for block, times in blocks]


def _run(at: int, alike: Sequence[int | None], exact: Sequence[int | None], ends: Sequence[bool]) -> tuple[int, int]:
    """How many pieces from `at` on make a block, and how often it comes: (1, 1) where nothing comes again."""
    if alike[at] is not None:
        times = 1
        while at + times < len(alike) and alike[at + times] == alike[at] and not ends[at + times - 1]:
            times += 1
        if times > 1:
            return 1, times
    best = (1, 1)
    for period in range(2, PERIOD + 1):
        block = exact[at : at + period]
        if len(block) < period or len(set(block)) < 2:  # equal layers in a row stay as they are
            continue
        times = 1
        while exact[at + times * period : at + (times + 1) * period] == block:
            times += 1
        stop = next((i for i in range(at, at + period * times) if ends[i]), len(ends))
        times = min(times, max(1, (stop + 1 - at) // period))
        if times >= TIMES and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _pieces(nodes: Sequence[Node], main: set[int]) -> list[Piece]:
    """The main nodes cut wherever a single one carries all that goes on."""
    last_use = list(range(len(nodes)))
    for j in main:
        for i in nodes[j].edges:
            last_use[i] = max(last_use[i], j)
    pieces: list[Piece] = []
    piece: Piece = []
    reach = 0
    for i in sorted(main):
        piece.append(i)
        if reach <= i:  # nothing above this node is used below it
            pieces.append(piece)
            piece = []
        reach = max(reach, last_use[i])
    return [*pieces, piece] if piece else pieces


def _numbered(signs: Iterable[object]) -> list[int | None]:
    """Equal signs as equal numbers, None as it is."""
    numbers: dict[object, int] = {}
    return [None if sign is None else numbers.setdefault(sign, len(numbers)) for sign in signs]


def _sign(nodes: Sequence[Node], piece: Piece, *, widths: bool) -> tuple[object, ...]:
    """What makes a piece like another: all that is drawn but names, and wiring outside the piece."""
    place = {i: k for k, i in enumerate(piece)}
    return tuple((*nodes[i].sign(widths), tuple(place.get(edge, -1) for edge in nodes[i].edges)) for i in piece)
