"""Options of the commands that give filter groups, and the plan that they ask for."""

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
