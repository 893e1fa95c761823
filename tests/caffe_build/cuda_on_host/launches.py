#!/usr/bin/env python3
"""Rewrites kernel launches, `kernel<T><<<grid, block, shared>>>(arguments);`, to calls that a host compiler takes.

    launches.py IN.cu OUT.cpp          (and headers, whose macros launch kernels)

Everything else stays as it is, line for line, so that messages of compiler and sanitizer name the right lines.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?(?P<type>[\w ]+?)\s*(?P<name>\w+)\[\];")
KERNEL = re.compile(r"(?P<name>[A-Za-z_][\w#]*)(?P<types>\s*<[^<>;{}]*>)?(?P<gap>(?:\s|//[^\n]*\n)*)<<<")


def matching(text: str, start: int, pairs: str = "()") -> int:
    """The index just after the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == pairs[0]) - (text[i] == pairs[1])
        if depth == 0:
            return i + 1
    raise SystemExit(f"launches.py: no closing {pairs[1]!r} after: {text[start : start + 60]!r}")


def top_level_commas(text: str) -> list[str]:
    """The comma-separated parts of `text`, brackets kept together."""
    parts, depth, last = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[last:i])
            last = i + 1
    return [*parts, text[last:]]


def rewrite(text: str) -> str:
    text = SHARED.sub(r"\g<type>* const \g<name> = static_cast<\g<type>*>(cuda_on_host::shared_memory());", text)
    out, at = [], 0
    while match := KERNEL.search(text, at):
        close = text.index(">>>", match.end())
        grid, block, *more = top_level_commas(text[match.end() : close])  # a stream means nothing here
        shared = more[0].strip() if more else "0"
        opening = text.index("(", close)
        end = matching(text, opening)
        kernel = match["name"] + (match["types"] or "")
        newline = "\\\n" if "\\\n" in text[match.start() : opening] else "\n"  # a launch in a macro
        lines = newline * text.count("\n", match.start(), opening)
        out += [
            text[at : match.start()],
            f'cuda_on_host::launch("{match["name"]}", ({grid.strip()}), ({block.strip()}), ({shared}), [&] {{ ',
            lines,
            kernel.replace("\n", " "),
            text[opening:end],
            "; })",
        ]
        at = end
    return "".join(out) + text[at:]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#line 1 "{source}"\n' + rewrite(source.read_text()))
