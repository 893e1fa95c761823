"""Options that more than one command takes: which filter groups, and whole numbers above zero."""

from __future__ import annotations

import argparse

from rootgen.grouping import RULES, Plan, parse_by_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--root N`, `--column N`, `--tree N` (one of them) and `--group LAYER=N` (as often as wanted)."""
    rules = parser.add_argument_group("filter groups").add_mutually_exclusive_group()
    rules.add_argument("--root", type=int, metavar="N", help="N groups in the first stage, half as many in each next")
    rules.add_argument("--column", type=int, metavar="N", help="N groups in every stage")
    rules.add_argument("--tree", type=int, metavar="N", help="N groups in the first stage, twice as many in each next")
    parser.add_argument(
        "--group", action="append", default=[], metavar="LAYER=N", help="groups of one layer, over any rule; repeatable"
    )


def plan(args: argparse.Namespace) -> Plan:
    """The plan that the parsed options ask for; the original network where they ask for nothing."""
    by_hand = parse_by_hand(args.group)
    for kind in RULES:
        n = getattr(args, kind)
        if n is not None:
            return Plan(kind, n, by_hand)
    return Plan(by_hand=by_hand)


def positive(word: str) -> int:
    """A whole number from 1, for argparse's `type`."""
    number = int(word) if word.isascii() and word.isdigit() else 0
    if not 0 < number < 2**31:
        raise argparse.ArgumentTypeError(f"{word}: not a whole number from 1 to {2**31 - 1}")
    return number


def positive_float(word: str) -> float:
    """A finite number above zero, for argparse's `type`."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{word}: not a number above 0")
    return number
