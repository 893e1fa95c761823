"""Numbers as arguments, for argparse's `type`: what is none is wrong usage."""

from __future__ import annotations

import argparse


def positive(word: str) -> int:
    """A whole number from 1."""
    return _whole(word, 1)


def count(word: str) -> int:
    """A whole number from 0."""
    return _whole(word, 0)


def positive_float(word: str) -> float:
    """A finite number above zero."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{word}' is not a number above 0")
    return number


def _whole(word: str, least: int) -> int:
    number = int(word) if word.isascii() and word.isdigit() and len(word) < 12 else -1
    if not least <= number < 2**31:  # what Caffe's int32 fields hold
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from {least} to {2**31 - 1}")
    return number
